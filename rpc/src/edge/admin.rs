//! The admin listener: `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::meter::{DURATIONS, LATENCY, SIZE, SIZES};

/// The recorder asks for upkeep: until then it keeps every value that was observed, eight octets each.
const UPKEEP: Duration = Duration::from_secs(1);

/// A listener that is bound.
#[derive(Debug)]
pub(super) struct Admin {
    listener: TcpListener,
    metrics: PrometheusHandle,
}

impl Admin {
    /// Binds it, and installs the recorder of the process unless an edge has done so.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            metrics: install()?,
            listener: TcpListener::bind(address).await?,
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is aborted.
    pub(super) async fn serve(self) {
        let Self { listener, metrics } = self;
        let rendered = metrics.clone();
        let render = async move || {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(CONTENT_TYPE, kind)], rendered.render())
        };
        let app = Router::new().route("/metrics", get(render));
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.run_upkeep();
            }
        };
        tokio::select! {
            ended = async { axum::serve(listener, app).await } => if let Err(error) = ended {
                tracing::error!(%error, "the admin listener of the edge ended");
            },
            () = upkeep => {}
        }
    }
}

fn install() -> io::Result<PrometheusHandle> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let made = HANDLE.get_or_init(|| {
        let builder = recorder().map_err(|error| error.to_string())?;
        builder.install_recorder().map_err(|error| {
            format!("this process renders its metrics elsewhere; leave `admin` out of the edge: {error}")
        })
    });
    made.clone().map_err(io::Error::other)
}

/// A recorder with the buckets of gRFC A66, for who renders metrics itself.
///
/// # Errors
///
/// None with the buckets that are there.
pub fn recorder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (names, buckets) in [(&DURATIONS[..], &LATENCY[..]), (&SIZES[..], &SIZE[..])] {
        for name in names {
            builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
        }
    }
    Ok(builder)
}
