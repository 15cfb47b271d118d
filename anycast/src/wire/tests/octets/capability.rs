//! Each capability octet by octet, what stands there instead, and what stands there twice.

use std::time::Duration;

use steer_topology::RoleName;

use super::*;
use crate::wire::{LongLived, RestartCapability, encode_families, role_number, role_of};

/// The capabilities of an OPEN with these octets in one parameter.
fn read(octets: &str) -> Capabilities {
    accepted(&parameter(octets)).capabilities
}

fn parameter(octets: &str) -> String {
    let length = hex(octets).len();
    format!("{:02x} 02 {length:02x} {octets}", length + 2)
}

/// `octets` mean `capabilities`, and `capabilities` are written as `octets`.
#[track_caller]
fn same(octets: &str, capabilities: &Capabilities) {
    assert_eq!(read(octets), *capabilities);
    let open = Open {
        asn: asn(65001),
        capabilities: capabilities.clone(),
        ..open_65536()
    };
    assert_eq!(encode_open(&open)[28..], hex(&parameter(octets)));
}

fn nothing() -> Capabilities {
    Capabilities::default()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn each_capability_is_as_its_rfc_draws_it() {
    let both = Capabilities {
        families: Some(Families::ALL),
        ..nothing()
    };
    same("01 04 0001 00 01  01 04 0002 00 01", &both); // RFC 4760 §8
    let route_refresh = true;
    same(
        "02 00",
        &Capabilities {
            route_refresh,
            ..nothing()
        },
    ); // RFC 2918 §2
    let extended_next_hop = true;
    same(
        "05 06 0001 0001 0002",
        &Capabilities {
            extended_next_hop,
            ..nothing()
        },
    ); // RFC 8950 §4
    let extended_messages = true;
    same(
        "06 00",
        &Capabilities {
            extended_messages,
            ..nothing()
        },
    ); // RFC 8654 §3
    let roles = vec![3];
    same("09 01 03", &Capabilities { roles, ..nothing() }); // RFC 9234 §4.1: Customer
    let four_octet_as = true;
    same(
        "41 04 0000fde9",
        &Capabilities {
            four_octet_as,
            ..nothing()
        },
    ); // RFC 6793 §3
    let enhanced_refresh = true;
    same(
        "46 00",
        &Capabilities {
            enhanced_refresh,
            ..nothing()
        },
    ); // RFC 7313 §3.1
    let hostname = Some("edge1".to_owned());
    same(
        "49 07 05 6564676531 00",
        &Capabilities {
            hostname,
            ..nothing()
        },
    );
    let software = Some("steer/1".to_owned());
    same(
        "4b 08 07 73746565722f31",
        &Capabilities {
            software,
            ..nothing()
        },
    );
}

#[test]
fn graceful_restart_has_flags_a_time_and_families() {
    // RFC 4724 §3: R and 12 bits of time; F of each family. RFC 8538 §2: N.
    let rows = [
        (
            "40 02 0078",
            false,
            false,
            120,
            Families::default(),
            Families::default(),
        ),
        (
            "40 02 8000",
            true,
            false,
            0,
            Families::default(),
            Families::default(),
        ),
        (
            "40 02 4fff",
            false,
            true,
            4_095,
            Families::default(),
            Families::default(),
        ),
        (
            "40 0a c078 0001 01 80 0002 01 00",
            true,
            true,
            120,
            Families::ALL,
            Families::IPV4,
        ),
    ];
    for (octets, restarted, notification, time, families, forwarding) in rows {
        let restart = RestartCapability {
            restarted,
            notification,
            restart_time: seconds(time),
            families,
            forwarding,
        };
        let graceful_restart = Some(restart);
        same(
            octets,
            &Capabilities {
                graceful_restart,
                ..nothing()
            },
        );
    }
    // Reserved bits mean nothing, and a family that we do not carry is skipped.
    let restart = read("40 06 3001 0019 46 80").graceful_restart.unwrap();
    assert_eq!(
        (restart.restart_time, restart.families),
        (seconds(1), Families::default())
    );
    let restart = read("40 06 0001 0001 01 7f").graceful_restart.unwrap();
    assert_eq!(restart.forwarding, Families::default());
}

#[test]
fn long_lived_graceful_restart_has_a_time_of_its_own_for_each_family() {
    // RFC 9494 §3.1
    let family = |family, forwarding, time| LongLived {
        family,
        forwarding,
        stale_time: seconds(time),
    };
    let long_lived = vec![
        family(Family::Ipv4Unicast, true, 86_400),
        family(Family::Ipv6Unicast, false, 0x00ff_ffff),
    ];
    same(
        "47 0e 0001 01 80 015180  0002 01 00 ffffff",
        &Capabilities {
            long_lived,
            ..nothing()
        },
    );
    assert_eq!(read("47 07 0019 46 80 000001").long_lived, []);
}

#[test]
fn a_value_of_a_wrong_length_refuses_the_open() {
    let rows = [
        "01 03 0001 00",
        "01 05 0001 00 01 00",
        "02 01 00",
        "05 05 0001 0001 00",
        "05 07 0001 0001 0002 00",
        "06 01 00",
        "09 00",
        "09 02 0303",
        "40 00",
        "40 01 00",
        "40 05 0078 0001 01",
        "41 03 00fde9",
        "46 01 00",
        "47 06 0001 01 00 0001",
        "47 08 0001 01 00 000001 00",
    ];
    for octets in rows {
        let refusal = refusal(&open_octets(FIXED, &parameter(octets)));
        let want = Notification::bare(Reason::OpenUnspecific);
        assert_eq!(refusal.notification, want, "{octets}");
    }
}

#[test]
fn what_is_only_shown_refuses_nothing() {
    let rows = [
        ("49 00", None),
        ("49 01 00", None),                         // empty name
        ("49 02 09 61", None),                      // ends early
        ("49 02 01 61", Some("a")),                 // no domain field, as old drafts had it
        ("49 05 01 61 02 6263", Some("a.bc")),      // name and domain
        ("49 03 01 61 09", Some("a")),              // a domain that ends early
        ("49 03 02 fffe", None),                    // no UTF-8
        ("49 05 04 611b5b32", Some("a\u{fffd}[2")), // nothing for terminals
    ];
    for (octets, want) in rows {
        assert_eq!(read(octets).hostname.as_deref(), want, "{octets}");
    }
    for (octets, want) in [
        ("4b 00", None),
        ("4b 02 05 61", None),
        ("4b 03 02 6162", Some("ab")),
    ] {
        assert_eq!(read(octets).software.as_deref(), want, "{octets}");
    }
}

#[test]
fn a_long_name_is_cut_at_a_character() {
    let open = Open {
        capabilities: Capabilities {
            hostname: Some("ä".repeat(40)),
            ..nothing()
        },
        ..open_65536()
    };
    let Ok(Message::Open(back)) = decode_octets(&encode_open(&open), EXTERNAL) else {
        panic!()
    };
    assert_eq!(back.capabilities.hostname, Some("ä".repeat(32)), "64 octets");
}

#[test]
fn what_stands_twice_counts_as_its_rfc_says() {
    // RFC 5492 §4: the same again changes nothing.
    let once = "01 04 0001 00 01 02 00 06 00 09 01 03 41 04 0000fde9 46 00";
    assert_eq!(read(&[once, once].concat()), read(once));
    // RFC 9234 §4.2: two roles are kept apart, so that they can be refused.
    assert_eq!(read("09 01 03 09 01 00 09 01 03").roles, [3, 0]);
    // RFC 4724 §3 and RFC 9494 §3.1: the last one.
    let restart = read("40 06 8078 0001 01 80  40 02 0001")
        .graceful_restart
        .unwrap();
    assert_eq!((restart.restarted, restart.restart_time), (false, seconds(1)));
    assert_eq!(restart.families, Families::default());
    let long = read("47 07 0001 01 00 000001  47 07 0002 01 00 000002").long_lived;
    assert_eq!(
        long.iter().map(|one| one.family).collect::<Vec<_>>(),
        [Family::Ipv6Unicast]
    );
    // RFC 8950 §4: one that names other combinations takes nothing away.
    assert!(read("05 06 0001 0001 0002  05 06 0001 0080 0002").extended_next_hop);
    assert!(!read("05 06 0001 0080 0002").extended_next_hop);
    assert!(read("05 0c 0001 0080 0002 0001 0001 0002").extended_next_hop);
}

#[test]
fn roles_have_their_numbers() {
    // RFC 9234 §4.1, table 1
    let rows = [
        (RoleName::Provider, 0),
        (RoleName::RouteServer, 1),
        (RoleName::RouteServerClient, 2),
        (RoleName::Customer, 3),
        (RoleName::Peer, 4),
    ];
    for (role, number) in rows {
        assert_eq!((role_number(role).0, role_of(number)), (number, Some(role)));
    }
    assert_eq!(role_of(5), None);
}

#[test]
fn families_alone_are_what_an_unsupported_capability_names() {
    // RFC 5492 §5: as they stand in an OPEN.
    assert_eq!(
        encode_families(Families::ALL),
        hex("01 04 0001 00 01  01 04 0002 00 01")
    );
}
