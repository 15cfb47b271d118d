//! Compiles the services of examples and tests. `protox` is a compiler of its own: no protoc is called.

use std::error::Error;

const PROTO: &str = "proto/shop.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let files = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
