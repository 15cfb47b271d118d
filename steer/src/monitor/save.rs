//! What is heard in files, by a thread per file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use steer_anycast::monitor::Recorder;
use steer_anycast::mrt::{self, File, Limits};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::print::json_line;
use crate::cli::MonitorArgs;
use crate::exit::Failure;

/// Messages or lines that may wait for a slow disk.
const WAITING: usize = 4_096;

/// Octets written in one go.
const BATCH: usize = 256 * 1024;

/// How long a screen or a disk may take for the rest.
pub(super) const END_LIMIT: Duration = Duration::from_secs(2);

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Mrt,
    Json,
}

impl Format {
    /// By the end of its name.
    pub(super) fn of(file: &Path) -> Self {
        match file.extension().and_then(OsStr::to_str) {
            Some("mrt") => Self::Mrt,
            Some(_) | None => Self::Json,
        }
    }
}

/// All files.
pub(super) struct Saver {
    recorder: Option<Recorder>,
    lines: Vec<mpsc::Sender<String>>,
    /// Lines that a file had no room for.
    dropped: u64,
    writers: Vec<Ending>,
    /// Of everything else that was not saved.
    unsaved: Vec<Arc<AtomicU64>>,
}

/// What went wrong first with a file, when it is written to its end.
type Ending = oneshot::Receiver<Option<Failure>>;

impl Saver {
    pub(super) fn open(args: &MonitorArgs) -> Result<Self, Failure> {
        let limits = Limits {
            octets: args.save_size.saturating_mul(1024 * 1024),
            files: args.save_files,
        };
        let mut saver = Self {
            recorder: None,
            lines: Vec::new(),
            dropped: 0,
            writers: Vec::new(),
            unsaved: Vec::new(),
        };
        for path in &args.save {
            if Format::of(path) == Format::Mrt && saver.recorder.is_some() {
                return Err(Failure::Usage("give one file of MRT at most".to_owned()));
            }
            let doing = format!("cannot write {}", path.display());
            let file = File::open(path, limits).map_err(|error| Failure::runtime(&doing, &error))?;
            saver.add(path, file);
        }
        Ok(saver)
    }

    fn add(&mut self, path: &Path, file: File) {
        let unwritten = Arc::new(AtomicU64::new(0));
        self.unsaved.push(Arc::clone(&unwritten));
        let writer = Writer {
            path: path.to_owned(),
            file,
            unwritten,
            failed: None,
        };
        let ending = match Format::of(path) {
            Format::Mrt => {
                let (recorder, tapped) = Recorder::new(WAITING);
                self.unsaved.push(recorder.lost());
                self.recorder = Some(recorder);
                writer.spawn(tapped, |tapped| mrt::encode(&tapped))
            }
            Format::Json => {
                let (sender, lines) = mpsc::channel(WAITING);
                self.lines.push(sender);
                writer.spawn(lines, Some)
            }
        };
        self.writers.push(ending);
    }

    /// For the sessions, where a file of MRT is written.
    pub(super) fn recorder(&self) -> Option<Recorder> {
        self.recorder.clone()
    }

    pub(super) fn say(&mut self, object: &impl Serialize) {
        if self.lines.is_empty() {
            return;
        }
        let line = json_line(object);
        for sender in &self.lines {
            if sender.try_send(line.clone()).is_err() {
                self.dropped += 1;
            }
        }
    }

    /// Waits for the rest, once the sessions are over; tells how much was not saved, and what went wrong first.
    pub(super) async fn end(self) -> (u64, Option<Failure>) {
        drop((self.recorder, self.lines));
        let mut trouble = None;
        for writer in self.writers {
            let late = || Failure::Runtime("a file was not written to its end in time".to_owned());
            let ended = tokio::time::timeout(END_LIMIT, writer).await;
            let failed = ended.ok().and_then(Result::ok).unwrap_or_else(|| Some(late()));
            trouble = trouble.or(failed);
        }
        let unsaved = self.unsaved.iter().map(|count| count.load(Ordering::Relaxed));
        (self.dropped + unsaved.sum::<u64>(), trouble)
    }
}

/// The thread of one file.
struct Writer {
    path: PathBuf,
    file: File,
    unwritten: Arc<AtomicU64>,
    /// The last trouble; the same again is not logged.
    failed: Option<String>,
}

impl Writer {
    /// Writes what comes until the last sender is gone.
    fn spawn<T, B>(self, items: mpsc::Receiver<T>, encode: impl Fn(T) -> Option<B> + Send + 'static) -> Ending
    where
        T: Send + 'static,
        B: AsRef<[u8]>,
    {
        let (end, ending) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = end.send(self.write_all(items, encode)); // nobody waits where the loop has ended already
        });
        ending
    }

    fn write_all<T, B: AsRef<[u8]>>(
        mut self,
        mut items: mpsc::Receiver<T>,
        encode: impl Fn(T) -> Option<B>,
    ) -> Option<Failure> {
        let mut first = None;
        while let Some(item) = items.blocking_recv() {
            let (mut batch, mut count, mut next) = (Vec::new(), 0, Some(item));
            while let Some(item) = next {
                if let Some(octets) = encode(item) {
                    batch.extend_from_slice(octets.as_ref());
                    count += 1;
                }
                next = (batch.len() < BATCH).then(|| items.try_recv().ok()).flatten();
            }
            if let Err(error) = self.file.write(&batch) {
                self.unwritten.fetch_add(count, Ordering::Relaxed);
                self.note(&error);
                let doing = format!("{} is not whole", self.path.display());
                first = first.or(Some(Failure::runtime(&doing, &error)));
            }
        }
        first
    }

    fn note(&mut self, error: &std::io::Error) {
        let text = error.to_string();
        if self.failed.as_ref() != Some(&text) {
            warn!(file = %self.path.display(), %error, "cannot save; what comes meanwhile is lost and counted");
        }
        self.failed = Some(text);
    }
}
