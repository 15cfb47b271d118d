//! Was every acknowledged charge done once, and every other one at most once? Sans-IO.

use std::collections::BTreeMap;
use std::fmt;

use crate::journal::Entry;
use crate::ledger::{Ledger, Line};

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged.
    pub charged: usize,
    /// Acknowledged, and not in the ledger under the number of the reply.
    pub lost: usize,
    /// Keys with more than one line.
    pub double: usize,
    /// Tried, and not acknowledged.
    pub open: usize,
    /// Of these, in the ledger.
    pub open_done: usize,
    /// Due, and not tried.
    pub shed: usize,
    /// Lines of a key that nobody has begun, or of another account or amount.
    pub strange: usize,
    /// Accounts whose balance is not what the ledger says.
    pub unbalanced: usize,
    /// Lines of the ledger.
    pub lines: usize,
}

impl Counts {
    /// Nothing is lost, double, strange or out of balance, and something was charged at all.
    #[must_use]
    pub fn passed(&self) -> bool {
        let wrong = self.lost + self.double + self.strange + self.unbalanced;
        wrong == 0 && self.charged > 0
    }
}

/// The last line is the verdict.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            charged,
            lost,
            double,
            open,
            open_done,
            shed,
            strange,
            unbalanced,
            lines,
        } = self;
        writeln!(
            f,
            "{lines} lines in the ledger, {strange} of them strange; {unbalanced} accounts out of balance; {open} tried \
             and not acknowledged, {open_done} of them done; {shed} not tried"
        )?;
        write!(f, "{charged} charged, {lost} lost, {double} double")
    }
}

/// Compares what all clients know with what the ledger has.
#[must_use]
pub fn count(journal: &[Entry], ledger: &Ledger) -> Counts {
    let mut by_key: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for line in &ledger.lines {
        by_key.entry(&line.key).or_default().push(line);
        let sum = sums.entry(&line.account).or_default();
        *sum = sum.saturating_add(line.amount);
    }
    let (mut begun, mut acked) = (BTreeMap::new(), BTreeMap::new());
    let mut counts = Counts {
        lines: ledger.lines.len(),
        ..Counts::default()
    };
    for entry in journal {
        match entry {
            Entry::Begun {
                key, account, amount, ..
            } => _ = begun.insert(key.as_str(), (account.as_str(), *amount)),
            Entry::Acked { key, receipt, .. } => _ = acked.insert(key.as_str(), *receipt),
            Entry::Shed { .. } => counts.shed += 1,
            Entry::GaveUp { .. } | Entry::Opened { .. } | Entry::Echo { .. } | Entry::Ended { .. } => {}
        }
    }
    counts.charged = acked.len();
    let is_lost = |key: &str, receipt: i64| {
        let lines = by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        !lines.iter().any(|line| line.receipt == receipt)
    };
    counts.lost = acked
        .iter()
        .filter(|(key, receipt)| is_lost(key, **receipt))
        .count();
    counts.double = by_key.values().filter(|lines| lines.len() > 1).count();
    let open = || begun.keys().filter(|key| !acked.contains_key(*key));
    counts.open = open().count();
    counts.open_done = open().filter(|key| by_key.contains_key(*key)).count();
    let is_strange = |line: &&Line| {
        let wanted = begun.get(line.key.as_str());
        let same =
            |(account, amount): &(&str, u64)| line.account == *account && line.amount == cents(*amount);
        !wanted.is_some_and(same)
    };
    counts.strange = ledger.lines.iter().filter(is_strange).count();
    let accounts = sums
        .keys()
        .copied()
        .chain(ledger.spent.keys().map(String::as_str));
    let accounts: std::collections::BTreeSet<&str> = accounts.collect();
    let sum = |account: &str| sums.get(account).copied().unwrap_or(0);
    let spent = |account: &str| ledger.spent.get(account).copied().unwrap_or(0);
    counts.unbalanced = accounts
        .iter()
        .filter(|account| sum(account) != spent(account))
        .count();
    counts
}

fn cents(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(key: &str) -> Entry {
        Entry::Begun {
            key: key.to_owned(),
            at_us: 0,
            account: "a".to_owned(),
            amount: 7,
        }
    }

    fn acked(key: &str, receipt: i64) -> Entry {
        Entry::Acked {
            key: key.to_owned(),
            at_us: 0,
            receipt,
            tries: 1,
            replayed: false,
        }
    }

    /// Lines by key and number, each of 7 cents; the balance is right.
    fn ledger(lines: &[(&str, i64)]) -> Ledger {
        let line = |(key, receipt): &(&str, i64)| Line {
            receipt: *receipt,
            key: (*key).to_owned(),
            account: "a".to_owned(),
            amount: 7,
        };
        Ledger {
            lines: lines.iter().map(line).collect(),
            spent: [("a".to_owned(), 7 * lines.len() as i64)].into(),
        }
    }

    #[test]
    fn charges_that_are_all_there_once_pass_and_those_in_doubt_may_be_there_or_not() {
        let journal = [begun("k1"), acked("k1", 1), begun("k2"), begun("k3")];
        let counts = count(&journal, &ledger(&[("k1", 1), ("k2", 2)]));
        assert!(counts.passed());
        assert_eq!((counts.charged, counts.open, counts.open_done), (1, 2, 1));
        assert!(
            counts.to_string().ends_with("\n1 charged, 0 lost, 0 double"),
            "{counts}"
        );
    }

    #[test]
    fn whatever_is_wrong_is_counted_and_does_not_pass() {
        let journal = [begun("k1"), acked("k1", 1), begun("k2"), acked("k2", 2)];
        let all = ledger(&[("k1", 1), ("k2", 2)]);
        let unbalanced = Ledger {
            spent: [("a".to_owned(), 13)].into(),
            ..all.clone()
        };
        let mut other_amount = all.clone();
        other_amount.lines[0].amount = 6;
        other_amount.spent = [("a".to_owned(), 13)].into();
        for (ledger, lost, double, strange, off) in [
            (ledger(&[("k1", 1)]), 1, 0, 0, 0),
            (ledger(&[("k1", 3), ("k2", 2)]), 1, 0, 0, 0),
            (ledger(&[("k1", 1), ("k2", 2), ("k2", 3)]), 0, 1, 0, 0),
            (ledger(&[("k1", 1), ("k2", 2), ("k9", 3)]), 0, 0, 1, 0),
            (other_amount, 0, 0, 1, 0),
            (unbalanced, 0, 0, 0, 1),
        ] {
            let counts = count(&journal, &ledger);
            let got = (counts.lost, counts.double, counts.strange, counts.unbalanced);
            assert_eq!(got, (lost, double, strange, off), "{ledger:?}");
            assert!(!counts.passed());
        }
        assert!(count(&journal, &all).passed());
    }

    #[test]
    fn nothing_charged_is_no_success() {
        assert!(!count(&[], &Ledger::default()).passed());
    }
}
