//! The RPC edge: alone (`steer edge`), or within `steer run`.

mod farewell;
mod within;

use std::fs;
use std::ops::Range;
use std::path::Path;

use steer_rpc::edge::{Edge, EdgeConfig, InvalidEdge, Running};
use steer_topology::fault::Place;
use steer_topology::{Fault, Faults};
use tracing::{info, warn};

use crate::cli::EdgeArgs;
use crate::exit::Failure;
use crate::{logging, run, runtimes};

pub(crate) use within::{BoundEdge, EdgeHandle, load, needs_restart};

/// Serves until SIGTERM or SIGINT, then drains: GOAWAY, no new connections, and the calls it has until they end or the
/// bound passes. A second signal ends it at once.
///
/// SIGHUP reads the configuration again: what is wrong with it is told with its place, and the old one goes on.
pub(crate) fn run(args: &EdgeArgs) -> Result<(), Failure> {
    let _log = logging::install(&args.log)?;
    run::raise_file_limit();
    let (_, config) = read(&args.config)?;
    runtimes::serving()?.block_on(async {
        let mut stop = run::stop_on_signal()?;
        let doing = format!("cannot serve on {}", config.listen);
        let edge = Edge::bind(config).await.and_then(Edge::run);
        let edge = edge.map_err(|error| Failure::runtime(&doing, &error))?;
        // For whoever started us with port 0.
        println!("listening on {}", edge.address());
        stop.wait_with(|| reload(&edge, &args.config)).await;
        info!("draining");
        tokio::select! {
            () = edge.drain() => info!("drained"),
            () = stop.wait() => info!("ended before the drain was over"),
        }
        Ok(())
    })
}

/// Takes the file as it is now, or nothing of it.
fn reload(edge: &Running, file: &Path) {
    let taken = read(file).map_err(|faults| faults.to_string());
    told(
        file,
        taken.and_then(|(_, config)| edge.reload(config).map_err(|error| error.to_string())),
    );
}

/// Counts and logs what came of a reload.
fn told(file: &Path, taken: Result<(), String>) {
    let result = if taken.is_ok() { "taken" } else { "refused" };
    metrics::counter!("steer_rpc_reloads_total", "result" => result).increment(1);
    match taken {
        Ok(()) => info!(file = %file.display(), "configuration taken"),
        Err(error) => warn!(file = %file.display(), "the configuration stays as it was: {error}"),
    }
}

/// The text of a file, and the edge that it describes.
fn read(file: &Path) -> Result<(String, EdgeConfig), Faults> {
    let text = fs::read_to_string(file).map_err(|error| {
        let remedy = "name a file that can be read, as in `--config edge.toml`";
        Faults::from(Fault::of_file(file, error.to_string(), remedy))
    })?;
    let folder = file.parent().unwrap_or(Path::new("."));
    match EdgeConfig::parse(&text, folder) {
        Ok(config) => Ok((text, config)),
        Err(error) => Err(fault(file, &text, &error).into()),
    }
}

/// With its place, what is wrong, and what would be right.
fn fault(file: &Path, text: &str, error: &InvalidEdge) -> Fault {
    if let InvalidEdge::Syntax(error) = error {
        return place(file, text, error.message(), error.span());
    }
    fault_at(file, text, &error.to_string())
}

/// The same of words that quote a value of the text.
fn fault_at(file: &Path, text: &str, words: &str) -> Fault {
    place(file, text, words, quoted(text, words))
}

fn place(file: &Path, text: &str, words: &str, span: Option<Range<usize>>) -> Fault {
    let (message, remedy) = words
        .split_once("; ")
        .unwrap_or((words, "docs/rpc.md has an example with every key"));
    match span {
        Some(span) => Fault::at(file, Place::of(text, span), message, remedy),
        None => Fault::of_file(file, message, remedy),
    }
}

/// Where the text has a value that the words quote: the last one, as the first names the table.
fn quoted(text: &str, words: &str) -> Option<Range<usize>> {
    let wrong = words.split_once("; ").map_or(words, |(wrong, _)| wrong);
    let values: Vec<&str> = wrong.split('"').skip(1).step_by(2).collect();
    let find = |value: &&str| {
        text.find(&format!("\"{value}\""))
            .map(|at| at..at + value.len() + 2)
    };
    values.iter().rev().find_map(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "listen = \"127.0.0.1:0\"\n[[pool]]\nname = \"pay\"\nbackends = [\"127.0.0.1:1\"]\n";

    #[test]
    fn a_fault_names_file_place_value_and_what_would_be_right() {
        for (rest, want) in [
            (
                "[[method]]\npath = \"/a.A/B\"\npool = \"pya\"\n",
                "edge.toml:7:8: [[method]] \"/a.A/B\": there is no pool \"pya\"; there are pay",
            ),
            (
                "[[method]]\npath = \"/a.A/B\"\nmax_attempts = 9\n",
                "edge.toml:6:8: [[method]] \"/a.A/B\": max_attempts is 9; 1 to 5 are possible",
            ),
            (
                "[[methods]]\npath = \"/a.A/B\"\n",
                "edge.toml:5:3: unknown field `methods`, expected one of",
            ),
            (
                "descriptor_sets = 3\n",
                "edge.toml:5:1: unknown field `descriptor_sets`",
            ),
        ] {
            let text = format!("{HEAD}{rest}");
            let error = EdgeConfig::parse(&text, Path::new(".")).unwrap_err();
            let said = fault(Path::new("edge.toml"), &text, &error).to_string();
            assert!(said.starts_with(want), "{said}");
        }
    }
}
