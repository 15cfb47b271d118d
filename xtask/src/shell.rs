//! Running other programs, with the command shown.

use std::path::PathBuf;
use std::process::Command;

/// What is off by default, and tested and linted all the same.
pub(crate) const FEATURES: [&str; 2] = ["--features", "steer-rpc/kafka"];

/// Where the workspace stands.
pub(crate) fn workspace() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into)
}

/// The release binary, built from this tree; `STEER_BIN` names another one.
pub(crate) fn release_steer() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("STEER_BIN") {
        return Ok(path.into());
    }
    run(&mut cargo(&["build", "--release", "--package", "steer"]))?;
    Ok(target().join("release/steer"))
}

/// `cargo` in the workspace, the same one that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace());
    command
}

/// Runs a command to its end; a status other than 0 is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    eprintln!("\x1b[1m$ {shown}\x1b[0m");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

/// What a command prints on stdout; a status other than 0 is an error.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{shown}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn show(command: &Command) -> String {
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(name.into())
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}
