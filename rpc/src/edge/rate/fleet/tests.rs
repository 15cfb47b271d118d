use std::num::NonZeroU32;

use super::*;
use crate::edge::rate::who::Ids;
use crate::edge::rate::{ClientBy, ClientId, RateRules, Who};

pub(super) const EVERY: Duration = Duration::from_secs(1);

pub(super) fn rules(alone: Alone) -> FleetRules {
    FleetRules {
        cluster: EtcdCluster {
            members: vec!["127.0.0.1:2379".to_owned()],
            tls: None,
            user: None,
        },
        name: "shop".to_owned(),
        edge: "fra".to_owned(),
        every: EVERY,
        alone,
        secret: None,
    }
}

pub(super) fn rates(per_second: u32, burst: u32, fleet: FleetRules, now: Instant) -> Mutex<Rates> {
    let rules = RateRules {
        by: ClientBy::Tls,
        per_second: NonZeroU32::new(per_second).unwrap(),
        burst: NonZeroU32::new(burst).unwrap(),
        clients: 10,
        fleet: Some(fleet),
    };
    Mutex::new(Rates::new(rules, now))
}

/// An edge of ten calls a second and five at once; the rate keeps two seconds for the others.
struct Edge {
    fleet: Fleet,
    rates: Mutex<Rates>,
    now: Instant,
}

impl Edge {
    fn new(alone: Alone) -> Self {
        let now = Instant::now();
        let rates = rates(10, 5, rules(alone), now);
        Self {
            fleet: Fleet::new(&rules(alone), "fra/1", &rates, now),
            rates,
            now,
        }
    }

    fn of_two_clients() -> Self {
        let edge = Self::new(Alone::Share);
        lock(&edge.rates).rules.clients = 2;
        edge
    }

    fn hears(&mut self, news: News) {
        self.fleet.on_news(news, &self.rates, self.now);
    }

    fn hears_word(&mut self, name: &str, word: Vec<u8>) {
        self.hears(News::Put(name.to_owned(), word));
    }

    /// The store has its word.
    fn is_heard(&mut self) {
        self.hears_word("fra/1", Vec::new());
    }

    fn ticks(&mut self) -> Told {
        Told::decode(&self.fleet.on_tick(&self.rates, self.now)).unwrap()
    }

    /// So many intervals without the store.
    fn hears_nothing(&mut self, intervals: u32) {
        for _ in 0..intervals {
            self.now += EVERY;
            self.ticks();
        }
    }

    /// Calls until one is refused.
    fn exhaust(&mut self, client: &str) -> usize {
        let mut rates = lock(&self.rates);
        let calls = 0..1000;
        let taken = calls.take_while(|_| rates.check(Who::Named(client.as_bytes()), self.now).is_ok());
        taken.count()
    }
}

fn id(client: &str) -> ClientId {
    Ids::new(None).of(Who::Named(client.as_bytes()))
}

/// What another edge says: calls of a client in the last intervals, the newest first.
fn word(number: u64, clients: &[(&str, &[u32])]) -> Vec<u8> {
    let told = Told {
        mark: Ids::new(None).mark(),
        number,
        every: EVERY,
        clients: clients
            .iter()
            .map(|(client, calls)| {
                let mut all = [0; WINDOW];
                all[..calls.len()].copy_from_slice(calls);
                (id(client), all)
            })
            .collect(),
    };
    told.encode()
}

#[test]
fn what_was_admitted_is_told_by_interval() {
    let mut edge = Edge::new(Alone::Share);
    assert_eq!(edge.exhaust("a"), 5);
    let told = edge.ticks();
    assert_eq!(
        (told.number, told.clients),
        (1, vec![(id("a"), [5, 0, 0, 0, 0, 0, 0, 0])])
    );
    edge.now += EVERY;
    assert_eq!(edge.exhaust("a"), 5);
    assert_eq!(edge.exhaust("b"), 5);
    let mut told = edge.ticks();
    told.clients.sort_by_key(|(_, calls)| *calls);
    let want = [
        (id("b"), [5, 0, 0, 0, 0, 0, 0, 0]),
        (id("a"), [5, 5, 0, 0, 0, 0, 0, 0]),
    ];
    assert_eq!((told.number, &told.clients[..]), (2, &want[..]));
}

#[test]
fn the_name_of_a_client_is_in_no_word() {
    let mut edge = Edge::new(Alone::Share);
    edge.exhaust("an-api-key");
    let word = edge.fleet.on_tick(&edge.rates, edge.now);
    assert!(word.len() > 16);
    assert!(!word.windows(10).any(|octets| octets == b"an-api-key".as_slice()));
}

#[test]
fn a_word_that_comes_twice_late_or_after_lost_ones_is_charged_once() {
    let mut edge = Edge::new(Alone::Share);
    edge.now += Duration::from_secs(60);
    edge.is_heard();
    edge.hears_word("nrt/1", word(10, &[("a", &[21])]));
    assert_eq!(edge.exhaust("a"), 4);
    edge.hears_word("nrt/1", word(10, &[("b", &[21])]));
    assert_eq!(edge.exhaust("b"), 5, "this interval was heard");
    edge.now += EVERY * 3;
    edge.is_heard();
    // 11 was lost, and what it told is told again.
    edge.hears_word("nrt/1", word(12, &[("c", &[11, 11, 21])]));
    assert_eq!(
        edge.exhaust("c"),
        3,
        "the slack of two seconds is 20 calls of these 22"
    );
    edge.hears_word("nrt/1", word(11, &[("d", &[50])]));
    assert_eq!(edge.exhaust("d"), 5, "an older word");
}

#[test]
fn all_clients_that_are_too_many_are_one_client_of_the_fleet() {
    let (mut fra, mut nrt) = (Edge::of_two_clients(), Edge::of_two_clients());
    for client in ["a", "b"] {
        fra.exhaust(client);
        nrt.exhaust(client);
    }
    assert_eq!(fra.exhaust("too many"), 5);
    assert_eq!(fra.exhaust("others of these"), 0);
    let told = fra.ticks();
    assert_eq!(told.clients.len(), 3);
    for number in 0..4 {
        let again = Told {
            number: 1 + number,
            ..told.clone()
        };
        nrt.hears_word("fra/1", again.encode());
    }
    // Four times five, and the slack is twenty.
    assert_eq!(nrt.exhaust("one more"), 5);
    nrt.hears_word("fra/1", Told { number: 5, ..told }.encode());
    assert_eq!(nrt.exhaust("and one more"), 0);
}

#[test]
fn clients_of_other_edges_take_nobodys_place_here_and_are_bounded() {
    let mut edge = Edge::of_two_clients();
    edge.hears_word("nrt/1", word(1, &[("x", &[25]), ("y", &[25]), ("z", &[25])]));
    assert_eq!(lock(&edge.rates).buckets.len(), 2, "as many as there is room for");
    assert_eq!(edge.exhaust("a") + edge.exhaust("b"), 10);
    assert_eq!(lock(&edge.rates).here(), 2);
    let mut edge = Edge::of_two_clients();
    edge.hears_word("nrt/1", word(1, &[("x", &[25])]));
    assert_eq!(edge.exhaust("x"), 0, "it is known when it comes");
    edge.now += Duration::from_secs(20);
    edge.is_heard();
    edge.hears_word("nrt/1", word(12, &[("y", &[25]), ("z", &[25])]));
    assert!(
        lock(&edge.rates).buckets.contains_key(&id("z")),
        "who is idle makes room"
    );
}

#[test]
fn an_edge_that_hears_nothing_goes_on_with_its_share_or_with_all_as_it_was_told_to() {
    for (alone, want) in [(Alone::Share, 5), (Alone::Full, 10)] {
        let mut edge = Edge::new(alone);
        edge.is_heard();
        edge.hears(News::Lost("connection refused".to_owned()));
        edge.hears_word("nrt/1", word(1, &[]));
        assert_eq!(edge.fleet.members(), 2);
        edge.hears_nothing(ALONE_AFTER);
        assert!(!edge.fleet.is_alone);
        edge.hears_nothing(1);
        assert!(edge.fleet.is_alone);
        edge.exhaust("a");
        let mut taken = 0;
        for _ in 0..20 {
            edge.now += Duration::from_millis(50);
            taken += edge.exhaust("a");
        }
        assert_eq!(taken, want, "in a second");
        // What the others say now was admitted within their shares.
        edge.hears(News::All(vec![("nrt/1".to_owned(), word(9, &[("b", &[100])]))]));
        assert_eq!(edge.exhaust("b"), if alone == Alone::Share { 2 } else { 5 });
        edge.now += Duration::from_secs(10);
        edge.is_heard();
        assert!(!edge.fleet.is_alone);
        assert_eq!(edge.exhaust("b"), 5);
        edge.hears_word("nrt/1", word(10, &[("c", &[24, 100])]));
        assert_eq!(edge.exhaust("c"), 1, "and from now on all is charged again");
    }
}

#[test]
fn an_edge_that_leaves_is_none_of_the_members() {
    let mut edge = Edge::new(Alone::Share);
    for name in ["nrt/1", "nrt/2", "jfk/1"] {
        edge.hears_word(name, word(1, &[]));
    }
    assert_eq!(edge.fleet.members(), 4);
    edge.hears(News::Gone("nrt/1".to_owned()));
    assert_eq!(edge.fleet.members(), 3);
    edge.hears(News::All(vec![("jfk/1".to_owned(), word(2, &[]))]));
    assert_eq!(edge.fleet.members(), 2);
}

#[test]
fn a_word_that_cannot_be_read_changes_nothing_and_its_edge_is_a_member_all_the_same() {
    let mut edge = Edge::new(Alone::Share);
    edge.hears_word("nrt/1", word(4, &[]));
    for wrong in [b"no word".to_vec(), Vec::new(), vec![0xff; 1 << 20]] {
        edge.hears_word("nrt/1", wrong);
    }
    let other = Told {
        mark: Ids::new(Some(Secret::new(b"another"))).mark(),
        ..Told::decode(&word(5, &[("a", &[100])])).unwrap()
    };
    edge.hears_word("nrt/1", other.encode());
    assert!(edge.fleet.others["nrt/1"].is_refused);
    assert_eq!((edge.fleet.members(), edge.exhaust("a")), (2, 5));
    edge.hears_word("nrt/1", word(6, &[("b", &[25, 100])]));
    assert!(!edge.fleet.others["nrt/1"].is_refused);
    assert_eq!(
        edge.exhaust("b"),
        0,
        "and what was not read is charged with the next"
    );
}

#[test]
fn who_writes_keys_without_end_finds_one() {
    let mut edge = Edge::new(Alone::Share);
    for number in 0..2 * OTHERS_MAX {
        edge.hears_word(&format!("x/{number}"), word(1, &[]));
    }
    assert_eq!(edge.fleet.members(), OTHERS_MAX + 1);
}
