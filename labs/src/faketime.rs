//! A wall clock of its own for one process, so that it can step: libfaketime, told by a file.
//!
//! Nodes share the kernel's clock, and a time namespace moves monotonic clocks alone. The monotonic clock stays true here,
//! as it does when an operator or NTP steps the other one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

/// The library, as Debian has it.
pub(crate) fn library() -> String {
    format!(
        "/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1",
        std::env::consts::ARCH
    )
}

fn file(run: &Path, node: &str, process: &str) -> PathBuf {
    run.join(format!("{node}-{process}.clock"))
}

/// Has the command start with the true time, and look at its file for every question of the time.
pub(crate) fn prepare(command: &mut Command, run: &Path, node: &str, process: &str) -> Result<(), LabError> {
    step(run, node, process, "+0")?;
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", file(run, node, process))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Ok(())
}

/// Whether it is a distance in time as libfaketime has it: `+90s`, `-2h`, `+1d`.
pub(crate) fn is_step(by: &str) -> bool {
    let Some(number) = by.strip_prefix(['+', '-']) else {
        return false;
    };
    let digits = number.trim_end_matches(['s', 'm', 'h', 'd']);
    number.len() - digits.len() <= 1 && digits.parse::<u32>().is_ok()
}

/// Its clock is so far from the true one now.
pub(crate) fn step(run: &Path, node: &str, process: &str, by: &str) -> Result<(), LabError> {
    let path = file(run, node, process);
    let next = path.with_extension("clock-next");
    // Put in place at once: nobody reads half a number.
    fs::write(&next, format!("{by}\n"))
        .and_then(|()| fs::rename(&next, &path))
        .map_err(|source| LabError::io("write", &path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_a_sign_a_number_and_at_most_one_unit() {
        for (text, is) in [
            ("+90s", true),
            ("-2h", true),
            ("+1d", true),
            ("+0", true),
            ("90s", false),
            ("+s", false),
            ("+1hh", false),
            ("+1.5h", false),
            ("", false),
        ] {
            assert_eq!(is_step(text), is, "{text}");
        }
    }
}
