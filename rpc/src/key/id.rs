//! The key of a call, and what it is compared by.

use std::fmt;

use rand::{Rng, RngExt};
use ring::digest::{Context, SHA256};

/// The metadata key of a key (draft-ietf-httpapi-idempotency-key-header).
pub const KEY_HEADER: &str = "idempotency-key";

/// The metadata key that marks an answer that was given before; its value is `true`.
pub const REPLAYED_HEADER: &str = "idempotency-replayed";

/// Octets of a key at most.
const KEY_MAX: usize = 255;

/// Octets of a scope at most.
pub const SCOPE_MAX: usize = 255;

/// A key: 1 to 255 visible characters of ASCII without `"` and `\`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

/// A key that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing.
    #[error("the idempotency key is empty; 1 to 255 characters are wanted")]
    Empty,
    /// Too much.
    #[error("the idempotency key has {0} octets; 255 are the most")]
    Long(usize),
    /// Something else than visible ASCII.
    #[error("the idempotency key {0:?} has a character that is not visible ASCII, or a quote or backslash")]
    Character(String),
    /// A scope that is too long.
    #[error("the scope of the key has {0} octets; 255 are the most")]
    Scope(usize),
    /// A scope that no store can hold.
    #[error("the scope {0:?} of the key has a control character")]
    ScopeCharacter(String),
}

impl IdempotencyKey {
    /// Reads the value of [`KEY_HEADER`]: a string of RFC 9651 §3.3.3 in quotes, as the draft has it, or the same without
    /// quotes, as most clients send it. Both are the same key.
    ///
    /// # Errors
    ///
    /// See [`InvalidKey`].
    pub fn parse(value: &[u8]) -> Result<Self, InvalidKey> {
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        let key = quoted.unwrap_or(value);
        match key.len() {
            0 => return Err(InvalidKey::Empty),
            length if length > KEY_MAX => return Err(InvalidKey::Long(length)),
            _ => {}
        }
        let fine = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
        let text = String::from_utf8_lossy(key).into_owned();
        if key.iter().all(fine) {
            Ok(Self(text))
        } else {
            Err(InvalidKey::Character(text))
        }
    }

    /// A new one: 128 random bits in hexadecimal. Made once per intention, before the first attempt, and kept for all.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(format!("{:032x}", rng.random::<u128>()))
    }

    /// The key of the message with this number in a stream whose call has this key: each message of it is a call of its
    /// own for a store. A key that would become too long is told by its digest.
    #[must_use]
    pub fn of_message(&self, number: u64) -> Self {
        let key = format!("{}.{number}", self.0);
        if key.len() <= KEY_MAX {
            return Self(key);
        }
        let digest = ring::digest::digest(&SHA256, self.0.as_bytes());
        Self(format!(
            "{}.{number}",
            data_encoding::HEXLOWER.encode(digest.as_ref())
        ))
    }

    /// The key without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What tells one payload from another: SHA-256 of the method and the octets of the request.
///
/// Octets and not meaning: the encoding of protobuf is not canonical, so a client has to send the octets that it sent
/// first, and not encode its message anew with another version of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a request.
    #[must_use]
    pub fn of(method: &str, payload: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(method.as_bytes());
        context.update(&[0]);
        context.update(payload);
        let mut octets = [0; 32];
        octets.copy_from_slice(context.finish().as_ref());
        Self(octets)
    }
}

/// A call with its key, as a store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedCall {
    /// Whose key it is: keys of two clients, or for two methods, never meet.
    pub(super) scope: String,
    pub(super) key: IdempotencyKey,
    pub(super) fingerprint: Fingerprint,
}

impl KeyedCall {
    /// A call of `method` (`/package.Service/Method`) by `client`. The client's name must come from who it proved to be,
    /// never from what it says: else one client could read the answers of another.
    ///
    /// # Errors
    ///
    /// When client and method have more than [`SCOPE_MAX`] octets together, or a control character.
    pub fn new(client: &str, method: &str, key: IdempotencyKey, payload: &[u8]) -> Result<Self, InvalidKey> {
        let scope = format!("{client}{method}");
        if scope.len() > SCOPE_MAX {
            return Err(InvalidKey::Scope(scope.len()));
        }
        if scope.chars().any(char::is_control) {
            return Err(InvalidKey::ScopeCharacter(scope));
        }
        Ok(Self {
            scope,
            key,
            fingerprint: Fingerprint::of(method, payload),
        })
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// By what it is found.
    pub(super) fn place(&self) -> Place {
        (self.scope.clone(), self.key.0.clone())
    }
}

/// Scope and key.
pub(super) type Place = (String, String);

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        let bare = IdempotencyKey::parse(b"8e03978e-40d5-43dd-bc93-6894a57f9324").unwrap();
        let quoted = IdempotencyKey::parse(b"\"8e03978e-40d5-43dd-bc93-6894a57f9324\"").unwrap();
        assert_eq!(bare, quoted);
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        for empty in [&b""[..], b"\"\""] {
            assert_eq!(IdempotencyKey::parse(empty), Err(InvalidKey::Empty));
        }
        assert_eq!(IdempotencyKey::parse(&[b'a'; 256]), Err(InvalidKey::Long(256)));
        assert!(IdempotencyKey::parse(&[b'a'; 255]).is_ok());
        for text in ["a b", "a\"", "\"a", "a\\b", "\u{e9}", "a\n", "\""] {
            let error = IdempotencyKey::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, InvalidKey::Character(text.to_owned()));
        }
    }

    #[test]
    fn a_random_key_is_one_and_never_the_same() {
        let mut rng = SmallRng::seed_from_u64(1);
        let (one, two) = (IdempotencyKey::random(&mut rng), IdempotencyKey::random(&mut rng));
        assert_ne!(one, two);
        assert_eq!(IdempotencyKey::parse(one.as_str().as_bytes()), Ok(one));
    }

    #[test]
    fn each_message_of_a_stream_has_a_key_of_its_own_that_is_one() {
        let long = IdempotencyKey::parse(&[b'a'; 255]).unwrap();
        let short = IdempotencyKey::parse(b"k").unwrap();
        assert_eq!(short.of_message(7).as_str(), "k.7");
        for key in [&long, &short] {
            let keys: std::collections::BTreeSet<_> = (0..3).map(|number| key.of_message(number)).collect();
            assert_eq!(keys.len(), 3);
            for key in keys {
                assert_eq!(IdempotencyKey::parse(key.as_str().as_bytes()), Ok(key));
            }
        }
    }

    #[test]
    fn a_fingerprint_tells_methods_and_payloads_apart() {
        let one = Fingerprint::of("/a.A/B", b"x");
        assert_eq!(one, Fingerprint::of("/a.A/B", b"x"));
        assert_ne!(one, Fingerprint::of("/a.A/B", b"y"));
        assert_ne!(one, Fingerprint::of("/a.A/C", b"x"));
        assert_ne!(Fingerprint::of("a", b"b"), Fingerprint::of("ab", b""));
    }

    #[test]
    fn a_scope_has_its_bound() {
        let key = IdempotencyKey::parse(b"k").unwrap();
        let long = "c".repeat(SCOPE_MAX);
        assert!(KeyedCall::new(&long, "", key.clone(), b"").is_ok());
        let longer = KeyedCall::new(&long, "/", key.clone(), b"");
        assert_eq!(longer, Err(InvalidKey::Scope(256)));
        let odd = KeyedCall::new("a\0", "/", key, b"");
        assert_eq!(odd, Err(InvalidKey::ScopeCharacter("a\0/".to_owned())));
    }
}
