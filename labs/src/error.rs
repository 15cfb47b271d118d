//! Why a lab did not run to its end.

use std::path::PathBuf;

use steer_topology::Faults;

use crate::netns::NetError;

/// A lab could not be run. Nothing is left behind but what `kept` names.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No such lab.
    #[error("there is no lab `{name}`; shipped are: {shipped}; or name a folder with a .clab.yml file")]
    Unknown {
        /// As asked for.
        name: String,
        /// What there is.
        shipped: String,
    },
    /// The topology or the scenario is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// A program of the lab is not installed.
    #[error("the lab needs `{program}`, which was not found: {remedy}")]
    Missing {
        /// Its name or path.
        program: String,
        /// What to do.
        remedy: String,
    },
    /// The network could not be made.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Something did not happen in time, or a process ended on its own.
    #[error("{what}{}", kept_at(kept.as_ref()))]
    Failed {
        /// What was waited for, and what was seen last.
        what: String,
        /// Where logs, routes and captures are.
        kept: Option<PathBuf>,
    },
    /// Files.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
}

impl LabError {
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            kept: None,
        }
    }

    /// With the variant that it happened to in front.
    pub(crate) fn of_variant(self, variant: &str) -> Self {
        match self {
            Self::Failed { what, kept } if !variant.is_empty() => Self::Failed {
                what: format!("{variant}: {what}"),
                kept,
            },
            other @ (Self::Unknown { .. }
            | Self::Faults(_)
            | Self::Missing { .. }
            | Self::Net(_)
            | Self::Failed { .. }
            | Self::Io { .. }) => other,
        }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            what,
            path: path.into(),
            source,
        }
    }
}

fn kept_at(kept: Option<&PathBuf>) -> String {
    kept.map(|path| format!("\nlogs, routes and captures of every node: {}", path.display()))
        .unwrap_or_default()
}
