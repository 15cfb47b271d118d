//! From a topology and a scenario to a running lab.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::clab::{Kind, LinkSpec, Topology};
use crate::link::{Lines, Wan};
use crate::netns::{Node, Proc, World};
use crate::runtime::containerlab::Containerlab;
use crate::scenario::{Process, Variant};
use crate::{LabError, Runtime, disk, faketime};

/// How long a process may take to end in good order before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// A built lab with its processes.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) world: World,
    recipes: Vec<Process>,
    values: Values,
    /// Whose processes run.
    variant: Variant,
    /// In order of their start.
    running: Vec<((String, String), Proc)>,
    /// In containers, programs are those of the image.
    runtime: Runtime,
    /// What is long in this lab.
    pub(crate) lines: Lines,
}

/// What stands for `{steer}`, `{lab}` and `{run}` in commands, beside the `@key@` of the variant.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pub(crate) steer: PathBuf,
    pub(crate) lab: PathBuf,
    pub(crate) run: PathBuf,
}

impl Values {
    /// `{lab}` is the folder with the variant's values filled in.
    fn fill(&self, word: &str, variant: &Variant) -> String {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let word = word
            .replace("{steer}", &path(&self.steer))
            .replace("{lab}", &path(&self.folder(variant)))
            .replace("{run}", &path(&self.run));
        filled(word, &variant.set)
    }

    fn folder(&self, variant: &Variant) -> PathBuf {
        if variant.set.is_empty() {
            self.lab.clone()
        } else {
            self.run.join(format!("lab-{}", variant.name.replace(' ', "-")))
        }
    }
}

impl Lab {
    /// Builds nodes, links and long lines and runs `exec`. No process is started yet.
    pub(crate) fn build(
        world: World,
        topology: &Topology,
        processes: &[Process],
        values: Values,
        wan: &[Wan],
        containers: Option<&Containerlab>,
    ) -> Result<Self, LabError> {
        // Before the containers, which see what is mounted when they start.
        let disks = processes.iter().filter_map(|process| {
            let folder = disk::folder(&values.run, &process.node, &process.name);
            Some((folder, process.disk_mb?))
        });
        // One for all processes of a name, of which one runs at a time.
        for (folder, mb) in disks.collect::<BTreeMap<_, _>>() {
            disk::make(&world, &folder, mb)?;
        }
        match containers {
            Some(containerlab) => {
                let shared = [values.run.as_path(), values.lab.as_path(), values.steer.as_path()];
                containerlab.build(&world, topology, &shared)?;
            }
            None => build_namespaces(&world, topology)?,
        }
        Ok(Self {
            lines: Lines::start(&world, wan)?,
            world,
            recipes: processes.to_vec(),
            values,
            variant: Variant::default(),
            running: Vec::new(),
            runtime: containers.map_or(Runtime::Netns, |_| Runtime::Containerlab),
        })
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Starts every process of a variant in order.
    pub(crate) fn start_all(&mut self, variant: &Variant) -> Result<(), LabError> {
        self.variant = variant.clone();
        let folder = self.values.folder(variant);
        if folder != self.values.lab {
            render(&self.values.lab, &folder, &variant.set)?;
        }
        for recipe in self.recipes.clone() {
            if self.is_ours(&recipe) {
                self.start(&recipe.node, &recipe.name)?;
            }
        }
        Ok(())
    }

    /// Ends every process, the last to start first: in good order if it can, so that a router takes its routes
    /// out of the kernel.
    pub(crate) fn stop_all(&mut self) {
        for (_, process) in self.running.iter_mut().rev() {
            if process.signal(Signal::SIGTERM).is_err() {
                continue; // it has ended
            }
            // One that was stopped hears nothing before it goes on.
            let goes_on = process.signal(Signal::SIGCONT);
            if goes_on.is_err() || process.wait(STOP_LIMIT).is_err() {
                tracing::warn!(process = process.name(), "killed: it did not end in time");
            }
        }
        self.running.clear();
    }

    fn is_ours(&self, recipe: &Process) -> bool {
        let announcer = recipe.announcer.as_ref();
        announcer.is_none_or(|announcer| *announcer == self.variant.announcer)
    }

    /// Starts a process of the variant, again if need be. Its logs go on in the same files.
    pub(crate) fn start(&mut self, node_name: &str, name: &str) -> Result<(), LabError> {
        let recipe = self
            .recipes
            .iter()
            .find(|process| process.node == node_name && process.name == name && self.is_ours(process));
        let recipe =
            recipe.ok_or_else(|| LabError::failed(format!("{node_name} has no process `{name}`")))?;
        let mut command = self.command(&recipe.run)?;
        if recipe.clock {
            faketime::prepare(&mut command, &self.values.run, node_name, name)?;
        }
        let process = node(&self.world, node_name)?.spawn(command, name)?;
        let key = (node_name.to_owned(), name.to_owned());
        self.running.retain(|(other, _)| *other != key);
        self.running.push((key, process));
        Ok(())
    }

    fn command(&self, run: &[String]) -> Result<Command, LabError> {
        let mut words = self.words(run).into_iter();
        let program = words.next().unwrap_or_default();
        let mut command = match self.runtime {
            Runtime::Netns => Command::new(find_program(&program)?),
            Runtime::Containerlab => Command::new(program),
        };
        // Log lines of every program are compared with each other.
        command
            .args(words)
            .current_dir(&self.values.run)
            .env("TZ", "UTC")
            .env_remove("STEER_LOG");
        Ok(command)
    }

    fn words(&self, run: &[String]) -> Vec<String> {
        run.iter().map(|word| self.fill(word)).collect()
    }

    /// A word of the scenario with the values of this run.
    pub(crate) fn fill(&self, word: &str) -> String {
        self.values.fill(word, &self.variant)
    }

    /// Runs a command on a node to its end; an error when it fails.
    pub(crate) fn run(&self, node_name: &str, run: &[String]) -> Result<(), LabError> {
        self.output(node_name, run).map(drop)
    }

    /// The same, with what it said on its standard output.
    pub(crate) fn output(&self, node_name: &str, run: &[String]) -> Result<String, LabError> {
        let output = self.ask(node_name, run)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(LabError::failed(format!(
            "{node_name}: `{}` failed: {said}",
            self.words(run).join(" ")
        )))
    }

    /// The same, however it ends.
    pub(crate) fn ask(&self, node_name: &str, run: &[String]) -> Result<Output, LabError> {
        Ok(node(&self.world, node_name)?.exec(&self.words(run))?)
    }

    /// The process, running or ended.
    pub(crate) fn process(&mut self, node: &str, name: &str) -> Result<&mut Proc, LabError> {
        let found = self
            .running
            .iter_mut()
            .find(|((of, called), _)| of == node && called == name);
        found
            .map(|(_, process)| process)
            .ok_or_else(|| LabError::failed(format!("{node} runs no process `{name}`")))
    }

    /// An error when a process has ended on its own, with the end of its log.
    pub(crate) fn all_alive(&mut self) -> Result<(), LabError> {
        for (_, process) in &mut self.running {
            if let Some(status) = process.exited() {
                let log = fs::read_to_string(process.stderr()).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(10).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                let what = format!(
                    "{} has ended with {status}; its last lines:\n{}",
                    process.name(),
                    tail.join("\n")
                );
                return Err(LabError::failed(what));
            }
        }
        Ok(())
    }

    /// Writes routes, addresses and neighbours of every node beside the logs, for whoever reads a failure.
    pub(crate) fn write_states(&self) {
        for node in self.world.nodes() {
            let mut text = String::new();
            for command in ["ip address", "ip route show table all", "ip neighbour", "ss -tan"] {
                let words: Vec<&str> = command.split(' ').collect();
                let output = node
                    .exec(&words)
                    .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                text += &format!(
                    "# {command}\n{}\n",
                    output.unwrap_or_else(|error| error.to_string())
                );
            }
            let path = self.world.dir().join(format!("{}-state.txt", node.name()));
            if let Err(error) = fs::write(&path, text) {
                tracing::warn!(path = %path.display(), %error, "cannot write a state");
            }
        }
    }
}

fn build_namespaces(world: &World, topology: &Topology) -> Result<(), LabError> {
    for spec in &topology.nodes {
        match spec.kind {
            Kind::Linux => world.node(&spec.name)?,
            Kind::Bridge => world.switch(&spec.name)?,
        };
    }
    for link in &topology.links {
        join(world, topology, link)?;
    }
    for spec in &topology.nodes {
        let node = node(world, &spec.name)?;
        for (key, value) in &spec.sysctls {
            node.sysctl(key, value)?;
        }
        for line in &spec.exec {
            exec(&node, line)?;
        }
    }
    Ok(())
}

pub(crate) fn node(world: &World, name: &str) -> Result<Node, LabError> {
    world
        .get(name)
        .ok_or_else(|| LabError::failed(format!("there is no node `{name}` any more")))
}

/// A path as it is, a name as the shell and root's usual folders have it.
pub(crate) fn find_program(program: &str) -> Result<PathBuf, LabError> {
    let missing = || LabError::Missing {
        program: program.to_owned(),
        remedy: remedy(program),
    };
    if program.contains('/') {
        return Path::new(program)
            .is_file()
            .then(|| PathBuf::from(program))
            .ok_or_else(missing);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(missing)
}

fn remedy(program: &str) -> String {
    match crate::netns::package_of(program) {
        _ if program.contains("/faketime/") => "install the Debian package `libfaketime`".to_owned(),
        _ if program.contains("/frr/") => "install the Debian package `frr`".to_owned(),
        Some(package) => format!("install the Debian package `{package}`"),
        None if program == "anycast-healthchecker" => {
            "`pip install anycast-healthchecker`, and put it on PATH (`cargo xtask lab` does)".to_owned()
        }
        None => "build it or install it".to_owned(),
    }
}

fn join(world: &World, topology: &Topology, link: &LinkSpec) -> Result<(), LabError> {
    let is_switch = |name: &str| {
        topology
            .nodes
            .iter()
            .any(|spec| spec.name == name && spec.kind == Kind::Bridge)
    };
    let (a, b) = (node(world, &link.a.node)?, node(world, &link.b.node)?);
    let (a_end, b_end) = ((&a, link.a.interface.as_str()), (&b, link.b.interface.as_str()));
    match (is_switch(&link.a.node), is_switch(&link.b.node)) {
        (true, _) => world.plug(&a, a_end.1, b_end)?,
        (false, true) => world.plug(&b, b_end.1, a_end)?,
        (false, false) => world.link(a_end, b_end)?,
    }
    Ok(())
}

/// Copies a folder; `@key@` in its files becomes the value.
pub(crate) fn render(from: &Path, to: &Path, set: &BTreeMap<String, String>) -> Result<(), LabError> {
    fs::create_dir_all(to).map_err(|source| LabError::io("create", to, source))?;
    let entries = fs::read_dir(from).map_err(|source| LabError::io("read", from, source))?;
    for entry in entries.flatten().map(|entry| entry.path()) {
        let target = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            render(&entry, &target, set)?;
            continue;
        }
        let text = fs::read_to_string(&entry).map_err(|source| LabError::io("read", &entry, source))?;
        fs::write(&target, filled(text, set)).map_err(|source| LabError::io("write", &target, source))?;
    }
    Ok(())
}

/// `@key@` becomes the value.
pub(crate) fn filled(text: String, set: &BTreeMap<String, String>) -> String {
    let fill = |text: String, (key, value): (&String, &String)| text.replace(&format!("@{key}@"), value);
    set.iter().fold(text, fill)
}

/// One line of `exec`: words, no shell, as containerlab does.
fn exec(node: &Node, line: &str) -> Result<(), LabError> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let output = node.exec(&words)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::failed(format!(
        "{}: `{line}` failed: {said}",
        node.name()
    )))
}
