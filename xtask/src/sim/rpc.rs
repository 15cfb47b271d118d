//! Faults for the simulation of calls and idempotency keys. Which were tried is in `docs/rpc.md`.

use super::mutations::Mutation;

pub(super) const MUTATIONS: [Mutation; 8] = [
    Mutation {
        name: "done-once-at-most-is-sent-again-when-ambiguous",
        file: "rpc/src/fate/semantics.rs",
        from: "(Self::AtMostOnce, Fate::Ambiguous) => false,",
        to: "(Self::AtMostOnce, Fate::Ambiguous) => true,",
    },
    Mutation {
        name: "no-fence",
        file: "rpc/src/key/claims.rs",
        from: "is_some_and(|entry| entry.epoch == held.epoch)",
        to: "is_some_and(|entry| entry.epoch >= held.epoch) || held.epoch > Epoch(0)",
    },
    Mutation {
        name: "the-effect-is-outside-of-the-answers-transaction",
        file: "rpc/src/key/book.rs",
        from: "self.open.entry(held.epoch).or_default().push(effect);",
        to: "let _ = held; self.effects.push(effect);",
    },
    Mutation {
        name: "a-goaway-disowns-its-last-stream",
        file: "rpc/src/fate/attempt.rs",
        from: "if stream > last {",
        to: "if stream >= last {",
    },
    Mutation {
        name: "any-reset-is-a-refusal",
        file: "rpc/src/fate/attempt.rs",
        from: "            _ => Self::Lost,\n",
        to: "            _ => Self::Refused,\n",
    },
    Mutation {
        name: "what-was-lost-was-not-sent",
        file: "rpc/src/fate/attempt.rs",
        from: "(Self::Sent, News::Disowned | News::Refused | News::Disclaimed) => Self::Ended(Fate::Unprocessed),",
        to: "(Self::Sent, News::Disowned | News::Refused | News::Disclaimed | News::Lost) => Self::Ended(Fate::Unprocessed),",
    },
    Mutation {
        name: "work-begins-after-its-deadline",
        file: "rpc/src/key/desk.rs",
        from: "Do::Run if self.deadline.is_over(now) => {",
        to: "Do::Run if self.deadline.is_over(now) && self.returns > RETURNS_MAX => {",
    },
    Mutation {
        name: "a-commit-in-doubt-is-told-as-nothing-done",
        file: "rpc/src/key/desk.rs",
        from: "(Self::Asking, Event::Unavailable) if doubt => (Self::Ended, Do::Refuse(Refusal::InDoubt)),",
        to: "(Self::Asking, Event::Unavailable) if doubt => (Self::Ended, Do::Refuse(Refusal::Unavailable)),",
    },
];
