//! A client whose server streams go on elsewhere after they were cut: the driver of a [`Reader`].

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, request};
use http_body::{Body, Frame};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tower_service::Service as _;

use super::run::refusal;
use super::{Answer, Client};
use crate::edge::keep::KEEP_MAX;
use crate::edge::reply;
use crate::fate::{Code, Deadline, FATE_HEADER, Fate, TIMEOUT_HEADER};
use crate::resume::{Do, Event, Frames, Limits, Mark, Reader};

/// Octets of one message of such a stream.
const MESSAGE_MAX: usize = 16 << 20;

/// A client, and which of its methods are server streams that may be asked for again. Clones are the same.
#[derive(Debug, Clone)]
pub struct Resuming {
    client: Client,
    methods: Arc<BTreeSet<String>>,
    limits: Limits,
}

impl Client {
    /// With these methods (`/package.Service/Method`), which must be server streams: when one is cut and its service has said where
    /// it can go on, it is asked for again, on whichever target there is.
    #[must_use]
    pub fn resuming(self, methods: &[&str], limits: Limits) -> Resuming {
        Resuming {
            client: self,
            methods: Arc::new(methods.iter().map(|&method| method.to_owned()).collect()),
            limits,
        }
    }
}

impl<B> tower_service::Service<Request<B>> for Resuming
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Messages>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut this = self.clone();
        if !self.methods.contains(request.uri().path()) {
            let plain = this.client.call(request);
            return Box::pin(async move { Ok(plain.await?.map(Messages::plain)) });
        }
        Box::pin(async move { Ok(this.open(request).await) })
    }
}

impl Resuming {
    async fn open<B: Body<Data = Bytes>>(mut self, request: Request<B>) -> Response<Messages> {
        let (head, body) = request.into_parts();
        let refuse = |code, words: &str| refusal(code, Fate::NotSent, words).map(Messages::plain);
        let octets = match collect(body).await {
            Ok(octets) => octets,
            Err(words) => return refuse(Code::ResourceExhausted, words),
        };
        let deadline = match self.client.deadline(&head, Instant::now()) {
            Ok(deadline) => deadline,
            Err(fault) => return refuse(Code::Internal, &fault),
        };
        let asked = Asked {
            head,
            octets,
            deadline,
        };
        let mut reader = Reader::new(self.limits);
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        let mut request = asked.request(None);
        *request.extensions_mut() = asked.head.extensions.clone();
        let Ok(answer) = self.client.call(request).await;
        let (head, body) = answer.into_parts();
        // A service that names no place, or a wrong one, has a stream that cannot go on.
        let mark = Mark::read(&head.headers).unwrap_or_else(|error| {
            tracing::warn!(%error, "a stream without a place");
            None
        });
        if mark.is_none() || head.headers.contains_key("grpc-status") {
            return Response::from_parts(head, Messages::plain(body));
        }
        reader.on_event(Event::Opened(mark), &mut rng);
        let encoding = head.headers.get("grpc-encoding").cloned();
        let stream = Stream {
            client: self.client,
            asked,
            reader,
            rng,
            frames: Frames::new(MESSAGE_MAX),
            ready: VecDeque::new(),
            link: Link::Open(body),
            encoding,
        };
        Response::from_parts(head, Messages(Inner::Stream(Box::new(stream))))
    }
}

/// All of a request; the one of a server stream is one message.
async fn collect<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, &'static str> {
    let mut body = std::pin::pin!(body);
    let mut octets = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(drop)).await {
        let Ok(frame) = frame else {
            return Err("the request was broken off");
        };
        if let Ok(chunk) = frame.into_data() {
            if octets.len() + chunk.len() > KEEP_MAX {
                return Err("a stream that may be asked for again has a request of 256 KiB at most");
            }
            octets.extend_from_slice(&chunk);
        }
    }
    Ok(octets.freeze())
}

/// What was asked for, to be asked for again.
struct Asked {
    head: request::Parts,
    octets: Bytes,
    deadline: Deadline,
}

impl Asked {
    fn request(&self, mark: Option<&Mark>) -> Request<Octets> {
        let mut request = Request::new(Octets(Some(self.octets.clone())));
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        let headers = request.headers_mut();
        if let Some(left) = self
            .deadline
            .forwarded(Instant::now())
            .and_then(|left| HeaderValue::try_from(left).ok())
        {
            headers.insert(TIMEOUT_HEADER, left);
        }
        if let Some(mark) = mark {
            mark.write(headers);
        }
        request
    }
}

/// A request that is known.
struct Octets(Option<Bytes>);

impl Body for Octets {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|octets| Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// The messages of an answer.
pub struct Messages(Inner);

enum Inner {
    Plain(Answer),
    Stream(Box<Stream>),
    Over,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl Messages {
    const fn plain(answer: Answer) -> Self {
        Self(Inner::Plain(answer))
    }
}

type Opening = Pin<Box<dyn Future<Output = Response<Answer>> + Send>>;

/// Where messages come from now.
enum Link {
    Open(Answer),
    Opening(Opening),
}

struct Stream {
    client: Client,
    asked: Asked,
    reader: Reader,
    rng: SmallRng,
    frames: Frames,
    ready: VecDeque<Bytes>,
    link: Link,
    encoding: Option<HeaderValue>,
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.0 {
            Inner::Plain(answer) => return Pin::new(answer).poll_frame(cx),
            Inner::Over => return Poll::Ready(None),
            Inner::Stream(stream) => ready!(stream.poll(cx)),
        };
        if frame.is_trailers() {
            self.0 = Inner::Over;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Plain(answer) => answer.is_end_stream(),
            Inner::Stream(_) => false,
            Inner::Over => true,
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Poll::Ready(Frame::data(message));
            }
            let ended = match &mut self.link {
                Link::Opening(opening) => {
                    let answer = ready!(opening.as_mut().poll(cx));
                    self.on_head(answer)
                }
                Link::Open(answer) => {
                    let Some(Ok(frame)) = ready!(Pin::new(answer).poll_frame(cx)) else {
                        // An answer ends in trailers; only one with a fault comes here.
                        return Poll::Ready(trailers(Code::Internal, "the answer has no end"));
                    };
                    match frame.into_data() {
                        Ok(chunk) => self.on_chunk(&chunk),
                        Err(frame) => self.on_end(frame.into_trailers().unwrap_or_default()),
                    }
                }
            };
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
        }
    }

    fn on_head(&mut self, answer: Response<Answer>) -> Option<Frame<Bytes>> {
        let (head, body) = answer.into_parts();
        if head.headers.contains_key("grpc-status") {
            return self.on_end(head.headers);
        }
        if head.headers.get("grpc-encoding") != self.encoding.as_ref() {
            return Some(trailers(Code::DataLoss, "the stream goes on in another encoding"));
        }
        let mark = match Mark::read(&head.headers) {
            Ok(mark) => mark,
            Err(error) => return Some(trailers(Code::DataLoss, &error.to_string())),
        };
        self.link = Link::Open(body);
        metrics::counter!("steer_rpc_streams_resumed_total").increment(1);
        let next = self.reader.on_event(Event::Opened(mark), &mut self.rng);
        self.obey(next, None, HeaderMap::new())
    }

    fn on_chunk(&mut self, chunk: &[u8]) -> Option<Frame<Bytes>> {
        self.frames.push(chunk);
        loop {
            match self.frames.next_message() {
                Ok(None) => return None,
                Ok(Some(message)) => {
                    let next = self.reader.on_event(Event::Message, &mut self.rng);
                    let ended = self.obey(next, Some(message), HeaderMap::new());
                    if ended.is_some() {
                        return ended;
                    }
                }
                Err(error) => return Some(trailers(Code::ResourceExhausted, &error.to_string())),
            }
        }
    }

    /// The end of what came over one connection.
    fn on_end(&mut self, said: HeaderMap) -> Option<Frame<Bytes>> {
        let event = if is_cut(&said) { Event::Cut } else { Event::Ended };
        self.frames.clear();
        let next = self.reader.on_event(event, &mut self.rng);
        self.obey(next, None, said)
    }

    /// Does what the reader wants; the last frame, where it is the end.
    fn obey(&mut self, mut next: Do, message: Option<Bytes>, said: HeaderMap) -> Option<Frame<Bytes>> {
        if let Do::Wait(wait) = next {
            if !self.asked.deadline.leaves(wait, Instant::now()) {
                return Some(Frame::trailers(said));
            }
            next = self.reader.on_event(Event::Due, &mut self.rng);
            if let Do::Open(mark) = next {
                self.link = Link::Opening(self.reopen(wait, &mark));
                return None;
            }
        }
        match next {
            Do::Pass => self.ready.extend(message),
            Do::Drop => metrics::counter!("steer_rpc_stream_messages_dropped_total").increment(1),
            Do::Nothing | Do::Wait(_) | Do::Open(_) => {}
            Do::End => return Some(Frame::trailers(said)),
            Do::Fail(why) => return Some(trailers(Code::DataLoss, &why.to_string())),
        }
        None
    }

    fn reopen(&self, wait: std::time::Duration, mark: &Mark) -> Opening {
        let mut client = self.client.clone();
        let mut request = self.asked.request(Some(mark));
        let deadline = self.asked.deadline;
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            // Less is left than when it was written.
            if let Some(left) = deadline
                .forwarded(Instant::now())
                .and_then(|left| HeaderValue::try_from(left).ok())
            {
                request.headers_mut().insert(TIMEOUT_HEADER, left);
            }
            let Ok(answer) = client.call(request).await;
            answer
        })
    }
}

/// Whether a status says that the stream was lost, and not that it has ended.
fn is_cut(said: &HeaderMap) -> bool {
    let value = |name: &str| said.get(name).map(HeaderValue::as_bytes);
    let code = value("grpc-status").map_or(Code::Unknown, Code::parse);
    code == Code::Unavailable && value(FATE_HEADER) != Some(Fate::Committed.name().as_bytes())
}

/// The application has had a part of it, and will not get the rest.
fn trailers(code: Code, words: &str) -> Frame<Bytes> {
    Frame::trailers(reply::trailers(code, Fate::Ambiguous, words))
}
