//! `steer drain` and `steer undrain`.

use crate::admin::drains::{Done, KeptView};
use crate::cli::{DrainArgs, UndrainArgs};
use crate::client::{AdminClient, told};
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
        told(args.json, &done, drained)
    })
}

/// Ends a drain.
pub(crate) fn undrain(args: &UndrainArgs) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let path = ["v1", "drains", &args.target];
        let author = [("author", args.author.name())];
        let done = client.delete(&path, &author).await?;
        told(args.json, &done, undrained)
    })
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
    format!(
        "{target} is drained {until}, since snapshot {snapshot}\n\
         new clients go elsewhere by DNS, and its routes are withdrawn\n\
         the drain {}",
        self::kept(kept)
    )
}

/// "survives a restart"
pub(crate) fn kept(kept: &KeptView) -> String {
    match kept {
        KeptView { kept: true, .. } => "survives a restart".to_owned(),
        KeptView {
            kept: false,
            not_kept_because,
        } => format!(
            "ends with the process: {}",
            not_kept_because.as_deref().unwrap_or("unknown")
        ),
    }
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
