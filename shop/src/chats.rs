//! Streams that stay open: each says something every second in a room of its own, and hears it again. One whose
//! connection is going (GOAWAY) is ended in good order and begun anew.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::channel::Channel;
use crate::generated::shop::ChatMessage;
use crate::journal::{Entry, Journal, now_us};
use crate::load::Load;
use crate::pulse::Pulse;
use crate::wire::{Hearing, Link, Lost, framed};

const METHOD: &str = "/shop.UserService/Chat";

/// Between two messages of a stream.
const EVERY: Duration = Duration::from_secs(1);

/// A stream is broken when it does not begin, or a message is not heard again, within this.
const ECHO_MAX: Duration = Duration::from_secs(1);

/// Connections that share the streams.
const CHANNELS: usize = 2;

/// Between two attempts to begin.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Chats {
    channels: Vec<Channel>,
    name: String,
    streams: u32,
    journal: Arc<Journal>,
    pulse: Arc<Pulse>,
}

impl Chats {
    pub(crate) fn new(load: &Load, journal: Arc<Journal>, pulse: Arc<Pulse>) -> Self {
        Self {
            channels: (0..CHANNELS).map(|_| Channel::new(load.edge)).collect(),
            name: load.name.clone(),
            streams: load.streams,
            journal,
            pulse,
        }
    }

    /// Until it is stopped and every stream has ended.
    pub(crate) async fn run(self: Arc<Self>, stopped: watch::Receiver<bool>) -> io::Result<()> {
        let mut streams = JoinSet::new();
        for number in 0..self.streams {
            streams.spawn(Arc::clone(&self).keep_open(number, stopped.clone()));
        }
        while let Some(ended) = streams.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }

    async fn keep_open(self: Arc<Self>, number: u32, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
        // Spread over the time between two messages.
        sleep(EVERY.mul_f64(f64::from(number) / f64::from(self.streams.max(1)))).await;
        let stream = format!("{}-{number}", self.name);
        while !*stopped.borrow() {
            let channel = &self.channels[number as usize % CHANNELS];
            let Some((link, body, hearing, due)) = self.begin(channel, &stream).await else {
                self.pulse.note(false);
                sleep(PAUSE).await;
                continue;
            };
            self.journal.write(&Entry::Opened {
                stream: stream.clone(),
                at_us: now_us(),
            })?;
            self.pulse.opened();
            let talked = self
                .talk(&stream, &link, body, hearing, due, &mut stopped)
                .await?;
            self.pulse.ended();
            let broken = talked.err();
            if let Some(error) = &broken {
                self.pulse.note(false);
                if matches!(error, Lost::Late) {
                    channel.give_up(&link).await;
                }
            }
            self.journal.write(&Entry::Ended {
                stream: stream.clone(),
                at_us: now_us(),
                broken: broken.map(|error| error.to_string()),
            })?;
        }
        Ok(())
    }

    async fn begin(
        &self,
        channel: &Channel,
        room: &str,
    ) -> Option<(Link, SendStream<Bytes>, Hearing, Instant)> {
        let link = channel.link().await.ok()?;
        let due = Instant::now();
        match timeout(ECHO_MAX, link.stream(METHOD, &self.message(room))).await {
            Ok(Ok((body, hearing))) => Some((link, body, hearing, due)),
            Ok(Err(_)) => None,
            Err(_) => {
                channel.give_up(&link).await;
                None
            }
        }
    }

    fn message(&self, room: &str) -> ChatMessage {
        ChatMessage {
            from: self.name.clone(),
            text: "anybody there?".to_owned(),
            room: room.to_owned(),
        }
    }

    /// Says and hears until the connection is going, or it is stopped, or something breaks.
    async fn talk(
        &self,
        room: &str,
        link: &Link,
        mut body: SendStream<Bytes>,
        mut hearing: Hearing,
        mut due: Instant,
        stopped: &mut watch::Receiver<bool>,
    ) -> io::Result<Result<(), Lost>> {
        loop {
            match timeout_at(due + ECHO_MAX, hearing.next::<ChatMessage>()).await {
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => return Ok(Err(Lost::Strange("it ended by itself"))),
                Ok(Err(error)) => return Ok(Err(error)),
                Err(_) => return Ok(Err(Lost::Late)),
            }
            let took_us = i64::try_from(due.elapsed().as_micros()).unwrap_or(i64::MAX);
            self.journal.write(&Entry::Echo {
                stream: room.to_owned(),
                at_us: now_us() - took_us,
                took_us,
            })?;
            due += EVERY;
            let is_over = tokio::select! {
                () = sleep_until(due) => false,
                () = link.going() => true,
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            if is_over {
                return Ok(end(body, hearing).await);
            }
            if let Err(error) = body.send_data(framed(&self.message(room)), false) {
                return Ok(Err(error.into()));
            }
        }
    }
}

/// Nothing more is said; waits until the other side says so too.
async fn end(mut body: SendStream<Bytes>, mut hearing: Hearing) -> Result<(), Lost> {
    body.send_data(Bytes::new(), true)?;
    let trailers = timeout(ECHO_MAX, hearing.trailers(&HeaderMap::new())).await;
    trailers.map_err(|_| Lost::Late)?.map(drop)
}
