//! A private PostgreSQL in a temporary folder, from Debian's package. It ends with the test, or with its process.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tempfile::TempDir;

/// The longest that a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    /// A shell that stops the server when we are gone, however that happens: its standard input ends.
    keeper: Mutex<Child>,
    databases: AtomicU32,
}

/// Where Debian puts the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

/// The one server that the tests of this process share while any of them runs; `None`, and a line that says so, where
/// the package is missing.
pub(crate) fn shared(what: &str) -> Option<Arc<Cluster>> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    if let Some(cluster) = shared.upgrade() {
        return Some(cluster);
    }
    let cluster = Arc::new(private(what)?);
    *shared = Arc::downgrade(&cluster);
    Some(cluster)
}

/// A server of one's own, to be crashed.
pub(crate) fn private(what: &str) -> Option<Cluster> {
    let Some(programs) = programs() else {
        println!("skip: {what}: PostgreSQL is not installed (Debian package postgresql)");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    if let Some(user) = owner() {
        chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let data = folder.path().join("data");
    let mut initdb = as_owner(&programs.join("initdb"));
    initdb.args([
        "--auth=trust",
        "--username=postgres",
        "--no-sync",
        "--encoding=UTF8",
        "--pgdata",
    ]);
    let made = initdb.arg(&data).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let keeper = Mutex::new(start(&programs, folder.path()));
    let cluster = Cluster {
        programs,
        folder,
        keeper,
        databases: AtomicU32::new(0),
    };
    cluster.wait_until_ready();
    Some(cluster)
}

/// PostgreSQL refuses to run as root.
fn owner() -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").unwrap();
    Some(user.expect("the package makes the user postgres"))
}

fn as_owner(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = owner() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn start(programs: &Path, folder: &Path) -> Child {
    let script = "\"$0\" \"$@\" & server=$!; cat > /dev/null; kill -INT $server; wait $server";
    let mut keeper = as_owner(Path::new("/bin/sh"));
    keeper
        .args(["-c", script])
        .arg(programs.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        // A process that crashes loses nothing that it has written; only a machine would.
        .args(["-h", "", "-c", "fsync=off", "-c", "max_connections=60"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).unwrap());
    keeper.spawn().unwrap()
}

impl Cluster {
    /// The settings of a new and empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let made = Command::new(self.programs.join("createdb"))
            .args(["--username=postgres", "--host"])
            .arg(self.folder.path())
            .arg(&name)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.config(&name)
    }

    fn config(&self, name: &str) -> String {
        format!(
            "host={} user=postgres dbname={name}",
            self.folder.path().display()
        )
    }

    /// Ends the server as a crash would: nothing is written that was not, and the next start recovers from the log.
    pub(crate) fn crash(&self) {
        kill(self.server().expect("it runs"), Signal::SIGQUIT).unwrap();
        self.wait_until("has stopped", || self.server().is_none());
    }

    /// Starts it again.
    pub(crate) fn restart(&self) {
        let mut keeper = self.keeper.lock().unwrap();
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
        *keeper = start(&self.programs, self.folder.path());
        drop(keeper);
        self.wait_until_ready();
    }

    fn server(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        let is_alive = kill(Pid::from_raw(pid), None).is_ok();
        is_alive.then_some(Pid::from_raw(pid))
    }

    fn wait_until_ready(&self) {
        self.wait_until("takes connections", || {
            let mut ask = Command::new(self.programs.join("pg_isready"));
            ask.arg("--host").arg(self.folder.path());
            ask.stdout(Stdio::null()).status().unwrap().success()
        });
    }

    fn wait_until(&self, what: &str, is: impl Fn() -> bool) {
        let began = Instant::now();
        while !is() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "no PostgreSQL that {what}: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap();
        drop(keeper.stdin.take());
        if let Err(error) = keeper.wait() {
            eprintln!("PostgreSQL of a test: {error}");
        }
    }
}
