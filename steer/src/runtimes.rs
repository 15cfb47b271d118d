//! The threads of a running steer: one that decides, some that serve.
//!
//! ```text
//! control, one thread    verdicts ─► routes ─► BGP sessions                BFD has a thread of its own, and so have
//!                                                                         the probes
//! serving, one per core  compile tables, DNS over TCP and up, admin API    DNS over UDP has threads of its own
//! ```
//!
//! On the way from a verdict to the peers no task waits for another thread to wake, and no client of DNS or of the
//! admin API can keep the sessions waiting.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::exit::Failure;

/// Both, to be made and dropped outside of them.
pub(crate) struct Runtimes {
    control: Runtime,
    serving: Runtime,
}

impl Runtimes {
    pub(crate) fn new() -> Result<Self, Failure> {
        let serving = serving()?;
        let control = started(Builder::new_current_thread().enable_all())?;
        Ok(Self { control, serving })
    }

    /// Runs `body` on the control thread, with the way to the serving ones.
    pub(crate) fn run<F: Future>(self, body: impl FnOnce(Handle) -> F) -> F::Output {
        let body = body(self.serving.handle().clone());
        self.control.block_on(body)
    }
}

/// The runtime of a command that decides nothing.
pub(crate) fn serving() -> Result<Runtime, Failure> {
    // reqwest is built without a default TLS provider; a second install is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    started(Builder::new_multi_thread().enable_all())
}

fn started(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder
        .build()
        .map_err(|error| Failure::runtime("cannot start the runtime", &error))
}
