use proptest::prelude::*;

use super::*;

const ALL: Asked<'_> = Asked {
    field: Some("x-lag"),
    body: true,
};

/// What a server sends in these pieces, closing at the end. `None`: it closes before the response is whole.
fn read<'a>(pieces: &[&[u8]]) -> Result<Option<Reader<'a>>, Malformed> {
    let mut reader = Reader::new(ALL);
    for piece in pieces {
        if reader.feed(piece)? {
            return Ok(Some(reader));
        }
    }
    Ok(reader.ends().then_some(reader))
}

fn whole<'a>(octets: &str) -> Reader<'a> {
    read(&[octets.as_bytes()]).unwrap().unwrap()
}

fn refused(octets: &str) -> String {
    read(&[octets.as_bytes()]).unwrap_err().0
}

#[test]
fn a_body_ends_where_its_frame_says() {
    let known = whole("HTTP/1.1 200 OK\r\nX-Lag: 3\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(
        (known.head().status, known.head().values.as_slice(), known.body()),
        (200, &["3".to_owned()][..], &b"ok"[..])
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3;x=y\r\nrea\r\n2\r\ndy\r\n0\r\nT: x\r\n\r\n";
    assert_eq!(whole(chunked).body(), b"ready");
    let to_the_end = whole("HTTP/1.0 200 OK\r\n\r\nall of it");
    assert_eq!(
        (to_the_end.body(), to_the_end.leaves_it_open()),
        (&b"all of it"[..], false)
    );
    // RFC 9112 §6.3: these have no body, whatever they say.
    for status in [204, 304] {
        let bare = whole(&format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"));
        assert!(bare.body().is_empty() && bare.leaves_it_open());
    }
}

#[test]
fn an_interim_response_is_passed_over() {
    let both = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(whole(both).head().status, 503);
}

#[test]
fn a_connection_is_left_open_only_where_both_frames_and_fields_say_so() {
    let open = |fields: &str, version: &str| {
        whole(&format!("HTTP/{version} 200 OK\r\n{fields}\r\n")).leaves_it_open()
    };
    assert!(open("Content-Length: 0\r\n", "1.1"));
    assert!(!open("Content-Length: 0\r\n", "1.0"));
    assert!(open("Content-Length: 0\r\nConnection: Keep-Alive\r\n", "1.0"));
    assert!(!open("Content-Length: 0\r\nConnection: x, CLOSE\r\n", "1.1"));
    let surplus = whole("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok");
    assert!(!surplus.leaves_it_open() && surplus.body() == b"o");
}

#[test]
fn what_is_no_http_is_refused_and_what_is_cut_is_not_whole() {
    assert_eq!(refused("SSH-2.0-OpenSSH_9.2\r\n"), "invalid HTTP version");
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok"),
        "Content-Length \"2x\""
    );
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
        "Content-Length \"2\""
    );
    assert_eq!(
        refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nlong\r\n"),
        "a chunk that is longer than it says"
    );
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_MAX));
    assert!(refused(&endless).starts_with("a head or line of more than"));
    for cut in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        assert!(read(&[cut.as_bytes()]).unwrap().is_none(), "{cut:?}");
    }
}

#[test]
fn a_long_body_is_cut_at_its_bound() {
    let long = "x".repeat(BODY_MAX + 1);
    let reader = whole(&format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}",
        long.len()
    ));
    assert_eq!((reader.body().len(), reader.leaves_it_open()), (BODY_MAX, false));
    assert_eq!(
        whole(&format!("HTTP/1.0 200 OK\r\n\r\n{long}")).body().len(),
        BODY_MAX
    );
}

/// How a model server frames a body.
#[derive(Debug, Clone, Copy)]
enum Frame {
    Length,
    Chunked(usize),
    UntilClose,
}

fn framed(body: &[u8], frame: Frame) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nX-Lag: 7\r\n".to_vec();
    match frame {
        Frame::Length => {
            out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            out.extend(body);
        }
        Frame::Chunked(size) => {
            out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(size) {
                out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
        }
        Frame::UntilClose => {
            out.extend(b"\r\n");
            out.extend(body);
        }
    }
    out
}

/// `octets` in pieces that end at these places.
fn pieces<'o>(octets: &'o [u8], cuts: &[prop::sample::Index]) -> Vec<&'o [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
    places.sort_unstable();
    let mut rest = octets;
    let mut pieces = Vec::new();
    let mut before = 0;
    for place in places {
        let (piece, after) = rest.split_at(place - before);
        pieces.extend((!piece.is_empty()).then_some(piece));
        (rest, before) = (after, place);
    }
    pieces.extend((!rest.is_empty()).then_some(rest));
    pieces
}

proptest! {
    #[test]
    fn in_whatever_pieces_it_comes_the_body_is_that_of_the_server(
        body in prop::collection::vec(any::<u8>(), 0..600),
        frame in prop_oneof![Just(Frame::Length), (1_usize..90).prop_map(Frame::Chunked), Just(Frame::UntilClose)],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let octets = framed(&body, frame);
        let reader = read(&pieces(&octets, &cuts)).unwrap().unwrap();
        prop_assert_eq!(reader.body(), &body[..]);
        prop_assert_eq!(reader.leaves_it_open(), !matches!(frame, Frame::UntilClose));
        prop_assert_eq!(&reader.head().values, &["7".to_owned()]);
    }

    #[test]
    fn whatever_comes_in_whatever_pieces_is_read_the_same_way(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        begins in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let start: &[u8] = if begins { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" } else { b"" };
        let octets = [start, &noise].concat();
        let seen = |read: Result<Option<Reader<'_>>, Malformed>| {
            read.map(|reader| reader.map(|reader| (reader.head().status, reader.body().to_vec())))
        };
        // What is wrong is told in the same words; it may be seen before all is there, never after.
        prop_assert_eq!(seen(read(&[&octets])), seen(read(&pieces(&octets, &cuts))));
    }
}
