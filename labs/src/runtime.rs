//! Where a lab's nodes live: namespaces of our own, or containers that the real containerlab deploys.

pub(crate) mod containerlab;
pub(crate) mod deployed;
pub(crate) mod docker;
mod hosts;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What builds the nodes of a topology. Whatever it is, observers and clients enter the nodes' network namespaces, and
/// processes are known by the host's pid, so that all that is measured is measured by the same code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Built in: network namespaces. Needs root.
    #[default]
    Netns,
    /// The program `containerlab` with Docker: each node is a container of the topology's image.
    Containerlab,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netns => "netns",
            Self::Containerlab => "containerlab",
        })
    }
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "netns" => Ok(Self::Netns),
            "containerlab" => Ok(Self::Containerlab),
            other => Err(format!(
                "`{other}` is no runtime: write `netns` or `containerlab`"
            )),
        }
    }
}
