//! Attribute by attribute: what stands there, and what RFC 7606 wants done about it.

use super::*;

/// What becomes of a route beside the fault.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    Clean,
    Survives(Action, Reason),
    Resets(Reason),
}

use Action::{Discard, TreatAsWithdraw as Withdraw};
use Want::{Clean, Resets, Survives};

/// Attribute code, what stands there instead, and what to do by the section named in the heading.
pub(super) type Row = (Context, u8, &'static str, Want);

#[rustfmt::skip]
pub(super) const WELL_KNOWN: &[Row] = &[
    // §7.1 ORIGIN
    (EXTERNAL, 1, "40 01 01 02", Clean),
    (EXTERNAL, 1, "50 01 0001 00", Clean), // extended length where none is needed (RFC 4271 §4.3)
    (EXTERNAL, 1, "60 01 01 00", Clean),   // §3 c speaks of Optional and Transitive alone
    (EXTERNAL, 1, "c0 01 01 00", Survives(Withdraw, Reason::AttributeFlags)), // §3 c
    (EXTERNAL, 1, "80 01 01 00", Survives(Withdraw, Reason::AttributeFlags)),
    (EXTERNAL, 1, "00 01 01 00", Survives(Withdraw, Reason::AttributeFlags)),
    (EXTERNAL, 1, "40 01 00", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 1, "40 01 02 0000", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 1, "40 01 01 03", Survives(Withdraw, Reason::InvalidOrigin)),
    (EXTERNAL, 1, "", Survives(Withdraw, Reason::MissingWellKnown)), // §3 d
    (EXTERNAL, 1, "40 01 01 00 40 01 01 01", Survives(Discard, Reason::MalformedAttributeList)), // §3 g
    // §7.2 AS_PATH
    (EXTERNAL, 2, "40 02 00", Clean),
    (EXTERNAL, 2, "40 02 0c 01 01 00000001 02 01 00000002", Clean),
    (OLD, 2, AS_PATH_OLD, Clean),
    (EXTERNAL, 2, "c0 02 06 02 01 0000fde9", Survives(Withdraw, Reason::AttributeFlags)),
    (EXTERNAL, 2, "40 02 06 05 01 0000fde9", Survives(Withdraw, Reason::MalformedAsPath)),
    (EXTERNAL, 2, "40 02 06 00 01 0000fde9", Survives(Withdraw, Reason::MalformedAsPath)),
    (EXTERNAL, 2, "40 02 02 02 00", Survives(Withdraw, Reason::MalformedAsPath)), // empty segment
    (EXTERNAL, 2, "40 02 06 02 02 0000fde9", Survives(Withdraw, Reason::MalformedAsPath)), // overrun
    (EXTERNAL, 2, "40 02 07 02 01 0000fde9 02", Survives(Withdraw, Reason::MalformedAsPath)), // underrun
    (EXTERNAL, 2, AS_PATH_OLD, Survives(Withdraw, Reason::MalformedAsPath)), // 2 octets where 4 were agreed
    (EXTERNAL, 2, "40 02 06 03 01 0000fde9", Survives(Withdraw, Reason::MalformedAsPath)), // RFC 5065 §5.4
    (EXTERNAL, 2, "40 02 06 04 01 0000fde9", Survives(Withdraw, Reason::MalformedAsPath)),
    (EXTERNAL, 2, "40 02 06 02 01 00000000", Survives(Withdraw, Reason::MalformedAsPath)), // RFC 7607 §2
    (OLD, 2, "40 02 06 02 02 fde9 0000", Survives(Withdraw, Reason::MalformedAsPath)),
    (EXTERNAL, 2, "", Survives(Withdraw, Reason::MissingWellKnown)),
    // §7.3 NEXT_HOP; values by RFC 4271 §6.3
    (EXTERNAL, 3, "80 03 04 c0000201", Survives(Withdraw, Reason::AttributeFlags)),
    (EXTERNAL, 3, "40 03 03 c00002", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 3, "40 03 10 20010db8000000000000000000000001", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 3, "40 03 04 00000000", Survives(Withdraw, Reason::InvalidNextHop)),
    (EXTERNAL, 3, "40 03 04 e0000001", Survives(Withdraw, Reason::InvalidNextHop)),
    (EXTERNAL, 3, "40 03 04 ffffffff", Survives(Withdraw, Reason::InvalidNextHop)),
    (EXTERNAL, 3, "", Survives(Withdraw, Reason::MissingWellKnown)),
    // §7.5 LOCAL_PREF: of an external peer not even its faults count.
    (INTERNAL, 5, "40 05 04 00000064", Clean),
    (INTERNAL, 5, "40 05 03 000064", Survives(Withdraw, Reason::AttributeLength)),
    (INTERNAL, 5, "c0 05 04 00000064", Survives(Withdraw, Reason::AttributeFlags)),
    (EXTERNAL, 5, "40 05 04 00000064", Survives(Discard, Reason::OptionalAttribute)),
    (EXTERNAL, 5, "c0 05 03 000064", Survives(Discard, Reason::OptionalAttribute)),
    // §7.6 ATOMIC_AGGREGATE
    (EXTERNAL, 6, "40 06 00", Clean),
    (EXTERNAL, 6, "40 06 01 00", Survives(Discard, Reason::AttributeLength)),
    (EXTERNAL, 6, "c0 06 00", Survives(Withdraw, Reason::AttributeFlags)),
];

#[rustfmt::skip]
pub(super) const OPTIONAL: &[Row] = &[
    // §7.4 MULTI_EXIT_DISC
    (EXTERNAL, 4, "80 04 04 00000001", Clean),
    (EXTERNAL, 4, "80 04 03 000001", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 4, "c0 04 04 00000001", Survives(Withdraw, Reason::AttributeFlags)),
    // §7.7 AGGREGATOR: 8 octets where AS numbers have 4, 6 where they have 2
    (EXTERNAL, 7, "c0 07 08 0000fde9 c0000201", Clean),
    (EXTERNAL, 7, "c0 07 06 fde9 c0000201", Survives(Discard, Reason::AttributeLength)),
    (OLD, 7, "c0 07 06 fde9 c0000201", Clean),
    (OLD, 7, "c0 07 08 0000fde9 c0000201", Survives(Discard, Reason::AttributeLength)),
    (EXTERNAL, 7, "c0 07 08 00000000 c0000201", Survives(Discard, Reason::OptionalAttribute)), // RFC 7607 §2
    (OLD, 7, "c0 07 06 0000 c0000201", Survives(Discard, Reason::OptionalAttribute)),
    (EXTERNAL, 7, "80 07 08 0000fde9 c0000201", Survives(Withdraw, Reason::AttributeFlags)),
    // §7.8 COMMUNITIES
    (EXTERNAL, 8, "c0 08 08 fde90001 fde90002", Clean),
    (EXTERNAL, 8, "c0 08 00", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 8, "c0 08 03 fde900", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 8, "40 08 04 fde90001", Survives(Withdraw, Reason::AttributeFlags)),
    // §7.9 ORIGINATOR_ID
    (INTERNAL, 9, "80 09 04 c0000201", Clean),
    (INTERNAL, 9, "80 09 05 c000020100", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 9, "80 09 04 c0000201", Survives(Discard, Reason::OptionalAttribute)),
    // §7.10 CLUSTER_LIST
    (INTERNAL, 10, "80 0a 08 c0000201 c0000202", Clean),
    (INTERNAL, 10, "80 0a 00", Survives(Withdraw, Reason::AttributeLength)),
    (INTERNAL, 10, "80 0a 05 c000020100", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 10, "80 0a 04 c0000201", Survives(Discard, Reason::OptionalAttribute)),
    // §7.11 MP_REACH_NLRI: next hop of a wrong length, and all behind which prefixes cannot be found (§5.3)
    (EXTERNAL, 14, MP_REACH, Clean),
    (EXTERNAL, 14, "c0 0e 1c 0002 01 10 20010db8000000000000000000000001 00 30 20010db80001", Survives(Withdraw, Reason::AttributeFlags)),
    (EXTERNAL, 14, "80 0e 09 0002 01 04 c0000201 00", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 14, "80 0e 05 0002 01 00 00", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 14, "80 0e 00", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 14, "80 0e 04 0002 01 10", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 14, "80 0e 14 0002 01 10 20010db8000000000000000000000001", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 14, "80 0e 17 0002 01 10 20010db8000000000000000000000001 00 30 20", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 14, "80 0e 27 0002 01 10 20010db8000000000000000000000001 00 81 20010db800000000000000000000000000", Resets(Reason::OptionalAttribute)),
    // §7.12 MP_UNREACH_NLRI
    (EXTERNAL, 15, MP_UNREACH, Clean),
    (EXTERNAL, 15, "80 0f 02 0002", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 15, "80 0f 04 0002 01 30", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 15, "80 0f 09 0001 01 21 c000020100", Resets(Reason::OptionalAttribute)),
    (EXTERNAL, 15, "c0 0f 0a 0002 01 30 20010db80002", Survives(Withdraw, Reason::AttributeFlags)),
    // §7.14 Extended Communities
    (EXTERNAL, 16, "c0 10 08 0002fde900000001", Clean),
    (EXTERNAL, 16, "c0 10 00", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 16, "c0 10 07 0002fde9000000", Survives(Withdraw, Reason::AttributeLength)),
    // §7.13 Traffic Engineering (RFC 5543): no value is malformed
    (EXTERNAL, 24, "80 18 01 00", Clean),
    (EXTERNAL, 24, "c0 18 01 00", Survives(Withdraw, Reason::AttributeFlags)),
    // §7.15 IPv6 Address Specific Extended Communities (RFC 5701)
    (EXTERNAL, 25, "c0 19 14 0002 20010db8000000000000000000000001 0001", Clean),
    (EXTERNAL, 25, "c0 19 00", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 25, "c0 19 08 0002fde900000001", Survives(Withdraw, Reason::AttributeLength)),
    // §7.16 ATTR_SET (RFC 6368 §5): an AS number, and attributes that end with it
    (EXTERNAL, 128, "c0 80 04 0000fde9", Clean),
    (EXTERNAL, 128, "c0 80 08 0000fde9 40010100", Clean),
    (EXTERNAL, 128, "c0 80 03 00fde9", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 128, "c0 80 08 0000fde9 40010200", Survives(Withdraw, Reason::OptionalAttribute)),
    // RFC 6514 §5: PMSI_TUNNEL has flags, a type and a label
    (EXTERNAL, 22, "c0 16 05 00 00 000010", Clean),
    (EXTERNAL, 22, "c0 16 04 00 00 0000", Survives(Withdraw, Reason::AttributeLength)),
    // RFC 9012 §13: Tunnel Encapsulation without a readable TLV, or not transitive, is dropped
    (EXTERNAL, 23, "c0 17 08 0008 0004 00000000", Clean),
    (EXTERNAL, 23, "c0 17 00", Survives(Discard, Reason::OptionalAttribute)),
    (EXTERNAL, 23, "c0 17 03 000800", Survives(Discard, Reason::OptionalAttribute)),
    (EXTERNAL, 23, "c0 17 05 0008 0004 00", Survives(Discard, Reason::OptionalAttribute)),
    (EXTERNAL, 23, "c0 17 05 0008 0000 00", Survives(Discard, Reason::OptionalAttribute)),
    (EXTERNAL, 23, "80 17 08 0008 0004 00000000", Survives(Discard, Reason::AttributeFlags)),
    // Of no meaning on a session that did not agree to them: AIGP (RFC 7311 §3.3), BGP-LS (RFC 9552), BGPsec_PATH
    // (RFC 8205), Prefix-SID (RFC 8669), and those that RFC 6938 and RFC 8093 gave up
    (EXTERNAL, 26, "80 1a 0b 01 000b 0000000000000001", Clean),
    (EXTERNAL, 26, "c0 1a 02 0100", Clean),
    (EXTERNAL, 29, "80 1d 03 040000", Clean),
    (EXTERNAL, 33, "80 21 01 00", Clean),
    (EXTERNAL, 40, "c0 28 02 0100", Clean),
    (EXTERNAL, 11, "80 0b 01 00", Clean),
    (EXTERNAL, 20, "c0 14 01 00", Clean),
    (EXTERNAL, 21, "c0 15 01 00", Clean),
    // RFC 6793 §6: AS4_PATH and AS4_AGGREGATOR are dropped
    (OLD, 17, "c0 11 06 02 01 00010000", Clean),
    (OLD, 17, "c0 11 00", Survives(Discard, Reason::OptionalAttribute)), // less than one AS number
    (OLD, 17, "c0 11 06 02 02 00010000", Survives(Discard, Reason::OptionalAttribute)),
    (OLD, 17, "c0 11 06 02 01 00000000", Survives(Discard, Reason::OptionalAttribute)), // RFC 7607 §2
    (OLD, 18, "c0 12 08 00010000 c0000201", Clean),
    (OLD, 18, "c0 12 06 fde9 c0000201", Survives(Discard, Reason::AttributeLength)),
    (OLD, 18, "c0 12 08 00000000 c0000201", Survives(Discard, Reason::OptionalAttribute)),
    // RFC 8092 §6
    (EXTERNAL, 32, "c0 20 0c 0000fde9 00000001 00000002", Clean),
    (EXTERNAL, 32, "c0 20 00", Survives(Withdraw, Reason::AttributeLength)),
    (EXTERNAL, 32, "c0 20 0b 0000fde9 00000001 000000", Survives(Withdraw, Reason::AttributeLength)),
    // RFC 9234 §5
    (EXTERNAL, 35, "c0 23 04 0000fde9", Clean),
    (EXTERNAL, 35, "c0 23 03 00fde9", Survives(Withdraw, Reason::AttributeLength)),
    // Unknown ones: RFC 4271 §6.3 and §9
    (EXTERNAL, 99, "c0 63 03 000102", Clean),
    (EXTERNAL, 99, "80 63 00", Clean),
    (EXTERNAL, 99, "c0 63 00 c0 63 00", Survives(Discard, Reason::MalformedAttributeList)), // §3 g: "recognized or not"
    (EXTERNAL, 99, "40 63 01 07", Resets(Reason::UnrecognizedWellKnown)),
    (EXTERNAL, 99, "00 63 00", Resets(Reason::UnrecognizedWellKnown)),
    // §4: an attribute overruns the list; header cut, length cut, value cut
    (EXTERNAL, 0, "40", Survives(Withdraw, Reason::MalformedAttributeList)),
    (EXTERNAL, 0, "40 63", Survives(Withdraw, Reason::MalformedAttributeList)),
    (EXTERNAL, 0, "d0 63 00", Survives(Withdraw, Reason::MalformedAttributeList)),
    (EXTERNAL, 0, "c0 63 02 00", Survives(Withdraw, Reason::MalformedAttributeList)),
    (EXTERNAL, 0, "80 0e 40 0002", Survives(Withdraw, Reason::MalformedAttributeList)),
];
