//! A process of this machine, by a file with its number, and its exit (pidfd_open(2)).

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::tripwire::Cut;

/// A process that ran when it was looked for. Its number may be given to another one later; this never is.
#[derive(Debug)]
pub(super) struct Process(AsyncFd<OwnedFd>);

impl Process {
    /// The one whose number is in `file`.
    pub(super) async fn of(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let text = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| format!("{shown}: {error}"))?;
        let pid = number(&text).ok_or_else(|| format!("{shown} has no number of a process"))?;
        let failed = |error: io::Error| format!("process {} of {shown}: {error}", pid.as_raw_nonzero());
        let opened = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        // SAFETY: an `OwnedFd` is one and the same open file for as long as it lives.
        #[expect(
            unsafe_code,
            reason = "tokio cannot know of each type that it keeps its file open"
        )]
        let registered = unsafe { AsyncFd::register_with_interest(opened, Interest::READABLE) };
        registered.map(Self).map_err(|error| failed(error.into_parts().1))
    }

    /// Returns when it has exited.
    pub(super) async fn ends(self) -> Cut {
        match self.0.readable().await {
            Ok(_) => Cut::Exited,
            Err(_) => Cut::Failed,
        }
    }
}

/// A number, and nothing behind it on its line.
fn number(text: &str) -> Option<Pid> {
    let line = text.lines().next()?;
    let number = line.trim().parse().ok().filter(|number: &i32| *number > 0)?;
    Pid::from_raw(number)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_exit_of_a_process_is_seen_and_what_is_no_process_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        std::fs::write(&file, format!("{}\n", child.id())).unwrap();
        let held = Process::of(&file).await.unwrap();
        let mut ends = std::pin::pin!(held.ends());
        assert!(futures_util::poll!(&mut ends).is_pending());
        child.kill().unwrap();
        let limit = std::time::Duration::from_secs(20);
        assert_eq!(tokio::time::timeout(limit, ends).await.unwrap(), Cut::Exited);
        child.wait().unwrap();
        let gone = Process::of(&file).await.unwrap_err();
        assert!(gone.starts_with(&format!("process {} of ", child.id())), "{gone}");
        for text in ["", "\n", "-3\n", "0", "12 13\n", "twelve"] {
            std::fs::write(&file, text).unwrap();
            let told = Process::of(&file).await.unwrap_err();
            assert!(told.ends_with("has no number of a process"), "{text:?}: {told}");
        }
        assert!(
            Process::of(&folder.path().join("none"))
                .await
                .unwrap_err()
                .contains("No such file")
        );
    }
}
