//! Exit codes and how an error reaches the operator.

use std::process::ExitCode;

use steer_topology::report::{self, Sources};
use steer_topology::{Fault, Faults};

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is at fault: exit code 2.
    #[error(transparent)]
    Configuration(#[from] Faults),
    /// The command line is at fault: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something failed at run time: exit code 1.
    #[error("{0}")]
    Runtime(String),
}

impl Failure {
    /// A run-time failure with its whole chain of causes in one line.
    pub(crate) fn runtime(doing: &str, error: &dyn std::error::Error) -> Self {
        let mut text = format!("{doing}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Runtime(text)
    }

    /// Prints the failure to stderr: excerpts on a terminal, a line per fault elsewhere.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Configuration(faults) => {
                report_faults(faults);
                ExitCode::from(2)
            }
            Self::Usage(message) => {
                eprintln!("steer: {message}");
                ExitCode::from(2)
            }
            Self::Runtime(message) => {
                eprintln!("steer: {message}");
                ExitCode::from(1)
            }
        }
    }
}

fn color() -> bool {
    std::env::var_os("NO_COLOR").is_none()
}

/// Prints to stderr what refuses nothing.
pub(crate) fn report_warnings(warnings: &[Fault]) {
    if warnings.is_empty() {
        return;
    }
    let count = warnings.len();
    let noun = if count == 1 { "warning" } else { "warnings" };
    print_faults(&Faults(warnings.to_vec()));
    eprintln!("steer: {count} {noun}; the zones are served as they stand");
}

fn print_faults(faults: &Faults) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("{}", report::render(faults, &Sources::read(faults), color()));
    } else {
        eprintln!("{faults}");
    }
}

fn report_faults(faults: &Faults) {
    let count = faults.0.len();
    let noun = if count == 1 { "fault" } else { "faults" };
    print_faults(faults);
    eprintln!("steer: {count} {noun} in the configuration; nothing was started");
}
