//! A reader of replies that shares no code with the server under test.

use std::collections::BTreeSet;
use std::fmt;

use crate::zones::Question;

/// Where names stand in the data of a type that a server may compress or write in another case: the offset of the
/// first name, and how many there are.
fn names_in(kind: u16, data: &[u8]) -> Option<(usize, usize)> {
    match kind {
        2 | 5 | 12 | 39 => Some((0, 1)),
        6 => Some((0, 2)),
        15 => Some((2, 1)),
        33 => Some((6, 1)),
        35 => {
            let behind = |at: usize| Some(at + 1 + usize::from(*data.get(at)?));
            Some((behind(behind(behind(4)?)?)?, 1))
        }
        64 | 65 => Some((2, 1)),
        _ => None,
    }
}

/// A record as it is compared: names in lower case and uncompressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) owner: Vec<u8>,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

/// A reply as it is compared. Sections are sets (RFC 2181 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) rcode: u8,
    pub(crate) aa: bool,
    pub(crate) tc: bool,
    pub(crate) answer: BTreeSet<Record>,
    pub(crate) authority: BTreeSet<Record>,
    pub(crate) additional: BTreeSet<Record>,
    /// Octets of the message.
    pub(crate) length: usize,
}

impl Question {
    /// The message that asks it.
    pub(crate) fn message(&self, id: u16) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.payload.is_some())]);
        message.extend(&self.name);
        message.extend(self.kind.to_be_bytes());
        message.extend([0, 1]);
        if let Some(payload) = self.payload {
            message.extend([0, 0, 41]);
            message.extend(payload.to_be_bytes());
            message.extend([0, 0, 0, 0, 0, 0]);
        }
        message
    }
}

impl Reply {
    /// `None` where the octets are no reply. Of a truncated one only the header is read: nobody may use the rest
    /// (RFC 2181 §9), and servers leave pieces of records there.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let [_, _, high, low, counts @ ..] = octets.get(..12)? else {
            return None;
        };
        let count = |at: usize| Some(u16::from_be_bytes([*counts.get(at)?, *counts.get(at + 1)?]));
        let mut reader = Reader { octets, at: 12 };
        for _ in 0..count(0)? {
            reader.name()?;
            reader.take(4)?;
        }
        let mut section = |at| -> Option<BTreeSet<Record>> {
            let records: Option<Vec<_>> = (0..count(at)?).map(|_| reader.record()).collect();
            Some(records?.into_iter().filter(|record| record.kind != 41).collect())
        };
        let tc = high & 2 != 0;
        let (answer, authority, additional) = if tc {
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new())
        } else {
            (section(2)?, section(4)?, section(6)?)
        };
        (high & 0x80 != 0 && (tc || reader.at == octets.len())).then_some(Self {
            rcode: low & 0xf,
            aa: high & 4 != 0,
            tc,
            answer,
            authority,
            additional,
            length: octets.len(),
        })
    }

    /// Equal in all but length.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let head = |reply: &Self| (reply.rcode, reply.aa, reply.tc);
        head(self) == head(other)
            && self.answer == other.answer
            && self.authority == other.authority
            && self.additional == other.additional
    }
}

struct Reader<'m> {
    octets: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let taken = self.octets.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let octets = self.take(2)?;
        Some(u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let mut at = self.at;
        let mut end = None;
        loop {
            let length = usize::from(*self.octets.get(at)?);
            if length >= 192 {
                let low = usize::from(*self.octets.get(at + 1)?);
                end = end.or(Some(at + 2));
                let target = (length - 192) * 256 + low;
                if target >= at {
                    return None;
                }
                at = target;
                continue;
            }
            name.extend(self.octets.get(at..=at + length)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
        self.at = end.unwrap_or(at);
        name.make_ascii_lowercase();
        (name.len() <= 255).then_some(name)
    }

    fn record(&mut self) -> Option<Record> {
        let owner = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        let data = match names_in(kind, self.octets.get(self.at..end)?) {
            None => self.take(length)?.to_vec(),
            Some((first, count)) => {
                let mut data = self.take(first)?.to_vec();
                for _ in 0..count {
                    data.extend(self.name()?);
                }
                data.extend(self.take(end.checked_sub(self.at)?)?);
                data
            }
        };
        (self.at == end).then_some(Record {
            owner,
            kind,
            class,
            ttl,
            data,
        })
    }
}

/// A name in wire format; `None` where it is none.
pub(crate) fn wire_name(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut label = Vec::new();
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'.' => {
                if label.is_empty() || label.len() > 63 {
                    return None;
                }
                name.push(label.len() as u8);
                name.append(&mut label);
            }
            b'\\' => {
                let first = octets.next()?;
                if first.is_ascii_digit() {
                    let rest = [octets.next()?, octets.next()?];
                    let digits = [first, rest[0], rest[1]].map(|digit| u32::from(digit - b'0'));
                    label.push(u8::try_from(digits[0] * 100 + digits[1] * 10 + digits[2]).ok()?);
                } else {
                    label.push(first);
                }
            }
            other => label.push(other),
        }
    }
    name.push(0);
    (label.is_empty() && name.len() <= 255).then_some(name)
}

/// Whether a text is a domain name.
pub(crate) fn is_name(text: &str) -> bool {
    wire_name(text).is_some()
}

/// A name for people.
pub(crate) fn show_name(name: &[u8]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Some(length) = name.get(at).copied().filter(|length| *length > 0) {
        let label = name.get(at + 1..at + 1 + usize::from(length)).unwrap_or_default();
        text.push_str(&label.escape_ascii().to_string().replace('.', "\\."));
        text.push('.');
        at += 1 + usize::from(length);
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            owner,
            kind,
            class: _,
            ttl,
            data,
        } = self;
        let data = match names_in(*kind, data) {
            Some((0, 1)) => show_name(data),
            Some(_) | None => data.escape_ascii().to_string(),
        };
        write!(f, "{} {ttl} TYPE{kind} {data}", show_name(owner))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rcode,
            aa,
            tc,
            answer,
            authority,
            additional,
            length: _,
        } = self;
        writeln!(
            f,
            "    rcode {rcode}{}{}",
            if *aa { " AA" } else { "" },
            if *tc { " TC" } else { "" }
        )?;
        for (title, section) in [
            ("answer", answer),
            ("authority", authority),
            ("additional", additional),
        ] {
            for record in section {
                writeln!(f, "    {title}: {record}")?;
            }
        }
        Ok(())
    }
}
