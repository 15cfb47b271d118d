//! What holds for a method: from the configuration, else from its descriptor, else the careful default.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fate::{IdempotencyLevel, Policy, Semantics};

/// The rules of one method at the edge.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodRules {
    /// Where it goes: the number of a pool.
    pub pool: usize,
    /// Retries and hedges.
    pub policy: Policy,
    /// What a call gets that brings no deadline.
    pub timeout: Option<Duration>,
    /// What no call gets more than.
    pub max_timeout: Option<Duration>,
}

/// All rules, by path.
#[derive(Debug, Clone)]
pub struct Policies {
    /// By `/package.Service/Method`.
    methods: BTreeMap<String, Arc<MethodRules>>,
    /// By `/package.Service/`.
    services: BTreeMap<String, Arc<MethodRules>>,
    /// What methods say of themselves.
    levels: BTreeMap<String, IdempotencyLevel>,
    default: Arc<MethodRules>,
}

impl Policies {
    /// With what holds for methods that nothing is said of.
    #[must_use]
    pub fn new(default: MethodRules) -> Self {
        Self {
            methods: BTreeMap::new(),
            services: BTreeMap::new(),
            levels: BTreeMap::new(),
            default: Arc::new(default),
        }
    }

    /// Says what holds for `/package.Service/Method`, or for all of `/package.Service/*`.
    pub fn insert(&mut self, path: &str, rules: MethodRules) {
        let rules = Arc::new(rules);
        match path.strip_suffix('*') {
            Some(service) => self.services.insert(service.to_owned(), rules),
            None => self.methods.insert(path.to_owned(), rules),
        };
    }

    /// Adds what a descriptor set says.
    pub fn learn(&mut self, levels: BTreeMap<String, IdempotencyLevel>) {
        self.levels.extend(levels);
    }

    /// Whether a path is named, by the configuration or by a descriptor set.
    #[must_use]
    pub fn names(&self, path: &str) -> bool {
        self.methods.contains_key(path) || self.levels.contains_key(path)
    }

    /// What holds for a path. The configuration of the method itself is the last word; its own level is before what is said
    /// of its service or of all.
    #[must_use]
    pub fn of(&self, path: &str) -> Arc<MethodRules> {
        if let Some(rules) = self.methods.get(path) {
            return rules.clone();
        }
        let service = path.rfind('/').map_or(path, |at| &path[..=at]);
        let rules = self.services.get(service).unwrap_or(&self.default);
        let Some(level) = self.levels.get(path) else {
            return rules.clone();
        };
        let semantics = Semantics::from(*level);
        let policy = Policy {
            semantics,
            ..rules.policy
        };
        Arc::new(MethodRules {
            policy,
            ..MethodRules::clone(rules)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(semantics: Semantics) -> MethodRules {
        MethodRules {
            pool: 0,
            policy: Policy::new(semantics),
            timeout: None,
            max_timeout: None,
        }
    }

    #[test]
    fn the_word_on_a_method_is_before_its_own_and_that_before_the_word_on_its_service() {
        let mut policies = Policies::new(rules(Semantics::AtMostOnce));
        policies.insert("/a.A/*", rules(Semantics::Keyed));
        policies.insert("/a.A/Said", rules(Semantics::AtMostOnce));
        let level = IdempotencyLevel::NoSideEffects;
        let paths = ["/a.A/Said", "/a.A/Own", "/b.B/Own"];
        policies.learn(paths.into_iter().map(|path| (path.to_owned(), level)).collect());
        let expected = [
            ("/a.A/Said", Semantics::AtMostOnce),
            ("/a.A/Own", Semantics::AtLeastOnce),
            ("/a.A/Other", Semantics::Keyed),
            ("/b.B/Own", Semantics::AtLeastOnce),
            ("/b.B/Other", Semantics::AtMostOnce),
            ("/a.A", Semantics::AtMostOnce),
            ("", Semantics::AtMostOnce),
        ];
        for (path, semantics) in expected {
            assert_eq!(policies.of(path).policy.semantics, semantics, "{path}");
        }
    }
}
