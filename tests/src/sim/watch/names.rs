//! What clients are told, against the snapshot.

use std::net::{IpAddr, Ipv4Addr};

use rand::rngs::StdRng;
use steer_dns::{Asked, Sent, Tables};
use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{AllDown, Steer};

use super::{Broken, Rule};

/// Clients that ask.
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(203, 0, 113, 99)];

/// Asks for every name.
///
/// # Errors
/// Somebody is sent where the snapshot does not have it.
pub fn check(tables: &Tables, snapshot: &Snapshot, random: &mut StdRng) -> Result<(), Broken> {
    if tables.snapshot_number() != snapshot.number {
        return Err(Rule::Names.broken(format!(
            "answers come from snapshot {}, and {} was published",
            tables.snapshot_number(),
            snapshot.number
        )));
    }
    for steer in &snapshot.fleet.steers {
        for client in CLIENTS {
            let sent = tables.send(client.into(), &steer.name, Asked::A, random);
            judge(snapshot, steer, &sent)?;
        }
    }
    Ok(())
}

/// Nobody is sent to what is out or drained while something of the pool is not lost; where all is lost the rule of the
/// name decides.
fn judge(snapshot: &Snapshot, steer: &Steer, sent: &Sent) -> Result<(), Broken> {
    let members = snapshot.fleet.members(steer.pool);
    let is_lost = |id: &&_| {
        let state = snapshot.endpoint(**id);
        state.verdict == Verdict::Down || state.service == Service::Drained
    };
    let all_lost = members.iter().filter(is_lost).count() == members.len();
    let serves = |address: &IpAddr| {
        let here = |id: &&_| snapshot.fleet.endpoint(**id).address.ip() == *address;
        let found = members.iter().find(here);
        found.map(|id| snapshot.endpoint(*id).service.takes_new_clients())
    };
    // What is unknown and out was down once: it is neither lost nor in service.
    let any_serves = members
        .iter()
        .any(|id| snapshot.endpoint(*id).service.takes_new_clients());
    let is_right = match (sent, all_lost || !any_serves, steer.if_all_down) {
        (Sent::To(address), false, _) => serves(address) == Some(true),
        (Sent::To(address), true, AllDown::ServeAll | AllDown::ServeLastGood) => serves(address).is_some(),
        (Sent::Nowhere, true, AllDown::Nodata) | (Sent::Failed, true, AllDown::Servfail) => true,
        (Sent::To(_), true, AllDown::Nodata | AllDown::Servfail | AllDown::Pool(_)) => false,
        (Sent::On(_) | Sent::Told(_) | Sent::Refused | Sent::Nowhere | Sent::Failed, _, _) => false,
    };
    if is_right {
        return Ok(());
    }
    let states = members.iter().map(|id| {
        let state = snapshot.endpoint(*id);
        format!(
            "{} {} {}",
            snapshot.fleet.endpoint(*id).address,
            state.verdict.as_str(),
            state.service.as_str()
        )
    });
    Err(Rule::Names.broken(format!(
        "{} ({:?}) sends a client {sent:?}: {}",
        steer.name,
        steer.if_all_down,
        states.collect::<Vec<_>>().join(", ")
    )))
}
