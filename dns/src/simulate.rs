//! Where queries would be sent, for whoever compares two configurations. Runs the server's own code.

use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::HTTPS;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{RData, Record, RecordType};
use rand::Rng;
use steer_topology::{Kind, Name};

use crate::lookup::{self, Steered, Steering};
use crate::records;
use crate::subnet::Locate;
use crate::tables::Tables;

/// What a client would do with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sent {
    /// Connect to the first address, or hint.
    To(IpAddr),
    /// Ask for the addresses of the first name.
    On(String),
    /// Read this text.
    Told(String),
    /// It has nowhere to go: an empty answer, no such name, a referral.
    Nowhere,
    /// REFUSED.
    Refused,
    /// SERVFAIL.
    Failed,
}

/// A type that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(RecordType);

impl Asked {
    /// IPv4 addresses.
    pub const A: Self = Self(RecordType::A);
}

impl FromStr for Asked {
    type Err = String;

    /// A type that a chain can decide, in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let types = || Kind::ALL.into_iter().flat_map(lookup::types_of).copied();
        let found = types().find(|rtype| rtype.to_string().eq_ignore_ascii_case(text));
        found.map(Self).ok_or_else(|| {
            let known: Vec<String> = types().map(|rtype| rtype.to_string()).collect();
            format!("{text:?} is none of {}", known.join(", "))
        })
    }
}

impl Tables {
    /// Answers one query, and follows the client to where the first record leads. `client` is the address of the
    /// client subnet.
    pub fn send<R: Rng>(&self, client: IpAddr, name: &Name, asked: Asked, rng: &mut R) -> Sent {
        let Ok(owner) = hickory_proto::rr::Name::from_ascii(name.as_str()) else {
            return Sent::Nowhere;
        };
        let client = Locate::By(client.to_canonical());
        let mut picks = Picks {
            tables: self,
            client,
            rng,
        };
        let answer = lookup::answer(&self.zones, &owner, asked.0, &mut picks);
        // Of a chain of aliases the end counts.
        let first = answer
            .answers
            .iter()
            .find(|record| record.record_type() == asked.0);
        let sent = first.or(answer.answers.last()).and_then(leads_to);
        sent.unwrap_or(if answer.rcode == ResponseCode::Refused {
            Sent::Refused
        } else if answer.rcode == ResponseCode::ServFail {
            Sent::Failed
        } else {
            Sent::Nowhere
        })
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of types; none of the others is steered"
)]
fn leads_to(record: &Record) -> Option<Sent> {
    let on = |name: &hickory_proto::rr::Name| Sent::On(name.to_string());
    Some(match records::by_field(&record.data)? {
        RData::A(address) => Sent::To(address.0.into()),
        RData::AAAA(address) => Sent::To(address.0.into()),
        RData::CNAME(target) => on(&target.0),
        RData::MX(mx) => on(&mx.exchange),
        RData::SRV(srv) => on(&srv.target),
        RData::HTTPS(HTTPS(binding)) | RData::SVCB(binding) => match first_hint(&binding) {
            Some(address) => Sent::To(address),
            None => on(&binding.target_name),
        },
        RData::TXT(text) => Sent::Told(text.to_string()),
        _ => return None,
    })
}

fn first_hint(binding: &SVCB) -> Option<IpAddr> {
    binding.svc_params.iter().find_map(|(_, value)| match value {
        SvcParamValue::Ipv4Hint(hint) => hint.0.first().map(|address| address.0.into()),
        SvcParamValue::Ipv6Hint(hint) => hint.0.first().map(|address| address.0.into()),
        SvcParamValue::Mandatory(_)
        | SvcParamValue::Alpn(_)
        | SvcParamValue::NoDefaultAlpn
        | SvcParamValue::Port(_)
        | SvcParamValue::EchConfigList(_)
        | SvcParamValue::Unknown(_) => None,
    })
}

struct Picks<'t, R: Rng> {
    tables: &'t Tables,
    client: Locate,
    rng: &'t mut R,
}

impl<R: Rng> Steering for Picks<'_, R> {
    fn pick(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        let (steered, _) = self.tables.pick(key, rtype, self.client, self.rng)?;
        Some(steered)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::testing::{CLIENTS, config, ip, tables_of};

    #[test]
    fn a_client_goes_where_the_answer_sends_it() {
        let chain = "[\"up\", \"geofence continent\", \"nearest\", \"take 1\"]";
        let tables = tables_of(&config(chain, ""), &["198.51.100.1"]);
        let mut rng = SmallRng::seed_from_u64(0);
        let mut send =
            |client: &str, name: &str| tables.send(ip(client), &name.parse().unwrap(), Asked::A, &mut rng);
        assert_eq!(send(CLIENTS[0].0, "www.example.com"), Sent::Refused);
        assert_eq!(send(CLIENTS[1].0, "www.example.com"), Sent::To(ip(CLIENTS[1].1)));
        assert_eq!(
            send(CLIENTS[1].0, "alias.example.com"),
            Sent::To(ip(CLIENTS[1].1))
        );
        assert_eq!(send(CLIENTS[1].0, "nowhere.example.com"), Sent::Nowhere);
        assert_eq!(send(CLIENTS[1].0, "example.org"), Sent::Refused);
    }

    #[test]
    fn a_client_goes_where_other_types_send_it() {
        let mut text = config(
            "[\"up\", \"nearest\", \"take 1\"]",
            "type = [\"address\", \"https\", \"mx\", \"srv\"]",
        );
        for (address, target) in [
            ("198.51.100.1", "fra"),
            ("198.51.100.2", "nrt"),
            ("198.51.100.3", "jfk"),
            ("[2001:db8::1]", "fra"),
            ("[2001:db8::2]", "nrt"),
        ] {
            let written = format!("{address}:443\"");
            text = text.replacen(
                &written,
                &format!("{written}, target = \"{target}.example.net\""),
                1,
            );
        }
        let tables = tables_of(&text, &["198.51.100.2"]);
        let name = "www.example.com".parse().unwrap();
        let send = |client: usize, asked: &str| {
            let mut rng = SmallRng::seed_from_u64(0);
            tables.send(ip(CLIENTS[client].0), &name, asked.parse().unwrap(), &mut rng)
        };
        assert_eq!(send(0, "https"), Sent::To(ip("198.51.100.1")));
        assert_eq!(send(0, "MX"), Sent::On("fra.example.net.".to_owned()));
        assert_eq!(
            send(1, "SRV"),
            Sent::On("nrt.example.net.".to_owned()),
            "its IPv6 address is up"
        );
        assert_eq!(send(0, "TXT"), Sent::Told("beside a steered name".to_owned()));
        assert_eq!(send(0, "CNAME"), Sent::Nowhere);
        assert!(
            "NS".parse::<Asked>()
                .unwrap_err()
                .contains("\"NS\" is none of A, AAAA")
        );
    }
}
