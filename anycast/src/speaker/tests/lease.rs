//! A running announcer asked from outside.

use super::*;
use crate::announcer::{HandleError, RequestError, State as RouteState};

fn leased(monitor: SocketAddr) -> Arc<Fleet> {
    fleet(&format!(
        "[bgp]\nasn = 4200000001\nrouter_id = \"10.0.0.1\"\n\
         [[bgp.peer]]\naddress = \"{}\"\nport = {}\nasn = 64500\nconnect_retry = \"1s\"\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\nlease = {{ max = \"10m\" }}\n\
         [[anycast]]\nprefix = \"192.0.2.2/32\"\nflap_budget = {{ half_life = \"15m\" }}\n",
        monitor.ip(),
        monitor.port()
    ))
}

#[tokio::test]
async fn a_lease_brings_a_route_and_its_end_takes_it_away() {
    let mut watch = watch();
    let speaker = Running::start(leased(watch.address)).await;
    let announcer = speaker.announcer.clone();
    assert_eq!(watch.next().await, Heard::SessionUp);
    assert_eq!(watch.next().await, announced("192.0.2.2/32", "127.0.0.1"));
    let prefix = prefix_of("192.0.2.1/32");
    let owner = || "deploy".to_owned();
    let asked = Instant::now();
    let ttl = Duration::from_millis(800);
    let granted = announcer.lease(prefix, ttl, owner()).await.expect("granted");
    assert_eq!(granted.ttl, ttl);
    assert_eq!(watch.next().await, announced("192.0.2.1/32", "127.0.0.1"));
    announcer.renew(prefix, ttl, owner()).await.expect("renewed");
    let status = announcer.status().await.expect("it runs");
    assert_eq!(status[0].state, RouteState::Announced);
    assert_eq!(
        status[0].lease.as_ref().expect("leased").owner.as_deref(),
        Some("deploy")
    );
    assert_eq!(watch.next().await, withdrawn("192.0.2.1/32"));
    assert!(asked.elapsed() >= ttl, "not before its time");
    let gone = announcer.renew(prefix, ttl, owner()).await;
    assert!(
        matches!(gone, Err(HandleError::Refused(RequestError::NoLease { .. }))),
        "{gone:?}"
    );
    announcer.lease(prefix, PATIENCE, owner()).await.expect("granted");
    assert_eq!(watch.next().await, announced("192.0.2.1/32", "127.0.0.1"));
    announcer.delete(prefix, owner()).await.expect("deleted");
    assert_eq!(watch.next().await, withdrawn("192.0.2.1/32"));
    announcer
        .clear_flaps(prefix_of("192.0.2.2/32"))
        .await
        .expect("a prefix of ours");
    speaker.end().await;
    assert_eq!(announcer.status().await, Err(HandleError::Stopped));
    assert_eq!(
        announcer.lease(prefix, ttl, owner()).await,
        Err(HandleError::Stopped)
    );
    watch.stop.cancel();
}
