//! A stream of NATS JetStream as a sink. The server knows a message by `Nats-Msg-Id` for as long as the stream's
//! `duplicate_window`, and takes it once.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;

use super::{Letter, Sink, SinkError};

/// The header by which the server knows a message again.
const ID: &str = "Nats-Msg-Id";

/// The header that names the partition.
const PARTITION: &str = "steer-partition";

/// Publishes to the stream that has a row's subject.
#[derive(Debug, Clone)]
pub struct JetStream {
    context: Context,
    wait: Duration,
}

impl JetStream {
    /// With a connection that is there; so long an acknowledgement may take.
    #[must_use]
    pub fn new(client: async_nats::Client, wait: Duration) -> Self {
        let mut context = async_nats::jetstream::new(client);
        context.set_timeout(wait);
        Self { context, wait }
    }

    async fn publish(&self, letter: &Letter) -> Result<(), SinkError> {
        let mut headers = HeaderMap::new();
        headers.insert(ID, letter.id.as_str());
        headers.insert(PARTITION, letter.partition.as_str());
        let published =
            self.context
                .publish_with_headers(letter.subject.clone(), headers, letter.payload.clone());
        let ack = published
            .await
            .map_err(|error| of(error.kind(), &error.to_string()))?;
        let ack = ack.await.map_err(|error| of(error.kind(), &error.to_string()))?;
        if ack.duplicate {
            metrics::counter!("steer_rpc_outbox_known_total").increment(1);
        }
        Ok(())
    }
}

fn of(kind: PublishErrorKind, words: &str) -> SinkError {
    let words = words.to_owned();
    match kind {
        // A stream that is not there yet, a server that is gone: none of it is the row's fault.
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::TimedOut
        | PublishErrorKind::MaxAckPending => SinkError::Away(words),
        PublishErrorKind::MaxPayloadExceeded => SinkError::Refused(words),
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::Other => SinkError::Failed(words),
    }
}

impl Sink for JetStream {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        if !is_subject(&letter.subject) {
            return Err(SinkError::Refused(format!(
                "{:?} is no subject of NATS: words with dots between them, without spaces, * and > are wanted",
                letter.subject
            )));
        }
        if letter.partition.contains(['\r', '\n']) {
            return Err(SinkError::Refused(format!(
                "the partition {:?} has the end of a line in it, and no header can have one",
                letter.partition
            )));
        }
        // A client that has lost its server keeps what is published and goes on waiting.
        let told = tokio::time::timeout(self.wait * 2, self.publish(letter)).await;
        told.unwrap_or_else(|_| {
            Err(SinkError::Away(format!(
                "no word of the server within {:?}",
                self.wait * 2
            )))
        })
    }
}

fn is_subject(subject: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && !word.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>'))
    };
    subject.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_subject_is_told_from_one_that_is() {
        for subject in ["shop.charged", "a", "a.b-c.d_e"] {
            assert!(is_subject(subject), "{subject}");
        }
        for subject in ["", ".", "a.", "a b", "a.*", ">", "a\n"] {
            assert!(!is_subject(subject), "{subject}");
        }
    }
}
