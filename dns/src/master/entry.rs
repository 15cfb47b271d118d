//! Cutting a master file into entries, and entries into words. RFC 1035 §5.1.

use std::borrow::Cow;
use std::ops::Range;

use super::Typo;

/// One record or directive: the text with parentheses, comments and the line ends inside blanked out, so that
/// offsets stay those of the file.
pub(super) struct Entry<'t> {
    pub(super) flat: Cow<'t, str>,
    pub(super) start: usize,
}

/// Cuts the text at the line ends outside parentheses and quotes.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Result<Entry<'_>, Typo>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let (length, entry) = cut(rest, at);
        at += length;
        Some(entry)
    })
}

/// The first entry of `text`, which starts at `start` in the file, and its length with the line end.
fn cut(text: &str, start: usize) -> (usize, Result<Entry<'_>, Typo>) {
    // Most lines hold nothing that has to be blanked, and nothing that goes on in the next one.
    let special = |octet: u8| matches!(octet, b'\n' | b'\r' | b'(' | b')' | b';' | b'"' | b'\\');
    if let Some(at) = text.bytes().position(special)
        && let (Some(line), Some(b'\n')) = (text.get(..at), text.as_bytes().get(at))
    {
        let flat = Cow::Borrowed(line);
        return (at + 1, Ok(Entry { flat, start }));
    }
    let mut flat = String::with_capacity(80);
    let (mut open, mut quoted, mut escaped, mut comment): (Option<usize>, _, _, _) =
        (None, false, false, false);
    let mut depth = 0_usize;
    let mut typo = None;
    let mut length = text.len();
    for (at, c) in text.char_indices() {
        let here = start + at;
        if c == '\n' {
            comment = false;
            if quoted {
                let remedy = "close it on the same line; write \\010 for a line end inside";
                typo = typo.or(Some(Typo::new(
                    here..here,
                    "the line ends inside a quoted string",
                    remedy,
                )));
                quoted = false;
            }
            if depth == 0 {
                length = at + 1;
                break;
            }
            flat.push(' ');
            continue;
        }
        let plain = !quoted && !escaped && !comment;
        match c {
            ';' if plain => comment = true,
            '(' if plain => {
                depth += 1;
                open = open.or(Some(here));
            }
            ')' if plain && depth == 0 => {
                typo = typo.or(Some(Typo::new(
                    here..here + 1,
                    "\")\" without \"(\"",
                    "remove it or open it before",
                )));
            }
            ')' if plain => depth -= 1,
            '"' if !escaped && !comment => quoted = !quoted,
            _ => {}
        }
        if comment || (plain && matches!(c, '(' | ')' | '\r')) {
            flat.extend(std::iter::repeat_n(' ', c.len_utf8()));
        } else {
            flat.push(c);
        }
        escaped = c == '\\' && !escaped && !comment;
    }
    if let (true, Some(open)) = (depth > 0, open) {
        typo = Some(Typo::new(
            open..open + 1,
            "\"(\" is never closed",
            "write \")\" behind the last item of the record",
        ));
    }
    let flat = Cow::Owned(flat);
    (length, typo.map_or(Ok(Entry { flat, start }), Err))
}

/// A word of an entry, with its place in the file.
pub(super) struct Token<'e> {
    pub(super) text: &'e str,
    pub(super) span: Range<usize>,
    /// Where it ends in the entry.
    pub(super) end: usize,
}

impl Entry<'_> {
    /// The next word from offset `from` on.
    pub(super) fn token(&self, from: usize) -> Option<Token<'_>> {
        let rest = self.flat.get(from..)?;
        let begin = from + rest.find(|c| !is_blank(c))?;
        let word = self.flat.get(begin..)?;
        let mut escaped = false;
        let mut quoted = false;
        let length = word.find(|c| {
            let ends = is_blank(c) && !escaped && !quoted;
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = length.map_or(self.flat.len(), |length| begin + length);
        Some(Token {
            text: self.flat.get(begin..end)?,
            span: self.start + begin..self.start + end,
            end,
        })
    }

    pub(super) fn tokens(&self, mut from: usize) -> impl Iterator<Item = Token<'_>> {
        std::iter::from_fn(move || {
            let token = self.token(from)?;
            from = token.end;
            Some(token)
        })
    }

    pub(super) fn span(&self) -> Range<usize> {
        let begin = self.flat.len() - self.flat.trim_start().len();
        self.start + begin..self.start + self.flat.trim_end().len().max(begin)
    }
}

/// Between words.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
