//! An UPDATE that we have sent, taken apart so that its routes can be told again to somebody else.
//!
//! The attributes stay as they stood in the message, octet for octet: who hears them again hears what the peer
//! heard (RFC 8671 §5.1), also where they are attributes that this module knows nothing of.

use bytes::{BufMut, Bytes, BytesMut};
use steer_topology::Prefix;

use super::attribute::{self, code};
use super::update::{FIXED, pack, read_prefixes, update_message};
use super::{Family, HEADER_LENGTH, MAX_LENGTH, take};

/// What the routes of one UPDATE share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shared {
    family: Family,
    /// MP_REACH_NLRI up to its prefixes; `None` where the prefixes stand behind the attributes.
    head: Option<Bytes>,
    /// All other attributes.
    rest: Bytes,
}

/// An UPDATE taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parts {
    /// Of both families.
    pub(crate) withdrawn: Vec<Prefix>,
    /// At most one entry per way of writing prefixes.
    pub(crate) announced: Vec<(Shared, Vec<Prefix>)>,
}

/// Takes a whole UPDATE apart; `None` where it is none that we could have sent.
pub(crate) fn take_apart(message: &Bytes) -> Option<Parts> {
    let mut body = message.get(HEADER_LENGTH..)?;
    let withdrawn = take_counted(&mut body)?;
    let mut list = take_counted(&mut body)?;
    let mut parts = Parts {
        withdrawn: read_prefixes(withdrawn, Family::Ipv4Unicast)?,
        announced: Vec::new(),
    };
    let (mut rest, mut reach) = (BytesMut::new(), None);
    while !list.is_empty() {
        let raw = attribute::next(&mut list)?;
        match raw.code {
            code::MP_REACH => reach = Some(split_reach(raw.value)?),
            code::MP_UNREACH => parts.withdrawn.extend(read_unreach(raw.value)?),
            _ => rest.put_slice(raw.whole),
        }
    }
    let rest = rest.freeze();
    if let Some((family, head, prefixes)) = reach {
        let (head, rest) = (Some(head), rest.clone());
        parts.announced.push((Shared { family, head, rest }, prefixes));
    }
    if !body.is_empty() {
        let family = Family::Ipv4Unicast;
        let prefixes = read_prefixes(body, family)?;
        parts.announced.push((
            Shared {
                family,
                head: None,
                rest,
            },
            prefixes,
        ));
    }
    Some(parts)
}

fn take_counted<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(body, 2)?.first_chunk::<2>()?;
    take(body, usize::from(u16::from_be_bytes(*length)))
}

fn family_of(value: &mut &[u8]) -> Option<Family> {
    let &[high, low, safi] = take(value, 3)?.first_chunk::<3>()?;
    Family::from_numbers(u16::from_be_bytes([high, low]), safi)
}

/// RFC 4760 §3: AFI, SAFI, length of the next hop, next hop, one reserved octet; then prefixes.
fn split_reach(value: &[u8]) -> Option<(Family, Bytes, Vec<Prefix>)> {
    let mut left = value;
    let family = family_of(&mut left)?;
    let length = *take(&mut left, 1)?.first()?;
    take(&mut left, usize::from(length) + 1)?;
    let (head, prefixes) = value.split_at_checked(value.len() - left.len())?;
    Some((
        family,
        Bytes::copy_from_slice(head),
        read_prefixes(prefixes, family)?,
    ))
}

fn read_unreach(mut value: &[u8]) -> Option<Vec<Prefix>> {
    let family = family_of(&mut value)?;
    read_prefixes(value, family)
}

/// Tells as many of `prefixes` as one message holds; gives message and count, which is never 0.
pub(crate) fn tell(shared: &Shared, prefixes: &[Prefix]) -> (Bytes, usize) {
    /// Type octets and a length of two octets.
    const AROUND: usize = 4;
    /// Any one prefix with its length.
    const ONE: usize = 17;
    let Shared { family, head, rest } = shared;
    let head_length = head.as_ref().map_or(0, |head| head.len() + AROUND);
    // Attributes that came in an extended message (RFC 8654) need one again.
    let room = MAX_LENGTH
        .saturating_sub(FIXED + rest.len() + head_length)
        .max(ONE);
    let (packed, count) = pack(prefixes, *family, room);
    let Some(head) = head else {
        return (update_message(&[], rest, &packed), count);
    };
    let mut value = head.to_vec();
    value.extend_from_slice(&packed);
    // RFC 7606 §5.1: MP_REACH_NLRI comes first.
    let mut attributes = BytesMut::new();
    attribute::put(&mut attributes, code::MP_REACH, &value);
    attributes.put_slice(rest);
    (update_message(&[], &attributes, &[]), count)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::tests::frame;
    use super::super::{
        Context, EXTENDED_LENGTH, Message, Outbound, Path, Segment, SegmentKind, decode, encode_end_of_rib,
        encode_reach, encode_withdrawal, take_frame,
    };
    use super::*;

    const READING: Context = Context {
        extended_next_hop: true,
        ..Context::PLAIN
    };

    fn path(med: u32, communities: usize) -> Path {
        Path {
            as_path: vec![Segment {
                kind: SegmentKind::Sequence,
                asns: vec![4_200_000_001],
            }],
            med: Some(med),
            communities: vec![0xffff_0000; communities],
            large_communities: vec![[64_500, 1, 2]],
            ..Path::default()
        }
    }

    fn prefixes(family: Family, count: u16) -> Vec<Prefix> {
        let text = |number| match family {
            Family::Ipv4Unicast => format!("10.{}.{}.0/24", number >> 8, number & 255),
            Family::Ipv6Unicast => format!("2001:db8:{number:x}::/48"),
        };
        (0..count).map(|number| text(number).parse().unwrap()).collect()
    }

    /// The prefixes that a message announces.
    fn announced(message: &Bytes) -> Vec<Prefix> {
        let mut buffer = BytesMut::from(message.as_ref());
        let frame = take_frame(&mut buffer, EXTENDED_LENGTH).unwrap().unwrap();
        let Message::Update(update) = decode(&frame, READING).unwrap() else {
            panic!("no UPDATE")
        };
        assert!(update.withdrawn.is_empty() && update.faults.is_empty());
        let reachable = update.reachable.into_iter();
        reachable.flat_map(|reach| reach.prefixes).collect()
    }

    /// Ways to announce: family, next hop.
    fn way() -> impl Strategy<Value = (Family, IpAddr)> {
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        prop_oneof![
            Just((Family::Ipv4Unicast, v4)),
            Just((Family::Ipv6Unicast, v6)),
            Just((Family::Ipv4Unicast, v6)), // RFC 8950
        ]
    }

    proptest! {
        #[test]
        fn what_is_told_again_reads_like_what_was_sent(
            (family, next_hop) in way(),
            count in 1_u16..900,
            med in any::<u32>(),
            communities in 0_usize..40,
        ) {
            let all = prefixes(family, count);
            let path = path(med, communities);
            let mut rest = all.as_slice();
            let mut told_again = Vec::new();
            while !rest.is_empty() {
                let (message, sent) = encode_reach(family, rest, next_hop.into(), &path, &Outbound::PLAIN);
                let parts = take_apart(&message).unwrap();
                prop_assert!(parts.withdrawn.is_empty());
                let [(shared, prefixes)] = parts.announced.as_slice() else { panic!("{parts:?}") };
                prop_assert_eq!(prefixes.as_slice(), &rest[..sent]);
                let (again, told) = tell(shared, prefixes);
                prop_assert_eq!(told, prefixes.len());
                prop_assert_eq!(&again, &message); // our own order is kept, so the octets are too
                told_again.extend(announced(&again));
                rest = &rest[sent..];
            }
            prop_assert_eq!(told_again, all);
        }

        /// RFC 8654: what came in one long message may be told again in several short ones.
        #[test]
        fn extended_messages_are_told_again_too((family, next_hop) in way(), communities in 0_usize..2_000) {
            let all = prefixes(family, 2_000);
            let outbound = Outbound { max_length: EXTENDED_LENGTH, ..Outbound::PLAIN };
            let (message, sent) = encode_reach(family, &all, next_hop.into(), &path(1, communities), &outbound);
            let parts = take_apart(&message).unwrap();
            let (shared, prefixes) = &parts.announced[0];
            let (mut rest, mut told_again) = (prefixes.as_slice(), Vec::new());
            while !rest.is_empty() {
                let (again, told) = tell(shared, rest);
                prop_assert!(told > 0);
                told_again.extend(announced(&again));
                rest = &rest[told..];
            }
            prop_assert_eq!(told_again.as_slice(), &all[..sent]);
        }

        #[test]
        fn octets_of_others_never_panic(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = take_apart(&Bytes::from(octets));
        }
    }

    #[test]
    fn withdrawals_and_end_of_rib_come_apart_too() {
        for family in Family::ALL {
            let gone = prefixes(family, 3);
            let (message, _) = encode_withdrawal(family, &gone, &Outbound::PLAIN);
            assert_eq!(frame(&message).body.len(), message.len() - HEADER_LENGTH);
            let parts = take_apart(&message).unwrap();
            assert_eq!(parts.withdrawn, gone);
            assert_eq!(parts.announced, []);
            assert_eq!(take_apart(&encode_end_of_rib(family)), Some(Parts::default()));
        }
    }

    #[test]
    fn attributes_that_fill_a_message_still_get_a_prefix_beside_them() {
        let all = prefixes(Family::Ipv4Unicast, 1);
        let shared = Shared {
            family: Family::Ipv4Unicast,
            head: None,
            rest: Bytes::from(vec![0; MAX_LENGTH]),
        };
        assert_eq!(tell(&shared, &all).1, 1);
    }
}
