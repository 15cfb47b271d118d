//! `steer monitor`: listen to routes, print and save them, follow how our own changes spread.
//!
//! ```text
//! BGP sessions ─┐             ┌─► screen: a thread with a bounded queue
//! BMP routers ──┼─► one loop ─┼─► files: the same
//! admin API ────┘             └─► tracker: reports, zombies, missing routes     (--follow)
//! ```
//!
//! The loop never waits for a screen or a disk. What they have no room for is dropped, counted and said; the
//! tracker misses nothing of what the sessions hear.

mod follow;
mod print;
mod save;

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;
use steer_anycast::bmp::Receiver;
use steer_anycast::monitor::{Monitor, MonitorEvent, Only, Recorder};
use steer_anycast::spread::{Change, Changes, Settings, Tracker};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::MonitorArgs;
use crate::exit::Failure;
use crate::{logging, run, runtimes};

use follow::{Follow, Followed};
use print::{Line, Screen};
use save::{Format, Saver};

/// Events between sessions and the loop; sessions wait beyond that.
const EVENTS: usize = 4_096;

/// How often the tracker is told the time.
const TICK: std::time::Duration = std::time::Duration::from_millis(250);

/// Runs until SIGTERM or SIGINT, or until nobody reads standard output any more.
pub(crate) fn run(args: &MonitorArgs) -> Result<(), Failure> {
    let _log = logging::install(&args.log)?;
    refuse_idle(args)?;
    runtimes::serving()?.block_on(serve(args))
}

fn refuse_idle(args: &MonitorArgs) -> Result<(), Failure> {
    let sessions = args.listen.is_some() || !args.peer.is_empty();
    if !sessions && args.bmp_listen.is_none() {
        return Err(Failure::Usage(
            "nothing to listen to: give --listen or --peer (BGP), or --bmp-listen".to_owned(),
        ));
    }
    let mrt = args.save.iter().find(|file| Format::of(file) == Format::Mrt);
    if let Some(file) = mrt.filter(|_| !sessions) {
        // Gap: what a router tells by BMP is saved as JSON alone.
        return Err(Failure::Usage(format!(
            "{}: MRT holds our own BGP sessions, and there are none; give --listen or --peer, or a file for JSON lines",
            file.display()
        )));
    }
    Ok(())
}

async fn serve(args: &MonitorArgs) -> Result<(), Failure> {
    let mut signals = run::stop_on_signal()?;
    let stop = CancellationToken::new();
    let (follow, only) = match args.follow {
        Some(admin) => {
            let (follow, prefixes) = Follow::begin(admin).await?;
            (
                Some(follow),
                Only::these(prefixes.into_iter().chain(args.only.iter().copied())),
            )
        }
        None if args.only.is_empty() => (None, Only::default()),
        None => (None, Only::these(args.only.iter().copied())),
    };
    let saver = Saver::open(args)?;
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut listening = JoinSet::new();
    let mut heard_at = Vec::new();
    if let Some(monitor) = bind_monitor(args, &only, saver.recorder())? {
        heard_at.extend(monitor.local_addr().ok());
        listening.spawn(monitor.run(sender.clone(), stop.clone()));
    }
    if let Some(listen) = args.bmp_listen {
        let doing = format!("cannot listen for BMP on {listen}");
        let receiver =
            Receiver::bind(listen, only.clone()).map_err(|error| Failure::runtime(&doing, &error))?;
        heard_at.extend(receiver.local_addr().ok());
        listening.spawn(receiver.run(sender.clone(), stop.clone()));
    }
    drop(sender);
    log_start(args, &heard_at);

    let mut watching = Watching {
        screen: Screen::start(args.json),
        saver,
        following: follow.map(|follow| Following::new(follow, args, only, &stop)),
        events: 0,
    };
    let closed = watching.screen.closed();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = signals.wait() => break,
            () = closed.cancelled() => break,
            event = events.recv() => match event {
                Some(event) => watching.on_event(&event),
                None => break,
            },
            followed = watching.followed() => watching.on_followed(followed),
            _ = tick.tick() => watching.on_tick(),
        }
    }
    stop.cancel();
    // What the sessions say on their way out is worth seeing.
    while let Some(event) = events.recv().await {
        watching.on_event(&event);
    }
    while listening.join_next().await.is_some() {}
    watching.end().await
}

fn bind_monitor(
    args: &MonitorArgs,
    only: &Only,
    recorder: Option<Recorder>,
) -> Result<Option<Monitor>, Failure> {
    let Some(asn) = args
        .asn
        .filter(|_| args.listen.is_some() || !args.peer.is_empty())
    else {
        return Ok(None);
    };
    let monitor = match args.listen {
        Some(listen) => {
            let doing = format!("cannot listen for BGP on {listen}");
            Monitor::bind(listen, asn, args.router_id).map_err(|error| Failure::runtime(&doing, &error))?
        }
        None => Monitor::without_listener(asn, args.router_id),
    };
    let monitor = monitor.dialling(&args.peer).only(only.clone());
    Ok(Some(match recorder {
        Some(recorder) => monitor.recording(recorder),
        None => monitor,
    }))
}

fn log_start(args: &MonitorArgs, heard_at: &[SocketAddr]) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = ?heard_at,
        peers = ?args.peer,
        follow = ?args.follow,
        "route monitor started"
    );
}

/// Where what is heard goes.
struct Watching {
    screen: Screen,
    saver: Saver,
    following: Option<Following>,
    events: u64,
}

/// The closed loop around one steer.
struct Following {
    news: mpsc::Receiver<Followed>,
    changes: Changes,
    tracker: Tracker,
    only: Only,
}

impl Following {
    fn new(follow: Follow, args: &MonitorArgs, only: Only, stop: &CancellationToken) -> Self {
        let settings = Settings {
            grace: args.grace,
            tag: args.tag,
        };
        Self {
            news: follow.start(stop.clone()),
            changes: Changes::default(),
            tracker: Tracker::new(settings),
            only,
        }
    }
}

/// A change of the steer that is followed, as a line.
#[derive(Debug, Serialize)]
struct Changed {
    event: &'static str,
    #[serde(flatten)]
    change: Change,
}

impl Watching {
    /// News of the steer that is followed; pends for ever without one.
    async fn followed(&mut self) -> Followed {
        let next = match &mut self.following {
            Some(following) => following.news.recv().await,
            None => None,
        };
        match next {
            Some(followed) => followed,
            None => std::future::pending().await,
        }
    }

    fn on_event(&mut self, event: &MonitorEvent) {
        self.events += 1;
        if let Some(following) = &mut self.following {
            following.tracker.hear(event);
        }
        self.say(&print::event(event), event);
        self.outputs();
    }

    fn on_followed(&mut self, followed: Followed) {
        let Some(following) = &mut self.following else {
            return;
        };
        let routes = match followed {
            Followed::Routes(routes) => routes,
            Followed::Trouble(text) => {
                let object = serde_json::json!({ "event": "follow", "at": Timestamp::now(), "text": text });
                return self.say(&print::trouble(&text), &object);
            }
        };
        let mut fresh = Vec::new();
        for (change, baseline) in following.changes.look(routes) {
            following.only.add(change.prefix);
            if baseline {
                following.tracker.baseline(change);
            } else {
                following.tracker.change(change);
                fresh.push(change);
            }
        }
        for change in fresh {
            let event = "changed";
            self.say(&print::change(&change), &Changed { event, change });
        }
        self.outputs();
    }

    fn on_tick(&mut self) {
        if let Some(following) = &mut self.following {
            following.tracker.on_deadline(Timestamp::now());
        }
        self.outputs();
    }

    /// What the tracker has to say.
    fn outputs(&mut self) {
        while let Some(output) = self
            .following
            .as_mut()
            .and_then(|following| following.tracker.poll_output())
        {
            self.say(&print::output(&output), &output);
        }
    }

    fn say(&mut self, line: &Line, object: &impl Serialize) {
        self.screen.say(line, object);
        self.saver.say(object);
    }

    /// Everything is written, and what was missed is said.
    async fn end(self) -> Result<(), Failure> {
        let Self {
            screen,
            saver,
            following,
            events,
        } = self;
        let unprinted = screen.end().await;
        let (unsaved, trouble) = saver.end().await;
        if let Some(following) = following {
            let summary = following.tracker.summary();
            let (strays, ignored) = (summary.strays.len(), summary.ignored);
            info!(changes = summary.reports.len(), strays, ignored, "followed");
        }
        info!(events, unprinted, unsaved, "route monitor stopped");
        trouble.map_or(Ok(()), Err)
    }
}
