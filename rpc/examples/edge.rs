//! An edge alone: `cargo run -p steer-rpc --example edge -- edge.toml`. SIGTERM and Ctrl-C drain it.

use std::path::Path;
use std::process::ExitCode;

use steer_rpc::edge::{Edge, EdgeConfig};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: edge FILE");
        return ExitCode::from(2);
    };
    match run(Path::new(&file)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let edge = Edge::bind(EdgeConfig::read(file)?).await?.run()?;
    println!("listening on {}", edge.address());
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    edge.drain().await;
    Ok(())
}
