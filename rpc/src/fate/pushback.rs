//! `grpc-retry-pushback-ms`: the server's word on retries (gRFC A6, "Pushback").

use std::time::Duration;

/// The key in the trailers of an answer.
pub const PUSHBACK_HEADER: &str = "grpc-retry-pushback-ms";

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pushback {
    /// Nothing.
    #[default]
    Silent,
    /// Again after exactly this.
    After(Duration),
    /// Not again.
    Never,
}

impl Pushback {
    /// Reads the value. A6: "If the value for pushback is negative or unparseable, then it will be seen as the server
    /// asking the client not to retry at all."
    #[must_use]
    pub fn parse(value: Option<&[u8]>) -> Self {
        let Some(value) = value else {
            return Self::Silent;
        };
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits);
        let number: Option<u32> = number.and_then(|text| text.parse().ok());
        number.map_or(Self::Never, |ms| Self::After(Duration::from_millis(ms.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_means_never() {
        assert_eq!(Pushback::parse(None), Pushback::Silent);
        assert_eq!(Pushback::parse(Some(b"0")), Pushback::After(Duration::ZERO));
        assert_eq!(
            Pushback::parse(Some(b"250")),
            Pushback::After(Duration::from_millis(250))
        );
        for text in ["-1", "", "soon", "+5", " 5", "1.5", "99999999999"] {
            assert_eq!(
                Pushback::parse(Some(text.as_bytes())),
                Pushback::Never,
                "{text:?}"
            );
        }
    }
}
