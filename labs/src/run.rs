//! One run: unpack, build, rehearse, keep what is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::clab::{self, Topology};
use crate::netns::World;
use crate::rehearsal::Rehearsal;
use crate::scenario::{Scenario, Variant};
use crate::world::{Lab, Values, find_program};
use crate::{LabError, LabOptions, Report, shipped};

pub(crate) fn run(lab: &str, options: &LabOptions) -> Result<Report, LabError> {
    let start = Instant::now();
    let say = |what: &str| eprintln!("[{:7.2} s] {what}", start.elapsed().as_secs_f64());
    let is_shipped = shipped::LABS.iter().any(|shipped| shipped.name == lab);
    if !is_shipped && !Path::new(lab).is_dir() {
        return Err(unknown(lab));
    }
    let world = World::new(&world_name(lab))?;
    let folder = unpack(lab, world.dir())?;
    let (topology, scenario) = read(&folder)?;
    let steer = fs::canonicalize(&options.steer)
        .map_err(|source| LabError::io("find the binary under test", &options.steer, source))?;
    let values = Values {
        steer,
        lab: folder,
        run: world.dir().to_owned(),
    };
    let variants = chosen(&scenario, &options.only)?;
    find_programs(&scenario, &variants)?;
    let lab = Lab::build(world, &topology, &scenario, values)?;
    say(&format!(
        "{}: {} nodes, {} links, {} processes",
        topology.name,
        topology.nodes.len(),
        topology.links.len(),
        scenario.processes.len()
    ));
    let mut rehearsal = Rehearsal::new(lab, scenario)?;
    let result = rehearsal.repeat(&topology.name, &variants, options.repeat.max(1), &say);
    rehearsal.stop_watching();
    finish(&rehearsal.lab, options, result)
}

/// The variants to run: those named, or all.
fn chosen(scenario: &Scenario, only: &[String]) -> Result<Vec<Variant>, LabError> {
    let known = || {
        let names = scenario.variants.iter().map(|variant| variant.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    if scenario.variants.is_empty() && only.is_empty() {
        return Ok(vec![Variant::default()]);
    }
    if let Some(name) = only.iter().find(|name| !scenario.has_variant(name)) {
        let what = format!("this lab has no variant `{name}`; it has: {}", known());
        return Err(LabError::failed(what));
    }
    let wanted = |variant: &&Variant| only.is_empty() || only.contains(&variant.name);
    Ok(scenario.variants.iter().filter(wanted).cloned().collect())
}

/// A missing program is named before anything starts.
fn find_programs(scenario: &Scenario, variants: &[Variant]) -> Result<(), LabError> {
    let runs = |announcer: &String| variants.iter().any(|variant| variant.announcer == *announcer);
    for process in &scenario.processes {
        let program = process.run.first().map(String::as_str).unwrap_or_default();
        if process.announcer.as_ref().is_none_or(runs) && !program.starts_with("{steer}") {
            find_program(program)?;
        }
    }
    Ok(())
}

/// Keeps what is asked for, or what a failure needs.
fn finish(lab: &Lab, options: &LabOptions, result: Result<Report, LabError>) -> Result<Report, LabError> {
    let failed = !result.as_ref().is_ok_and(Report::passed);
    if options.out.is_none() && !failed {
        return result;
    }
    lab.write_states();
    let out = options.out.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!(
            "lab-{}-{}",
            lab.world.name(),
            jiff::Timestamp::now().as_second()
        ))
    });
    lab.world.keep(&out)?;
    match result {
        Ok(report) => {
            write_result(&report, &out)?;
            eprintln!("result, logs, states and capture: {}", out.display());
            Ok(report)
        }
        Err(LabError::Failed { what, kept: None }) => Err(LabError::Failed {
            what,
            kept: Some(out),
        }),
        Err(error) => Err(error),
    }
}

fn write_result(report: &Report, out: &Path) -> Result<(), LabError> {
    let path = out.join("result.json");
    let text = serde_json::to_string_pretty(report).map_err(std::io::Error::from);
    text.and_then(|text| fs::write(&path, text + "\n"))
        .map_err(|source| LabError::io("write", &path, source))
}

/// The world's name from the lab's name or folder: what may stand in the name of a namespace.
fn world_name(lab: &str) -> String {
    let base = Path::new(lab)
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let name: String = base
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(30)
        .collect();
    if name.is_empty() { "lab".to_owned() } else { name }
}

/// The lab's folder: as given, or unpacked into the run folder.
fn unpack(lab: &str, run: &Path) -> Result<PathBuf, LabError> {
    if let Some(shipped) = shipped::LABS.iter().find(|shipped| shipped.name == lab) {
        let folder = run.join("lab");
        shipped.unpack(&folder)?;
        return Ok(folder);
    }
    fs::canonicalize(lab).map_err(|source| LabError::io("find", lab, source))
}

fn unknown(lab: &str) -> LabError {
    LabError::Unknown {
        name: lab.to_owned(),
        shipped: shipped::LABS.map(|lab| lab.name).join(", "),
    }
}

fn read(folder: &Path) -> Result<(Topology, Scenario), LabError> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|source| LabError::io("read", path, source));
    let entries = fs::read_dir(folder).map_err(|source| LabError::io("read", folder, source))?;
    let is_topology = |path: &PathBuf| path.to_string_lossy().ends_with(".clab.yml");
    let file = entries.flatten().map(|entry| entry.path()).find(is_topology);
    let file = file.ok_or_else(|| unknown(&folder.display().to_string()))?;
    let topology = clab::parse(&file, &text(&file)?)?;
    let file = folder.join("scenario.toml");
    let scenario = Scenario::parse(&file, &text(&file)?)?;
    scenario.fits(&file, &topology)?;
    Ok((topology, scenario))
}
