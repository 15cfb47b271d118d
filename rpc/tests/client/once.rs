//! A keyed method whose answers are lost: its effect happens once, and the client has the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response};
use prost::Message as _;
use steer_rpc::fate::Deadline;
use steer_rpc::key::{
    Answer, Claim, Handled, Handler, IdempotencyKey, KEY_HEADER, KeyedCall, Memory, MemoryClaim,
    REPLAYED_HEADER, Terms, serve, system_clock,
};
use tokio::net::{TcpListener, TcpStream};

use crate::peers::{client, within};
use crate::shop::payment_service_client::PaymentServiceClient;
use crate::shop::{ChargeReply, ChargeRequest};

struct Charge;

impl Handler<MemoryClaim<String>> for Charge {
    async fn run(&mut self, claim: &mut MemoryClaim<String>) -> Handled {
        let receipt = i64::try_from(claim.epoch().0).unwrap();
        claim
            .transaction()
            .await
            .unwrap()
            .push(format!("charge {receipt}"));
        let reply = ChargeReply { receipt, balance: 0 };
        Handled::Keep(Answer::ok(reply.encode_to_vec()), Vec::new())
    }
}

/// A payment service that loses its first answers on the way: the effect is there, and the connection is closed.
#[derive(Clone)]
struct Shop {
    store: Memory<String>,
    lost: Arc<AtomicUsize>,
}

impl Shop {
    async fn connection(self, stream: TcpStream) {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (head, mut body) = request.into_parts();
            let key = IdempotencyKey::parse(head.headers[KEY_HEADER].as_bytes()).unwrap();
            let shop = self.clone();
            let served = async {
                let octets = body.data().await.unwrap().unwrap();
                let call = KeyedCall::new("ana", head.uri.path(), key, &octets).unwrap();
                serve(&shop.store, &call, Deadline::NONE, &mut Charge).await
            };
            let reply = tokio::select! {
                reply = served => reply,
                _ = connection.accept() => return,
            };
            if self
                .lost
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
            {
                return;
            }
            let mut response = Response::new(());
            let replayed = reply.replayed.then_some((REPLAYED_HEADER, "true"));
            let pairs = [("content-type", "application/grpc")].into_iter().chain(replayed);
            for (name, value) in pairs {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            let mut to = respond.send_response(response, false).unwrap();
            to.send_data(framed(&reply.answer.body), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", 0.into());
            to.send_trailers(trailers).unwrap();
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut octets = BytesMut::new();
    octets.put_u8(0);
    octets.put_u32(u32::try_from(message.len()).unwrap());
    octets.put_slice(message);
    octets.freeze()
}

#[tokio::test]
async fn answers_that_are_lost_are_given_again_and_the_effect_happens_once() {
    let store = Memory::new(Terms::default(), system_clock());
    let shop = Shop {
        store: store.clone(),
        lost: Arc::new(AtomicUsize::new(2)),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(shop.clone().connection(stream));
        }
    });
    let mut client = PaymentServiceClient::new(client(&[address], "semantics = \"keyed\""));
    let mut receipts = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let request = ChargeRequest {
            account: "ana".to_owned(),
            amount: 7,
        };
        let answer = within(client.charge(request)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        let outcome = answer.extensions().get::<steer_rpc::client::Outcome>().unwrap();
        receipts.push((
            answer.get_ref().receipt,
            outcome.known().attempts,
            outcome.known().replayed,
        ));
    }
    // The first was sent three times; each intention has a key of its own.
    assert_eq!(
        receipts
            .iter()
            .map(|receipt| (receipt.1, receipt.2))
            .collect::<Vec<_>>(),
        [(3, true), (1, false), (1, false)]
    );
    let expected: Vec<_> = receipts
        .iter()
        .map(|receipt| format!("charge {}", receipt.0))
        .collect();
    assert_eq!(store.effects(), expected);
}
