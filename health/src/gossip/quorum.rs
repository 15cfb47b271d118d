//! One verdict from many: who sees an endpoint down, weighed, and what follows. Pure functions.
//!
//! The rule, in the order in which it is asked:
//!
//! 1. Only `up` and `down` vote: not what is unknown, expired, or said by a site that is not there.
//! 2. Each continent weighs the same, whatever the number of its sites; within it its sites share alike.
//! 3. A site that sees most of the others down is suspect: it counts a quarter, and a continent of such sites alone counts
//!    less too. So does what it says is down for a while afterwards. Where all who vote are suspect, nothing is decided.
//! 4. Down: two sites or more say so, from two continents or more where two vote, and they weigh more than the needed
//!    share of all who vote. So neither one site nor one continent takes anything down that others see up.
//! 5. Up: somebody says so, and it is not down. Otherwise nothing is decided, and what was so far stays.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use steer_topology::Continent;

use super::site::SiteName;
use crate::snapshot::Verdict;

/// Weight of a site's word, in quarters.
const FULL: u64 = 4;
/// Of one that sees most of the others down.
const SUSPECT: u64 = 1;

/// Divisible by every number of sites up to 16, so that shares are exact; beyond, they are rounded towards up.
const UNIT: u64 = 720_720;

/// One site's word on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Vote {
    /// Who says it.
    pub site: SiteName,
    /// The continent that it stands for; `None`: one of its own, for all sites whose country is not known.
    pub region: Option<Continent>,
    /// What it says.
    pub verdict: Verdict,
    /// Whether it sees most of the others down, or says down and did of late.
    pub suspect: bool,
    /// Why it does not count, if so.
    pub void: Option<Void>,
    /// Its reason.
    pub reason: String,
}

/// Why a word does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Void {
    /// The site has no verdict.
    Unknown,
    /// It has not stood by it for too long.
    Expired,
    /// The site is not there.
    Gone,
}

/// What follows from the votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// Up for all.
    Up,
    /// Too few or too doubtful voices: what was so far stays.
    Undecided,
    /// Down for all.
    Down,
}

/// A ruling and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// What follows.
    pub ruling: Ruling,
    /// How many sites count and say down.
    pub down: usize,
    /// How many count.
    pub counted: usize,
    /// What those who say down weigh, in per cent of all who count, rounded down.
    pub down_percent: u8,
    /// Every word, by site.
    pub votes: Vec<Vote>,
}

/// A vote that counts, as far as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ballot {
    /// As [`Vote::region`].
    pub(super) region: Option<Continent>,
    /// Down; else up.
    pub(super) is_down: bool,
    /// As [`Vote::suspect`].
    pub(super) suspect: bool,
}

/// What ballots come to, as in a [`Tally`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) ruling: Ruling,
    pub(super) down: usize,
    pub(super) counted: usize,
    pub(super) down_percent: u8,
}

#[derive(Default)]
struct Region {
    all: u64,
    down: u64,
    has_down: bool,
}

/// Counts the votes. Down wants *more* than `share` per cent.
#[must_use]
pub fn count(mut votes: Vec<Vote>, share: u8) -> Tally {
    votes.sort();
    let Count {
        ruling,
        down,
        counted,
        down_percent,
    } = weigh(votes.iter().filter_map(Vote::ballot), share);
    Tally {
        ruling,
        down,
        counted,
        down_percent,
        votes,
    }
}

impl Vote {
    /// `None`: it does not count.
    fn ballot(&self) -> Option<Ballot> {
        self.void.is_none().then_some(Ballot {
            region: self.region,
            is_down: self.verdict == Verdict::Down,
            suspect: self.suspect,
        })
    }
}

/// Counts ballots; their order means nothing.
pub(super) fn weigh(ballots: impl IntoIterator<Item = Ballot>, share: u8) -> Count {
    let (mut down, mut counted, mut believed) = (0, 0, false);
    let mut regions: BTreeMap<Option<Continent>, Region> = BTreeMap::new();
    for ballot in ballots {
        let weight = if ballot.suspect { SUSPECT } else { FULL };
        let region = regions.entry(ballot.region).or_default();
        region.all += weight;
        region.down += if ballot.is_down { weight } else { 0 };
        region.has_down |= ballot.is_down;
        believed |= !ballot.suspect;
        down += usize::from(ballot.is_down);
        counted += 1;
    }
    let weight = |region: &Region| region.all.min(FULL);
    let all: u64 = regions.values().map(|region| UNIT * weight(region)).sum();
    let part = |region: &Region| UNIT * weight(region) * region.down / region.all.max(1);
    let against: u64 = regions.values().map(part).sum();

    let down_regions = regions.values().filter(|region| region.has_down).count();
    let outweighs = against * 100 > all * u64::from(share);
    let ruling = if !believed {
        Ruling::Undecided
    } else if down >= 2 && down_regions >= regions.len().min(2) && outweighs {
        Ruling::Down
    } else if counted > down {
        Ruling::Up
    } else {
        Ruling::Undecided
    };
    Count {
        ruling,
        down,
        counted,
        down_percent: (against * 100).checked_div(all).unwrap_or_default() as u8,
    }
}

/// Whether a site is itself suspect: it sees more than half of the others down, and at least two others at all.
/// `others`: for each other site of which it has a verdict, whether all that it knows there is down.
#[must_use]
pub fn is_suspect(others: impl IntoIterator<Item = bool>) -> bool {
    let (mut all, mut down) = (0_usize, 0_usize);
    for is_down in others {
        all += 1;
        down += usize::from(is_down);
    }
    all >= 2 && down * 2 > all
}

impl fmt::Display for Tally {
    /// "3 of 4 sites see it down (fra, jfk, nrt), 75 %: connection refused"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counting = || self.votes.iter().filter(|vote| vote.void.is_none());
        let downs = || counting().filter(|vote| vote.verdict == Verdict::Down);
        let sites: Vec<_> = downs().map(|vote| vote.site.as_str()).collect();
        if sites.is_empty() {
            return write!(f, "none of {} sees it down", sites_word(self.counted));
        }
        let (down, counted) = (self.down, sites_word(self.counted));
        write!(
            f,
            "{down} of {counted} see it down ({}), {} %",
            list(&sites),
            self.down_percent
        )?;
        match downs().find(|vote| !vote.reason.is_empty()) {
            Some(vote) => write!(f, ": {}", vote.reason),
            None => Ok(()),
        }
    }
}

fn sites_word(count: usize) -> String {
    if count == 1 {
        "1 site".to_owned()
    } else {
        format!("{count} sites")
    }
}

/// A list for a line of text.
fn list(sites: &[&str]) -> String {
    const SHOWN: usize = 8;
    match sites.get(..SHOWN) {
        Some(first) if sites.len() > SHOWN => {
            format!("{}, and {} more", first.join(", "), sites.len() - SHOWN)
        }
        Some(_) | None => sites.join(", "),
    }
}

#[cfg(test)]
mod tests;
