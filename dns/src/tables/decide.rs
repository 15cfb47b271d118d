//! One run of a chain under the rule for when everything is down.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{AllDown, EndpointId, Filter, Steer};

use super::family::{Picked, each_once};
use crate::filter::{self, Candidate, Network, Outcome, Step};

/// Which form of the last-site rule applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// At least one candidate is not down: the chain decides.
    Chain,
    /// Every candidate of the family is down, or the chain left nothing.
    AllDown(AllDown),
    /// The pool has no endpoint of this family.
    NoEndpoints,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// In order; may be empty.
    List(Vec<Candidate>),
    /// REFUSED: the client may be sent nowhere.
    Refused,
    /// SERVFAIL.
    Fail,
}

impl Left {
    /// Each once, as `of` tells it.
    pub(crate) fn picked<T: PartialEq>(&self, of: impl Fn(&Candidate) -> T) -> Picked<T> {
        match self {
            Self::List(list) => Picked::List(each_once(list.iter().map(of))),
            Self::Refused => Picked::Refused,
            Self::Fail => Picked::Fail,
        }
    }
}

/// One run of one chain for one client, with notes for people.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) steps: Vec<Step>,
    pub(crate) rule: Rule,
    pub(crate) left: Left,
}

/// What a run goes by.
#[derive(Clone, Copy)]
pub(crate) struct Deciding<'t> {
    pub(crate) steer: &'t Steer,
    /// For `serve-last-good`.
    pub(crate) good: &'t [EndpointId],
    /// The chain, or the part of it that is run now.
    pub(crate) chain: &'t [Filter],
    pub(crate) network: Option<Network>,
    pub(crate) take_notes: bool,
}

/// Whether nobody new should go there. What is drained counts as down, so that a site that is held though dead is no
/// better than one that is drained though alive.
pub(crate) fn is_lost(snapshot: &Snapshot, id: EndpointId) -> bool {
    let state = snapshot.endpoint(id);
    state.verdict == Verdict::Down || state.service == Service::Drained
}

impl Deciding<'_> {
    /// Runs the chain under the all-down rule, which is the last-site rule in DNS's own form: a reply must name some
    /// address or say openly that there is none. `fallback`: the candidates of the pool that the rule names.
    ///
    /// It looks at what was observed, not at what the guard made of it. The guard keeps the last site of a service
    /// in service though it is down; if that counted as up, all clients would be sent to one dead site, while the
    /// rule of the name may want all sites, or none.
    pub(crate) fn decide<R: Rng + ?Sized>(
        &self,
        candidates: Vec<Candidate>,
        fallback: Vec<Candidate>,
        rng: &mut R,
    ) -> Run {
        let mut steps = Vec::new();
        if candidates.is_empty() {
            let left = Left::List(Vec::new());
            return Run {
                candidates,
                steps,
                rule: Rule::NoEndpoints,
                left,
            };
        }
        if !candidates.iter().all(|candidate| candidate.lost) {
            let left = self.run(candidates.clone(), rng, &mut steps);
            if left != Left::List(Vec::new()) {
                return Run {
                    candidates,
                    steps,
                    rule: Rule::Chain,
                    left,
                };
            }
            steps.clear();
        }
        let rule = self.steer.if_all_down;
        let left = match rule {
            AllDown::Nodata => Left::List(Vec::new()),
            AllDown::Servfail => Left::Fail,
            AllDown::ServeAll => self.run(taken_as_up(&candidates, |_| true), rng, &mut steps),
            AllDown::ServeLastGood => {
                let was_good = |candidate: &Candidate| self.good.contains(&candidate.first);
                let known = candidates.iter().any(was_good);
                let list = taken_as_up(&candidates, |candidate| !known || was_good(candidate));
                self.run(list, rng, &mut steps)
            }
            AllDown::Pool(_) => self.run(fallback, rng, &mut steps),
        };
        Run {
            candidates,
            steps,
            rule: Rule::AllDown(rule),
            left,
        }
    }

    fn run<R: Rng + ?Sized>(&self, mut list: Vec<Candidate>, rng: &mut R, steps: &mut Vec<Step>) -> Left {
        self.find_home(&mut list);
        let notes = self.take_notes.then_some(steps);
        match filter::run(self.chain, &mut list, self.network, rng, notes) {
            Outcome::Answer => Left::List(list),
            Outcome::Refused => Left::Refused,
        }
    }

    /// Marks the site that the client would get if all were up, for `overflow`. Nothing before it draws.
    fn find_home(&self, list: &mut [Candidate]) {
        let Some(at) = self
            .steer
            .chain
            .iter()
            .position(|filter| *filter == Filter::Overflow)
        else {
            return;
        };
        let mut healthy = taken_as_up(list, |_| true);
        let before = self.steer.chain.get(..at).unwrap_or_default();
        let mut rng = SmallRng::seed_from_u64(0);
        filter::run(before, &mut healthy, None, &mut rng, None);
        if let Some(home) = healthy.first() {
            let site = home.site;
            list.iter_mut()
                .for_each(|candidate| candidate.seen.home = candidate.site == site);
        }
    }
}

fn taken_as_up(list: &[Candidate], keep: impl Fn(&Candidate) -> bool) -> Vec<Candidate> {
    let up = |candidate: &Candidate| Candidate {
        serving: true,
        ..*candidate
    };
    list.iter().filter(|candidate| keep(candidate)).map(up).collect()
}
