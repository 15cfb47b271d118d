use rand::SeedableRng;
use steer_topology::{CheckId, HttpCheck};

use super::*;
use crate::outcome::Failure;
use crate::testing::FleetBuilder;

/// Two endpoints at fra and one at nrt, all with a number.
struct World {
    readings: Readings,
    now: Instant,
    at: Timestamp,
}

fn world(feeds: Feeds) -> World {
    let load = CheckKind::Load(LoadCheck {
        page: HttpCheck::plain(),
        feeds,
        scale: 2.0,
        lease: Duration::from_secs(10),
    });
    let fleet = FleetBuilder::new(load).pool(&[Some(0), Some(0), Some(1)]).build();
    let mut fleet = (*fleet).clone();
    fleet.pools[0].load = Some(CheckId(0));
    let now = Instant::now();
    World {
        readings: Readings::of(&fleet, &mut StdRng::seed_from_u64(1), now),
        now,
        at: Timestamp::UNIX_EPOCH,
    }
}

impl World {
    fn later(&mut self, time: Duration) {
        self.now += time;
        self.at += time;
    }

    fn tells(&mut self, id: u32, number: f64) {
        let outcome = Outcome::Success(Answer::Value(number));
        self.readings.on_outcome(EndpointId(id), &outcome, self.now);
    }

    fn news(&mut self) -> News {
        self.news_with(|_| Verdict::Up)
    }

    fn news_with(&mut self, verdict: impl Fn(EndpointId) -> Verdict) -> News {
        self.later(EVALUATE);
        self.readings.evaluate(verdict, self.now, self.at)
    }
}

fn sites(news: &News) -> Vec<(u16, u64)> {
    news.loads
        .iter()
        .map(|(site, load)| (site.0, load.per_second))
        .collect()
}

#[test]
fn each_is_asked_once_an_interval_and_not_while_it_owes_an_answer() {
    let mut world = world(Feeds::Load);
    let mut asked = vec![0; 3];
    for _ in 0..50 {
        world.later(Duration::from_millis(100));
        for ask in world.readings.due(world.now) {
            asked[ask.endpoint.0 as usize] += 1;
            if ask.endpoint != EndpointId(2) {
                world.tells(ask.endpoint.0, 1.0);
            }
        }
    }
    assert_eq!(asked, [5, 5, 1]);
}

#[test]
fn a_site_has_the_sum_of_its_endpoints_and_only_where_all_of_them_tell() {
    let mut world = world(Feeds::Load);
    world.tells(0, 100.0);
    world.tells(2, 7.0);
    assert_eq!(sites(&world.news()), [(1, 14)], "half of fra is not its load");
    world.tells(1, 50.0);
    let news = world.news();
    assert_eq!(sites(&news), [(0, 300)]);
    let (_, load) = &news.loads[0];
    assert_eq!(
        (load.until.duration_since(load.at).as_secs(), load.author.as_str()),
        (8, "check web"),
        "until the lease of the oldest number is over"
    );
}

#[test]
fn what_is_down_gets_nothing_and_owes_no_number() {
    let mut world = world(Feeds::Load);
    world.tells(0, 100.0);
    let down = |id| {
        if id == EndpointId(0) {
            Verdict::Up
        } else {
            Verdict::Down
        }
    };
    assert_eq!(sites(&world.news_with(down)), [(0, 200)]);
}

#[test]
fn small_changes_wait_and_a_number_that_stays_is_renewed_before_its_lease_ends() {
    let mut world = world(Feeds::Load);
    let mut told = Vec::new();
    for second in 0..20 {
        world.tells(2, if second == 10 { 101.0 } else { 100.0 });
        let news = world.news_with(|id| if id.0 == 2 { Verdict::Up } else { Verdict::Down });
        told.extend(news.loads.iter().map(|(_, load)| (second, load.per_second)));
    }
    let renewed: Vec<_> = told.iter().map(|(second, _)| *second).collect();
    assert!(renewed.windows(2).all(|pair| pair[1] - pair[0] <= 5), "{told:?}");
    assert!(
        told.len() <= 5 && told.iter().all(|(_, number)| *number == 200 || *number == 202),
        "{told:?}"
    );
}

#[test]
fn a_number_that_is_not_read_any_more_ends_with_its_lease() {
    let mut world = world(Feeds::Weight);
    world.tells(0, 5.0);
    assert_eq!(world.news().weights, [(EndpointId(0), Some(10))]);
    world.later(Duration::from_secs(7));
    let failure = Outcome::Failure(Failure::Refused);
    world.readings.on_outcome(EndpointId(0), &failure, world.now);
    world.tells(1, -1.0);
    assert_eq!(world.news().weights, [], "its last number counts for its lease");
    let ended = world.news().weights;
    assert!(ended.contains(&(EndpointId(0), None)), "{ended:?}");
    world.tells(0, 0.2);
    assert_eq!(
        world.news().weights,
        [(EndpointId(0), Some(0))],
        "0 is told, however near"
    );
}
