//! The records of one name and type.

use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};

/// The records of one name and type. All have the same TTL (RFC 2181 §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RrSet {
    pub(crate) rtype: RecordType,
    pub(crate) ttl: u32,
    /// The data of each record, uncompressed, behind its length in two octets. Never empty.
    data: Box<[u8]>,
}

impl RrSet {
    /// `None` where a record has more than 65,535 octets, which no message can carry.
    pub(crate) fn new<'d>(
        rtype: RecordType,
        ttl: u32,
        records: impl Iterator<Item = &'d [u8]>,
    ) -> Option<Self> {
        let mut data = Vec::new();
        for record in records {
            data.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
            data.extend(record);
        }
        Some(Self {
            rtype,
            ttl,
            data: data.into(),
        })
    }

    /// The data of each record, in the order of the file.
    pub(crate) fn data(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.data;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk()?;
            let (record, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = tail;
            Some(record)
        })
    }

    /// The data of the first record.
    pub(crate) fn first(&self) -> &[u8] {
        self.data().next().unwrap_or_default()
    }

    /// The records under a name: the owner's, or the one that was asked where a wildcard stands in.
    pub(crate) fn records(&self, name: &Name) -> impl Iterator<Item = Record> {
        self.data()
            .map(|data| Record::from_rdata(name.clone(), self.ttl, rdata(self.rtype, data)))
    }
}

/// RFC 3597 §4: only types of RFC 1035 may have their names compressed, so only those (and the addresses) are
/// given by field; all others as octets.
fn rdata(rtype: RecordType, octets: &[u8]) -> RData {
    if octets.is_empty() {
        // hickory has no NULL without octets; this is its form of a record without data, whatever it is used for.
        return RData::Update0(rtype);
    }
    by_field(rtype, octets).unwrap_or_else(|| RData::Unknown {
        code: rtype,
        rdata: NULL::with(octets.to_vec()),
    })
}

/// `None` for a type that is kept as octets, and for data that are not of the type.
fn by_field(rtype: RecordType, octets: &[u8]) -> Option<RData> {
    if !is_by_field(rtype) {
        return None;
    }
    let length = u16::try_from(octets.len()).ok()?;
    RData::read(&mut BinDecoder::new(octets), rtype, Restrict::new(length)).ok()
}

/// Whether octets are data of a type, as far as we look into it.
pub(crate) fn is_sound(rtype: RecordType, octets: &[u8]) -> bool {
    octets.len() <= usize::from(u16::MAX) && (!is_by_field(rtype) || by_field(rtype, octets).is_some())
}

/// Whether names in the data of a type may be compressed in a message.
pub(crate) fn is_compressed(rtype: RecordType) -> bool {
    is_by_field(rtype) && !matches!(rtype, RecordType::A | RecordType::AAAA)
}

fn is_by_field(rtype: RecordType) -> bool {
    matches!(
        rtype,
        RecordType::A
            | RecordType::AAAA
            | RecordType::NS
            | RecordType::CNAME
            | RecordType::SOA
            | RecordType::PTR
            | RecordType::MX
    )
}

/// The name in the data to which a type points, in lower case: where a client goes on.
pub(crate) fn target(rtype: RecordType, data: &[u8]) -> Option<Box<[u8]>> {
    let name = data.get(target_at(rtype)?..)?;
    Some(name.to_ascii_lowercase().into())
}

/// Where the name stands that ends the data.
fn target_at(rtype: RecordType) -> Option<usize> {
    match u16::from(rtype) {
        // NS, CNAME, PTR, DNAME
        2 | 5 | 12 | 39 => Some(0),
        // MX: preference
        15 => Some(2),
        // SRV: priority, weight, port
        33 => Some(6),
        _ => None,
    }
}

/// RFC 2181 §5: whether two records of a type are one. Names in data have no case (RFC 4343 §3).
pub(super) fn is_same(rtype: RecordType, a: &[u8], b: &[u8]) -> bool {
    match target_at(rtype) {
        None => a == b,
        Some(at) => {
            a.len() == b.len()
                && a.get(..at) == b.get(..at)
                && a.get(at..)
                    .unwrap_or_default()
                    .eq_ignore_ascii_case(b.get(at..).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_given_back_as_they_came() {
        let data: [&[u8]; 3] = [b"", b"abc", b"\x01\x02"];
        let set = RrSet::new(RecordType::Unknown(65_280), 60, data.into_iter()).unwrap();
        assert_eq!(set.data().collect::<Vec<_>>(), data);
        let records: Vec<_> = set.records(&Name::root()).collect();
        assert!(
            records
                .iter()
                .all(|record| record.record_type() == RecordType::Unknown(65_280))
        );
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn names_in_data_have_no_case_and_numbers_have() {
        assert!(is_same(RecordType::NS, b"\x01a\x00", b"\x01A\x00"));
        assert!(
            !is_same(RecordType::MX, b"\x00a\x01a\x00", b"\x00A\x01a\x00"),
            "97 is not 65"
        );
        assert!(is_same(RecordType::MX, b"\x00a\x01a\x00", b"\x00a\x01A\x00"));
        assert!(!is_same(RecordType::TXT, b"\x01a", b"\x01A"));
    }
}
