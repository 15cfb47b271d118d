//! Long lines: a link between two nodes that delays, loses, repeats, reorders and spoils frames, as a scenario says.
//!
//! ```text
//! topology: fra:eth1 ─────────────────── core:eth3        [[wan]] link = ["fra:eth1", "core:eth3"]
//! built:    fra:eth1 ── wan:w0a  queue → frames → w0b ── core:eth3
//! ```
//!
//! The queue is in user space, because the kernel's own (netem) is a module that many kernels lack. Each direction has a
//! thread of its own in the namespace of the node `wan`; [`queue`] knows neither sockets nor a clock. How late
//! frames left, beyond what was asked for, is counted and printed with the result: that is the precision of the delays.
//!
//! Gap: the kernel's netem is not used where it is there, so that one run is like another.

mod driver;
mod precision;
mod queue;
mod socket;
mod spec;
#[cfg(test)]
mod tests;

pub(crate) use driver::Lines;
pub use spec::Wan;
pub(crate) use spec::{insert, parse, wrong};
