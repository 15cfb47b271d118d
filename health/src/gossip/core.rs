//! One site's end of the gossip: membership, envelope, observations, in one machine without sockets and clocks.
//!
//! ```text
//! datagram ─► open ─► SWIM ─────► members up, down
//!               │       └───────► packets ──┐
//!               └──► items ─► merge ─► news ┴─► seal ─► datagrams to some
//!                      │ changes missing ─► pull ─► one packet, or a stream where there is more
//! ```

mod sync;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::keys::Keys;
use super::member::Instance;
use super::moment::Moment;
use super::observation::Key;
use super::seal::{DATAGRAM_MAX, Dropped, Kind, OVERHEAD, Opener, Sealer, Source};
use super::site::{Roster, SiteName};
use super::spread::{Backlog, News, Told};
use super::standing::Standing;
use super::store::{Merged, Store, beat_every};
use super::swim::{FAN_OUT, MemberEvent, MemberView, Membership};
use super::wire::{self, Delta, Item, Pull};
use crate::snapshot::Verdict;

/// Between two rounds in which some others are told news of endpoints.
const SPREAD_EVERY: Duration = Duration::from_millis(50);

/// The same where there are only beats to tell.
const BEATS_EVERY: Duration = Duration::from_millis(500);

/// Packets of news to each of some others at once, at most.
const BURST: usize = 4;

/// Between two looks for missing changes. What is missing at two looks is asked for.
const REPAIR_EVERY: Duration = Duration::from_secs(1);

/// Between two times that we tell some other who is not there.
const ABSENT_EVERY: Duration = Duration::from_secs(3);

/// Pulls in one packet.
const PULLS_MAX: usize = 40;

/// Packets that answer one packet of pulls.
const ANSWERS_MAX: usize = 4;

/// Datagrams that come of one that a member sent, at most: [`ANSWERS_MAX`], an acknowledgement, and twice [`FAN_OUT`] where
/// it has us say that we are alive. Nothing at all comes of one that is dropped.
pub const ANSWER_DATAGRAMS_MAX: usize = ANSWERS_MAX + 1 + 2 * FAN_OUT;

/// Between two streams that we ask for.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// Octets in a datagram for us.
const ROOM: usize = DATAGRAM_MAX - OVERHEAD - 2;

/// Hearing nobody at all for so long, we know nothing of what the others say now.
const SILENCE: Duration = Duration::from_secs(20);

/// To how many rounds of others each passes on a beat. In the mean each is then heard by all but one of four hundred, and
/// words stay good until four are missed.
const BEAT_ROUNDS: u8 = 2;

/// To how many rounds of others each who hears news passes it on, in a fleet of so many sites: enough that at 30 % loss
/// hardly anybody is left out, and those few ask.
fn rounds(sites: usize) -> u8 {
    3 + sites.max(1).ilog2() as u8 / 2
}

pub use sync::SYNC_FRAMES_MAX;

use sync::Asking;

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// To where.
        to: SocketAddr,
        /// What.
        octets: Vec<u8>,
    },
    /// Open a stream, send [`Gossip::sync_request`] and hand what comes to [`Gossip::sync_apply`].
    Sync {
        /// With whom.
        with: SiteName,
        /// Where that is.
        at: SocketAddr,
    },
    /// Something became of a member.
    Member(SiteName, MemberEvent),
    /// Others say something else of these endpoints.
    Changed(Vec<Key>),
}

/// How a datagram came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival {
    /// From where; `None` where nobody bounds what a source may cost.
    pub from: Option<IpAddr>,
    /// How long it lay in the socket, before we were let run: what it says is that much older.
    pub waited: Duration,
}

/// The gossip of one site. Sans-IO: give it time and datagrams, do what [`Gossip::poll_action`] says.
pub struct Gossip {
    me: SiteName,
    keys: Keys,
    sealer: Sealer,
    opener: Opener,
    members: Membership,
    store: Store,
    backlog: Backlog,
    random: StdRng,
    actions: VecDeque<Action>,
    next_beat: Instant,
    next_spread: Option<Instant>,
    next_repair: Instant,
    next_sync: Instant,
    /// When the newest stream of ours was asked for.
    sync_asked: Instant,
    next_absent: Instant,
    /// How far each origin was known at the last look, where something was missing.
    lacking: BTreeMap<SiteName, u64>,
    last_heard: Instant,
    asking: Asking,
    refused: u64,
    sent: Sent,
    left: bool,
}

/// Octets of datagrams that were sent, envelopes included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// For SWIM: who is there.
    pub members: u64,
    /// For observations: beats, words, and asking for what is missing.
    pub words: u64,
}

impl Sent {
    /// An envelope goes to what made it necessary.
    fn count(&mut self, octets: usize, swim: &[u8], items: &[Item]) {
        let of_words = |item: &&Item| !matches!(item, Item::Members(_));
        let words: usize = items.iter().filter(of_words).map(Item::length).sum();
        let has_members = !swim.is_empty() || items.iter().any(|item| matches!(item, Item::Members(_)));
        let words = if has_members { words } else { octets };
        self.words += words as u64;
        self.members += (octets - words) as u64;
    }
}

/// Who we are.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// Our site.
    pub site: SiteName,
    /// Where we hear, as the others see it.
    pub address: SocketAddr,
}

impl Gossip {
    /// Starts; the first attempt to join is due at once. `seed` is 32 octets of chance, never used before.
    #[must_use]
    pub fn new(own: Own, roster: Roster, keys: Keys, seed: [u8; 32], when: Moment) -> Self {
        let mut random = StdRng::from_seed(seed);
        let start = u64::try_from(when.at.as_millisecond()).unwrap_or_default();
        let me = Instance {
            site: own.site,
            start,
            address: own.address,
        };
        let mut store = Store::new(own.site, start);
        store.set_sites(roster.len());
        let chances = [StdRng::from_rng(&mut random), StdRng::from_rng(&mut random)];
        Self {
            me: own.site,
            sealer: Sealer::new(own.site, &keys, random.random()),
            opener: Opener::new(own.site, keys.clone()),
            keys,
            members: Membership::new(me, roster, chances, when.now),
            store,
            backlog: Backlog::default(),
            random,
            actions: VecDeque::new(),
            next_beat: when.now,
            next_spread: None,
            next_repair: when.now + REPAIR_EVERY,
            next_sync: when.now,
            sync_asked: when.now,
            next_absent: when.now + ABSENT_EVERY,
            lacking: BTreeMap::new(),
            last_heard: when.now,
            asking: Asking::begin(when.now),
            refused: 0,
            sent: Sent::default(),
            left: false,
        }
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Gossip::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let own = [self.next_beat, self.next_repair, self.next_absent]
            .into_iter()
            .chain(self.next_spread);
        own.fold(self.members.next_deadline(), Instant::min)
    }

    /// The time came.
    pub fn on_deadline(&mut self, when: Moment) {
        if self.left {
            return;
        }
        self.members.on_deadline(when);
        self.follow_members(when);
        if self.next_beat <= when.now {
            // Sites that started together would beat together.
            let every = beat_every(self.members.roster().len());
            self.next_beat = when.now + every.mul_f64(self.random.random_range(0.6..1.0));
            self.add_news(News::Beat(self.me), when.now);
        }
        if self.next_spread.is_some_and(|at| at <= when.now) {
            self.spread(when);
        }
        if self.next_repair <= when.now {
            self.next_repair = when.now + REPAIR_EVERY;
            self.repair(when);
            // Nobody need come anew for us to ask: until somebody has told us everything, we ask on.
            if let Some(other) = self.members.some_others(1).pop() {
                self.want_sync_if_new(other.site, when.now);
            }
        }
        if self.next_absent <= when.now {
            self.next_absent = when.now + ABSENT_EVERY;
            self.tell_absent(when.at);
        }
    }

    fn tell_absent(&mut self, at: Timestamp) {
        let absent = self.members.absent(ROOM - 3);
        if absent.is_empty() {
            return;
        }
        for other in self.members.some_others(1) {
            self.send_items(other.site, vec![Item::Members(absent.clone())], at);
        }
    }

    /// Who says as of when our own words are; without, they are as of now.
    pub(crate) fn set_standing(&mut self, standing: Standing) {
        self.store.set_standing(standing);
    }

    /// We say something of an endpoint ourselves.
    pub fn observe(&mut self, key: Key, verdict: Verdict, reason: &str, since: Timestamp, now: Instant) {
        if self.store.observe(key, verdict, reason, since, now) {
            self.add_news(News::Word(self.me, key), now);
        }
    }

    /// A datagram came.
    ///
    /// # Errors
    /// Why it was dropped. Nobody is answered, and nothing of it was used, unless it came from a member that has our key and
    /// a part inside broke the format: then the other parts count.
    pub fn on_datagram(&mut self, octets: &[u8], when: Moment) -> Result<(), Dropped> {
        self.on_datagram_from(Arrival::default(), octets, when)
    }

    /// The same, with a bound on what one source may cost. At most [`ANSWER_DATAGRAMS_MAX`] datagrams come of one.
    ///
    /// # Errors
    /// As [`Gossip::on_datagram`].
    pub fn on_datagram_from(&mut self, arrival: Arrival, octets: &[u8], when: Moment) -> Result<(), Dropped> {
        let heard = when.now.checked_sub(arrival.waited).unwrap_or(when.now);
        if self.left {
            return Ok(());
        }
        let roster = self.members.roster();
        let source = arrival.from.map(|from| Source { from, now: when.now });
        let opened = self
            .opener
            .open_from(source, Kind::Datagram, roster, None, octets, when.at)?;
        self.last_heard = self.last_heard.max(heard);
        let (swim, items) = wire::decode(&opened.content)?;
        let taken = match swim {
            [] => Ok(()),
            swim => self.members.on_packet(swim, opened.sender, when),
        };
        let taken = self.on_items(opened.sender, items, heard, when).and(taken);
        self.follow_members(when);
        taken
    }

    /// `heard` is when the items came to this host, from where on they grow old.
    fn on_items(
        &mut self,
        sender: SiteName,
        items: Vec<Item>,
        heard: Instant,
        when: Moment,
    ) -> Result<(), Dropped> {
        let mut taken = Ok(());
        let mut changed = Vec::new();
        let mut answers = Vec::new();
        for item in items {
            match item {
                Item::Beat(beat) => {
                    if self.members.roster().has(beat.origin) && self.store.on_beat(&beat, heard) {
                        self.add_news(News::Beat(beat.origin), when.now);
                    } else if beat.origin == sender && answers.is_empty() {
                        answers.extend(self.store.correction(&beat).map(Item::Beat));
                    }
                }
                Item::Delta(delta) => changed.append(&mut self.merge(&delta, heard, when.now)),
                Item::Pull(pull) => {
                    if answers.len() < PULLS_MAX {
                        answers.extend(self.answer(&pull, when.now));
                    }
                }
                Item::More(_) => self.want_sync(sender, when.now),
                Item::End => {}
                Item::Members(octets) => taken = taken.and(self.members.on_absent(&octets, when)),
            }
        }
        if !answers.is_empty() {
            self.send_items(sender, answers, when.at);
        }
        if !changed.is_empty() {
            self.actions.push_back(Action::Changed(changed));
        }
        taken
    }

    /// Merges what an origin of the fleet says, and passes it on.
    fn merge(&mut self, delta: &Delta, heard: Instant, now: Instant) -> Vec<Key> {
        if !self.members.roster().has(delta.origin) {
            return Vec::new();
        }
        let Merged { changed, refused } = self.store.merge(delta, heard);
        self.refused += refused as u64;
        for key in &changed {
            self.add_news(News::Word(delta.origin, *key), now);
        }
        changed
    }

    fn answer(&self, pull: &Pull, now: Instant) -> Vec<Item> {
        match self.store.beyond(pull, ROOM, 1, now) {
            Some(parts) => parts.into_iter().map(Item::Delta).collect(),
            None => vec![Item::More(pull.origin)],
        }
    }

    /// Sends items to one other in as few packets as they fit, [`ANSWERS_MAX`] at most.
    fn send_items(&mut self, to: SiteName, items: Vec<Item>, at: Timestamp) {
        let Some(address) = self.address(to) else { return };
        let mut packets: Vec<(usize, Vec<Item>)> = Vec::new();
        for item in items {
            let length = item.length();
            if let Some((used, packet)) = packets.iter_mut().find(|(used, _)| used + length <= ROOM) {
                *used += length;
                packet.push(item);
            } else if packets.len() < ANSWERS_MAX {
                packets.push((length, vec![item]));
            } // else it is asked for again
        }
        for (_, items) in packets {
            self.send(to, address, &[], &items, at);
        }
    }

    fn send(&mut self, to: SiteName, address: SocketAddr, swim: &[u8], items: &[Item], at: Timestamp) {
        let content = wire::encode(swim, items);
        let octets = self.sealer.seal(Kind::Datagram, to, None, &content, at);
        self.sent.count(octets.len(), swim, items);
        self.actions.push_back(Action::Send { to: address, octets });
    }

    /// Where a site hears: as it says itself, or as the file says.
    fn address(&self, site: SiteName) -> Option<SocketAddr> {
        let known = self.members.others().find(|member| member.site == site);
        known
            .map(|member| member.address)
            .or_else(|| self.members.roster().address(site))
    }

    fn follow_members(&mut self, when: Moment) {
        if self.members.take_begun_anew() {
            self.asking = Asking::begin(when.now);
        }
        for (site, event) in self.members.take_events() {
            if event != MemberEvent::Down {
                // Whoever comes may lack much: so do we, where we are the one who comes.
                self.want_sync_if_new(site, when.now);
            }
            self.actions.push_back(Action::Member(site, event));
        }
        for (to, swim) in self.members.take_sends() {
            let suspicion = self.members.suspicion(to.site).map(Item::Members);
            let used = swim.len() + suspicion.as_ref().map_or(0, Item::length);
            let mut items = self.news(ROOM.saturating_sub(used), false, when.now);
            items.extend(suspicion);
            self.send(to.site, to.address, &swim, &items, when.at);
        }
    }

    fn want_sync_if_new(&mut self, with: SiteName, now: Instant) {
        if self.asking.is_due(now) {
            self.want_sync(with, now);
        }
    }

    fn want_sync(&mut self, with: SiteName, now: Instant) {
        if self.next_sync > now {
            return;
        }
        if let Some(at) = self.address(with) {
            self.next_sync = now + SYNC_EVERY;
            self.actions.push_back(Action::Sync { with, at });
        }
    }

    fn add_news(&mut self, news: News, now: Instant) {
        self.backlog.add(news);
        let wait = match news {
            News::Beat(_) => BEATS_EVERY,
            News::Word(..) => SPREAD_EVERY,
        };
        let at = now + wait;
        self.next_spread = Some(self.next_spread.map_or(at, |next| next.min(at)));
    }

    fn spread(&mut self, when: Moment) {
        let others = self.members.some_others(FAN_OUT);
        for _ in 0..BURST {
            if others.is_empty() || self.backlog.is_empty() {
                break;
            }
            let items = self.news(ROOM, true, when.now);
            for other in &others {
                self.send(other.site, other.address, &[], &items, when.at);
            }
        }
        let wait = match (others.is_empty(), self.backlog.has_words()) {
            (true, _) => REPAIR_EVERY,
            (false, true) => SPREAD_EVERY,
            (false, false) => BEATS_EVERY,
        };
        self.next_spread = (!self.backlog.is_empty()).then_some(when.now + wait);
    }

    /// The news that fit in so many octets. Beats go to some at once alone: each is told but a few times, and a packet to one
    /// would be one of them.
    fn news(&mut self, room: usize, with_beats: bool, now: Instant) -> Vec<Item> {
        let (mut items, mut left) = (Vec::new(), room);
        let (store, rounds) = (&self.store, rounds(self.members.roster().len()));
        let times = |news| match news {
            News::Beat(_) => BEAT_ROUNDS,
            News::Word(..) => rounds,
        };
        self.backlog.tell(times, |news| {
            let item = match news {
                News::Beat(_) if !with_beats => return Told::NotHere,
                News::Beat(origin) => store.beat(origin, now).map(Item::Beat),
                News::Word(origin, key) => store.told(origin, key, now).map(Item::Delta),
            };
            let Some(item) = item else { return Told::Gone };
            let length = item.length();
            if length > left {
                return Told::NoRoom;
            }
            left -= length;
            items.push(item);
            Told::Told
        });
        items
    }

    /// Asks for what was missing at the last look and still is.
    fn repair(&mut self, when: Moment) {
        let missing: Vec<Pull> = self.store.missing().collect();
        let still = |pull: &&Pull| self.lacking.get(&pull.origin) == Some(&pull.known.number);
        let asked: Vec<Pull> = missing.iter().filter(still).copied().collect();
        self.lacking = missing
            .iter()
            .map(|pull| (pull.origin, pull.known.number))
            .collect();
        let Some(first) = asked.first() else { return };
        // The origin itself knows best, if it can be reached; others may have what it can no more say to us.
        let origin = self.members.is_up(first.origin).then_some(first.origin);
        let other = self.members.some_others(1).first().map(|other| other.site);
        let whom = if self.random.random() {
            origin.or(other)
        } else {
            other
        };
        if let Some(whom) = whom {
            let pulls = asked.into_iter().take(PULLS_MAX).map(Item::Pull).collect();
            self.send_items(whom, pulls, when.at);
        }
    }

    /// Leaves: tells the others, and is silent from then on.
    pub fn leave(&mut self, when: Moment) {
        self.members.leave(when);
        self.follow_members(when);
        self.left = true;
    }

    /// Goes on with another list of sites. What a site said that is not named any more is forgotten.
    pub fn set_roster(&mut self, roster: Roster, when: Moment) {
        let gone: Vec<_> = self
            .store
            .origins()
            .filter(|origin| !roster.has(*origin))
            .collect();
        gone.into_iter().for_each(|origin| self.store.forget(origin));
        self.store.set_sites(roster.len());
        self.members.set_roster(roster, when);
        self.follow_members(when);
    }

    /// Seals with the first of these keys from now on, and opens with all of them.
    pub fn set_keys(&mut self, keys: &Keys) {
        if *keys != self.keys {
            self.keys = keys.clone();
            self.sealer = Sealer::new(self.me, keys, self.random.random());
            self.opener.set_keys(keys.clone());
        }
    }

    /// What all sites say.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The sites and what is believed of them.
    #[must_use]
    pub fn view(&self) -> Vec<MemberView> {
        self.members.view()
    }

    /// Whether a site is there; ourselves always.
    #[must_use]
    pub fn is_up(&self, site: SiteName) -> bool {
        self.members.is_up(site)
    }

    /// Whether we heard anybody of late. Who hears nobody does not know what the others say now.
    #[must_use]
    pub fn hears(&self, now: Instant) -> bool {
        now < self.last_heard + SILENCE
    }

    /// As [`Membership::ignore_own_health`].
    pub fn ignore_own_health(&mut self) {
        self.members.ignore_own_health();
    }

    /// Is it us? How well we are, from 0 to [`super::swim::WORST`].
    #[must_use]
    pub fn health(&self) -> u8 {
        self.members.health()
    }

    /// Our site.
    #[must_use]
    pub fn me(&self) -> SiteName {
        self.me
    }

    /// Things that are still to be told.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Octets that were sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Observations that were not taken because their origin has too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests;
