use super::*;
use Fate::{Ambiguous, Committed, NotSent, Unprocessed};
use Stage::{Answering, Ended, Sent, Waiting};

/// The table once more, row by row, in the words of the specification.
const ROWS: [(Stage, News, Stage); 33] = [
    (Waiting, News::Written, Sent),
    (Waiting, News::NoConnection, Ended(NotSent)),
    (Waiting, News::Disowned, Ended(NotSent)),
    (Waiting, News::Refused, Ended(NotSent)),
    (Waiting, News::Disclaimed, Ended(NotSent)),
    (Waiting, News::Headers, Answering),
    (Waiting, News::Answered, Ended(Committed)),
    (Waiting, News::Doubtful, Ended(Ambiguous)),
    (Waiting, News::Lost, Ended(NotSent)),
    (Waiting, News::Expired, Ended(NotSent)),
    (Waiting, News::Cancelled, Ended(NotSent)),
    (Sent, News::Written, Sent),
    (Sent, News::NoConnection, Ended(Ambiguous)),
    (Sent, News::Disowned, Ended(Unprocessed)),
    (Sent, News::Refused, Ended(Unprocessed)),
    (Sent, News::Disclaimed, Ended(Unprocessed)),
    (Sent, News::Headers, Answering),
    (Sent, News::Answered, Ended(Committed)),
    (Sent, News::Doubtful, Ended(Ambiguous)),
    (Sent, News::Lost, Ended(Ambiguous)),
    (Sent, News::Expired, Ended(Ambiguous)),
    (Sent, News::Cancelled, Ended(Ambiguous)),
    (Answering, News::Written, Answering),
    (Answering, News::NoConnection, Ended(Ambiguous)),
    (Answering, News::Disowned, Ended(Ambiguous)),
    (Answering, News::Refused, Ended(Ambiguous)),
    (Answering, News::Disclaimed, Ended(Ambiguous)),
    (Answering, News::Headers, Answering),
    (Answering, News::Answered, Ended(Committed)),
    (Answering, News::Doubtful, Ended(Ambiguous)),
    (Answering, News::Lost, Ended(Ambiguous)),
    (Answering, News::Expired, Ended(Ambiguous)),
    (Answering, News::Cancelled, Ended(Ambiguous)),
];

#[test]
fn every_row_of_the_table_is_as_specified() {
    for (stage, news, next) in ROWS {
        assert_eq!(stage.next(news), next, "{stage:?} and {news:?}");
    }
    for stage in [Waiting, Sent, Answering] {
        for news in News::ALL {
            let rows = ROWS.iter().filter(|row| (row.0, row.1) == (stage, news));
            assert_eq!(rows.count(), 1, "{stage:?} and {news:?}");
        }
    }
}

#[test]
fn late_news_change_no_fate() {
    for fate in Fate::ALL {
        for news in News::ALL {
            assert_eq!(Ended(fate).next(news), Ended(fate), "{news:?}");
        }
    }
}

#[test]
fn what_may_have_arrived_is_harmless_only_where_the_peer_says_so() {
    for stage in [Sent, Answering] {
        for news in News::ALL {
            let says_so = matches!(news, News::Disowned | News::Refused | News::Disclaimed);
            let harmless = stage.next(news).fate().is_some_and(Fate::is_harmless);
            assert_eq!(harmless, stage == Sent && says_so, "{stage:?} and {news:?}");
        }
    }
}

#[test]
fn a_goaway_disowns_the_streams_above_its_last_one_alone() {
    assert_eq!(News::of_goaway(5, 3), None);
    assert_eq!(News::of_goaway(5, 5), None);
    assert_eq!(News::of_goaway(5, 7), Some(News::Disowned));
    // The first GOAWAY of a graceful shutdown: 2^31-1 (RFC 9113 §6.8).
    assert_eq!(News::of_goaway(0x7fff_ffff, 0x7fff_ffff), None);
    assert_eq!(News::of_goaway(0, 1), Some(News::Disowned));
}

#[test]
fn of_all_resets_only_refused_stream_proves_anything() {
    for code in 0..=0xd {
        let expected = if code == 7 { News::Refused } else { News::Lost };
        assert_eq!(News::of_reset(code), expected, "{code}");
    }
}

#[test]
fn a_status_is_believed_as_far_as_its_speaker_can_know() {
    assert_eq!(News::of_status(Code::Ok, None), News::Answered);
    assert_eq!(News::of_status(Code::NotFound, None), News::Answered);
    assert_eq!(News::of_status(Code::Unavailable, None), News::Doubtful);
    assert_eq!(
        News::of_status(Code::Unavailable, Some(NotSent)),
        News::Disclaimed
    );
    assert_eq!(
        News::of_status(Code::Unavailable, Some(Unprocessed)),
        News::Disclaimed
    );
    assert_eq!(
        News::of_status(Code::Unavailable, Some(Committed)),
        News::Doubtful
    );
    assert_eq!(News::of_status(Code::Aborted, Some(Ambiguous)), News::Doubtful);
    // Success is success, whatever a marker says.
    for told in Fate::ALL {
        assert_eq!(News::of_status(Code::Ok, Some(told)), News::Answered);
    }
}
