//! scapy, in a Python of its own: one line per message.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::reading::Reading;
use super::sample::Sample;

const PYTHON: &str = "/usr/bin/python3";
const MODULE: &str = "/usr/lib/python3/dist-packages/scapy/contrib/bgp.py";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/read_with_scapy.py");

/// What scapy reads, or why it does not run here.
pub(crate) fn read(samples: &[Sample]) -> Result<Vec<Reading>, String> {
    for path in [PYTHON, MODULE] {
        if !Path::new(path).exists() {
            return Err(format!(
                "{path} is missing: install the Debian package `python3-scapy`"
            ));
        }
    }
    let mut child = Command::new(PYTHON)
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python runs");
    let mut stdin = child.stdin.take().expect("piped");
    let asked: Vec<String> = samples.iter().map(ask).collect();
    // Written beside the reading, or both pipes could be full at once.
    let writer = std::thread::spawn(move || stdin.write_all(asked.concat().as_bytes()));
    let output = child.wait_with_output().expect("our own child");
    writer
        .join()
        .expect("the writer does not panic")
        .expect("scapy takes all");
    assert!(output.status.success(), "read_with_scapy.py: {}", output.status);
    let printed = String::from_utf8(output.stdout).expect("JSON");
    let readings = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect(line));
    Ok(readings.collect())
}

fn ask(sample: &Sample) -> String {
    let octets: String = sample.octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let four_octet = sample.context.four_octet;
    format!(
        "{}\n",
        serde_json::json!({ "octets": octets, "four_octet": four_octet })
    )
}
