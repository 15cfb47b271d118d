//! Scales and their ticks.

use super::time;

/// Milliseconds on a logarithmic axis: whole decades around what is shown. What is smaller than the first decade, 0
/// too, stands at its left end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
}

/// Nothing in a lab is known more exactly.
const SMALLEST_MS: f64 = 0.1;

impl Log {
    pub(super) fn around(values: &[f64], left: f64, right: f64) -> Self {
        let positive = || values.iter().copied().filter(|value| *value >= SMALLEST_MS);
        let least = positive().fold(f64::INFINITY, f64::min);
        let most = positive().fold(SMALLEST_MS, f64::max);
        let least = if least.is_finite() { least } else { SMALLEST_MS };
        let from = least.log10().floor();
        Self {
            from,
            to: most.log10().ceil().max(from + 1.0),
            left,
            right,
        }
    }

    pub(super) fn x(self, ms: f64) -> f64 {
        let share = (ms.max(SMALLEST_MS).log10() - self.from) / (self.to - self.from);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// One per decade, with its words.
    pub(super) fn ticks(self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        let mut exponent = self.from;
        while exponent <= self.to {
            let ms = 10f64.powf(exponent);
            ticks.push((self.x(ms), words(ms)));
            exponent += 1.0;
        }
        ticks
    }
}

/// Milliseconds on a straight axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linear {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Linear {
    pub(super) fn x(self, ms: f64) -> f64 {
        let share = (ms - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// At 1, 2 or 5 times a power of ten, about five of them.
    pub(super) fn ticks(self) -> Vec<(f64, String)> {
        let rough = (self.to - self.from) / 5.0;
        let power = 10f64.powf(rough.max(1e-3).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let mut ticks = Vec::new();
        let mut at = (self.from / step).ceil() * step;
        while at <= self.to {
            ticks.push((self.x(at), words(at)));
            at += step;
        }
        ticks
    }
}

/// A round number of milliseconds.
fn words(ms: f64) -> String {
    if ms == 0.0 {
        return "0".to_owned();
    }
    let (value, unit) = if ms.abs() >= 1_000.0 {
        (ms / 1e3, "s")
    } else {
        (ms, "ms")
    };
    let rounded = (value * 1e3).round() / 1e3;
    if rounded == 0.0 {
        time(ms)
    } else {
        format!("{rounded} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_whole_decades_and_zero_at_its_left_end() {
        let scale = Log::around(&[0.0, 4.2, 6_320.0], 0.0, 400.0);
        let words: Vec<_> = scale.ticks().into_iter().map(|(_, words)| words).collect();
        assert_eq!(words, ["1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!((scale.x(0.0), scale.x(1.0), scale.x(10_000.0)), (0.0, 0.0, 400.0));
        assert!((scale.x(100.0) - 200.0).abs() < 1e-9);
        assert_eq!(Log::around(&[], 0.0, 1.0).ticks().len(), 2);
    }

    #[test]
    fn a_straight_axis_has_round_ticks() {
        let scale = Linear {
            from: -30.0,
            to: 210.0,
            left: 0.0,
            right: 240.0,
        };
        let words: Vec<_> = scale.ticks().into_iter().map(|(_, words)| words).collect();
        assert_eq!(words, ["0", "50 ms", "100 ms", "150 ms", "200 ms"]);
        assert_eq!(scale.x(0.0), 30.0);
    }
}
