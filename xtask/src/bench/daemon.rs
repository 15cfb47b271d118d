//! Daemons that a bench runs: a process group each, killed when dropped, with its CPU time and memory.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::shell::output;

/// A running daemon with everything that it starts.
pub(super) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it with its output in `log`. It ends with us even where we are killed.
    pub(super) fn start(name: &'static str, command: &Command, log: &Path) -> Result<Self, String> {
        let fail = |error: std::io::Error| format!("{name}: {error}");
        let environment = command.get_envs().filter_map(|(key, value)| Some((key, value?)));
        let out = fs::File::create(log).map_err(fail)?;
        let err = out.try_clone().map_err(fail)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(fail)?;
        Ok(Self { child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of it and its children that live.
    pub(super) fn cpu(&self) -> Duration {
        tree(self.pid()).into_iter().map(cpu_of).sum()
    }

    /// Memory in use, and the most so far.
    pub(super) fn memory(&self) -> Memory {
        tree(self.pid())
            .into_iter()
            .map(memory_of)
            .fold(Memory::default(), |sum, one| Memory {
                now: sum.now + one.now,
                peak: sum.peak + one.peak,
            })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Our own group; both fail only where all of it has ended.
        if let Ok(pid) = i32::try_from(self.pid()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) now: u64,
    pub(super) peak: u64,
}

/// A process and its descendants.
pub(super) fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    all
}

/// To the nanosecond, where /proc/PID/stat counts in hundredths of a second.
fn cpu_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let spent = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

fn memory_of(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Memory {
        now: field("VmRSS:").unwrap_or(0),
        peak: field("VmHWM:").unwrap_or(0),
    }
}

/// Puts this thread, and all that it starts from now on, into a network of its own, in which every address of
/// `local` is this machine. It is gone with the last process in it.
pub(super) fn own_network(local: &[&str]) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("a network namespace needs root: {error}"))?;
    let ip = |args: &[&str]| output(Command::new("ip").args(args)).map(drop);
    ip(&["link", "set", "lo", "up"])?;
    local
        .iter()
        .try_for_each(|addresses| ip(&["route", "add", "local", addresses, "dev", "lo"]))
}

/// An empty folder below `target`.
pub(super) fn fresh_folder(name: &str) -> Result<PathBuf, String> {
    let folder = crate::shell::target().join(name);
    let _ = fs::remove_dir_all(&folder); // nothing of an earlier run is mixed in
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Looks again and again until there is a value.
pub(super) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {limit:?} in vain for {what}"));
        }
        sleep(Duration::from_millis(1));
    }
}

/// The value at a share of the sorted values: 0.5 is the median.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}
