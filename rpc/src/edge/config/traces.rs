//! `[traces]`: which calls are told of, and to whom.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use http::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;

use super::{InvalidEdge, read};

const PLACE: &str = "[traces]";

/// The attempts of a call go into the queue with it: the fewest spans that any call has room in (see `fate::ATTEMPTS_MAX`,
/// `fate::TRANSPARENT_MAX`), and as many as some hundred megabytes hold.
const QUEUE_MIN: usize = 16;
const QUEUE_MAX: usize = 100_000;

/// Which calls are recorded, and who is told.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRules {
    /// A collector that speaks OTLP over gRPC.
    pub endpoint: String,
    /// Where the endpoint is https.
    pub tls: Option<CollectorTls>,
    /// The share of calls without a parent that is recorded, 0 to 1; the parent decides for others. Default 0.01.
    pub sample: f64,
    /// Calls that are recorded at most, whatever their parents say. Default 1,000.
    pub per_second: NonZeroU32,
    /// The name of the edge (`service.name`). Default `steer-edge`.
    pub service: String,
    /// Spans that wait for the collector; those above it are dropped. Default 4,096.
    pub queue: usize,
}

/// TLS to a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorTls {
    /// Roots in PEM; absent: those of the system.
    pub roots: Option<String>,
    /// The name that its certificate must have; absent: the host of the endpoint.
    pub server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTraces {
    endpoint: String,
    roots_file: Option<PathBuf>,
    server_name: Option<String>,
    sample: Option<f64>,
    per_second: Option<u32>,
    service: Option<String>,
    queue: Option<usize>,
}

fn wrong(what: String) -> InvalidEdge {
    InvalidEdge::Place {
        place: PLACE.to_owned(),
        what,
    }
}

pub(super) fn check_traces(raw: RawTraces, folder: &Path) -> Result<TraceRules, InvalidEdge> {
    let RawTraces {
        endpoint,
        roots_file,
        server_name,
        sample,
        per_second,
        service,
        queue,
    } = raw;
    let is_https = check_endpoint(&endpoint)?;
    let tls = if is_https {
        Some(check_tls(roots_file.as_deref(), server_name, folder)?)
    } else if roots_file.is_some() || server_name.is_some() {
        let what = format!("endpoint is {endpoint:?}; with roots_file or server_name one of https is wanted");
        return Err(wrong(what));
    } else {
        None
    };
    let sample = sample.unwrap_or(0.01);
    if !(0.0..=1.0).contains(&sample) {
        return Err(wrong(format!("sample is {sample}; 0 to 1 are possible")));
    }
    let per_second = NonZeroU32::new(per_second.unwrap_or(1_000));
    let per_second = per_second.ok_or_else(|| wrong("per_second is 0; at least 1 is wanted".to_owned()))?;
    let service = service.unwrap_or_else(|| "steer-edge".to_owned());
    if service.is_empty() {
        return Err(wrong(
            "service is \"\"; a name is wanted, such as \"steer-edge\"".to_owned(),
        ));
    }
    let queue = queue.unwrap_or(4_096);
    if !(QUEUE_MIN..=QUEUE_MAX).contains(&queue) {
        return Err(wrong(format!(
            "queue is {queue}; {QUEUE_MIN} to {QUEUE_MAX} spans are possible"
        )));
    }
    Ok(TraceRules {
        endpoint,
        tls,
        sample,
        per_second,
        service,
        queue,
    })
}

/// Whether it is one of https.
fn check_endpoint(endpoint: &str) -> Result<bool, InvalidEdge> {
    const WANTED: &str = "a collector of OTLP over gRPC is wanted, as in \"http://127.0.0.1:4317\"";
    let uri: Uri = endpoint
        .parse()
        .map_err(|error| wrong(format!("endpoint is {endpoint:?}, {error}; {WANTED}")))?;
    // Who means OTLP over HTTP would wait for spans in vain.
    let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
    let has_host = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("http") if is_bare && has_host => Ok(false),
        Some("https") if is_bare && has_host => Ok(true),
        Some(_) | None => Err(wrong(format!("endpoint is {endpoint:?}; {WANTED}"))),
    }
}

fn check_tls(
    roots_file: Option<&Path>,
    server_name: Option<String>,
    folder: &Path,
) -> Result<CollectorTls, InvalidEdge> {
    let roots = roots_file.map(|file| check_roots(file, folder)).transpose()?;
    if let Some(name) = &server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        let what = format!("server_name is {name:?}; a DNS name or an address is wanted");
        return Err(wrong(what));
    }
    Ok(CollectorTls { roots, server_name })
}

fn check_roots(file: &Path, folder: &Path) -> Result<String, InvalidEdge> {
    let octets = read(&folder.join(file))?;
    let certificates = CertificateDer::pem_slice_iter(&octets).collect::<Result<Vec<_>, _>>();
    let is_good = certificates.is_ok_and(|found| !found.is_empty());
    let text = String::from_utf8(octets).ok().filter(|_| is_good);
    text.ok_or_else(|| {
        wrong(format!(
            "roots_file is {:?}, which has no certificate; PEM is wanted",
            file.display().to_string()
        ))
    })
}
