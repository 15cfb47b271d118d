//! What a peer may send: framing and every message in every context. What was understood is written and read
//! again, and must be the same.

use bytes::{Bytes, BytesMut};
use steer_anycast::wire::{
    self, Context, EXTENDED_LENGTH, Families, Family, Frame, MAX_LENGTH, Malformed, Message, Notification,
    Open, Outbound, Path, Reach, Reason, Update,
};
use steer_topology::{Prefix, RoleName};

/// One stream of octets, as it comes off a connection. What does not begin like a marker is taken for the type and
/// the body of one message, so that the fuzzer need not find marker and length first.
pub fn check(data: &[u8]) {
    let framed = match data.split_first() {
        Some((&kind, body)) if kind != 0xff => framed(kind % 5 + 1, body),
        Some(_) | None => data.to_vec(),
    };
    for context in contexts() {
        read_all(&framed, context);
    }
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_LENGTH - wire::HEADER_LENGTH)];
    let length = u16::try_from(wire::HEADER_LENGTH + body.len()).expect("short");
    let mut octets = vec![0xff; 16];
    octets.extend_from_slice(&length.to_be_bytes());
    octets.push(kind);
    octets.extend_from_slice(body);
    octets
}

/// Each pair of settings once at least, and the role that goes with them.
fn contexts() -> impl Iterator<Item = Context> {
    (0..8).map(|bits| {
        let [four_octet, internal, modern] = [1, 2, 4].map(|bit| bits & bit != 0);
        let role = match (internal, modern) {
            (true, _) => None,
            (false, true) => Some(RoleName::Customer),
            (false, false) => Some(RoleName::Peer),
        };
        Context {
            four_octet,
            internal,
            extended_next_hop: modern,
            enhanced_refresh: modern,
            role,
            peer_asn: 65_002,
        }
    })
}

/// Modern sessions take long messages.
fn limit(context: Context) -> usize {
    if context.enhanced_refresh {
        EXTENDED_LENGTH
    } else {
        MAX_LENGTH
    }
}

fn outbound(context: Context) -> Outbound {
    Outbound {
        four_octet: context.four_octet,
        max_length: limit(context),
    }
}

fn read_all(data: &[u8], context: Context) {
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.len();
        match wire::take_frame(&mut buffer, limit(context)) {
            Ok(Some(frame)) => {
                assert_eq!(before, buffer.len() + wire::HEADER_LENGTH + frame.body.len());
                read(&frame, context);
            }
            Ok(None) => {
                assert_eq!(before, buffer.len(), "half a message stays");
                assert!(before < limit(context), "a whole message is taken");
                return;
            }
            Err(malformed) => return answerable(&malformed),
        }
    }
}

fn read(frame: &Frame, context: Context) {
    match wire::decode(frame, context) {
        Ok(Message::Open(open)) => open_survives(&open),
        Ok(Message::Update(update)) => update_survives(&update, context),
        Ok(Message::Notification(notification)) => notification_survives(&notification),
        Ok(Message::Keepalive) => assert!(frame.body.is_empty()),
        Ok(Message::RouteRefresh(refresh)) => {
            let again = again(&wire::encode_route_refresh(refresh), context);
            assert_eq!(again, Message::RouteRefresh(refresh));
        }
        Err(malformed) => answerable(&malformed),
    }
}

/// The one message that `octets` are.
fn again(octets: &Bytes, context: Context) -> Message {
    assert!(octets.len() <= limit(context), "{} octets", octets.len());
    let mut buffer = BytesMut::from(octets.as_ref());
    let frame = wire::take_frame(&mut buffer, limit(context))
        .expect("we frame well")
        .expect("whole");
    assert!(buffer.is_empty());
    wire::decode(&frame, context).expect("we read what we write")
}

/// A refusal names a reason that has a number, and its NOTIFICATION can be sent and read.
fn answerable(malformed: &Malformed) {
    let Malformed { notification, text } = malformed;
    assert!(!text.is_empty());
    let known = Reason::TABLE
        .iter()
        .any(|(_, code, subcode, _)| (*code, *subcode) == (notification.code, notification.subcode));
    assert!(known, "{notification:?}");
    notification_survives(notification);
}

fn notification_survives(notification: &Notification) {
    let octets = wire::encode_notification(notification);
    assert!(octets.len() <= MAX_LENGTH, "{} octets", octets.len());
    let Message::Notification(again) = again(&octets, Context::default()) else {
        panic!("no NOTIFICATION");
    };
    // What a peer sent in a long message is cut.
    assert_eq!(
        (again.code, again.subcode),
        (notification.code, notification.subcode)
    );
    assert!(notification.data.starts_with(&again.data));
    let shown = notification.to_string();
    assert!(
        !shown.chars().any(char::is_control),
        "{shown:?} goes to terminals"
    );
}

fn open_survives(open: &Open) {
    assert!(!matches!(open.hold_time, 1 | 2));
    assert!(!open.identifier.is_unspecified());
    let capabilities = &open.capabilities;
    // Families that we do not know leave an empty set, which we never send.
    let nothing_known = capabilities.families == Some(Families::default());
    // A peer may say more of its own AS than two octets hold only with the capability.
    assert!(capabilities.four_octet_as || open.asn.get() <= u32::from(u16::MAX));
    if !nothing_known {
        let again = again(&wire::encode_open(open), Context::default());
        assert_eq!(again, Message::Open(open.clone()));
    }
}

fn update_survives(update: &Update, context: Context) {
    let Update {
        withdrawn,
        reachable,
        path,
        faults,
        end_of_rib,
        leaked,
    } = update;
    for family in Family::ALL {
        let of_family: Vec<Prefix> = withdrawn
            .iter()
            .copied()
            .filter(|prefix| Family::of(prefix) == family)
            .collect();
        withdrawal_survives(family, &of_family, context);
    }
    assert!(
        faults.iter().all(|fault| fault.action != wire::Action::Reset),
        "a reset is an error"
    );
    assert!(end_of_rib.is_none() || (withdrawn.is_empty() && reachable.is_empty() && faults.is_empty()));
    assert_eq!(path.is_some(), !reachable.is_empty(), "attributes go with routes");
    let Some(path) = path else { return };
    let tagged = path.only_to_customer.is_some();
    assert!(!leaked || (tagged && !context.internal), "RFC 9234 §5");
    assert!(context.internal || path.local_pref.is_none(), "RFC 7606 §7.5");
    assert!(
        faults.iter().all(|fault| fault.action == wire::Action::Discard),
        "RFC 7606 §3 h"
    );
    for reach in reachable {
        reach_survives(reach, path, context);
    }
}

fn withdrawal_survives(family: Family, mut prefixes: &[Prefix], context: Context) {
    while !prefixes.is_empty() {
        let (octets, count) = wire::encode_withdrawal(family, prefixes, &outbound(context));
        assert!(count > 0, "one prefix always fits");
        let (sent, rest) = prefixes.split_at(count);
        let want = Update {
            withdrawn: sent.to_vec(),
            ..Update::default()
        };
        assert_eq!(again(&octets, context), Message::Update(Box::new(want)));
        prefixes = rest;
    }
}

fn reach_survives(reach: &Reach, path: &Path, context: Context) {
    let address = reach.next_hop.address;
    // What no host has as its address is no NEXT_HOP; in MP_REACH_NLRI only the length is judged (RFC 7606 §7.11).
    let host = match address {
        std::net::IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        std::net::IpAddr::V6(_) => true,
    };
    let Some(first) = reach.prefixes.first().filter(|_| host) else {
        return;
    };
    let family = Family::of(first);
    let mut prefixes = reach.prefixes.as_slice();
    while !prefixes.is_empty() {
        let (octets, count) = wire::encode_reach(family, prefixes, reach.next_hop, path, &outbound(context));
        if count == 0 {
            return; // the attributes alone fill a message
        }
        let (sent, rest) = prefixes.split_at(count);
        let Message::Update(read) = again(&octets, context) else {
            panic!("no UPDATE");
        };
        assert_eq!(read.path.as_ref(), Some(path));
        assert!(read.faults.is_empty() && read.withdrawn.is_empty());
        let [got] = read.reachable.as_slice() else {
            panic!("one family");
        };
        assert_eq!((got.next_hop, got.prefixes.as_slice()), (reach.next_hop, sent));
        prefixes = rest;
    }
}
