//! NOTIFICATION: numbers and names, and what is shown of the data.

use super::*;

#[test]
fn every_reason_has_its_numbers_and_none_shares_them() {
    for (index, (reason, code, subcode, _)) in Reason::TABLE.iter().enumerate() {
        assert_eq!(reason.numbers(), (*code, *subcode));
        let same = Reason::TABLE
            .iter()
            .filter(|(_, c, s, _)| (c, s) == (code, subcode));
        assert_eq!(same.count(), 1, "{code}/{subcode}");
        assert_eq!(
            *reason as usize, index,
            "the table follows the enum, so none is missing"
        );
    }
    assert_eq!(Reason::TABLE.len(), Reason::RefreshLength as usize + 1);
}

#[test]
fn a_shutdown_text_is_cut_at_a_character_and_cleaned_for_printing() {
    let long = "ä".repeat(200);
    let notification = Notification::shutdown(Reason::AdministrativeShutdown, &long);
    assert_eq!(notification.data.len(), 255, "254 octets are 127 characters");
    assert_eq!(notification.shutdown_text().unwrap(), "ä".repeat(127));
    let rude = Notification::shutdown(Reason::AdministrativeReset, "a\u{1b}[2Jb");
    assert_eq!(rude.shutdown_text().unwrap(), "a\u{fffd}[2Jb");
    assert_eq!(
        rude.to_string(),
        "Cease/Administrative Reset (6/4): \"a\u{fffd}[2Jb\""
    );
}

#[test]
fn a_bad_shutdown_text_is_ignored() {
    for data in [vec![], vec![9, b'x'], vec![2, 0xff, 0xfe], vec![0]] {
        let notification = Notification::new(Reason::AdministrativeShutdown, data);
        assert_eq!(notification.shutdown_text(), None);
    }
}

#[test]
fn what_the_registry_names_has_a_name_here() {
    // IANA's registry of BGP error codes and subcodes; the deprecated ones because old peers send them.
    let subcodes: &[(u8, &[u8])] = &[
        (1, &[0, 1, 2, 3]),
        (2, &[0, 1, 2, 3, 4, 5, 6, 7, 11]),
        (3, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (4, &[0]),
        (5, &[0, 1, 2, 3]),
        (6, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (7, &[0, 1]),
        (8, &[0]),
    ];
    for code in 0..=u8::MAX {
        let named = subcodes.iter().find(|(other, _)| *other == code);
        for subcode in 0..=u8::MAX {
            let data = Vec::new();
            let notification = Notification { code, subcode, data };
            let want = named.is_some_and(|(_, subcodes)| subcodes.contains(&subcode));
            assert_eq!(notification.name().is_some(), want, "{code}/{subcode}");
        }
    }
    let odd = |code, subcode| {
        Notification {
            code,
            subcode,
            data: vec![],
        }
        .to_string()
    };
    assert_eq!(
        odd(3, 7),
        "UPDATE Message Error/AS Routing Loop (deprecated) (3/7)"
    );
    assert_eq!(odd(6, 77), "Cease (6/77)");
    assert_eq!(odd(99, 1), "unknown notification (99/1)");
    assert_eq!(odd(0, 0), "unknown notification (0/0)");
}

#[test]
fn a_hard_reset_encloses_what_it_is_for() {
    let shutdown = Notification::shutdown(Reason::PeerDeconfigured, "");
    let hard = Notification::hard_reset(&shutdown);
    assert_eq!(
        (hard.code, hard.subcode, hard.data.as_slice()),
        (6, 9, &[6, 3, 0][..]),
        "RFC 8538 §3.1"
    );
    assert_eq!(hard.enclosed(), Some(shutdown.clone()));
    assert_eq!(shutdown.enclosed(), None);
    assert_eq!(
        hard.to_string(),
        "Cease/Hard Reset (6/9) of Cease/Peer De-configured (6/3)"
    );
    let empty = Notification::bare(Reason::HardReset);
    assert_eq!((empty.enclosed(), empty.is_cease()), (None, true));
    assert_eq!(empty.to_string(), "Cease/Hard Reset (6/9)");
    let nested = Notification::hard_reset(&hard);
    assert_eq!(
        nested.to_string(),
        "Cease/Hard Reset (6/9) of Cease/Hard Reset (6/9)"
    );
}

#[test]
fn a_prefix_limit_is_shown_with_its_family() {
    let limit = Malformed::too_many_prefixes(Family::Ipv4Unicast, 1_000);
    assert_eq!(
        limit.notification.data,
        vec![0, 1, 1, 0, 0, 3, 0xe8],
        "RFC 4486 §4"
    );
    assert_eq!(
        limit.notification.to_string(),
        "Cease/Maximum Number of Prefixes Reached (6/1): limit of 1000 ipv4-unicast prefixes"
    );
    let foreign = Notification::new(Reason::MaximumPrefixes, vec![0, 25, 70, 0, 0, 0, 1]);
    assert!(
        foreign
            .to_string()
            .ends_with("limit of 1 AFI 25 SAFI 70 prefixes")
    );
    let hard = Notification::hard_reset(&foreign);
    assert!(
        hard.to_string()
            .ends_with("(6/1): limit of 1 AFI 25 SAFI 70 prefixes")
    );
}
