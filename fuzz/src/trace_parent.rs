//! `traceparent` of a call, against the grammar of W3C Trace Context §3.2.2 and §4.3 written down a second time.

use steer_rpc::edge::TraceParent;

/// The value of one header.
pub fn check(data: &[u8]) {
    let read = TraceParent::parse(data);
    assert_eq!(read.is_ok(), is_sound(data), "{}", String::from_utf8_lossy(data));
    if let Ok(read) = read {
        let written = read.to_string();
        assert_eq!(TraceParent::parse(written.as_bytes()), Ok(read));
        // trace-id and parent-id, and the dashes around them.
        assert_eq!(&written.as_bytes()[2..53], &data[2..53]);
    }
}

fn is_sound(data: &[u8]) -> bool {
    let fields: Vec<&[u8]> = data.splitn(5, |octet| *octet == b'-').collect();
    let [version, trace, span, flags, rest @ ..] = fields.as_slice() else {
        return false;
    };
    let is_hex = |field: &[u8], length| {
        let digits = field.iter().all(|octet| b"0123456789abcdef".contains(octet));
        digits && field.len() == length
    };
    let are_hex = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    let is_zero = |field: &[u8]| field.iter().all(|octet| *octet == b'0');
    let is_later = *version != b"00" && *version != b"ff";
    are_hex && !is_zero(trace) && !is_zero(span) && (is_later || (*version == b"00" && rest.is_empty()))
}
