//! A container as a node: commands and processes run inside it by `docker exec`, and are known by the host's pid.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::NetError;
use super::process::Proc;
use crate::wait;

/// How long a process may take to say its pid.
const BIRTH_LIMIT: Duration = Duration::from_secs(10);

/// A running container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    /// The `docker` program.
    pub(crate) docker: PathBuf,
    /// Its name.
    pub(crate) name: String,
    /// Its first process, as the host counts.
    pub(crate) init: i32,
}

/// A process inside a container.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pid: i32,
    /// Its pid namespace: a pid alone could have been given to somebody else since.
    namespace: PathBuf,
}

/// Where a process that is being started says its pid.
#[derive(Debug)]
pub(super) struct Birth {
    note: PathBuf,
    init: i32,
}

impl Container {
    /// The network namespace.
    pub(super) fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.init).into()
    }

    /// The same command inside the container. Folder and environment go along.
    pub(super) fn exec(&self, command: &Command) -> Command {
        let mut wrapped = self.client(command);
        wrapped.arg(&self.name).arg(command.get_program());
        wrapped.args(command.get_args());
        wrapped
    }

    /// The same, and the process writes its pid, as the container counts, into `note`, which both sides see.
    pub(super) fn start(&self, command: &Command, note: PathBuf) -> (Command, Birth) {
        let mut wrapped = self.client(command);
        wrapped
            .arg(&self.name)
            .args(["sh", "-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(&note)
            .arg(command.get_program())
            .args(command.get_args());
        let init = self.init;
        (wrapped, Birth { note, init })
    }

    fn client(&self, command: &Command) -> Command {
        let mut client = Command::new(&self.docker);
        client.arg("exec");
        if let Some(folder) = command.get_current_dir() {
            client.arg("--workdir").arg(folder);
        }
        for (key, value) in command.get_envs() {
            // One that is removed has never been in the container.
            if let Some(value) = value {
                client.arg("--env").arg(pair(key, value));
            }
        }
        client
    }
}

fn pair(key: &OsStr, value: &OsStr) -> OsString {
    let mut pair = key.to_owned();
    pair.push("=");
    pair.push(value);
    pair
}

impl Proc {
    /// Waits until the process has said its pid, and finds it among the host's.
    pub(super) fn find_inner(&mut self, birth: &Birth) -> Result<(), NetError> {
        let found = wait::until(BIRTH_LIMIT, Duration::from_millis(2), || {
            if self.exited().is_some() {
                return Ok(None); // it will be seen by whoever looks after it
            }
            birth.look().map(Some)
        });
        // The note must not be taken for that of the next start.
        drop(fs::remove_file(&birth.note));
        let inner = found.map_err(|error| NetError::Io {
            what: "find the process of",
            path: self.name().into(),
            source: io::Error::other(error.to_string()),
        })?;
        self.set_inner(inner);
        Ok(())
    }
}

impl Birth {
    fn look(&self) -> Result<Inner, String> {
        let text = fs::read_to_string(&self.note).unwrap_or_default();
        let inside = text.strip_suffix('\n').ok_or("it has not said its pid")?;
        let namespace = pid_namespace(self.init).ok_or("the container has ended")?;
        let is_it = |pid: &i32| {
            pid_namespace(*pid).as_ref() == Some(&namespace) && inner_pid(*pid).as_deref() == Some(inside)
        };
        let pid = pids().find(is_it);
        let pid = pid.ok_or_else(|| format!("no process has pid {inside} in the container"))?;
        Ok(Inner { pid, namespace })
    }
}

impl Inner {
    /// An error when the process is gone, whoever has its pid now.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        if pid_namespace(self.pid).as_ref() != Some(&self.namespace) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn pid_namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid.to_string()).join("ns/pid")).ok()
}

/// The pid in the innermost namespace: the last of `NSpid` (proc(5)).
fn inner_pid(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_into_the_container_with_its_folder_and_environment() {
        let container = Container {
            docker: "docker".into(),
            name: "clab-x-fra".to_owned(),
            init: 1,
        };
        let mut command = Command::new("bird");
        command
            .arg("-f")
            .current_dir("/run/x")
            .env("TZ", "UTC")
            .env_remove("LOG");
        let words = |command: &Command| {
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        let want = "exec --workdir /run/x --env TZ=UTC clab-x-fra bird -f";
        assert_eq!(words(&container.exec(&command)), want);
        let (started, _) = container.start(&command, "/run/x/fra-bird.pid".into());
        assert!(
            words(&started).ends_with("exec \"$@\" /run/x/fra-bird.pid bird -f"),
            "{started:?}"
        );
    }

    #[test]
    fn this_process_is_found_by_its_inner_pid() {
        let this = nix::unistd::getpid().as_raw();
        assert!(pids().any(|pid| pid == this));
        assert_eq!(inner_pid(this), Some(this.to_string()));
        assert!(pid_namespace(this).is_some() && pid_namespace(i32::MAX).is_none());
    }
}
