//! One namespace and the thread that lives in it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::Runtime;

use super::container::Container;
use super::process::{self, Proc};
use super::{NETNS_DIR, NetError};

/// How long [`Node::exec`] lets a command run.
const EXEC_LIMIT: Duration = Duration::from_secs(30);

/// One host of a [`World`](super::World). Clones are the same host.
#[derive(Debug, Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    netns: String,
    dir: PathBuf,
    /// `None` once the world is gone.
    worker: Mutex<Option<Worker>>,
    /// Where commands run, when the namespace is a container's.
    container: Option<Container>,
}

/// The thread whose namespace is the node's. Processes are started from it: the kernel kills them when it ends.
#[derive(Debug)]
struct Worker {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
    namespace: Arc<File>,
}

type Job = Box<dyn FnOnce(&Inside) + Send>;

/// What a job finds in the namespace.
struct Inside {
    runtime: Runtime,
    netlink: Handle,
}

impl Node {
    /// The name given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The name that `ip netns` knows.
    #[must_use]
    pub fn netns_name(&self) -> &str {
        &self.shared.netns
    }

    /// The run folder of the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Adds an address such as `192.0.2.1/24` or `2001:db8::1/64` to an interface; no duplicate detection, so
    /// it can be used at once.
    pub fn address(&self, interface: &str, address: &str) -> Result<(), NetError> {
        let (ip, length) = parse_prefix(address)?;
        let index = self.index(interface)?;
        self.netlink(format!("add {address} to {interface}"), move |inside| {
            inside
                .runtime
                .block_on(inside.netlink.address().add(index, ip, length).execute())
        })
    }

    /// Adds a route such as `0.0.0.0/0` by a gateway.
    pub fn route(&self, destination: &str, gateway: &str) -> Result<(), NetError> {
        let (ip, length) = parse_prefix(destination)?;
        let bad = |value: &str| NetError::BadValue {
            value: value.to_owned(),
            wanted: "gateway of that family",
        };
        let via: IpAddr = gateway.parse().map_err(|_| bad(gateway))?;
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(ip, length)
            .and_then(|route| route.gateway(via))
            .map_err(|_| bad(gateway))?
            .build();
        self.netlink(
            format!("add the route {destination} via {gateway}"),
            move |inside| {
                inside
                    .runtime
                    .block_on(inside.netlink.route().add(route).execute())
            },
        )
    }

    /// Sets a network sysctl by its usual name, such as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), NetError> {
        let path = PathBuf::from(format!("/proc/sys/{}", key.replace('.', "/")));
        // The folder shows the namespace of whoever opens it.
        self.enter(|| fs::write(&path, value))?
            .map_err(|source| NetError::io("write to", &path, source))
    }

    /// Takes an interface up or down.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<(), NetError> {
        let link = LinkUnspec::new_with_index(self.index(interface)?);
        let link = if up { link.up() } else { link.down() }.build();
        self.netlink(
            format!("set {interface} {}", if up { "up" } else { "down" }),
            move |inside| inside.runtime.block_on(inside.netlink.link().set(link).execute()),
        )
    }

    /// Runs a command to its end inside and returns its output; at most 30 s.
    pub fn exec<S: AsRef<str>>(&self, command: &[S]) -> Result<Output, NetError> {
        let line = command.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        let program = command.first().map(AsRef::as_ref).unwrap_or_default();
        let mut child = Command::new(program);
        child.args(command.iter().skip(1).map(AsRef::as_ref));
        if let Some(container) = &self.shared.container {
            child = container.exec(&child);
        }
        child.stdin(Stdio::null());
        let output = self.enter(|| process::output(&mut child, EXEC_LIMIT))?;
        output.map_err(|source| {
            if source.kind() == std::io::ErrorKind::TimedOut {
                NetError::TooLong {
                    node: self.name().to_owned(),
                    command: line,
                    limit: EXEC_LIMIT,
                }
            } else {
                process::start_error(program, source)
            }
        })
    }

    /// Starts a process inside; its output goes to `<node>-<label>.out` and `.err` in the run folder. It is
    /// killed when the [`Proc`] or the world is dropped, and when we die.
    pub fn spawn(&self, mut command: Command, label: &str) -> Result<Proc, NetError> {
        let stem = self.shared.dir.join(format!("{}-{label}", self.name()));
        let logs = process::Logs::create(&stem)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let birth = self.shared.container.as_ref().map(|container| {
            let note = stem.with_added_extension("pid");
            let (wrapped, birth) = container.start(&command, note);
            command = wrapped;
            birth
        });
        command
            .stdin(Stdio::null())
            .stdout(logs.stdout()?)
            .stderr(logs.stderr()?);
        process::die_with_parent(&mut command);
        let child = self.run(move |_| command.spawn())?;
        let child = child.map_err(|source| process::start_error(&program, source))?;
        let mut process = Proc::new(format!("{}: {label}", self.name()), child, logs);
        if let Some(birth) = birth {
            process.find_inner(&birth)?;
        }
        Ok(process)
    }

    /// Calls `body` on a thread inside the namespace. A socket made there stays in the namespace wherever it
    /// is used afterwards.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, NetError> {
        let namespace = self.namespace()?;
        let inside = || setns(&namespace, CloneFlags::CLONE_NEWNET).map(|()| body());
        let result = std::thread::scope(|scope| scope.spawn(inside).join());
        match result {
            Ok(done) => done.map_err(|source| NetError::io("enter", self.path(), source)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts a long-lived thread inside the namespace.
    pub fn thread<T: Send + 'static>(
        &self,
        label: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T, NetError>>, NetError> {
        let node = self.clone();
        let namespace = self.namespace()?;
        let inside = move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)
                .map_err(|source| NetError::io("enter", node.path(), source))?;
            Ok(body())
        };
        std::thread::Builder::new()
            .name(format!("{}-{label}", self.name()))
            .spawn(inside)
            .map_err(|source| NetError::io("start a thread in", self.path(), source))
    }

    fn namespace(&self) -> Result<Arc<File>, NetError> {
        let worker = self.shared.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = worker.as_ref().ok_or_else(|| NetError::Gone {
            world: self.netns_name().to_owned(),
        })?;
        Ok(Arc::clone(&worker.namespace))
    }

    fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(self.netns_name())
    }
}

/// For the world alone.
impl Node {
    /// A new namespace, or the one of a container.
    pub(super) fn create(
        name: &str,
        netns: String,
        dir: &Path,
        container: Option<Container>,
    ) -> Result<Self, NetError> {
        let path = Path::new(NETNS_DIR).join(&netns);
        File::create_new(&path).map_err(|source| NetError::busy_or_io(&netns, "create", &path, source))?;
        match Self::fill(name, &netns, dir, &path, container) {
            Ok(node) => Ok(node),
            Err(error) => {
                super::sweep::remove_namespaces(&[netns]);
                Err(error)
            }
        }
    }

    fn fill(
        name: &str,
        netns: &str,
        dir: &Path,
        path: &Path,
        container: Option<Container>,
    ) -> Result<Self, NetError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let at = path.to_owned();
        let from = container.as_ref().map(Container::namespace);
        let thread = std::thread::Builder::new()
            .name(format!("netns-{name}"))
            .spawn(move || {
                let inside = make_namespace(&at, from.as_deref());
                let ok = inside.is_ok();
                let (inside, report) = match inside {
                    Ok(inside) => (Some(inside), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                if ready.send(report).is_ok()
                    && ok
                    && let Some(inside) = inside
                {
                    queue.into_iter().for_each(|job| job(&inside));
                }
            })
            .map_err(|source| NetError::io("start a thread for", path, source))?;
        let gone = || NetError::Gone {
            world: netns.to_owned(),
        };
        made.recv().map_err(|_| gone())??;
        let namespace = File::open(path).map_err(|source| NetError::io("open", path, source))?;
        let worker = Mutex::new(Some(Worker {
            jobs,
            thread,
            namespace: Arc::new(namespace),
        }));
        let shared = Shared {
            name: name.to_owned(),
            netns: netns.to_owned(),
            dir: dir.to_owned(),
            worker,
            container,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// What every node needs: loopback, and IPv6 addresses that are usable at once.
    pub(super) fn prepare(&self) -> Result<(), NetError> {
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad");
            if Path::new(&path).exists() {
                self.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
            }
        }
        self.set_link("lo", true)
    }

    /// Ends the worker; the kernel then kills what it has started. Never blocks on a running job for long,
    /// because jobs are short.
    pub(super) fn stop_worker(&self) {
        let worker = self
            .shared
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Worker {
            jobs,
            thread,
            namespace,
        }) = worker
        {
            drop((jobs, namespace));
            if thread.join().is_err() {
                tracing::warn!(node = self.name(), "the worker of a node panicked");
            }
        }
    }

    pub(super) fn veth(&self, name: &str, peer: &Self, peer_name: &str) -> Result<(), NetError> {
        let namespace = peer.namespace()?;
        let other = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer_name)
            .append_extra_attribute(LinkAttribute::NetNsFd(namespace.as_raw_fd()))
            .build();
        let link = LinkVeth::new(name, peer_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(other)))
            .build();
        let what = format!("link {name} to {peer_name} of {}", peer.name());
        self.netlink(what, move |inside| {
            inside.runtime.block_on(inside.netlink.link().add(link).execute())
        })
    }

    pub(super) fn add_bridge(&self, name: &str) -> Result<(), NetError> {
        let link = LinkBridge::new(name).build();
        self.netlink(format!("add the bridge {name}"), move |inside| {
            inside.runtime.block_on(inside.netlink.link().add(link).execute())
        })
    }

    pub(super) fn enslave(&self, port: &str, bridge: &str) -> Result<(), NetError> {
        let controller = self.index(bridge)?;
        let link = LinkUnspec::new_with_index(self.index(port)?)
            .controller(controller)
            .build();
        self.netlink(format!("plug {port} into {bridge}"), move |inside| {
            inside.runtime.block_on(inside.netlink.link().set(link).execute())
        })
    }

    /// Takes a port off its bridge: it forwards nothing any more, and its carrier stays.
    pub(super) fn release(&self, port: &str) -> Result<(), NetError> {
        let link = LinkUnspec::new_with_index(self.index(port)?)
            .nocontroller()
            .build();
        self.netlink(format!("unplug {port}"), move |inside| {
            inside.runtime.block_on(inside.netlink.link().set(link).execute())
        })
    }

    fn index(&self, interface: &str) -> Result<u32, NetError> {
        let name = interface.to_owned();
        self.run(move |_| nix::net::if_::if_nametoindex(name.as_str()))?
            .map_err(|source| NetError::io("find in this node the interface", interface, source))
    }

    fn netlink(
        &self,
        what: String,
        job: impl FnOnce(&Inside) -> Result<(), rtnetlink::Error> + Send + 'static,
    ) -> Result<(), NetError> {
        self.run(job)?.map_err(|source| NetError::Netlink {
            node: self.name().to_owned(),
            what,
            source: Box::new(source),
        })
    }

    /// Runs a short job on the worker and waits for it.
    fn run<T: Send + 'static>(&self, job: impl FnOnce(&Inside) -> T + Send + 'static) -> Result<T, NetError> {
        let gone = || NetError::Gone {
            world: self.netns_name().to_owned(),
        };
        let (answer, result) = mpsc::channel();
        let job: Job = Box::new(move |inside| drop(answer.send(job(inside))));
        {
            let worker = self.shared.worker.lock().unwrap_or_else(PoisonError::into_inner);
            worker
                .as_ref()
                .ok_or_else(gone)?
                .jobs
                .send(job)
                .map_err(|_| gone())?;
        }
        result.recv().map_err(|_| gone())
    }
}

/// On the worker's thread: a new namespace, or an existing one, pinned to `path`.
fn make_namespace(path: &Path, from: Option<&Path>) -> Result<Inside, NetError> {
    match from {
        Some(from) => {
            let file = File::open(from).map_err(|source| NetError::io("open", from, source))?;
            setns(file, CloneFlags::CLONE_NEWNET).map_err(|source| NetError::io("enter", from, source))?;
        }
        None => unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|source| NetError::io("make the namespace", path, source))?,
    }
    let none: Option<&str> = None;
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        none,
        MsFlags::MS_BIND,
        none,
    )
    .map_err(|source| NetError::io("pin the namespace to", path, source))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|source| NetError::io("start netlink in", path, source))?;
    let netlink = {
        let _guard = runtime.enter();
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| NetError::io("open netlink in", path, source))?;
        runtime.spawn(connection);
        handle
    };
    Ok(Inside { runtime, netlink })
}

fn parse_prefix(value: &str) -> Result<(IpAddr, u8), NetError> {
    let bad = || NetError::BadValue {
        value: value.to_owned(),
        wanted: "address with its prefix length",
    };
    let (ip, length) = value.split_once('/').ok_or_else(bad)?;
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    let length: u8 = length.parse().map_err(|_| bad())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if length > most {
        Err(bad())
    } else {
        Ok((ip, length))
    }
}
