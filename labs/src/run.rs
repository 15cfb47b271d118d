//! One run: unpack, build, rehearse, keep what is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::clab::{self, Topology};
use crate::drill::{Drill, Drilled};
use crate::link::{self, Wan};
use crate::netns::World;
use crate::rehearsal::Rehearsal;
use crate::runtime::Runtime;
use crate::runtime::containerlab::Containerlab;
use crate::scenario::{Process, Scenario, Variant};
use crate::world::{Lab, Values, find_program};
use crate::{LabError, LabOptions, Report, faketime, shipped};

/// What a lab does: one of the two kinds.
enum Plan {
    /// One near and one far edge, every packet of the fault followed.
    Scenario(Box<Scenario>),
    /// Any topology, many clients.
    Drill(Box<Drill>),
}

pub(crate) fn run(lab: &str, options: &LabOptions) -> Result<Report, LabError> {
    let start = Instant::now();
    let say = |what: &str| eprintln!("[{:7.2} s] {what}", start.elapsed().as_secs_f64());
    let is_shipped = shipped::LABS.iter().any(|shipped| shipped.name == lab);
    if !is_shipped && !Path::new(lab).is_dir() {
        return Err(unknown(lab));
    }
    let world = World::new(&world_name(lab))?;
    let folder = unpack(lab, world.dir())?;
    let (topology, mut plan, wan) = read(&folder)?;
    plan.set(&options.set)?;
    let steer = fs::canonicalize(&options.steer)
        .map_err(|source| LabError::io("find the binary under test", &options.steer, source))?;
    let values = Values {
        steer,
        lab: folder,
        run: world.dir().to_owned(),
    };
    let (processes, announcers) = plan.wanted(&options.only)?;
    let containers = containers(options.runtime, &topology, &processes, &announcers)?;
    let lab = Lab::build(world, &topology, &processes, values, &wan, containers.as_ref())?;
    say(&format!(
        "{}: {} nodes, {} links, {} processes",
        topology.name,
        topology.nodes.len(),
        topology.links.len(),
        processes.len()
    ));
    let repeat = match options.repeat {
        0 => plan.repeat(),
        asked => asked,
    };
    match plan {
        Plan::Scenario(scenario) => {
            let variants = chosen(&scenario, &options.only)?;
            let mut rehearsal = Rehearsal::new(lab, *scenario)?;
            let result = rehearsal.repeat(&topology.name, &variants, repeat, &say);
            rehearsal.stop_watching();
            finish(&rehearsal.lab, options, result)
        }
        Plan::Drill(drill) => {
            let mut drilled = Drilled::new(lab, *drill, &say)?;
            let result = drilled.repeat(&topology.name, &options.only, repeat);
            drilled.stop_watching();
            finish(&drilled.lab, options, result)
        }
    }
}

impl Plan {
    /// How often a fault is repeated when nobody says.
    fn repeat(&self) -> u32 {
        match self {
            Self::Scenario(_) => 20,
            Self::Drill(drill) => drill.repeat,
        }
    }

    /// Takes other values, of keys that are there.
    fn set(&mut self, values: &BTreeMap<String, String>) -> Result<(), LabError> {
        let mut sets: Vec<_> = match self {
            Self::Scenario(scenario) => scenario.variants.iter_mut().map(|one| &mut one.set).collect(),
            Self::Drill(drill) => drill.stages.iter_mut().map(|one| &mut one.set).collect(),
        };
        for (key, value) in values {
            let mut any = false;
            for old in sets.iter_mut().filter_map(|set| set.get_mut(key)) {
                old.clone_from(value);
                any = true;
            }
            if !any {
                let known: BTreeSet<_> = sets.iter().flat_map(|set| set.keys().cloned()).collect();
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                let what = format!("this lab sets no `{key}`; it sets: {known}");
                return Err(LabError::failed(what));
            }
        }
        match self {
            Self::Scenario(_) => Ok(()),
            Self::Drill(drill) => drill.is_plain(),
        }
    }

    /// All processes, and the announcers of what was asked for.
    fn wanted(&self, only: &[String]) -> Result<(Vec<Process>, Vec<String>), LabError> {
        match self {
            Self::Scenario(scenario) => {
                let variants = chosen(scenario, only)?;
                let announcers = variants.into_iter().map(|variant| variant.announcer);
                Ok((scenario.processes.clone(), announcers.collect()))
            }
            Self::Drill(drill) => {
                let known = |name: &&String| drill.methods.iter().any(|method| method.id == **name);
                if let Some(name) = only.iter().find(|name| !known(name)) {
                    let ids: Vec<_> = drill.methods.iter().map(|method| method.id.as_str()).collect();
                    let ids = ids.join(", ");
                    return Err(LabError::failed(format!(
                        "this lab has no method `{name}`; it has: {ids}"
                    )));
                }
                let asked = drill.methods.iter();
                let asked = asked.filter(|method| only.is_empty() || only.contains(&method.id));
                let stages = asked.filter_map(|method| drill.stage(&method.stage));
                let judged = drill.stages.iter().filter(|stage| stage.is_judged(only));
                let announcers = stages
                    .chain(judged)
                    .map(|stage| stage.announcer.clone())
                    .collect();
                let is_asked = |method: &String| only.is_empty() || only.contains(method);
                let runs = |process: &&Process| {
                    let methods = process.methods.as_ref();
                    methods.is_none_or(|methods| methods.iter().any(is_asked))
                };
                Ok((drill.processes.iter().filter(runs).cloned().collect(), announcers))
            }
        }
    }
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

/// A missing program is named before anything starts; so is whatever else containers need.
fn containers(
    runtime: Runtime,
    topology: &Topology,
    processes: &[Process],
    announcers: &[String],
) -> Result<Option<Containerlab>, LabError> {
    let programs = programs(processes, announcers);
    match runtime {
        Runtime::Netns => {
            for program in &programs {
                find_program(program)?;
            }
            Ok(None)
        }
        Runtime::Containerlab => {
            let containerlab = Containerlab::find()?;
            containerlab.check(topology, &programs)?;
            Ok(Some(containerlab))
        }
    }
}

/// Every program that is started, but for the one under test.
fn programs<'p>(processes: &'p [Process], announcers: &[String]) -> Vec<String> {
    let runs = |process: &&Process| {
        let word = process.announcer.as_ref();
        word.is_none_or(|word| announcers.contains(word))
    };
    let words = |process: &'p Process| process.run.first().into_iter().chain(&process.needs);
    let ours: Vec<_> = processes.iter().filter(runs).collect();
    let clock = ours.iter().any(|process| process.clock).then(faketime::library);
    let named = ours.into_iter().flat_map(words).cloned();
    named
        .chain(clock)
        .filter(|program| !program.starts_with("{steer}"))
        .collect()
}

/// Keeps what is asked for, or what a failure needs.
fn finish(lab: &Lab, options: &LabOptions, mut result: Result<Report, LabError>) -> Result<Report, LabError> {
    if let (Ok(report), Some(precision)) = (&mut result, lab.lines.precision()) {
        report.settings.push(("long lines".to_owned(), precision));
    }
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
            let page = crate::html::write(&out)?;
            eprintln!(
                "result, logs, states and capture: {}; page: {}",
                out.display(),
                page.display()
            );
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
    // Without indentation: a long run has thousands of moments.
    let text = serde_json::to_string(report).map_err(std::io::Error::from);
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

fn read(folder: &Path) -> Result<(Topology, Plan, Vec<Wan>), LabError> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|source| LabError::io("read", path, source));
    let entries = fs::read_dir(folder).map_err(|source| LabError::io("read", folder, source))?;
    let is_topology = |path: &PathBuf| path.to_string_lossy().ends_with(".clab.yml");
    let file = entries.flatten().map(|entry| entry.path()).find(is_topology);
    let file = file.ok_or_else(|| unknown(&folder.display().to_string()))?;
    let mut topology = clab::parse(&file, &text(&file)?)?;
    let file = folder.join("scenario.toml");
    let words = text(&file)?;
    let wan = link::parse(&file, &words, &topology)?;
    if Drill::is_one(&words) {
        let drill = Drill::parse(&file, &words)?;
        drill.fits(&file, &topology)?;
        link::insert(&mut topology, &wan);
        return Ok((topology, Plan::Drill(Box::new(drill)), wan));
    }
    let scenario = Scenario::parse(&file, &words)?;
    scenario.fits(&file, &topology)?;
    link::insert(&mut topology, &wan);
    Ok((topology, Plan::Scenario(Box::new(scenario)), wan))
}
