//! What is wrong with a lab is said clearly, and nothing is left behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use steer_labs::{LabError, LabOptions, Runtime, netns};

fn skipped() -> bool {
    match netns::can_run() {
        Ok(()) => false,
        Err(reason) => {
            println!("skipped: {reason}");
            true
        }
    }
}

fn options() -> LabOptions {
    LabOptions {
        set: std::collections::BTreeMap::new(),
        steer: "/bin/false".into(),
        repeat: 1,
        only: Vec::new(),
        out: None,
        runtime: Runtime::Netns,
    }
}

/// A copy of the shipped lab under another name, removed on drop.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let target = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("first-failover");
        copy(&source, &target);
        Self(target)
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is in {file}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }

    fn fails(&self) -> LabError {
        let error = steer_labs::run(self.0.to_str().unwrap(), options()).unwrap_err();
        assert_eq!(self.leftovers(), Vec::<String>::new());
        error
    }

    /// Names of namespaces and run folders of this process for this lab.
    fn leftovers(&self) -> Vec<String> {
        let lab = self.0.file_name().unwrap().to_str().unwrap();
        let mine = format!("steer-{}-", std::process::id());
        let folders = [PathBuf::from("/run/netns"), std::env::temp_dir()];
        let entries = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| name.starts_with(&mine) && name.contains(lab))
            .collect()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn an_unknown_lab_is_answered_with_those_that_exist() {
    let error = steer_labs::run("no-such-lab", options()).unwrap_err().to_string();
    assert!(
        error.contains("`no-such-lab`") && error.contains("first-failover"),
        "{error}"
    );
}

#[test]
fn an_unsupported_key_stops_the_lab_with_its_line() {
    if skipped() {
        return;
    }
    let lab = Copy::new("labkey");
    lab.change(
        "first-failover.clab.yml",
        "    client:\n",
        "    client:\n      startup-delay: 3\n",
    );
    let error = lab.fails().to_string();
    assert!(
        error.contains("first-failover.clab.yml:15:7: `startup-delay`"),
        "{error}"
    );
}

#[test]
fn an_unknown_node_in_the_scenario_is_named() {
    if skipped() {
        return;
    }
    let lab = Copy::new("labnode");
    lab.change("scenario.toml", "router = \"router\"", "router = \"rooter\"");
    let error = lab.fails().to_string();
    assert!(error.contains("there is no node `rooter`"), "{error}");
}

#[test]
fn a_missing_program_is_named_before_anything_starts() {
    if skipped() {
        return;
    }
    let lab = Copy::new("labprogram");
    lab.change("scenario.toml", "\"bird\", \"-f\"", "\"/nowhere/bird\", \"-f\"");
    let error = lab.fails().to_string();
    assert!(
        error.contains("`/nowhere/bird`") && error.contains("`bird2`"),
        "{error}"
    );
}

#[test]
fn a_failing_exec_line_shows_what_the_program_said() {
    if skipped() {
        return;
    }
    let lab = Copy::new("labexec");
    for program in ["bird", "unbound"] {
        lab.change(
            "scenario.toml",
            &format!("run = [\"{program}\""),
            "run = [\"sleep\"",
        );
    }
    lab.change("first-failover.clab.yml", "dev eth1", "dev eth7");
    let error = lab.fails().to_string();
    assert!(
        error.contains("client: `ip address add 198.51.100.2/26 dev eth7` failed"),
        "{error}"
    );
}

#[test]
fn a_process_that_ends_at_once_fails_the_lab_and_its_logs_are_kept() {
    if skipped() {
        return;
    }
    let lab = Copy::new("labdeath");
    for program in ["bird", "unbound"] {
        lab.change(
            "scenario.toml",
            &format!("run = [\"{program}\""),
            "run = [\"sleep\", \"600\"] # [",
        );
    }
    let LabError::Failed { what, kept } = lab.fails() else {
        unreachable!("a process has ended")
    };
    let kept = kept.unwrap();
    let state = std::fs::read_to_string(kept.join("router-state.txt")).unwrap();
    std::fs::remove_dir_all(&kept).unwrap();
    assert!(what.contains("has ended with exit status: 1"), "{what}");
    assert!(state.contains("203.0.113.1/26"), "{state}");
}
