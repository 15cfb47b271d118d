//! `steer force-up`, `steer force-down` and `steer unforce`.

use steer_health::Forced;

use crate::admin::forces::ForceDone;
use crate::cli::{DrainArgs, UndrainArgs};
use crate::client::{AdminClient, told};
use crate::drain::kept;
use crate::exit::Failure;
use crate::{moment, runtimes};

/// Forces a verdict of a running steer.
pub(crate) fn force(args: &DrainArgs, to: Forced) -> Result<(), Failure> {
    let wish = serde_json::json!({
        "target": args.target,
        "to": to,
        "for": args.time,
        "reason": args.reason,
        "author": args.author.name(),
        "force": args.force,
    });
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let done = client.post(&["v1", "forces"], &[], &wish).await?;
        told(args.json, &done, |done| forced(done, to))
    })
}

/// Ends a forced verdict.
pub(crate) fn unforce(args: &UndrainArgs) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let path = ["v1", "forces", &args.target];
        let author = [("author", args.author.name())];
        let done = client.delete(&path, &author).await?;
        told(args.json, &done, unforced)
    })
}

fn forced(done: &ForceDone, to: Forced) -> String {
    let ForceDone {
        snapshot,
        target,
        force,
        kept: view,
    } = done;
    let until = force.as_ref().and_then(|force| force.until);
    let until = until.map_or_else(
        || "until unforced".to_owned(),
        |until| format!("until {}", moment::end(until)),
    );
    let effect = match to {
        Forced::Up => "it serves, whatever its checks say, unless it is drained",
        Forced::Down => "it is out of service, for DNS and BGP alike, whatever its checks say",
    };
    format!(
        "{target} is forced {to} {until}, since snapshot {snapshot}\n{effect}\nthe wish {}",
        kept(view)
    )
}

fn unforced(done: &ForceDone) -> String {
    let ForceDone {
        snapshot,
        target,
        force: _,
        kept: _,
    } = done;
    format!("{target} is forced no more, since snapshot {snapshot}: what its checks say counts")
}
