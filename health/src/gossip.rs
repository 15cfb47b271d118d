//! What the sites tell each other, and the verdict that they come to together.
//!
//! ```text
//! own checks ─► observations ─► store ◄─► spread, pull, stream ◄─► the other sites
//!                                 │              ▲
//!                                 ▼              └ envelope (AEAD), membership (SWIM)
//!                              quorum ─► verdicts on endpoints elsewhere ─► Judge
//! ```
//!
//! [`Gossip`] is the whole of one site's end without sockets and clocks; [`driver`] carries its datagrams and streams.
//! [`Agreement`] asks [`quorum`] what follows for each endpoint. [`Council`] is both, and the desk to the checks.

pub mod agreement;
pub mod core;
pub mod council;
pub mod desk;
pub mod driver;
pub mod isolation;
pub mod keys;
pub mod member;
pub mod moment;
pub mod observation;
pub mod quorum;
pub mod rollout;
pub mod seal;
pub mod site;
pub mod spread;
pub(crate) mod standing;
pub mod store;
pub mod swim;
pub(crate) mod vantage;
pub mod wire;

#[cfg(test)]
mod sim;

pub use self::agreement::Agreement;
pub use self::core::{Action, Gossip, Own};
pub use self::council::Council;
pub use driver::{GossipHandle, GossipService, GossipSockets, GossipUnavailable, GossipView};
pub use keys::{BadKeys, Keys};
pub use moment::Moment;
pub use seal::Dropped;
pub use site::{Roster, SiteName};
