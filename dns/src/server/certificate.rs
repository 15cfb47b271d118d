//! The certificate of DoT, DoH and DoQ, read again when its files change.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use steer_topology::Tls;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A protocol inside TLS over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    /// DNS over TLS, RFC 7858.
    Dns,
    /// DNS over HTTPS, RFC 8484, by HTTP/2.
    Http,
}

impl Inside {
    /// RFC 7301: a client that names protocols must name this one. DoT clients often name none.
    fn alpn(self) -> Vec<u8> {
        match self {
            Self::Dns => b"dot".to_vec(),
            Self::Http => b"h2".to_vec(),
        }
    }
}

/// The newest good certificate, ready for use.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    ready: ArcSwap<Ready>,
}

/// One certificate for each protocol.
struct Ready {
    dns: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    quic: Arc<QuicServerConfig>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready(..)")
    }
}

/// What changes when somebody writes or replaces a file.
type Mark = Option<(SystemTime, u64)>;

impl Certificate {
    /// Reads both files. The error names them.
    pub(super) fn read(tls: &Tls) -> io::Result<Self> {
        let Tls { certificate, key, .. } = tls;
        Ok(Self {
            certificate: certificate.clone(),
            key: key.clone(),
            ready: ArcSwap::from_pointee(Ready::read(certificate, key)?),
        })
    }

    /// For one handshake.
    pub(super) fn config(&self, inside: Inside) -> Arc<ServerConfig> {
        match inside {
            Inside::Dns => Arc::clone(&self.ready.load().dns),
            Inside::Http => Arc::clone(&self.ready.load().http),
        }
    }

    /// For one connection of QUIC.
    pub(super) fn quic(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.ready.load().quic)
    }

    /// Follows the files until `stop`. What cannot be used is told once, and the last good one stays.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = self.marks();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let marks = self.marks();
            if marks == seen {
                continue;
            }
            seen = marks;
            match Ready::read(&self.certificate, &self.key) {
                Ok(ready) => {
                    self.ready.store(Arc::new(ready));
                    tracing::info!(certificate = %self.certificate.display(), "new certificate in use");
                }
                Err(error) => tracing::warn!(%error, "the last certificate stays in use"),
            }
        }
    }

    fn marks(&self) -> [Mark; 2] {
        [&self.certificate, &self.key].map(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
    }
}

impl Ready {
    /// A certificate and the key of another are refused.
    fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let fault =
            |path: &Path, error: &dyn fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| fault(certificate, &error))?;
        if chain.is_empty() {
            return Err(fault(certificate, &"no certificate in PEM form in it"));
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
        let config = |alpn: Vec<u8>| {
            let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_no_client_auth()
                .with_single_cert(chain.clone(), secret.clone_key())
                .map_err(|error| fault(key, &error))?;
            config.alpn_protocols = vec![alpn];
            Ok::<_, io::Error>(Arc::new(config))
        };
        let quic = config(b"doq".to_vec())?; // RFC 9250 §4.1.1
        Ok(Self {
            dns: config(Inside::Dns.alpn())?,
            http: config(Inside::Http.alpn())?,
            quic: Arc::new(QuicServerConfig::try_from(quic).map_err(io::Error::other)?),
        })
    }
}
