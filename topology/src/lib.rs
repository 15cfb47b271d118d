//! The shared vocabulary of `steer`: the checked configuration, sites, pools, prefixes, geography.
//!
//! ```text
//! steer.toml ─► document (spans kept) ─► raw ─► check ─► Fleet          one Fault per mistake, all in one run
//! *.mmdb ─────► Geography ─► Classes    every address belongs to exactly one client class
//! ```
//!
//! This crate opens no socket and asks no clock. Reading files is all the I/O it does; resolving a host name
//! is a function that the caller hands in.

pub mod airports;
pub mod announcement;
pub mod checking;
pub mod class;
pub mod config;
pub mod country;
pub mod etcd;
pub mod fault;
pub mod fleet;
pub mod geography;
pub mod latency;
pub mod name;
pub mod name_server;
pub mod notify;
pub mod peering;
pub mod prefix;
pub mod record;
pub mod report;
pub mod steering;

pub use announcement::*;
pub use checking::*;
pub use class::{Class, ClassId, Classes, Found};
pub use config::{Resolve, UnknownSite, parse_duration};
pub use country::{Continent, CountryCode, Position, distance_km};
pub use etcd::*;
pub use fault::{Fault, Faults};
pub use fleet::*;
pub use geography::{Geography, Located, Place};
pub use latency::Latency;
pub use name::Name;
pub use name_server::{CookieUse, Dns, Nat64, Rrl, Tls};
pub use notify::*;
pub use peering::*;
pub use prefix::{Asn, Prefix};
pub use record::*;
pub use steering::*;
