//! Faults that are put into a copy of the code, to see that the simulation finds them. Each is one that somebody could
//! make. What found each of them is in `docs/simulation.md`.

/// One fault.
#[derive(Debug)]
pub(super) struct Mutation {
    /// For `--mutation`.
    pub(super) name: &'static str,
    /// Where.
    pub(super) file: &'static str,
    /// What stands there, once in the file.
    pub(super) from: &'static str,
    /// What is put in its place.
    pub(super) to: &'static str,
}

pub(super) const MUTATIONS: [Mutation; 15] = [
    Mutation {
        name: "guard-not-asked",
        file: "health/src/judge.rs",
        from: "self.guard.ask(pool, Standing { down, ..standing }, now)",
        to: "{ let _ = (pool, down, standing, now); Ok(()) }",
    },
    Mutation {
        name: "what-went-out-together-stays-out",
        file: "health/src/judge/together.rs",
        from: "if !self.settled || self.together.went_out.is_empty() {",
        to: "if self.settled {",
    },
    Mutation {
        name: "guard-forgets-at-reload",
        file: "health/src/judge.rs",
        from: "        next.guard\n            .inherit(&self.guard, &self.fleet.pools, &next.fleet.pools);\n",
        to: "",
    },
    Mutation {
        name: "guard-counts-no-drains",
        file: "health/src/judge/drain.rs",
        from: "            self.guard.count(loss.pool, now);\n",
        to: "            let _ = (loss, now);\n",
    },
    Mutation {
        name: "unknown-is-down-at-settle",
        file: "health/src/judge.rs",
        from: "if self.verdict(endpoint) == Verdict::Down && !drained {",
        to: "if self.verdict(endpoint) != Verdict::Up && !drained {",
    },
    Mutation {
        name: "one-site-is-a-quorum",
        file: "health/src/gossip/quorum.rs",
        from: "down >= 2 && down_regions",
        to: "down >= 1 && down_regions",
    },
    Mutation {
        name: "one-continent-is-a-quorum",
        file: "health/src/gossip/quorum.rs",
        from: "down_regions >= regions.len().min(2) && outweighs",
        to: "down_regions >= 1",
    },
    Mutation {
        name: "suspects-are-believed",
        file: "health/src/gossip/quorum.rs",
        from: "all >= 2 && down * 2 > all",
        to: "all >= 2 && down > all",
    },
    Mutation {
        name: "one-failure-less-is-enough",
        file: "health/src/detect/threshold.rs",
        from: "if failures.saturating_add(1) >= rules.fall =>",
        to: "if failures.saturating_add(2) >= rules.fall =>",
    },
    Mutation {
        name: "a-restart-with-a-clock-gone-back-is-not-noticed",
        file: "health/src/gossip/store.rs",
        from: "origin == self.me && version > self.own_version()",
        to: "origin == self.me && version > self.own_version() && version.epoch == 0",
    },
    Mutation {
        name: "a-later-start-is-not-told",
        file: "health/src/gossip/swim.rs",
        from: "member.id().site == of && member.state() != State::Alive)?",
        to: "member.id().site == of && member.state() == State::Suspect)?",
    },
    Mutation {
        name: "drains-are-lost-at-reload",
        file: "health/src/judge.rs",
        from: "        next.inherit_drains(&self, now, at);\n",
        to: "",
    },
    Mutation {
        name: "tables-miss-a-change",
        file: "dns/src/tables.rs",
        from: "        let changed = snapshot.changed_since(&self.snapshot);\n",
        to: "        let mut changed = snapshot.changed_since(&self.snapshot);\n        changed.truncate(3);\n",
    },
    Mutation {
        name: "ladders-do-not-end",
        file: "anycast/src/announcer/ladder.rs",
        from: "                    at.withdrawn = true;\n                    return at;\n",
        to: "                    return at;\n",
    },
    Mutation {
        name: "what-is-surplus-stays",
        file: "anycast/src/reconcile.rs",
        from: "(Some(_), None) => difference.surplus.push(prefix),",
        to: "(Some(_), None) => {}",
    },
];
