//! An event in a line, for people.

use std::fmt;

use super::{Event, Fact, What};

/// "web down at 198.51.100.10:443 (connection refused)", "fra drained by ana until 2026-01-01T14:00:00Z (kernel update)"
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, what) = (&self.key.name, self.what());
        match &self.to {
            Some(Fact::Verdict { .. }) => write!(f, "{}", self.at_place(self.to_word()))?,
            Some(Fact::Guard { .. }) => write!(f, "{}", self.at_place("kept in service by the guard"))?,
            Some(Fact::Drain(drain)) => {
                let again = if what == What::Changed { " anew" } else { "" };
                write!(
                    f,
                    "{name} drained{again} by {}, {}",
                    drain.author,
                    until(drain.until)
                )?;
            }
            Some(Fact::Force(force)) => {
                let again = if what == What::Changed { " anew" } else { "" };
                let (to, author) = (force.to, &force.author);
                write!(f, "{name} forced {to}{again} by {author}, {}", until(force.until))?;
            }
            Some(Fact::Route { .. }) => write!(f, "{name} {}", what.words())?,
            None => match what {
                What::Released => {
                    let now = self.to_word();
                    write!(
                        f,
                        "{}",
                        self.at_place(&format!("no longer kept by the guard: {now}"))
                    )?;
                }
                What::Ended | What::Expired => {
                    let was = match &self.from {
                        Some(Fact::Force(force)) => format!("forced verdict ({})", force.to),
                        Some(
                            Fact::Drain(_) | Fact::Verdict { .. } | Fact::Guard { .. } | Fact::Route { .. },
                        )
                        | None => "drain".to_owned(),
                    };
                    write!(f, "{was} of {name} {}", what.words())?;
                }
                What::Changed
                | What::Gone
                | What::Refused
                | What::Begun
                | What::Announced
                | What::Draining
                | What::HeldBack
                | What::Withdrawn => write!(f, "{name} {}", what.words())?,
            },
        }
        match self.cause() {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl Event {
    /// "web DOES at 198.51.100.10:443"
    fn at_place(&self, does: &str) -> String {
        match &self.place {
            Some(place) => format!("{} {does} at {}", place.pool, place.address),
            None => format!("{} {does}", self.key.name),
        }
    }
}

impl What {
    fn words(self) -> &'static str {
        match self {
            Self::HeldBack => "held back",
            Self::Draining => "steps down",
            Self::Ended => "is over",
            Self::Changed
            | Self::Gone
            | Self::Refused
            | Self::Released
            | Self::Begun
            | Self::Expired
            | Self::Announced
            | Self::Withdrawn => self.as_str(),
        }
    }
}

fn until(until: Option<jiff::Timestamp>) -> String {
    until.map_or_else(
        || "until it is ended".to_owned(),
        |until| format!("until {until:.0}"),
    )
}
