//! As much of gRPC and protobuf as two calls to GoBGP need: a connection that stays, and messages by hand.
//!
//! ```text
//! AddPath(AddPathRequest { path = 3 }), DeletePath(DeletePathRequest { family = 3, path = 4 })
//! Path { nlri = 1: Any, pattrs = 2: Any.., family = 9 }
//! ```

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A connection to GoBGP's API.
pub(super) struct GoBgpApi {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    authority: SocketAddr,
}

impl GoBgpApi {
    pub(super) fn connect(address: SocketAddr) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let connected = runtime.block_on(async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let (requests, connection) = h2::client::handshake(stream)
                .await
                .map_err(|error| error.to_string())?;
            // Ends with the connection, whose errors the calls see.
            tokio::spawn(async {
                let _ = connection.await;
            });
            Ok::<_, String>(requests)
        });
        let requests = connected.map_err(|error| format!("gobgpd at {address}: {error}"))?;
        Ok(Self {
            runtime,
            requests,
            authority: address,
        })
    }

    /// Announces or withdraws one IPv4 prefix, and waits for the answer.
    pub(super) fn set(&mut self, prefix: &str, announce: bool) -> Result<(), String> {
        let path = path(prefix)?;
        match announce {
            true => self.call("AddPath", &field(3, &path)),
            false => self.call("DeletePath", &[field(3, &IPV4_UNICAST), field(4, &path)].concat()),
        }
    }

    fn call(&mut self, method: &str, message: &[u8]) -> Result<(), String> {
        let uri = format!("http://{}/apipb.GobgpApi/{method}", self.authority);
        let request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| error.to_string())?;
        let mut body = vec![0]; // not compressed
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let requests = self.requests.clone();
        let status = self.runtime.block_on(ask(requests, request, body.into()));
        match status {
            Ok(status) if status == "0" => Ok(()),
            Ok(status) => Err(format!("{method}: gRPC status {status}")),
            Err(error) => Err(format!("{method}: {error}")),
        }
    }
}

/// Sends one request and reads its answer to the end; gives `grpc-status`.
async fn ask(requests: SendRequest<Bytes>, request: Request<()>, body: Bytes) -> Result<String, h2::Error> {
    let mut requests = requests.ready().await?;
    let (response, mut stream) = requests.send_request(request, false)?;
    stream.send_data(body, true)?;
    let response = response.await?;
    let status = |headers: &http::HeaderMap| {
        let value = headers.get("grpc-status")?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    // A call that fails at once has its status in the header.
    let early = status(response.headers());
    let mut answer = response.into_body();
    while let Some(part) = answer.data().await {
        let length = part?.len();
        answer.flow_control().release_capacity(length)?;
    }
    let trailers = answer.trailers().await?;
    Ok(trailers
        .as_ref()
        .and_then(status)
        .or(early)
        .unwrap_or_else(|| "none".to_owned()))
}

/// Family { afi = 1: IPv4, safi = 2: unicast }
const IPV4_UNICAST: [u8; 4] = [0x08, 1, 0x10, 1];

fn path(prefix: &str) -> Result<Vec<u8>, String> {
    let (address, length) = prefix
        .split_once('/')
        .ok_or_else(|| format!("{prefix} is no prefix"))?;
    let length: u8 = length.parse().map_err(|error| format!("{prefix}: {error}"))?;
    // IPAddressPrefix { prefix_len = 1, prefix = 2 }
    let nlri = [vec![0x08, length], field(2, address.as_bytes())].concat();
    // NextHopAttribute { next_hop = 1 }; the unspecified address stands for the session's own.
    let next_hop = field(1, b"0.0.0.0");
    // OriginAttribute { origin = 1 }: IGP, which is 0 and so not written.
    let attributes = [any("OriginAttribute", &[]), any("NextHopAttribute", &next_hop)];
    let attributes = attributes.iter().flat_map(|one| field(2, one));
    let mut path = field(1, &any("IPAddressPrefix", &nlri));
    path.extend(attributes);
    path.extend(field(9, &IPV4_UNICAST));
    Ok(path)
}

/// google.protobuf.Any { type_url = 1, value = 2 }
fn any(name: &str, value: &[u8]) -> Vec<u8> {
    let url = format!("type.googleapis.com/apipb.{name}");
    [field(1, url.as_bytes()), field(2, value)].concat()
}

/// A field with a length: string, bytes or message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(value);
    out
}
