//! Log lines on stderr, written by a thread of their own: a blocked terminal or pipe never delays a verdict.

use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogArgs, LogFormat};
use crate::exit::Failure;

/// Lines that may wait for a blocked stderr; more are dropped and counted.
const QUEUE: usize = 16_384;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Log lines dropped so far because stderr was blocked.
pub(crate) fn lines_dropped() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Keeps the writer alive; dropping it writes out what waits.
pub(crate) struct Log {
    _guard: WorkerGuard,
}

/// Installs the global subscriber. Times are UTC, RFC 3339, with microseconds.
pub(crate) fn install(args: &LogArgs) -> Result<Log, Failure> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| {
        Failure::Usage(format!(
            "--log {:?} is no log filter: {error}; write a level such as \"info\"",
            args.log
        ))
    })?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .finish(std::io::stderr());
    DROPPED.get_or_init(|| writer.error_counter());
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match args.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(use_color())).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(|error| Failure::runtime("cannot install the log", &error))?;
    Ok(Log { _guard: guard })
}

fn use_color() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
