//! `steer explain`: why this client gets this answer.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_health::Judge;

use crate::cli::ExplainArgs;
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::load::Loaded;
use crate::runtimes;

/// Prints the explanation of a running steer, or of a configuration with every verdict unknown.
pub(crate) fn show(args: &ExplainArgs) -> Result<(), Failure> {
    match &args.config {
        Some(config) => print_offline(args, &Loaded::from_file(config)?),
        None => return runtimes::serving()?.block_on(print_online(args)),
    }
    Ok(())
}

async fn print_online(args: &ExplainArgs) -> Result<(), Failure> {
    let client = AdminClient::new(args.admin.admin)?;
    let format = if args.json { "json" } else { "text" };
    let query = [
        ("client", args.client.to_string()),
        ("name", args.name.to_string()),
        ("format", format.to_owned()),
    ];
    println!("{}", client.text("/v1/explain", &query).await?.trim_end());
    Ok(())
}

fn print_offline(args: &ExplainArgs, loaded: &Loaded) {
    let judge = Judge::new(Arc::clone(&loaded.fleet), Instant::now(), Timestamp::now());
    let tables = loaded.tables(Arc::new(judge.first_snapshot()));
    let explanation = tables.explain(args.client, &args.name);
    if args.json {
        println!("{}", serde_json::json!(explanation));
    } else {
        println!("{}", explanation.to_string().trim_end());
    }
}
