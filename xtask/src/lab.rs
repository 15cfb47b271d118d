//! `cargo xtask lab NAME`: one lab, with the binary of this tree.

use std::process::Command;

use crate::packages;
use crate::shell::{cargo, run};
use crate::test::steer_binary;

pub(crate) fn lab(name: &str, rest: &[String]) -> Result<(), String> {
    packages::ensure();
    run(&mut cargo(&["build", "--package", "steer"]))?;
    run(Command::new(steer_binary()).args(["lab", "run", name]).args(rest))
}
