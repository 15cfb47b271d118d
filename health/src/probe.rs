//! The probes themselves: one TCP connection, or one HTTP request on a connection of its own.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HOST, HeaderValue};
use reqwest::redirect;
use steer_topology::{CheckKind, EndpointId, Fleet};
use tokio::net::TcpStream;

use crate::outcome::{Answer, Failure, Outcome, Void, shortened};
use crate::tripwire::Cut;

/// Sends one probe, or holds a connection. The driver sets the time limit, and drops the future when it is over.
pub(crate) trait Prober: Send + Sync + 'static {
    /// A connection that is held for its end alone.
    type Wire: Send + 'static;

    /// Probes `endpoint` once; `timeout` is the limit that the driver sets, for the wording.
    fn probe(&self, endpoint: EndpointId, timeout: Duration) -> impl Future<Output = Outcome> + Send;

    /// Connects to where `endpoint` is probed; what it comes to otherwise is worded as of a probe.
    fn dial(
        &self,
        endpoint: EndpointId,
        timeout: Duration,
    ) -> impl Future<Output = Result<Self::Wire, Outcome>> + Send;

    /// Returns when the connection has ended.
    fn hold(&self, wire: Self::Wire) -> impl Future<Output = Cut> + Send;
}

/// Why HTTP checks cannot run in this process.
#[derive(Debug, thiserror::Error)]
pub enum HttpUnavailable {
    /// The program did not choose its cryptography at start. A mistake of ours, not of the operator.
    #[error("no rustls crypto provider is installed; the program must install ring's at start")]
    NoCryptoProvider,
    /// The client could not be built.
    #[error("the HTTP client cannot be built")]
    Build(#[from] reqwest::Error),
}

/// The client of all HTTP checks: no proxy from the environment, no redirects, no retries, HTTP/1.1, and a new
/// connection for each probe, so that a listener that stopped accepting does not hide behind an old connection.
///
/// # Errors
/// When rustls has no provider, or the client cannot be built.
pub fn http_client() -> Result<reqwest::Client, HttpUnavailable> {
    // reqwest panics where the provider is missing.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(HttpUnavailable::NoCryptoProvider);
    }
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .pool_max_idle_per_host(0)
        // Plain HTTP only for now: do not depend on the root certificates of the machine.
        .tls_certs_only([])
        .user_agent(concat!("steer-health/", env!("CARGO_PKG_VERSION")));
    Ok(builder.build()?)
}

/// Probes over the real network.
#[derive(Debug)]
pub(crate) struct NetProber {
    /// By endpoint; `None` where it is not checked.
    targets: Vec<Option<Target>>,
    /// By endpoint: where to probe.
    addresses: Vec<SocketAddr>,
}

/// Everything about a probe that does not change from one to the next.
#[derive(Debug)]
enum Target {
    Tcp(SocketAddr),
    Http {
        client: reqwest::Client,
        url: reqwest::Url,
        host: Option<HeaderValue>,
        status: (u16, u16),
    },
    /// Cannot be probed, and why. It stays `Unknown`, which is never acted upon.
    Impossible(String),
}

impl NetProber {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let is_http = |kind: &CheckKind| matches!(kind, CheckKind::Http { .. });
        let http = fleet
            .checks
            .iter()
            .any(|check| is_http(&check.kind))
            .then(http_client);
        let client = match http {
            Some(Ok(client)) => Ok(client),
            Some(Err(error)) => {
                tracing::error!(%error, "HTTP checks cannot run; their endpoints stay unknown");
                Err(error.to_string())
            }
            None => Err("no HTTP check is configured".to_owned()),
        };
        let target = |endpoint: &steer_topology::Endpoint| {
            let check = fleet.check(fleet.pool(endpoint.pool).check?);
            Some(Target::new(&check.kind, endpoint.probe, &client))
        };
        Self {
            targets: fleet.endpoints.iter().map(target).collect(),
            addresses: fleet.endpoints.iter().map(|endpoint| endpoint.probe).collect(),
        }
    }
}

impl Target {
    fn new(kind: &CheckKind, address: SocketAddr, client: &Result<reqwest::Client, String>) -> Self {
        match kind {
            CheckKind::Tcp => Self::Tcp(address),
            CheckKind::Http { path, host, status } => {
                Self::http(path, host.as_deref(), *status, address, client).unwrap_or_else(Self::Impossible)
            }
        }
    }

    fn http(
        path: &str,
        host: Option<&str>,
        status: (u16, u16),
        address: SocketAddr,
        client: &Result<reqwest::Client, String>,
    ) -> Result<Self, String> {
        let client = client.clone()?;
        // Gap: RFC 9844: a zone id (fe80::1%eth0) has no place in a URL and is lost here.
        let address = SocketAddr::new(address.ip(), address.port());
        let url = format!("http://{address}{path}");
        let url = url
            .parse()
            .map_err(|error| format!("{url:?} is no URL: {error}"))?;
        let host = host.map(HeaderValue::from_str).transpose();
        let host = host.map_err(|error| format!("the Host header is not possible: {error}"))?;
        Ok(Self::Http {
            client,
            url,
            host,
            status,
        })
    }
}

impl Prober for NetProber {
    type Wire = TcpStream;

    async fn probe(&self, endpoint: EndpointId, timeout: Duration) -> Outcome {
        match self.targets.get(endpoint.0 as usize) {
            Some(Some(Target::Tcp(address))) => connect(*address, timeout).await,
            Some(Some(Target::Http {
                client,
                url,
                host,
                status,
            })) => {
                let mut request = client.get(url.clone());
                if let Some(host) = host {
                    request = request.header(HOST, host);
                }
                get(request, *status, timeout).await
            }
            Some(Some(Target::Impossible(why))) => Outcome::Void(Void::Local(why.clone())),
            Some(None) | None => Outcome::Void(Void::Local("the endpoint has no check".to_owned())),
        }
    }

    async fn dial(&self, endpoint: EndpointId, timeout: Duration) -> Result<TcpStream, Outcome> {
        let Some(address) = self.addresses.get(endpoint.0 as usize) else {
            return Err(Outcome::Void(Void::Local("the endpoint is unknown".to_owned())));
        };
        wire::dial(*address)
            .await
            .map_err(|error| Outcome::of_io_error(&error, timeout))
    }

    async fn hold(&self, wire: TcpStream) -> Cut {
        wire::hold(wire).await
    }
}

async fn connect(address: SocketAddr, timeout: Duration) -> Outcome {
    match TcpStream::connect(address).await {
        Ok(_closed_at_once) => Outcome::Success(Answer::Connected),
        Err(error) => Outcome::of_io_error(&error, timeout),
    }
}

/// The status line and the headers decide; the body is not read.
async fn get(request: reqwest::RequestBuilder, (low, high): (u16, u16), timeout: Duration) -> Outcome {
    match request.send().await.map(|response| response.status().as_u16()) {
        Ok(got) if (low..=high).contains(&got) => Outcome::Success(Answer::Status(got)),
        Ok(got) => Outcome::Failure(Failure::Status { got, low, high }),
        Err(error) => of_http_error(&error, timeout),
    }
}

/// Finds the cause at the bottom of reqwest's chain: the socket's error if there is one, else the parser's.
fn of_http_error(error: &reqwest::Error, timeout: Duration) -> Outcome {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Outcome::of_io_error(io, timeout);
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            if hyper.is_incomplete_message() {
                return Outcome::Failure(Failure::Closed);
            }
            if hyper.is_parse() {
                return Outcome::Failure(Failure::Malformed(shortened(&hyper.to_string())));
            }
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return Outcome::Failure(Failure::Other(shortened(&cause.to_string()))),
        }
    }
}

mod wire;

#[cfg(test)]
mod tests;
