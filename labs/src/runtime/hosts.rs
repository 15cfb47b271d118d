//! What containerlab writes into `/etc/hosts` for each lab, and leaves there when a run is killed.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

const HOSTS: &str = "/etc/hosts";

/// containerlab takes it for its own edits.
const LOCK: &str = "/run/lock/clab-hosts.lock";

/// The labs that have a block in the file.
pub(super) fn labs() -> Vec<String> {
    let text = fs::read_to_string(HOSTS).unwrap_or_default();
    text.lines().filter_map(|line| name(line, "-START")).collect()
}

/// Takes a lab's block out. Everything else stays as it is, to the octet.
pub(super) fn forget(lab: &str) -> io::Result<()> {
    if let Some(folder) = Path::new(LOCK).parent() {
        fs::create_dir_all(folder)?;
    }
    let lock = OpenOptions::new().create(true).append(true).open(LOCK)?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    match without(&fs::read_to_string(HOSTS)?, lab) {
        // In place: it may be a mount, which cannot be replaced.
        Some(text) => fs::write(HOSTS, text),
        None => Ok(()),
    }
}

/// `None` where nothing is to be taken out: no block, or one without an end, which is not ours to judge.
fn without(text: &str, lab: &str) -> Option<String> {
    let is = |line: &str, which| name(line, which).is_some_and(|name| name == lab);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let start = lines.iter().position(|line| is(line, "-START"))?;
    let end = start + lines[start..].iter().position(|line| is(line, "-END"))?;
    Some([&lines[..start], &lines[end + 1..]].concat().concat())
}

fn name(line: &str, which: &str) -> Option<String> {
    let inner = line
        .trim()
        .strip_prefix("###### CLAB-")?
        .strip_suffix(" ######")?;
    inner.strip_suffix(which).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "127.0.0.1 localhost\n###### CLAB-a-START ######\n172.20.20.2\tclab-a-r1\n###### CLAB-a-END ######\n\
        # mine\n###### CLAB-b-START ######\n172.20.20.3 clab-b-r1\n";

    #[test]
    fn the_block_of_one_lab_goes_and_nothing_else() {
        let rest = without(TEXT, "a").unwrap();
        assert_eq!(
            rest,
            "127.0.0.1 localhost\n# mine\n###### CLAB-b-START ######\n172.20.20.3 clab-b-r1\n"
        );
        assert_eq!(without(&rest, "a"), None);
        assert_eq!(without(TEXT, "b"), None, "it has no end");
        assert_eq!(without(TEXT, "c"), None);
    }
}
