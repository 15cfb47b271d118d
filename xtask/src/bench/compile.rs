//! `cargo xtask bench compile`: the decision tables of a large fleet, in full and after one verdict.

use crate::shell::{cargo, run};

/// The measurement itself is an example of `steer-dns`, so that this crate needs none of the others.
pub(crate) fn bench() -> Result<(), String> {
    let example = [
        "run",
        "--release",
        "--quiet",
        "-p",
        "steer-dns",
        "--example",
        "compile",
    ];
    run(&mut cargo(&example))
}
