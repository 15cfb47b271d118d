//! What quickstart puts on disk and starts beside the fleet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cli::QuickstartArgs;
use crate::exit::Failure;

const FLEET: &str = include_str!("fleet.toml");
const ZONE: &str = include_str!("example.com.zone");

/// The sites of the quickstart fleet, in file order.
pub(super) const SITES: [&str; 3] = ["fra", "iad", "nrt"];

/// The configuration in a folder of its own, removed on drop.
pub(super) struct Files {
    folder: TempDir,
}

impl Files {
    /// Writes configuration and zone for the addresses in `args`.
    pub(super) fn write(args: &QuickstartArgs) -> Result<Self, Failure> {
        let fail =
            |error: &dyn std::error::Error| Failure::runtime("cannot write the quickstart files", error);
        let folder = tempfile::Builder::new()
            .prefix("steer-quickstart-")
            .tempdir()
            .map_err(|e| fail(&e))?;
        let files = Self { folder };
        std::fs::write(files.config(), fleet(args)?).map_err(|e| fail(&e))?;
        std::fs::write(files.path().join("example.com.zone"), ZONE).map_err(|e| fail(&e))?;
        Ok(files)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path().join("steer.toml")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn fleet(args: &QuickstartArgs) -> Result<String, Failure> {
    let mut text = FLEET.to_owned();
    for (index, site) in SITES.iter().enumerate() {
        let mark = format!("@{}@", site.to_ascii_uppercase());
        text = text.replace(&mark, &endpoint_address(args, index)?.port().to_string());
    }
    Ok(text
        .replace("@DNS@", &args.dns.to_string())
        .replace("@ADMIN@", &args.admin.to_string())
        .replace("@MONITOR@", &args.monitor.ip().to_string())
        .replace("@MONITOR_PORT@", &args.monitor.port().to_string()))
}

/// Where the local endpoint of the `index`th site listens.
pub(super) fn endpoint_address(args: &QuickstartArgs, index: usize) -> Result<SocketAddr, Failure> {
    let port = u16::try_from(index)
        .ok()
        .and_then(|index| args.endpoints.checked_add(index));
    let port = port.ok_or_else(|| {
        Failure::Usage(format!(
            "--endpoints {}: three ports are needed from there on; at most 65533",
            args.endpoints
        ))
    })?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

/// A local endpoint as a process of its own, so that it can be killed.
pub(super) struct Endpoint {
    pub(super) site: &'static str,
    pub(super) listen: SocketAddr,
    pub(super) pid: u32,
    pub(super) child: Child,
}

impl Endpoint {
    /// Starts it. It ends when we end: its standard input closes with us.
    pub(super) fn start(site: &'static str, listen: SocketAddr) -> Result<Self, Failure> {
        let fail = |error: &dyn std::error::Error| {
            Failure::runtime(&format!("cannot start the endpoint {site} on {listen}"), error)
        };
        let steer = std::env::current_exe().map_err(|e| fail(&e))?;
        let child = Command::new(steer)
            .args([
                "endpoint",
                "--with-stdin",
                "--name",
                site,
                "--listen",
                &listen.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| fail(&e))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self {
            site,
            listen,
            pid,
            child,
        })
    }
}
