//! The few things that are asked of Docker, by its own client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::LabError;
use crate::world::find_program;

/// What containerlab calls the label that carries a lab's name.
const LAB_LABEL: &str = "containerlab";

/// The client, once the daemon has answered.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    pub(crate) program: PathBuf,
}

impl Docker {
    /// An error says what to do: no client, no daemon.
    pub(crate) fn connect() -> Result<Self, LabError> {
        let program = find_program("docker").map_err(|_| LabError::Missing {
            program: "docker".to_owned(),
            remedy: "install the Debian package `docker.io`".to_owned(),
        })?;
        let docker = Self { program };
        docker
            .ask(&["version", "--format", "{{.Server.Version}}"])
            .map_err(|said| {
                let what = "Docker does not answer: start its daemon (`systemctl start docker`, or `dockerd` as root)";
                LabError::failed(format!("{what}; docker says: {said}"))
            })?;
        Ok(docker)
    }

    pub(crate) fn has_image(&self, image: &str) -> bool {
        self.ask(&["image", "inspect", "--format", "{{.Id}}", image])
            .is_ok()
    }

    /// The programs that the image does not have. Runs a container of it, without any network.
    pub(crate) fn lacking(&self, image: &str, programs: &[String]) -> Result<Vec<String>, LabError> {
        let script = r#"for p in "$@"; do test -f "$p" || command -v "$p" >/dev/null || echo "$p"; done"#;
        let mut words = vec![
            "run",
            "--rm",
            "--network",
            "none",
            image,
            "sh",
            "-c",
            script,
            "sh",
        ];
        words.extend(programs.iter().map(String::as_str));
        let said = self.ask(&words);
        let said =
            said.map_err(|said| LabError::failed(format!("a container of `{image}` does not run: {said}")))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Names of labs that have containers, running or not.
    pub(crate) fn labs(&self) -> Result<Vec<String>, String> {
        let filter = format!("label={LAB_LABEL}");
        let format = format!("{{{{.Label \"{LAB_LABEL}\"}}}}");
        let said = self.ask(&["ps", "--all", "--filter", &filter, "--format", &format])?;
        let mut labs: Vec<String> = said.lines().map(str::to_owned).collect();
        labs.sort();
        labs.dedup();
        Ok(labs)
    }

    /// The first process of a container, as the host counts.
    pub(crate) fn init(&self, container: &str) -> Result<i32, String> {
        let said = self.ask(&["inspect", "--format", "{{.State.Pid}}", container])?;
        match said.trim().parse() {
            Ok(pid) if pid > 0 => Ok(pid),
            Ok(_) | Err(_) => Err(format!("container `{container}` does not run")),
        }
    }

    /// Removes every container of a lab.
    pub(crate) fn remove_lab(&self, lab: &str) -> Result<(), String> {
        let filter = format!("label={LAB_LABEL}={lab}");
        let ids = self.ask(&["ps", "--all", "--quiet", "--filter", &filter])?;
        let mut words = vec!["rm", "--force"];
        words.extend(ids.split_whitespace());
        if words.len() > 2 {
            self.ask(&words)?;
        }
        Ok(())
    }

    fn ask(&self, words: &[&str]) -> Result<String, String> {
        run(Command::new(&self.program).args(words))
    }
}

/// The last lines of a text that are not empty.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// What a command says on stdout; the end of what it says on stderr when it fails.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let tail = last_lines(&said, 8);
    Err(if tail.is_empty() {
        output.status.to_string()
    } else {
        tail
    })
}

/// A file that must be there for the daemon or for containerlab.
pub(super) fn is_file(path: &str) -> bool {
    Path::new(path).exists()
}
