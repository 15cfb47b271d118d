//! Streams that go on elsewhere after they were cut. No socket, no task, no clock.
//!
//! ```text
//! server stream   head: steer-stream, steer-stream-next ─► Reader: numbers its messages ─► the application, each once
//!                 cut ─► the same request with the number that is wanted next ─► on any edge, by any service that can
//! client stream   message n has the key of its call and n ([`crate::key::IdempotencyKey::of_message`]), so the service
//!                 does each once, however often all of it is sent again
//! ```
//!
//! Messages have no place for a number of their own, so they are counted: the head of an answer tells the number of the
//! first message that follows. A service tells it only where it can begin in the midst: it has the messages in an order that stays
//! (rows by their keys, a log), or it keeps the last ones in a [`Window`]. One that cannot go on where it is asked to
//! says OUT_OF_RANGE, and the application hears that: nothing is left out silently.

mod frames;
mod mark;
mod reader;
mod window;

pub use frames::{Frames, TooLong};
pub use mark::{InvalidMark, Mark, NEXT_HEADER, STREAM_HEADER, StreamToken};
pub use reader::{Do, Event, Limits, Reader, State, Why};
pub use window::{Gone, Window};
