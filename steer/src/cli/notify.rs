//! `steer notify`

use clap::Subcommand;

use super::AdminArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Each channel: what waits for it, how it is; and the dead letters, which were not taken.
    List {
        #[command(flatten)]
        admin: AdminArgs,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a test letter by a channel, past all that waits, and say what came of it.
    Test {
        /// `name` of a `[[notify]]`.
        #[arg(value_name = "CHANNEL")]
        channel: String,
        #[command(flatten)]
        admin: AdminArgs,
        /// Print what came of it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters of a channel again, with the ids they had: all of them, or some.
    Resend {
        /// `name` of a `[[notify]]`.
        #[arg(value_name = "CHANNEL")]
        channel: String,
        /// Ids, as `steer notify list` shows them.
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        admin: AdminArgs,
        /// Print what came of it as JSON.
        #[arg(long)]
        json: bool,
    },
}
