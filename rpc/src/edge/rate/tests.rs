use super::*;

fn rates(clients: usize, now: Instant) -> Rates {
    let rules = RateRules {
        by: ClientBy::Tls,
        per_second: NonZeroU32::new(10).unwrap(),
        burst: NonZeroU32::new(5).unwrap(),
        clients,
        fleet: None,
    };
    Rates::new(rules, now)
}

fn named(name: &str) -> Who<'_> {
    Who::Named(name.as_bytes())
}

/// Calls until one is refused; how many were not, and the wait.
fn exhaust(rates: &mut Rates, client: &str, now: Instant) -> (usize, Duration) {
    for count in 0..1000 {
        if let Err(wait) = rates.check(named(client), now) {
            return (count, wait);
        }
    }
    panic!("there is no limit for {client}");
}

#[test]
fn a_client_has_its_burst_and_then_its_rate_and_the_others_have_theirs() {
    let mut now = Instant::now();
    let mut rates = rates(100, now);
    let (burst, wait) = exhaust(&mut rates, "a", now);
    assert_eq!((burst, wait), (5, Duration::from_millis(100)));
    assert_eq!(exhaust(&mut rates, "b", now).0, 5);
    now += wait;
    assert_eq!(
        exhaust(&mut rates, "a", now).0,
        1,
        "after the time that it was told"
    );
    now += Duration::from_secs(10);
    assert_eq!(
        exhaust(&mut rates, "a", now).0,
        5,
        "no more than the burst is saved up"
    );
}

#[test]
fn a_flood_of_names_is_remembered_as_one_client_and_moves_out_nobody() {
    let mut now = Instant::now();
    let mut rates = rates(3, now);
    for client in ["a", "b", "c"] {
        exhaust(&mut rates, client, now);
    }
    let passed = (0..10_000).filter(|name| rates.check(named(&name.to_string()), now).is_ok());
    assert_eq!(passed.count(), 5, "all of them together");
    assert_eq!(rates.here(), 3);
    assert!(
        rates.check(named("a"), now).is_err(),
        "who was remembered still is"
    );
    // They have their burst again after half a second, and are forgotten when room is needed.
    now += FORGET_EVERY;
    assert_eq!(exhaust(&mut rates, "new", now).0, 5);
    assert_eq!(rates.here(), 1);
}

#[test]
fn a_name_that_is_too_long_is_not_remembered() {
    let now = Instant::now();
    let mut rates = rates(3, now);
    rates.check(named(&"x".repeat(NAME_MAX + 1)), now).unwrap();
    assert_eq!(rates.here(), 0);
}

#[test]
fn a_client_is_its_name_or_else_its_address_or_its_network() {
    let mut rates = rates(3, Instant::now());
    let at = |address: &str| Who::At(address.parse().unwrap());
    let v4 = "192.0.2.7".parse().unwrap();
    let v6 = "2001:db8:1:2:3:4:5:6".parse().unwrap();
    let mapped = "::ffff:192.0.2.7".parse().unwrap();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-key"), "k".parse().unwrap())]);
    let none = HeaderMap::new();
    assert_eq!(rates.client_of(&headers, Some("shop"), v4), named("shop"));
    assert_eq!(rates.client_of(&headers, None, v4), at("192.0.2.7"));
    rates.rules.by = ClientBy::Header(HeaderName::from_static("x-key"));
    assert_eq!(rates.client_of(&headers, Some("shop"), v4), named("k"));
    assert_eq!(rates.client_of(&none, Some("shop"), mapped), at("192.0.2.7"));
    rates.rules.by = ClientBy::Address;
    assert_eq!(rates.client_of(&headers, Some("shop"), v6), at("2001:db8:1:2::"));
}
