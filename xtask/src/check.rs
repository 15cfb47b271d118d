//! `cargo xtask check`: what must be clean before anything lands.

use crate::shell::{FEATURES, cargo, output, run};

/// Crates that would need more than `cc` to build.
const FORBIDDEN: &[&str] = &["aws-lc-rs", "openssl-sys", "native-tls"];

pub(crate) fn check() -> Result<(), String> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let mut clippy = cargo(&["clippy", "--workspace", "--all-targets"]);
    run(clippy.args(FEATURES).args(["--", "-D", "warnings"]))?;
    for name in FORBIDDEN {
        refuse(name)?;
    }
    if output(&mut cargo(&["deny", "--version"])).is_err() {
        eprintln!("skip: cargo deny check (cargo-deny is not installed)");
        return Ok(());
    }
    run(&mut cargo(&["deny", "check"]))
}

fn refuse(name: &str) -> Result<(), String> {
    let lock = crate::shell::workspace().join("Cargo.lock");
    let text = std::fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    if text.lines().any(|line| line == format!("name = \"{name}\"")) {
        return Err(format!(
            "{name} is in Cargo.lock; find who brings it with `cargo tree -i {name}`"
        ));
    }
    Ok(())
}
