//! What anybody may send to the BFD ports: read, written and read again, and heard by a session of each kind.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use steer_anycast::bfd::wire::{self, MANDATORY_LENGTH};
use steer_anycast::bfd::{Auth, Config, Intervals, Role, Session};
use steer_topology::BfdAuthKind;

/// One datagram.
pub fn check(data: &[u8]) {
    if let Ok(received) = wire::decode(data) {
        let packet = received.packet;
        let again = wire::encode(&packet, 0);
        let again = wire::decode(&again).expect("we read what we write");
        assert_eq!(again.packet, packet);
        assert!(!again.has_auth && again.auth_section().is_none());
        assert_eq!(received.auth_section().is_some(), received.has_auth);
        let signed = wire::encode(&packet, 28);
        assert_eq!(
            usize::from(signed[3]),
            MANDATORY_LENGTH + 28,
            "Length counts the section"
        );
    }
    for auth in [
        None,
        Some(BfdAuthKind::KeyedSha1),
        Some(BfdAuthKind::MeticulousKeyedSha1),
    ] {
        hear(data, auth);
    }
}

/// A session takes what the codec takes, or names the reason.
fn hear(data: &[u8], kind: Option<BfdAuthKind>) {
    let now = Instant::now();
    let config = Config {
        intervals: Intervals::both(Duration::from_millis(50)),
        multiplier: NonZeroU8::MIN,
        role: Role::Active,
        auth: kind.map(|kind| Auth::new(kind, 7, b"secret").expect("a key")),
    };
    let mut session = Session::new(config, NonZeroU32::MIN, 1, now);
    let Ok(received) = wire::decode(data) else {
        return;
    };
    let taken = session.receive(&received, now, now).is_ok();
    assert!(
        !taken || received.has_auth == kind.is_some(),
        "authentication is asked for and given, or neither"
    );
    let next = session
        .next_deadline(now)
        .expect("an active session always sends");
    session.on_deadline(next.max(now), next.max(now));
}
