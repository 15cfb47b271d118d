//! A collector of OTLP over gRPC: tonic's server, with OpenTelemetry's messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::keys::Signed;

/// What it does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Takes,
    /// Says nothing.
    Hangs,
    /// Takes all but one of each batch.
    RefusesOne,
    /// Wants none of it.
    RefusesAll,
    /// Not now: the first so many batches.
    NotYet(usize),
}

/// A collector, and what it got.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Got>>,
}

#[derive(Debug, Default)]
struct Got {
    spans: Vec<Told>,
    exports: usize,
}

/// A span, and who told it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) span: Span,
    pub(crate) service: BTreeMap<String, String>,
}

struct Service {
    manner: Manner,
    got: Arc<Mutex<Got>>,
}

impl Collector {
    pub(crate) async fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), manner, None).await
    }

    pub(crate) async fn start_at(address: SocketAddr, manner: Manner, own: Option<&Signed>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Got>>::default();
        let service = Service {
            manner,
            got: got.clone(),
        };
        let mut server = Server::builder();
        if let Some(Signed { certificate, key }) = own {
            let identity = Identity::from_pem(certificate, key);
            server = server
                .tls_config(ServerTlsConfig::new().identity(identity))
                .unwrap();
        }
        let serving = server
            .add_service(TraceServiceServer::new(service))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        Self { address, got }
    }

    /// What it got, in the order in which the spans began.
    pub(crate) fn told(&self) -> Vec<Told> {
        let mut told = self.got.lock().unwrap().spans.clone();
        // A call and its first attempt may begin in the same nanosecond.
        told.sort_by_key(|told| (told.span.start_time_unix_nano, told.span.kind));
        told
    }

    /// Batches that came, taken or not.
    pub(crate) fn exports(&self) -> usize {
        self.got.lock().unwrap().exports
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let number = {
            let mut got = self.got.lock().unwrap();
            got.exports += 1;
            got.exports
        };
        match self.manner {
            Manner::Takes | Manner::RefusesOne => {}
            Manner::Hangs => std::future::pending().await,
            Manner::RefusesAll => return Err(Status::invalid_argument("no")),
            Manner::NotYet(first) if number <= first => return Err(Status::unavailable("not yet")),
            Manner::NotYet(_) => {}
        }
        let mut spans: Vec<_> = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(told)
            .collect();
        let refused = usize::from(self.manner == Manner::RefusesOne);
        spans.truncate(spans.len() - refused);
        self.got.lock().unwrap().spans.extend(spans);
        let partial_success = (refused > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "one too many".to_owned(),
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

fn told(of: opentelemetry_proto::tonic::trace::v1::ResourceSpans) -> Vec<Told> {
    let service = values(&of.resource.unwrap().attributes);
    let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
    let told = spans.map(|span| Told {
        span,
        service: service.clone(),
    });
    told.collect()
}

impl Told {
    pub(crate) fn kind(&self) -> SpanKind {
        self.span.kind()
    }

    /// An attribute, as text.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        values(&self.span.attributes).remove(key)
    }

    /// Several of them; `none` where there is none.
    pub(crate) fn all<const N: usize>(&self, keys: [&str; N]) -> [String; N] {
        keys.map(|key| self.value(key).unwrap_or_else(|| "none".to_owned()))
    }

    pub(crate) fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

fn values(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = attributes.iter().map(|pair| {
        let value = pair.value.clone().and_then(|value| text_of(value.value?));
        (pair.key.clone(), value.expect("text or a number"))
    });
    pairs.collect()
}

/// The two kinds that there are.
fn text_of(value: Value) -> Option<String> {
    if let Value::StringValue(text) = value {
        return Some(text);
    }
    let Value::IntValue(number) = value else {
        return None;
    };
    Some(number.to_string())
}
