//! The transition table of one prefix: no clock, no data, every pair answered.
//!
//! ```text
//!            Want           Bound        Want
//! Withdrawn ──────► Binding ─────► Bound ─────► Announced
//!     ▲  ▲             │ BindFailed  │ Unwant       │ Unwant
//!     │  └─ BindFailed ◄             ▼              ▼
//!     └──────────── Unbinding ◄── Lingering ◄── Withdrawing
//!         Unbound             Due           Sent
//! ```
//!
//! The address is bound before the announcement and taken off after the withdrawal, never the other way round: the
//! only way to `Announced` leads through `Bound`, and the only one to `Unbinding` through `Withdrawing` and
//! `Lingering`.
//! A prefix without `bind` knows `Withdrawn` and `Announced` alone.

use serde::Serialize;

/// What stands: the route and the service address of one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not announced, and no address of ours is there.
    Withdrawn,
    /// The address is being bound; not announced yet.
    Binding,
    /// It could not be bound, and is not there; tried again later.
    BindFailed,
    /// The address is bound, the route is not announced.
    Bound,
    /// Announced.
    Announced,
    /// Withdrawn, but a session may not have sent it yet; the address stays.
    Withdrawing,
    /// Every session has sent the withdrawal; the address stays for what is still on its way.
    Lingering,
    /// The address is being taken off.
    Unbinding,
    /// It could not be taken off, and is there; tried again later.
    UnbindFailed,
}

impl State {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::Withdrawn,
        Self::Binding,
        Self::BindFailed,
        Self::Bound,
        Self::Announced,
        Self::Withdrawing,
        Self::Lingering,
        Self::Unbinding,
        Self::UnbindFailed,
    ];

    /// Whether the address of a prefix with `bind` is known to be on the host.
    #[must_use]
    pub fn is_bound(self) -> bool {
        match self {
            Self::Bound | Self::Announced | Self::Withdrawing | Self::Lingering | Self::UnbindFailed => true,
            Self::Withdrawn | Self::Binding | Self::BindFailed | Self::Unbinding => false,
        }
    }

    /// Whether nothing of this prefix is left on the host, nor on its way there.
    #[must_use]
    pub fn is_clear(self) -> bool {
        match self {
            Self::Withdrawn | Self::BindFailed => true,
            Self::Binding
            | Self::Bound
            | Self::Announced
            | Self::Withdrawing
            | Self::Lingering
            | Self::Unbinding
            | Self::UnbindFailed => false,
        }
    }

    /// The word that logs and JSON use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Binding => "binding",
            Self::BindFailed => "bind-failed",
            Self::Bound => "bound",
            Self::Announced => "announced",
            Self::Withdrawing => "withdrawing",
            Self::Lingering => "lingering",
            Self::Unbinding => "unbinding",
            Self::UnbindFailed => "unbind-failed",
        }
    }
}

/// What can happen to one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// It shall be announced, and may at once.
    Want,
    /// It shall not be announced.
    Unwant,
    /// The kernel has bound the address, or had it already.
    Bound,
    /// The kernel would not, and has it not.
    BindFailed,
    /// Every session has sent the withdrawal, or is gone.
    Sent,
    /// The kernel has taken the address off, or had it not.
    Unbound,
    /// The kernel would not, and has it still.
    UnbindFailed,
    /// At start the host has the address from before.
    Found,
    /// Somebody else took the address off.
    Gone,
    /// The timer fired.
    Due,
}

impl Trigger {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Want,
        Self::Unwant,
        Self::Bound,
        Self::BindFailed,
        Self::Sent,
        Self::Unbound,
        Self::UnbindFailed,
        Self::Found,
        Self::Gone,
        Self::Due,
    ];
}

/// What a transition asks for, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Put the address on the host.
    Bind,
    /// Take it off.
    Unbind,
    /// Announce the route.
    Announce,
    /// Withdraw it.
    Withdraw,
    /// Start the timer with the time that the address outlives the withdrawal.
    ArmLinger,
    /// Start the timer with the time until the next try.
    ArmRetry,
    /// Stop the timer.
    ClearTimer,
}

/// One transition; `binds`: the prefix has a service address.
#[must_use]
pub fn step(state: State, trigger: Trigger, binds: bool) -> (State, &'static [Effect]) {
    use Effect::{Announce, ArmLinger, ArmRetry, Bind, ClearTimer, Unbind, Withdraw};
    use State::{
        Announced, BindFailed, Binding, Bound, Lingering, UnbindFailed, Unbinding, Withdrawing, Withdrawn,
    };
    use Trigger as T;

    match (state, trigger) {
        (Withdrawn, T::Want) if binds => (Binding, &[Bind]),
        (Withdrawn, T::Want) => (Announced, &[Announce]),
        (Withdrawn, T::Found) if binds => (Bound, &[]), // adopted: a crash left it, and it is ours to take off
        (Withdrawn, T::Found) => (Withdrawn, &[]),
        (Withdrawn, T::Unwant | T::Gone | T::Sent | T::Due) => (Withdrawn, &[]),
        (Withdrawn, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (Withdrawn, &[]),

        // Whatever is wanted by then, the kernel's answer comes first.
        (Binding, T::Want | T::Unwant | T::Found | T::Gone) => (Binding, &[]),
        (Binding, T::Bound) => (Bound, &[]),
        (Binding, T::BindFailed) => (BindFailed, &[ArmRetry]),
        (Binding, T::Unbound | T::UnbindFailed | T::Sent | T::Due) => (Binding, &[]),

        (BindFailed, T::Want) => (BindFailed, &[]), // the timer says when
        (BindFailed, T::Unwant | T::Due) => (Withdrawn, &[ClearTimer]),
        (BindFailed, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (BindFailed, &[]),
        (BindFailed, T::Found | T::Gone | T::Sent) => (BindFailed, &[]),

        (Bound, T::Want) => (Announced, &[Announce]),
        (Bound, T::Unwant) => (Withdrawing, &[]), // a session may still have it from before the address was taken off
        (Bound, T::Gone) => (Withdrawn, &[]),
        (Bound, T::Found | T::Sent | T::Due) => (Bound, &[]),
        (Bound, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (Bound, &[]),

        (Announced, T::Want | T::Found) => (Announced, &[]),
        (Announced, T::Unwant) if binds => (Withdrawing, &[Withdraw]),
        (Announced, T::Unwant) => (Withdrawn, &[Withdraw]),
        (Announced, T::Gone) if binds => (Withdrawn, &[Withdraw]), // nobody would answer the traffic
        (Announced, T::Gone) => (Announced, &[]),
        (Announced, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (Announced, &[]),
        (Announced, T::Sent | T::Due) => (Announced, &[]),

        (Withdrawing, T::Want) => (Announced, &[Announce]),
        (Withdrawing, T::Sent) => (Lingering, &[ArmLinger]),
        (Withdrawing, T::Gone) => (Withdrawn, &[]),
        (Withdrawing, T::Unwant | T::Found | T::Due) => (Withdrawing, &[]),
        (Withdrawing, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (Withdrawing, &[]),

        (Lingering, T::Want) => (Announced, &[ClearTimer, Announce]),
        (Lingering, T::Due) => (Unbinding, &[ClearTimer, Unbind]),
        (Lingering, T::Gone) => (Withdrawn, &[ClearTimer]),
        (Lingering, T::Unwant | T::Found | T::Sent) => (Lingering, &[]),
        (Lingering, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (Lingering, &[]),

        // As in Binding.
        (Unbinding, T::Want | T::Unwant | T::Found | T::Gone) => (Unbinding, &[]),
        (Unbinding, T::Unbound) => (Withdrawn, &[]),
        (Unbinding, T::UnbindFailed) => (UnbindFailed, &[ArmRetry]),
        (Unbinding, T::Bound | T::BindFailed | T::Sent | T::Due) => (Unbinding, &[]),

        (UnbindFailed, T::Want) => (Announced, &[ClearTimer, Announce]),
        (UnbindFailed, T::Due) => (Unbinding, &[ClearTimer, Unbind]),
        (UnbindFailed, T::Gone) => (Withdrawn, &[ClearTimer]),
        (UnbindFailed, T::Unwant | T::Found | T::Sent) => (UnbindFailed, &[]),
        (UnbindFailed, T::Bound | T::BindFailed | T::Unbound | T::UnbindFailed) => (UnbindFailed, &[]),
    }
}
