//! Is it me? The local health of Lifeguard (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate
//! Failure Detection", DSN 2018, section IV-A).
//!
//! Who has no processor, or a bad uplink, does not hear answers in time and calls the others dead. So each site counts the
//! signs that it is itself the one who is not well, and judges the slower the more there are: it waits longer for answers,
//! probes less often, and gives suspects more time.

use std::time::Duration;

/// The worst score. Then everything takes nine times as long.
pub const WORST: u8 = 8;

/// Something that says how well we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A probe of ours was answered, directly or through others: one better.
    Answered,
    /// One was not: one worse. It may be the other's fault; who is well has enough probes that are answered.
    Unanswered,
    /// We had to say that we are alive: one worse.
    Refuted,
    /// We were not let run when we wanted to: one worse.
    Late,
}

/// From 0, well, to [`WORST`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Awareness {
    score: u8,
    ignored: bool,
}

impl Awareness {
    /// As if we were always well.
    pub(super) fn ignored() -> Self {
        Self {
            score: 0,
            ignored: true,
        }
    }

    pub(super) fn is_ignored(self) -> bool {
        self.ignored
    }

    pub(super) fn note(&mut self, sign: Sign) {
        let worst = if self.ignored { 0 } else { WORST };
        self.score = match sign {
            Sign::Answered => self.score.saturating_sub(1),
            Sign::Unanswered | Sign::Refuted | Sign::Late => self.score.saturating_add(1).min(worst),
        };
    }

    pub(super) fn score(self) -> u8 {
        self.score
    }

    /// What takes so long for who is well.
    pub(super) fn stretch(self, time: Duration) -> Duration {
        time.saturating_mul(u32::from(self.score) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_signs_add_up_to_a_bound_and_answers_take_them_back() {
        let mut awareness = Awareness::default();
        let second = Duration::from_secs(1);
        assert_eq!(awareness.stretch(second), second);
        for sign in [Sign::Unanswered, Sign::Refuted, Sign::Late] {
            awareness.note(sign);
        }
        assert_eq!((awareness.score(), awareness.stretch(second)), (3, second * 4));
        (0..20).for_each(|_| awareness.note(Sign::Late));
        assert_eq!(
            (awareness.score(), awareness.stretch(second)),
            (WORST, second * 9)
        );
        (0..20).for_each(|_| awareness.note(Sign::Answered));
        assert_eq!(awareness, Awareness::default());
    }
}
