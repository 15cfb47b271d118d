//! `steer check`: every fault of a configuration and its zones, offline. Warnings are told and change no exit code.

use serde::Serialize;
use steer_topology::Fault;

use crate::cli::CheckArgs;
use crate::exit::{self, Failure};
use crate::load::Loaded;

/// What was found in a configuration without fault.
#[derive(Serialize)]
struct Summary<'l> {
    ok: bool,
    /// What is served as it stands and is hardly meant.
    warnings: &'l [Fault],
    sites: usize,
    endpoints: usize,
    zones: usize,
    records: usize,
    steered_names: usize,
    client_classes: usize,
    anycast_prefixes: usize,
    bgp_peers: usize,
}

/// Loads everything that `run` would load and says what is wrong, or what is there.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = match Loaded::from_file(&args.config) {
        Ok(loaded) => loaded,
        Err(Failure::Configuration(faults)) if args.json => {
            println!("{}", serde_json::json!({ "ok": false, "faults": faults }));
            return Err(Failure::Configuration(faults));
        }
        Err(other) => return Err(other),
    };
    let summary = summarise(&loaded);
    if args.json {
        println!("{}", serde_json::json!(summary));
    } else {
        exit::report_warnings(summary.warnings);
        print_summary(args, &summary);
    }
    Ok(())
}

fn summarise(loaded: &Loaded) -> Summary<'_> {
    let fleet = &loaded.fleet;
    Summary {
        ok: true,
        warnings: loaded.zones.warnings(),
        sites: fleet.sites.len(),
        endpoints: fleet.endpoints.len(),
        zones: fleet.zones.len(),
        records: loaded.zones.records(),
        steered_names: fleet.steers.len(),
        client_classes: loaded.classes.len(),
        anycast_prefixes: fleet.anycast.len(),
        bgp_peers: fleet.bgp.as_ref().map_or(0, |bgp| bgp.peers.len()),
    }
}

fn print_summary(args: &CheckArgs, summary: &Summary<'_>) {
    println!("{}: no fault", args.config.display());
    println!("  {} sites, {} endpoints", summary.sites, summary.endpoints);
    println!(
        "  {} zones with {} records, {} steered names, {} client classes",
        summary.zones, summary.records, summary.steered_names, summary.client_classes
    );
    println!(
        "  {} anycast prefixes, {} BGP peers",
        summary.anycast_prefixes, summary.bgp_peers
    );
}
