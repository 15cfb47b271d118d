//! Failover labs: rehearse in network namespaces what production will do.
//!
//! ```text
//! netns ──► World: nodes, links, processes; removed with everything inside
//! wait  ──► conditions instead of sleeps
//! ```

pub mod netns;
pub mod wait;
