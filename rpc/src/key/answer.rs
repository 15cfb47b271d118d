//! What is kept of an answer, and how it is written.

use bytes::Bytes;

use crate::fate::Code;

/// An answer as it was given, to be given again byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `grpc-status`. An application's refusal is an answer, too.
    pub code: Code,
    /// `grpc-message`, not percent-encoded.
    pub message: String,
    /// Metadata of the application, in order.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// The octets of the message; empty where there is none.
    pub body: Bytes,
}

/// Octets that are no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// They end too early, or too late.
    #[error("a kept answer of {0} octets is cut off or has something after its end")]
    Length(usize),
    /// Written by something newer.
    #[error("a kept answer has version {0}, and we know 1")]
    Version(u8),
    /// A text that is none, or a number that is no status.
    #[error("a kept answer has a {0} that cannot be read")]
    Field(&'static str),
}

const VERSION: u8 = 1;

impl Answer {
    /// A success.
    #[must_use]
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self {
            code: Code::Ok,
            message: String::new(),
            metadata: Vec::new(),
            body: body.into(),
        }
    }

    /// A refusal by the application.
    #[must_use]
    pub fn refusal(code: Code, message: &str) -> Self {
        Self {
            code,
            message: message.to_owned(),
            metadata: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Version, status, then message, metadata and body, each with its length in 4 octets, big end first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut octets = vec![VERSION, self.code.number()];
        put(&mut octets, self.message.as_bytes());
        octets.extend(
            u32::try_from(self.metadata.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        for (name, value) in &self.metadata {
            put(&mut octets, name.as_bytes());
            put(&mut octets, value);
        }
        put(&mut octets, &self.body);
        octets
    }

    /// Reads it again.
    ///
    /// # Errors
    ///
    /// When it is not what [`Answer::to_bytes`] writes.
    pub fn from_bytes(octets: &[u8]) -> Result<Self, InvalidAnswer> {
        let length = || InvalidAnswer::Length(octets.len());
        let (&[version, code], mut rest) = octets.split_first_chunk::<2>().ok_or_else(length)?;
        if version != VERSION {
            return Err(InvalidAnswer::Version(version));
        }
        let code = Code::ALL
            .get(usize::from(code))
            .ok_or(InvalidAnswer::Field("status"))?;
        let text =
            |octets: &[u8], name| String::from_utf8(octets.to_vec()).map_err(|_| InvalidAnswer::Field(name));
        let message = text(take(&mut rest).ok_or_else(length)?, "message")?;
        let count = take_number(&mut rest).ok_or_else(length)?;
        let mut metadata = Vec::new();
        for _ in 0..count {
            let name = text(take(&mut rest).ok_or_else(length)?, "name of metadata")?;
            metadata.push((name, take(&mut rest).ok_or_else(length)?.to_vec()));
        }
        let body = Bytes::copy_from_slice(take(&mut rest).ok_or_else(length)?);
        if !rest.is_empty() {
            return Err(length());
        }
        Ok(Self {
            code: *code,
            message,
            metadata,
            body,
        })
    }
}

/// A length above 4 GiB cannot come: messages of gRPC have 4 octets of length themselves.
fn put(octets: &mut Vec<u8>, part: &[u8]) {
    octets.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    octets.extend(part);
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_answer_is_read_as_it_was_written_and_a_part_of_it_never(
            code in 0..17_usize, message in ".{0,9}", metadata in prop::collection::vec(("[a-z]{1,5}", prop::collection::vec(any::<u8>(), 0..5)), 0..4),
            body in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            let answer = Answer { code: Code::ALL[code], message, metadata, body: body.into() };
            let octets = answer.to_bytes();
            for cut in 0..octets.len() {
                prop_assert!(Answer::from_bytes(&octets[..cut]).is_err());
            }
            let longer = [&octets[..], &[0]].concat();
            prop_assert_eq!(Answer::from_bytes(&longer), Err(InvalidAnswer::Length(longer.len())));
            prop_assert_eq!(Answer::from_bytes(&octets), Ok(answer));
        }

        #[test]
        fn octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let with_head = [&[1, 0][..], &octets].concat();
            for octets in [&octets[..], &with_head] {
                if let Ok(answer) = Answer::from_bytes(octets) {
                    prop_assert_eq!(answer.to_bytes(), octets);
                }
            }
        }
    }

    #[test]
    fn an_answer_of_a_newer_version_is_refused() {
        assert_eq!(Answer::from_bytes(&[2, 0]), Err(InvalidAnswer::Version(2)));
        assert_eq!(Answer::from_bytes(&[1, 17]), Err(InvalidAnswer::Field("status")));
    }
}
