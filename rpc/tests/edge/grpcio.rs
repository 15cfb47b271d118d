//! grpcio (Python over gRPC's C core) at both ends: deadlines, cancellation, metadata.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::peers::edge;
use crate::ruby::Ended;

const GRPCIO: &str = "/usr/lib/python3/dist-packages/grpc/__init__.py";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_sees_deadlines_cancellation_and_metadata_pass_the_edge() {
    if !Path::new(GRPCIO).exists() {
        println!(
            "skip: deadlines, cancellation and metadata of grpcio: it is not installed (Debian package python3-grpcio)"
        );
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/edge");
    let mut server = Command::new("/usr/bin/python3")
        .arg(folder.join("grpcio_server.py"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = server.stdout.take().unwrap();
    let _server = Ended(server);
    let port = BufReader::new(printed).lines().next().unwrap().unwrap();
    let port: u16 = port.parse().unwrap();
    let edge = edge(&[([127, 0, 0, 1], port).into()], "max_timeout_ms = 30000").await;
    let client = tokio::process::Command::new("/usr/bin/python3")
        .arg(folder.join("grpcio_client.py"))
        .arg(edge.address().port().to_string())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&client.stdout);
    let errors = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{said}{errors}");
    for line in [
        "deadline",
        "no deadline",
        "sleeping",
        "cancelled",
        "metadata",
        "stream",
    ] {
        assert!(said.contains(&format!("ok: {line}\n")), "{line}: {said}{errors}");
    }
}
