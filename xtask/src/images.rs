//! `cargo xtask images`: the container image of the labs, from Debian packages.
//!
//! No registry is asked: debootstrap makes the file system from the same Debian mirror and of the same release as this
//! machine's, so that the binary of this tree finds its C library in it, and Docker imports it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::packages;
use crate::shell::{self, output, run};

/// What the topologies of the labs name.
const IMAGE: &str = "steer-lab:latest";

/// What runs in labs, and what their `exec` lines and whoever looks into a container need.
const PACKAGES: &str = "bind9,bird2,curl,dnsmasq-base,exabgp,frr,gobgpd,iproute2,iputils-ping,libfaketime,nftables,nginx-light,postgresql,procps,tcpdump,unbound";

/// Nobody reads these in a lab.
const LEFT_OUT: [&str; 5] = [
    "./var/cache/apt",
    "./var/lib/apt/lists",
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
];

/// What the image is made with.
const NEEDED: [(&str, &str); 2] = [("/usr/sbin/debootstrap", "debootstrap"), ("/usr/bin/tar", "tar")];

pub(crate) fn images(again: bool) -> Result<(), String> {
    if !packages::is_root() {
        return Err("debootstrap needs root: run this as root or with sudo".to_owned());
    }
    let docker = ["version", "--format", "{{.Server.Version}}"];
    output(Command::new("docker").args(docker)).map_err(|error| {
        format!("Docker (Debian package docker.io) must be installed and its daemon running: {error}")
    })?;
    if !again && output(Command::new("docker").args(["image", "inspect", IMAGE])).is_ok() {
        eprintln!("{IMAGE} is there; `cargo xtask images --again` makes it anew");
        return Ok(());
    }
    packages::ensure_also(&NEEDED);
    let folder = Folder::new()?;
    let start = Instant::now();
    let (mirror, release) = (mirror()?, release()?);
    eprintln!("1/2 {release} from {mirror}, with {PACKAGES}: a minute or two");
    let include = format!("--include={PACKAGES}");
    let mut bootstrap = Command::new("debootstrap");
    bootstrap
        .args(["--variant=minbase", &include, &release])
        .arg(&folder.0)
        .arg(&mirror);
    run(&mut bootstrap)?;
    eprintln!("2/2 into Docker");
    import(&folder.0)?;
    let size = output(Command::new("docker").args(["image", "inspect", "--format", "{{.Size}}", IMAGE]))?;
    let megabytes = size.trim().parse::<u64>().unwrap_or(0) / 1_000_000;
    eprintln!(
        "{IMAGE}: {megabytes} MB in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// `tar | docker import`
fn import(root: &Path) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).arg("-c");
    for path in LEFT_OUT {
        tar.arg(format!("--exclude={path}/*"));
    }
    let mut tar = tar
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("tar: {error}"))?;
    let mut import = Command::new("docker");
    import.args(["import", "--change", r#"CMD ["sleep", "infinity"]"#, "-", IMAGE]);
    import.stdin(tar.stdout.take().map_or_else(Stdio::null, Stdio::from));
    let imported = run(&mut import);
    let packed = tar.wait().map_err(|error| format!("tar: {error}"))?;
    imported?;
    if packed.success() {
        Ok(())
    } else {
        Err(format!("tar: {packed}"))
    }
}

/// Where this machine's own Debian packages come from.
fn mirror() -> Result<String, String> {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(CREATED_BY) $(ORIGIN) $(COMPONENT) $(SITE)",
    ]);
    let said = output(&mut targets)?;
    let sites = said
        .lines()
        .filter_map(|line| line.strip_prefix("Packages Debian main "));
    // Updates and security come from sites of their own; the release itself is listed first.
    sites
        .map(str::to_owned)
        .next()
        .ok_or_else(|| "apt knows no Debian mirror: see its sources.list".to_owned())
}

fn release() -> Result<String, String> {
    let path = "/etc/os-release";
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(|name| name.trim_matches('"').to_owned())
        .ok_or_else(|| format!("{path} names no VERSION_CODENAME"))
}

/// Removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = shell::target().join("lab-image");
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}
