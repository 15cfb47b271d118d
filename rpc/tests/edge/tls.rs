//! TLS at both ends: who is let in, what is said to the others, and files that change.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use steer_rpc::edge::{Edge, EdgeConfig, Running};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::keys::{self, Root, Signed, client, server, shared};
use crate::meter::{sample, scrape};
use crate::peers::{Backend, PATIENCE, Script, Seen, call, call_on, edge_with, speak, until, within};

const ONCE: &str = "semantics = \"at-most-once\"";

/// An edge before a backend that shows `own`; the edge trusts what is in `roots.pem`. One thread, so that connections can be
/// counted: each has its own.
async fn before(folder: &Path, backend: SocketAddr, rest: &str) -> Running {
    edge_with("workers = 1", &[backend], &keys::pool(folder, rest), ONCE).await
}

async fn asked(edge: &Running) -> Seen {
    call(edge.address(), &[("grpc-timeout", "5S")], b"octets").await
}

#[tokio::test]
async fn a_backend_is_spoken_to_in_tls_with_the_name_that_is_written() {
    let (folder, root) = (tempfile::tempdir().unwrap(), Root::new("root"));
    fs::write(folder.path().join("roots.pem"), root.pem()).unwrap();
    let tls = shared(server(&root.sign("pay.internal"), None));
    let backend = Backend::start_with(&[Script::Echo], Some(tls)).await;
    let edge = before(folder.path(), backend.address, "server_name = \"pay.internal\"").await;
    let seen = asked(&edge).await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"octets"[..]));
}

#[tokio::test]
async fn a_backend_with_a_bad_certificate_gets_no_call_and_the_call_was_not_sent() {
    let (root, other) = (Root::new("root"), Root::new("other"));
    let rows = [
        ("expired", root.sign_expired("127.0.0.1")),
        ("of another root", other.sign("127.0.0.1")),
        ("of another name", root.sign("pay.internal")),
    ];
    for (what, own) in rows {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("roots.pem"), root.pem()).unwrap();
        let backend = Backend::start_with(&[Script::Echo], Some(shared(server(&own, None)))).await;
        let edge = before(folder.path(), backend.address, "").await;
        let seen = asked(&edge).await;
        assert_eq!((seen.status(), seen.fate()), ("14", "not-sent"), "{what}");
        let words = seen.value("grpc-message").unwrap();
        assert!(words.starts_with("no backend could be reached"), "{words}");
        assert_eq!(backend.seen(), 0, "{what}");
    }
}

/// A server of TLS 1.3 turns a client away after the client believes that all is well.
#[tokio::test]
async fn a_backend_that_wants_our_certificate_and_gets_none_or_another_has_not_been_sent_the_call() {
    let (root, other) = (Root::new("root"), Root::new("other"));
    let rows = [
        (None, "14", "not-sent"),
        (Some(other.sign("edge")), "14", "not-sent"),
        (Some(root.sign_expired("edge")), "14", "not-sent"),
        (Some(root.sign("edge")), "0", "none"),
    ];
    for (own, status, fate) in rows {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("roots.pem"), root.pem()).unwrap();
        let tls = shared(server(&root.sign("127.0.0.1"), Some(&root)));
        let backend = Backend::start_with(&[Script::Echo], Some(tls)).await;
        let rest = own.map(|own| {
            own.write(folder.path(), "edge");
            let file = |name| folder.path().join(name);
            format!(
                "certificate_file = {:?}\nkey_file = {:?}",
                file("edge.pem"),
                file("edge.key")
            )
        });
        let edge = before(folder.path(), backend.address, &rest.unwrap_or_default()).await;
        let seen = asked(&edge).await;
        assert_eq!((seen.status(), seen.fate()), (status, fate));
    }
}

#[tokio::test]
async fn a_backend_that_accepts_and_says_nothing_has_not_been_sent_the_call() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let edge = edge_with("", &[silent], "", ONCE).await;
    let seen = call(edge.address(), &[("grpc-timeout", "300m")], b"x").await;
    assert_eq!((seen.status(), seen.fate()), ("4", "not-sent"));
}

/// An edge that speaks TLS, with its files in a folder.
struct Listening {
    folder: tempfile::TempDir,
    edge: Running,
    _backend: Backend,
}

async fn listening(root: &Root, rest: &str) -> Listening {
    let folder = tempfile::tempdir().unwrap();
    root.sign("127.0.0.1").write(folder.path(), "edge");
    fs::write(folder.path().join("clients.pem"), root.pem()).unwrap();
    let backend = Backend::start(&[Script::Echo]).await;
    let text = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[tls]\ncertificate_file = \"edge.pem\"\nkey_file = \"edge.key\"\n{rest}\n\
         [[pool]]\nname = \"x\"\nbackends = [\"{}\"]\n",
        backend.address
    );
    let config = EdgeConfig::parse(&text, folder.path()).unwrap();
    let edge = Edge::bind(config).await.unwrap().run().unwrap();
    Listening {
        folder,
        edge,
        _backend: backend,
    }
}

/// What a client sees: a status, or the error of TLS.
async fn try_as(edge: SocketAddr, config: Arc<ClientConfig>) -> Result<String, String> {
    let stream = TcpStream::connect(edge).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connected = TlsConnector::from(config).connect(name, stream).await;
    let stream = connected.map_err(|error| error.to_string())?;
    let answered = call_on(speak(stream).await, &[], b"octets").await;
    let seen = answered.map_err(|error| error.to_string())?;
    Ok(seen.status().to_owned())
}

#[tokio::test]
async fn a_client_is_let_in_by_its_certificate_and_told_by_an_alert_what_is_wrong_with_it() {
    let (root, other) = (Root::new("root"), Root::new("other"));
    let shop = || Some(root.sign("shop"));
    let foreign = || Some(other.sign("shop"));
    let old = || Some(root.sign_expired("shop"));
    let required = "client_roots_files = [\"clients.pem\"]\nclient_certificates = \"required\"";
    let asked = "client_roots_files = [\"clients.pem\"]\nclient_certificates = \"asked\"";
    let rows: [(&str, Option<Signed>, Result<&str, &str>); 9] = [
        (required, shop(), Ok("0")),
        (required, None, Err("CertificateRequired")),
        (required, foreign(), Err("UnknownCA")),
        (required, old(), Err("CertificateExpired")),
        (asked, shop(), Ok("0")),
        (asked, None, Ok("0")),
        (asked, foreign(), Err("UnknownCA")),
        ("", None, Ok("0")),
        ("", shop(), Ok("0")),
    ];
    for (rest, own, expected) in rows {
        let listening = listening(&root, rest).await;
        let seen = try_as(listening.edge.address(), client(&root, own.as_ref())).await;
        match (&seen, expected) {
            (Ok(status), Ok(expected)) => assert_eq!(status, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("{seen:?} instead of {expected:?} with {rest:?}"),
        }
    }
}

#[tokio::test]
async fn clients_are_told_apart_by_their_certificates_where_rates_are_limited() {
    let root = Root::new("root");
    let rest =
        "client_roots_files = [\"clients.pem\"]\n[rate_limit]\nclient = \"tls\"\nper_second = 1\nburst = 1";
    let listening = listening(&root, rest).await;
    let [shop, bank] = ["shop", "bank"].map(|name| client(&root, Some(&root.sign(name))));
    let mut seen = Vec::new();
    for config in [&shop, &shop, &bank] {
        seen.push(try_as(listening.edge.address(), config.clone()).await.unwrap());
    }
    assert_eq!(seen, ["0", "8", "0"]);
}

/// Tries until the edge answers so.
async fn becomes(edge: SocketAddr, config: &Arc<ClientConfig>, expected: &str) {
    let work = async {
        loop {
            let seen = try_as(edge, config.clone()).await;
            let text = match &seen {
                Ok(text) | Err(text) => text,
            };
            if text.contains(expected) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect(expected);
}

#[tokio::test]
async fn roots_and_certificates_of_the_listener_change_with_their_files_and_overlap() {
    let (old, new) = (Root::new("old"), Root::new("new"));
    let rest = "client_roots_files = [\"clients.pem\"]";
    let listening = listening(&old, rest).await;
    let (folder, address) = (listening.folder.path(), listening.edge.address());
    let (of_old, of_new) = (old.sign("shop"), new.sign("shop"));
    let old_client = client(&old, Some(&of_old));
    let new_client = client(&old, Some(&of_new));
    assert_eq!(try_as(address, old_client.clone()).await.as_deref(), Ok("0"));
    becomes(address, &new_client, "UnknownCA").await;

    fs::write(folder.join("clients.pem"), old.pem() + &new.pem()).unwrap();
    becomes(address, &new_client, "0").await;
    assert_eq!(
        try_as(address, old_client.clone()).await.as_deref(),
        Ok("0"),
        "both are good for a while"
    );

    fs::write(folder.join("clients.pem"), new.pem()).unwrap();
    becomes(address, &old_client, "UnknownCA").await;
    assert_eq!(try_as(address, new_client).await.as_deref(), Ok("0"));

    // The edge's own certificate, of the new root now.
    new.sign("127.0.0.1").write(folder, "edge");
    becomes(address, &client(&new, Some(&of_new)), "0").await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_until_it_is_mended() {
    let (root, new) = (Root::new("root"), Root::new("new"));
    let listening = listening(&root, "").await;
    let (folder, address) = (listening.folder.path(), listening.edge.address());
    let own = client(&root, None);
    fs::write(folder.join("edge.pem"), "no certificate").unwrap();
    // Long enough for it to have been read: a good pair beside it is taken within the same time.
    let beside = self::listening(&root, "").await;
    new.sign("127.0.0.1").write(beside.folder.path(), "edge");
    becomes(beside.edge.address(), &client(&new, None), "0").await;
    assert_eq!(try_as(address, own.clone()).await.as_deref(), Ok("0"));
    let metrics = scrape(listening.edge.admin().unwrap()).await;
    // No other test has a file that cannot be read.
    let refused = sample(&metrics, "steer_rpc_tls_reloads_total{result=\"refused\"}");
    assert!((refused - 1.0).abs() < 1e-9, "{refused}: it is counted once");
    new.sign("127.0.0.1").write(folder, "edge");
    becomes(address, &client(&new, None), "0").await;
}

#[tokio::test]
async fn no_call_is_lost_while_the_roots_of_backends_change() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), Root::new("old"), Root::new("new"));
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, old.pem()).unwrap();
    let tls = shared(server(&old.sign("127.0.0.1"), None));
    let backend = Backend::start_with(&[Script::Echo], Some(tls.clone())).await;
    let edge = before(folder.path(), backend.address, "").await;
    let address = edge.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let calls = tokio::spawn(async move {
        let (mut stopped, mut count) = (stopped, 0);
        while stopped.try_recv().is_err() {
            let seen = call(address, &[], b"x").await;
            assert_eq!(seen.status(), "0", "after {count} calls: {seen:?}");
            count += 1;
        }
        count
    });
    until("there is a connection", || backend.connections() == 1).await;
    fs::write(&roots, old.pem() + &new.pem()).unwrap();
    // What was made with other roots is used for no more calls.
    until("it is made again", || backend.connections() == 2).await;
    *tls.lock().unwrap() = server(&new.sign("127.0.0.1"), None);
    fs::write(&roots, new.pem()).unwrap();
    until("and again, with the new root alone", || {
        backend.connections() == 3
    })
    .await;
    let seen = backend.seen();
    until("calls go on", || backend.seen() > seen + 10).await;
    stop.send(()).unwrap();
    assert!(within(calls).await.unwrap() > 10);
}
