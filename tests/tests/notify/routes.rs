//! Routes: a prefix that is withdrawn, announced again and drained. The peer is not there; what is told is what we wish.

use crate::fleet::Fleet;

const BGP: &str = r#"
[[anycast]]
prefix = "192.0.2.53/32"
while_up = ["pool:web@local"]
on_drain = ["prepend 3", "wait 1s", "withdraw"]
[bgp]
asn = 64512
router_id = "192.0.2.1"
listen = []
[[bgp.peer]]
address = "127.0.0.1"
port = 1
asn = 64500
"#;

const ROUTE: &str = "192.0.2.53/32@fra";

#[test]
fn a_prefix_is_told_when_it_is_withdrawn_announced_and_drained_and_a_restart_is_no_news() {
    let mut fleet = Fleet::new(BGP);
    let mut steer = fleet.start();
    let web = fleet.name(0);
    steer.until("the announcement", |_| {
        let routes = fleet.admin.json(&["status", "routes"]);
        (routes["routes"][0]["state"] == "announced").then_some(())
    });
    fleet.until_told(&mut steer, &[]);
    fleet.down(0);
    let mut told = vec![
        format!("verdict changed {web}: up -> down"),
        format!("route withdrawn {ROUTE}: announced -> withdrawn"),
    ];
    fleet.until_told(&mut steer, &told);
    let event = fleet.hook.taken().pop().unwrap().event;
    assert_eq!(
        event["cause"],
        "its conditions fail: pool:web@local does not hold"
    );
    fleet.up(0);
    told.push(format!("verdict changed {web}: down -> up"));
    told.push(format!("route announced {ROUTE}: withdrawn -> announced"));
    fleet.until_told(&mut steer, &told);

    assert_eq!(steer.stop().status.code(), Some(0));
    let mut steer = fleet.start();
    fleet.until_told(&mut steer, &told);
    fleet.admin.done(&["drain", "fra"]);
    told.push("drain begun fra: not-drained -> drained".to_owned());
    told.push(format!("route draining {ROUTE}: announced -> draining"));
    told.push(format!("route withdrawn {ROUTE}: draining -> withdrawn"));
    fleet.until_told(&mut steer, &told);
    assert_eq!(steer.stop().status.code(), Some(0));
}
