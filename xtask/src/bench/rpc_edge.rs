//! The lab `rpc-edge`, and the same lab with other programs as its edges: kill -9, SIGSTOP and a drain under charges and streams.
//!
//! The services, the key store, the clients with their retries and `steer run`, which announces, stay the same; so what differs is
//! the edge's alone.

use std::env;
use std::ffi::OsString;
use std::process::Command;

use clap::Args;

use super::edge::proxies::envoy_program;
use crate::packages;
use crate::shell::{release_steer, run, workspace};

/// What is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// Charges a second of each of the three clients.
    #[arg(long, default_value_t = 667)]
    per_second: u32,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_parser = EDGES.map(|(edge, _)| edge))]
    edges: Vec<String>,
}

/// The edges, and what each takes for an orderly end. Envoy takes no signal for one: the lab asks it over HTTP.
const EDGES: [(&str, &str); 4] = [
    ("steer", "TERM"),
    ("haproxy", "USR1"),
    ("nginx", "QUIT"),
    ("envoy", "CONT"),
];

pub(crate) fn bench(plan: &Plan) -> Result<(), String> {
    packages::ensure();
    packages::ensure_also(&[
        ("/usr/sbin/haproxy", "haproxy"),
        ("/usr/sbin/nginx", "nginx-light"),
    ]);
    let steer = release_steer()?;
    let lab = workspace().join("labs/rpc-edge");
    let is_wanted = |edge: &str| plan.edges.is_empty() || plan.edges.iter().any(|wanted| wanted == edge);
    let mut verdicts = Vec::new();
    for (edge, signal) in EDGES.into_iter().filter(|(edge, _)| is_wanted(edge)) {
        let mut command = Command::new(&steer);
        command.args(["lab", "run", "--repeat", "1"]).arg(&lab);
        for (key, value) in [
            ("per_second", plan.per_second.to_string()),
            ("edge", edge.to_owned()),
            ("drain_signal", signal.to_owned()),
        ] {
            command.args(["--set", &format!("{key}={value}")]);
        }
        if edge == "envoy" {
            match with_envoy() {
                Ok(path) => drop(command.env("PATH", path)),
                Err(error) => {
                    verdicts.push((edge, format!("left out: {error}")));
                    continue;
                }
            }
        }
        // Another program that loses something is a result; ours is judged by the lab.
        let verdict = run(&mut command).map_or_else(|error| error, |()| "passed".to_owned());
        verdicts.push((edge, verdict));
    }
    println!();
    for (edge, verdict) in &verdicts {
        println!("{edge:8} {verdict}");
    }
    match verdicts
        .iter()
        .find(|(edge, verdict)| *edge == "steer" && verdict != "passed")
    {
        Some((_, verdict)) => Err(verdict.clone()),
        None => Ok(()),
    }
}

fn with_envoy() -> Result<OsString, String> {
    let (program, _) = envoy_program()?;
    let folder = program.parent().map(Into::into);
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(folder.into_iter().chain(env::split_paths(&path))).map_err(|error| error.to_string())
}
