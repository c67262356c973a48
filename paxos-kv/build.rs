//! Compiles `proto/*.proto` into `src/proto`'s modules, without a system `protoc`.

use std::error::Error;

const SERVICES: [&str; 5] =
    ["kv.proto", "cluster.proto", "maintenance.proto", "lease.proto", "command.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(SERVICES, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
