//! AS paths (RFC 4271 §4.3 b) with AS numbers of 2 and 4 octets, and the one made of both (RFC 6793).

use steer_topology::Asn;

use super::take;

/// Kind of a path segment (RFC 4271 §4.3 b).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum SegmentKind {
    Set = 1,
    Sequence = 2,
}

/// A run of AS numbers; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Ordered or not.
    pub kind: SegmentKind,
    /// At most 255.
    pub asns: Vec<u32>,
}

/// Confederation segments (RFC 5065 §3).
const CONFEDERATION: [u8; 2] = [3, 4];

/// RFC 7606 §7.2: an unknown segment, an empty one, or one that does not end with the attribute is malformed.
/// So are confederation segments from whoever is not in our confederation (RFC 5065 §5.4), and we have none.
pub(super) fn read(value: &[u8], four_octet: bool) -> Option<Vec<Segment>> {
    read_segments(value, four_octet, &[])
}

/// AS4_PATH: confederation segments are left out (RFC 6793 §6); all else as in AS_PATH, but it is never empty.
pub(super) fn read_as4(value: &[u8]) -> Option<Vec<Segment>> {
    if value.is_empty() {
        return None;
    }
    read_segments(value, true, &CONFEDERATION)
}

fn read_segments(mut value: &[u8], four_octet: bool, left_out: &[u8]) -> Option<Vec<Segment>> {
    let width = if four_octet { 4 } else { 2 };
    let mut path = Vec::new();
    while !value.is_empty() {
        let &[kind, count] = take(&mut value, 2)?.first_chunk::<2>()?;
        let numbers = take(&mut value, usize::from(count) * width).filter(|numbers| !numbers.is_empty())?;
        if left_out.contains(&kind) {
            continue;
        }
        let kind = [SegmentKind::Set, SegmentKind::Sequence]
            .into_iter()
            .find(|k| *k as u8 == kind)?;
        let asns = numbers
            .chunks_exact(width)
            .map(|n| n.iter().fold(0, |sum, b| (sum << 8) | u32::from(*b)));
        let asns: Vec<u32> = asns.collect();
        if asns.contains(&0) {
            return None; // RFC 7607 §2
        }
        path.push(Segment { kind, asns });
    }
    Some(path)
}

/// The value of AS_PATH or AS4_PATH; a segment of more than 255 is split.
pub(super) fn value(path: &[Segment], four_octet: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for segment in path {
        for asns in segment.asns.chunks(255) {
            out.extend_from_slice(&[segment.kind as u8, u8::try_from(asns.len()).unwrap_or(u8::MAX)]);
            for asn in asns {
                put_asn(&mut out, *asn, four_octet);
            }
        }
    }
    out
}

fn put_asn(out: &mut Vec<u8>, asn: u32, four_octet: bool) {
    if four_octet {
        out.extend_from_slice(&asn.to_be_bytes());
    } else {
        let short = u16::try_from(asn).unwrap_or(Asn::TRANS.get() as u16);
        out.extend_from_slice(&short.to_be_bytes());
    }
}

/// Path length by RFC 4271 §9.1.2.2 a: a set counts as one.
fn length(path: &[Segment]) -> usize {
    let lengths = path.iter().map(|segment| match segment.kind {
        SegmentKind::Set => 1,
        SegmentKind::Sequence => segment.asns.len(),
    });
    lengths.sum()
}

/// RFC 6793 §4.2.3: the true path of a 2-octet peer is AS4_PATH behind as much of the head of AS_PATH as the peers
/// added that did not know AS4_PATH. An AS4_PATH that is longer than AS_PATH says nothing.
pub(super) fn merge(short: Vec<Segment>, true_tail: Vec<Segment>) -> Vec<Segment> {
    let Some(mut missing) = length(&short).checked_sub(length(&true_tail)) else {
        return short;
    };
    let mut path = Vec::new();
    for mut segment in short {
        if missing == 0 {
            break;
        }
        if segment.kind == SegmentKind::Sequence {
            segment.asns.truncate(missing);
        }
        missing = missing.saturating_sub(length(std::slice::from_ref(&segment)));
        path.push(segment);
    }
    let mut tail = true_tail.into_iter();
    // One run of AS numbers, as it was before it was cut in two.
    if let Some(first) = tail.next() {
        match path.last_mut() {
            Some(last) if joins(last, &first) => last.asns.extend(first.asns),
            Some(_) | None => path.push(first),
        }
    }
    path.extend(tail);
    path
}

fn joins(last: &Segment, next: &Segment) -> bool {
    let sequences = last.kind == SegmentKind::Sequence && next.kind == SegmentKind::Sequence;
    sequences && last.asns.len() + next.asns.len() <= 255
}
