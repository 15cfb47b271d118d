//! How many retries and hedges a client or an edge may add to the load: the token bucket of gRFC A6 ("Throttling Retry
//! Attempts and Hedged RPCs"). One bucket per backend pool, shared by all its calls.

/// In thousandths of a token, as A6 allows three decimals of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    max: u32,
    ratio: u32,
    tokens: u32,
}

const TOKEN: u32 = 1000;

/// A budget that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidBudget {
    /// A6: `maxTokens` "must be in the range (0, 1000]".
    #[error("{0} tokens; there must be 1 to 1000")]
    Tokens(u32),
    /// A6: `tokenRatio` "must be greater than zero".
    #[error("a ratio of {0}; it must be 0.001 to 1000")]
    Ratio(f64),
}

impl Budget {
    /// Ten failures in a row end retries after five, and each success pays for a tenth of one.
    pub const DEFAULT: Self = Self {
        max: 10 * TOKEN,
        ratio: TOKEN / 10,
        tokens: 10 * TOKEN,
    };

    /// A full bucket of `max_tokens` (1 to 1000), into which a success puts `ratio`.
    ///
    /// # Errors
    ///
    /// See [`InvalidBudget`].
    pub fn new(max_tokens: u32, ratio: f64) -> Result<Self, InvalidBudget> {
        if !(1..=1000).contains(&max_tokens) {
            return Err(InvalidBudget::Tokens(max_tokens));
        }
        if !(0.001..=1000.0).contains(&ratio) {
            return Err(InvalidBudget::Ratio(ratio));
        }
        Ok(Self {
            max: max_tokens * TOKEN,
            ratio: (ratio * f64::from(TOKEN)) as u32,
            tokens: max_tokens * TOKEN,
        })
    }

    /// An attempt succeeded.
    pub fn on_success(&mut self) {
        self.tokens = self.tokens.saturating_add(self.ratio).min(self.max);
    }

    /// An attempt failed in a way that asks for a retry, or the server asked for none.
    pub fn on_failure(&mut self) {
        self.tokens = self.tokens.saturating_sub(TOKEN);
    }

    /// A6: "if token_count is less than or equal to the threshold, defined to be (maxTokens / 2)", nothing is retried.
    #[must_use]
    pub const fn allows(&self) -> bool {
        self.tokens > self.max / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_end_retries_at_half_and_successes_bring_them_back() {
        let mut budget = Budget::DEFAULT;
        for _ in 0..4 {
            budget.on_failure();
            assert!(budget.allows());
        }
        budget.on_failure();
        assert!(!budget.allows(), "half is too little");
        budget.on_success();
        assert!(budget.allows());
    }

    #[test]
    fn a_full_bucket_overflows_and_an_empty_one_owes_nothing() {
        let mut budget = Budget::new(2, 0.5).unwrap();
        for _ in 0..100 {
            budget.on_success();
        }
        budget.on_failure();
        assert!(!budget.allows());
        for _ in 0..100 {
            budget.on_failure();
        }
        for _ in 0..3 {
            assert!(!budget.allows());
            budget.on_success();
        }
        assert!(budget.allows());
    }

    #[test]
    fn retries_are_bounded_by_the_ratio_while_everything_fails_at_times() {
        // Of calls that fail each third time, no more retries come than the successes pay for, and half the bucket.
        let mut budget = Budget::new(100, 0.1).unwrap();
        let mut retries = 0;
        for call in 0..30_000 {
            if call % 3 == 0 {
                budget.on_failure();
                retries += u32::from(budget.allows());
            } else {
                budget.on_success();
            }
        }
        assert!(retries <= 20_000 / 10 + 50, "{retries}");
    }

    #[test]
    fn a_budget_that_cannot_be_is_refused_with_its_value() {
        for tokens in [0, 1001] {
            assert_eq!(Budget::new(tokens, 0.1), Err(InvalidBudget::Tokens(tokens)));
        }
        for ratio in [0.0, -1.0, 0.0001, 2000.0] {
            assert_eq!(Budget::new(10, ratio), Err(InvalidBudget::Ratio(ratio)));
        }
        assert!(Budget::new(10, f64::NAN).is_err());
    }
}
