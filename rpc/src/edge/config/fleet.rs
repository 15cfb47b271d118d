//! `[rate_limit] fleet`: the edges that keep the rates together.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use steer_topology::{EtcdCluster, EtcdTls, EtcdUrl};

use super::InvalidEdge;
use crate::edge::rate::{Alone, EVERY, FleetRules, Secret};

const PLACE: &str = "[rate_limit] fleet";

/// Longest name of a fleet or an edge: they are parts of a key of etcd.
const NAME_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFleet {
    store: String,
    name: String,
    edge: String,
    every_ms: Option<u64>,
    alone: Option<String>,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

/// How etcd knows us.
struct RawAccess {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

fn wrong(what: String) -> InvalidEdge {
    InvalidEdge::Place {
        place: PLACE.to_owned(),
        what,
    }
}

pub(super) fn check_fleet(raw: RawFleet, folder: &Path) -> Result<FleetRules, InvalidEdge> {
    let RawFleet {
        store,
        name,
        edge,
        every_ms,
        alone,
        secret_file,
        ca_file,
        cert_file,
        key_file,
        user,
        password_file,
    } = raw;
    let access = RawAccess {
        ca_file,
        cert_file,
        key_file,
        user,
        password_file,
    };
    Ok(FleetRules {
        cluster: check_cluster(&store, access, folder)?,
        name: check_name("name", name)?,
        edge: check_name("edge", edge)?,
        every: check_every(every_ms)?,
        alone: match alone.as_deref() {
            None | Some("share") => Alone::Share,
            Some("full") => Alone::Full,
            Some(other) => {
                let what = format!("alone is {other:?}; \"share\" or \"full\" is possible");
                return Err(wrong(what));
            }
        },
        secret: secret_file.map(|file| secret(&folder.join(file))).transpose()?,
    })
}

fn check_every(asked: Option<u64>) -> Result<Duration, InvalidEdge> {
    let every = Duration::from_millis(asked.unwrap_or(1_000));
    if every < EVERY.0 || every > EVERY.1 {
        let (least, most) = (EVERY.0.as_millis(), EVERY.1.as_millis());
        return Err(wrong(format!(
            "every_ms is {}; {least} to {most} are possible",
            every.as_millis()
        )));
    }
    Ok(every)
}

fn check_name(key: &str, name: String) -> Result<String, InvalidEdge> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_part) {
        return Err(wrong(format!(
            "{key} is {name:?}; 1 to {NAME_MAX} letters, digits, '-', '.' and '_' are possible"
        )));
    }
    Ok(name)
}

fn check_cluster(store: &str, access: RawAccess, folder: &Path) -> Result<EtcdCluster, InvalidEdge> {
    let RawAccess {
        ca_file,
        cert_file,
        key_file,
        user,
        password_file,
    } = access;
    let EtcdUrl { members, is_tls } = EtcdUrl::parse(store).map_err(|error| {
        wrong(format!(
            "store is {store:?}, and {error}; a cluster is wanted, such as \"etcd://10.0.0.1:2379,10.0.0.2:2379\""
        ))
    })?;
    if !is_tls && (ca_file.is_some() || cert_file.is_some() || key_file.is_some()) {
        return Err(wrong(format!(
            "certificates with store {store:?}; they belong to one that begins with \"etcds://\""
        )));
    }
    let client = both(("cert_file", cert_file), ("key_file", key_file))?;
    let user = both(("user", user), ("password_file", password_file))?;
    let in_folder = |file: PathBuf| folder.join(file);
    let tls = EtcdTls {
        ca_file: ca_file.map(in_folder),
        client: client.map(|(cert, key)| (in_folder(cert), in_folder(key))),
    };
    Ok(EtcdCluster {
        members,
        tls: is_tls.then_some(tls),
        user: user.map(|(user, file)| (user, in_folder(file))),
    })
}

fn both<A, B>(one: (&str, Option<A>), other: (&str, Option<B>)) -> Result<Option<(A, B)>, InvalidEdge> {
    match (one.1, other.1) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(wrong(format!(
            "{} without {}; write both or none",
            one.0, other.0
        ))),
        (None, Some(_)) => Err(wrong(format!(
            "{} without {}; write both or none",
            other.0, one.0
        ))),
    }
}

/// The first line of a file.
fn secret(file: &Path) -> Result<Secret, InvalidEdge> {
    let text = fs::read_to_string(file).map_err(|source| InvalidEdge::File {
        file: file.to_owned(),
        source,
    })?;
    let line = text.lines().next().unwrap_or_default();
    if line.len() < 16 {
        let octets = line.len();
        let what = format!(
            "the first line of {} has {octets} octets; at least 16 are wanted, and better 32 random ones",
            file.display()
        );
        return Err(wrong(what));
    }
    Ok(Secret::new(line.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, folder: &Path) -> Result<FleetRules, String> {
        let raw: RawFleet = toml::from_str(text).map_err(|error| error.to_string())?;
        check_fleet(raw, folder).map_err(|error| error.to_string())
    }

    const LEAST: &str = "store = \"etcd://10.0.0.1\"\nname = \"shop\"\nedge = \"fra\"\n";

    #[test]
    fn what_is_not_said_has_its_default() {
        let rules = check(LEAST, Path::new("/etc")).unwrap();
        assert_eq!(rules.cluster.members, ["10.0.0.1:2379"]);
        assert_eq!((rules.every, rules.alone), (Duration::from_secs(1), Alone::Share));
        assert_eq!(
            (rules.cluster.tls, rules.cluster.user, rules.secret),
            (None, None, None)
        );
    }

    #[test]
    fn files_are_in_the_folder_of_the_configuration_and_the_secret_is_what_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "0123456789abcdef\nsecond line\n").unwrap();
        let text = "store = \"etcds://a,b\"\nname = \"shop\"\nedge = \"fra\"\nalone = \"full\"\nsecret_file = \"secret\"\n\
            ca_file = \"ca.pem\"\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\nuser = \"u\"\npassword_file = \"p\"\n";
        let rules = check(text, folder.path()).unwrap();
        let file = |name: &str| folder.path().join(name);
        let tls = rules.cluster.tls.unwrap();
        assert_eq!(tls.ca_file, Some(file("ca.pem")));
        assert_eq!(tls.client, Some((file("c.pem"), file("k.pem"))));
        assert_eq!(rules.cluster.user, Some(("u".to_owned(), file("p"))));
        assert_eq!(rules.alone, Alone::Full);
        assert_eq!(rules.secret, Some(Secret::new(b"0123456789abcdef")));
    }

    #[test]
    fn each_fault_names_the_value_and_what_would_be_right() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("short"), "s3cret\n").unwrap();
        let rows = [
            ("edge = \"fra\"\nname = \"x\"", "missing field `store`"),
            (
                "store = \"10.0.0.1\"\nname = \"x\"\nedge = \"y\"",
                "store is \"10.0.0.1\", and it begins with neither",
            ),
            (
                "store = \"etcd://h:x\"\nname = \"x\"\nedge = \"y\"",
                "\"h:x\" is no member; a cluster is wanted",
            ),
            (
                "store = \"etcd://h\"\nname = \"a/b\"\nedge = \"y\"",
                "name is \"a/b\"; 1 to 64 letters",
            ),
            (
                "store = \"etcd://h\"\nname = \"x\"\nedge = \"\"",
                "edge is \"\"; 1 to 64",
            ),
            (
                &format!("{LEAST}every_ms = 99"),
                "every_ms is 99; 100 to 60000 are possible",
            ),
            (
                &format!("{LEAST}alone = \"none\""),
                "alone is \"none\"; \"share\" or \"full\"",
            ),
            (
                &format!("{LEAST}ca_file = \"x\""),
                "certificates with store \"etcd://10.0.0.1\"; they belong",
            ),
            (
                &format!("{LEAST}user = \"x\""),
                "user without password_file; write both",
            ),
            (&format!("{LEAST}secret_file = \"gone\""), "gone: "),
            (
                &format!("{LEAST}secret_file = \"short\""),
                "has 6 octets; at least 16 are wanted",
            ),
            (&format!("{LEAST}burst = 1"), "unknown field `burst`"),
        ];
        for (text, expected) in rows {
            let fault = check(text, folder.path()).unwrap_err();
            assert!(fault.contains(expected), "{fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
        }
    }
}
