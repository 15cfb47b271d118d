//! `cargo xtask test`: every test, from unit tests to real peers in namespaces.

use crate::packages;
use crate::shell::{cargo, run, workspace};

pub(crate) fn test(filter: &[String]) -> Result<(), String> {
    packages::ensure();
    if !packages::is_root() {
        eprintln!("skip: tests in network namespaces (not root)");
    }
    // Black-box tests and labs run the real binary; same profile and target folder as the tests.
    run(&mut cargo(&["build", "--package", "steer"]))?;
    let mut tests = cargo(&["test", "--workspace"]);
    tests.args(filter).env("STEER_BIN", steer_binary());
    run(&mut tests)
}

/// The binary that `cargo build --package steer` makes.
pub(crate) fn steer_binary() -> std::path::PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    target.join("debug/steer")
}
