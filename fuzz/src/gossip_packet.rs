//! What anybody may send to the gossip port, and what one who has the key may: read, written and read again, and heard by
//! a site.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::gossip::seal::{DATAGRAM_MAX, Kind, OVERHEAD, Sealer};
use steer_health::gossip::{Gossip, Keys, Moment, Own, Roster, SiteName, wire};

/// One datagram: as it is, and as what a member has sealed.
pub fn check(data: &[u8]) {
    if let Ok((swim, items)) = wire::decode(data) {
        let again = wire::encode(swim, &items);
        assert_eq!(again, data, "we write what we read");
    }
    let site = |name: &str| SiteName::new(name).expect("three letters");
    let (me, other) = (site("fra"), site("nrt"));
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    let roster: Roster = [(me, address(1)), (other, address(2)), (site("jfk"), address(3))]
        .into_iter()
        .collect();
    let keys = Keys::one([1; 32]);
    let start = Moment {
        now: Instant::now(),
        at: Timestamp::UNIX_EPOCH,
    };
    let own = Own {
        site: me,
        address: address(1),
    };
    let mut gossip = Gossip::new(own, roster, keys.clone(), [7; 32], start);
    assert!(gossip.on_datagram(data, start).is_err(), "nobody has our key");
    assert_eq!(gossip.poll_action(), None, "what is refused is not answered");
    assert!(gossip.sync_answer(data, start).is_err());
    if data.len() > DATAGRAM_MAX - OVERHEAD {
        return;
    }
    let mut sealer = Sealer::new(other, &keys, [9; 16]);
    for turn in 0..3_u64 {
        let when = Moment {
            now: start.now + Duration::from_secs(turn),
            ..start
        };
        let sealed = sealer.seal(Kind::Datagram, me, None, data, when.at);
        // A member may say what it likes; what it says wrong is refused.
        let _ = gossip.on_datagram(&sealed, when);
        assert!(gossip.on_datagram(&sealed, when).is_err(), "a replay");
        gossip.on_deadline(when);
        while let Some(action) = gossip.poll_action() {
            if let steer_health::gossip::Action::Send { octets, .. } = action {
                assert!(octets.len() <= DATAGRAM_MAX, "{}", octets.len());
            }
        }
    }
    let (session, _) = gossip.sync_request(other, start);
    let sealed = sealer.seal(Kind::Frame, me, Some(session), data, start.at);
    let _ = gossip.sync_apply(session, &sealed, start);
}
