//! The lease on one prefix: an announcement from outside lives from renewals.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use steer_topology::{Lease, OnExpiry, Prefix};

use super::Moment;

/// Longest name of an owner, in octets.
pub const OWNER_MAX: usize = 128;

/// What a request was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// For this long: what was asked for, at most the configured `max`.
    pub ttl: Duration,
    /// The lease ends then unless it is renewed.
    pub until: Timestamp,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such `[[anycast]]` at this site.
    #[error("{0} is no prefix of this site; write it as in an [[anycast]] of the configuration")]
    UnknownPrefix(Prefix),
    /// The prefix follows its conditions alone.
    #[error("{0} takes no lease; write `lease` into its [[anycast]]")]
    NotLeased(Prefix),
    /// Somebody else's.
    #[error("{prefix} is leased to {owner:?} until {until:.0}; let that one delete it, or wait")]
    Taken {
        /// The prefix.
        prefix: Prefix,
        /// Whose it is.
        owner: String,
        /// Until when.
        until: Timestamp,
    },
    /// Nothing to renew or to delete.
    #[error("{prefix} has no lease of {owner:?}; ask for one first")]
    NoLease {
        /// The prefix.
        prefix: Prefix,
        /// Who asked.
        owner: String,
    },
    /// A lease over no time.
    #[error("a lease of 0 s is none; ask for a longer `ttl`, or delete the lease")]
    NoTime,
    /// A name that would not fit the status.
    #[error("the owner has {length} octets; write 1 to {OWNER_MAX}")]
    Owner {
        /// Length of the name.
        length: usize,
    },
}

/// Who holds a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Tenancy {
    /// Nobody: not announced.
    #[default]
    Vacant,
    /// Somebody, for a while.
    Live {
        owner: String,
        until: Instant,
        until_at: Timestamp,
    },
    /// It ran out, and the configuration lets the route stay.
    Expired { owner: String, at: Timestamp },
}

impl Tenancy {
    /// A new lease, or a new term of the same owner's. What has expired anyone may take over.
    pub(super) fn take(
        &mut self,
        prefix: Prefix,
        terms: &Lease,
        (owner, ttl): (&str, Duration),
        moment: Moment,
    ) -> Result<Granted, RequestError> {
        if owner.is_empty() || owner.len() > OWNER_MAX {
            return Err(RequestError::Owner { length: owner.len() });
        }
        if ttl.is_zero() {
            return Err(RequestError::NoTime);
        }
        if let Self::Live {
            owner: holder,
            until,
            until_at,
        } = self
            && holder != owner
            && *until > moment.now
        {
            return Err(RequestError::Taken {
                prefix,
                owner: holder.clone(),
                until: *until_at,
            });
        }
        let ttl = ttl.min(terms.max);
        let until = moment.after(ttl);
        *self = Self::Live {
            owner: owner.to_owned(),
            until: moment.now + ttl,
            until_at: until,
        };
        Ok(Granted { ttl, until })
    }

    /// Another term of a lease that is there, expired or not.
    pub(super) fn renew(
        &mut self,
        prefix: Prefix,
        terms: &Lease,
        (owner, ttl): (&str, Duration),
        moment: Moment,
    ) -> Result<Granted, RequestError> {
        self.must_be_of(prefix, owner)?;
        self.take(prefix, terms, (owner, ttl), moment)
    }

    /// The owner's end.
    pub(super) fn delete(&mut self, prefix: Prefix, owner: &str) -> Result<(), RequestError> {
        self.must_be_of(prefix, owner)?;
        *self = Self::Vacant;
        Ok(())
    }

    fn must_be_of(&self, prefix: Prefix, owner: &str) -> Result<(), RequestError> {
        match self {
            Self::Live { owner: holder, .. } | Self::Expired { owner: holder, .. } if holder == owner => {
                Ok(())
            }
            Self::Live {
                owner: holder,
                until_at,
                ..
            } => Err(RequestError::Taken {
                prefix,
                owner: holder.clone(),
                until: *until_at,
            }),
            Self::Vacant | Self::Expired { .. } => Err(RequestError::NoLease {
                prefix,
                owner: owner.to_owned(),
            }),
        }
    }

    /// Ends what has run out; tells whose lease that was.
    pub(super) fn expire(&mut self, terms: &Lease, moment: Moment) -> Option<String> {
        let Self::Live { owner, until, .. } = self else {
            return None;
        };
        if *until > moment.now {
            return None;
        }
        let owner = std::mem::take(owner);
        *self = match terms.on_expiry {
            OnExpiry::Withdraw => Self::Vacant,
            OnExpiry::Deprefer | OnExpiry::Keep => Self::Expired {
                owner: owner.clone(),
                at: moment.at,
            },
        };
        Some(owner)
    }

    /// When the lease runs out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Live { until, .. } => Some(*until),
            Self::Vacant | Self::Expired { .. } => None,
        }
    }
}
