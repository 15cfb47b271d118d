//! Prefixes.

use super::*;
use RouteState::{Announced, Draining, Held, Withdrawn};

#[test]
fn a_route_is_told_by_where_it_stands_and_one_on_its_way_stays_as_it_was() {
    let by = Moment {
        snapshot: 3,
        at: Timestamp::UNIX_EPOCH,
    };
    let picture = |stands: Option<(RouteState, &str)>| RoutePicture {
        name: "192.0.2.53/32@fra".to_owned(),
        stands: stands.map(|(state, why)| (state, Some(why.to_owned()).filter(|why| !why.is_empty()))),
        by,
    };
    let mut told = Facts::new();
    let mut look = |now: &[RoutePicture]| {
        let events = route_events(&told, now, by);
        apply(&mut told, &events);
        let news = events.iter().filter(|event| event.is_news());
        news.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(look(&[picture(None)]), [""; 0]);
    assert_eq!(look(&[picture(Some((Announced, "")))]), [""; 0]);
    assert_eq!(
        look(&[picture(Some((Withdrawn, "its conditions fail")))]),
        ["192.0.2.53/32@fra withdrawn (its conditions fail)"]
    );
    assert_eq!(look(&[picture(None)]), [""; 0]);
    assert_eq!(
        look(&[picture(Some((Held, "flap budget spent")))]),
        ["192.0.2.53/32@fra held back (flap budget spent)"]
    );
    assert_eq!(
        look(&[picture(Some((Announced, "")))]),
        ["192.0.2.53/32@fra announced"]
    );
    assert_eq!(
        look(&[picture(Some((Draining, "step 1 of 2: prepend 3")))]),
        ["192.0.2.53/32@fra steps down (step 1 of 2: prepend 3)"]
    );
    assert_eq!(
        look(&[picture(Some((Draining, "step 2 of 2: wait 3s")))]),
        [""; 0]
    );
    assert_eq!(
        look(&[]),
        ["192.0.2.53/32@fra withdrawn (the configuration does not have it any more)"]
    );
    look(&[picture(Some((Withdrawn, "its conditions fail")))]);
    assert_eq!(look(&[]), [""; 0], "it was withdrawn already");
    assert!(told.is_empty());
}
