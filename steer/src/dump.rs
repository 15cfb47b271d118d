//! `steer dump`: all that a running steer sends to its peers and hears from them in a while, as MRT.

use std::fs;
use std::io::Write;
use std::path::Path;

use reqwest::header::HeaderMap;

use crate::admin::mrt::{END, LOST, MAX_TIME, RECORDS};
use crate::cli::DumpArgs;
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::runtimes;

/// Records, then writes the file.
pub(crate) fn dump(args: &DumpArgs) -> Result<(), Failure> {
    let wish = serde_json::json!({ "for": args.time });
    let (headers, octets) = runtimes::serving()?.block_on(async {
        let client = AdminClient::new(args.admin.admin)?;
        client.octets(&["v1", "mrt"], &wish, MAX_TIME).await
    })?;
    write(&args.file, &octets)?;
    eprintln!("{}", summary(&headers, octets.len()));
    Ok(())
}

fn write(file: &Path, octets: &[u8]) -> Result<(), Failure> {
    let written = if file == Path::new("-") {
        std::io::stdout().write_all(octets)
    } else {
        fs::write(file, octets)
    };
    let doing = format!("cannot write {}", file.display());
    written.map_err(|error| Failure::runtime(&doing, &error))
}

fn summary(headers: &HeaderMap, octets: usize) -> String {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let records = said(RECORDS).unwrap_or("?");
    let mut text = format!("{records} records, {octets} octets");
    match said(LOST) {
        None | Some("0") => {}
        Some(lost) => text.push_str(&format!(
            "; {lost} more were lost: they came faster than they were recorded"
        )),
    }
    match said(END) {
        Some("limit") => text.push_str("; ended early: it is as long as a dump may be"),
        Some("stopped") => text.push_str("; ended early: steer stopped"),
        Some(_) | None => {}
    }
    text
}
