//! Clients that charge through whichever edge answers, with the same key until they have an answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use prost::Message as _;
use steer_rpc::key::{IdempotencyKey, KEY_HEADER};
use steer_shop::shop::payment_service_client::PaymentServiceClient;
use steer_shop::shop::{ChargeReply, ChargeRequest};
use tonic::transport::{Channel, Endpoint};

use crate::postgres;
use crate::processes::Process;

const CLIENTS: usize = 12;

/// Cents.
const AMOUNT: u64 = 7;

/// What clients know.
#[derive(Default)]
struct Book {
    begun: Mutex<Vec<String>>,
    acked: Mutex<BTreeMap<String, i64>>,
    tries: AtomicUsize,
    stop: AtomicBool,
}

async fn client(number: usize, edges: Vec<SocketAddr>, book: Arc<Book>) {
    let channels: Vec<_> = edges
        .iter()
        .map(|edge| {
            let endpoint = Endpoint::from_shared(format!("http://{edge}")).unwrap();
            endpoint
                .connect_timeout(Duration::from_millis(500))
                .connect_lazy()
        })
        .collect();
    let mut at = number;
    while !book.stop.load(Ordering::SeqCst) {
        let key = IdempotencyKey::random(&mut rand::rng());
        book.begun.lock().unwrap().push(key.to_string());
        // With the same key, until there is an answer: at the other edge when one does not give any.
        let began = Instant::now();
        loop {
            book.tries.fetch_add(1, Ordering::SeqCst);
            match charge(&channels[at % channels.len()], number, &key).await {
                Ok(reply) => {
                    book.acked.lock().unwrap().insert(key.to_string(), reply.receipt);
                    break;
                }
                Err(_) => at += 1,
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{key} gets no answer");
        }
    }
}

async fn charge(
    channel: &Channel,
    number: usize,
    key: &IdempotencyKey,
) -> Result<ChargeReply, tonic::Status> {
    let mut request = tonic::Request::new(ChargeRequest {
        account: format!("account {}", number % 3),
        amount: AMOUNT,
    });
    request.set_timeout(Duration::from_millis(1500));
    request
        .metadata_mut()
        .insert(KEY_HEADER, key.as_str().parse().unwrap());
    let answer = PaymentServiceClient::new(channel.clone()).charge(request).await?;
    Ok(answer.into_inner())
}

fn edge_file(folder: &std::path::Path, services: &[SocketAddr]) -> String {
    let backends: Vec<_> = services.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[[pool]]\nname = \"shop\"\nbackends = [{}]\n\
         [[method]]\npath = \"/shop.PaymentService/*\"\nsemantics = \"keyed\"\nmax_timeout_ms = 3000\n",
        backends.join(", ")
    );
    let file = folder.join("edge.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Waits until so many more charges were acknowledged: what was broken is got over.
async fn more(book: &Book, count: usize) {
    let acked = || book.acked.lock().unwrap().len();
    let (before, began) = (acked(), Instant::now());
    while acked() < before + count {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charges_survive_kills_and_stops_of_edges_and_services_and_none_is_done_twice() {
    let Some(cluster) = postgres::private("charges through two edges") else {
        return;
    };
    let config = cluster.database();
    let folder = tempfile::tempdir().unwrap();
    let mut services: Vec<_> = (0..2)
        .map(|_| Process::services("127.0.0.1:0", &config))
        .collect();
    let addresses: Vec<_> = services.iter().map(|service| service.address).collect();
    let file = edge_file(folder.path(), &addresses);
    let mut edges: Vec<_> = (0..3).map(|_| Process::edge(&file)).collect();
    let book = Arc::new(Book::default());
    let listening: Vec<_> = edges.iter().map(|edge| edge.address).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(number, listening.clone(), book.clone())))
        .collect();

    more(&book, 200).await;
    edges.remove(0).kill();
    more(&book, 200).await;
    edges[0].signal(Signal::SIGSTOP);
    more(&book, 100).await;
    edges[0].signal(Signal::SIGCONT);
    more(&book, 100).await;
    let killed = services.remove(0);
    let place = killed.address.to_string();
    killed.kill();
    more(&book, 200).await;
    services.push(Process::services(&place, &config));
    more(&book, 100).await;
    services[0].signal(Signal::SIGSTOP);
    more(&book, 100).await;
    services[0].signal(Signal::SIGCONT);
    more(&book, 100).await;
    cluster.crash();
    cluster.restart();
    more(&book, 100).await;
    let drained = edges.remove(0);
    drained.signal(Signal::SIGTERM);
    assert!(drained.wait(), "a drain ends in good order");
    more(&book, 100).await;

    book.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    check(&config, &book).await;
}

async fn check(config: &str, book: &Book) {
    let (sql, connection) = tokio_postgres::connect(config, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let rows = sql
        .query("SELECT key, receipt, amount FROM ledger", &[])
        .await
        .unwrap();
    let mut ledger: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut sum = 0;
    for row in &rows {
        ledger.entry(row.get(0)).or_default().push(row.get(1));
        sum += row.get::<_, i64>(2);
    }
    let (begun, acked) = (
        book.begun.lock().unwrap().clone(),
        book.acked.lock().unwrap().clone(),
    );
    let lost = acked
        .iter()
        .filter(|(key, receipt)| ledger.get(*key) != Some(&vec![**receipt]))
        .count();
    let double = ledger.values().filter(|lines| lines.len() > 1).count();
    let strange = ledger.keys().filter(|key| !begun.contains(key)).count();
    println!(
        "{} charged, {lost} lost, {double} double, {} tries",
        acked.len(),
        book.tries.load(Ordering::SeqCst)
    );
    assert_eq!((lost, double, strange), (0, 0, 0));
    let row = sql
        .query_one(
            "SELECT sum(1000000000 - balance)::bigint, count(*) FROM account",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), sum, "accounts and ledger agree");
    let events = sql.query("SELECT payload FROM steer_outbox", &[]).await.unwrap();
    let mut told: Vec<_> = events
        .iter()
        .map(|event| ChargeReply::decode(event.get::<_, &[u8]>(0)).unwrap().receipt)
        .collect();
    let mut receipts: Vec<_> = ledger.into_values().flatten().collect();
    told.sort_unstable();
    receipts.sort_unstable();
    assert_eq!(told, receipts, "one event per charge");
    drop(sql);
    connection.await.unwrap().unwrap();
}
