//! TLS to targets: the right certificate, an expired one, a root that nobody trusts, and one of the client's own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use steer_rpc::client::{Client, ClientConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::peers::{LONG, call};

/// A root that signs.
struct Root(CertifiedIssuer<'static, KeyPair>);

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str, last_year: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

fn server(root: &Root, last_year: i32, wants_client: bool) -> Arc<ServerConfig> {
    let (certificate, key) = root.sign("localhost", last_year);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(root.0.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = builder
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Echoes over TLS.
async fn start(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let octets = request.into_body().data().await.unwrap().unwrap();
                        let response = http::Response::builder().header("content-type", "application/grpc");
                        let mut to = respond.send_response(response.body(()).unwrap(), false).unwrap();
                        to.send_data(octets, false).unwrap();
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", 0.into());
                        to.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

fn client(folder: &Path, address: SocketAddr, trusted: &Root, identity: Option<&Root>) -> Client {
    std::fs::write(folder.join("roots.pem"), trusted.0.pem()).unwrap();
    let own = identity.map_or(String::new(), |root| {
        let (certificate, key) = root.sign("ana", 2100);
        std::fs::write(folder.join("own.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
        ", certificate_file = \"own.pem\", key_file = \"own.key\"".to_owned()
    });
    let text = format!(
        "targets = [\"https://localhost:{}\"]\ntls = {{ roots_file = \"roots.pem\"{own} }}\n",
        address.port()
    );
    Client::new(ClientConfig::parse(&text, folder).unwrap())
}

#[tokio::test]
async fn a_target_with_the_right_certificate_is_called_and_any_other_was_not_sent_to() {
    let folder = tempfile::tempdir().unwrap();
    let (root, other) = (Root::new(), Root::new());
    let sound = start(server(&root, 2100, false)).await;
    assert_eq!(
        call(&client(folder.path(), sound, &root, None), LONG)
            .await
            .told()
            .0,
        0
    );
    let expired = start(server(&root, 2021, false)).await;
    for (address, trusted) in [(expired, &root), (sound, &other)] {
        let client = client(folder.path(), address, trusted, None);
        let view = call(&client, Duration::from_millis(500)).await;
        assert_eq!(view.told().1, "not-sent");
    }
}

#[tokio::test]
async fn a_client_shows_its_own_certificate_where_one_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new();
    let address = start(server(&root, 2100, true)).await;
    let view = call(&client(folder.path(), address, &root, Some(&root)), LONG).await;
    assert_eq!(view.told(), (0, "committed".to_owned()));
    let view = call(
        &client(folder.path(), address, &root, None),
        Duration::from_millis(500),
    )
    .await;
    assert_ne!(view.told().0, 0);
}
