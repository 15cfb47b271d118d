//! The transition table, row by row, and what must hold for every row.

use super::super::{Effect, State, Trigger, step};

use Effect::{
    ArmHold, ArmKeepalive, ArmOpenHold, ArmRetry, ArmSendHold, ClearTimers, Close, Deliver, Dial, Penalty,
    SendKeepalive, SendNotification, SendOpen, StopSendHold, Up,
};
use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
use Trigger as T;

type Row = (State, Trigger, State, &'static [Effect]);

const REFUSE: &[Effect] = &[SendNotification, ClearTimers, Close];
const BLAME: &[Effect] = &[SendNotification, ClearTimers, Close, Penalty];
const LEAVE: &[Effect] = &[ClearTimers, Close];
const ACCUSED: &[Effect] = &[ClearTimers, Close, Penalty];
const GREET: &[Effect] = &[ClearTimers, SendOpen, ArmOpenHold];

/// Written from RFC 4271 §8.2.2, §6.8, RFC 4724 §4.2, RFC 5882 §4.2, RFC 6608 §3 and RFC 9687 §3.3; not from the code.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    (Idle, T::Start,            Connect,  &[ClearTimers, Dial, ArmRetry]),
    (Idle, T::StartPassive,     Active,   &[ClearTimers]),
    (Idle, T::Stop,             Idle,     &[ClearTimers]),
    (Idle, T::Leave,            Idle,     &[ClearTimers]),
    (Idle, T::PathDown,         Idle,     &[ClearTimers]),
    (Idle, T::Collision,        Idle,     &[ClearTimers]),
    (Idle, T::RetryExpired,     Idle,     &[]),
    (Idle, T::HoldExpired,      Idle,     &[]),
    (Idle, T::KeepaliveExpired, Idle,     &[]),
    (Idle, T::SendHoldExpired,  Idle,     &[]),
    (Idle, T::Blocked,          Idle,     &[]),
    (Idle, T::Progress,         Idle,     &[]),
    (Idle, T::Connected,        OpenSent, GREET),
    (Idle, T::Lost,             Idle,     &[]),
    (Idle, T::Open,             Idle,     &[]),
    (Idle, T::Keepalive,        Idle,     &[]),
    (Idle, T::Update,           Idle,     &[]),
    (Idle, T::Refresh,          Idle,     &[]),
    (Idle, T::Notification,     Idle,     &[]),
    (Idle, T::Malformed,        Idle,     &[]),

    (Connect, T::Start,            Connect,  &[]),
    (Connect, T::StartPassive,     Connect,  &[]),
    (Connect, T::Stop,             Idle,     LEAVE),
    (Connect, T::Leave,            Idle,     LEAVE),
    (Connect, T::PathDown,         Idle,     LEAVE),
    (Connect, T::Collision,        Idle,     LEAVE),
    (Connect, T::RetryExpired,     Connect,  &[Close, Dial, ArmRetry]),
    (Connect, T::HoldExpired,      Idle,     LEAVE),
    (Connect, T::KeepaliveExpired, Idle,     LEAVE),
    (Connect, T::SendHoldExpired,  Idle,     LEAVE),
    (Connect, T::Blocked,          Connect,  &[]),
    (Connect, T::Progress,         Connect,  &[]),
    (Connect, T::Connected,        OpenSent, GREET),
    (Connect, T::Lost,             Active,   &[ClearTimers, Close, ArmRetry]),
    (Connect, T::Open,             Idle,     LEAVE),
    (Connect, T::Keepalive,        Idle,     LEAVE),
    (Connect, T::Update,           Idle,     LEAVE),
    (Connect, T::Refresh,          Idle,     LEAVE),
    (Connect, T::Notification,     Idle,     LEAVE),
    (Connect, T::Malformed,        Idle,     LEAVE),

    (Active, T::Start,            Active,   &[]),
    (Active, T::StartPassive,     Active,   &[]),
    (Active, T::Stop,             Idle,     &[ClearTimers]),
    (Active, T::Leave,            Idle,     &[ClearTimers]),
    (Active, T::PathDown,         Idle,     &[ClearTimers]),
    (Active, T::Collision,        Idle,     &[ClearTimers]),
    (Active, T::RetryExpired,     Connect,  &[Dial, ArmRetry]),
    (Active, T::HoldExpired,      Idle,     &[ClearTimers]),
    (Active, T::KeepaliveExpired, Idle,     &[ClearTimers]),
    (Active, T::SendHoldExpired,  Idle,     &[ClearTimers]),
    (Active, T::Blocked,          Active,   &[]),
    (Active, T::Progress,         Active,   &[]),
    (Active, T::Connected,        OpenSent, GREET),
    (Active, T::Lost,             Active,   &[]),
    (Active, T::Open,             Idle,     &[ClearTimers]),
    (Active, T::Keepalive,        Idle,     &[ClearTimers]),
    (Active, T::Update,           Idle,     &[ClearTimers]),
    (Active, T::Refresh,          Idle,     &[ClearTimers]),
    (Active, T::Notification,     Idle,     &[ClearTimers]),
    (Active, T::Malformed,        Idle,     &[ClearTimers]),

    (OpenSent, T::Start,            OpenSent,    &[]),
    (OpenSent, T::StartPassive,     OpenSent,    &[]),
    (OpenSent, T::Stop,             Idle,        REFUSE),
    (OpenSent, T::Leave,            Idle,        LEAVE),
    (OpenSent, T::PathDown,         Idle,        REFUSE),
    (OpenSent, T::Collision,        Idle,        REFUSE),
    (OpenSent, T::RetryExpired,     Idle,        BLAME),
    (OpenSent, T::HoldExpired,      Idle,        BLAME),
    (OpenSent, T::KeepaliveExpired, Idle,        BLAME),
    (OpenSent, T::SendHoldExpired,  Idle,        BLAME),
    (OpenSent, T::Blocked,          OpenSent,    &[]),
    (OpenSent, T::Progress,         OpenSent,    &[]),
    (OpenSent, T::Connected,        Idle,        BLAME),
    (OpenSent, T::Lost,             Active,      &[ClearTimers, Close, ArmRetry]),
    (OpenSent, T::Open,             OpenConfirm, &[ClearTimers, SendKeepalive, ArmKeepalive, ArmHold]),
    (OpenSent, T::Keepalive,        Idle,        BLAME),
    (OpenSent, T::Update,           Idle,        BLAME),
    (OpenSent, T::Refresh,          Idle,        BLAME),
    (OpenSent, T::Notification,     Idle,        ACCUSED),
    (OpenSent, T::Malformed,        Idle,        BLAME),

    (OpenConfirm, T::Start,            OpenConfirm, &[]),
    (OpenConfirm, T::StartPassive,     OpenConfirm, &[]),
    (OpenConfirm, T::Stop,             Idle,        REFUSE),
    (OpenConfirm, T::Leave,            Idle,        LEAVE),
    (OpenConfirm, T::PathDown,         Idle,        REFUSE),
    (OpenConfirm, T::Collision,        Idle,        REFUSE),
    (OpenConfirm, T::RetryExpired,     Idle,        BLAME),
    (OpenConfirm, T::HoldExpired,      Idle,        BLAME),
    (OpenConfirm, T::KeepaliveExpired, OpenConfirm, &[SendKeepalive, ArmKeepalive]),
    (OpenConfirm, T::SendHoldExpired,  Idle,        BLAME),
    (OpenConfirm, T::Blocked,          OpenConfirm, &[]),
    (OpenConfirm, T::Progress,         OpenConfirm, &[]),
    (OpenConfirm, T::Connected,        Idle,        BLAME),
    (OpenConfirm, T::Lost,             Idle,        LEAVE),
    (OpenConfirm, T::Open,             Idle,        BLAME),
    (OpenConfirm, T::Keepalive,        Established, &[ArmHold, Up]),
    (OpenConfirm, T::Update,           Idle,        BLAME),
    (OpenConfirm, T::Refresh,          Idle,        BLAME),
    (OpenConfirm, T::Notification,     Idle,        ACCUSED),
    (OpenConfirm, T::Malformed,        Idle,        BLAME),

    (Established, T::Start,            Established, &[]),
    (Established, T::StartPassive,     Established, &[]),
    (Established, T::Stop,             Idle,        REFUSE),
    (Established, T::Leave,            Idle,        LEAVE),
    (Established, T::PathDown,         Idle,        REFUSE),
    (Established, T::Collision,        Idle,        REFUSE),
    (Established, T::RetryExpired,     Idle,        BLAME),
    (Established, T::HoldExpired,      Idle,        BLAME),
    (Established, T::KeepaliveExpired, Established, &[SendKeepalive, ArmKeepalive]),
    (Established, T::SendHoldExpired,  Idle,        BLAME),
    (Established, T::Blocked,          Established, &[ArmSendHold]),
    (Established, T::Progress,         Established, &[StopSendHold]),
    (Established, T::Connected,        Idle,        BLAME),
    (Established, T::Lost,             Idle,        LEAVE),
    (Established, T::Open,             Idle,        BLAME),
    (Established, T::Keepalive,        Established, &[ArmHold]),
    (Established, T::Update,           Established, &[ArmHold, Deliver]),
    (Established, T::Refresh,          Established, &[ArmHold, Deliver]),
    (Established, T::Notification,     Idle,        ACCUSED),
    (Established, T::Malformed,        Idle,        BLAME),
];

fn every_pair() -> impl Iterator<Item = (State, Trigger)> {
    State::ALL
        .into_iter()
        .flat_map(|state| Trigger::ALL.into_iter().map(move |trigger| (state, trigger)))
}

#[test]
fn every_state_answers_every_trigger_as_its_row_says() {
    let pairs: Vec<_> = every_pair().collect();
    let written: Vec<_> = ROWS
        .iter()
        .map(|(state, trigger, ..)| (*state, *trigger))
        .collect();
    assert_eq!(written, pairs, "one row per pair, in order");
    for (state, trigger, next, effects) in ROWS {
        assert_eq!(step(*state, *trigger), (*next, *effects), "{state:?} {trigger:?}");
    }
}

#[test]
fn established_is_reached_by_one_row_alone() {
    let ways: Vec<_> = every_pair()
        .filter(|(state, trigger)| *state != Established && step(*state, *trigger).0 == Established)
        .collect();
    assert_eq!(ways, vec![(OpenConfirm, T::Keepalive)]);
}

#[test]
fn whoever_leaves_a_connection_closes_it_and_stops_its_timers() {
    for (state, trigger) in every_pair() {
        let (next, effects) = step(state, trigger);
        if state.is_connected() && !next.is_connected() {
            assert!(
                effects.contains(&Close) && effects.contains(&ClearTimers),
                "{state:?} {trigger:?}"
            );
        }
        if !state.is_connected() {
            let speaks = effects.contains(&SendNotification) || effects.contains(&SendKeepalive);
            assert!(!speaks, "{state:?} {trigger:?} speaks without a connection");
        }
    }
}
