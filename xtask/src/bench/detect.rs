//! `cargo xtask bench detect`: failure detectors on the same traces.

use crate::shell::{cargo, run};

/// The measurement itself is an example of `steer-health`, so that this crate needs none of the others.
pub(crate) fn bench() -> Result<(), String> {
    let example = [
        "run",
        "--release",
        "--quiet",
        "-p",
        "steer-health",
        "--example",
        "detect",
    ];
    run(&mut cargo(&example))
}
