//! Held connections, and time-outs longer than the interval.

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;

/// Probes every 10 s, three failures until down: whatever is found sooner was found by the wire.
fn slow_with_tripwire() -> FleetBuilder {
    three_sites()
        .timing(Duration::from_secs(10), Duration::from_millis(300))
        .tripwire()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_dies_on_the_wire_is_down_at_once_and_held_again_when_it_is_up() {
    let (fleet, world) = (slow_with_tripwire().build(), World::default());
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    running.wait_for("everything settled", |s| s.settled).await;
    world.wait_until_held(1).await;

    let died = now();
    world.set(1, Manner::Refuses);
    world.cut(1, Cut::Reset);
    let down = running
        .wait_for("1 down", |s| verdict_of(s, 1) == Verdict::Down)
        .await;
    assert_eq!(now(), died, "no timer is needed");
    let state = down.endpoint(EndpointId(1));
    assert_eq!(state.cause, "connection refused (held connection reset)");
    assert_eq!(state.service, Service::Out);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.dialled(1).len(), 1, "what is down is not dialled");

    world.set(1, Manner::Answers);
    running
        .wait_for("1 up", |s| verdict_of(s, 1) == Verdict::Up)
        .await;
    world.wait_until_held(1).await;
    running.stop().await;
    assert!(!world.is_held(0) && !world.is_held(1), "let go at the end");
}

#[tokio::test(start_paused = true)]
async fn a_cut_by_an_endpoint_that_still_answers_costs_one_probe_and_a_pause() {
    let (fleet, world) = (slow_with_tripwire().build(), World::default());
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    let settled = running.wait_for("everything settled", |s| s.settled).await;
    world.wait_until_held(1).await;
    let (cut_at, probed) = (now(), world.probed().len());
    world.cut(1, Cut::Closed);
    world.wait_until_held(1).await;
    let again = world.dialled(1)[1];
    assert!(
        again >= cut_at + Duration::from_millis(10) && again < cut_at + Duration::from_millis(13),
        "{:?}",
        again - cut_at
    );
    let since: Vec<_> = world.probed().split_off(probed);
    assert_eq!(since, [(EndpointId(1), cut_at)]);
    assert_eq!(running.cell.load().number, settled.number, "nothing happened");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_dies_between_the_probe_and_the_new_wire_is_found_by_the_wire() {
    let (fleet, world) = (slow_with_tripwire().build(), World::default());
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    running.wait_for("everything settled", |s| s.settled).await;
    world.wait_until_held(1).await;
    let died = now();
    world.cut(1, Cut::Closed);
    tokio::time::sleep(Duration::from_millis(2)).await; // the probe has found it alive
    world.set(1, Manner::Refuses);
    let down = running
        .wait_for("1 down", |s| verdict_of(s, 1) == Verdict::Down)
        .await;
    assert!(now() - died < Duration::from_millis(13), "{:?}", now() - died);
    assert_eq!(
        down.endpoint(EndpointId(1)).cause,
        "connection refused (held connection refused)"
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_beyond_the_bound_of_wires_are_left_to_their_probes() {
    let (fleet, world) = (three_sites().tripwire().build(), World::default());
    let judge = Judge::new(Arc::clone(&fleet), now(), Timestamp::now());
    let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
    let shutdown = CancellationToken::new();
    let mut driver = Driver::new(&fleet, Arc::clone(&cell), judge, 1, world.clone());
    driver.wires.limit(1);
    let task = tokio::spawn(driver.run(shutdown.clone()));
    let running = Running { cell, shutdown, task };
    running.wait_for("everything settled", |s| s.settled).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    let held: Vec<_> = (0..3).filter(|id| world.is_held(*id)).collect();
    assert_eq!(held.len(), 1, "{held:?}");
    let other = (held[0] + 1) % 3;
    world.set(other, Manner::Refuses);
    running
        .wait_for("the other down", |s| verdict_of(s, other) == Verdict::Down)
        .await;
    // The place of the one that goes is taken by another at its next attempt.
    world.set(held[0], Manner::Refuses);
    world.cut(held[0], Cut::Reset);
    let third = (held[0] + 2) % 3;
    world.wait_until_held(third).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_noticed_within_an_interval_and_a_longer_time_out() {
    let fleet = three_sites()
        .timing(Duration::from_millis(10), Duration::from_millis(100))
        .fall(1)
        .build();
    let world = World::default();
    let running = start(&fleet, world.clone(), 1, IN_FLIGHT_MAX);
    running.wait_for("everything settled", |s| s.settled).await;
    let hung = now();
    world.set(1, Manner::Hangs);
    let down = running
        .wait_for("1 down", |s| verdict_of(s, 1) == Verdict::Down)
        .await;
    assert!(now() - hung <= Duration::from_millis(112), "{:?}", now() - hung);
    assert_eq!(down.endpoint(EndpointId(1)).cause, "no answer within 100 ms");
    // While it hangs there is one probe at a time.
    let probed = world.probed().len();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let since = world.probed().split_off(probed);
    let of_1 = since.iter().filter(|(id, _)| *id == EndpointId(1)).count();
    assert!((9..=11).contains(&of_1), "{of_1}");
    running.stop().await;
}

/// A process behind a port: answers to nothing, holds what connects, and dies by losing its listener and then its
/// connections, in order or by RST.
struct Victim {
    address: std::net::SocketAddr,
    listener: JoinHandle<TcpListener>,
    stop: CancellationToken,
    accepted: mpsc::UnboundedReceiver<TcpStream>,
}

impl Victim {
    async fn at(address: std::net::SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, (hand, accepted)) = (CancellationToken::new(), mpsc::unbounded_channel());
        let stopped = stop.clone();
        let serve = async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return listener,
                    Ok((stream, _)) = listener.accept() => hand.send(stream).unwrap(),
                }
            }
        };
        Self {
            address,
            listener: tokio::spawn(serve),
            stop,
            accepted,
        }
    }

    /// Returns when the first connection was ended.
    async fn die(mut self, by_reset: bool) -> Instant {
        self.stop.cancel();
        drop(self.listener.await.unwrap());
        let died = now();
        while let Some(stream) = self.accepted.recv().await {
            if by_reset {
                stream.set_zero_linger().unwrap();
            }
        }
        died
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_real_sockets_the_end_of_a_process_is_the_verdict_of_the_same_moment() {
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut victim = Victim::at(anywhere).await;
    let other = Victim::at(anywhere).await;
    let address = victim.address;
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .timing(Duration::from_millis(50), Duration::from_secs(1))
        .guard(1, 100, Duration::from_secs(1))
        .tripwire()
        .pool_at(&[(Some(0), address), (Some(1), other.address)], Some(CheckId(0)))
        .build();
    let judge = Judge::new(Arc::clone(&fleet), now(), Timestamp::now());
    let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
    let shutdown = CancellationToken::new();
    let run = run(
        fleet,
        Arc::clone(&cell),
        judge,
        Commands::none(),
        3,
        None,
        shutdown.clone(),
    );
    let task = tokio::spawn(async move { run.await.0 });
    let running = Running { cell, shutdown, task };
    let mut took = Vec::new();
    for round in 0..20 {
        let up = |s: &Snapshot| s.settled && verdict_of(s, 0) == Verdict::Up;
        running.wait_for("0 up", up).await;
        tokio::time::sleep(Duration::from_millis(20)).await; // time to be held again
        let died = victim.die(round % 2 == 0).await;
        let down = running
            .wait_for("0 down", |s| verdict_of(s, 0) == Verdict::Down)
            .await;
        took.push(now() - died);
        let cause = &down.endpoint(EndpointId(0)).cause;
        let want = if round % 2 == 0 { "reset" } else { "closed" };
        assert_eq!(*cause, format!("connection refused (held connection {want})"));
        victim = Victim::at(address).await;
    }
    running.stop().await;
    took.sort_unstable();
    println!(
        "from the end of the connection to the snapshot: median {:?}, all {took:?}",
        took[10]
    );
    // Three failed probes would take 100 ms at least. The rest is room for a busy machine.
    assert!(took[10] < Duration::from_millis(20), "{took:?}");
}
