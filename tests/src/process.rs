//! The binary under test as a process.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here should take, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `STEER_BIN`, or the binary beside the test's own folder.
///
/// # Panics
/// When there is none: the message says how to build it.
#[must_use]
pub fn steer_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STEER_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let binary = test
        .ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/test")
        .join("steer");
    assert!(
        binary.exists(),
        "{} is missing; run `cargo build --package steer` or `cargo xtask test`",
        binary.display()
    );
    binary
}

/// A running steer. Killed by pid when dropped.
#[derive(Debug)]
pub struct Steer {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a process ended and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Steer {
    /// Starts `steer ARGS` with its output in files in `folder`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        let stdout = folder.join("stdout");
        let stderr = folder.join("stderr");
        let open = |path: &Path| File::create(path).expect("a file in the test's folder");
        let child = Command::new(steer_binary())
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .spawn()
            .expect("steer starts");
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Runs `steer ARGS` to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn finish(folder: &Path, args: &[&str]) -> Finished {
        Self::start(folder, args).wait()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.stderr)
    }

    /// Its standard output so far.
    #[must_use]
    pub fn printed(&self) -> String {
        read(&self.stdout)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).expect("the process is there");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return Finished {
                    status,
                    stdout: read(&self.stdout),
                    stderr: read(&self.stderr),
                };
            }
            assert!(
                Instant::now() < deadline,
                "steer did not end; its log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, then waits.
    #[must_use]
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Polls until `ready` says so.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`], or when steer ends; shows its log.
    pub fn until<T>(&mut self, what: &str, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            assert!(
                self.is_running(),
                "steer ended while waiting for {what}; its log:\n{}",
                self.log()
            );
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }
}

impl Drop for Steer {
    fn drop(&mut self) {
        if self.is_running() {
            // Both can only fail when the process has just ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
