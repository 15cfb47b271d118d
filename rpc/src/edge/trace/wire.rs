//! Records as spans of OTLP, under the names of OpenTelemetry's semantic conventions for RPC, and for HTTP where a call is no
//! gRPC. What only steer knows begins with `steer.`.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};

use super::record::{Asked, Attempt, Ended, Record};
use crate::fate::{Code, Fate};

/// All that is recorded is sampled (W3C Trace Context §3.2.2.5.1).
const SAMPLED: u32 = 1;

/// Who tells of these spans.
pub(super) fn resource(service: &str) -> Resource {
    let mut attributes = vec![
        text("service.name", service),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    // Edges of one service stand in many places.
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(text("host.name", host.trim()));
    }
    Resource {
        attributes,
        ..Resource::default()
    }
}

/// What is sent of some calls.
pub(super) fn request(resource: &Resource, records: &VecDeque<Box<Record>>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "steer.edge".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: records.iter().flat_map(|record| spans(record)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn spans(record: &Record) -> impl Iterator<Item = Span> {
    let attempts = record.attempts.iter();
    std::iter::once(server(record)).chain(attempts.map(|attempt| client(record, attempt)))
}

/// The call.
fn server(record: &Record) -> Span {
    let end = record.end;
    let ended = end.map(|(_, ended)| ended);
    let mut attributes = asked(&record.asked);
    if let Asked::Http { path, .. } = &record.asked {
        attributes.push(text("url.path", path));
    }
    attributes.push(text("client.address", record.client.to_string()));
    if let Some(Ended { code, fate, status }) = ended {
        attributes.push(match record.asked {
            Asked::Grpc(_) => int("rpc.grpc.status_code", code.number()),
            Asked::Http { .. } => int("http.response.status_code", status.as_u16()),
        });
        attributes.push(text("steer.fate", fate.name()));
    }
    let attempts = u32::try_from(record.attempts.len()).unwrap_or(u32::MAX);
    attributes.push(int("steer.attempts", attempts));
    let known = &record.known;
    attributes.extend(known.pool.as_ref().map(|pool| text("steer.pool", &**pool)));
    attributes.extend(
        known
            .priority
            .map(|priority| text("steer.priority", priority.name())),
    );
    attributes.extend(
        known
            .snapshot
            .map(|number| int("steer.snapshot", i64::try_from(number).unwrap_or(i64::MAX))),
    );
    let is_error = ended.is_some_and(|Ended { code, status, .. }| match record.asked {
        Asked::Grpc(_) => is_servers_fault(code),
        Asked::Http { .. } => status.is_server_error(),
    });
    Span {
        parent_span_id: record
            .parent
            .map(|span| span.octets().to_vec())
            .unwrap_or_default(),
        flags: flags(record.parent.is_some()),
        kind: SpanKind::Server.into(),
        attributes,
        ..span(
            record,
            (record.began, end.map(|(at, _)| at)),
            is_error,
            record.own.span.octets(),
        )
    }
}

/// An attempt of it.
fn client(record: &Record, attempt: &Attempt) -> Span {
    let mut attributes = asked(&record.asked);
    attributes.push(text("server.address", attempt.server.ip().to_string()));
    attributes.push(int("server.port", attempt.server.port()));
    let code = attempt.end.map(|(_, code)| code);
    match record.asked {
        Asked::Grpc(_) => attributes.extend(code.map(|code| int("rpc.grpc.status_code", code.number()))),
        Asked::Http { .. } => attributes.extend(
            attempt
                .status
                .map(|status| int("http.response.status_code", status.as_u16())),
        ),
    }
    let number = u32::try_from(attempt.number).unwrap_or(u32::MAX);
    attributes.push(int("steer.attempt", number.saturating_add(1)));
    attributes.extend(attempt.again.map(|kind| text("steer.retry", kind)));
    attributes.push(text("steer.fate", attempt.fate.unwrap_or(Fate::Ambiguous).name()));
    Span {
        parent_span_id: record.own.span.octets().to_vec(),
        flags: flags(false),
        kind: SpanKind::Client.into(),
        attributes,
        ..span(
            record,
            (attempt.began, attempt.end.map(|(at, _)| at)),
            code.is_some_and(|code| code != Code::Ok),
            attempt.span.octets(),
        )
    }
}

/// What both kinds have.
fn span(record: &Record, (began, ended): (Instant, Option<Instant>), is_error: bool, id: [u8; 8]) -> Span {
    let name = match &record.asked {
        Asked::Grpc(method) => method,
        Asked::Http { method, .. } => method,
    };
    let moment = |at: Instant| {
        let wall = record.wall.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let at = wall + at.saturating_duration_since(record.began);
        u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
    };
    Span {
        trace_id: record.own.trace.octets().to_vec(),
        span_id: id.to_vec(),
        trace_state: record.state.clone(),
        name: name.clone(),
        start_time_unix_nano: moment(began),
        end_time_unix_nano: moment(ended.unwrap_or(began)),
        status: is_error.then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..Span::default()
    }
}

fn asked(asked: &Asked) -> Vec<KeyValue> {
    match asked {
        Asked::Grpc(method) => {
            let (service, method) = method.rsplit_once('/').unwrap_or(("", method));
            vec![
                text("rpc.system", "grpc"),
                text("rpc.service", service),
                text("rpc.method", method),
            ]
        }
        Asked::Http { method, .. } => vec![text("http.request.method", method)],
    }
}

/// Whether the parent is known to be another process, and is.
fn flags(is_remote: bool) -> u32 {
    let has = SpanFlags::ContextHasIsRemoteMask as u32;
    let is = SpanFlags::ContextIsRemoteMask as u32;
    SAMPLED | has | if is_remote { is } else { 0 }
}

/// Which statuses are errors of a server, by the semantic conventions for gRPC; the others are its client's affair.
const fn is_servers_fault(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: impl Into<i64>) -> KeyValue {
    pair(key, Value::IntValue(value.into()))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
