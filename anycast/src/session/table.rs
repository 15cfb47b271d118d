//! The transition table of one connection (RFC 4271 §8.2.2): no clock, no data, every pair answered.

use serde::Serialize;

/// RFC 4271 §8.2.2, in the order of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No connection; none is sought until the restart timer fires.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting: for the peer to connect, or for the next dial.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Their OPEN is in and good; our KEEPALIVE is out.
    OpenConfirm,
    /// Their KEEPALIVE is in: routes may flow.
    Established,
}

impl State {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::Idle,
        Self::Connect,
        Self::Active,
        Self::OpenSent,
        Self::OpenConfirm,
        Self::Established,
    ];

    /// Whether a TCP connection is up.
    #[must_use]
    pub fn is_connected(self) -> bool {
        self >= Self::OpenSent
    }

    /// As RFC 4271 writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// What can happen to one connection. Whether an OPEN is good or a message well-formed is decided before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Dial (events 1, 3 and 13).
    Start,
    /// Wait for the peer to dial (events 4 and 5).
    StartPassive,
    /// The operator's wish, or the end of the process (event 2).
    Stop,
    /// A planned restart that the peer bridges if nothing is said (RFC 4724 §4.2).
    Leave,
    /// BFD went down (RFC 5882 §4.2), or must be up first.
    PathDown,
    /// The other connection of this peer is kept (event 23), or is established already.
    Collision,
    /// Event 9.
    RetryExpired,
    /// Event 10; in OpenSent: the peer never sent its OPEN.
    HoldExpired,
    /// Event 11.
    KeepaliveExpired,
    /// Event 29 (RFC 9687 §3.2).
    SendHoldExpired,
    /// Octets wait that the peer does not take.
    Blocked,
    /// Octets went out, or none wait.
    Progress,
    /// TCP is up, dialled or accepted (events 16 and 17).
    Connected,
    /// TCP failed or ended (event 18).
    Lost,
    /// A good OPEN (event 19).
    Open,
    /// Event 26.
    Keepalive,
    /// A readable UPDATE (event 27).
    Update,
    /// A ROUTE-REFRESH (RFC 2918).
    Refresh,
    /// Events 24 and 25.
    Notification,
    /// A message that must be answered by a NOTIFICATION (events 21, 22 and 28).
    Malformed,
}

impl Trigger {
    /// All, in order.
    pub const ALL: [Self; 20] = [
        Self::Start,
        Self::StartPassive,
        Self::Stop,
        Self::Leave,
        Self::PathDown,
        Self::Collision,
        Self::RetryExpired,
        Self::HoldExpired,
        Self::KeepaliveExpired,
        Self::SendHoldExpired,
        Self::Blocked,
        Self::Progress,
        Self::Connected,
        Self::Lost,
        Self::Open,
        Self::Keepalive,
        Self::Update,
        Self::Refresh,
        Self::Notification,
        Self::Malformed,
    ];
}

/// What a transition asks for, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Open a TCP connection.
    Dial,
    /// Close it, or give up dialling.
    Close,
    /// Send our OPEN.
    SendOpen,
    /// Send a KEEPALIVE.
    SendKeepalive,
    /// Send the NOTIFICATION that the trigger calls for.
    SendNotification,
    /// Start ConnectRetryTimer.
    ArmRetry,
    /// Start HoldTimer with the time that a peer has for its OPEN.
    ArmOpenHold,
    /// Start HoldTimer with the negotiated time.
    ArmHold,
    /// Start KeepaliveTimer.
    ArmKeepalive,
    /// Start SendHoldTimer, unless it runs.
    ArmSendHold,
    /// Stop SendHoldTimer.
    StopSendHold,
    /// Stop all timers.
    ClearTimers,
    /// Routes may flow.
    Up,
    /// Hand the message on.
    Deliver,
    /// The peer is at fault: wait longer before the next try (DampPeerOscillations).
    Penalty,
}

/// One transition.
#[must_use]
pub fn step(state: State, trigger: Trigger) -> (State, &'static [Effect]) {
    use Effect::{
        ArmHold, ArmKeepalive, ArmOpenHold, ArmRetry, ArmSendHold, ClearTimers, Close, Deliver, Dial,
        Penalty, SendKeepalive, SendNotification, SendOpen, StopSendHold, Up,
    };
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    use Trigger as T;

    const GIVE_UP: &[Effect] = &[ClearTimers, Close];
    const REFUSE: &[Effect] = &[SendNotification, ClearTimers, Close];
    const BLAME: &[Effect] = &[SendNotification, ClearTimers, Close, Penalty];

    match (state, trigger) {
        (Idle, T::Start) => (Connect, &[ClearTimers, Dial, ArmRetry]),
        (Idle, T::StartPassive) => (Active, &[ClearTimers]),
        (Idle, T::Connected) => (OpenSent, &[ClearTimers, SendOpen, ArmOpenHold]), // accepted; else it has no number
        (Idle, T::Stop | T::Leave | T::PathDown | T::Collision) => (Idle, &[ClearTimers]),
        (Idle, T::RetryExpired | T::HoldExpired | T::KeepaliveExpired | T::Lost) => (Idle, &[]),
        (Idle, T::SendHoldExpired | T::Blocked | T::Progress) => (Idle, &[]),
        (Idle, T::Open | T::Keepalive | T::Update | T::Refresh | T::Notification | T::Malformed) => {
            (Idle, &[])
        }

        (Connect, T::Start | T::StartPassive) => (Connect, &[]),
        (Connect, T::Stop | T::Leave | T::PathDown | T::Collision) => (Idle, GIVE_UP),
        (Connect, T::Blocked | T::Progress) => (Connect, &[]), // nothing can wait yet
        (Connect, T::RetryExpired) => (Connect, &[Close, Dial, ArmRetry]),
        (Connect, T::Connected) => (OpenSent, &[ClearTimers, SendOpen, ArmOpenHold]),
        // The RFC says Idle here unless DelayOpenTimer runs; Active waits the same time and still takes the peer's dial.
        (Connect, T::Lost) => (Active, &[ClearTimers, Close, ArmRetry]),
        // No connection yet, so none of these can be: event "any other" leads to Idle.
        (Connect, T::HoldExpired | T::KeepaliveExpired | T::SendHoldExpired) => (Idle, GIVE_UP),
        (Connect, T::Open | T::Keepalive | T::Update | T::Refresh | T::Notification | T::Malformed) => {
            (Idle, GIVE_UP)
        }

        (Active, T::Start | T::StartPassive) => (Active, &[]),
        (Active, T::Stop | T::Leave | T::PathDown | T::Collision) => (Idle, &[ClearTimers]),
        (Active, T::Blocked | T::Progress) => (Active, &[]),
        (Active, T::RetryExpired) => (Connect, &[Dial, ArmRetry]),
        (Active, T::Connected) => (OpenSent, &[ClearTimers, SendOpen, ArmOpenHold]),
        (Active, T::Lost) => (Active, &[]), // late news of a dial that was given up
        (Active, T::HoldExpired | T::KeepaliveExpired | T::SendHoldExpired) => (Idle, &[ClearTimers]),
        (Active, T::Open | T::Keepalive | T::Update | T::Refresh | T::Notification | T::Malformed) => {
            (Idle, &[ClearTimers])
        }

        (OpenSent, T::Start | T::StartPassive) => (OpenSent, &[]),
        (OpenSent, T::Stop | T::PathDown | T::Collision) => (Idle, REFUSE),
        (OpenSent, T::Leave) => (Idle, GIVE_UP),
        (OpenSent, T::Blocked | T::Progress) => (OpenSent, &[]), // HoldTimer ends a peer that takes nothing
        (OpenSent, T::HoldExpired) => (Idle, BLAME),
        (OpenSent, T::Lost) => (Active, &[ClearTimers, Close, ArmRetry]),
        (OpenSent, T::Open) => (OpenConfirm, &[ClearTimers, SendKeepalive, ArmKeepalive, ArmHold]),
        // RFC 4271 §6.4: a NOTIFICATION is never answered, though "any other event" would have it here.
        (OpenSent, T::Notification) => (Idle, &[ClearTimers, Close, Penalty]),
        // RFC 6608 §3: 5/1.
        (OpenSent, T::Keepalive | T::Update | T::Refresh | T::Malformed) => (Idle, BLAME),
        (OpenSent, T::Connected | T::RetryExpired | T::KeepaliveExpired | T::SendHoldExpired) => {
            (Idle, BLAME)
        }

        (OpenConfirm, T::Start | T::StartPassive) => (OpenConfirm, &[]),
        (OpenConfirm, T::Stop | T::PathDown | T::Collision) => (Idle, REFUSE),
        (OpenConfirm, T::Leave) => (Idle, GIVE_UP),
        (OpenConfirm, T::Blocked | T::Progress) => (OpenConfirm, &[]),
        (OpenConfirm, T::HoldExpired) => (Idle, BLAME),
        (OpenConfirm, T::KeepaliveExpired) => (OpenConfirm, &[SendKeepalive, ArmKeepalive]),
        (OpenConfirm, T::Keepalive) => (Established, &[ArmHold, Up]),
        (OpenConfirm, T::Lost) => (Idle, GIVE_UP),
        (OpenConfirm, T::Notification) => (Idle, &[ClearTimers, Close, Penalty]),
        // RFC 6608 §3: 5/2.
        (OpenConfirm, T::Open | T::Update | T::Refresh | T::Malformed) => (Idle, BLAME),
        (OpenConfirm, T::Connected | T::RetryExpired | T::SendHoldExpired) => (Idle, BLAME),

        (Established, T::Start | T::StartPassive) => (Established, &[]),
        (Established, T::Stop | T::PathDown | T::Collision) => (Idle, REFUSE),
        (Established, T::Leave) => (Idle, GIVE_UP),
        (Established, T::HoldExpired | T::SendHoldExpired) => (Idle, BLAME),
        (Established, T::Blocked) => (Established, &[ArmSendHold]),
        (Established, T::Progress) => (Established, &[StopSendHold]),
        (Established, T::KeepaliveExpired) => (Established, &[SendKeepalive, ArmKeepalive]),
        (Established, T::Keepalive) => (Established, &[ArmHold]),
        (Established, T::Update | T::Refresh) => (Established, &[ArmHold, Deliver]),
        (Established, T::Lost) => (Idle, GIVE_UP),
        (Established, T::Notification) => (Idle, &[ClearTimers, Close, Penalty]),
        // RFC 6608 §3: 5/3.
        (Established, T::Open | T::Malformed) => (Idle, BLAME),
        (Established, T::Connected | T::RetryExpired) => (Idle, BLAME),
    }
}
