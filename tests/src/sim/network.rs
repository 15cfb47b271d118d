//! The paths between sites: what is lost, late, doubled, damaged or cut, for gossip and for probes.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Datagrams and streams between sites.
    Gossip,
    /// From a site to an endpoint of another one, and back.
    Probe,
}

/// Which of it a cut stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// All.
    Both,
    /// Gossip alone.
    Gossip,
    /// Probes alone.
    Probes,
}

/// Who cannot reach whom.
#[derive(Debug, Clone)]
pub enum Cut {
    /// Sites of the one side and of the other: full or partial, as it is drawn.
    Sides(Vec<bool>),
    /// These pairs, one way.
    OneWay(BTreeSet<(usize, usize)>),
}

/// What is wrong with all paths of a site.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Link {
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a datagram comes twice.
    pub twice: f64,
    /// Probability that a datagram is damaged.
    pub damage: f64,
    /// Longest additional delay. It differs from packet to packet, so packets overtake each other.
    pub late: Duration,
}

/// All paths.
#[derive(Debug)]
pub struct Network {
    /// One way between sites, without anything wrong.
    base: Vec<Vec<Duration>>,
    /// By site.
    pub links: Vec<Link>,
    /// By a number of their own.
    pub cuts: Vec<(u64, Stops, Cut)>,
}

impl Network {
    /// Paths of 1 to 150 ms, the same in both directions.
    pub fn draw(sites: usize, random: &mut StdRng) -> Self {
        // A place on a line is enough to make some near and some far.
        let places: Vec<u64> = (0..sites).map(|_| random.random_range(0..150_000)).collect();
        let way = |a: usize, b: usize| Duration::from_micros(1_000 + places[a].abs_diff(places[b]));
        Self {
            base: (0..sites)
                .map(|a| (0..sites).map(|b| way(a, b)).collect())
                .collect(),
            links: vec![Link::default(); sites],
            cuts: Vec::new(),
        }
    }

    /// Whether nothing of `traffic` can come from one site to another.
    #[must_use]
    pub fn is_cut(&self, from: usize, to: usize, traffic: Traffic) -> bool {
        let stops = |stops: Stops| match (stops, traffic) {
            (Stops::Both, Traffic::Gossip | Traffic::Probe) => true,
            (Stops::Gossip, Traffic::Gossip) | (Stops::Probes, Traffic::Probe) => true,
            (Stops::Gossip, Traffic::Probe) | (Stops::Probes, Traffic::Gossip) => false,
        };
        from != to
            && self.cuts.iter().any(|(_, which, cut)| {
                stops(*which)
                    && match cut {
                        Cut::Sides(sides) => sides[from] != sides[to],
                        Cut::OneWay(pairs) => pairs.contains(&(from, to)),
                    }
            })
    }

    /// Whether nothing is wrong with any path.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty() && self.links.iter().all(|link| *link == Link::default())
    }

    /// Whether the path between two sites is as good as new, both ways.
    #[must_use]
    pub fn is_clean(&self, a: usize, b: usize) -> bool {
        [a, b].iter().all(|site| self.links[*site] == Link::default())
            && [(a, b), (b, a)]
                .iter()
                .all(|(from, to)| !self.is_cut(*from, *to, Traffic::Gossip))
    }

    /// When a packet arrives; `None`: never.
    pub fn arrives(&self, from: usize, to: usize, traffic: Traffic, random: &mut StdRng) -> Option<Duration> {
        if from == to {
            return Some(Duration::from_micros(random.random_range(100..2_000)));
        }
        if self.is_cut(from, to, traffic) {
            return None;
        }
        let mut delay = self.base[from][to] + Duration::from_micros(random.random_range(0..3_000));
        for site in [from, to] {
            let link = self.links[site];
            if link.loss > 0.0 && random.random_bool(link.loss) {
                return None;
            }
            if !link.late.is_zero() {
                let late = u64::try_from(link.late.as_micros()).unwrap_or(u64::MAX);
                delay += Duration::from_micros(random.random_range(0..=late));
            }
        }
        Some(delay)
    }

    /// Whether a datagram between the two meets with something of probability `of`.
    pub fn befalls(&self, from: usize, to: usize, of: impl Fn(Link) -> f64, random: &mut StdRng) -> bool {
        [from, to].iter().any(|site| {
            let probability = of(self.links[*site]);
            probability > 0.0 && random.random_bool(probability)
        })
    }
}
