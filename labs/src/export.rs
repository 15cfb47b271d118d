//! `steer lab export`: a twin of an operator's own fleet as a lab, ready to be rehearsed.
//!
//! ```text
//! per site:  client ── isp (a router per region) ── up0, up1 .. (one per BGP peer, with its AS) ── site: steer, services
//! between:   isp ═══ isp, each pair by a long line with the measured round trip of the two places
//! ```
//!
//! Addresses between nodes come from 100.64.0.0/10 (RFC 6598), one /16 per region. What of the configuration cannot be
//! in a lab, such as keys, collectors and names, is left out, and the README of the lab says so item by item.

mod config;
mod files;
mod plan;
mod routers;

use std::fs;
use std::path::{Path, PathBuf};

use steer_topology::{Fleet, Resolve};

use crate::drill::Drill;
use crate::{LabError, clab, link};
use plan::Twin;

/// What was written.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Every file, in the folder that was named.
    pub files: Vec<PathBuf>,
    /// What of the configuration is not in the lab, in words.
    pub left_out: Vec<String>,
}

/// Writes the twin of the fleet in `config` into `out`, which must be empty or not there yet.
pub fn export(config: &Path, out: &Path, resolver: &dyn Resolve) -> Result<Exported, LabError> {
    let fleet = Fleet::load(config, resolver)?;
    let text = fs::read_to_string(config).map_err(|source| LabError::io("read", config, source))?;
    let twin = Twin::of(&fleet)?;
    let (edge, mut left_out) = config::twin(&text, &twin)?;
    left_out.extend(twin.left_out.iter().cloned());
    let mut files = vec![("edge/steer.toml".to_owned(), edge)];
    files.extend(routers::all(&twin));
    files.push((format!("{}.clab.yml", twin.name), files::topology(&twin)));
    files.push(("scenario.toml".to_owned(), files::scenario(&twin)));
    files.push(("README.md".to_owned(), files::readme(&twin, config, &left_out)));
    check(&files, &twin, resolver)?;
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(LabError::failed(format!(
            "{} is not empty: name another folder",
            out.display()
        )));
    }
    let mut written = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| LabError::io("create", parent, source))?;
        }
        fs::write(&path, text).map_err(|source| LabError::io("write", &path, source))?;
        written.push(path);
    }
    Ok(Exported {
        files: written,
        left_out,
    })
}

/// What was made is read as it will be when it runs, before anything is written.
fn check(files: &[(String, String)], twin: &Twin, resolver: &dyn Resolve) -> Result<(), LabError> {
    let find = |wanted: &str| {
        files
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, text)| text.as_str())
            .unwrap_or_default()
    };
    Fleet::parse(find("edge/steer.toml"), Path::new("edge/steer.toml"), resolver)?;
    let name = format!("{}.clab.yml", twin.name);
    let topology = clab::parse(Path::new(&name), find(&name))?;
    let file = Path::new("scenario.toml");
    let text = find("scenario.toml");
    link::parse(file, text, &topology)?;
    Drill::parse(file, text)?.fits(file, &topology)?;
    Ok(())
}

#[cfg(test)]
mod tests;
