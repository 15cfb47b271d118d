//! A client of an RPKI cache (RTR: RFC 8210, and RFC 6810 where the cache knows no more): would our own
//! announcements be valid for those who drop what is invalid (RFC 6811)?
//!
//! ```text
//! cache ──► driver ──► Client (sans-IO) ──► VRPs that cover our prefixes ──► validity ──► status, gauge, one warning
//!                        └─ pdu: the strict codec
//! ```
//!
//! Of all that a cache sends only what covers a prefix of ours is kept. Nothing here withdraws a route: a wrong
//! ROA must not take a service down where nobody looks at ROAs.

mod client;
mod driver;
mod pdu;
mod validity;

#[cfg(test)]
mod tests;

pub use client::{Action, Client, Input, MAX_VRPS, State};
pub use driver::{RouteValidity, RpkiStatus};
pub(crate) use driver::{Watch, watch};
pub use pdu::{Malformed, Pdu, Timing, Version, Vrp, code, encode, take_pdu};
pub use validity::{Validity, validate};
