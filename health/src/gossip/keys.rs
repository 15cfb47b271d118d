//! The fleet's secret: up to two keys, so that they can be changed without a gap.
//!
//! To change the key: add the new one as the second line everywhere and reload; swap the lines everywhere and reload;
//! remove the old one. The first line seals, both lines open.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use thiserror::Error;

/// Octets of a key.
pub const KEY_LENGTH: usize = 32;

/// Most keys that are live at once.
pub const KEYS_MAX: usize = 2;

/// The keys of a key file. Shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    first: [u8; KEY_LENGTH],
    second: Option<[u8; KEY_LENGTH]>,
}

/// What is wrong with a key file. Never carries what the line says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadKeys {
    /// Neither base64 nor hexadecimal, or not 32 octets.
    #[error(
        "line {line} is no key: write 32 octets as 64 hexadecimal digits or as base64, for example from `openssl rand -base64 32`"
    )]
    Line {
        /// From 1.
        line: usize,
    },
    /// No key at all.
    #[error("the file has no key: write 32 octets as 64 hexadecimal digits or as base64")]
    None,
    /// More than two.
    #[error("line {line} is a third key; at most two are live at once")]
    TooMany {
        /// From 1.
        line: usize,
    },
}

impl Keys {
    /// Reads a key file: one key per line; empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (line, text) = lines.next().ok_or(BadKeys::None)?;
        let first = key(text).ok_or(BadKeys::Line { line })?;
        let second = match lines.next() {
            Some((line, text)) => Some(key(text).ok_or(BadKeys::Line { line })?),
            None => None,
        };
        match lines.next() {
            Some((line, _)) => Err(BadKeys::TooMany { line }),
            None => Ok(Self { first, second }),
        }
    }

    /// One key alone.
    #[must_use]
    pub fn one(key: [u8; KEY_LENGTH]) -> Self {
        Self {
            first: key,
            second: None,
        }
    }

    pub(crate) fn sealing(&self) -> &[u8; KEY_LENGTH] {
        &self.first
    }

    pub(crate) fn opening(&self) -> impl Iterator<Item = &[u8; KEY_LENGTH]> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

fn key(text: &str) -> Option<[u8; KEY_LENGTH]> {
    let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    let octets = octets.or_else(|_| BASE64.decode(text.as_bytes())).ok()?;
    octets.try_into().ok()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    const SAME: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn hexadecimal_and_base64_of_the_same_octets_are_the_same_key() {
        let keys = Keys::parse(HEX).unwrap();
        assert_eq!(keys, Keys::parse(&format!("# ours\n\n  {SAME}\n")).unwrap());
        assert_eq!(keys.sealing()[31], 31);
        assert_eq!(keys.opening().count(), 1);
        assert_eq!(
            Keys::parse(&format!("{HEX}\n{SAME}")).unwrap().opening().count(),
            2
        );
    }

    #[test]
    fn a_bad_file_is_told_by_line_and_not_by_content() {
        assert_eq!(Keys::parse("# nothing\n"), Err(BadKeys::None));
        assert_eq!(
            Keys::parse(&format!("{HEX}\nsecret")),
            Err(BadKeys::Line { line: 2 })
        );
        assert_eq!(Keys::parse(&HEX[2..]), Err(BadKeys::Line { line: 1 }));
        let three = format!("{HEX}\n{HEX}\n{HEX}");
        assert_eq!(Keys::parse(&three), Err(BadKeys::TooMany { line: 3 }));
        assert_eq!(format!("{:?}", Keys::parse(HEX).unwrap()), "Keys(..)");
    }
}
