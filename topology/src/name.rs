//! Domain names as the configuration writes them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// An absolute domain name in lower case, always shown with its final dot.
///
/// The text form of RFC 1035 §5.1 without escapes: configuration names are host-like. Names with other octets
/// live in zone files, which the `dns` crate reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing, or only dots.
    #[error("the name is empty; write one such as \"www.example.com\"")]
    Empty,
    /// Two dots in a row or a leading dot.
    #[error("{name:?} has an empty label")]
    EmptyLabel {
        /// The text as it was written.
        name: String,
    },
    /// RFC 1035 §2.3.4: a label has at most 63 octets.
    #[error("label {label:?} has {length} octets; at most 63 are possible")]
    LabelTooLong {
        /// The label as it was written.
        label: String,
        /// Its length in octets.
        length: usize,
    },
    /// RFC 1035 §2.3.4: a name has at most 255 octets on the wire.
    #[error("the name has {length} octets on the wire; at most 255 are possible")]
    TooLong {
        /// Octets on the wire, length octets and root included.
        length: usize,
    },
    /// Something other than letters, digits, `-`, `_` and `*`.
    #[error(
        "{name:?} has the character {character:?}; letters, digits, '-', '_' and a leading '*' label are possible"
    )]
    Character {
        /// The text as it was written.
        name: String,
        /// The first character at fault.
        character: char,
    },
}

impl Name {
    /// The text with its final dot, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_once('.').filter(|_| self.0 != ".")?;
        Some(Self(if rest.is_empty() {
            ".".to_owned()
        } else {
            rest.to_owned()
        }))
    }

    /// Whether this name is `zone` or lies below it.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        match self.0.strip_suffix(zone.as_str()) {
            Some(rest) => rest.is_empty() || rest.ends_with('.') || zone.0 == ".",
            None => false,
        }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    /// With or without the final dot.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == "." {
            return Ok(Self(".".to_owned()));
        }
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(InvalidName::Empty);
        }
        for label in bare.split('.') {
            check_label(label, text)?;
        }
        let length = bare.len() + 2;
        if length > 255 {
            return Err(InvalidName::TooLong { length });
        }
        Ok(Self(format!("{}.", bare.to_ascii_lowercase())))
    }
}

fn check_label(label: &str, name: &str) -> Result<(), InvalidName> {
    if label.is_empty() {
        return Err(InvalidName::EmptyLabel {
            name: name.to_owned(),
        });
    }
    if label.len() > 63 {
        return Err(InvalidName::LabelTooLong {
            label: label.to_owned(),
            length: label.len(),
        });
    }
    let bad = label
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
    match bad {
        Some('*') if label == "*" && name.starts_with("*.") => Ok(()),
        Some(character) => Err(InvalidName::Character {
            name: name.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_dot_is_optional_and_case_does_not_matter() {
        let with: Name = "WWW.Example.com.".parse().unwrap();
        let without: Name = "www.example.com".parse().unwrap();
        assert_eq!(with, without);
        assert_eq!(with.as_str(), "www.example.com.");
    }

    #[test]
    fn a_name_is_within_its_zone_and_itself_but_not_a_lookalike() {
        let zone: Name = "example.com".parse().unwrap();
        assert!("example.com".parse::<Name>().unwrap().is_within(&zone));
        assert!("a.b.example.com".parse::<Name>().unwrap().is_within(&zone));
        assert!(!"badexample.com".parse::<Name>().unwrap().is_within(&zone));
        assert!("com".parse::<Name>().unwrap().is_within(&".".parse().unwrap()));
    }

    #[test]
    fn bad_names_are_refused_by_cause() {
        assert_eq!("".parse::<Name>(), Err(InvalidName::Empty));
        assert!(matches!(
            "a..b".parse::<Name>(),
            Err(InvalidName::EmptyLabel { .. })
        ));
        assert!(matches!(
            "a b.c".parse::<Name>(),
            Err(InvalidName::Character { character: ' ', .. })
        ));
        assert!(matches!(
            "a*.c".parse::<Name>(),
            Err(InvalidName::Character { character: '*', .. })
        ));
        assert!(matches!(
            "x".repeat(64).parse::<Name>(),
            Err(InvalidName::LabelTooLong { length: 64, .. })
        ));
        assert!(matches!(
            "abc.".repeat(64).parse::<Name>(),
            Err(InvalidName::TooLong { length: 257 })
        ));
    }
}
