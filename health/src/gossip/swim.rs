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

mod awareness;
mod probe;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{
    Codec, Config, Foca, Message, NoCustomBroadcast, Notification, PeriodicParams, Runtime, State, Timer,
};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom, SliceRandom};
use serde::Serialize;

use super::member::{self, Instance, Octets, filter};
use super::moment::Moment;
use super::seal::Dropped;
use super::site::{Roster, SiteName};
use awareness::{Awareness, Sign};
use probe::Probe;
use timers::Timers;

pub use awareness::WORST;

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

/// Woken so much later than we wanted, we were not let run.
pub const LATE: Duration = Duration::from_millis(250);

/// Members in one item of a stream.
const MEMBERS_AT_ONCE: usize = 512;

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
    timers: Timers,
    probe: Probe,
    health: Awareness,
    /// Our start and incarnation: raised when we had to say that we are alive.
    refutations: (u64, u16),
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
    /// Of packets that were sent: to whom, what it is, and the header alone.
    headers: Vec<(Instance, Message<Instance>, Vec<u8>)>,
    /// Our start and incarnation in the last of them.
    own: Option<(u64, u16)>,
    timers: Vec<(Timer<Instance>, Duration)>,
    notes: Vec<(SiteName, MemberEvent)>,
    /// We had to begin anew, since we were held for gone.
    begun_anew: bool,
}

impl Runtime<Instance> for &mut Outbox {
    fn notify(&mut self, notification: Notification<'_, Instance>) {
        match notification {
            Notification::MemberUp(member) => self.notes.push((member.site, MemberEvent::Up)),
            Notification::MemberDown(member) => self.notes.push((member.site, MemberEvent::Down)),
            Notification::Rename(_, member) => self.notes.push((member.site, MemberEvent::Rejoined)),
            Notification::Rejoin(_) => self.begun_anew = true,
            // Ours to know and nobody's to act upon: whether anybody is there is seen from the members.
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Instance, data: &[u8]) {
        let mut rest = data;
        // Our own, just written.
        if let Ok(header) = Octets.decode_header(&mut rest) {
            let head = data[..data.len() - rest.len()].to_vec();
            self.own = Some((header.src.start, header.src_incarnation));
            self.headers.push((to, header.message, head));
        }
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
            timers: Timers::default(),
            probe: Probe::default(),
            health: Awareness::default(),
            refutations: (me.start, 0),
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
        if self.probe.on_heard(sender, &known.message) {
            self.health.note(Sign::Answered);
        }
        let taken = self.foca.handle_data(&known.octets, &mut self.out);
        self.outbid(known.own_start, when.now);
        self.settle(when);
        taken.map_err(|_| Dropped::Malformed)
    }

    /// Somebody knows of a start of ours that is later than this one: our clock went back. Begins after it.
    fn outbid(&mut self, known: Option<u64>, now: Instant) {
        let me = *self.me();
        let Some(later) = known.filter(|start| *start > me.start && self.next_outbid <= now) else {
            return;
        };
        self.next_outbid = now + OUTBID_EVERY;
        let start = later.saturating_add(1);
        tracing::info!(site = %me.site, start, "others know a later start of this site: beginning after it");
        self.tolerate(|foca, out| foca.change_identity(Instance { start, ..me }, out));
        self.out.begun_anew = true;
    }

    /// When to call [`Membership::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let others = [self.timers.next(), self.probe.next()];
        others.into_iter().flatten().fold(self.next_join, Instant::min)
    }

    /// The time came. What came from the network before must have been handed over, above all after we were not let run.
    pub fn on_deadline(&mut self, when: Moment) {
        if self.left {
            return;
        }
        self.notice_stall(when.now);
        while let Some(timer) = self.timers.pop_due(when.now) {
            let is_end = matches!(timer, Timer::ProbeRandomMember(_));
            let unanswered = is_end.then(|| self.probe.end()).flatten();
            self.tolerate(|foca, out| foca.handle_timer(timer, out));
            self.settle(when);
            // Counted afterwards: the first probe that fails says nothing of us.
            if unanswered.is_some_and(|target| self.is_up(target)) {
                self.health.note(Sign::Unanswered);
            }
        }
        self.out.sends.append(&mut self.probe.again(when.now));
        if self.next_join <= when.now {
            self.seek();
            let alone = self.foca.num_members() == 0;
            self.next_join = when.now + if alone { JOIN_EVERY } else { SEEK_EVERY };
            self.settle(when);
        }
    }

    /// We are later than we wanted: the others had no time to answer, since we were not there to hear it.
    fn notice_stall(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next_deadline());
        if late >= LATE && self.foca.num_members() > 0 && !self.health.is_ignored() {
            self.health.note(Sign::Late);
            self.timers.put_off(late + LATE);
            self.probe.put_off(late + LATE);
        }
    }

    /// Judges as if we were always well, to see what knowing it is good for.
    pub fn ignore_own_health(&mut self) {
        self.health = Awareness::ignored();
    }

    /// How well we are, from 0 to [`WORST`]: see `awareness`.
    #[must_use]
    pub fn health(&self) -> u8 {
        self.health.score()
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

    /// What is believed of one that is suspected or held for gone, for itself, who alone can say otherwise. One that is
    /// gone may have started again with a clock that went back: it must hear after which start to begin.
    #[must_use]
    pub fn suspicion(&self, of: SiteName) -> Option<Vec<u8>> {
        let mut members = self.foca.iter_membership_state();
        let doubted = members.find(|member| member.id().site == of && member.state() != State::Alive)?;
        Some(member::write([doubted], usize::MAX))
    }

    /// Whether we had to begin anew since the last call of this: the others held us for gone, and what they told each other
    /// meanwhile they will not tell again.
    pub fn take_begun_anew(&mut self) -> bool {
        std::mem::take(&mut self.out.begun_anew)
    }

    /// What is believed of all members, for who has just come, in parts.
    #[must_use]
    pub fn all(&self) -> Vec<Vec<u8>> {
        let members: Vec<_> = self.foca.iter_membership_state().collect();
        let parts = members.chunks(MEMBERS_AT_ONCE);
        parts
            .map(|part| member::write(part.iter().copied(), usize::MAX))
            .collect()
    }

    /// Whether anything was heard of each site of the fleet, be it that it is gone.
    #[must_use]
    pub fn knows_all(&self) -> bool {
        let known = self.foca.iter_membership_state();
        let known: BTreeSet<_> = known.map(|member| member.id().site).collect();
        let me = self.me().site;
        self.roster
            .iter()
            .all(|(site, _)| site == me || known.contains(&site))
    }

    /// Somebody told what [`Membership::all`] told them; no news for anybody else.
    ///
    /// # Errors
    /// It breaks the format; nothing of it was used.
    pub fn on_all(&mut self, octets: &[u8], when: Moment) -> Result<(), Dropped> {
        self.on_told(octets, false, when)
    }

    /// Somebody told what [`Membership::absent`] or [`Membership::suspicion`] told them.
    ///
    /// # Errors
    /// It breaks the format; nothing of it was used.
    pub fn on_absent(&mut self, octets: &[u8], when: Moment) -> Result<(), Dropped> {
        self.on_told(octets, true, when)
    }

    fn on_told(&mut self, octets: &[u8], is_news: bool, when: Moment) -> Result<(), Dropped> {
        let mut members = member::read(octets, &self.roster)?;
        if !is_news {
            // A doubt of somebody else that is no news would ripen here without anybody to answer it.
            members.retain(|member| member.state() != State::Suspect);
        }
        if !self.left {
            let me = self.me().site;
            let of_us = members.iter().map(foca::Member::id).filter(|id| id.site == me);
            self.outbid(of_us.map(|id| id.start).max(), when.now);
            self.tolerate(|foca, out| foca.apply_many(members.into_iter(), is_news, out));
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
        for (to, message, head) in std::mem::take(&mut self.out.headers) {
            self.probe.on_sent(&message, (to, head), when.now, self.health);
        }
        for (timer, after) in std::mem::take(&mut self.out.timers) {
            self.timers.set(timer, after, when.now, self.health);
        }
        if let Some(own) = self.out.own.take()
            && own > self.refutations
        {
            self.refutations = own;
            self.health.note(Sign::Refuted);
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
