//! The names of the keys, below the prefix:
//!
//! | key | value |
//! | --- | --- |
//! | `wishes/drain/TARGET` | `{"version": 1, "drain": {"target", "reason", "author", "since", "until"}}` |
//! | `wishes/force/TARGET` | `{"version": 1, "force": {"target", "to", "reason", "author", "since", "until"}}` |
//! | `sites/NAME` | [`Presence`](super::Presence), under a lease |
//!
//! `TARGET` is [`crate::Target::name`]: `fra`, `web/198.51.100.10:443@fra`.

use crate::store::{WishKey, WishKind};

/// The names below one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

/// What a key is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Wish(WishKey),
    Site(String),
    /// Nothing that this version knows.
    Other,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// All keys: the first, and the first that is none.
    pub(super) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        range(self.prefix.clone())
    }

    /// The keys of all wishes.
    pub(super) fn wishes(&self) -> (Vec<u8>, Vec<u8>) {
        range(format!("{}wishes/", self.prefix))
    }

    pub(super) fn wish(&self, WishKey { kind, target }: &WishKey) -> Vec<u8> {
        format!("{}wishes/{}/{target}", self.prefix, kind.as_str()).into_bytes()
    }

    pub(super) fn site(&self, name: &str) -> Vec<u8> {
        format!("{}sites/{name}", self.prefix).into_bytes()
    }

    pub(super) fn parse(&self, key: &[u8]) -> Name {
        let text = std::str::from_utf8(key).ok();
        let below = text.and_then(|text| text.strip_prefix(self.prefix.as_str()));
        let Some((first, rest)) = below.and_then(|below| below.split_once('/')) else {
            return Name::Other;
        };
        match (first, rest.split_once('/')) {
            ("sites", None) => Name::Site(rest.to_owned()),
            ("wishes", Some((kind, target))) => {
                match WishKind::ALL.into_iter().find(|known| known.as_str() == kind) {
                    Some(kind) => Name::Wish(WishKey {
                        kind,
                        target: target.to_owned(),
                    }),
                    None => Name::Other,
                }
            }
            (_, _) => Name::Other,
        }
    }
}

/// All keys that begin with `prefix`, as etcd wants it: up to the same with its last octet one higher.
pub(super) fn range(prefix: String) -> (Vec<u8>, Vec<u8>) {
    let first = prefix.into_bytes();
    let mut end = first.clone();
    // It ends with a slash, which is not the highest octet.
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    (first, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_foreign_ones_are_left_alone() {
        let names = Names::new("/steer/example/");
        for key in [WishKey::drain("fra"), WishKey::force("web/[2001:db8::1]:443@fra")] {
            assert_eq!(names.parse(&names.wish(&key)), Name::Wish(key));
        }
        assert_eq!(names.parse(&names.site("fra")), Name::Site("fra".to_owned()));
        for other in [
            "/steer/example/",
            "/steer/example/wishes/pin/fra",
            "/other/sites/fra",
            "/steer/example/x",
        ] {
            assert_eq!(names.parse(other.as_bytes()), Name::Other, "{other}");
        }
        assert_eq!(names.parse(b"\xff"), Name::Other);
    }

    #[test]
    fn a_range_ends_behind_the_last_key_of_its_prefix() {
        let (first, end) = Names::new("/a/").wishes();
        assert_eq!(
            (first.as_slice(), end.as_slice()),
            (&b"/a/wishes/"[..], &b"/a/wishes0"[..])
        );
    }
}
