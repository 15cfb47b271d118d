//! What the steer that is followed announces, asked of its admin API.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use steer_anycast::spread::Route;
use steer_topology::Prefix;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::client::AdminClient;
use crate::exit::Failure;

/// How often it is asked. The times of changes are its own; this only bounds how late they are known.
const EVERY: Duration = Duration::from_millis(200);

/// News of it.
#[derive(Debug)]
pub(super) enum Followed {
    /// All that it shows.
    Routes(Vec<Route>),
    /// It cannot be asked, or can again.
    Trouble(String),
}

/// One steer.
pub(super) struct Follow {
    client: AdminClient,
    first: Vec<Route>,
}

impl Follow {
    /// Asks for the first time; also gives the prefixes that it may announce.
    pub(super) async fn begin(admin: SocketAddr) -> Result<(Self, Vec<Prefix>), Failure> {
        let client = AdminClient::new(admin)?;
        let first = routes(&client).await?;
        let prefixes = first.iter().map(|route| route.prefix).collect();
        Ok((Self { client, first }, prefixes))
    }

    /// Asks on until `stop`.
    pub(super) fn start(self, stop: CancellationToken) -> mpsc::Receiver<Followed> {
        // Who has not read the last picture does not need the next one yet.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.ask(sender) => {}
            }
        });
        receiver
    }

    async fn ask(self, news: mpsc::Sender<Followed>) {
        let (mut next, mut failed) = (Some(Followed::Routes(self.first)), false);
        loop {
            if let Some(next) = next
                && news.send(next).await.is_err()
            {
                return;
            }
            tokio::time::sleep(EVERY).await;
            let answer = routes(&self.client).await;
            let before = std::mem::replace(&mut failed, answer.is_err());
            next = match (answer, before) {
                (Ok(routes), false) => Some(Followed::Routes(routes)),
                (Ok(_), true) => Some(Followed::Trouble(
                    "the steer that is followed answers again".to_owned(),
                )),
                (Err(error), false) => {
                    Some(Followed::Trouble(format!("{error}; going on with what is known")))
                }
                (Err(_), true) => None,
            };
        }
    }
}

async fn routes(client: &AdminClient) -> Result<Vec<Route>, Failure> {
    let status = client.json("/v1/status", &[]).await?;
    read(&status)
        .ok_or_else(|| Failure::Runtime("its status shows no BGP speaker: is `[bgp]` configured?".to_owned()))
}

/// The routes of every peer of every speaker; `None` where the document is none of a steer with BGP.
fn read(status: &Value) -> Option<Vec<Route>> {
    let speakers = status["bgp"].as_array().filter(|speakers| !speakers.is_empty())?;
    let peers = speakers
        .iter()
        .flat_map(|speaker| speaker["peers"].as_array().into_iter().flatten());
    let routes = peers.flat_map(|peer| peer["routes"].as_object().into_iter().flatten());
    routes.map(|(prefix, route)| read_route(prefix, route)).collect()
}

fn read_route(prefix: &str, route: &Value) -> Option<Route> {
    Some(Route {
        prefix: prefix.parse().ok()?,
        announced: route["announced"].as_bool()?,
        since: route["since"].as_str()?.parse::<Timestamp>().ok()?,
        snapshot: route["snapshot"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_document_tells_the_routes_of_all_peers() {
        let route = serde_json::json!({
            "announced": true, "since": "2026-01-01T00:00:00Z", "snapshot": 7, "more": "to come",
        });
        let peer = |prefix: &str| serde_json::json!({ "routes": { prefix: route } });
        let status = serde_json::json!({ "bgp": [
            { "peers": [peer("192.0.2.1/32"), peer("192.0.2.2/32")] },
            { "peers": [peer("2001:db8::1/128")] },
        ] });
        let routes = read(&status).unwrap();
        let prefixes: Vec<_> = routes.iter().map(|route| route.prefix.to_string()).collect();
        assert_eq!(prefixes, ["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"]);
        assert!(routes.iter().all(|route| route.announced && route.snapshot == 7));
        assert_eq!(read(&serde_json::json!({ "bgp": [] })), None);
        assert_eq!(read(&serde_json::json!({ "hello": "world" })), None);
    }
}
