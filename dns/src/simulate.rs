//! Where queries would be sent, for whoever compares two configurations. Runs the server's own code.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use rand::Rng;
use steer_topology::Name;

use crate::lookup::{self, Steered, Steering};
use crate::subnet::Locate;
use crate::tables::Tables;

/// What a client would do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sent {
    /// Connect to the first address.
    To(IpAddr),
    /// It has no address to go to: an empty answer, no such name, a referral.
    Nowhere,
    /// REFUSED.
    Refused,
    /// SERVFAIL.
    Failed,
}

impl Tables {
    /// Answers one query for A, or AAAA with `v6`, and follows the client to the first address. `client` is the
    /// address of the client subnet.
    pub fn send<R: Rng>(&self, client: IpAddr, name: &Name, v6: bool, rng: &mut R) -> Sent {
        let rtype = if v6 { RecordType::AAAA } else { RecordType::A };
        let Ok(asked) = hickory_proto::rr::Name::from_ascii(name.as_str()) else {
            return Sent::Nowhere;
        };
        let client = Locate::By(client.to_canonical());
        let mut picks = Picks {
            tables: self,
            client,
            rng,
        };
        let answer = lookup::answer(&self.zones, &asked, rtype, &mut picks);
        let mut addresses = answer.answers.iter().filter_map(|record| record.data.ip_addr());
        match (addresses.next(), answer.rcode) {
            (Some(address), _) => Sent::To(address),
            (None, ResponseCode::Refused) => Sent::Refused,
            (None, ResponseCode::ServFail) => Sent::Failed,
            (None, _) => Sent::Nowhere,
        }
    }
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
            |client: &str, name: &str| tables.send(ip(client), &name.parse().unwrap(), false, &mut rng);
        assert_eq!(send(CLIENTS[0].0, "www.example.com"), Sent::Refused);
        assert_eq!(send(CLIENTS[1].0, "www.example.com"), Sent::To(ip(CLIENTS[1].1)));
        assert_eq!(
            send(CLIENTS[1].0, "alias.example.com"),
            Sent::To(ip(CLIENTS[1].1))
        );
        assert_eq!(send(CLIENTS[1].0, "nowhere.example.com"), Sent::Nowhere);
        assert_eq!(send(CLIENTS[1].0, "example.org"), Sent::Refused);
    }
}
