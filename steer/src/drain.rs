//! `steer drain` and `steer undrain`.

use crate::admin::drains::{Done, KeptView};
use crate::cli::{DrainArgs, UndrainArgs};
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::{moment, runtimes};

/// Drains a site or an endpoint of a running steer.
pub(crate) fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let wish = serde_json::json!({
        "target": args.target,
        "for": args.time,
        "reason": args.reason,
        "author": args.author.name(),
        "force": args.force,
    });
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let done = client.post(&["v1", "drains"], &[], &wish).await?;
        show(&done, args.json, drained)
    })
}

/// Ends a drain.
pub(crate) fn undrain(args: &UndrainArgs) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let path = ["v1", "drains", &args.target];
        let author = [("author", args.author.name())];
        let done = client.delete(&path, &author).await?;
        show(&done, args.json, undrained)
    })
}

fn show(done: &serde_json::Value, json: bool, say: impl Fn(&Done) -> String) -> Result<(), Failure> {
    if json {
        println!("{done}");
        return Ok(());
    }
    let done: Done = serde::Deserialize::deserialize(done)
        .map_err(|error| Failure::runtime("the answer is no steer's", &error))?;
    println!("{}", say(&done));
    Ok(())
}

fn drained(done: &Done) -> String {
    let Done {
        snapshot,
        target,
        drain,
        kept,
    } = done;
    let until = drain.as_ref().and_then(|drain| drain.until);
    let until = until.map_or_else(
        || "until undrained".to_owned(),
        |until| format!("until {}", moment::end(until)),
    );
    let kept = match kept {
        KeptView { kept: true, .. } => "survives a restart".to_owned(),
        KeptView {
            kept: false,
            not_kept_because,
        } => format!(
            "ends with the process: {}",
            not_kept_because.as_deref().unwrap_or("unknown")
        ),
    };
    format!(
        "{target} is drained {until}, since snapshot {snapshot}\n\
         new clients go elsewhere by DNS, and its routes are withdrawn\n\
         the drain {kept}"
    )
}

fn undrained(done: &Done) -> String {
    let Done {
        snapshot,
        target,
        drain: _,
        kept,
    } = done;
    let mut text = format!("{target} is drained no more, since snapshot {snapshot}");
    if let (false, Some(why)) = (kept.kept, &kept.not_kept_because)
        && !why.contains("is not written")
    {
        text.push_str(&format!("\nbut a restart may bring the drain back: {why}"));
    }
    text
}
