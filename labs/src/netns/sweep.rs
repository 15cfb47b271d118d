//! Removal: of our own namespaces, and of those that a crashed run has left.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{NETNS_DIR, NetError};

/// First part of every name.
const TAG: &str = "steer";

/// How long killed processes may take to disappear.
const DEATH_LIMIT: Duration = Duration::from_secs(2);

/// Who made a namespace: a pid alone could have been given to somebody else since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    start: u64,
}

impl Owner {
    pub(super) fn this_process() -> Result<Self, NetError> {
        let pid = nix::unistd::getpid().as_raw();
        let start = start_of(pid)
            .ok_or_else(|| NetError::io("read", "/proc/self/stat", std::io::ErrorKind::InvalidData))?;
        Ok(Self { pid, start })
    }

    /// Of a name such as `steer-123-4567-lab-fra`; `None` when it is not ours.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        if parts.next()? != TAG {
            return None;
        }
        let owner = Self {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
        };
        parts.next().map(|_| owner)
    }

    pub(super) fn prefix(self) -> String {
        format!("{TAG}-{}-{}", self.pid, self.start)
    }

    pub(crate) fn is_alive(self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

/// Removes the namespaces, processes and run folders of runs whose creator is dead. Returns how many namespaces
/// went. Never touches those of a live process.
pub fn sweep() -> usize {
    let stale = |name: &String| Owner::of(name).is_some_and(|owner| !owner.is_alive());
    let namespaces: Vec<String> = names(Path::new(NETNS_DIR)).into_iter().filter(stale).collect();
    remove_namespaces(&namespaces);
    let folder = std::env::temp_dir();
    for name in names(&folder).into_iter().filter(stale) {
        unmount_below(&folder.join(&name));
        // Another run may sweep at the same time: whoever comes second finds nothing.
        drop(fs::remove_dir_all(folder.join(name)));
    }
    namespaces.len()
}

/// What a crashed run has mounted in its folder must not be emptied as if it were a folder.
fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places.map(Path::new).filter(|place| place.starts_with(folder)) {
        let _ = umount2(place, MntFlags::MNT_DETACH); // another run may sweep at the same time
    }
}

/// Kills what runs in these namespaces and removes them; what is not there is no error.
pub(super) fn remove_namespaces(names: &[String]) {
    let inodes: Vec<(u64, u64)> = names
        .iter()
        .filter_map(|name| namespace_of(&Path::new(NETNS_DIR).join(name)))
        .collect();
    kill_inside(&inodes);
    for name in names {
        let path = Path::new(NETNS_DIR).join(name);
        let _ = umount2(&path, MntFlags::MNT_DETACH); // the name may lack its mount
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(namespace = name, %error, "cannot remove a namespace");
        }
    }
}

/// `ip netns` keeps its names on a shared mount; made here when no `ip netns add` was there before.
pub(super) fn prepare_netns_dir() -> Result<(), NetError> {
    let none: Option<&str> = None;
    let fail = |source| NetError::io("prepare", NETNS_DIR, source);
    fs::create_dir_all(NETNS_DIR).map_err(fail)?;
    if mount(none, NETNS_DIR, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).is_ok() {
        return Ok(());
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(NETNS_DIR), NETNS_DIR, none, bind, none).map_err(|source| fail(source.into()))?;
    mount(none, NETNS_DIR, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)
        .map_err(|source| fail(source.into()))
}

/// Kills every process whose namespace is one of these, and waits until they are gone.
fn kill_inside(namespaces: &[(u64, u64)]) {
    if namespaces.is_empty() {
        return;
    }
    let start = Instant::now();
    loop {
        let inside = processes_inside(namespaces);
        if inside.is_empty() {
            return;
        }
        for pid in &inside {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL); // it may have ended by itself
        }
        if start.elapsed() > DEATH_LIMIT {
            tracing::warn!(?inside, "processes do not die");
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes_inside(namespaces: &[(u64, u64)]) -> Vec<i32> {
    let this = nix::unistd::getpid().as_raw();
    names(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse::<i32>().ok())
        .filter(|pid| *pid != this)
        .filter(|pid| {
            let namespace = namespace_of(Path::new(&format!("/proc/{pid}/ns/net")));
            namespace.is_some_and(|namespace| namespaces.contains(&namespace))
        })
        .collect()
}

/// Device and inode say which namespace it is. A plain file (a name whose mount is gone) matches no process.
fn namespace_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Start time of a live process, in clock ticks since boot; `None` for the dead and for zombies.
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(
            Owner::of("steer-12-345-lab-fra"),
            Some(Owner { pid: 12, start: 345 })
        );
        for name in [
            "steer",
            "steer-12",
            "steer-12-345",
            "steer-x-345-lab",
            "fra",
            "steering-12-345-lab",
            "",
        ] {
            assert_eq!(Owner::of(name), None, "{name}");
        }
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_is_not() {
        let owner = Owner::this_process().unwrap();
        assert!(owner.is_alive());
        assert!(
            !Owner {
                start: owner.start + 1,
                ..owner
            }
            .is_alive()
        );
        assert_eq!(Owner::of(&format!("{}-lab", owner.prefix())), Some(owner));
    }
}
