//! `steer lab shop`: what the lab `rpc-edge` puts behind the edge and before it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ShopCommand {
    /// UserService and PaymentService, with their ledger in PostgreSQL. The tables are made if they are missing.
    Serve(ShopServeArgs),
    /// A client: charges in an open loop, each with a key of its own, and streams that stay open. A line of JSON each
    /// second; until SIGTERM, and then until everything that was begun has ended.
    Load(ShopLoadArgs),
    /// Count lost and double charges from the ledger and the journals of the clients. Exit code 1 unless there are none.
    Verdict(ShopVerdictArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShopServeArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// PostgreSQL, such as "host=/run/postgresql user=pay dbname=pay"; without it there is no PaymentService.
    #[arg(long, value_name = "SETTINGS")]
    pub(crate) database: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// PostgreSQL, such as "host=/run/postgresql user=pay dbname=pay".
    #[arg(long = "database", value_name = "SETTINGS")]
    pub(crate) settings: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShopLoadArgs {
    /// The edge.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) edge: SocketAddr,
    /// Of its accounts and streams: no other client has it.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Charges per second.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) per_second: u32,
    /// Streams that stay open.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) streams: u32,
    #[command(flatten)]
    pub(crate) late: LateArgs,
    /// Where it writes what it knows.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LateArgs {
    /// A charge that is acknowledged so long after it was due was hit.
    #[arg(long = "late-ms", value_name = "N", default_value_t = 250)]
    pub(crate) ms: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ShopVerdictArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The steps.jsonl of the run: what the clients saw is told for each step.
    #[arg(long, value_name = "FILE")]
    pub(crate) steps: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) late: LateArgs,
    /// Steps whose words contain this may make no charge fail and no stream break.
    #[arg(long, value_name = "TEXT")]
    pub(crate) harmless: Option<String>,
    /// The journals of all clients.
    #[arg(value_name = "JOURNAL", required = true)]
    pub(crate) journals: Vec<PathBuf>,
}
