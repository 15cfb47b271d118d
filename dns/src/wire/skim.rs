//! A query read without making anything of it, for the quick path.

use super::{Edns, HEADER, Head, Header, LONGEST_NAME, Reader};

/// A query of the usual form as it stands in its octets: one question, at most an OPT record of version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skimmed<'m> {
    pub(crate) head: Head,
    /// The name as it was asked, uncompressed.
    pub(crate) name: &'m [u8],
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
    /// Header and question, which a reply repeats.
    pub(crate) front: &'m [u8],
}

/// Reads what [`super::parse`] would, without making anything of it. `None` where the message has another form.
pub(crate) fn skim(message: &[u8]) -> Option<Skimmed<'_>> {
    let header = Header::read(message)?;
    let Header {
        head,
        response,
        counts: counts @ [1, 0, 0, 0..=1],
    } = header
    else {
        return None;
    };
    if response || head.opcode != 0 {
        return None;
    }
    let mut reader = Reader { message, at: HEADER };
    let (name, rtype, class) = reader.question_octets()?;
    let front = message.get(..reader.at)?;
    let mut edns = None;
    reader.records(&counts, &mut edns).ok()?;
    if name.len() > LONGEST_NAME || edns.is_some_and(|edns| edns.version > 0) {
        return None;
    }
    Some(Skimmed {
        head,
        name,
        rtype,
        class,
        edns,
        front,
    })
}
