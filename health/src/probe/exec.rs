//! A program of the operator's, with everything that it starts.
//!
//! It is the first of a process group of its own. When it ends, when its time is over, and when we stop, the whole
//! group is killed: nothing that it left behind runs on. Gap: a child that makes a session of its own escapes that.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use steer_topology::{EndpointId, Fleet};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::{Progress, Stage};
use crate::outcome::{Answer, Failure, Outcome, Void, shortened};

/// A program and what it is told.
#[derive(Debug)]
pub(crate) struct Exec {
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
    programs: Arc<Semaphore>,
}

/// Programs that run at once; a probe beyond that is not sent and counts neither way.
pub(super) const PROGRAMS_MAX: usize = 256;

/// So much of what it prints is looked at; the rest is read and dropped.
const OUTPUT_MAX: u64 = 4096;

/// Where programs are found that the program itself starts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Exec {
    pub(super) fn new(
        command: &[String],
        fleet: &Fleet,
        id: EndpointId,
        address: SocketAddr,
        programs: &Arc<Semaphore>,
    ) -> Self {
        let endpoint = fleet.endpoint(id);
        let site = endpoint
            .site
            .map_or_else(String::new, |site| fleet.site(site).name.clone());
        Self {
            programs: Arc::clone(programs),
            command: command.to_vec(),
            environment: vec![
                ("PATH", PATH.to_owned()),
                ("STEER_ADDRESS", address.ip().to_string()),
                ("STEER_PORT", address.port().to_string()),
                ("STEER_POOL", fleet.pool(endpoint.pool).name.clone()),
                ("STEER_SITE", site),
            ],
        }
    }

    pub(super) async fn probe(&self, _timeout: std::time::Duration, progress: &Progress) -> Outcome {
        let Some((program, arguments)) = self.command.split_first() else {
            return Outcome::Void(Void::Local("no program is named".to_owned()));
        };
        let Ok(_place) = self.programs.try_acquire() else {
            return Outcome::Void(Void::Skipped);
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            // Ours or the operator's fault, and the same for every endpoint.
            Err(error) => return Outcome::Void(Void::Local(format!("{program}: {error}"))),
        };
        let group = Group::of(child.id());
        progress.wait_for(Stage::Exit);
        let output = child.stdout.take();
        let mut said = Vec::new();
        // Its end counts, not that of its output: what it started may hold that open.
        let status = {
            let mut reading = std::pin::pin!(listen(output, &mut said));
            let mut listening = true;
            loop {
                tokio::select! {
                    biased;
                    () = &mut reading, if listening => listening = false,
                    status = child.wait() => break status,
                }
            }
        };
        drop(group);
        match status {
            Ok(status) => judge(status, &said),
            Err(error) => Outcome::Void(Void::Local(format!("{program}: {error}"))),
        }
    }
}

async fn listen(output: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) {
    let Some(mut output) = output else { return };
    // An error ends the output just as its end does.
    let _ = (&mut output).take(OUTPUT_MAX).read_to_end(said).await;
    let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
}

fn judge(status: ExitStatus, said: &[u8]) -> Outcome {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.map(shortened);
    if status.success() {
        return Outcome::Success(Answer::Seen(line.map_or("status 0".into(), Into::into)));
    }
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended somehow".to_owned(),
    };
    Outcome::Failure(Failure::Exec(match line {
        Some(line) => format!("{ended}: {line}"),
        None => ended,
    }))
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    /// Of the child that leads it.
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.take() {
            // Fails where all of it has ended. As long as one of it lives, nobody else gets its number.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests;
