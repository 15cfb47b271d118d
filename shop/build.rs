//! Compiles the services. `protox` is a compiler of its own: no protoc is called.

use std::error::Error;

const PROTOS: [&str; 2] = ["proto/shop.proto", "proto/health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    let files = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
