//! Two BFD sessions that talk to each other, at random from a seed, into a capture file.

use std::net::Ipv4Addr;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use steer_anycast::bfd::wire::{SINGLE_HOP_PORT, decode};
use steer_anycast::bfd::{Auth, Config, Intervals, Output, PathState, Role, Session};
use steer_topology::BfdAuthKind;

use super::pcap::Capture;

/// What was said.
pub(crate) struct Record {
    pub(crate) capture: Capture,
    pub(crate) packets: usize,
    /// Times that a session came up.
    pub(crate) ups: usize,
}

/// Two ends under one key, or none, through losses, wishes of operators and other intervals.
pub(crate) fn conversation(seed: u64) -> Record {
    let mut rng = StdRng::seed_from_u64(seed);
    let kinds = [
        None,
        Some(BfdAuthKind::KeyedSha1),
        Some(BfdAuthKind::MeticulousKeyedSha1),
    ];
    let auth = kinds
        .choose(&mut rng)
        .expect("three")
        .map(|kind| Auth::new(kind, 3, b"key").expect("a key"));
    let start = Instant::now();
    let mut now = start;
    let mut ends = [Role::Active, Role::Passive].map(|role| {
        let config = Config {
            intervals: any_intervals(&mut rng),
            multiplier: NonZeroU8::new(rng.random_range(1..6)).expect("not 0"),
            role,
            auth: auth.clone(),
        };
        let discriminator = NonZeroU32::new(rng.random_range(1..=u32::MAX)).expect("not 0");
        Session::new(config, discriminator, rng.random(), now)
    });
    let mut record = Record {
        capture: Capture::new(),
        packets: 0,
        ups: 0,
    };
    for _ in 0..400 {
        let due = ends
            .iter()
            .filter_map(|end| end.next_deadline(now))
            .min()
            .expect("an active end always sends");
        now = now.max(due);
        for end in &mut ends {
            end.on_deadline(now, now);
        }
        wish(&mut rng, &mut ends, now);
        exchange(&mut rng, &mut ends, now, now - start, &mut record);
    }
    record
}

fn wish(rng: &mut StdRng, ends: &mut [Session; 2], now: Instant) {
    let end = &mut ends[rng.random_range(0..2)];
    match rng.random_range(0..60) {
        0 => end.disable(now),
        1..4 => end.enable(now),
        4 => end.set_intervals(any_intervals(rng), now),
        _ => {}
    }
}

/// Until both have nothing to say; one packet in ten is lost.
fn exchange(rng: &mut StdRng, ends: &mut [Session; 2], now: Instant, since: Duration, record: &mut Record) {
    const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    loop {
        let mut said = false;
        for from in 0..2 {
            while let Some(output) = ends[from].poll_output() {
                said = true;
                match output {
                    Output::Path(path) => record.ups += usize::from(path == PathState::Up),
                    Output::Send(octets) => {
                        record.packets += 1;
                        let (source, target) = (ADDRESSES[from], ADDRESSES[1 - from]);
                        record
                            .capture
                            .datagram(since, (source, 49_152), (target, SINGLE_HOP_PORT), &octets);
                        let received = decode(&octets).expect("a valid packet");
                        if rng.random_bool(0.9) {
                            // What an end refuses is its business; tshark sees all.
                            let _ = ends[1 - from].receive(&received, now, now);
                        }
                    }
                }
            }
        }
        if !said {
            return;
        }
    }
}

fn any_intervals(rng: &mut StdRng) -> Intervals {
    Intervals::both(Duration::from_millis(
        *[10, 50, 300, 2_000].choose(rng).expect("four"),
    ))
}
