//! The interop client of gRPC's Ruby (Debian's `ruby-grpc`) through the edge to the interop server of the same.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::net::{TcpListener, TcpStream};

use crate::peers::{edge, until};

/// All but those that want credentials of a cloud, and the compressed ones, which the script does not run for this server.
const CASES: [&str; 13] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "timeout_on_sleeping_server",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "unimplemented_method",
    "unimplemented_service",
    "status_code_and_message",
    "custom_metadata",
];

/// Where Debian has the scripts.
fn scripts() -> Option<PathBuf> {
    let output = Command::new("dpkg")
        .args(["--listfiles", "ruby-grpc"])
        .output()
        .ok()?;
    let listed = String::from_utf8(output.stdout).ok()?;
    let client = listed
        .lines()
        .find(|line| line.ends_with("/src/ruby/pb/test/client.rb"))?;
    Some(PathBuf::from(client).parent()?.to_owned())
}

/// Ends with the test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("a server of a test: {error}");
        }
    }
}

pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) async fn listens(port: u16) {
    let taken = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    until("the server listens", taken).await;
    drop(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ruby_interop_client_passes_all_its_cases_through_the_edge() {
    let Some(scripts) = scripts() else {
        println!("skip: the interop cases of gRPC: its client is not installed (Debian package ruby-grpc)");
        return;
    };
    let port = free_port().await;
    let server = Command::new("ruby")
        .arg(scripts.join("server.rb"))
        .args(["--port", &port.to_string(), "--use_tls", "false"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Ended(server);
    listens(port).await;
    let edge = edge(&[([127, 0, 0, 1], port).into()], "").await;
    for case in CASES {
        let client = tokio::process::Command::new("ruby")
            .arg(scripts.join("client.rb"))
            .args([
                "--server_host",
                "127.0.0.1",
                "--use_tls",
                "false",
                "--server_port",
            ])
            .arg(edge.address().port().to_string())
            .args(["--test_case", case])
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&client.stdout);
        assert!(
            client.status.success() && said.contains(&format!("OK: {case}")),
            "{case}: {said}{}",
            String::from_utf8_lossy(&client.stderr)
        );
    }
    println!(
        "{} of {} interop cases of gRPC's Ruby client pass through the edge",
        CASES.len(),
        CASES.len()
    );
}
