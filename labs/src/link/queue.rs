//! One direction of a long line: frames in, frames out when they are due. No sockets, no clock, one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds by any steady clock.
pub(super) type Tick = u64;

/// More frames under way are dropped, and counted: 100 ms at 1 Gbit/s of full frames.
const FRAMES_MAX: usize = 8_192;

/// What befalls frames. Shares are between 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rules {
    pub(super) delay: Tick,
    pub(super) jitter: Tick,
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) reorder: f64,
    pub(super) corrupt: f64,
    pub(super) mute: bool,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) overtook: u64,
    pub(super) corrupted: u64,
    /// For want of room.
    pub(super) dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    rules: Rules,
    random: Random,
    /// By the time they are due, then by arrival.
    frames: BinaryHeap<Reverse<(Tick, u64, Vec<u8>)>>,
    next: u64,
    /// No frame that keeps its place leaves before this.
    last_due: Tick,
    pub(super) counts: Counts,
    /// Octets before each frame that belong to the kernel and are never spoilt.
    header: usize,
}

impl Queue {
    pub(super) fn new(rules: Rules, seed: u64, header: usize) -> Self {
        Self {
            rules,
            random: Random(seed),
            frames: BinaryHeap::new(),
            next: 0,
            last_due: 0,
            counts: Counts::default(),
            header,
        }
    }

    /// What befalls frames that arrive from now on.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Takes a frame that arrived now.
    pub(super) fn push(&mut self, now: Tick, mut frame: Vec<u8>) {
        self.counts.taken += 1;
        if self.rules.mute || self.random.is_below(self.rules.loss) {
            self.counts.lost += 1;
            return;
        }
        if self.random.is_below(self.rules.corrupt) {
            self.counts.corrupted += 1;
            self.spoil(&mut frame);
        }
        if self.random.is_below(self.rules.duplicate) {
            self.counts.duplicated += 1;
            self.add(now, frame.clone());
        }
        self.add(now, frame);
    }

    /// A frame that is due, and when it was.
    pub(super) fn pop(&mut self, now: Tick) -> Option<(Tick, Vec<u8>)> {
        if self.next_due()? > now {
            return None;
        }
        self.frames.pop().map(|Reverse((due, _, frame))| (due, frame))
    }

    /// When there is something to do next.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.frames.peek().map(|Reverse((due, _, _))| *due)
    }

    fn add(&mut self, now: Tick, frame: Vec<u8>) {
        if self.frames.len() >= FRAMES_MAX {
            self.counts.dropped += 1;
            return;
        }
        let due = if self.random.is_below(self.rules.reorder) {
            self.counts.overtook += 1;
            now
        } else {
            let wanted = now + self.rules.delay + self.random.up_to(self.rules.jitter);
            self.last_due = self.last_due.max(wanted);
            self.last_due
        };
        self.frames.push(Reverse((due, self.next, frame)));
        self.next += 1;
    }

    /// Turns one bit behind the Ethernet header, so that it still finds its way.
    fn spoil(&mut self, frame: &mut [u8]) {
        const ETHERNET: usize = 14;
        let first = self.header + ETHERNET;
        let room = frame.len().saturating_sub(first) as u64;
        if room == 0 {
            return;
        }
        let at = first + usize::try_from(self.random.next() % room).unwrap_or(0);
        let bit = self.random.next() % 8;
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, even, the same everywhere.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in so large a share of the calls. Without a share no number is drawn.
    fn is_below(&mut self, share: f64) -> bool {
        share > 0.0 && ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }

    fn up_to(&mut self, most: Tick) -> Tick {
        if most == 0 { 0 } else { self.next() % (most + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Tick = 1_000_000;

    fn frame(number: u32) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[20..24].copy_from_slice(&number.to_be_bytes());
        frame
    }

    /// Sends so many frames, 1 ms apart, and gives what comes out: when, and which.
    fn run(rules: Rules, seed: u64, count: u32) -> (Vec<(Tick, Vec<u8>)>, Counts) {
        let mut queue = Queue::new(rules, seed, 0);
        let mut out = Vec::new();
        let mut now = 0;
        for number in 0..count {
            now = Tick::from(number) * MS;
            while let Some(due) = queue.next_due().filter(|due| *due <= now) {
                out.extend(queue.pop(due));
            }
            queue.push(now, frame(number));
        }
        now += 1_000 * MS;
        out.extend(std::iter::from_fn(|| queue.pop(now)));
        (out, queue.counts)
    }

    fn numbers(out: &[(Tick, Vec<u8>)]) -> Vec<u32> {
        let number = |frame: &Vec<u8>| u32::from_be_bytes([frame[20], frame[21], frame[22], frame[23]]);
        out.iter().map(|(_, frame)| number(frame)).collect()
    }

    #[test]
    fn a_delay_is_kept_to_the_nanosecond_and_jitter_keeps_the_order() {
        let rules = Rules {
            delay: 40 * MS,
            ..Rules::default()
        };
        let (out, _) = run(rules, 1, 10);
        let due: Vec<Tick> = out.iter().map(|(due, _)| *due).collect();
        assert_eq!(due, (40..50).map(|ms| ms * MS).collect::<Vec<_>>());
        let rules = Rules {
            jitter: 30 * MS,
            ..rules
        };
        let (out, _) = run(rules, 1, 2_000);
        assert_eq!(numbers(&out), (0..2_000).collect::<Vec<_>>());
        assert!(out.iter().any(|(due, _)| due % MS != 0));
    }

    #[test]
    fn shares_are_as_asked_for_and_the_same_seed_makes_the_same_choices() {
        let rules = Rules {
            loss: 0.1,
            duplicate: 0.05,
            reorder: 0.2,
            corrupt: 0.02,
            delay: 20 * MS,
            ..Rules::default()
        };
        let (out, counts) = run(rules, 7, 20_000);
        let near = |got: u64, share: f64| (got as f64 - share * 20_000.0).abs() < 150.0;
        assert!(
            near(counts.lost, 0.1) && near(counts.duplicated, 0.045),
            "{counts:?}"
        );
        assert!(
            near(counts.corrupted, 0.018) && near(counts.overtook, 0.189),
            "{counts:?}"
        );
        assert_eq!(out.len() as u64, counts.taken - counts.lost + counts.duplicated);
        assert_eq!(run(rules, 7, 20_000), (out.clone(), counts));
        assert_ne!(run(rules, 8, 20_000).0, out);
        assert!(
            numbers(&out).windows(2).any(|pair| pair[0] > pair[1]),
            "some overtook others"
        );
    }

    #[test]
    fn a_spoilt_frame_differs_in_one_bit_behind_its_header() {
        let rules = Rules {
            corrupt: 1.0,
            ..Rules::default()
        };
        let (out, _) = run(rules, 3, 500);
        for (number, (_, got)) in out.iter().enumerate() {
            let sent = frame(number as u32);
            let bits: u32 = sent.iter().zip(got).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!(bits == 1 && sent[..14] == got[..14], "{number}");
        }
    }

    #[test]
    fn a_mute_end_loses_everything_and_a_full_queue_what_does_not_fit() {
        let mute = Rules {
            mute: true,
            ..Rules::default()
        };
        assert_eq!(run(mute, 1, 10).1.lost, 10);
        let mut queue = Queue::new(Rules::default(), 1, 0);
        for number in 0..FRAMES_MAX as u32 + 5 {
            queue.push(0, frame(number));
        }
        assert_eq!(queue.counts.dropped, 5);
    }
}
