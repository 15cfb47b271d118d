//! What is recorded of a call: plain values, made into spans where no call waits for it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use http::StatusCode;
use metrics::SharedString;

use super::context::{SpanId, TraceParent};
use crate::edge::shed::Priority;
use crate::fate::{Code, Fate};

/// Octets of a path that are recorded; a client may send more than a collector would keep.
const PATH_MAX: usize = 256;

/// One call, to be a span of kind SERVER, and its attempts.
#[derive(Debug)]
pub(super) struct Record {
    /// Its trace, and its own span.
    pub(super) own: TraceParent,
    /// The span of who calls.
    pub(super) parent: Option<SpanId>,
    /// `tracestate`.
    pub(super) state: String,
    pub(super) asked: Asked,
    /// The clock on the wall, when it began.
    pub(super) wall: SystemTime,
    pub(super) began: Instant,
    pub(super) client: IpAddr,
    pub(super) known: Known,
    pub(super) attempts: Vec<Attempt>,
    /// When it ended, and how.
    pub(super) end: Option<(Instant, Ended)>,
}

/// What the edge knows of a call that it lets in or turns away.
#[derive(Debug, Default)]
pub(in crate::edge) struct Known {
    pub(in crate::edge) pool: Option<SharedString>,
    /// Where the pool looks at it.
    pub(in crate::edge) priority: Option<Priority>,
    /// The number of the snapshot that says which backends there are.
    pub(in crate::edge) snapshot: Option<u64>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(in crate::edge) struct Ended {
    pub(in crate::edge) code: Code,
    pub(in crate::edge) fate: Fate,
    /// What a client of plain HTTP/2 was told.
    pub(in crate::edge) status: StatusCode,
}

/// What was asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// `package.Service/Method`.
    Grpc(String),
    Http {
        method: String,
        path: String,
    },
}

/// One attempt at a backend, to be a span of kind CLIENT.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) span: SpanId,
    /// From 0.
    pub(super) number: usize,
    /// Why it follows another one, as in `steer_rpc_retries_total`.
    pub(super) again: Option<&'static str>,
    pub(super) server: SocketAddr,
    pub(super) began: Instant,
    pub(super) end: Option<(Instant, Code)>,
    /// Of its answer, where one has begun.
    pub(super) status: Option<StatusCode>,
    pub(super) fate: Option<Fate>,
}

impl Record {
    /// How many spans it becomes.
    pub(super) fn spans(&self) -> usize {
        1 + self.attempts.len()
    }
}

impl Asked {
    pub(super) fn new(is_grpc: bool, method: &http::Method, path: &str) -> Self {
        let path = &path[..path.floor_char_boundary(PATH_MAX)];
        if is_grpc {
            Self::Grpc(path.trim_start_matches('/').to_owned())
        } else {
            Self::Http {
                method: bounded(method.as_str()),
                path: path.to_owned(),
            }
        }
    }
}

/// A method may be any token.
fn bounded(method: &str) -> String {
    const METHOD_MAX: usize = 32;
    method[..method.floor_char_boundary(METHOD_MAX)].to_owned()
}
