//! Who is there: SWIM (Das, Gupta, Motivala 2002) as the crate `foca` has it, in a runtime without sockets and clocks.
//!
//! ```text
//! seeds ─► join ─► up ──── no answer, direct nor through three others ────► suspect ── time ──► down
//!                   ▲                                                          │                 │
//!                   └───────────────── it says otherwise ◄─────────────────────┘                 │
//!                   └───────────────── it begins anew, with a later start ◄──────────────────────┘
//! ```
//!
//! The seeds are the other sites of the fleet. Whoever is not there is asked again and again, so that two halves of a
//! broken network find each other without anybody's help.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{Config, Foca, NoCustomBroadcast, Notification, PeriodicParams, Runtime, State, Timer};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use serde::Serialize;

use super::member::{self, Instance, Octets, filter};
use super::moment::Moment;
use super::seal::Dropped;
use super::site::{Roster, SiteName};

/// Between two probes. Within it an answer must come, direct or through others.
pub const PROBE_EVERY: Duration = Duration::from_millis(1500);

/// How long a direct answer may take. Longer than any round trip on Earth.
pub const PROBE_RTT: Duration = Duration::from_millis(500);

/// How long a suspect of a fleet of up to ten sites has to speak up; times log10 of their number for more.
pub const SUSPECT_FOR: Duration = Duration::from_secs(4);

/// Through how many others a member that does not answer is asked, and how many are told news at once.
pub const FAN_OUT: usize = 3;

/// Between two attempts to find anybody.
const JOIN_EVERY: Duration = Duration::from_secs(2);

/// Between two attempts to find one that is not there.
const SEEK_EVERY: Duration = Duration::from_secs(5);

/// Between two changes of our own start because somebody knows a later one.
const OUTBID_EVERY: Duration = Duration::from_secs(1);

/// Longest packet of SWIM alone; what is left of a datagram is for observations.
const SWIM_MAX: usize = 800;

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberEvent {
    /// It is there.
    Up,
    /// It has left, or nobody reaches it.
    Down,
    /// It started again, and nobody had missed it.
    Rejoined,
}

/// What is believed of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// This site itself.
    Own,
    /// It is there.
    Up,
    /// It does not answer, and may still say otherwise.
    Suspect,
    /// It left, or is unreachable for all.
    Down,
    /// It was never heard of.
    Absent,
}

/// A site in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Which.
    pub site: SiteName,
    /// Where it hears.
    pub address: std::net::SocketAddr,
    /// What is believed of it.
    pub state: MemberState,
    /// Since when it is there or not; a suspect is still there.
    pub since: Option<Timestamp>,
}

/// Membership of one site. Sans-IO.
pub struct Membership {
    foca: Foca<Instance, Octets, StdRng, NoCustomBroadcast>,
    out: Outbox,
    timers: BinaryHeap<Reverse<(Instant, Timer<Instance>, u64)>>,
    set: u64,
    roster: Roster,
    members: BTreeMap<SiteName, Seen>,
    random: StdRng,
    next_join: Instant,
    next_outbid: Instant,
    left: bool,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    is_up: bool,
    since: Timestamp,
}

/// What foca wants done.
#[derive(Debug, Default)]
struct Outbox {
    sends: Vec<(Instance, Vec<u8>)>,
    timers: Vec<(Timer<Instance>, Duration)>,
    notes: Vec<(SiteName, MemberEvent)>,
}

impl Runtime<Instance> for &mut Outbox {
    fn notify(&mut self, notification: Notification<'_, Instance>) {
        match notification {
            Notification::MemberUp(member) => self.notes.push((member.site, MemberEvent::Up)),
            Notification::MemberDown(member) => self.notes.push((member.site, MemberEvent::Down)),
            Notification::Rename(_, member) => self.notes.push((member.site, MemberEvent::Rejoined)),
            // Ours to know and nobody's to act upon: whether anybody is there is seen from the members.
            Notification::Active | Notification::Idle | Notification::Defunct | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Instance, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Instance>, after: Duration) {
        self.timers.push((event, after));
    }
}

impl Membership {
    /// Membership of `me` in the sites of `roster`; the first attempt to join is due at once.
    #[must_use]
    pub fn new(me: Instance, roster: Roster, random: [StdRng; 2], now: Instant) -> Self {
        let [for_foca, random] = random;
        Self {
            foca: Foca::new(me, config(roster.len()), for_foca, Octets),
            out: Outbox::default(),
            timers: BinaryHeap::new(),
            set: 0,
            roster,
            members: BTreeMap::new(),
            random,
            next_join: now,
            next_outbid: now,
            left: false,
        }
    }

    /// Ourselves.
    #[must_use]
    pub fn me(&self) -> &Instance {
        self.foca.identity()
    }

    /// A packet of SWIM came from `sender`, whoever that is known to be.
    ///
    /// # Errors
    /// Why nothing of it was used.
    pub fn on_packet(&mut self, packet: &[u8], sender: SiteName, when: Moment) -> Result<(), Dropped> {
        if self.left {
            return Ok(());
        }
        let me = *self.me();
        let known = filter(packet, sender, me.site, &self.roster)?;
        let taken = self.foca.handle_data(&known.octets, &mut self.out);
        if known.own_start > Some(me.start) && self.next_outbid <= when.now {
            self.next_outbid = when.now + OUTBID_EVERY;
            let start = known.own_start.unwrap_or_default().saturating_add(1);
            tracing::info!(site = %me.site, start, "others know a later start of this site: beginning after it");
            self.tolerate(|foca, out| foca.change_identity(Instance { start, ..me }, out));
        }
        self.settle(when);
        taken.map_err(|_| Dropped::Malformed)
    }

    /// When to call [`Membership::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        timer.map_or(self.next_join, |at| at.min(self.next_join))
    }

    /// The time came.
    pub fn on_deadline(&mut self, when: Moment) {
        if self.left {
            return;
        }
        while let Some(Reverse((_, timer, _))) = self.timers.pop_if_due(when.now) {
            self.tolerate(|foca, out| foca.handle_timer(timer, out));
            self.settle(when);
        }
        if self.next_join <= when.now {
            self.seek();
            let alone = self.foca.num_members() == 0;
            self.next_join = when.now + if alone { JOIN_EVERY } else { SEEK_EVERY };
            self.settle(when);
        }
    }

    /// Asks some of those who are not there: all at random where nobody is, one where somebody is.
    fn seek(&mut self) {
        let count = if self.foca.num_members() == 0 { FAN_OUT } else { 1 };
        let me = self.me().site;
        let absent = |site: SiteName| site != me && !self.members.get(&site).is_some_and(|seen| seen.is_up);
        let absent = self.roster.iter().filter(|(site, _)| absent(*site));
        for (site, address) in absent.sample(&mut self.random, count) {
            let start = 0; // whichever it is
            self.tolerate(|foca, out| foca.announce(Instance { site, start, address }, out));
        }
    }

    /// What is believed of members that are not simply there, in so many octets: SWIM tells it only so often, and who has
    /// missed it would find out by itself alone. Empty: all are there.
    #[must_use]
    pub fn absent(&mut self, room: usize) -> Vec<u8> {
        let not_alive = |member: &&foca::Member<Instance>| member.state() != State::Alive;
        let mut absent: Vec<_> = self.foca.iter_membership_state().filter(not_alive).collect();
        absent.shuffle(&mut self.random);
        member::write(absent, room)
    }

    /// What is believed of one that is suspected, for itself, who alone can say otherwise.
    #[must_use]
    pub fn suspicion(&self, of: SiteName) -> Option<Vec<u8>> {
        let mut members = self.foca.iter_members();
        let suspect = members.find(|member| member.id().site == of && member.state() == State::Suspect)?;
        Some(member::write([suspect], usize::MAX))
    }

    /// Somebody told what [`Membership::absent`] or [`Membership::suspicion`] told them.
    ///
    /// # Errors
    /// It breaks the format; nothing of it was used.
    pub fn on_absent(&mut self, octets: &[u8], when: Moment) -> Result<(), Dropped> {
        let members = member::read(octets, &self.roster)?;
        if !self.left {
            self.tolerate(|foca, out| foca.apply_many(members.into_iter(), true, out));
            self.settle(when);
        }
        Ok(())
    }

    /// Leaves: tells some that we are gone on purpose, and is silent from now on.
    pub fn leave(&mut self, when: Moment) {
        self.tolerate(|foca, out| foca.leave_cluster(out));
        self.settle(when);
        self.left = true;
    }

    /// Goes on with another list of sites. One that is not named any more is down.
    pub fn set_roster(&mut self, roster: Roster, when: Moment) {
        self.roster = roster;
        let gone = self.foca.iter_members().map(|member| *member.id());
        let gone: Vec<_> = gone
            .filter(|id| !self.roster.has(id.site))
            .map(foca::Member::down)
            .collect();
        self.tolerate(|foca, out| foca.apply_many(gone.into_iter(), false, out));
        let config = config(self.roster.len());
        self.tolerate(|foca, _| foca.set_config(config));
        self.settle(when);
        self.members.retain(|site, _| self.roster.has(*site));
    }

    /// The list of sites.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether a member is there; ourselves always.
    #[must_use]
    pub fn is_up(&self, site: SiteName) -> bool {
        site == self.me().site || self.members.get(&site).is_some_and(|seen| seen.is_up)
    }

    /// The others that are there.
    pub fn others(&self) -> impl Iterator<Item = &Instance> {
        self.foca.iter_members().map(foca::Member::id)
    }

    /// Some of the others that are there, at random.
    pub fn some_others(&mut self, count: usize) -> Vec<Instance> {
        let others = self.foca.iter_members().map(|member| *member.id());
        others.sample(&mut self.random, count)
    }

    /// The whole roster, for the status.
    #[must_use]
    pub fn view(&self) -> Vec<MemberView> {
        let suspects = self
            .foca
            .iter_members()
            .filter(|member| member.state() == State::Suspect);
        let suspects: Vec<_> = suspects.map(|member| member.id().site).collect();
        let view = |(site, address)| {
            let seen = self.members.get(&site);
            let state = match seen {
                _ if site == self.me().site => MemberState::Own,
                Some(seen) if seen.is_up && suspects.contains(&site) => MemberState::Suspect,
                Some(seen) if seen.is_up => MemberState::Up,
                Some(_) => MemberState::Down,
                None => MemberState::Absent,
            };
            let since = seen.map(|seen| seen.since);
            MemberView {
                site,
                address,
                state,
                since,
            }
        };
        self.roster.iter().map(view).collect()
    }

    /// What is to be sent, to whom.
    pub fn take_sends(&mut self) -> Vec<(Instance, Vec<u8>)> {
        std::mem::take(&mut self.out.sends)
    }

    /// What became of members.
    pub fn take_events(&mut self) -> Vec<(SiteName, MemberEvent)> {
        std::mem::take(&mut self.out.notes)
    }

    /// Errors of foca that come of our own doing (a late timer) change nothing.
    fn tolerate(
        &mut self,
        act: impl FnOnce(
            &mut Foca<Instance, Octets, StdRng, NoCustomBroadcast>,
            &mut Outbox,
        ) -> Result<(), foca::Error>,
    ) {
        if let Err(error) = act(&mut self.foca, &mut self.out) {
            tracing::debug!(%error, "gossip");
        }
    }

    /// Puts the timers in line and the members' states down.
    fn settle(&mut self, when: Moment) {
        for (timer, after) in std::mem::take(&mut self.out.timers) {
            self.set += 1;
            self.timers.push(Reverse((when.now + after, timer, self.set)));
        }
        for (site, event) in &self.out.notes {
            let is_up = match event {
                MemberEvent::Up => true,
                MemberEvent::Down => false,
                MemberEvent::Rejoined => continue,
            };
            let seen = self.members.entry(*site).or_insert(Seen {
                is_up: !is_up,
                since: when.at,
            });
            if seen.is_up != is_up {
                *seen = Seen {
                    is_up,
                    since: when.at,
                };
            }
        }
    }
}

trait PopIfDue {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<(Instant, Timer<Instance>, u64)>>;
}

impl PopIfDue for BinaryHeap<Reverse<(Instant, Timer<Instance>, u64)>> {
    fn pop_if_due(&mut self, now: Instant) -> Option<Reverse<(Instant, Timer<Instance>, u64)>> {
        let Reverse((at, ..)) = self.peek()?;
        if *at <= now { self.pop() } else { None }
    }
}

/// How often each who hears news of a member passes it on, in a fleet of so many sites.
fn times(sites: usize) -> u8 {
    4 + sites.max(1).ilog2() as u8
}

fn config(sites: usize) -> Config {
    let some = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let params = |every_ms, num_members| PeriodicParams {
        frequency: Duration::from_millis(every_ms),
        num_members: some(num_members),
    };
    let size = (sites.max(10) as f64).log10();
    Config {
        probe_period: PROBE_EVERY,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: some(FAN_OUT),
        max_transmissions: NonZeroU8::new(times(sites)).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: SUSPECT_FOR.mul_f64(size),
        // A site that comes back has a later start, and there are no more sites than the file names.
        remove_down_after: None,
        max_packet_size: some(SWIM_MAX),
        notify_down_members: true,
        periodic_announce: Some(params(30_000, 1)),
        periodic_announce_to_down_members: None, // `seek` does it, and for those never heard of too
        periodic_gossip: Some(params(200, FAN_OUT)),
    }
}

#[cfg(test)]
mod tests;
