//! TLS: who is there, and for how long the certificate is good.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use steer_topology::{Endpoint, EndpointId, TlsRules};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::evidence::{Certificate, Evidence};
use crate::outcome::{Answer, Failure, Outcome, shortened};

/// One endpoint over TLS.
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    endpoint: EndpointId,
    warn_within: Duration,
    evidence: Arc<Evidence>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(
        rules: &TlsRules,
        host: Option<&str>,
        endpoint: &Endpoint,
        id: EndpointId,
        alpn: &[&[u8]],
        roots: &mut Roots,
        evidence: &Arc<Evidence>,
    ) -> Result<Self, String> {
        let name = server_name(rules, host, endpoint)?;
        let config = roots.config(rules, alpn)?;
        Ok(Self {
            connector: TlsConnector::from(config),
            name,
            endpoint: id,
            warn_within: rules.expiry_warning,
            evidence: Arc::clone(evidence),
        })
    }

    /// Shakes hands, and notes until when the certificate is good.
    pub(super) async fn shake(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Answer)> {
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let ends = connection
            .peer_certificates()
            .and_then(|chain| ends(chain.first()?));
        if let Some(ends) = ends {
            let certificate = Certificate {
                ends,
                warn_within: self.warn_within,
            };
            self.evidence.certificate(self.endpoint, certificate);
        }
        Ok((stream, Answer::Seen(version.into())))
    }
}

/// When a certificate ends.
fn ends(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

fn server_name(
    rules: &TlsRules,
    host: Option<&str>,
    endpoint: &Endpoint,
) -> Result<ServerName<'static>, String> {
    let written = rules.server_name.as_deref().or(host).or(endpoint.host.as_deref());
    let Some(written) = written else {
        return Ok(ServerName::IpAddress(endpoint.address.ip().into()));
    };
    // A `Host` may have a port, and an IPv6 address then has brackets.
    let bare = match written.rsplit_once(':') {
        Some((bare, port)) if port.parse::<u16>().is_ok() && written.parse::<IpAddr>().is_err() => bare,
        Some(_) | None => written,
    };
    let bare = bare
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{written:?} is no server name"))
}

/// `verify`, `roots` and the names for ALPN.
type Key = (bool, Option<PathBuf>, Vec<Vec<u8>>);

/// The TLS configurations of one fleet, each made once.
#[derive(Debug, Default)]
pub(super) struct Roots {
    made: HashMap<Key, Arc<ClientConfig>>,
    machine: Option<Arc<RootCertStore>>,
}

impl Roots {
    fn config(&mut self, rules: &TlsRules, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, String> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let key = (rules.verify, rules.roots.clone(), alpn.clone());
        if let Some(made) = self.made.get(&key) {
            return Ok(Arc::clone(made));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match (rules.verify, &rules.roots) {
            (false, _) => Arc::new(AnyCertificate(Arc::clone(&provider))),
            (true, roots) => {
                let store = match roots {
                    Some(path) => Arc::new(read(path)?),
                    None => self.of_the_machine(),
                };
                let builder = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider));
                builder
                    .build()
                    .map_err(|error| format!("no certificate can be verified: {error}"))?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // A resumed session does not look at the certificate again.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn;
        let config = Arc::new(config);
        match self.made.entry(key) {
            Entry::Vacant(entry) => Ok(Arc::clone(entry.insert(config))),
            Entry::Occupied(_) => Ok(config),
        }
    }

    fn of_the_machine(&mut self) -> Arc<RootCertStore> {
        let load = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a root certificate of this machine cannot be read");
            }
            let mut store = RootCertStore::empty();
            let (_good, bad) = store.add_parsable_certificates(found.certs);
            if bad > 0 {
                tracing::warn!(bad, "root certificates of this machine that cannot be understood");
            }
            Arc::new(store)
        };
        Arc::clone(self.machine.get_or_insert_with(load))
    }
}

fn read(path: &PathBuf) -> Result<RootCertStore, String> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
        store
            .add(certificate)
            .map_err(|error| format!("{shown}: {error}"))?;
    }
    if store.is_empty() {
        return Err(format!("{shown} has no certificate"));
    }
    Ok(store)
}

/// For `verify = false`: whoever answers may be anybody, but must hold the key of the certificate that it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a failed handshake means.
pub(super) fn of_error(error: &io::Error, timeout: Duration) -> Outcome {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(tls) => Outcome::Failure(Failure::Tls(shortened(&worded(tls)))),
        None => Outcome::of_io_error(error, timeout),
    }
}

/// The commonest faults in words; rustls has its own for the others.
fn worded(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else {
        return error.to_string();
    };
    if matches!(bad, Bad::Expired | Bad::ExpiredContext { .. }) {
        "the certificate has expired".to_owned()
    } else if matches!(bad, Bad::NotValidYet | Bad::NotValidYetContext { .. }) {
        "the certificate is not valid yet".to_owned()
    } else if matches!(bad, Bad::UnknownIssuer) {
        "the certificate is signed by nobody known".to_owned()
    } else {
        bad.to_string()
    }
}
