//! Reflection: clients ask the edge what services there are.

use std::path::Path;
use std::process::Command;

use prost::Message;
use prost_types::FileDescriptorProto;
use steer_rpc::edge::{Edge, EdgeConfig, Running};
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::peers::{Backend, Script, client, read, request};

const PROTO: &str =
    "syntax = \"proto3\"; package pay; message M {} service Payment { rpc Charge(M) returns (M); }";

/// An edge with a descriptor set of one service; `rest` is of its file.
async fn edge(backend: &Backend, rest: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pay.proto"), PROTO).unwrap();
    let set = protox::compile(["pay.proto"], [folder.path()]).unwrap();
    std::fs::write(folder.path().join("pay.pb"), set.encode_to_vec()).unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndescriptor_sets = [\"pay.pb\"]\n{rest}\n[[pool]]\nname = \"x\"\nbackends = [\"{}\"]\n",
        backend.address
    );
    let config = EdgeConfig::parse(&text, folder.path()).unwrap();
    Edge::bind(config).await.unwrap().run().unwrap()
}

/// What the edge answers to a question after the other, in one call.
async fn asked(edge: &Running, questions: Vec<MessageRequest>) -> Result<Vec<MessageResponse>, Status> {
    let channel = Endpoint::from_shared(format!("http://{}", edge.address())).unwrap();
    let mut client = ServerReflectionClient::new(channel.connect().await.unwrap());
    let requests = questions.into_iter().map(|question| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    });
    let requests: Vec<_> = requests.collect();
    let answers = client
        .server_reflection_info(futures_util::stream::iter(requests))
        .await?;
    let mut answers = answers.into_inner();
    let mut seen = Vec::new();
    while let Some(ServerReflectionResponse { message_response, .. }) = answers.message().await? {
        seen.push(message_response.unwrap());
    }
    Ok(seen)
}

#[tokio::test]
async fn the_edge_tells_the_services_of_its_descriptor_sets_and_asks_no_backend() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&backend, "reflection = true").await;
    let symbol = |name: &str| MessageRequest::FileContainingSymbol(name.to_owned());
    let questions = vec![
        MessageRequest::ListServices("*".to_owned()),
        symbol("pay.Payment"),
    ];
    let answers = asked(&edge, questions).await.unwrap();
    let [
        MessageResponse::ListServicesResponse(list),
        MessageResponse::FileDescriptorResponse(files),
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert!(
        list.service.iter().any(|service| service.name == "pay.Payment"),
        "{list:?}"
    );
    let file = FileDescriptorProto::decode(&files.file_descriptor_proto[0][..]).unwrap();
    assert_eq!(file.service[0].method[0].name(), "Charge");
    // The library ends the call where the protocol has a message for it; clients take either.
    let error = asked(&edge, vec![symbol("pay.Refund")]).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert_eq!(backend.seen(), 0);
    edge.drain().await;
}

#[tokio::test]
async fn without_it_the_backend_is_asked() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&backend, "").await;
    let mut ask = request(&[]);
    *ask.uri_mut() = "http://edge/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        .parse()
        .unwrap();
    let (response, _) = client(edge.address())
        .await
        .ready()
        .await
        .unwrap()
        .send_request(ask, true)
        .unwrap();
    assert_eq!(read(response.await.unwrap()).await.status(), "0");
    assert_eq!(backend.seen(), 1);
}

/// The older name of the same, which most tools still ask for.
const GRPCIO: &str = "
import sys, grpc
call = grpc.insecure_channel(sys.argv[1]).stream_stream('/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo')
print(b''.join(call(iter([b'\\x3a\\x01*']), timeout=20)))
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_is_told_the_services_by_v1alpha() {
    if !Path::new("/usr/lib/python3/dist-packages/grpc/__init__.py").exists() {
        println!("skip: reflection asked by grpcio: it is not installed (Debian package python3-grpcio)");
        return;
    }
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&backend, "reflection = true").await;
    let address = edge.address().to_string();
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", GRPCIO, &address]);
    let output = tokio::task::spawn_blocking(move || python.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("pay.Payment"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
