//! The containerlab runtime: the real program deploys the topology, the nodes of the world are its containers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use super::deployed;
use super::docker::{Docker, is_file, last_lines, run};
use super::hosts;
use crate::LabError;
use crate::clab::{Kind, Topology};
use crate::netns::{Container, Owner, World};
use crate::world::find_program;

/// Names another program than the one on PATH.
const PROGRAM_VARIABLE: &str = "STEER_CONTAINERLAB";

/// containerlab reads the list of loaded modules and stops where the kernel has none.
const MODULES: &str = "/proc/modules";

/// Where containerlab leaves SSH settings and names of namespaces.
const SSH_FOLDER: &str = "/etc/ssh/ssh_config.d";
const NETNS_FOLDER: &str = "/run/netns";

/// containerlab and Docker, both there and ready.
#[derive(Debug, Clone)]
pub(crate) struct Containerlab {
    program: PathBuf,
    docker: Docker,
}

/// Whether labs can run on containerlab here; if not, why. Print the reason when a test is skipped.
pub fn can_run(image: &str) -> Result<(), String> {
    let clab = Containerlab::find().map_err(|error| error.to_string())?;
    clab.needs_image(image).map_err(|error| error.to_string())
}

impl Containerlab {
    /// Looks for everything before anything is started; each error says what to do.
    pub(crate) fn find() -> Result<Self, LabError> {
        if !nix::unistd::geteuid().is_root() {
            let what =
                "containerlab, and entering containers to measure, need root: run this as root or with sudo";
            return Err(LabError::failed(what));
        }
        let program = program()?;
        let docker = Docker::connect()?;
        Ok(Self { program, docker })
    }

    /// Images, and the programs in them.
    pub(crate) fn check(&self, topology: &Topology, programs: &[String]) -> Result<(), LabError> {
        for node in topology.nodes.iter().filter(|node| node.kind == Kind::Linux) {
            let Some(image) = &node.container.image else {
                let what = format!("node `{}` names no image, which containerlab needs", node.name);
                return Err(LabError::failed(what));
            };
            self.needs_image(image)?;
        }
        for image in images(topology) {
            let lacking = self.docker.lacking(image, programs)?;
            if !lacking.is_empty() {
                return Err(LabError::Missing {
                    program: lacking.join("`, `"),
                    remedy: format!("the image `{image}` is without it; `cargo xtask images` makes it anew"),
                });
            }
        }
        Ok(())
    }

    fn needs_image(&self, image: &str) -> Result<(), LabError> {
        if self.docker.has_image(image) {
            return Ok(());
        }
        Err(LabError::failed(format!(
            "there is no image `{image}`: run `cargo xtask images`, which makes it from Debian packages"
        )))
    }

    /// Deploys the topology and takes its containers into the world. What is made goes with the world.
    pub(crate) fn build(&self, world: &World, topology: &Topology, shared: &[&Path]) -> Result<(), LabError> {
        self.sweep();
        let lab = world.prefix().to_owned();
        if self.docker.labs().map_err(LabError::failed)?.contains(&lab) {
            return Err(LabError::failed(format!(
                "the name `{lab}` is busy: Docker has containers of it"
            )));
        }
        let file = world.dir().join(format!("{}.clab.yml", topology.name));
        let image = images(topology).first().copied().unwrap_or_default().to_owned();
        let text = deployed::text(topology, &lab, &image, &binds(shared));
        fs::write(&file, text).map_err(|source| LabError::io("write", &file, source))?;
        let (this, name) = (self.clone(), lab.clone());
        world.on_teardown(move || this.destroy(&name));
        self.deploy(&file, world.dir())?;
        for node in &topology.nodes {
            let name = format!("clab-{lab}-{}", node.name);
            let init = self.docker.init(&name).map_err(LabError::failed)?;
            let docker = self.docker.program.clone();
            world.adopt(&node.name, Container { docker, name, init })?;
        }
        Ok(())
    }

    fn deploy(&self, file: &Path, folder: &Path) -> Result<(), LabError> {
        let mut command = self.command(&["deploy", "--topo"]);
        command.arg(file).current_dir(folder);
        let output = command.output();
        let output = output.map_err(|source| LabError::io("start", &self.program, source))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = folder.join("containerlab.err");
        fs::write(&log, &said).map_err(|source| LabError::io("write", &log, source))?;
        if output.status.success() {
            return failed_exec(&said).map_or(Ok(()), |what| Err(LabError::failed(what)));
        }
        Err(LabError::failed(format!(
            "containerlab deploy failed ({}):\n{}",
            output.status,
            last_lines(&said, 6)
        )))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // It would ask the net for its newest version first.
        command.args(words).env("CLAB_VERSION_CHECK", "disable");
        command
    }

    /// Takes a lab away: by containerlab, and where that fails, by Docker.
    fn destroy(&self, lab: &str) {
        if let Err(said) = run(&mut self.command(&["destroy", "--cleanup", "--name", lab])) {
            tracing::warn!(lab, said, "containerlab cannot destroy a lab");
        }
        // Finds nothing when that went well.
        if let Err(error) = self.docker.remove_lab(lab) {
            tracing::warn!(lab, error, "cannot remove the containers of a lab");
        }
        forget(lab);
    }

    /// Removes the labs of runs whose creator is dead.
    fn sweep(&self) {
        let stale = |lab: &String| Owner::of(lab).is_some_and(|owner| !owner.is_alive());
        match self.docker.labs() {
            Ok(labs) => labs
                .iter()
                .filter(|lab| stale(lab))
                .for_each(|lab| self.destroy(lab)),
            Err(error) => tracing::warn!(error, "cannot look for containers of crashed runs"),
        }
        hosts::labs()
            .iter()
            .filter(|lab| stale(lab))
            .for_each(|lab| forget(lab));
        for name in names(SSH_FOLDER).chain(names(NETNS_FOLDER)) {
            let lab = name
                .strip_prefix("clab-")
                .map(|rest| rest.trim_end_matches(".conf").to_owned());
            if let Some(lab) = lab.filter(stale) {
                forget(&lab);
            }
        }
    }
}

/// As `STEER_CONTAINERLAB` says, or as found on PATH. A program that was named is taken to know its kernel.
fn program() -> Result<PathBuf, LabError> {
    if let Some(named) = std::env::var_os(PROGRAM_VARIABLE) {
        let path = PathBuf::from(&named);
        return path.is_file().then_some(path).ok_or_else(|| LabError::Missing {
            program: named.to_string_lossy().into_owned(),
            remedy: format!("{PROGRAM_VARIABLE} must name the program containerlab"),
        });
    }
    let program = find_program("containerlab").map_err(|_| LabError::Missing {
        program: "containerlab".to_owned(),
        remedy: format!(
            "install it (containerlab.dev) or name it by {PROGRAM_VARIABLE}; `--runtime netns` needs neither it nor Docker"
        ),
    })?;
    if is_file(MODULES) {
        return Ok(program);
    }
    Err(LabError::failed(format!(
        "this kernel has no {MODULES} (built without loadable modules), without which containerlab stops: use \
         `--runtime netns`, or name a build of it that does without by {PROGRAM_VARIABLE}"
    )))
}

/// Every image of the topology, once.
fn images(topology: &Topology) -> Vec<&str> {
    let images = topology
        .nodes
        .iter()
        .filter_map(|node| node.container.image.as_deref());
    images.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The same paths inside as outside.
fn binds(shared: &[&Path]) -> Vec<String> {
    let mut binds: Vec<String> = shared
        .iter()
        .map(|path| path.to_string_lossy())
        .map(|path| format!("{path}:{path}"))
        .collect();
    binds.dedup();
    binds
}

/// containerlab goes on when a line of `exec` fails, and says so in its log.
fn failed_exec(said: &str) -> Option<String> {
    let mut lines = said
        .lines()
        .skip_while(|line| !line.contains("Failed to execute command"));
    let first = lines.next()?;
    let more: Vec<&str> = lines.take(2).map(str::trim).collect();
    Some(format!(
        "an `exec` line of the topology failed: {first} {}",
        more.join(" ")
    ))
}

/// What `destroy --name` leaves, or a run that is killed: lines in `/etc/hosts`, the SSH settings, and the names of the containers' namespaces, which would be links to
/// processes that are gone.
fn forget(lab: &str) {
    drop(fs::remove_file(
        Path::new(SSH_FOLDER).join(format!("clab-{lab}.conf")),
    ));
    if let Err(error) = hosts::forget(lab) {
        tracing::warn!(lab, %error, "cannot take the names of a lab out of /etc/hosts");
    }
    let prefix = format!("clab-{lab}");
    for name in names(NETNS_FOLDER).filter(|name| name.starts_with(&prefix)) {
        let path = Path::new(NETNS_FOLDER).join(name);
        let _ = umount2(&path, MntFlags::MNT_DETACH); // most are links
        drop(fs::remove_file(path));
    }
}

fn names(folder: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_exec_line_is_found_in_the_log() {
        let log = "23:47:19 INFO Executed command node=a command=\"ip link\" stdout=\"\"\n\
            23:47:19 ERRO Failed to execute command command=\"ip address add x dev eth9\" node=a rc=1 stdout=\"\"\n  \
            stderr=\n  │ Error: any valid prefix is expected rather than \"x\".\n";
        let said = failed_exec(log).unwrap();
        assert!(
            said.contains("dev eth9") && said.contains("any valid prefix"),
            "{said}"
        );
        assert_eq!(failed_exec("INFO Executed command node=a"), None);
    }

    #[test]
    fn a_path_is_bound_once_and_to_itself() {
        let binds = binds(&[Path::new("/a"), Path::new("/a"), Path::new("/b")]);
        assert_eq!(binds, ["/a:/a", "/b:/b"]);
    }
}
