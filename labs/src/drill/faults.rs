//! What can break, and how it is taken back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::link::Wan;
use crate::world::{Lab, filled, node};
use crate::{LabError, disk, faketime};

/// A service that was told to end may take so long.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Something that breaks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Break {
    /// `SIGKILL`: the kernel closes its sockets. Taken back by a new start.
    #[serde(rename = "kill-9")]
    Kill9 {
        /// Where.
        node: String,
        /// Which process.
        process: String,
    },
    /// `SIGTERM`, an orderly end, which is not waited for. Taken back by a new start.
    Term {
        /// Where.
        node: String,
        /// Which process.
        process: String,
        /// What else this program takes for it, such as `QUIT`.
        #[serde(default = "term")]
        signal: String,
    },
    /// `SIGTERM`, its end, and a new start: what an upgrade does.
    Restart {
        /// Where.
        node: String,
        /// Which process.
        process: String,
    },
    /// `SIGSTOP`: its kernel goes on to accept connections, nobody answers. Taken back by `SIGCONT`.
    Stop {
        /// Where.
        node: String,
        /// Which process.
        process: String,
    },
    /// The port of a switch forwards nothing any more, both ways, while every carrier stays up.
    Cut {
        /// The switch.
        node: String,
        /// Its port.
        port: String,
    },
    /// What arrives at an interface is dropped before anybody sees it; what it sends goes out. Needs nftables.
    OneWay {
        /// Where.
        node: String,
        /// Which interface.
        interface: String,
    },
    /// An interface goes down, and its peer loses the carrier.
    LinkDown {
        /// Where.
        node: String,
        /// Which interface.
        interface: String,
    },
    /// A `steer endpoint --behave FILE` answers otherwise.
    Answer {
        /// Where.
        node: String,
        /// Which process; its file is `<node>-<process>.behave` in the folder of the run.
        process: String,
        /// How: `500`, `slow 300ms`, `refuse`, `reset`, `half-open`.
        how: String,
    },
    /// The disk of a process (`disk_mb`) has no room any more.
    DiskFull {
        /// Where.
        node: String,
        /// Which process.
        process: String,
    },
    /// The wall clock of a process (`clock = true`) steps.
    ClockStep {
        /// Where.
        node: String,
        /// Which process.
        process: String,
        /// How far from the true time: `+1h`, `-90s`.
        by: String,
    },
    /// A long line (`[[wan]]`) becomes another: slower, lossy, or dead one way.
    Line(Wan),
    /// A command, such as a drain.
    Run {
        /// Where.
        node: String,
        /// Program and arguments, as of a process.
        run: Vec<String>,
        /// What takes it back; nothing when absent.
        #[serde(default)]
        heal: Vec<String>,
    },
}

impl Break {
    /// Where it happens.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::Kill9 { node, .. }
            | Self::Term { node, .. }
            | Self::Restart { node, .. }
            | Self::Stop { node, .. }
            | Self::Cut { node, .. }
            | Self::OneWay { node, .. }
            | Self::LinkDown { node, .. }
            | Self::Answer { node, .. }
            | Self::DiskFull { node, .. }
            | Self::ClockStep { node, .. }
            | Self::Run { node, .. } => node,
            Self::Line(wan) => wan.link.0.split(':').next().unwrap_or_default(),
        }
    }

    /// Node and name of the process that is hit, if one is.
    #[must_use]
    pub fn process(&self) -> Option<(&str, &str)> {
        match self {
            Self::Kill9 { node, process }
            | Self::Term { node, process, .. }
            | Self::Restart { node, process }
            | Self::Stop { node, process }
            | Self::DiskFull { node, process }
            | Self::ClockStep { node, process, .. }
            | Self::Answer { node, process, .. } => Some((node, process)),
            Self::Cut { .. }
            | Self::OneWay { .. }
            | Self::LinkDown { .. }
            | Self::Line(_)
            | Self::Run { .. } => None,
        }
    }

    /// Node and interface that must be one end of a link.
    #[must_use]
    pub fn link_end(&self) -> Option<(&str, &str)> {
        match self {
            Self::Cut { node, port: name }
            | Self::OneWay {
                node,
                interface: name,
            }
            | Self::LinkDown {
                node,
                interface: name,
            } => Some((node, name)),
            Self::Kill9 { .. }
            | Self::Term { .. }
            | Self::Restart { .. }
            | Self::Stop { .. }
            | Self::Answer { .. }
            | Self::DiskFull { .. }
            | Self::ClockStep { .. }
            | Self::Line(_)
            | Self::Run { .. } => None,
        }
    }

    /// Whether its words mean something with these values.
    pub(crate) fn is_plain(&self, set: &BTreeMap<String, String>) -> Result<(), LabError> {
        if let Self::Term { signal, .. } = self {
            orderly(&filled(signal.clone(), set))?;
        }
        Ok(())
    }

    pub(super) fn apply(&self, lab: &mut Lab) -> Result<(), LabError> {
        match self {
            Self::Kill9 { node, process } => lab.process(node, process)?.kill()?,
            Self::Term {
                node,
                process,
                signal,
            } => {
                let signal = orderly(&lab.fill(signal))?;
                lab.process(node, process)?.signal(signal)?;
            }
            Self::Restart { node, process } => {
                let running = lab.process(node, process)?;
                running.signal(Signal::SIGTERM)?;
                running.wait(END_LIMIT)?;
                lab.start(node, process)?;
            }
            Self::Stop { node, process } => lab.process(node, process)?.signal(Signal::SIGSTOP)?,
            Self::Cut { node: name, port } => lab.world.cut(&node(&lab.world, name)?, port, true)?,
            Self::OneWay {
                node: name,
                interface,
            } => lab.run(name, &deaf(interface))?,
            Self::LinkDown {
                node: name,
                interface,
            } => node(&lab.world, name)?.set_link(interface, false)?,
            Self::Answer { node, process, how } => behave(lab, node, process, how)?,
            Self::DiskFull { node, process } => disk::fill(&disk::folder(lab.world.dir(), node, process))?,
            Self::ClockStep { node, process, by } => faketime::step(lab.world.dir(), node, process, by)?,
            Self::Line(wan) => lab.lines.set(wan)?,
            Self::Run { node, run, heal: _ } => lab.run(node, run)?,
        }
        Ok(())
    }

    pub(super) fn heal(&self, lab: &mut Lab) -> Result<(), LabError> {
        match self {
            Self::Kill9 { node, process } => lab.start(node, process)?,
            Self::Term { node, process, .. } => {
                lab.process(node, process)?.wait(END_LIMIT)?;
                lab.start(node, process)?;
            }
            Self::Restart { .. } => {}
            Self::Stop { node, process } => lab.process(node, process)?.signal(Signal::SIGCONT)?,
            Self::Cut { node: name, port } => lab.world.cut(&node(&lab.world, name)?, port, false)?,
            Self::OneWay {
                node: name,
                interface,
            } => lab.run(name, &hearing(interface))?,
            Self::LinkDown {
                node: name,
                interface,
            } => node(&lab.world, name)?.set_link(interface, true)?,
            Self::Answer {
                node,
                process,
                how: _,
            } => behave(lab, node, process, "well")?,
            Self::DiskFull { node, process } => disk::free(&disk::folder(lab.world.dir(), node, process))?,
            Self::ClockStep { node, process, by: _ } => faketime::step(lab.world.dir(), node, process, "+0")?,
            Self::Line(wan) => lab.lines.reset(wan)?,
            Self::Run { node, run: _, heal } if !heal.is_empty() => lab.run(node, heal)?,
            Self::Run { .. } => {}
        }
        Ok(())
    }

    /// Takes back what would outlive a new start of every process.
    pub(super) fn clear(&self, lab: &mut Lab) -> Result<(), LabError> {
        match self {
            Self::Cut { .. }
            | Self::OneWay { .. }
            | Self::LinkDown { .. }
            | Self::Answer { .. }
            | Self::DiskFull { .. }
            | Self::ClockStep { .. }
            | Self::Line(_) => self.heal(lab),
            Self::Kill9 { .. }
            | Self::Term { .. }
            | Self::Restart { .. }
            | Self::Stop { .. }
            | Self::Run { .. } => Ok(()),
        }
    }
}

fn term() -> String {
    "TERM".to_owned()
}

/// A signal by its name without `SIG`.
fn orderly(name: &str) -> Result<Signal, LabError> {
    format!("SIG{name}").parse().map_err(|_| {
        LabError::failed(format!(
            "`signal` is {name:?}; write a name without SIG, such as TERM, QUIT or USR1"
        ))
    })
}

/// In the hook of the receiving interface, so that whoever sends is not told.
fn deaf(interface: &str) -> Vec<String> {
    let rules = format!(
        "table netdev lab_{interface} {{ chain deaf {{ type filter hook ingress device \"{interface}\" priority 0; \
         policy drop; }}; }}"
    );
    ["nft", &rules].map(str::to_owned).to_vec()
}

fn hearing(interface: &str) -> Vec<String> {
    let table = format!("lab_{interface}");
    ["nft", "delete", "table", "netdev", &table]
        .map(str::to_owned)
        .to_vec()
}

fn behave(lab: &Lab, node: &str, process: &str, how: &str) -> Result<(), LabError> {
    let path = lab.world.dir().join(format!("{node}-{process}.behave"));
    let next = path.with_extension("next");
    // Put in place at once: nobody reads half a word.
    fs::write(&next, format!("{how}\n"))
        .and_then(|()| fs::rename(&next, &path))
        .map_err(|source| LabError::io("write", &path, source))
}

/// In words, for the head of the report.
impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill9 { node, process } => write!(f, "kill -9 of `{process}` on `{node}`"),
            Self::Term {
                node,
                process,
                signal,
            } if signal == "TERM" => write!(f, "SIGTERM to `{process}` on `{node}`"),
            Self::Term { node, process, .. } => write!(f, "orderly end of `{process}` on `{node}`"),
            Self::Restart { node, process } => write!(f, "restart of `{process}` on `{node}`"),
            Self::Stop { node, process } => write!(f, "SIGSTOP of `{process}` on `{node}`"),
            Self::Cut { node, port } => write!(f, "`{node}` drops everything at `{port}`, in silence"),
            Self::OneWay { node, interface } => write!(f, "nothing arrives at `{interface}` of `{node}`"),
            Self::LinkDown { node, interface } => write!(f, "`{interface}` of `{node}` down"),
            Self::Answer { node, process, how } => write!(f, "`{process}` on `{node}` answers: {how}"),
            Self::DiskFull { node, process } => write!(f, "the disk of `{process}` on `{node}` is full"),
            Self::ClockStep { node, process, by } => {
                write!(f, "the wall clock of `{process}` on `{node}` steps by {by}")
            }
            Self::Line(wan) => write!(f, "the line from `{}` to `{}` worse", wan.link.0, wan.link.1),
            Self::Run { node, run, heal: _ } => write!(f, "`{}` on `{node}`", run.join(" ")),
        }
    }
}
