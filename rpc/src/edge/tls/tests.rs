use std::time::{Duration, SystemTime};

use super::client_name;
use super::renew::Renewal;

#[test]
fn files_are_read_once_they_have_changed_and_are_still() {
    let mark = |second: u64| Some((SystemTime::UNIX_EPOCH + Duration::from_secs(second), 7));
    let rows = [
        ([mark(1), mark(1)], false, "as they were"),
        (
            [mark(2), mark(1)],
            false,
            "the certificate is new, the key may follow",
        ),
        ([mark(2), mark(2)], false, "it does"),
        ([mark(2), mark(2)], true, "both are still"),
        ([mark(2), mark(2)], false, "they were read, good or not"),
        ([None, mark(2)], false, "one is gone"),
        ([None, mark(2)], true, "and stays so"),
        ([None, mark(2)], false, "which is told once"),
        ([mark(2), mark(2)], false, "it is back"),
        ([mark(2), mark(2)], true, "and read again"),
    ];
    let mut renewal = Renewal::new(vec![mark(1), mark(1)]);
    for (marks, is_read, why) in rows {
        assert_eq!(renewal.on_look(marks.to_vec()), is_read, "{why}");
    }
}

#[test]
fn a_client_is_called_by_its_uri_or_its_dns_name_or_its_subject() {
    let named = |names: Vec<rcgen::SanType>| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "subject");
        let key = rcgen::KeyPair::generate().unwrap();
        client_name(params.self_signed(&key).unwrap().der())
    };
    let dns = || rcgen::SanType::DnsName("shop.internal".try_into().unwrap());
    let uri = || rcgen::SanType::URI("spiffe://fleet/shop".try_into().unwrap());
    assert_eq!(named(vec![dns(), uri()]).as_deref(), Some("spiffe://fleet/shop"));
    assert_eq!(named(vec![dns()]).as_deref(), Some("shop.internal"));
    assert_eq!(named(vec![]).as_deref(), Some("CN=subject"));
    assert_eq!(client_name(&b"no certificate".as_slice().into()), None);
}
