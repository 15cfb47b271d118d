//! `steer load`: tells a running steer what a site gets.

use crate::admin::loads::Told;
use crate::cli::LoadArgs;
use crate::client::AdminClient;
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
        if args.json {
            println!("{told}");
            return Ok(());
        }
        let told: Told = serde::Deserialize::deserialize(&told)
            .map_err(|error| Failure::runtime("the answer is no steer's", &error))?;
        println!("{}", sentence(&told));
        Ok(())
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
