//! Lines on standard output, by a thread of their own.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use steer_anycast::monitor::{Heard, MonitorEvent};
use steer_anycast::spread::{Change, Outcome, Output};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Lines that may wait for a blocked terminal or pipe.
const WAITING: usize = 16_384;

/// Octets that go to a pipe or file in one go.
const BATCH: usize = 64 * 1024;

/// What kind of news a line is: it chooses the mark and the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plus,
    Minus,
    Session,
    Ours,
    Good,
    Bad,
}

/// One line for people.
#[derive(Debug, Clone)]
pub(super) struct Line {
    at: Timestamp,
    tone: Tone,
    text: String,
}

impl Line {
    fn new(at: Timestamp, tone: Tone, text: String) -> Self {
        Self { at, tone, text }
    }

    fn render(&self, color: bool, zone: &TimeZone) -> String {
        let (mark, code) = match self.tone {
            Tone::Plus => ("+", "32"),
            Tone::Minus => ("-", "31"),
            Tone::Session => ("=", "36"),
            Tone::Ours => (">", "1"),
            Tone::Good => ("ok", "32"),
            Tone::Bad => ("!!", "1;31"),
        };
        let at = self.at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f");
        let text = &self.text;
        if color {
            format!("{at} \x1b[{code}m{mark:<2} {text}\x1b[0m\n")
        } else {
            format!("{at} {mark:<2} {text}\n")
        }
    }
}

/// What a monitor heard.
pub(super) fn event(event: &MonitorEvent) -> Line {
    let from = &event.from;
    let (tone, text) = match &event.heard {
        Heard::SessionUp => {
            let text = format!("{from}: up, BGP Identifier {}", from.peer_id);
            (Tone::Session, text)
        }
        Heard::SessionDown { reason } => (Tone::Session, format!("{from}: down: {reason}")),
        Heard::Announced {
            prefix,
            next_hop,
            as_path,
            attributes,
        } => {
            let prefix = prefix.to_string();
            let mut text = format!("{prefix:<18} from {from}  via {next_hop}  path");
            for asn in as_path {
                let _ = write!(text, " {asn}"); // infallible for a string
            }
            if as_path.is_empty() {
                text.push_str(" (empty)");
            }
            let attributes = attributes.to_string();
            if !attributes.is_empty() {
                let _ = write!(text, " {attributes}");
            }
            (Tone::Plus, text)
        }
        Heard::Withdrawn { prefix, lost } => {
            let (prefix, with) = (
                prefix.to_string(),
                if *lost { "  (lost with its session)" } else { "" },
            );
            (Tone::Minus, format!("{prefix:<18} from {from}{with}"))
        }
    };
    Line::new(event.at, tone, text)
}

/// A change of the steer that is followed.
pub(super) fn change(change: &Change) -> Line {
    let what = if change.announced { "announced" } else { "withdrew" };
    let prefix = change.prefix.to_string();
    let text = format!("{prefix:<18} steer {what} it (snapshot {})", change.snapshot);
    Line::new(change.at, Tone::Ours, text)
}

/// What the tracker says.
pub(super) fn output(output: &Output) -> Line {
    let now = Timestamp::now();
    match output {
        Output::Spread(report) => {
            let tone = match report.outcome {
                Outcome::Complete => Tone::Good,
                Outcome::Superseded => Tone::Ours,
                Outcome::Incomplete => Tone::Bad,
            };
            Line::new(now, tone, report.to_string())
        }
        Output::Astray(stray) => {
            let text = format!("{}: {stray}, wrong since {:.0}", stray.kind.name(), stray.since);
            Line::new(now, Tone::Bad, text)
        }
        Output::Settled(stray) => {
            let (prefix, kind) = (stray.change.prefix, stray.kind.name());
            let text = format!("{prefix} is {kind} no more at {}", stray.vantage);
            Line::new(now, Tone::Good, text)
        }
    }
}

/// The steer that is followed cannot be asked, or can again.
pub(super) fn trouble(text: &str) -> Line {
    Line::new(Timestamp::now(), Tone::Bad, text.to_owned())
}

/// Standard output. Never waited for.
pub(super) struct Screen {
    json: bool,
    color: bool,
    zone: TimeZone,
    lines: SyncSender<String>,
    /// Lines without room since the last that had.
    missed: u64,
    lost: u64,
    closed: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Screen {
    pub(super) fn start(json: bool) -> Self {
        let (lines, waiting) = sync_channel(WAITING);
        let closed = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let token = closed.clone();
        std::thread::spawn(move || {
            write_all(&waiting, &token);
            let _ = end.send(()); // nobody waits where the loop has ended already
        });
        Self {
            json,
            color: crate::client::color(),
            zone: TimeZone::system(),
            lines,
            missed: 0,
            lost: 0,
            closed,
            ended,
        }
    }

    /// Cancelled when nobody reads any more.
    pub(super) fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    pub(super) fn say(&mut self, line: &Line, object: &impl Serialize) {
        if self.missed > 0 && self.send(self.missed_line()) {
            self.missed = 0;
        }
        let text = if self.json {
            json_line(object)
        } else {
            line.render(self.color, &self.zone)
        };
        if self.missed > 0 || !self.send(text) {
            self.missed += 1;
            self.lost += 1;
        }
    }

    fn missed_line(&self) -> String {
        let missed = self.missed;
        if self.json {
            return json_line(&serde_json::json!({ "event": "unprinted", "lines": missed }));
        }
        let text = format!("{missed} lines are missing here: they came faster than they were read");
        Line::new(Timestamp::now(), Tone::Bad, text).render(self.color, &self.zone)
    }

    fn send(&self, text: String) -> bool {
        match self.lines.try_send(text) {
            Ok(()) => true,
            // Nobody reads any more: nothing is missed by anybody.
            Err(TrySendError::Disconnected(_)) => true,
            Err(TrySendError::Full(_)) => false,
        }
    }

    /// Waits for what was said, unless nobody takes it; tells how many lines were dropped.
    pub(super) async fn end(self) -> u64 {
        drop(self.lines);
        let _ = tokio::time::timeout(super::save::END_LIMIT, self.ended).await;
        self.lost
    }
}

/// An object in one line; empty where it is none.
pub(super) fn json_line(object: &impl Serialize) -> String {
    serde_json::to_string(object)
        .map(|text| text + "\n")
        .unwrap_or_default()
}

/// Writes until the last sender is gone or nobody reads. What waits for a pipe goes out in one go.
fn write_all(waiting: &Receiver<String>, closed: &CancellationToken) {
    let terminal = io::stdout().is_terminal();
    let mut out = io::stdout().lock();
    while let Ok(mut text) = waiting.recv() {
        while !terminal
            && text.len() < BATCH
            && let Ok(more) = waiting.try_recv()
        {
            text.push_str(&more);
        }
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.is_err() {
            closed.cancel();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use steer_anycast::monitor::{Attributes, BmpView, Rib, Source};
    use steer_anycast::spread::{Stray, StrayKind, Vantage};
    use steer_anycast::wire::Origin;
    use steer_topology::{Asn, Community, Prefix};

    use super::*;

    fn shown(line: &Line) -> String {
        line.render(false, &TimeZone::UTC)
    }

    fn source(bmp: Option<BmpView>) -> Source {
        Source {
            remote: "192.0.2.2:40000".parse().unwrap(),
            asn: Asn::new(64_500).unwrap(),
            peer_id: "10.0.0.2".parse().unwrap(),
            bmp,
        }
    }

    fn prefix() -> Prefix {
        "192.0.2.53/32".parse().unwrap()
    }

    fn heard(bmp: Option<BmpView>, heard: Heard) -> MonitorEvent {
        MonitorEvent {
            at: Timestamp::UNIX_EPOCH,
            from: source(bmp),
            heard,
        }
    }

    #[test]
    fn every_event_is_one_line() {
        let attributes = Arc::new(Attributes {
            origin: Origin::Igp,
            med: Some(5),
            local_pref: None,
            communities: vec![Community::GRACEFUL_SHUTDOWN],
        });
        let announced = Heard::Announced {
            prefix: prefix(),
            next_hop: "192.0.2.1".parse().unwrap(),
            as_path: vec![64_500, 64_512],
            attributes,
        };
        let router = "198.51.100.1:11019".parse().unwrap();
        let rib = Rib::AdjRibInPre;
        let rows = [
            (
                heard(None, announced),
                "00:00:00.000 +  192.0.2.53/32      from AS64500 192.0.2.2  via 192.0.2.1  path 64500 64512  med 5 graceful-shutdown\n",
            ),
            (
                heard(
                    Some(BmpView { router, rib }),
                    Heard::Withdrawn {
                        prefix: prefix(),
                        lost: true,
                    },
                ),
                "00:00:00.000 -  192.0.2.53/32      from AS64500 192.0.2.2 by BMP from 198.51.100.1, adj-rib-in-pre  (lost with its session)\n",
            ),
            (
                heard(None, Heard::SessionUp),
                "00:00:00.000 =  AS64500 192.0.2.2: up, BGP Identifier 10.0.0.2\n",
            ),
        ];
        for (heard, line) in rows {
            assert_eq!(shown(&event(&heard)), line);
        }
    }

    #[test]
    fn a_zombie_is_told_with_its_place_and_time() {
        let at = Timestamp::UNIX_EPOCH;
        let change = Change {
            prefix: prefix(),
            announced: false,
            snapshot: 7,
            at,
        };
        let stray = Stray {
            change,
            kind: StrayKind::Zombie,
            vantage: Vantage::from(source(None)),
            since: at,
        };
        let line = shown(&output(&Output::Astray(stray)));
        let text = "!! zombie: 192.0.2.53/32 is withdrawn, but AS64500 192.0.2.2 still has it, \
                    wrong since 1970-01-01T00:00:00Z\n";
        assert!(line.ends_with(text), "{line}");
    }
}
