//! DNS cookies: RFC 7873 with the server cookie of RFC 9018, which every server of an anycast address can check.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::siphash;

/// RFC 9018 §4.3: a cookie is good for an hour; after half of it, a new one is given.
const GOOD_FOR: u32 = 60 * 60;
/// See [`GOOD_FOR`].
const NEW_AFTER: u32 = 30 * 60;
/// RFC 9018 §4.3: clocks of servers that share a secret may differ by so much.
const AHEAD: u32 = 5 * 60;
/// RFC 9018 §4.1
const VERSION: u8 = 1;

/// Octets of a client cookie.
pub(crate) type ClientCookie = [u8; 8];
/// Octets of a server cookie of our kind.
pub(crate) type ServerCookie = [u8; 16];

/// The option as a query carries it, RFC 7873 §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) client: ClientCookie,
    pub(crate) server: Server,
}

/// What stands behind the client cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// Nothing: the client knows no server cookie yet.
    Absent,
    /// One that has the length of ours.
    Ours(ServerCookie),
    /// One of another length, which we have not made.
    Foreign,
}

impl Cookie {
    /// RFC 7873 §5.2.2: 8 octets, or 16 to 40; anything else is a format error.
    pub(crate) fn read(option: &[u8]) -> Option<Self> {
        let (client, server) = option.split_first_chunk()?;
        let server = match server.len() {
            0 => Server::Absent,
            16 => Server::Ours(server.try_into().ok()?),
            8..=32 => Server::Foreign,
            _ => return None,
        };
        Some(Self {
            client: *client,
            server,
        })
    }
}

/// A server secret of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret([u8; 16]);

/// Never shown.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cookie secret {path:?} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error(
        "cookie secret {path:?} is not 32 hexadecimal digits; make one with: head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '"
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// A secret that nobody else knows.
    fn made_up() -> Self {
        Self(rand::random())
    }

    /// Reads 32 hexadecimal digits, with white space around them.
    fn read(path: &Path) -> Result<Self, SecretError> {
        let path = || path.to_owned();
        let text = fs::read_to_string(path()).map_err(|error| SecretError::Read { path: path(), error })?;
        let digits = Some(text.trim()).filter(|text| text.len() == 32 && !text.starts_with('+'));
        digits
            .and_then(|digits| u128::from_str_radix(digits, 16).ok())
            .map(|number| Self(number.to_be_bytes()))
            .ok_or_else(|| SecretError::Content { path: path() })
    }
}

/// The secrets of a server: the first signs, all of them verify.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    first: Secret,
    others: Vec<Secret>,
}

/// What became of a query's cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The sender is who it says: it has shown a server cookie that was sent to its address.
    pub(crate) is_good: bool,
    /// The option's value in the reply.
    pub(crate) reply: [u8; 24],
}

impl Secrets {
    /// One secret from each file; a made up one without any.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, SecretError> {
        let mut all = files
            .iter()
            .map(|path| Secret::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        let first = if all.is_empty() {
            Secret::made_up()
        } else {
            all.remove(0)
        };
        Ok(Self { first, others: all })
    }

    pub(crate) fn made_up() -> Self {
        Self {
            first: Secret::made_up(),
            others: Vec::new(),
        }
    }

    /// Verifies a cookie and makes the one to answer with. `now`: seconds since 1970, modulo 2^32.
    pub(crate) fn check(&self, cookie: &Cookie, sender: IpAddr, now: u32) -> Checked {
        let (is_good, kept) = match cookie.server {
            Server::Absent | Server::Foreign => (false, None),
            Server::Ours(server) => self.verify(cookie.client, server, sender, now),
        };
        let server = kept.unwrap_or_else(|| make(self.first, cookie.client, [0; 3], now, sender));
        let mut reply = [0; 24];
        let halves = cookie.client.iter().chain(&server);
        reply.iter_mut().zip(halves).for_each(|(to, from)| *to = *from);
        Checked { is_good, reply }
    }

    /// Whether it is good, and itself where it needs no successor yet.
    fn verify(
        &self,
        client: ClientCookie,
        server: ServerCookie,
        sender: IpAddr,
        now: u32,
    ) -> (bool, Option<ServerCookie>) {
        let [version, r0, r1, r2, t0, t1, t2, t3, ..] = server;
        let time = u32::from_be_bytes([t0, t1, t2, t3]);
        // RFC 9018 §4.3: serial number arithmetic (RFC 1982)
        let age = now.wrapping_sub(time);
        let is_ahead = age > u32::MAX - AHEAD;
        if version != VERSION || (age > GOOD_FOR && !is_ahead) {
            return (false, None);
        }
        let is_by = |secret: &Secret| same(&make(*secret, client, [r0, r1, r2], time, sender), &server);
        let is_first = is_by(&self.first);
        let is_good = is_first || self.others.iter().any(is_by);
        let lasts = is_first && [r0, r1, r2] == [0; 3] && (is_ahead || age <= NEW_AFTER);
        (is_good, lasts.then_some(server))
    }
}

/// RFC 9018 §4: version, reserved octets, time, hash.
fn make(secret: Secret, client: ClientCookie, reserved: [u8; 3], time: u32, sender: IpAddr) -> ServerCookie {
    let mut cookie = [0; 16];
    let [version, r0, r1, r2, t0, t1, t2, t3, ..] = &mut cookie;
    (*version, [*r0, *r1, *r2]) = (VERSION, reserved);
    [*t0, *t1, *t2, *t3] = time.to_be_bytes();
    // RFC 9018 §4.4: client cookie, the first half of the server cookie, client address
    let mut message = [0; 32];
    let head = client.iter().chain(cookie.iter().take(8));
    let octets = |address: &[u8], message: &mut [u8; 32]| {
        let all = head.clone().chain(address);
        message.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        16 + address.len()
    };
    let length = match sender.to_canonical() {
        IpAddr::V4(sender) => octets(&sender.octets(), &mut message),
        IpAddr::V6(sender) => octets(&sender.octets(), &mut message),
    };
    let hash = siphash::hash(secret.0, message.get(..length).unwrap_or_default());
    let half = cookie.iter_mut().skip(8);
    half.zip(hash.to_le_bytes()).for_each(|(to, from)| *to = from);
    cookie
}

/// Takes as long whatever differs, so that a guess cannot be made octet by octet.
fn same(left: &ServerCookie, right: &ServerCookie) -> bool {
    left.iter()
        .zip(right)
        .fold(0, |all, (left, right)| all | (left ^ right))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    fn secrets(hex: &[&str]) -> Secrets {
        let folder = tempfile::tempdir().unwrap();
        let file = |(number, hex): (usize, &&str)| {
            let path = folder.path().join(number.to_string());
            fs::write(&path, format!("{hex}\n")).unwrap();
            path
        };
        Secrets::read(&hex.iter().enumerate().map(file).collect::<Vec<_>>()).unwrap()
    }

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    fn cookie(client: &str, server: Option<&str>) -> Cookie {
        Cookie {
            client: octets(client),
            server: server.map_or(Server::Absent, |server| Server::Ours(octets(server))),
        }
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// RFC 9018 appendix A.
    #[test]
    fn the_examples_of_rfc_9018_come_out() {
        let old = "dd3bdf9344b678b185a6f5cb60fca715";
        let new = "445536bcd2513298075a5d379663c962";
        let v6 = "2001:db8:220:1:59de:d0f4:8769:82b8";
        // the third is more than an hour old, with reserved octets that are no longer zero
        let third = "01abcdef5cf78f71a314227b6679ebf5";
        for (secrets_of, client, server, sender, now, expected, is_good) in [
            (
                &[SECRET][..],
                "2464c4abcf10c957",
                None,
                "198.51.100.100",
                1_559_731_985,
                "010000005cf79f111f8130c3eee29480",
                false,
            ),
            (
                &[SECRET],
                "2464c4abcf10c957",
                Some("010000005cf79f111f8130c3eee29480"),
                "198.51.100.100",
                1_559_734_385,
                "010000005cf7a871d4a564a1442aca77",
                true,
            ),
            (
                &[SECRET],
                "fc93fc62807ddb86",
                Some(third),
                "203.0.113.203",
                1_559_734_700,
                "010000005cf7a9acf73a7810aca2381e",
                false,
            ),
            (
                &[new, old],
                "22681ab97d52c298",
                Some("010000005cf7c57926556bd0934c72f8"),
                v6,
                1_559_741_961,
                "010000005cf7c609a6bb79d16625507a",
                true,
            ),
        ] {
            let checked = secrets(secrets_of).check(&cookie(client, server), sender.parse().unwrap(), now);
            assert_eq!(hex(&checked.reply), format!("{client}{expected}"));
            assert_eq!(checked.is_good, is_good, "{client} {now}");
        }
        let sender = "203.0.113.203".parse().unwrap();
        let fresh = secrets(&[SECRET]).check(&cookie("fc93fc62807ddb86", Some(third)), sender, 1_559_727_990);
        assert!(fresh.is_good, "reserved octets are part of the hash");
    }

    #[test]
    fn a_good_cookie_is_kept_for_half_an_hour_and_good_for_an_hour() {
        let secrets = secrets(&[SECRET]);
        let sender = "192.0.2.1".parse().unwrap();
        let first = secrets.check(&cookie("2464c4abcf10c957", None), sender, 100);
        assert!(!first.is_good);
        let mine = Cookie::read(&first.reply).unwrap();
        for (now, is_good, is_kept) in [
            (100, true, true),
            (100 + 1800, true, true),
            (100 + 1801, true, false),
            (100 + 3600, true, false),
            (100 + 3601, false, false),
            (100_u32.wrapping_sub(299), true, true),
            (100_u32.wrapping_sub(301), false, false),
        ] {
            let checked = secrets.check(&mine, sender, now);
            let kept = checked.reply == first.reply;
            assert_eq!((checked.is_good, kept), (is_good, is_kept), "{now}");
        }
        let other = secrets.check(&mine, "192.0.2.2".parse().unwrap(), 100);
        assert!(!other.is_good, "another sender");
        let mapped = secrets.check(&mine, "::ffff:192.0.2.1".parse().unwrap(), 100);
        assert!(mapped.is_good, "the same sender");
    }

    #[test]
    fn a_second_secret_verifies_and_the_first_signs_anew() {
        let other = "00112233445566778899aabbccddeeff";
        let sender = "2001:db8::1".parse().unwrap();
        let [only_old, both, only_new] = [&[SECRET][..], &[other, SECRET], &[other]].map(secrets);
        let old = only_old.check(&cookie("2464c4abcf10c957", None), sender, 7);
        let old = Cookie::read(&old.reply).unwrap();
        let renewed = both.check(&old, sender, 8);
        assert!(renewed.is_good);
        let renewed = Cookie::read(&renewed.reply).unwrap();
        assert!(only_new.check(&renewed, sender, 9).is_good);
        assert!(!only_new.check(&old, sender, 9).is_good);
    }

    #[test]
    fn options_of_other_lengths_are_format_errors() {
        for length in 0..50 {
            let read = Cookie::read(&vec![7; length]);
            assert_eq!(
                read.is_some(),
                length == 8 || (16..=40).contains(&length),
                "{length}"
            );
            let is_ours = read.is_some_and(|cookie| matches!(cookie.server, Server::Ours(_)));
            assert_eq!(is_ours, length == 24);
        }
    }

    #[test]
    fn files_that_hold_no_secret_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for content in ["", "e5e973", "+5e973e5a6b2a43f48e7dc849e37bfcf", "zz"] {
            fs::write(&path, content).unwrap();
            let error = Secrets::read(std::slice::from_ref(&path)).unwrap_err();
            assert!(matches!(error, SecretError::Content { .. }), "{content:?}");
        }
        let missing = Secrets::read(&[folder.path().join("missing")]).unwrap_err();
        assert!(matches!(missing, SecretError::Read { .. }));
        assert!(!format!("{:?}", secrets(&[SECRET])).contains("e5"));
    }
}
