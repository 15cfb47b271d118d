//! Datagrams and streams between sites.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::SignedDuration;
use rand::RngExt;
use rand::rngs::StdRng;
use steer_health::gossip::core::Arrival;
use steer_health::gossip::{Action, SiteName};

use super::{Event, Site, World};
use crate::sim::network::Traffic;

impl World {
    pub(super) fn act(&mut self, site: usize, action: Action) {
        match action {
            Action::Send { to, octets } => self.send(site, to, &octets),
            Action::Sync { at, .. } => self.open_stream(site, at),
            Action::Member(member, event) => {
                let name = self.sites[site].name;
                self.say(format_args!("{name} takes {member} for {event:?}"));
            }
            Action::Changed(_) => {}
        }
    }

    pub(super) fn send(&mut self, from: usize, to: SocketAddr, octets: &[u8]) {
        let Some(to) = self.by_address.get(&to).copied() else {
            return; // a damaged address would lead nowhere
        };
        self.counts.datagrams += 1;
        let random = &mut self.random;
        let twice = self.network.befalls(from, to, |link| link.twice, random);
        for _ in 0..=usize::from(twice) {
            let random = &mut self.random;
            let Some(delay) = self.network.arrives(from, to, Traffic::Gossip, random) else {
                continue;
            };
            let mut octets = octets.to_vec();
            if self.network.befalls(from, to, |link| link.damage, random) {
                damage(&mut octets, random);
            }
            let came = self.now + delay;
            self.push(came, Event::Datagram { to, octets, came });
        }
    }

    pub(super) fn datagram(&mut self, to: usize, octets: &[u8], came: Duration) {
        let when = self.moment(to);
        let Some(process) = &mut self.sites[to].process else {
            return;
        };
        let arrival = Arrival {
            from: None,
            waited: self.now - came,
        };
        if let Err(cause) = process.council.gossip.on_datagram_from(arrival, octets, when) {
            *self.counts.dropped.entry(cause.label()).or_default() += 1;
        }
        self.trace.note((self.now, to, octets.len()));
        self.turn(to);
    }

    pub(super) fn open_stream(&mut self, client: usize, at: SocketAddr) {
        let server = self.by_address.get(&at).copied();
        let way = server.and_then(|server| {
            self.network
                .arrives(client, server, Traffic::Gossip, &mut self.random)
        });
        let Some(process) = self.sites[client]
            .process
            .as_mut()
            .filter(|process| !process.streams)
        else {
            return;
        };
        process.streams = true;
        let incarnation = process.incarnation;
        match server.zip(way) {
            Some((server, way)) => self.push(
                self.now + way * 4,
                Event::Stream {
                    client,
                    incarnation,
                    server,
                },
            ),
            None => self.push(
                self.now + Duration::from_secs(5),
                Event::StreamOver { client, incarnation },
            ),
        }
    }

    /// Request and answer at one moment.
    pub(super) fn stream(&mut self, client: usize, incarnation: u64, server: usize) {
        let (at_client, at_server) = (self.moment(client), self.moment(server));
        let with = SiteName::new(self.sites[server].name);
        let is_cut = self.network.is_cut(client, server, Traffic::Gossip)
            || self.network.is_cut(server, client, Traffic::Gossip)
            || self.sites[server].paused;
        let Some(process) = self.process(client, incarnation) else {
            return;
        };
        process.streams = false;
        let Some(with) = with.filter(|_| !is_cut) else {
            return;
        };
        let (session, request) = process.council.gossip.sync_request(with, at_client);
        let frames = match &mut self.sites[server].process {
            Some(process) => process
                .council
                .gossip
                .sync_answer(&request, at_server)
                .unwrap_or_default(),
            None => return,
        };
        for frame in frames {
            let Some(process) = self.process(client, incarnation) else {
                return;
            };
            if process
                .council
                .gossip
                .sync_apply(session, &frame, at_client)
                .unwrap_or(true)
            {
                break;
            }
        }
        self.turn(client);
    }

    /// Takes down who could hear whom from now on.
    pub(in crate::sim) fn refresh_paths(&mut self) {
        let count = self.sites.len();
        let awake = |site: &Site| site.process.is_some() && !site.paused;
        for number in 0..count {
            self.records.awake[number] = awake(&self.sites[number]);
        }
        for a in 0..count {
            for b in 0..count {
                let apart = (self.sites[a].skew - self.sites[b].skew).abs();
                let is_clean = awake(&self.sites[a])
                    && awake(&self.sites[b])
                    && apart < SignedDuration::from_secs(30)
                    && self.network.is_clean(a, b);
                let since = &mut self.records.clean_since[a][b];
                *since = if is_clean { since.or(Some(self.now)) } else { None };
            }
        }
    }
}

/// An octet is another, or the end is missing.
fn damage(octets: &mut Vec<u8>, random: &mut StdRng) {
    if octets.is_empty() || random.random_bool(0.2) {
        octets.truncate(random.random_range(0..=octets.len()));
        return;
    }
    let place = random.random_range(0..octets.len());
    octets[place] ^= random.random_range(1..=255_u8);
}
