//! `steer edge` alone: what it says of its file, and how it ends.

use std::process::Command;

use nix::sys::signal::Signal;
use steer_tests::steer_binary;

use crate::processes::Process;

const HEAD: &str = "listen = \"127.0.0.1:0\"\n[[pool]]\nname = \"pay\"\nbackends = [\"127.0.0.1:1\"]\n";

fn file(rest: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    std::fs::write(&file, format!("{HEAD}{rest}")).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

/// How it ended, and what it said.
fn refused(file: &str) -> (Option<i32>, String) {
    let output = Command::new(steer_binary())
        .args(["edge", "--config", file])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_place_and_what_would_be_right() {
    let (_folder, wrong) = file("[[method]]\npath = \"/a.A/B\"\nsemantics = \"once\"\n");
    let (code, said) = refused(&wrong);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(
            "edge.toml:7:13: [[method]] \"/a.A/B\": \"once\" is no semantics; there are at-most-once"
        ),
        "{said}"
    );
    let (code, said) = refused("/nowhere/edge.toml");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("/nowhere/edge.toml: ") && said.contains("--config"),
        "{said}"
    );
}

#[test]
fn a_port_that_is_taken_is_a_failure_at_run_time() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_folder, file) = file("");
    let text = std::fs::read_to_string(&file).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    std::fs::write(&file, text.replace("127.0.0.1:0", &listen)).unwrap();
    let (code, said) = refused(&file);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&listen), "{said}");
}

#[test]
fn it_ends_in_good_order_on_sigterm() {
    let (_folder, file) = file("");
    let edge = Process::edge(&file);
    edge.signal(Signal::SIGTERM);
    assert!(edge.wait());
}
