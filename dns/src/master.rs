//! Master files, RFC 1035 §5, RFC 2308 §4 (`$TTL`), RFC 3597 §5 (`TYPEnnn`, `\#`).
//!
//! ```text
//! text ─► entries (parentheses joined, comments blanked, same length) ─► owner, TTL, class, type ─► data in octets
//! ```
//!
//! An entry is one record or directive. Each is read on its own, so one typo costs one entry and a run reports
//! them all. Record data is left to the `domain` crate, which knows every type's text form, except for the plain
//! form of the most common types: that is read here (`plain`), several times as fast.

mod entry;
mod plain;
mod source;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use domain::base::iana::Rtype;
use domain::base::name::{Name as WireName, ToName};
use domain::base::rdata::ComposeRecordData;
use domain::zonefile::inplace::{Entry as Scanned, Zonefile};
use hickory_proto::rr::{Name, RecordType};
use steer_topology::{Fault, fault::Place};

use self::entry::{Entry, Token, entries, is_blank};
pub(crate) use self::source::Source;
use crate::wire;
use crate::zone::is_sound;

/// Faults reported per file; a file that is no master file at all would fill the screen otherwise.
const MAX_FAULTS: usize = 20;
/// Warnings reported per zone.
const MAX_WARNINGS: usize = 20;
/// Octets of a file: places in it are kept in 32 bits.
const MAX_FILE: usize = u32::MAX as usize;
/// How deep `$INCLUDE` may nest; a file that includes itself ends there.
const MAX_DEPTH: usize = 8;

/// One record as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// The octets of the name, in the case in which it was written.
    pub(crate) owner: Box<[u8]>,
    /// Absent where neither the record nor a `$TTL` nor an earlier record gave one.
    pub(crate) ttl: Option<u32>,
    pub(crate) rtype: RecordType,
    /// Uncompressed.
    pub(crate) data: Box<[u8]>,
    pub(crate) at: At,
}

impl Written {
    /// Whether it stands at the name with this key, see [`wire::key`].
    pub(crate) fn is_at(&self, key: &[u8]) -> bool {
        self.owner.eq_ignore_ascii_case(key)
    }
}

/// Where a record was written.
#[derive(Debug, Clone)]
pub(crate) struct At {
    file: u32,
    start: u32,
    end: u32,
}

impl At {
    /// A file has at most [`MAX_FILE`] octets, and so many files are never included.
    fn new(file: usize, span: &Range<usize>) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            file: small(file),
            start: small(span.start),
            end: small(span.end),
        }
    }

    fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The files of one zone and what they say.
#[derive(Debug, Default)]
pub(crate) struct Master {
    texts: Vec<(PathBuf, Arc<str>)>,
    pub(crate) records: Vec<Written>,
    /// Every file that was read, the zone's own first.
    pub(crate) sources: Vec<Source>,
    /// These refuse the zone.
    pub(crate) faults: Vec<Fault>,
    /// These do not.
    pub(crate) warnings: Vec<Fault>,
    /// Beyond [`MAX_WARNINGS`].
    untold: usize,
}

impl Master {
    /// Reads `path` and all that it includes. Faults are collected, not returned.
    pub(crate) fn read(path: &Path, origin: &Name) -> Self {
        let mut master = Self::default();
        master.file(path, &origin_of(origin), 0);
        master
    }

    /// Reads a text that stands for the file `path`.
    pub(crate) fn of_text(path: &Path, text: &str, origin: &Name) -> Self {
        let mut master = Self::default();
        master.text(path, text.to_owned(), &origin_of(origin), 0);
        master
    }

    /// A fault of the record at `at`.
    pub(crate) fn fault(&mut self, at: &At, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.extend(self.told(at, message, remedy));
    }

    /// Something about the record at `at` that is served as it stands, and is hardly meant.
    pub(crate) fn warn(&mut self, at: &At, message: impl Into<String>, remedy: impl Into<String>) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.extend(self.told(at, message, remedy));
        } else {
            self.untold += 1;
        }
    }

    fn told(&self, at: &At, message: impl Into<String>, remedy: impl Into<String>) -> Option<Fault> {
        let (path, text) = self.texts.get(at.file as usize)?;
        Some(Fault::at(path, Place::of(text, at.span()), message, remedy))
    }

    /// Puts faults and warnings in the order of the file, and says how many warnings were left out.
    pub(crate) fn sort(&mut self) {
        for list in [&mut self.faults, &mut self.warnings] {
            list.sort_by_key(|fault| fault.place.as_ref().map(|place| place.line));
        }
        if let (Some((path, _)), 1..) = (self.texts.first(), self.untold) {
            let message = format!("{} more warnings", self.untold);
            self.warnings
                .push(Fault::of_file(path, message, "correct those above first"));
        }
    }

    /// A fault of the zone's own file as a whole.
    pub(crate) fn whole_file(&mut self, message: String, remedy: String) {
        if let Some((path, _)) = self.texts.first() {
            self.faults.push(Fault::of_file(path, message, remedy));
        }
    }

    /// Line number of a record, for a message about another one.
    pub(crate) fn line(&self, at: &At) -> usize {
        self.texts
            .get(at.file as usize)
            .map_or(0, |(_, text)| Place::of(text, at.span()).line)
    }

    fn file(&mut self, path: &Path, origin: &WireName<Bytes>, depth: usize) {
        let octets = match Source::read(path) {
            Ok((octets, source)) => {
                self.sources.push(source);
                octets
            }
            Err(error) => {
                let remedy = "name a master file that this user may read";
                self.faults
                    .push(Fault::of_file(path, format!("cannot be read: {error}"), remedy));
                return;
            }
        };
        if octets.len() > MAX_FILE {
            let message = format!("has {} octets, and at most {MAX_FILE} are read", octets.len());
            let remedy = "split it by $INCLUDE";
            self.faults.push(Fault::of_file(path, message, remedy));
            return;
        }
        match String::from_utf8(octets) {
            Ok(text) => self.text(path, text, origin, depth),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let octet = error.as_bytes().get(at).copied().unwrap_or_default();
                let text = String::from_utf8_lossy(error.as_bytes());
                let message = format!("octet {octet} (0x{octet:02x}) is no UTF-8");
                let remedy = format!("save the file as UTF-8, or write the octet as \\{octet:03}");
                self.faults
                    .push(Fault::at(path, Place::of(&text, at..at + 1), message, remedy));
            }
        }
    }

    fn text(&mut self, path: &Path, text: String, origin: &WireName<Bytes>, depth: usize) {
        let file = self.texts.len();
        let text: Arc<str> = text.into();
        self.texts.push((path.to_owned(), Arc::clone(&text)));
        let mut scan = Scan {
            origin: origin.clone(),
            owner: None,
            default_ttl: None,
            last_ttl: None,
        };
        let mut found = 0;
        for entry in entries(&text) {
            let outcome = entry.and_then(|entry| scan.entry(&entry));
            match outcome {
                Ok(Said::Nothing) => {}
                Ok(Said::Record {
                    owner,
                    ttl,
                    rtype,
                    data,
                    span,
                }) => {
                    self.records.push(Written {
                        owner,
                        ttl,
                        rtype,
                        data,
                        at: At::new(file, &span),
                    });
                }
                Ok(Said::Include {
                    path: included,
                    origin,
                    span,
                }) => {
                    let target = path.parent().unwrap_or(Path::new("")).join(included);
                    if depth < MAX_DEPTH {
                        self.file(&target, &origin, depth + 1);
                    } else {
                        let message = format!("$INCLUDE {} nests deeper than {MAX_DEPTH}", target.display());
                        self.fault(
                            &At::new(file, &span),
                            message,
                            "include each file from the zone's own file",
                        );
                    }
                }
                Err(Typo {
                    span,
                    message,
                    remedy,
                }) => {
                    found += 1;
                    self.fault(&At::new(file, &span), message, remedy);
                }
            }
            if found == MAX_FAULTS {
                let remedy = "correct the faults above first";
                self.faults.push(Fault::of_file(
                    path,
                    format!("more than {MAX_FAULTS} faults"),
                    remedy,
                ));
                return;
            }
        }
    }
}

fn origin_of(name: &Name) -> WireName<Bytes> {
    WireName::from_octets(Bytes::from(wire::key(name))).unwrap_or_else(|_| WireName::root_bytes())
}

/// A fault before it knows its file.
struct Typo {
    span: Range<usize>,
    message: String,
    remedy: String,
}

impl Typo {
    fn new(span: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// What an entry says.
enum Said {
    Nothing,
    Record {
        owner: Box<[u8]>,
        ttl: Option<u32>,
        rtype: RecordType,
        data: Box<[u8]>,
        span: Range<usize>,
    },
    Include {
        path: String,
        origin: WireName<Bytes>,
        span: Range<usize>,
    },
}

/// What carries over from one entry to the next.
struct Scan {
    origin: WireName<Bytes>,
    /// Absent before the first one.
    owner: Option<Box<[u8]>>,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
}

impl Scan {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<Said, Typo> {
        let Some(first) = entry.token(0) else {
            return Ok(Said::Nothing);
        };
        if first.text.starts_with('$') {
            return self.directive(entry, &first);
        }
        // RFC 1035 §5.1: a line that begins with a blank belongs to the last owner.
        if entry.flat.starts_with(is_blank) {
            let Some(owner) = self.owner.clone() else {
                let remedy = "write the owner name at the start of the line, \"@\" for the zone itself";
                return Err(Typo::new(
                    first.span,
                    "no owner name before the first record",
                    remedy,
                ));
            };
            self.record(entry, 0, owner)
        } else {
            let owner: Box<[u8]> = self.name(&first)?.into();
            self.owner = Some(owner.clone());
            self.record(entry, first.end, owner)
        }
    }

    fn directive(&mut self, entry: &Entry<'_>, first: &Token<'_>) -> Result<Said, Typo> {
        let words: Vec<Token<'_>> = entry.tokens(first.end).collect();
        let directive = first.text.to_ascii_uppercase();
        match (directive.as_str(), words.as_slice()) {
            ("$ORIGIN", [name]) => {
                self.origin = self.absolute(name)?;
                Ok(Said::Nothing)
            }
            ("$TTL", [ttl]) => {
                let value = duration(ttl.text).ok_or_else(|| {
                    let message = format!("{:?} is no TTL", ttl.text);
                    Typo::new(
                        ttl.span.clone(),
                        message,
                        "write seconds, or units as in 1h30m; at most 2147483647",
                    )
                })?;
                self.default_ttl = Some(value);
                Ok(Said::Nothing)
            }
            ("$INCLUDE", [path, origin @ ..]) if origin.len() < 2 => {
                let origin = match origin.first() {
                    Some(name) => self.absolute(name)?,
                    None => self.origin.clone(),
                };
                Ok(Said::Include {
                    path: path.text.trim_matches('"').to_owned(),
                    origin,
                    span: entry.span(),
                })
            }
            ("$ORIGIN", _) => Err(Typo::new(
                entry.span(),
                "$ORIGIN takes one name",
                "write $ORIGIN example.com.",
            )),
            ("$TTL", _) => Err(Typo::new(
                entry.span(),
                "$TTL takes one number",
                "write $TTL 3600",
            )),
            ("$INCLUDE", _) => Err(Typo::new(
                entry.span(),
                "$INCLUDE takes a file and perhaps an origin",
                "write $INCLUDE FILE [ORIGIN]",
            )),
            // Gap: BIND's $GENERATE is not known.
            _ => {
                let message = format!("{:?} is no directive", first.text);
                Err(Typo::new(
                    first.span.clone(),
                    message,
                    "$ORIGIN, $TTL and $INCLUDE are possible",
                ))
            }
        }
    }

    /// `[TTL] [class] type data`, TTL and class in either order.
    fn record(&mut self, entry: &Entry<'_>, mut from: usize, owner: Box<[u8]>) -> Result<Said, Typo> {
        let mut ttl = None;
        let (rtype, data_at) = loop {
            let Some(word) = entry.token(from) else {
                return Err(Typo::new(
                    entry.span(),
                    "no record type",
                    "write OWNER [TTL] [IN] TYPE DATA",
                ));
            };
            from = word.end;
            if ttl.is_none()
                && let Some(value) = duration(word.text)
            {
                ttl = Some(value);
            } else if is_class(word.text) {
                if !word.text.eq_ignore_ascii_case("IN") && !word.text.eq_ignore_ascii_case("CLASS1") {
                    return Err(Typo::new(
                        word.span,
                        format!("class {} is not served", word.text),
                        "use class IN",
                    ));
                }
            } else if let Ok(rtype) = word.text.parse::<Rtype>() {
                if !may_be_stored(rtype) {
                    let message = format!("{} cannot stand in a zone", word.text);
                    return Err(Typo::new(word.span, message, "remove the record"));
                }
                break (rtype, word.end);
            } else {
                let message = format!("{:?} is no record type", word.text);
                let remedy = "write OWNER [TTL] [IN] TYPE DATA; for a type without a name TYPEnnn \\# LENGTH HEX (RFC 3597)";
                return Err(Typo::new(word.span, message, remedy));
            }
        };
        if ttl.is_some() {
            self.last_ttl = ttl;
        }
        // RFC 2308 §4: $TTL; else RFC 1035 §5.1: the last one stated.
        let ttl = ttl.or(self.default_ttl).or(self.last_ttl);
        let data = self.data(entry, rtype, data_at)?;
        Ok(Said::Record {
            owner,
            ttl,
            rtype: RecordType::from(rtype.to_int()),
            data,
            span: entry.span(),
        })
    }

    fn data(&self, entry: &Entry<'_>, rtype: Rtype, from: usize) -> Result<Box<[u8]>, Typo> {
        let text = entry.flat.get(from..).unwrap_or_default();
        let begin = entry.start + from + (text.len() - text.trim_start().len());
        let text = text.trim();
        let span = begin..begin + text.len();
        let fault = |why: &str| {
            let message = format!("{:?} is no {rtype} data: {why}", shorten(text));
            Typo::new(span.clone(), message, data_remedy(rtype))
        };
        if text.is_empty() {
            return Err(fault("there is none"));
        }
        // RFC 4408 §3.1.1: the old SPF type is written as TXT is.
        let form = if rtype == Rtype::SPF { Rtype::TXT } else { rtype };
        if let Some(octets) = plain::data(form, text, self.origin.as_slice()) {
            return Ok(octets.into());
        }
        let (_, octets) = self.scan(". 0 IN", form, text).map_err(|why| fault(&why))?;
        if is_sound(RecordType::from(rtype.to_int()), &octets) {
            Ok(octets.into())
        } else {
            Err(fault("its length does not fit the type"))
        }
    }

    /// The octets of a name relative to the origin.
    fn name(&self, word: &Token<'_>) -> Result<Vec<u8>, Typo> {
        if word.text == "@" {
            return Ok(self.origin.as_slice().to_vec());
        }
        if let Some(octets) = plain::name(word.text, self.origin.as_slice()) {
            return Ok(octets);
        }
        let read = self.scan(&format!("{} 0 IN", word.text), Rtype::TXT, "x");
        read.map(|(owner, _)| owner).map_err(|why| {
            let remedy = "labels have 1 to 63 octets, a name at most 255; write other octets as \\DDD";
            Typo::new(
                word.span.clone(),
                format!("{:?} is no domain name: {why}", shorten(word.text)),
                remedy,
            )
        })
    }

    fn absolute(&self, word: &Token<'_>) -> Result<WireName<Bytes>, Typo> {
        let octets = self.name(word)?;
        WireName::from_octets(Bytes::from(octets)).map_err(|error| {
            Typo::new(
                word.span.clone(),
                format!("{:?}: {error}", word.text),
                "write an absolute domain name",
            )
        })
    }

    /// Lets `domain` read one record; gives owner and data in wire format.
    fn scan(&self, head: &str, rtype: Rtype, data: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
        let line = format!("{head} TYPE{} {data}\n", rtype.to_int());
        let mut zone = Zonefile::from(&*ascii(&line));
        zone.set_origin(self.origin.clone());
        match zone.next_entry() {
            Ok(Some(Scanned::Record(record))) => {
                let mut owner = Vec::new();
                let mut data = Vec::new();
                record.owner().compose(&mut owner).map_err(|_| "too long")?;
                record.data().compose_rdata(&mut data).map_err(|_| "too long")?;
                Ok((owner, data))
            }
            Ok(Some(Scanned::Include { .. }) | None) => Err("nothing readable".to_owned()),
            // The position in the error is one of our own line, and of no use to the operator.
            Err(error) => {
                let text = error.to_string();
                Err(printable(
                    text.splitn(3, ':').last().unwrap_or("unreadable").trim(),
                ))
            }
        }
    }
}

/// For a terminal, which obeys control characters.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `domain` reads ASCII; octets beyond go in as `\DDD`, so that UTF-8 in a TXT record is taken as it stands.
fn ascii(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut octets = [0; 4];
            out.extend(
                c.encode_utf8(&mut octets)
                    .bytes()
                    .map(|octet| format!("\\{octet:03}")),
            );
        }
    }
    out
}

/// Seconds, or numbers with the units that BIND knows: `1h30m`. RFC 2181 §8: at most 2^31 - 1.
fn duration(text: &str) -> Option<u32> {
    let mut total = 0_u32;
    let mut number: Option<u32> = None;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let rest = match (number, text.ends_with(|c: char| c.is_ascii_alphabetic())) {
        (Some(rest), false) => rest,
        (None, true) => 0,
        (Some(_), true) | (None, false) => return None,
    };
    total
        .checked_add(rest)
        .filter(|ttl| *ttl <= i32::MAX.unsigned_abs())
}

fn is_class(text: &str) -> bool {
    if text.eq_ignore_ascii_case("IN") {
        return true;
    }
    let upper = text.to_ascii_uppercase();
    matches!(upper.as_str(), "IN" | "CH" | "CS" | "HS")
        || upper
            .strip_prefix("CLASS")
            .is_some_and(|number| number.parse::<u16>().is_ok())
}

/// RFC 6895 §3.1: 0, OPT, and the range of query and meta types are no data.
fn may_be_stored(rtype: Rtype) -> bool {
    !matches!(rtype.to_int(), 0 | 41 | 128..=255)
}

fn data_remedy(rtype: Rtype) -> String {
    match rtype {
        Rtype::A => "write an IPv4 address such as 192.0.2.1",
        Rtype::AAAA => "write an IPv6 address such as 2001:db8::1",
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME => {
            "write one domain name, with a final dot if absolute"
        }
        Rtype::MX => "write PREFERENCE HOST, such as 10 mail.example.com.",
        Rtype::TXT => "write strings of at most 255 octets, in quotes",
        Rtype::SRV => "write PRIORITY WEIGHT PORT HOST",
        Rtype::CAA => "write FLAGS TAG VALUE, such as 0 issue \"ca.example\"",
        Rtype::SOA => "write PRIMARY CONTACT SERIAL REFRESH RETRY EXPIRE MINIMUM, the last four in seconds",
        _ => return format!("see the specification of {rtype}, or write it as \\# LENGTH HEX (RFC 3597)"),
    }
    .to_owned()
}

fn shorten(text: &str) -> String {
    let words = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= 60 {
        words
    } else {
        words.chars().take(57).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests;
