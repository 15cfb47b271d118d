//! Which stream it is and where it goes on, in metadata.

use std::fmt;

use http::{HeaderMap, HeaderValue};

/// The metadata key that names a stream.
pub const STREAM_HEADER: &str = "steer-stream";

/// The metadata key of a number: in an answer, of the first message that follows; in a request, of the one that is
/// wanted next.
pub const NEXT_HEADER: &str = "steer-stream-next";

/// Octets of a token at most.
const TOKEN_MAX: usize = 255;

/// The name of a stream, as its service gave it: 1 to 255 visible characters of ASCII. Whoever knows it can ask for the
/// stream, so the service must look at who asks, as it did the first time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamToken(String);

/// Metadata that name no place in a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMark {
    /// The name.
    #[error("{STREAM_HEADER} is {0:?}; 1 to 255 visible characters of ASCII are wanted")]
    Token(String),
    /// The number.
    #[error("{NEXT_HEADER} is {0:?}; a number from 0 to 2^63-1 is wanted beside {STREAM_HEADER}")]
    Next(String),
}

impl StreamToken {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`InvalidMark::Token`].
    pub fn parse(value: &[u8]) -> Result<Self, InvalidMark> {
        let text = String::from_utf8_lossy(value).into_owned();
        if (1..=TOKEN_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic) {
            Ok(Self(text))
        } else {
            Err(InvalidMark::Token(text))
        }
    }

    /// As in metadata.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which stream.
    pub token: StreamToken,
    /// The number of a message, from 0.
    pub next: u64,
}

impl Mark {
    /// Reads a place from metadata; none where there is none.
    ///
    /// # Errors
    ///
    /// See [`InvalidMark`].
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, InvalidMark> {
        let Some(token) = headers.get(STREAM_HEADER) else {
            return Ok(None);
        };
        let token = StreamToken::parse(token.as_bytes())?;
        let next = headers.get(NEXT_HEADER).map_or(&b""[..], HeaderValue::as_bytes);
        let wrong = || InvalidMark::Next(String::from_utf8_lossy(next).into_owned());
        let digits = !next.is_empty() && next.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(next)
            .ok()
            .filter(|_| digits)
            .ok_or_else(wrong)?;
        let next: i64 = text.parse().map_err(|_| wrong())?;
        Ok(Some(Self {
            token,
            next: next.unsigned_abs(),
        }))
    }

    /// Writes it into metadata.
    pub fn write(&self, headers: &mut HeaderMap) {
        // Visible ASCII is always a value.
        if let Ok(token) = HeaderValue::from_str(self.token.as_str()) {
            headers.insert(STREAM_HEADER, token);
            headers.insert(NEXT_HEADER, HeaderValue::from(self.next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        });
        pairs.collect()
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_none_where_there_is_none() {
        let mark = Mark {
            token: StreamToken::parse(b"users/7").unwrap(),
            next: 12,
        };
        let mut written = HeaderMap::new();
        mark.write(&mut written);
        assert_eq!(Mark::read(&written), Ok(Some(mark)));
        assert_eq!(Mark::read(&headers(&[("steer-stream-next", "5")])), Ok(None));
    }

    #[test]
    fn what_is_no_place_is_refused_with_its_value() {
        for token in ["", "a b", "\u{e9}"] {
            let error = Mark::read(&headers(&[("steer-stream", token), ("steer-stream-next", "0")]));
            assert_eq!(error, Err(InvalidMark::Token(token.to_owned())));
        }
        assert!(StreamToken::parse(&[b'a'; 256]).is_err());
        for next in [
            "",
            "-1",
            "+1",
            "x",
            "1.5",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            let error = Mark::read(&headers(&[("steer-stream", "t"), ("steer-stream-next", next)]));
            assert_eq!(error, Err(InvalidMark::Next(next.to_owned())));
        }
        let missing = Mark::read(&headers(&[("steer-stream", "t")]));
        assert_eq!(missing, Err(InvalidMark::Next(String::new())));
    }
}
