//! `cargo xtask lab NAME`: one lab, with the binary of this tree; `cargo xtask lab all`: every one.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::shell::{cargo, run, target, workspace};
use crate::test::steer_binary;

/// A peer that Debian does not have: its name and version on PyPI.
const CHECKER: (&str, &str) = ("anycast-healthchecker", "0.9.10");

/// What labs need beyond the tests.
const PEERS: [(&str, &str); 2] = [
    ("/usr/sbin/pdns_server", "pdns-server"),
    ("/usr/share/doc/pdns-backend-bind/copyright", "pdns-backend-bind"),
];

pub(crate) fn lab(name: &str, rest: &[String]) -> Result<(), String> {
    let all = labs()?;
    let labs = if name == "all" { all } else { vec![name.to_owned()] };
    packages::ensure();
    if labs.iter().any(|lab| lab == "peers") {
        packages::ensure_also(&PEERS);
    }
    let path = with_checker(labs.iter().any(|lab| lab == "peers"))?;
    run(&mut cargo(&["build", "--package", "steer"]))?;
    let mut failed = Vec::new();
    for lab in labs {
        let mut command = Command::new(steer_binary());
        command.args(["lab", "run", &lab]).args(rest).env("PATH", &path);
        if let Err(error) = run(&mut command) {
            eprintln!("{error}");
            failed.push(lab);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("not passed: {}", failed.join(", ")))
    }
}

/// The folders with a scenario, by name.
fn labs() -> Result<Vec<String>, String> {
    let folder = workspace().join("labs");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let has_scenario = |path: &Path| path.join("scenario.toml").is_file();
    let mut labs: Vec<String> = entries
        .flatten()
        .filter(|entry| has_scenario(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    labs.sort();
    Ok(labs)
}

/// PATH with anycast-healthchecker on it, which lives in the target folder.
fn with_checker(wanted: bool) -> Result<OsString, String> {
    let folder = target().join("peers");
    let (name, version) = CHECKER;
    if wanted && !folder.join("bin").join(name).exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip")).args([
            "install",
            "--quiet",
            &format!("{name}=={version}"),
        ]))?;
    }
    let old = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&old).chain([folder.join("bin")]);
    env::join_paths(all.collect::<Vec<PathBuf>>()).map_err(|error| error.to_string())
}
