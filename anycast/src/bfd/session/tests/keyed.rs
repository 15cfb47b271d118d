//! Authentication: what a packet without the key does, replays, sequence numbers.

use steer_topology::BfdAuthKind;

use super::super::super::auth::Auth;
use super::*;

pub(super) fn keyed(kind: BfdAuthKind, key: &[u8]) -> Config {
    Config {
        auth: Some(Auth::new(kind, 1, key).unwrap()),
        ..config(50 * MS, 3)
    }
}

fn next_octets(machine: &mut Session, now: Instant) -> Octets {
    let at = machine.next_deadline(now).unwrap();
    machine.on_deadline(at, at);
    let sent = std::iter::from_fn(|| machine.poll_output()).find_map(|output| match output {
        Output::Send(octets) => Some(octets),
        Output::Path(_) => None,
    });
    sent.unwrap()
}

fn take(machine: &mut Session, octets: &[u8], now: Instant) -> Result<(), Refusal> {
    machine.receive(&wire::decode(octets).unwrap(), now, now)
}

#[test]
fn a_packet_without_the_key_changes_nothing() {
    use BfdAuthKind::{KeyedSha1, MeticulousKeyedSha1};
    let now = Instant::now();
    let make = |config, seed| Session::new(config, number(seed), u64::from(seed), now);
    let mut ours = make(keyed(MeticulousKeyedSha1, b"right"), 1);
    let before = ours.picture();
    let refusals = [
        (config(50 * MS, 3), Refusal::AuthMissing),
        (keyed(KeyedSha1, b"right"), Refusal::AuthType),
        (keyed(MeticulousKeyedSha1, b"wrong"), Refusal::AuthDigest),
    ];
    for (theirs, refusal) in refusals {
        let octets = next_octets(&mut make(theirs, 2), now);
        assert_eq!(take(&mut ours, &octets, now), Err(refusal));
        assert_eq!(ours.picture(), before);
    }
    let mut open = make(config(50 * MS, 3), 3);
    let octets = next_octets(&mut ours, now);
    assert_eq!(take(&mut open, &octets, now), Err(Refusal::AuthUnexpected));
    let octets = next_octets(&mut make(keyed(MeticulousKeyedSha1, b"right"), 4), now);
    assert_eq!(take(&mut ours, &octets, now), Ok(()));
    assert_eq!(ours.state(), State::Init);
}

#[test]
fn a_replay_is_refused_until_the_peer_was_silent_for_twice_the_detection_time() {
    let now = Instant::now();
    let kind = BfdAuthKind::MeticulousKeyedSha1;
    let mut theirs = Session::new(keyed(kind, b"key"), number(2), 2, now);
    let mut ours = Session::new(keyed(kind, b"key"), number(1), 1, now);
    let old = next_octets(&mut theirs, now);
    let new = next_octets(&mut theirs, now);
    assert_eq!(take(&mut ours, &old, now), Ok(()));
    assert_eq!(take(&mut ours, &new, now), Ok(()));
    assert_eq!(take(&mut ours, &old, now), Err(Refusal::AuthSequence));
    assert_eq!(take(&mut ours, &new, now), Err(Refusal::AuthSequence));
    // It says one second and a multiplier of 3.
    for (passed, refused) in [(5999 * MS, true), (6000 * MS, false)] {
        let later = now + passed;
        ours.on_deadline(later, later);
        assert_eq!(take(&mut ours, &old, later).is_err(), refused, "{passed:?}");
    }
}

#[test]
fn the_sequence_number_moves_as_its_kind_wants() {
    let now = Instant::now();
    let sequence = |octets: &[u8]| u32::from_be_bytes(*octets[28..].first_chunk().unwrap());
    for (kind, moves) in [(BfdAuthKind::MeticulousKeyedSha1, 1), (BfdAuthKind::KeyedSha1, 0)] {
        let mut machine = Session::new(keyed(kind, b"key"), number(1), 1, now);
        let first = sequence(&next_octets(&mut machine, now));
        let second = sequence(&next_octets(&mut machine, now));
        assert_eq!(second.wrapping_sub(first), moves);
        machine.disable(now);
        let Some(Output::Send(changed)) = machine.poll_output() else {
            panic!("a change is told")
        };
        assert_eq!(sequence(&changed).wrapping_sub(second), 1);
    }
}
