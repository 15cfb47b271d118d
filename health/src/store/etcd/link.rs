//! A connection to one member, and what we ask of it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::stream;
use steer_topology::{EtcdCluster, EtcdTls};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

use super::follow::Past;
use super::proto::auth_client::AuthClient;
use super::proto::kv_client::KvClient;
use super::proto::lease_client::LeaseClient;
use super::proto::watch_client::WatchClient;
use super::proto::{
    AuthenticateRequest, KeyValue, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse, request_op, watch_request,
};

/// Longest that a connection with its TLS may take: around the Earth and through its handshakes.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Longest that a member may take to answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Between two pings, and longest that one is waited for. etcd drops who pings more often than every 5 s.
const PING: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));

/// Largest answer that is read: some ten thousand wishes.
const ANSWER_MAX: usize = 16 << 20;

/// Longest first line of a password file, in bytes.
const PASSWORD_MAX: usize = 1024;

/// Who we are, and whom we trust. Read anew for each connection: files change.
#[derive(Debug, Clone)]
pub(super) struct Access {
    cluster: EtcdCluster,
}

/// A connection to a member.
#[derive(Debug, Clone)]
pub(super) struct Link {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

/// Why a member is of no use.
#[derive(Debug, Clone)]
pub(super) struct LinkError {
    pub(super) why: String,
    /// Whether what was asked for may have been done all the same.
    pub(super) is_in_doubt: bool,
}

impl Access {
    pub(super) fn new(cluster: EtcdCluster) -> Self {
        Self { cluster }
    }

    pub(super) fn members(&self) -> &[String] {
        &self.cluster.members
    }

    /// Connects to a member and says who we are.
    pub(super) async fn open(&self, member: &str) -> Result<Link, LinkError> {
        let failed = |why: String| LinkError {
            why: format!("{member}: {why}"),
            is_in_doubt: false,
        };
        let scheme = if self.cluster.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{member}"))
            .map_err(|error| failed(error.to_string()))?
            .connect_timeout(CONNECT_LIMIT)
            .http2_keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let endpoint = match &self.cluster.tls {
            None => endpoint,
            Some(tls) => endpoint
                .tls_config(tls_config(tls).map_err(failed)?)
                .map_err(|error| failed(told(&error)))?,
        };
        let connected = tokio::time::timeout(CONNECT_LIMIT, endpoint.connect()).await;
        let channel = match connected {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(failed(told(&error))),
            Err(_elapsed) => return Err(failed(format!("no connection within {CONNECT_LIMIT:?}"))),
        };
        let mut link = Link { channel, token: None };
        if let Some((user, password_file)) = &self.cluster.user {
            let password = password(password_file).map_err(failed)?;
            link.token = Some(
                link.authenticate(user, password)
                    .await
                    .map_err(|error| LinkError {
                        why: format!("{member}: {}", error.why),
                        ..error
                    })?,
            );
        }
        Ok(link)
    }
}

impl Link {
    async fn authenticate(&self, name: &str, password: String) -> Result<MetadataValue<Ascii>, LinkError> {
        let request = Request::new(AuthenticateRequest {
            name: name.to_owned(),
            password,
        });
        let answer = answer(AuthClient::new(self.channel.clone()).authenticate(request)).await?;
        let token = answer.into_inner().token.parse();
        token.map_err(|_| LinkError {
            why: "the token that it gave us cannot be sent back".to_owned(),
            is_in_doubt: false,
        })
    }

    /// With what every request carries: our token, and that a member without a leader must not answer.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// All keys of a range, as the quorum has them.
    pub(super) async fn read(
        &self,
        (key, range_end): (Vec<u8>, Vec<u8>),
    ) -> Result<(Past, Vec<KeyValue>), LinkError> {
        let request = self.request(RangeRequest {
            key,
            range_end,
            limit: 0,
        });
        let read = answer(self.kv().range(request)).await?.into_inner();
        Ok((past(read.header)?, read.kvs))
    }

    /// All or nothing.
    pub(super) async fn transact(&self, transaction: TxnRequest) -> Result<(Past, TxnResponse), LinkError> {
        let request = self.request(transaction);
        let done = answer(self.kv().txn(request)).await?.into_inner();
        Ok((past(done.header)?, done))
    }

    /// What happens to the keys of a range from a revision on. The first message says that it stands.
    pub(super) async fn watch(
        &self,
        (key, range_end): (Vec<u8>, Vec<u8>),
        from: i64,
    ) -> Result<Watch, LinkError> {
        let create = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
                key,
                range_end,
                start_revision: from,
                progress_notify: true,
            })),
        };
        // Our half of the stream stays open: etcd ends a watch whose client has nothing more to say.
        let (asks, asked) = tokio::sync::mpsc::channel(1);
        let gone = |_| LinkError {
            why: "the watch ended before it began".to_owned(),
            is_in_doubt: false,
        };
        asks.send(create).await.map_err(gone)?;
        let asked = stream::unfold(asked, |mut asked| async move {
            let message = asked.recv().await?;
            Some((message, asked))
        });
        let mut client = WatchClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX);
        let told = answer(client.watch(self.request(asked))).await?.into_inner();
        Ok(Watch { told, _asks: asks })
    }

    /// A lease: keys that are put under it go when it is over.
    pub(super) async fn grant(&self, seconds: i64) -> Result<i64, LinkError> {
        let grant = self.request(LeaseGrantRequest { ttl: seconds, id: 0 });
        let mut client = LeaseClient::new(self.channel.clone());
        let lease = answer(client.lease_grant(grant)).await?.into_inner();
        if !lease.error.is_empty() {
            return Err(LinkError {
                why: format!("no lease: {}", lease.error),
                is_in_doubt: false,
            });
        }
        Ok(lease.id)
    }

    /// Puts a key under a lease.
    pub(super) async fn put(&self, key: Vec<u8>, value: Vec<u8>, lease: i64) -> Result<(), LinkError> {
        let put = RequestOp {
            request: Some(request_op::Request::RequestPut(PutRequest { key, value, lease })),
        };
        let done = self.transact(TxnRequest {
            success: vec![put],
            ..TxnRequest::default()
        });
        done.await.map(drop)
    }

    /// Renews a lease; false when it was over.
    pub(super) async fn renew(&self, lease: i64) -> Result<bool, LinkError> {
        let once = stream::iter([LeaseKeepAliveRequest { id: lease }]);
        let mut client = LeaseClient::new(self.channel.clone());
        let mut told = answer(client.lease_keep_alive(self.request(once)))
            .await?
            .into_inner();
        let renewed = answer(told.message()).await?;
        Ok(renewed.is_some_and(|renewed| renewed.ttl > 0))
    }

    /// Gives a lease back.
    pub(super) async fn revoke(&self, lease: i64) -> Result<(), LinkError> {
        let request = self.request(LeaseRevokeRequest { id: lease });
        let mut client = LeaseClient::new(self.channel.clone());
        answer(client.lease_revoke(request)).await.map(drop)
    }
}

/// Why a watch tells nothing more after this message.
pub(super) fn is_over(message: &WatchResponse) -> Option<String> {
    if message.compact_revision != 0 {
        let upto = message.compact_revision;
        return Some(format!("the history was compacted up to revision {upto}"));
    }
    let ended = || format!("the watch was ended: {}", message.cancel_reason);
    message.canceled.then(ended)
}

/// A watch that stands, or is about to.
pub(super) struct Watch {
    told: Streaming<WatchResponse>,
    _asks: tokio::sync::mpsc::Sender<WatchRequest>,
}

impl Watch {
    /// The next message, or why there is none any more. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, String> {
        match self.told.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err("the member ended the watch".to_owned()),
            Err(status) => Err(spoken(&status)),
        }
    }
}

/// Waits for an answer, but not for ever.
async fn answer<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, LinkError> {
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(LinkError {
            is_in_doubt: is_in_doubt(&status),
            why: spoken(&status),
        }),
        Err(_elapsed) => Err(LinkError {
            why: format!("no answer within {ANSWER_LIMIT:?}"),
            is_in_doubt: true,
        }),
    }
}

/// Whether what was asked for may have been done. etcd says so when it did not even propose it.
fn is_in_doubt(status: &Status) -> bool {
    use tonic::Code;
    match status.code() {
        Code::Unavailable => !status.message().contains("no leader"),
        Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => false,
    }
}

fn past(header: Option<ResponseHeader>) -> Result<Past, LinkError> {
    let header = header.ok_or_else(|| LinkError {
        why: "the answer has no header".to_owned(),
        is_in_doubt: true,
    })?;
    Ok(Past {
        cluster: header.cluster_id,
        revision: header.revision,
    })
}

fn spoken(status: &Status) -> String {
    let message = status.message();
    if message.is_empty() {
        status.code().to_string()
    } else {
        message.to_owned()
    }
}

/// An error with all that is below it: the transport's own text says only "transport error".
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        below = error.source();
    }
    text
}

fn tls_config(tls: &EtcdTls) -> Result<ClientTlsConfig, String> {
    let config = match &tls.ca_file {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(match &tls.client {
        Some((cert, key)) => config.identity(Identity::from_pem(read(cert)?, read(key)?)),
        None => config,
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| named(file, &error))
}

/// The first line of a file.
fn password(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| named(file, &error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > PASSWORD_MAX {
        let wrong = io::Error::other("its first line must be the password");
        return Err(named(file, &wrong));
    }
    Ok(line.to_owned())
}

fn named(file: &Path, error: &io::Error) -> String {
    format!("{}: {error}", file.display())
}
