//! Targets that are left alone for a while, names with several addresses, and the way past an address that fails.

use std::time::Duration;

use steer_rpc::client::{BreakerLimits, Client};
use steer_rpc::fate::Backoff;
use tokio::net::TcpListener;

use crate::peers::{ECHO, LONG, Peer, Say, UNAVAILABLE, call, config, nowhere};

const ONCE: &str = "semantics = \"at-most-once\"";

fn limits(failures: u32, wait_ms: u64) -> BreakerLimits {
    let wait = Duration::from_millis(wait_ms);
    BreakerLimits {
        failures,
        open: Backoff::new(wait, 4 * wait, 2.0).unwrap(),
        ..BreakerLimits::DEFAULT
    }
}

#[tokio::test]
async fn a_target_that_fails_is_left_alone_and_its_calls_were_not_sent() {
    let peer = Peer::start(&[UNAVAILABLE]).await;
    let mut config = config(&[peer.address], ONCE);
    config.breaker = limits(3, 60_000);
    let client = Client::new(config);
    for _ in 0..3 {
        assert_eq!(call(&client, LONG).await.told(), (14, "ambiguous".to_owned()));
    }
    for _ in 0..3 {
        let view = call(&client, Duration::from_millis(200)).await;
        assert_eq!(view.told().1, "not-sent");
    }
    assert_eq!(peer.seen(), 3, "it is asked no more");
}

#[tokio::test]
async fn a_target_that_is_back_is_found_by_a_probe_and_calls_wait_for_that_within_their_time() {
    let peer = Peer::start(&[UNAVAILABLE, UNAVAILABLE, ECHO]).await;
    let mut config = config(&[peer.address], ONCE);
    config.breaker = limits(2, 150);
    let client = Client::new(config);
    for _ in 0..2 {
        assert_eq!(call(&client, LONG).await.told(), (14, "ambiguous".to_owned()));
    }
    // Not one more is lost: what meets the open breaker was not sent, so it waits and tries again.
    for _ in 0..5 {
        assert_eq!(call(&client, LONG).await.told(), (0, "committed".to_owned()));
    }
}

#[tokio::test]
async fn a_path_that_swallows_everything_is_found_by_the_deadlines_that_pass() {
    let (swallows, sound) = (Peer::start(&[Say::Silent]).await, Peer::start(&[ECHO]).await);
    let mut config = config(&[swallows.address, sound.address], ONCE);
    config.breaker = limits(2, 60_000);
    let client = Client::new(config);
    let mut late = 0_usize;
    for _ in 0..20 {
        late += usize::from(call(&client, Duration::from_millis(150)).await.told().0 == 4);
    }
    assert_eq!(late, swallows.seen());
    assert!(late <= 2, "{late} are lost, and two may be");
}

#[tokio::test]
async fn sites_are_called_straight_when_the_anycast_address_is_not_there_and_only_then() {
    let (anycast, site) = (Peer::start(&[ECHO]).await, Peer::start(&[ECHO]).await);
    let with = |target| {
        let mut config = config(&[target], ONCE);
        config.fallback = vec![format!("http://{}", site.address).parse().unwrap()];
        Client::new(config)
    };
    let client = with(anycast.address);
    for _ in 0..10 {
        assert_eq!(call(&client, LONG).await.told().0, 0);
    }
    assert_eq!(site.seen(), 0);
    let client = with(nowhere());
    for _ in 0..10 {
        assert_eq!(call(&client, LONG).await.told().0, 0);
    }
    assert_eq!(site.seen(), 10);
}

#[tokio::test]
async fn a_name_is_asked_and_of_its_addresses_one_that_answers_is_found() {
    // `localhost` has one address or two; a peer listens on the first family only.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer::listen(listener, &[ECHO]);
    let mut config = config(&[nowhere()], ONCE);
    config.targets = vec![
        format!("http://localhost:{}", peer.address.port())
            .parse()
            .unwrap(),
    ];
    config.resolve_every = Duration::from_millis(1);
    let client = Client::new(config);
    for _ in 0..20 {
        assert_eq!(call(&client, LONG).await.told().0, 0);
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_was_not_sent() {
    let mut config = config(&[nowhere()], ONCE);
    config.targets = vec!["http://nowhere.invalid:1".parse().unwrap()];
    let view = call(&Client::new(config), Duration::from_millis(300)).await;
    assert_eq!(view.told().1, "not-sent");
}
