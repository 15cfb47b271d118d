//! Our codec beside other readers: bgpkit-parser, scapy and tshark, on the same random octets.
//!
//! The messages are valid; what they say is known because we made them up. Where another reader says something
//! else, the reason stands in its table, and a reason that no message needs any more fails the test.

mod bfd;
mod bgpkit;
mod conversation;
mod pcap;
mod reading;
mod sample;
mod scapy;
mod tshark;

use std::collections::BTreeMap;

use bytes::BytesMut;
use steer_anycast::wire;

use reading::{Reading, UpdateReading};
use sample::{Sample, samples};

const SEED: u64 = 4271;
const COUNT: usize = 2_000;

/// Capture files, and conversations in each.
const SESSION_SEEDS: u64 = 4;
const CONVERSATIONS: u16 = 25;

/// Something that a reader is known to get wrong, or not to look at.
struct Leniency {
    why: &'static str,
    /// Which messages it can touch.
    touches: fn(&Sample) -> bool,
    /// Takes out of a reading what cannot be compared.
    forgive: fn(&mut Reading),
}

const BGPKIT: &[Leniency] = &[Leniency {
    why: "an NLRI field with an octet 0 where a length stands (a default route) is taken for add-path, and that \
          guess cannot be switched off",
    touches: |sample| sample.has_default_route,
    forgive: |reading| in_update(reading, |update| *update = UpdateReading::default()),
}];

const SCAPY: &[Leniency] = &[
    Leniency {
        why: "of a list of communities only the first is read",
        touches: |_| true,
        forgive: |reading| in_update(reading, |update| update.communities.truncate(1)),
    },
    Leniency {
        why: "large communities (RFC 8092) are not known",
        touches: |_| true,
        forgive: |reading| in_update(reading, |update| update.large_communities.clear()),
    },
    Leniency {
        why: "IPv4 unicast in MP_REACH_NLRI and MP_UNREACH_NLRI is not read",
        touches: |sample| sample.has_ipv4_in_mp,
        forgive: |reading| {
            in_update(reading, |update| {
                update.routes.clear();
                update.withdrawn.clear();
            });
        },
    },
];

const TSHARK: &[Leniency] = &[
    Leniency {
        why: "add-path is guessed from a default route, or from bits behind a prefix that are not 0; no setting stops it",
        touches: |sample| sample.has_default_route || sample.has_spare_bits,
        forgive: |reading| in_update(reading, |update| *update = UpdateReading::default()),
    },
    Leniency {
        why: "ONLY_TO_CUSTOMER (RFC 9234) is not read",
        touches: |_| true,
        forgive: |reading| in_update(reading, |update| update.only_to_customer = None),
    },
];

fn in_update(reading: &mut Reading, change: impl Fn(&mut UpdateReading)) {
    if let Reading::Update(update) = reading {
        change(update);
    }
}

fn ours(sample: &Sample) -> Reading {
    let frame = wire::take_frame(&mut BytesMut::from(sample.octets.as_slice()), wire::MAX_LENGTH);
    let decoded = frame.and_then(|frame| wire::decode(&frame.expect("whole"), sample.context));
    match decoded {
        Ok(message) => message.into(),
        Err(malformed) => Reading::Refused(malformed.to_string()),
    }
}

/// Compares reading by reading; every leniency must have been needed.
fn compare(reader: &str, samples: &[Sample], readings: Vec<Reading>, known: &[Leniency]) {
    assert_eq!(samples.len(), readings.len());
    let mut needed = BTreeMap::<&str, usize>::new();
    for (number, (sample, mut theirs)) in samples.iter().zip(readings).enumerate() {
        let mut ours = ours(sample);
        for leniency in known {
            if ours != theirs && (leniency.touches)(sample) {
                *needed.entry(leniency.why).or_default() += 1;
                (leniency.forgive)(&mut ours);
                (leniency.forgive)(&mut theirs);
            }
        }
        assert_eq!(ours, theirs, "{reader}, message {number}: {:02x?}", sample.octets);
    }
    for Leniency { why, .. } in known {
        let count = needed.get(why).copied().unwrap_or(0);
        eprintln!("{reader}: {count} of {} messages: {why}", samples.len());
        assert!(count > 0, "{reader} does no longer need: {why}");
    }
}

#[test]
fn we_read_what_was_meant() {
    for (number, sample) in samples(SEED, COUNT).iter().enumerate() {
        assert_eq!(
            ours(sample),
            sample.says,
            "message {number}: {:02x?}",
            sample.octets
        );
    }
}

#[test]
fn bgpkit_reads_the_same() {
    let samples = samples(SEED, COUNT);
    let readings = samples.iter().map(bgpkit::read).collect();
    compare("bgpkit-parser", &samples, readings, BGPKIT);
}

#[test]
fn scapy_reads_the_same() {
    let samples = samples(SEED, COUNT);
    match scapy::read(&samples) {
        Ok(readings) => compare("scapy", &samples, readings, SCAPY),
        Err(reason) => eprintln!("skip: scapy_reads_the_same: {reason}"),
    }
}

#[test]
fn tshark_reads_the_same_and_complains_of_nothing() {
    let samples = samples(SEED, COUNT);
    let dissected = match tshark::read(&samples) {
        Ok(dissected) => dissected,
        Err(reason) => return eprintln!("skip: tshark_reads_the_same_and_complains_of_nothing: {reason}"),
    };
    let guessed = |sample: &Sample| TSHARK.iter().any(|leniency| (leniency.touches)(sample));
    for (sample, one) in samples
        .iter()
        .zip(&dissected)
        .filter(|(sample, _)| !guessed(sample))
    {
        assert!(
            one.complaints.is_empty(),
            "{:?}: {:02x?}",
            one.complaints,
            sample.octets
        );
    }
    let readings = dissected.into_iter().map(|one| one.reading).collect();
    compare("tshark", &samples, readings, TSHARK);
}

#[test]
fn tshark_complains_of_what_is_malformed() {
    if let Err(reason) = tshark::missing() {
        return eprintln!("skip: tshark_complains_of_what_is_malformed: {reason}");
    }
    let is_update = |sample: &&Sample| matches!(sample.says, Reading::Update(_)) && sample.octets.len() > 40;
    let mut broken = samples(SEED, COUNT).iter().find(is_update).expect("some").clone();
    broken.octets[19..21].copy_from_slice(&[0xff, 0xff]); // more withdrawn routes than there are octets
    let dissected = tshark::read(&[broken]).expect("tshark is here");
    assert!(
        dissected.iter().any(|one| !one.complaints.is_empty()),
        "{dissected:?}"
    );
}

#[test]
fn tshark_complains_of_nothing_that_a_random_session_says() {
    const TEST: &str = "tshark_complains_of_nothing_that_a_random_session_says";
    if let Err(reason) = tshark::missing() {
        return eprintln!("skip: {TEST}: {reason}");
    }
    for seed in 0..SESSION_SEEDS {
        // tshark 4.0 knows no message of more than 4,096 octets (RFC 8654); those are for the next test.
        let record = conversation::conversations(seed, CONVERSATIONS, false);
        let told = hear(&record, None, seed);
        eprintln!("seed {seed}: {} sessions, {told}", record.sessions);
    }
}

#[test]
fn bgpkit_reads_what_a_random_session_says_in_long_messages() {
    let record = conversation::conversations(SESSION_SEEDS, CONVERSATIONS, true);
    assert!(record.longest > 60_000, "{} octets", record.longest);
    // Of both sessions inside an AS and between two: LOCAL_PREF is looked at where it stands.
    let context = wire::Context {
        four_octet: true,
        internal: true,
        extended_next_hop: true,
        enhanced_refresh: true,
        ..wire::Context::default()
    };
    for octets in &record.said {
        let frame = wire::take_frame(&mut BytesMut::from(octets.as_ref()), wire::EXTENDED_LENGTH);
        let ours = wire::decode(&frame.expect("framed").expect("whole"), context).expect("our own");
        let theirs = bgpkit::read_octets(octets.clone(), true);
        assert_eq!(Reading::from(ours), theirs, "{octets:02x?}");
    }
    eprintln!(
        "{} messages, longest {} octets",
        record.said.len(),
        record.longest
    );
}

#[test]
fn tshark_complains_of_nothing_that_is_said_to_a_peer_with_short_as_numbers() {
    const TEST: &str = "tshark_complains_of_nothing_that_is_said_to_a_peer_with_short_as_numbers";
    if let Err(reason) = tshark::missing() {
        return eprintln!("skip: {TEST}: {reason}");
    }
    for seed in 0..SESSION_SEEDS {
        let told = hear(&conversation::two_octet_speech(seed), Some(false), seed);
        eprintln!("seed {seed}: {told}");
    }
}

#[test]
fn tshark_complains_of_no_bfd_packet_of_a_random_session() {
    if let Err(reason) = tshark::missing() {
        return eprintln!("skip: tshark_complains_of_no_bfd_packet_of_a_random_session: {reason}");
    }
    let mut ups = 0;
    for seed in 0..6 {
        let record = bfd::conversation(seed);
        let (packets, complaints) = tshark::dissect_bfd(&record.capture);
        assert!(complaints.is_empty(), "seed {seed}: {complaints:?}");
        assert_eq!(packets, record.packets, "seed {seed}");
        eprintln!("seed {seed}: {packets} packets, {} times up", record.ups);
        ups += record.ups;
    }
    assert!(ups > 0);
}

/// Every message is seen, and none is complained of.
fn hear(record: &conversation::Record, four_octet: Option<bool>, seed: u64) -> String {
    let dissected = tshark::dissect(&record.capture, four_octet);
    let mut seen = BTreeMap::new();
    for one in &dissected {
        assert!(one.complaints.is_empty(), "seed {seed}: {one:?}");
        *seen.entry(one.reading.kind()).or_insert(0) += 1;
    }
    assert_eq!(seen, record.sent, "seed {seed}");
    format!(
        "{}, longest {} octets",
        conversation::kinds(&record.sent),
        record.longest
    )
}
