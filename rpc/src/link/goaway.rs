//! The greeting of a peer, and the last stream of its GOAWAY, read off the octets that a connection receives.
//!
//! h2 tells a stream's error, and with a GOAWAY before it the same error for streams above its last one and for streams
//! below it that broke later. Only the number tells them apart, and it is not told. So the frames are followed here: a
//! frame header is nine octets (RFC 9113 §4.1), and all but SETTINGS (§6.5) and GOAWAY (§6.8) is skipped.
//!
//! The greeting is the peer's first SETTINGS (§3.4). A server of TLS 1.3 looks at our certificate after our side of the
//! handshake is done, so only its greeting tells that it takes us; what is sent before may be lost, and in doubt.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

const HEADER: usize = 9;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Settings,
    /// With its last stream.
    Goaway(u32),
}

/// Follows frames in pieces of any size. Sans-IO.
#[derive(Debug, Default)]
struct Follow {
    /// Of the header, and of the first four octets of a GOAWAY.
    kept: Vec<u8>,
    /// Octets of a payload that are of no interest.
    skip: usize,
}

impl Follow {
    /// Takes octets; gives what is in them to `found`.
    fn take(&mut self, mut octets: &[u8], mut found: impl FnMut(Found)) {
        while !octets.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(octets.len());
                self.skip -= skipped;
                octets = &octets[skipped..];
                continue;
            }
            let (first, rest) = (octets[0], &octets[1..]);
            self.kept.push(first);
            octets = rest;
            self.look(&mut found);
        }
    }

    fn look(&mut self, found: &mut impl FnMut(Found)) {
        let Some(([l0, l1, l2, kind, ..], payload)) = self.kept.split_first_chunk::<HEADER>() else {
            return;
        };
        let length = usize::from(*l0) << 16 | usize::from(*l1) << 8 | usize::from(*l2);
        if *kind == SETTINGS && payload.is_empty() {
            found(Found::Settings);
        }
        if *kind != GOAWAY || length < 4 {
            self.skip = length;
            self.kept.clear();
        } else if let Some((last, _)) = payload.split_first_chunk::<4>() {
            found(Found::Goaway(u32::from_be_bytes(*last) & 0x7fff_ffff)); // the first bit is reserved
            self.skip = length - 4;
            self.kept.clear();
        }
    }
}

/// The last stream that the peer will look at; all while there was no GOAWAY.
#[derive(Debug, Clone)]
pub(super) struct LastStream(Arc<AtomicU32>);

impl LastStream {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether the peer has greeted.
#[derive(Debug)]
pub(super) struct Greeting(watch::Receiver<bool>);

impl Greeting {
    /// Waits for it. `false` when the connection ends without.
    pub(super) async fn came(&mut self) -> bool {
        self.0.wait_for(|came| *came).await.is_ok()
    }
}

/// A connection whose incoming frames are followed.
pub(super) struct Followed<T> {
    io: T,
    follow: Follow,
    last: Arc<AtomicU32>,
    greeted: watch::Sender<bool>,
}

impl<T> Followed<T> {
    pub(super) fn new(io: T) -> (Self, LastStream) {
        let last = Arc::new(AtomicU32::new(u32::MAX));
        let followed = Self {
            io,
            follow: Follow::default(),
            last: last.clone(),
            greeted: watch::Sender::new(false),
        };
        (followed, LastStream(last))
    }

    pub(super) fn greeting(&self) -> Greeting {
        Greeting(self.greeted.subscribe())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Followed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let this = &mut *self;
        let note = |found| match found {
            Found::Settings => {
                this.greeted
                    .send_if_modified(|came| !std::mem::replace(came, true));
            }
            // §6.8: "Endpoints MUST NOT increase the value they send in the last stream identifier".
            Found::Goaway(last) => _ = this.last.fetch_min(last, Ordering::AcqRel),
        };
        this.follow.take(&buf.filled()[before..], note);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Followed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn goaway(last: u32, debug: &[u8]) -> Vec<u8> {
        frame(GOAWAY, &[&last.to_be_bytes()[..], &[0, 0, 0, 0], debug].concat())
    }

    proptest! {
        #[test]
        fn a_goaway_is_found_among_other_frames_in_pieces_of_any_size(
            before in prop::collection::vec((0_u8..4, prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            last in 0_u32..0x8000_0000, debug in prop::collection::vec(any::<u8>(), 0..20), piece in 1_usize..20
        ) {
            let mut octets: Vec<u8> = before.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            octets.extend(goaway(last, &debug));
            octets.extend(frame(0, b"after"));
            octets.extend(frame(SETTINGS, &debug));
            octets.extend(goaway(1, b""));
            let (mut follow, mut found) = (Follow::default(), Vec::new());
            for piece in octets.chunks(piece) {
                follow.take(piece, |one| found.push(one));
            }
            prop_assert_eq!(found, [Found::Goaway(last), Found::Settings, Found::Goaway(1)]);
        }
    }

    #[test]
    fn a_goaway_that_is_too_short_is_skipped_and_the_reserved_bit_ignored() {
        let (mut follow, mut found) = (Follow::default(), Vec::new());
        let octets = [frame(GOAWAY, &[0, 0]), goaway(0x8000_0005, b"")].concat();
        follow.take(&octets, |one| found.push(one));
        assert_eq!(found, [Found::Goaway(5)]);
    }
}
