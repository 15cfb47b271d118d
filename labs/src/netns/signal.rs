//! Ctrl-C, SIGTERM and SIGHUP take every live world down before the process ends.

use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use tokio::signal::unix::{SignalKind, signal};

use super::{NetError, Shared};

static LIVE: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// Registers a world for removal on a signal; starts the watching thread with the first.
pub(super) fn guard(world: &Arc<Shared>) -> Result<(), NetError> {
    let mut started = Ok(());
    WATCH.call_once(|| {
        started = std::thread::Builder::new()
            .name("netns-signals".to_owned())
            .spawn(watch)
            .map(drop)
            .map_err(|source| NetError::io("start the thread", "netns-signals", source));
    });
    started?;
    LIVE.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Arc::downgrade(world));
    Ok(())
}

pub(super) fn forget(world: &Arc<Shared>) {
    let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    live.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&Arc::downgrade(world)));
}

fn watch() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        tracing::warn!("signals are not watched: a world outlives Ctrl-C until the next run");
        return;
    };
    let number = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        Ok::<i32, std::io::Error>(tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        })
    });
    match number {
        Ok(number) => {
            let live = std::mem::take(&mut *LIVE.lock().unwrap_or_else(PoisonError::into_inner));
            for world in live.iter().filter_map(Weak::upgrade) {
                world.destroy();
            }
            std::process::exit(128 + number); // as a shell reports an end by signal
        }
        Err(error) => tracing::warn!(%error, "signals are not watched"),
    }
}
