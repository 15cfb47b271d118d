//! `steer load`: tells a running steer what a site gets.

use crate::admin::loads::Told;
use crate::cli::LoadArgs;
use crate::client::{self, AdminClient};
use crate::exit::Failure;
use crate::{moment, runtimes};

/// Tells it, or takes the last figure back.
pub(crate) fn tell(args: &LoadArgs) -> Result<(), Failure> {
    let wish = serde_json::json!({
        "site": args.site,
        "per_second": args.per_second,
        "for": args.time,
        "author": args.author.name(),
    });
    runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        let told = client.post(&["v1", "loads"], &[], &wish).await?;
        client::told(args.json, &told, sentence)
    })
}

fn sentence(told: &Told) -> String {
    let Told { site, load } = told;
    match load {
        Some(load) => format!(
            "{site} gets {} requests per second; that counts until {}",
            load.per_second,
            moment::end(load.until)
        ),
        None => format!("what {site} gets is not counted any more"),
    }
}
