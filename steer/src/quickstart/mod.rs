//! `steer quickstart`: a whole fleet on one machine, without privileges.
//!
//! ```text
//! endpoint fra ─┐                 ┌─ DNS  127.0.0.1:5353
//! endpoint iad ─┼─ checks ─ snapshot ─ speaker fra ─┐
//! endpoint nrt ─┘                 ├─ speaker iad ─┼─ BGP ─ route monitor
//!   (processes: kill them)        └─ speaker nrt ─┘
//! ```
//!
//! One process runs all three sites: one health truth, one DNS server, one BGP speaker per site. Everything but
//! the endpoints is the code that `steer run` runs.

mod live;
mod scene;

use std::net::Ipv4Addr;

use steer_anycast::monitor::{Monitor, MonitorEvent};
use steer_topology::{Asn, SiteId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::QuickstartArgs;
use crate::exit::Failure;
use crate::load::Loaded;
use crate::run::{self, Bound};
use crate::runtimes::Runtimes;

use live::Live;
use scene::{Endpoint, Files, SITES};

/// The monitor's AS number and identifier; the fleet file names the same number.
const MONITOR_ASN: u32 = 64_500;
const MONITOR_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &QuickstartArgs) -> Result<(), Failure> {
    eprintln!("reading the country database ...");
    let files = Files::write(args)?;
    let loaded = Loaded::from_file(&files.config())?;
    Runtimes::new()?.run(|serving| serve(args, loaded, &files, serving))
}

async fn serve(args: &QuickstartArgs, loaded: Loaded, files: &Files, serving: Handle) -> Result<(), Failure> {
    let mut signals = run::stop_on_signal()?;
    let monitor = bind_monitor(args)?;
    let sites: Vec<_> = (0..).map(|index| Some(SiteId(index))).take(SITES.len()).collect();
    let bound = Bound::new(loaded, &sites, serving).await?;
    let mut endpoints = Vec::new();
    for (index, site) in SITES.into_iter().enumerate() {
        endpoints.push(Endpoint::start(site, scene::endpoint_address(args, index)?)?);
    }

    let (events, seen) = mpsc::channel::<MonitorEvent>(256);
    let stop_watching = CancellationToken::new();
    let watching = tokio::spawn(monitor.run(events, stop_watching.clone()));
    let running = bound.start(false)?;
    let live = Live::new(args, files.config(), endpoints, &running)?;
    let showing = tokio::spawn(live.run(seen, stop_watching.clone()));
    let ended = running.until(&mut signals).await;
    stop_watching.cancel();
    let _ = watching.await;
    let shown = showing.await;
    ended?;
    shown.map_err(|error| Failure::runtime("the live view failed", &error))
}

fn bind_monitor(args: &QuickstartArgs) -> Result<Monitor, Failure> {
    let asn = Asn::new(MONITOR_ASN).unwrap_or(Asn::TRANS);
    let doing = format!(
        "cannot start the route monitor on {} (another port: --monitor)",
        args.monitor
    );
    Monitor::bind(args.monitor, asn, MONITOR_ID).map_err(|error| Failure::runtime(&doing, &error))
}
