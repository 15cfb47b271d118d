//! UPDATE errors: attribute by fault, against RFC 7606 §3 to §7.

mod rows;

use super::*;
use crate::wire::{Action, AttributeFault};
use Action::{Discard, TreatAsWithdraw as Withdraw};
use Want::{Clean, Resets, Survives};
use rows::{OPTIONAL, WELL_KNOWN, Want};

const ORIGIN: &str = "40 01 01 00";
const AS_PATH: &str = "40 02 06 02 01 0000fde9";
const AS_PATH_OLD: &str = "40 02 04 02 01 fde9";
const NEXT_HOP: &str = "40 03 04 c0000201";
const MP_REACH: &str = "80 0e 1c 0002 01 10 20010db8000000000000000000000001 00 30 20010db80001";
const MP_UNREACH: &str = "80 0f 0a 0002 01 30 20010db80002";
const NLRI: &str = "18 c63364";

/// An UPDATE of withdrawn routes, attributes and NLRI, all in hexadecimal.
fn update(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [withdrawn, attributes] {
        let field = hex(field);
        body.extend_from_slice(&u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&field);
    }
    body.extend_from_slice(&hex(nlri));
    message(2, &body)
}

#[test]
fn every_fault_of_an_attribute_is_answered_as_rfc_7606_says() {
    for (context, code, octets, want) in WELL_KNOWN.iter().chain(OPTIONAL) {
        let base = [
            (1, ORIGIN),
            (2, if context.four_octet { AS_PATH } else { AS_PATH_OLD }),
            (3, NEXT_HOP),
        ];
        let rest = base
            .iter()
            .filter(|(other, _)| other != code)
            .map(|(_, octets)| *octets);
        let attributes: String = rest.chain([*octets]).collect();
        let got = decode_update(&update("", &attributes, NLRI), *context);
        judge(*code, octets, *want, got);
    }
}

fn judge(code: u8, octets: &str, want: Want, got: Result<Update, Malformed>) {
    let route = prefix("198.51.100.0/24");
    let what = format!("attribute {code}: {octets}");
    match (want, got) {
        (Resets(reason), Err(refusal)) => {
            assert_eq!(
                refusal.notification,
                Notification::new(reason, hex(octets)),
                "{what}"
            );
        }
        (Clean, Ok(update)) => {
            assert_eq!(update.faults, [], "{what}");
            assert!(stands(&update, &route), "{what}: {update:?}");
        }
        (Survives(action, reason), Ok(update)) => {
            let fault = AttributeFault {
                attribute: code,
                action,
                reason,
            };
            assert_eq!(update.faults, [fault], "{what}");
            assert_eq!(stands(&update, &route), action == Discard, "{what}: {update:?}");
            assert_eq!(
                update.withdrawn.contains(&route),
                action != Discard,
                "{what}: {update:?}"
            );
            assert_eq!(
                update.reachable.is_empty(),
                action != Discard,
                "{what}: {update:?}"
            );
            assert_eq!(update.end_of_rib, None, "{what}");
        }
        (want, got) => panic!("{what}: want {want:?}, got {got:?}"),
    }
}

fn stands(update: &Update, route: &Prefix) -> bool {
    update
        .reachable
        .iter()
        .any(|reach| reach.prefixes.contains(route))
        && update.path.is_some()
}

fn reset(withdrawn: &str, attributes: &str, nlri: &str) -> (u8, u8) {
    let refusal = decode_update(&update(withdrawn, attributes, nlri), EXTERNAL).expect_err("malformed");
    (refusal.notification.code, refusal.notification.subcode)
}

fn base() -> String {
    [ORIGIN, AS_PATH, NEXT_HOP].concat()
}

#[test]
fn mp_attribute_twice_resets() {
    // RFC 7606 §3 g
    assert_eq!(
        reset("", &[MP_REACH, ORIGIN, AS_PATH, MP_REACH].concat(), ""),
        (3, 1)
    );
    assert_eq!(reset("", &[MP_UNREACH, MP_UNREACH].concat(), ""), (3, 1));
}

#[test]
fn prefix_that_cannot_be_read_resets() {
    // RFC 7606 §5.3: longer than the family, or longer than the field.
    for field in ["21 c000020100", "18 c633", "18", "ff"] {
        assert_eq!(reset("", &base(), field), (3, 10), "announced {field}");
        assert_eq!(reset(field, "", ""), (3, 10), "withdrawn {field}");
    }
}

#[test]
fn lengths_that_exceed_the_message_reset() {
    for body in [
        "0001 0000",
        "0005 18c63364 00",
        "0000 0001",
        "ffff 0000",
        "0000 ffff",
    ] {
        let refusal = decode_update(&message(2, &hex(body)), EXTERNAL).expect_err("malformed");
        let want = Notification::bare(Reason::MalformedAttributeList);
        assert_eq!(refusal.notification, want, "{body}");
    }
}

#[test]
fn strongest_of_several_faults_counts() {
    // RFC 7606 §3 h: one discarded, one that withdraws, one that resets.
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, "40 06 01 00", "c0 08 00"].concat();
    let update = decode_update(&update("", &attributes, NLRI), EXTERNAL).unwrap();
    let actions: Vec<Action> = update.faults.iter().map(|fault| fault.action).collect();
    assert_eq!(actions, [Discard, Withdraw]);
    assert_eq!(update.withdrawn, [prefix("198.51.100.0/24")]);
    assert_eq!(reset("", &[&attributes, "40 63 00"].concat(), NLRI), (3, 2));
}

#[test]
fn fault_that_withdraws_reaches_both_families() {
    let attributes = [MP_REACH, "40 01 01 03", AS_PATH, NEXT_HOP, MP_UNREACH].concat();
    let mut update = decode_update(&update("10 c612", &attributes, NLRI), EXTERNAL).unwrap();
    update.withdrawn.sort();
    let mut want = [
        "198.18.0.0/16",
        "198.51.100.0/24",
        "2001:db8:1::/48",
        "2001:db8:2::/48",
    ]
    .map(prefix);
    want.sort();
    assert_eq!(
        (update.withdrawn.as_slice(), update.reachable.as_slice()),
        (want.as_slice(), [].as_slice())
    );
}

#[test]
fn fault_without_a_route_beside_it_resets() {
    // RFC 7606 §5.2: not certain that all routes were found. A discarded attribute does not matter.
    assert_eq!(reset("10 c612", "40 01 01 03", ""), (3, 6));
    assert_eq!(reset("", "c0 63 02 00", ""), (3, 1));
    let update = decode_update(&update("10 c612", "40 06 01 00", ""), EXTERNAL).unwrap();
    assert_eq!(update.withdrawn, [prefix("198.18.0.0/16")]);
}

/// VPN-IPv4, which is never offered: next hop with an RD of 8 octets, one labelled prefix.
const FOREIGN: &str = "80 0e 20 0001 80 0c 0000000000000000c0000201 00 70 000101 0000fde900000001 c63364";

#[test]
fn family_we_do_not_carry_is_skipped() {
    let attributes = [FOREIGN, ORIGIN, AS_PATH].concat();
    assert_eq!(
        decode_update(&update("", &attributes, ""), EXTERNAL),
        Ok(Update::default())
    );
    let unreach = "80 0f 04 0001 80 00";
    assert_eq!(
        decode_update(&update("", unreach, ""), EXTERNAL),
        Ok(Update::default())
    );
}

#[test]
fn fault_beside_a_family_we_do_not_carry_does_not_reset() {
    // RFC 7606 §5.2 does not apply: reachable routes were found, only not for us.
    let attributes = [FOREIGN, "40 01 01 03", AS_PATH].concat();
    let update = decode_update(&update("", &attributes, ""), EXTERNAL).unwrap();
    assert_eq!((update.withdrawn.len(), update.faults.len()), (0, 1));
}

#[test]
fn local_pref_of_an_external_peer_is_ignored() {
    let octets = update("", &[&base(), "40 05 04 000000c8"].concat(), NLRI);
    let local_pref = |context| decode_update(&octets, context).unwrap().path.unwrap().local_pref;
    assert_eq!(local_pref(EXTERNAL), None);
    assert_eq!(local_pref(INTERNAL), Some(200));
}

#[test]
fn first_of_a_repeated_attribute_counts() {
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, "40 01 01 02"].concat();
    let update = decode_update(&update("", &attributes, NLRI), EXTERNAL).unwrap();
    assert_eq!(update.path.unwrap().origin, Origin::Igp);
}

#[test]
fn bits_beyond_the_length_of_a_prefix_mean_nothing() {
    // RFC 4271 §4.3
    let octets = update("09 0aff", &base(), "11 c633ff 00 20 c6336401");
    let update = decode_update(&octets, EXTERNAL).unwrap();
    assert_eq!(update.withdrawn, [prefix("10.128.0.0/9")]);
    let want = ["198.51.128.0/17", "0.0.0.0/0", "198.51.100.1/32"].map(prefix);
    assert_eq!(update.reachable[0].prefixes, want);
}

#[test]
fn link_local_next_hop_is_kept_beside_the_global_one() {
    // RFC 2545 §3
    let mp_reach = "80 0e 2c 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001
                    00 30 20010db80001";
    let update = decode_update(&update("", &[mp_reach, ORIGIN, AS_PATH].concat(), ""), EXTERNAL).unwrap();
    let next_hop = update.reachable[0].next_hop;
    assert_eq!(
        next_hop.address,
        "2001:db8::1".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(next_hop.link_local, Some("fe80::1".parse().unwrap()));
}
