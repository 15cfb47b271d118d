//! A request's octets, kept as long as the call may be sent again, and read by one or more attempts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use tokio::sync::Notify;

use super::meter::{Messages, Tally};
use super::web::Text;

/// So much of a request is kept (gRFC A6 leaves the bound to us). What is longer is passed on and not sent again.
pub(crate) const KEEP_MAX: usize = 256 << 10;

/// A request that is read by attempts. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Arc<State>);

#[derive(Debug)]
struct State {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    chunks: VecDeque<Bytes>,
    /// The number of the first of them; those before it are gone.
    first: usize,
    octets: usize,
    end: Option<End>,
    replayable: bool,
    received: Messages,
    /// Attempts, and how far each has read.
    readers: Vec<(usize, usize)>,
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// As it should.
    Whole(Option<HeaderMap>),
    /// The client broke it off.
    Broken,
    /// The client says what cannot be read.
    Malformed,
}

/// What an attempt reads.
#[derive(Debug)]
pub(crate) enum Part {
    Chunk {
        octets: Bytes,
        /// Nothing comes after it.
        is_last: bool,
    },
    End(End),
}

impl Kept {
    pub(crate) fn new(ended: bool) -> Self {
        let inner = Inner {
            chunks: VecDeque::new(),
            first: 0,
            octets: 0,
            end: ended.then_some(End::Whole(None)),
            replayable: true,
            received: Messages::new(Tally::new()),
            readers: Vec::new(),
        };
        Self(Arc::new(State {
            inner: inner.into(),
            changed: Notify::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the client's stream to its end. Holds at most [`KEEP_MAX`] octets and one frame; the client's window closes
    /// while nobody reads on.
    pub(super) async fn fill(self, mut body: RecvStream, mut text: Option<Text>) {
        let end = loop {
            match body.data().await {
                None if text.as_ref().is_some_and(|text| !text.is_whole()) => break End::Malformed,
                None => {
                    let trailers = body.trailers().await;
                    break trailers.map_or(End::Broken, End::Whole);
                }
                Some(Err(_)) => break End::Broken,
                Some(Ok(chunk)) => {
                    let length = chunk.len();
                    let read = match &mut text {
                        Some(text) => text.take(&chunk),
                        None => Ok(chunk),
                    };
                    let Ok(chunk) = read else {
                        break End::Malformed;
                    };
                    self.push(chunk);
                    self.room().await;
                    // At the end, too: else it is missing in the window of the connection until the call is over.
                    if body.flow_control().release_capacity(length).is_err() {
                        break End::Broken;
                    }
                    // The end may have come with it; whoever reads it then can send both in one frame.
                    if body.is_end_stream() && text.is_none() {
                        break End::Whole(None);
                    }
                }
            }
        };
        self.finish(end);
    }

    /// The request has come to its end.
    pub(crate) fn finish(&self, end: End) {
        self.lock().end = Some(end);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn push(&self, chunk: Bytes) {
        let mut inner = self.lock();
        inner.received.take(&chunk);
        inner.octets += chunk.len();
        inner.chunks.push_back(chunk);
        inner.replayable &= inner.octets <= KEEP_MAX;
        inner.forget();
        drop(inner);
        self.0.changed.notify_waiters();
    }

    /// Waits until there is room for more.
    pub(crate) async fn room(&self) {
        self.until(|inner| (inner.octets <= KEEP_MAX).then_some(())).await;
    }

    /// Waits until there is something.
    async fn until<T>(&self, look: impl Fn(&mut Inner) -> Option<T>) -> T {
        if let Some(found) = look(&mut self.lock()) {
            return found;
        }
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    /// Whether the client has said what cannot be read.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.lock().end, Some(End::Malformed))
    }

    /// Whether all of it is there for another attempt.
    pub(crate) fn is_replayable(&self) -> bool {
        self.lock().replayable
    }

    /// Becomes true once, when the request is too long to be kept.
    pub(crate) async fn overflowed(&self) {
        self.until(|inner| (!inner.replayable).then_some(())).await;
    }

    /// An answer is passed on: what was read is needed no longer.
    pub(crate) fn let_go(&self) {
        let mut inner = self.lock();
        inner.replayable = false;
        inner.forget();
        drop(inner);
        self.0.changed.notify_waiters();
    }

    /// Whether it has ended without a single octet: then its head is the end of the stream.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.octets == 0 && inner.first == 0 && matches!(inner.end, Some(End::Whole(None)))
    }

    /// Octets of messages that have come.
    pub(super) fn received(&self) -> Tally {
        self.lock().received.tally()
    }

    /// An attempt that reads from the beginning.
    pub(crate) fn reader(&self, attempt: usize) -> Reader {
        self.lock().readers.push((attempt, 0));
        Reader {
            kept: self.clone(),
            attempt,
            sent: Mutex::default(),
        }
    }
}

impl Inner {
    /// Drops what nobody will read any more.
    fn forget(&mut self) {
        if self.replayable {
            return;
        }
        let Some(slowest) = self.readers.iter().map(|(_, at)| *at).min() else {
            return;
        };
        while self.first < slowest {
            let Some(chunk) = self.chunks.pop_front() else {
                return;
            };
            self.octets -= chunk.len();
            self.first += 1;
        }
    }

    fn read(&mut self, attempt: usize) -> Option<Part> {
        let (_, at) = self.readers.iter_mut().find(|(number, _)| *number == attempt)?;
        let place = at.checked_sub(self.first)?;
        if let Some(octets) = self.chunks.get(place).cloned() {
            *at += 1;
            let is_last = place + 1 == self.chunks.len() && matches!(self.end, Some(End::Whole(None)));
            self.forget();
            return Some(Part::Chunk { octets, is_last });
        }
        self.end.clone().map(Part::End)
    }
}

/// The place of an attempt in the request. What it alone still needed is dropped with it.
#[derive(Debug)]
pub(crate) struct Reader {
    kept: Kept,
    attempt: usize,
    sent: Mutex<Messages>,
}

impl Reader {
    /// Counts the octets of messages that are read.
    pub(super) fn counted(mut self, tally: Tally) -> Self {
        self.sent = Messages::new(tally).into();
        self
    }

    pub(crate) async fn next(&self) -> Part {
        let part = self.kept.until(|inner| inner.read(self.attempt)).await;
        if let Part::Chunk { octets, .. } = &part {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.take(octets);
        }
        self.kept.0.changed.notify_waiters();
        part
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.kept.lock();
        inner.readers.retain(|(attempt, _)| *attempt != self.attempt);
        inner.forget();
        drop(inner);
        self.kept.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(part: Part) -> String {
        match part {
            Part::Chunk { octets, .. } => String::from_utf8(octets.to_vec()).unwrap(),
            Part::End(end) => format!("{end:?}"),
        }
    }

    #[tokio::test]
    async fn each_attempt_reads_the_request_from_its_beginning() {
        let kept = Kept::new(false);
        kept.push(Bytes::from("one"));
        let first = kept.reader(0);
        assert_eq!(text(first.next().await), "one");
        kept.push(Bytes::from("two"));
        let second = kept.reader(1);
        for expected in ["one", "two"] {
            assert_eq!(text(second.next().await), expected);
        }
        assert_eq!(text(first.next().await), "two");
        kept.lock().end = Some(End::Whole(None));
        assert_eq!(text(first.next().await), "Whole(None)");
    }

    #[tokio::test]
    async fn what_is_too_long_is_dropped_as_it_is_read_and_not_before() {
        let kept = Kept::new(false);
        let reader = kept.reader(0);
        let slow = kept.reader(1);
        for _ in 0..2 {
            kept.push(Bytes::from(vec![0; KEEP_MAX / 2 + 1]));
        }
        kept.overflowed().await;
        reader.next().await;
        assert_eq!(kept.lock().chunks.len(), 2, "another still needs it");
        drop(slow);
        assert_eq!(kept.lock().chunks.len(), 1);
        kept.room().await;
    }

    #[tokio::test]
    async fn a_chunk_that_the_request_ends_with_says_so_once_the_end_is_known() {
        let kept = Kept::new(false);
        let is_last =
            async |reader: &Reader| matches!(reader.next().await, Part::Chunk { is_last: true, .. });
        kept.push(Bytes::from("one"));
        let early = kept.reader(0);
        assert!(!is_last(&early).await);
        kept.push(Bytes::from("two"));
        kept.finish(End::Whole(None));
        let late = kept.reader(1);
        assert!(!is_last(&late).await);
        assert!(is_last(&late).await);
        let broken = Kept::new(false);
        broken.push(Bytes::from("one"));
        broken.finish(End::Broken);
        assert!(!is_last(&broken.reader(0)).await);
    }

    #[test]
    fn an_empty_request_is_told_from_one_that_has_not_begun() {
        assert!(Kept::new(true).is_empty());
        let kept = Kept::new(false);
        assert!(!kept.is_empty());
        kept.push(Bytes::from("x"));
        kept.lock().end = Some(End::Whole(None));
        assert!(!kept.is_empty());
    }
}
