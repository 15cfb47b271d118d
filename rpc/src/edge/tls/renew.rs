//! Files that are read again when they change.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What changes when somebody writes or replaces a file; `None` where there is none.
pub(super) type Mark = Option<(SystemTime, u64)>;

/// When to read again. Sans-IO.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Of what was read last, good or not.
    read: Vec<Mark>,
    /// Of the last look.
    last: Vec<Mark>,
}

impl Renewal {
    pub(super) fn new(marks: Vec<Mark>) -> Self {
        Self {
            read: marks.clone(),
            last: marks,
        }
    }

    /// Whether to read: something has changed, and nothing since the last look. A certificate and its key are two files, and
    /// half of a pair is no news. What cannot be used is read once, and so told once.
    pub(super) fn on_look(&mut self, marks: Vec<Mark>) -> bool {
        let is_still = marks == self.last;
        self.last = marks;
        let is_due = is_still && self.last != self.read;
        if is_due {
            self.read.clone_from(&self.last);
        }
        is_due
    }
}

type Read<T> = Box<dyn Fn() -> io::Result<T> + Send + Sync>;

/// The newest that was good.
pub(in crate::edge) struct Current<T> {
    files: Vec<PathBuf>,
    read: Read<T>,
    value: ArcSwap<Version<T>>,
}

/// What is in use.
pub(in crate::edge) struct Version<T> {
    pub(in crate::edge) number: u64,
    pub(in crate::edge) value: Arc<T>,
}

impl<T> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Current<T> {
    /// Reads for the first time, and follows the files as long as it lives.
    pub(super) fn read(files: Vec<PathBuf>, read: Read<T>) -> io::Result<Arc<Self>> {
        let renewal = Renewal::new(marks(&files)); // before the files are read, so that no change is missed
        let value = Arc::new(read()?);
        let current = Arc::new(Self {
            files,
            read,
            value: ArcSwap::from_pointee(Version { number: 0, value }),
        });
        tokio::spawn(follow(Arc::downgrade(&current), renewal));
        Ok(current)
    }

    pub(in crate::edge) fn get(&self) -> Arc<Version<T>> {
        self.value.load_full()
    }

    fn renew(&self) {
        match (self.read)() {
            Ok(value) => {
                let number = self.value.load().number + 1;
                self.value.store(Arc::new(Version {
                    number,
                    value: Arc::new(value),
                }));
                metrics::counter!("steer_rpc_tls_reloads_total", "result" => "taken").increment(1);
                tracing::info!(files = ?self.files, "new certificates or roots are in use");
            }
            Err(error) => {
                metrics::counter!("steer_rpc_tls_reloads_total", "result" => "refused").increment(1);
                tracing::warn!(%error, "certificates and roots stay as they were");
            }
        }
    }
}

async fn follow<T: Send + Sync + 'static>(current: Weak<Current<T>>, mut renewal: Renewal) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(current) = current.upgrade() else {
            return;
        };
        if renewal.on_look(marks(&current.files)) {
            current.renew();
        }
    }
}

fn marks(files: &[PathBuf]) -> Vec<Mark> {
    let mark = |file: &PathBuf| {
        let meta = fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files.iter().map(mark).collect()
}
