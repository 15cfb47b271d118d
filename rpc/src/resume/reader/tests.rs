use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::resume::{Frames, Window};

fn mark(token: &str, next: u64) -> Mark {
    Mark {
        token: StreamToken::parse(token.as_bytes()).unwrap(),
        next,
    }
}

/// A reader with its chance.
struct Desk {
    reader: Reader,
    rng: SmallRng,
}

impl Desk {
    fn new(tries: u32) -> Self {
        let limits = Limits {
            tries,
            overlap: 3,
            ..Limits::DEFAULT
        };
        Self {
            reader: Reader::new(limits),
            rng: SmallRng::seed_from_u64(1),
        }
    }

    fn on(&mut self, event: Event) -> Do {
        self.reader.on_event(event, &mut self.rng)
    }

    /// Read so far, cut, and asked for again.
    fn cut_at(&mut self, messages: u64) -> Do {
        self.on(Event::Opened(Some(mark("t", 0))));
        for _ in 0..messages {
            assert_eq!(self.on(Event::Message), Do::Pass);
        }
        assert_eq!(self.on(Event::Cut), Do::Wait(Duration::ZERO));
        self.on(Event::Due)
    }
}

#[test]
fn a_stream_that_is_cut_goes_on_with_the_message_that_is_wanted_next() {
    let mut desk = Desk::new(5);
    assert_eq!(desk.cut_at(2), Do::Open(mark("t", 2)));
    assert_eq!(desk.on(Event::Opened(Some(mark("t", 2)))), Do::Nothing);
    assert_eq!(desk.on(Event::Message), Do::Pass);
    assert_eq!(desk.on(Event::Ended), Do::End);
    assert_eq!(desk.reader.wanted(), 3);
}

#[test]
fn what_comes_again_is_dropped() {
    let mut desk = Desk::new(5);
    desk.cut_at(3);
    desk.on(Event::Opened(Some(mark("t", 1))));
    let passed: Vec<_> = (0..4).map(|_| desk.on(Event::Message)).collect();
    assert_eq!(passed, [Do::Drop, Do::Drop, Do::Pass, Do::Pass]);
}

#[test]
fn a_service_that_leaves_something_out_or_has_forgotten_is_not_believed() {
    let rows = [
        (Some(mark("t", 3)), Why::Gap { wanted: 2, next: 3 }),
        (Some(mark("u", 2)), Why::Forgotten(mark("t", 0).token)),
        (None, Why::Forgotten(mark("t", 0).token)),
    ];
    for (answer, why) in rows {
        let mut desk = Desk::new(5);
        desk.cut_at(2);
        assert_eq!(desk.on(Event::Opened(answer)), Do::Fail(why));
        assert_eq!(desk.reader.state(), State::Over);
    }
    let mut desk = Desk::new(5);
    desk.cut_at(4);
    let why = Why::Overlap { wanted: 4, next: 0 };
    assert_eq!(desk.on(Event::Opened(Some(mark("t", 0)))), Do::Fail(why));
}

#[test]
fn a_stream_without_a_place_ends_when_it_is_cut() {
    let mut desk = Desk::new(5);
    desk.on(Event::Opened(None));
    assert_eq!(desk.on(Event::Message), Do::Pass);
    assert_eq!(desk.on(Event::Cut), Do::End);
}

#[test]
fn it_is_asked_for_so_often_in_a_row_and_a_message_gives_new_patience() {
    let mut desk = Desk::new(2);
    for _ in 0..3 {
        desk.reader.state = State::Opening;
        desk.on(Event::Opened(Some(mark("t", desk.reader.wanted))));
        assert_eq!(desk.on(Event::Message), Do::Pass);
        for _ in 0..2 {
            assert!(matches!(desk.on(Event::Cut), Do::Wait(_)));
            assert!(matches!(desk.on(Event::Due), Do::Open(_)));
        }
    }
    assert_eq!(desk.on(Event::Cut), Do::End);
}

#[test]
fn what_comes_out_of_turn_ends_it_and_late_news_change_nothing() {
    let mut desk = Desk::new(5);
    assert_eq!(desk.on(Event::Due), Do::Nothing);
    assert!(matches!(desk.on(Event::Message), Do::Fail(Why::OutOfTurn(_))));
    for event in [
        Event::Message,
        Event::Cut,
        Event::Ended,
        Event::Due,
        Event::Opened(None),
    ] {
        assert_eq!(desk.on(event), Do::Nothing);
    }
    let mut desk = Desk::new(5);
    desk.on(Event::Opened(Some(mark("t", 0))));
    desk.on(Event::Cut);
    for event in [Event::Message, Event::Cut, Event::Ended, Event::Opened(None)] {
        assert_eq!(desk.on(event), Do::Nothing);
    }
    assert_eq!(desk.on(Event::Due), Do::Open(mark("t", 0)));
}

/// One connection of the model: the service begins so many messages too early, and the octets are cut there.
type Link = (u64, usize);

fn framed(number: u64) -> Vec<u8> {
    let text = number.to_string();
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat()
}

proptest! {
    /// A service that keeps a window, connections that are cut at any octet, and a reader: whatever happens, the application
    /// has a beginning of the stream, each message once and in its order; and where the last connection is whole, all.
    #[test]
    fn over_streams_that_are_cut_no_message_is_lost_none_comes_twice_and_the_order_stays(
        count in 0_u64..30, window in 1_usize..30, links in prop::collection::vec((0_u64..6, 0_usize..120), 0..12)
    ) {
        let mut kept = Window::new(window);
        for number in 0..count {
            kept.push(number);
        }
        // The first to be asked for is the first that is kept.
        let first = count.saturating_sub(window as u64);
        let mut desk = Desk::new(u32::MAX);
        let (mut next, mut had, mut failed) = (first, Vec::new(), false);
        let whole: Link = (0, usize::MAX);
        for (early, length) in links.into_iter().chain([whole]) {
            let from = next.saturating_sub(early).max(first);
            let octets: Vec<u8> = kept.from(from).unwrap().into_iter().flat_map(framed).collect();
            let octets = &octets[..length.min(octets.len())];
            let is_whole = length == usize::MAX;
            if let Do::Fail(why) = desk.on(Event::Opened(Some(mark("t", from)))) {
                prop_assert!(matches!(why, Why::Overlap { .. }), "{why:?}");
                failed = true;
                break;
            }
            let mut frames = Frames::new(100);
            for piece in octets.chunks(7) {
                frames.push(piece);
                while let Some(message) = frames.next_message().unwrap() {
                    let next = desk.on(Event::Message);
                    if next == Do::Pass {
                        had.push(String::from_utf8(message[5..].to_vec()).unwrap().parse::<u64>().unwrap());
                    } else {
                        prop_assert_eq!(next, Do::Drop);
                    }
                }
            }
            if is_whole {
                prop_assert_eq!(desk.on(Event::Ended), Do::End);
                break;
            }
            prop_assert!(matches!(desk.on(Event::Cut), Do::Wait(_)));
            let again = desk.on(Event::Due);
            next = desk.reader.wanted();
            prop_assert_eq!(again, Do::Open(mark("t", next)));
        }
        let all: Vec<_> = (first..count).collect();
        prop_assert_eq!(&had[..], &all[..had.len()]);
        prop_assert!(failed || had.len() == all.len());
    }
}
