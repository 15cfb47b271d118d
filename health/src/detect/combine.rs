//! Several detectors, one verdict.

use std::time::Instant;

use steer_topology::{Check, Combine, DetectorRules};

use super::{Detector, Phi, Seen, Threshold, Window};
use crate::snapshot::Verdict;

/// The detectors of one check.
///
/// - [`Combine::Any`]: down when one says so, up again when none of those that said so does. The others then begin
///   anew: what happened meanwhile does not prolong an outage that they did not see coming.
/// - [`Combine::All`]: down when all say so, up again when one says up.
/// - A proof ([`Seen::Gone`]) decides at once, where a member takes proofs ([`super::Threshold`] does).
#[derive(Debug)]
pub struct Detectors {
    members: Vec<Member>,
    how: Combine,
    verdict: Verdict,
    /// When silence was last looked at: what was due by then is no deadline any more.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    detector: Box<dyn Detector>,
    /// Neither told nor asked until the verdict is up again.
    asleep: bool,
}

impl Detectors {
    /// These together; `known` is the verdict of before, which stands until they know better.
    #[must_use]
    pub fn new(members: Vec<Box<dyn Detector>>, how: Combine, known: Verdict) -> Self {
        let awake = |detector| Member {
            detector,
            asleep: false,
        };
        Self {
            members: members.into_iter().map(awake).collect(),
            how,
            verdict: known,
            looked: None,
        }
    }

    /// What they say together.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What a check asks for: `fall`, `rise` and `forget` are its own, the rest stands in its detectors.
    #[must_use]
    pub fn of(check: &Check, known: Verdict) -> Self {
        let (fall, rise, forget) = (check.fall.get(), check.rise.get(), check.forget.get());
        let members = check.detect.iter().map(|rules| -> Box<dyn Detector> {
            match rules {
                DetectorRules::Threshold => Box::new(Threshold::new(fall, rise, forget, known)),
                DetectorRules::Window(rules) => Box::new(Window::new(rules.clone())),
                DetectorRules::Phi(rules) => Box::new(Phi::new(rules.clone())),
            }
        });
        Self::new(members.collect(), check.combine, known)
    }

    /// Tells all of them. Returns true when the verdict changed.
    pub fn observe(&mut self, seen: Seen, now: Instant) -> bool {
        for member in self.awake() {
            member.detector.observe(seen, now);
        }
        self.decide(seen == Seen::Gone, now)
    }

    /// The time of [`Detectors::next_deadline`] came. Returns true when the verdict changed.
    pub fn on_deadline(&mut self, now: Instant) -> bool {
        self.looked = Some(now);
        self.decide(false, now)
    }

    /// When the verdict may change by silence alone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.verdict == Verdict::Down {
            return None; // silence brings nobody back
        }
        let members = self.members.iter().filter(|member| !member.asleep);
        let deadlines = members.filter_map(|member| member.detector.next_deadline());
        deadlines
            .filter(|at| self.looked.is_none_or(|looked| *at > looked))
            .min()
    }

    /// What speaks for the verdict, besides the last outcome.
    #[must_use]
    pub fn because(&self, now: Instant) -> Option<String> {
        let agrees = |member: &&Member| !member.asleep && member.detector.opinion(now) == self.verdict;
        let mut members = self.members.iter().filter(agrees);
        members.find_map(|member| member.detector.because(now))
    }

    fn awake(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.iter_mut().filter(|member| !member.asleep)
    }

    fn decide(&mut self, proof: bool, now: Instant) -> bool {
        let next = self.next(proof, now);
        let changed = std::mem::replace(&mut self.verdict, next) != next;
        if changed && next == Verdict::Down {
            for member in self.awake() {
                if member.detector.opinion(now) != Verdict::Down {
                    member.detector.forget();
                    member.asleep = true;
                }
            }
        } else if changed {
            self.members.iter_mut().for_each(|member| member.asleep = false);
        }
        changed
    }

    fn next(&self, proof: bool, now: Instant) -> Verdict {
        let awake = self.members.iter().filter(|member| !member.asleep);
        let (mut up, mut down, mut all) = (0, 0, 0);
        for member in awake {
            all += 1;
            match member.detector.opinion(now) {
                Verdict::Up => up += 1,
                Verdict::Down => down += 1,
                Verdict::Unknown => {}
            }
        }
        match (self.verdict, self.how) {
            (Verdict::Unknown | Verdict::Up, Combine::Any | Combine::All) if proof && down > 0 => {
                Verdict::Down
            }
            (Verdict::Unknown | Verdict::Up, Combine::Any) if down > 0 => Verdict::Down,
            (Verdict::Unknown | Verdict::Up, Combine::All) if down > 0 && down == all => Verdict::Down,
            (Verdict::Down, Combine::Any) if down == 0 && up > 0 => Verdict::Up,
            (Verdict::Down, Combine::All) if up > 0 => Verdict::Up,
            (Verdict::Unknown, Combine::Any | Combine::All) if up > 0 => Verdict::Up,
            (standing @ (Verdict::Unknown | Verdict::Up | Verdict::Down), Combine::Any | Combine::All) => {
                standing
            }
        }
    }
}

#[cfg(test)]
mod tests;
