//! The way to the collector: OTLP over gRPC, beside the threads that serve.
//!
//! ```text
//! Queue ─ a batch, or every second ─► Export ─┬─ taken, some refused ─► counted
//!                                             ├─ not now, not there ─► again, until GIVE_UP ─► dropped
//!                                             └─ never ─► dropped
//! drain ─► what waits is sent ─► FLUSH_MAX ─► the rest is dropped
//! ```
//!
//! Source: OTLP 1.10, "OTLP/gRPC".

use std::collections::VecDeque;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::resource::v1::Resource;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::queue::{Queue, dropped};
use super::record::Record;
use super::wire;
use crate::edge::config::TraceRules;
use crate::fate::Backoff;

/// What waits is sent so often, when it is less than a batch.
const EVERY: Duration = Duration::from_secs(1);

/// A batch is tried so long, and then dropped: what comes behind it wants its place (`OTEL_EXPORTER_OTLP_TIMEOUT`).
const GIVE_UP: Duration = Duration::from_secs(10);

/// What a drain waits for the last spans.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// A connection may take as long, and an answer to a ping.
const CONNECT_MAX: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(5);

/// "Retryable" (OTLP, "Failures"). RESOURCE_EXHAUSTED is only with a `RetryInfo`, which is not read.
const AGAIN: [tonic::Code; 6] = [
    tonic::Code::Cancelled,
    tonic::Code::DeadlineExceeded,
    tonic::Code::Aborted,
    tonic::Code::OutOfRange,
    tonic::Code::Unavailable,
    tonic::Code::DataLoss,
];

/// Those of an edge: a reload begins another one, and the one before it sends what it has.
#[derive(Debug, Default)]
pub(in crate::edge) struct Exporters(Mutex<JoinSet<()>>);

impl Exporters {
    /// Begins to send what comes into a queue. Needs a runtime around it.
    pub(super) fn start(&self, rules: &TraceRules, queue: Arc<Queue>) -> io::Result<()> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let exporter = Exporter {
            client: TraceServiceClient::new(channel(rules)?),
            endpoint: rules.endpoint.clone(),
            resource: wire::resource(&rules.service),
            queue,
            under_way: 0,
            trouble: String::new(),
            is_told: false,
            rng: SmallRng::from_rng(&mut rand::rng()),
        };
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(exporter.run(), &runtime);
        Ok(())
    }

    /// Waits until all have sent what they had, and no longer than it may take. Their queues are closed before.
    pub(in crate::edge) async fn finish(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH_MAX, all).await.is_err() {
            tasks.shutdown().await; // each counts what it drops
        }
    }
}

/// Connects when there is something to send.
fn channel(rules: &TraceRules) -> io::Result<Channel> {
    let endpoint = Endpoint::from_shared(rules.endpoint.clone()).map_err(io::Error::other)?;
    let mut endpoint = endpoint
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(CONNECT_MAX)
        .tcp_nodelay(true);
    if let Some(tls) = &rules.tls {
        let mut config = ClientTlsConfig::new();
        config = match &tls.roots {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name.clone());
        }
        endpoint = endpoint.tls_config(config).map_err(io::Error::other)?;
    }
    Ok(endpoint.connect_lazy())
}

/// Sends what comes into one queue.
struct Exporter {
    queue: Arc<Queue>,
    client: TraceServiceClient<Channel>,
    endpoint: String,
    resource: Resource,
    /// Spans that are being sent.
    under_way: usize,
    /// Why they were not taken so far.
    trouble: String,
    /// Whether the last batch was lost, and that was told.
    is_told: bool,
    rng: SmallRng,
}

/// Spans that a collector refused for good.
struct Refused;

impl Exporter {
    /// Ends when the queue is closed and empty.
    async fn run(mut self) {
        while !self.queue.is_done() {
            // Either will do.
            _ = tokio::time::timeout(EVERY, self.queue.wanted()).await;
            loop {
                let batch = self.queue.take();
                if batch.is_empty() {
                    break;
                }
                self.send(&batch).await;
            }
        }
    }

    async fn send(&mut self, batch: &VecDeque<Box<Record>>) {
        let spans = batch.iter().map(|record| record.spans()).sum();
        self.under_way = spans;
        "no answer".clone_into(&mut self.trouble);
        let sent = tokio::time::timeout(GIVE_UP, self.persist(batch)).await;
        self.under_way = 0;
        match sent {
            Ok(Ok(refused)) => {
                let refused = refused.min(spans);
                metrics::counter!("steer_rpc_spans_exported_total").increment((spans - refused) as u64);
                if refused > 0 {
                    dropped("refused", refused);
                }
                self.is_told = false;
            }
            Ok(Err(Refused)) => self.lost("refused", spans),
            Err(_) => self.lost("unavailable", spans),
        }
    }

    fn lost(&mut self, cause: &'static str, spans: usize) {
        dropped(cause, spans);
        if !std::mem::replace(&mut self.is_told, true) {
            let (endpoint, why) = (&self.endpoint, &self.trouble);
            tracing::warn!(
                endpoint,
                cause,
                why,
                "spans were not exported; told once until they are"
            );
        }
    }

    /// Tries until it is taken, or refused for good; how many spans of it were refused.
    async fn persist(&mut self, batch: &VecDeque<Box<Record>>) -> Result<usize, Refused> {
        let mut retry = 0;
        loop {
            let request = wire::request(&self.resource, batch);
            let status = match self.client.export(request).await {
                Ok(answer) => {
                    let partial = answer.into_inner().partial_success;
                    let refused = partial.map_or(0, |partial| partial.rejected_spans);
                    return Ok(usize::try_from(refused).unwrap_or(0));
                }
                Err(status) => status,
            };
            self.trouble = words(&status);
            // What has a source is of the connection, and no word of the collector.
            if !AGAIN.contains(&status.code()) && status.source().is_none() {
                return Err(Refused);
            }
            tokio::time::sleep(Backoff::DEFAULT.draw(retry, &mut self.rng)).await;
            retry += 1;
        }
    }
}

/// A status, and what it is from: each thing once, though several say it.
fn words(status: &tonic::Status) -> String {
    let mut words = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !words.contains(&text) {
            words = words + ": " + &text;
        }
        source = error.source();
    }
    words
}

/// Who is stopped before its end counts what it had.
impl Drop for Exporter {
    fn drop(&mut self) {
        let spans = self.under_way + self.queue.abandon();
        if spans > 0 {
            dropped("drain", spans);
            let endpoint = &self.endpoint;
            tracing::warn!(endpoint, spans, "spans were not exported before the end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_loss_has_its_cause_once() {
        let broken = io::Error::other(io::Error::other("the pipe is broken"));
        let status = tonic::Status::from_error(Box::new(broken));
        assert_eq!(words(&status), "Unknown: the pipe is broken");
        assert_eq!(
            words(&tonic::Status::invalid_argument("no")),
            "InvalidArgument: no"
        );
    }
}
