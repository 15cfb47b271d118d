//! A process inside a node: started, logged, never left behind.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::NetError;
use super::container::Inner;

/// Which Debian package has a program, for the message when it is missing.
const PACKAGES: [(&str, &str); 24] = [
    ("bgpd", "openbgpd"),
    ("bird", "bird2"),
    ("birdc", "bird2"),
    ("bfdd", "frr"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("dnsmasq", "dnsmasq-base"),
    ("exabgp", "exabgp"),
    ("gdnsd", "gdnsd"),
    ("gobgp", "gobgpd"),
    ("gobgpd", "gobgpd"),
    ("ip", "iproute2"),
    ("named", "bind9"),
    ("nft", "nftables"),
    ("pdns_server", "pdns-server"),
    ("pg_createcluster", "postgresql"),
    ("setpriv", "util-linux"),
    ("sh", "dash"),
    ("ss", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("unbound", "unbound"),
    ("unbound-control", "unbound"),
    ("vtysh", "frr"),
    ("zebra", "frr"),
];

/// A running process of a node. Dropping it kills it, by its pid alone.
#[derive(Debug)]
pub struct Proc {
    name: String,
    /// The process itself; in a container, the client that holds its output and ends with it.
    child: Child,
    /// The process in a container.
    inner: Option<Inner>,
    logs: Logs,
}

impl Proc {
    pub(super) fn new(name: String, child: Child, logs: Logs) -> Self {
        Self {
            name,
            child,
            inner: None,
            logs,
        }
    }

    /// Process id, as the host counts.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner
            .as_ref()
            .map_or_else(|| self.child.id(), |inner| inner.pid.unsigned_abs())
    }

    pub(super) fn set_inner(&mut self, inner: Option<Inner>) {
        self.inner = inner;
    }

    /// Node and label, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its standard output goes.
    #[must_use]
    pub fn stdout(&self) -> &Path {
        &self.logs.out
    }

    /// Where its standard error goes.
    #[must_use]
    pub fn stderr(&self) -> &Path {
        &self.logs.err
    }

    /// Sends a signal; an error when the process is gone.
    pub fn signal(&mut self, signal: Signal) -> Result<(), NetError> {
        if self.exited().is_some() {
            return Err(NetError::io(
                "signal (it has ended)",
                &self.name,
                io::ErrorKind::NotFound,
            ));
        }
        self.send(signal)
            .map_err(|source| NetError::io("signal", &self.name, source))
    }

    fn send(&self, signal: Signal) -> io::Result<()> {
        match &self.inner {
            Some(inner) => inner.signal(signal),
            None => Ok(kill(pid(&self.child), signal)?),
        }
    }

    /// Kills it with `SIGKILL` and waits for its end.
    pub fn kill(&mut self) -> Result<(), NetError> {
        self.send(Signal::SIGKILL)
            .map_err(|source| NetError::io("kill", &self.name, source))?;
        self.child
            .wait()
            .map_err(|source| NetError::io("wait for", &self.name, source))?;
        Ok(())
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, NetError> {
        wait_child(&mut self.child, limit)
            .map_err(|source| NetError::io("see the end of", &self.name, source))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.exited().is_none()
            && let Err(error) = self.kill()
        {
            tracing::warn!(process = self.name, %error, "cannot kill a process");
        }
    }
}

/// The two log files of a process.
#[derive(Debug)]
pub(super) struct Logs {
    out: PathBuf,
    err: PathBuf,
}

impl Logs {
    /// Creates `<stem>.out` and `<stem>.err`, or keeps on appending to them.
    pub(super) fn create(stem: &Path) -> Result<Self, NetError> {
        let with = |ending: &str| {
            let mut path = stem.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Ok(Self {
            out: with(".out"),
            err: with(".err"),
        })
    }

    pub(super) fn stdout(&self) -> Result<Stdio, NetError> {
        append(&self.out)
    }

    pub(super) fn stderr(&self) -> Result<Stdio, NetError> {
        append(&self.err)
    }
}

fn append(path: &Path) -> Result<Stdio, NetError> {
    let file = File::options().create(true).append(true).open(path);
    file.map(Stdio::from)
        .map_err(|source| NetError::io("write to", path, source))
}

/// Makes the kernel kill the process when the thread that starts it ends, and keeps the terminal's Ctrl-C away
/// from it: the world is taken down in order instead.
#[expect(
    unsafe_code,
    reason = "prctl(2) between fork and exec; async-signal-safe, touches no memory of ours"
)]
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid() != parent {
            return Err(io::ErrorKind::NotFound.into()); // we died in between
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
    command.process_group(0);
}

/// Runs a command to its end. The calling thread must be inside the node.
pub(super) fn output(command: &mut Command, limit: Duration) -> io::Result<Output> {
    die_with_parent(command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = pid(&child);
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(child.wait_with_output())));
    match result.recv_timeout(limit) {
        Ok(output) => output,
        Err(_) => {
            kill(id, Signal::SIGKILL)?;
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

pub(super) fn start_error(program: &str, source: io::Error) -> NetError {
    match package_of(program) {
        Some(package) if source.kind() == io::ErrorKind::NotFound => NetError::NoProgram {
            program: program.to_owned(),
            package,
        },
        Some(_) | None => NetError::io("start", program, source),
    }
}

/// The Debian package that has a program, by name or path.
pub(crate) fn package_of(program: &str) -> Option<&'static str> {
    let base = program.rsplit('/').next().unwrap_or(program);
    PACKAGES
        .iter()
        .find(|(name, _)| *name == base)
        .map(|(_, package)| *package)
}

fn wait_child(child: &mut Child, limit: Duration) -> io::Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() >= limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn pid(child: &Child) -> Pid {
    // A pid is positive and fits.
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}
