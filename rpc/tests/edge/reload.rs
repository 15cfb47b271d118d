//! Another configuration for an edge that serves.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use steer_rpc::edge::{Edge, EdgeConfig, Running};

use crate::peers::{Backend, Script, call_on, client, read, request, until, within};

fn config(head: &str, backend: SocketAddr, rules: &str) -> EdgeConfig {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 2\n{head}\n[[pool]]\nname = \"x\"\nbackends = [\"{backend}\"]\n\
         [[method]]\npath = \"*\"\n{rules}\n"
    );
    EdgeConfig::parse(&text, Path::new(".")).unwrap()
}

async fn start(backend: &Backend) -> Running {
    let config = config("", backend.address, "");
    Edge::bind(config).await.unwrap().run().unwrap()
}

#[tokio::test]
async fn the_next_call_of_a_connection_has_the_new_configuration_and_one_that_has_begun_keeps_its_own() {
    let (old, new) = (
        Backend::start(&[Script::Echo]).await,
        Backend::start(&[Script::Echo]).await,
    );
    let edge = start(&old).await;
    let send = client(edge.address()).await;
    let begun = send
        .clone()
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false);
    let (response, mut body) = begun.unwrap();
    body.send_data(Bytes::from_static(b"before "), false).unwrap();
    until("the backend has the call", || old.seen() == 1).await;

    edge.reload(config("", new.address, "")).unwrap();
    let next = call_on(send, &[], b"next").await.unwrap();
    assert_eq!((next.status(), &next.body[..]), ("0", &b"next"[..]));
    assert_eq!((old.seen(), new.seen()), (1, 1));

    body.send_data(Bytes::from_static(b"and after"), true).unwrap();
    let seen = read(within(response).await.unwrap()).await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"before and after"[..]));
    assert_eq!((old.seen(), new.seen()), (1, 1));
}

#[tokio::test]
async fn a_pool_that_has_not_changed_keeps_its_connections() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = start(&backend).await;
    let send = client(edge.address()).await;
    call_on(send.clone(), &[], b"one").await.unwrap();
    edge.reload(config("", backend.address, "max_timeout_ms = 3_000"))
        .unwrap();
    call_on(send, &[], b"two").await.unwrap();
    assert_eq!((backend.seen(), backend.connections()), (2, 1));
    assert!(!backend.head(0).contains_key("grpc-timeout"));
    assert!(backend.head(1).contains_key("grpc-timeout"), "the new rule holds");
}

#[tokio::test]
async fn what_cannot_change_is_refused_and_the_old_configuration_goes_on() {
    let (backend, other) = (
        Backend::start(&[Script::Echo]).await,
        Backend::start(&[Script::Echo]).await,
    );
    let edge = start(&backend).await;
    let mut moved = config("", other.address, "");
    moved.listen = "127.0.0.1:1".parse().unwrap();
    let mut watched = config("", other.address, "");
    watched.admin = Some("127.0.0.1:1".parse().unwrap());
    let mut crowded = config("", other.address, "");
    crowded.workers = 3.try_into().unwrap();
    for (config, name) in [(moved, "`listen`"), (watched, "`admin`"), (crowded, "`workers`")] {
        let refused = edge.reload(config).unwrap_err().to_string();
        let expected =
            format!("{name} cannot change while the edge runs; start another edge and drain this one");
        assert_eq!(refused, expected);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let file = file.display();
    let wrong = format!("[tls]\ncertificate_file = \"{file}\"\nkey_file = \"{file}\"");
    let refused = edge.reload(config(&wrong, other.address, "")).unwrap_err();
    assert!(refused.to_string().contains("edge.pem"), "{refused}");
    let seen = call_on(client(edge.address()).await, &[], b"still")
        .await
        .unwrap();
    assert_eq!((seen.status(), backend.seen(), other.seen()), ("0", 1, 0));
}
