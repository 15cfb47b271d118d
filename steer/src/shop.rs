//! `steer lab shop`: thin, as all of it is in `steer-shop`.

use std::time::Duration;

use steer_shop::{Entry, Ledger, Load, Shop, Story};

use crate::cli::{ShopCommand, ShopLoadArgs, ShopServeArgs, ShopVerdictArgs};
use crate::exit::Failure;
use crate::{run, runtimes};

/// One of the subcommands.
pub(crate) fn run(command: ShopCommand) -> Result<(), Failure> {
    run::raise_file_limit();
    runtimes::serving()?.block_on(async {
        match command {
            ShopCommand::Serve(args) => serve(args).await,
            ShopCommand::Load(args) => load(args).await,
            ShopCommand::Verdict(args) => verdict(args).await,
        }
    })
}

async fn serve(args: ShopServeArgs) -> Result<(), Failure> {
    let mut stop = run::stop_on_signal()?;
    let failed = |error: &dyn std::error::Error| Failure::runtime("cannot serve", error);
    let shop = tokio::select! {
        opened = Shop::open(args.listen, args.database.as_deref()) => opened.map_err(|error| failed(&error))?,
        () = stop.wait() => return Ok(()),
    };
    println!("listening on {}", shop.address().map_err(|error| failed(&error))?);
    shop.serve(stop.wait()).await.map_err(|error| failed(&error))
}

async fn load(args: ShopLoadArgs) -> Result<(), Failure> {
    let mut stop = run::stop_on_signal()?;
    let load = Load {
        edge: args.edge,
        name: args.name,
        per_second: args.per_second,
        streams: args.streams,
        late: Duration::from_millis(args.late.ms.into()),
        journal: args.journal,
    };
    let loaded = steer_shop::run_load(&load, stop.wait()).await;
    loaded.map_err(|error| Failure::runtime("the load", &error))
}

/// The last line of standard output is the verdict.
async fn verdict(args: ShopVerdictArgs) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::runtime("no verdict", error);
    let mut journal: Vec<Entry> = Vec::new();
    for path in &args.journals {
        journal.extend(steer_shop::read_journal(path).map_err(|error| failed(&error))?);
    }
    let harmed = match &args.steps {
        None => Vec::new(),
        Some(path) => {
            let steps = steer_shop::read_steps(path).map_err(|error| failed(&error))?;
            let story = Story::of(&journal, &steps, i64::from(args.late.ms) * 1_000);
            println!("{story}");
            args.harmless
                .map(|words| story.harmed(&words))
                .unwrap_or_default()
        }
    };
    let ledger = Ledger::read(&args.database.settings)
        .await
        .map_err(|error| failed(&error))?;
    let counts = steer_shop::count(&journal, &ledger);
    println!("{counts}");
    match (counts.passed(), &harmed[..]) {
        (true, []) => Ok(()),
        (true, [first, ..]) => Err(Failure::Runtime(format!("clients were harmed by: {first}"))),
        (false, _) => Err(Failure::Runtime("ledger and clients do not agree".to_owned())),
    }
}
