//! Failure detection on the path to a peer: BFD (RFC 5880), single hop (RFC 5881) and multihop (RFC 5883).
//!
//! ```text
//!            ┌──────────── a thread of its own, real-time where permitted ────────────┐
//! UDP 3784 ──┤ wire ─► refused, counted        step(state, trigger) ─► state           ├─► watch<Path> ─► speaker
//! UDP 4784 ──┤   └───► session machine ◄──────┘   sans-IO: now and packets in,         │      Up, Down, ..
//!            └─────────────── │ ──────────────────── packets and paths out ────────────┘
//!                             └─► UDP, TTL 255
//! ```
//!
//! `wire` is the codec, `auth` the keyed digests, `session` the protocol without socket or clock, `driver` the
//! thread around it. A session tells its [`Path`] through a `watch`: what a client of BFD does with it (RFC 5882)
//! is the speaker's business.
//!
//! Asynchronous mode. The peer's Demand mode is honoured; ours is never asked for. The Echo function is not
//! offered. BFD shares the fate of this process, so the Control Plane Independent bit is 0 (RFC 5882 §4.3).

mod auth;
mod driver;
mod session;
mod status;
mod target;
pub mod wire;

pub use auth::{Auth, InvalidKey};
pub use driver::{Bfd, BfdError, BfdService, Id, MAX_SESSIONS, Ports, Priority};
pub use session::{
    Config, Effect, Intervals, Octets, Output, PathState, Picture, Role, SLOW, Session, State, Trigger, step,
};
pub use status::{BfdStatus, LastDown, Path};
pub use target::{Hops, Target, TargetError};
