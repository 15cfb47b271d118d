//! From a topology and a scenario to a running lab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;
use crate::clab::{Kind, LinkSpec, Topology};
use crate::netns::{Node, Proc, World};
use crate::scenario::{Process, Scenario};

/// A built lab with its processes.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) world: World,
    recipes: Vec<Process>,
    values: Values,
    running: BTreeMap<(String, String), Proc>,
}

/// What stands for `{steer}`, `{lab}` and `{run}`.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pub(crate) steer: PathBuf,
    pub(crate) lab: PathBuf,
    pub(crate) run: PathBuf,
}

impl Values {
    fn fill(&self, word: &str) -> String {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        word.replace("{steer}", &path(&self.steer))
            .replace("{lab}", &path(&self.lab))
            .replace("{run}", &path(&self.run))
    }
}

impl Lab {
    /// Builds nodes and links, runs `exec`, starts every process in order.
    pub(crate) fn build(
        world: World,
        topology: &Topology,
        scenario: &Scenario,
        values: Values,
    ) -> Result<Self, LabError> {
        for spec in &topology.nodes {
            match spec.kind {
                Kind::Linux => world.node(&spec.name)?,
                Kind::Bridge => world.switch(&spec.name)?,
            };
        }
        for link in &topology.links {
            join(&world, topology, link)?;
        }
        for spec in &topology.nodes {
            let node = node(&world, &spec.name)?;
            for (key, value) in &spec.sysctls {
                node.sysctl(key, value)?;
            }
            for line in &spec.exec {
                exec(&node, line)?;
            }
        }
        let recipes = scenario.processes.clone();
        let mut lab = Self {
            world,
            recipes,
            values,
            running: BTreeMap::new(),
        };
        for process in &scenario.processes {
            lab.start(&process.node, &process.name)?;
        }
        Ok(lab)
    }

    /// Starts a process of the scenario, again if need be. Its logs go on in the same files.
    pub(crate) fn start(&mut self, node_name: &str, name: &str) -> Result<(), LabError> {
        let recipe = self
            .recipes
            .iter()
            .find(|process| process.node == node_name && process.name == name);
        let recipe =
            recipe.ok_or_else(|| LabError::failed(format!("{node_name} has no process `{name}`")))?;
        let mut words = recipe.run.iter().map(|word| self.values.fill(word));
        let program = words.next().unwrap_or_default();
        let mut command = Command::new(find_program(&program)?);
        // Log lines of every program are compared with each other.
        command
            .args(words)
            .current_dir(&self.values.run)
            .env("TZ", "UTC")
            .env_remove("STEER_LOG");
        let process = node(&self.world, node_name)?.spawn(command, name)?;
        self.running
            .insert((node_name.to_owned(), name.to_owned()), process);
        Ok(())
    }

    /// The process, running or ended.
    pub(crate) fn process(&mut self, node: &str, name: &str) -> Result<&mut Proc, LabError> {
        self.running
            .get_mut(&(node.to_owned(), name.to_owned()))
            .ok_or_else(|| LabError::failed(format!("{node} has no process `{name}`")))
    }

    /// An error when a process has ended on its own, with the end of its log.
    pub(crate) fn all_alive(&mut self) -> Result<(), LabError> {
        for process in self.running.values_mut() {
            if let Some(status) = process.exited() {
                let log = std::fs::read_to_string(process.stderr()).unwrap_or_default();
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
            if let Err(error) = std::fs::write(&path, text) {
                tracing::warn!(path = %path.display(), %error, "cannot write a state");
            }
        }
    }
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
        Some(package) => format!("install the Debian package `{package}`"),
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
