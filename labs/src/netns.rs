//! A small network out of namespaces: nodes, veth pairs, bridges, addresses, routes, processes.
//!
//! ```text
//! World ──► Node (namespace + one worker thread inside it) ──► Proc (killed by pid on drop)
//!   │         └─ rtnetlink: addresses, routes, links
//!   └─ drop, panic, Ctrl-C: processes killed, namespaces and run folder removed
//! ```
//!
//! Names carry the creator's pid and start time (`steer-<pid>-<start>-<world>-<node>`), so that two runs go
//! side by side, `ip netns exec` works from outside, and the next [`World::new`] removes what a crashed run has
//! left without touching a live one. A process inside dies with its creator, even when that one got `SIGKILL`.
//!
//! Needs root (`CAP_SYS_ADMIN`, `CAP_NET_ADMIN`); [`can_run`] says why not.

mod container;
mod error;
mod node;
mod process;
mod signal;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use container::Container;
pub use error::NetError;
pub use node::Node;
pub use process::Proc;
pub(crate) use process::package_of;
pub use sweep::sweep;

pub(crate) use sweep::Owner;

/// Where `ip netns` looks for names.
const NETNS_DIR: &str = "/run/netns";

/// Longest name of a world or of a node, in bytes.
const NAME_MAX: usize = 40;

/// Says whether namespaces can be made here, and if not, why; print the reason when a test is skipped.
pub fn can_run() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces need root".to_owned());
    }
    static PROBES: AtomicU32 = AtomicU32::new(0); // several tests may ask at once
    let name = format!("probe-{}", PROBES.fetch_add(1, Ordering::Relaxed));
    match World::new(&name).and_then(|world| world.node("probe").map(drop)) {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("network namespaces are not available: {error}")),
    }
}

/// A network of its own. Dropping it kills every process inside and removes every namespace.
#[derive(Debug)]
pub struct World {
    shared: Arc<Shared>,
}

/// What a world owns, reachable from the signal thread too.
#[derive(Debug)]
struct Shared {
    name: String,
    prefix: String,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In order of creation.
    nodes: Vec<Node>,
    /// Taken down, by drop or by a signal; nothing can be made in it any more.
    gone: bool,
    /// What takes away what was made outside of namespaces.
    teardown: Vec<Teardown>,
}

/// See [`World::on_teardown`].
struct Teardown(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Teardown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teardown")
    }
}

impl World {
    /// Starts an empty world; first removes what crashed runs have left. `name` is unique within the process.
    pub fn new(name: &str) -> Result<Self, NetError> {
        check_name(name)?;
        if !nix::unistd::geteuid().is_root() {
            return Err(NetError::NotRoot);
        }
        sweep::prepare_netns_dir()?;
        sweep();
        let owner = Owner::this_process()?;
        let prefix = format!("{}-{name}", owner.prefix());
        let dir = std::env::temp_dir().join(&prefix);
        fs::create_dir(&dir)
            .map_err(|source| NetError::busy_or_io(name, "create the run folder", &dir, source))?;
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            prefix,
            dir,
            state,
        });
        let world = Self { shared };
        signal::guard(&world.shared)?;
        Ok(world)
    }

    /// The name given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The folder of this run: logs of processes, room for sockets and configuration. Removed with the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// First part of the names of everything that belongs to this world alone.
    pub(crate) fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Calls `body` once, when the world is taken down: by drop, by a panic, by a signal. The first to be given goes last.
    pub(crate) fn on_teardown(&self, body: impl FnOnce() + Send + 'static) {
        self.shared.lock().teardown.push(Teardown(Box::new(body)));
    }

    /// Makes a namespace with `lo` up.
    pub fn node(&self, name: &str) -> Result<Node, NetError> {
        let node = self.add(name, None)?;
        node.prepare()?;
        Ok(node)
    }

    /// Takes a container in: its namespace is the node's, commands run inside it.
    pub(crate) fn adopt(&self, name: &str, container: Container) -> Result<Node, NetError> {
        self.add(name, Some(container))
    }

    fn add(&self, name: &str, container: Option<Container>) -> Result<Node, NetError> {
        check_name(name)?;
        let mut state = self.shared.lock();
        if state.gone {
            return Err(NetError::Gone {
                world: self.shared.name.clone(),
            });
        }
        if state.nodes.iter().any(|node| node.name() == name) {
            return Err(NetError::Busy {
                name: name.to_owned(),
            });
        }
        let netns = format!("{}-{name}", self.shared.prefix);
        let node = Node::create(name, netns, &self.shared.dir, container)?;
        state.nodes.push(node.clone());
        Ok(node)
    }

    /// The node called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Node> {
        self.shared
            .lock()
            .nodes
            .iter()
            .find(|node| node.name() == name)
            .cloned()
    }

    /// Every node, in order of creation.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.shared.lock().nodes.clone()
    }

    /// Joins two nodes by a veth pair; both ends come up.
    pub fn link(&self, a: (&Node, &str), b: (&Node, &str)) -> Result<(), NetError> {
        a.0.veth(a.1, b.0, b.1)?;
        a.0.set_link(a.1, true)?;
        b.0.set_link(b.1, true)
    }

    /// Makes a switch: a node with a bridge `br0`. Each leg is a node and its interface; the port on the
    /// switch's side is called `port1`, `port2` and so on.
    pub fn bridge(&self, name: &str, legs: &[(&Node, &str)]) -> Result<Node, NetError> {
        let switch = self.switch(name)?;
        for (number, leg) in legs.iter().enumerate() {
            self.plug(&switch, &format!("port{}", number + 1), *leg)?;
        }
        Ok(switch)
    }

    /// Makes a node with an empty bridge `br0`; see [`World::plug`].
    pub fn switch(&self, name: &str) -> Result<Node, NetError> {
        let switch = self.node(name)?;
        switch.add_bridge("br0")?;
        Ok(switch)
    }

    /// Plugs a node's new interface into a switch's new port.
    pub fn plug(&self, switch: &Node, port: &str, leg: (&Node, &str)) -> Result<(), NetError> {
        self.link((switch, port), leg)?;
        switch.enslave(port, "br0")
    }

    /// Makes a switch drop everything at one port, both ways, or forward it again. The carrier stays up, so that
    /// nobody is told.
    pub fn cut(&self, switch: &Node, port: &str, cut: bool) -> Result<(), NetError> {
        if cut {
            switch.release(port)
        } else {
            switch.enslave(port, "br0")
        }
    }

    /// Copies the run folder's plain files (logs, configuration) to `to`, which is created.
    pub fn keep(&self, to: &Path) -> Result<(), NetError> {
        copy_files(&self.shared.dir, to)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shared.destroy();
        signal::forget(&self.shared);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes everything; harmless when done twice.
    fn destroy(&self) {
        let (nodes, teardown) = {
            let mut state = self.lock();
            state.gone = true;
            (
                std::mem::take(&mut state.nodes),
                std::mem::take(&mut state.teardown),
            )
        };
        for Teardown(body) in teardown.into_iter().rev() {
            body();
        }
        let namespaces: Vec<String> = nodes.iter().map(|node| node.netns_name().to_owned()).collect();
        sweep::remove_namespaces(&namespaces);
        for node in nodes {
            node.stop_worker();
        }
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove the run folder");
        }
    }
}

fn check_name(name: &str) -> Result<(), NetError> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(good) {
        return Err(NetError::BadName {
            name: name.to_owned(),
            max: NAME_MAX,
        });
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> Result<(), NetError> {
    fs::create_dir_all(to).map_err(|source| NetError::io("create the folder", to, source))?;
    let entries = fs::read_dir(from).map_err(|source| NetError::io("read the folder", from, source))?;
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).map_err(|source| NetError::io("copy to", &target, source))?;
        }
    }
    Ok(())
}
