//! Whose turn it is among the members of a cluster, and when. Sans-IO.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// The first wait after a failure, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One member after the other; a wait when none was of use, longer each time.
#[derive(Debug)]
pub(super) struct Turns {
    /// The member to be tried next, counted on without end.
    turn: usize,
    /// Members that were of no use since one was.
    tries: usize,
    /// Rounds of them.
    rounds: u32,
    random: StdRng,
}

impl Turns {
    pub(super) const fn new(random: StdRng) -> Self {
        Self {
            turn: 0,
            tries: 0,
            rounds: 0,
            random,
        }
    }

    /// Whose turn it is.
    pub(super) fn member<'a>(&self, members: &'a [String]) -> &'a str {
        let member = members.get(self.turn % members.len().max(1));
        member.map_or("", String::as_str)
    }

    /// A member was of no use, or is not any more: how long to wait before the next one is tried. None until each had its turn.
    pub(super) fn on_failure(&mut self, members: &[String]) -> Duration {
        self.turn = self.turn.wrapping_add(1);
        self.tries = self.tries.saturating_add(1);
        if !self.tries.is_multiple_of(members.len().max(1)) {
            return Duration::ZERO;
        }
        let (first, longest) = BACK_OFF;
        let doubled = first.saturating_mul(1 << self.rounds.min(16));
        self.rounds = self.rounds.saturating_add(1);
        // Between half and all of it, so that sites which lost the cluster together do not come back together.
        let wait = doubled.min(longest);
        wait.mul_f64(self.random.random_range(0.5..=1.0))
    }

    /// A member is of use.
    pub(super) const fn on_success(&mut self) {
        self.tries = 0;
        self.rounds = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn turns() -> Turns {
        Turns::new(StdRng::seed_from_u64(1))
    }

    fn members(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_waits_grow_to_a_bound_and_begin_anew_after_a_success() {
        let (mut turns, members) = (turns(), members(&["a"]));
        let waits: Vec<_> = (0..40).map(|_| turns.on_failure(&members)).collect();
        for (nth, wait) in waits.iter().enumerate() {
            let most = (BACK_OFF.0 * 2_u32.pow(nth.min(10) as u32)).min(BACK_OFF.1);
            assert!(*wait >= most / 2 && *wait <= most, "{nth}: {wait:?}");
        }
        assert_ne!(waits[20], waits[21], "sites must not come back in step");
        turns.on_success();
        assert!(turns.on_failure(&members) <= BACK_OFF.0);
    }

    #[test]
    fn each_member_has_its_turn_before_there_is_a_wait() {
        let (mut turns, members) = (turns(), members(&["a", "b", "c"]));
        let mut seen = Vec::new();
        for _ in 0..6 {
            let member = turns.member(&members);
            seen.push((member, turns.on_failure(&members).is_zero()));
        }
        let want = [("a", true), ("b", true), ("c", false)];
        assert_eq!(seen, [want, want].concat());
    }
}
