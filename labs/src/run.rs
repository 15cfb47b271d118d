//! One run: build, converge, break, watch, heal, repeat, report.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::clab::{self, Topology};
use crate::netns::{NetError, World};
use crate::report::Clock;
use crate::scenario::{FaultKind, Scenario, ms};
use crate::watch::answers::Question;
use crate::watch::capture::{self, Pcap};
use crate::watch::log::{Line, Tail, bird_removed};
use crate::watch::replies::Target;
use crate::watch::{Event, Method, Nanos, Seen, Timeline, answers, ms_between, now, replies, routes};
use crate::world::{Lab, Values, find_program, node};
use crate::{LabError, LabOptions, Report, shipped, wait};

/// How often conditions are looked at. Only waiting depends on it: what is measured comes from time stamps.
const POLL: Duration = Duration::from_millis(10);

/// A larger difference between wall clock and monotonic clock within a repetition spoils its numbers.
const CLOCK_STEP_MAX: Duration = Duration::from_micros(500);

pub(crate) fn run(lab: &str, options: &LabOptions) -> Result<Report, LabError> {
    let start = Instant::now();
    let say = |what: &str| eprintln!("[{:7.2} s] {what}", start.elapsed().as_secs_f64());
    let is_shipped = shipped::LABS.iter().any(|shipped| shipped.name == lab);
    if !is_shipped && !Path::new(lab).is_dir() {
        return Err(unknown(lab));
    }
    let world = World::new(&world_name(lab))?;
    let folder = unpack(lab, world.dir())?;
    let (topology, scenario) = read(&folder)?;
    let steer = fs::canonicalize(&options.steer)
        .map_err(|source| LabError::io("find the binary under test", &options.steer, source))?;
    let values = Values {
        steer,
        lab: folder,
        run: world.dir().to_owned(),
    };
    for process in scenario
        .processes
        .iter()
        .filter_map(|process| process.run.first())
    {
        if !process.starts_with("{steer}") {
            find_program(process)?;
        }
    }
    let lab = Lab::build(world, &topology, &scenario, values)?;
    say(&format!(
        "{}: {} nodes, {} links, {} processes",
        topology.name,
        topology.nodes.len(),
        topology.links.len(),
        scenario.processes.len()
    ));
    let mut rehearsal = Rehearsal::new(lab, scenario)?;
    let result = rehearsal.repeat(&topology.name, options.repeat.max(1), &say);
    rehearsal.stop_watching();
    finish(&rehearsal.lab, options, result)
}

/// Keeps what is asked for, or what a failure needs.
fn finish(lab: &Lab, options: &LabOptions, result: Result<Report, LabError>) -> Result<Report, LabError> {
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
            eprintln!("result, logs, states and capture: {}", out.display());
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
    let text = serde_json::to_string_pretty(report).map_err(std::io::Error::from);
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

fn read(folder: &Path) -> Result<(Topology, Scenario), LabError> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|source| LabError::io("read", path, source));
    let entries = fs::read_dir(folder).map_err(|source| LabError::io("read", folder, source))?;
    let is_topology = |path: &PathBuf| path.to_string_lossy().ends_with(".clab.yml");
    let file = entries.flatten().map(|entry| entry.path()).find(is_topology);
    let file = file.ok_or_else(|| unknown(&folder.display().to_string()))?;
    let topology = clab::parse(&file, &text(&file)?)?;
    let file = folder.join("scenario.toml");
    let scenario = Scenario::parse(&file, &text(&file)?)?;
    scenario.fits(&file, &topology)?;
    Ok((topology, scenario))
}

/// A running lab under observation.
struct Rehearsal {
    lab: Lab,
    scenario: Scenario,
    timeline: Timeline,
    observers: Vec<JoinHandle<Result<(), NetError>>>,
    verdicts: Tail,
    router_log: Tail,
}

/// What one repetition saw; each the first of its kind after the fault.
#[derive(Debug, Default)]
struct Chain {
    verdict: Option<Nanos>,
    withdrawn: Option<Nanos>,
    router_log: Option<Nanos>,
    routed: Option<Nanos>,
    answer: Option<Nanos>,
    anycast_reply: Option<Nanos>,
    dns_reply: Option<Nanos>,
}

impl Rehearsal {
    fn new(lab: Lab, scenario: Scenario) -> Result<Self, LabError> {
        let timeline = Timeline::default();
        let dir = lab.world.dir().to_owned();
        let log = |node: &str, process: &str| Tail::new(&dir.join(format!("{node}-{process}.err")));
        let verdicts = log(&scenario.wait.verdict_node, &scenario.wait.verdict_process);
        let router_log = log(&scenario.anycast.router, "bird");
        let mut rehearsal = Self {
            lab,
            scenario,
            timeline,
            observers: Vec::new(),
            verdicts,
            router_log,
        };
        rehearsal.watch_router()?;
        rehearsal.watch_clients()?;
        Ok(rehearsal)
    }

    fn repeat(&mut self, lab: &str, repeat: u32, say: &dyn Fn(&str)) -> Result<Report, LabError> {
        let fault = &self.scenario.fault;
        let what = match fault.kind {
            FaultKind::Kill9 => "kill -9",
        };
        let mut report = Report {
            lab: lab.to_owned(),
            summary: self.scenario.summary.clone(),
            fault: format!("{what} of `{}` on `{}`", fault.process, fault.node),
            started: jiff::Timestamp::now(),
            repeat,
            clock: Clock {
                source: self.precision(),
                largest_step_us: 0.0,
            },
            settings: self.scenario.settings.clone(),
            methods: BTreeMap::new(),
            bounds: Vec::new(),
        };
        for number in 0..repeat {
            self.converge()?;
            if number == 0 {
                say("converged: the near edge serves both methods");
            }
            std::thread::sleep(self.spread(number));
            let line = self.once(&mut report)?;
            say(&format!("{}/{repeat} {line}", number + 1));
        }
        report.check(&self.scenario.bounds);
        Ok(report)
    }

    /// Breaks, watches the chain to its end, heals.
    fn once(&mut self, report: &mut Report) -> Result<String, LabError> {
        let before = clock_offset();
        self.timeline.forget(now());
        self.verdicts.lines();
        self.router_log.lines();
        let (node, process) = (
            self.scenario.fault.node.clone(),
            self.scenario.fault.process.clone(),
        );
        let fault = now();
        self.lab.process(&node, &process)?.kill()?;
        let chain = self.recovery(fault)?;
        let step = clock_offset() - before;
        if step.unsigned_abs() > CLOCK_STEP_MAX.as_nanos() as u64 {
            let what = format!("the wall clock stepped by {} µs within a repetition", step / 1000);
            return Err(LabError::failed(what));
        }
        report.clock.largest_step_us = report.clock.largest_step_us.max(step.unsigned_abs() as f64 / 1e3);
        let line = self.record(report, fault, &chain);
        self.lab.start(&node, &process)?;
        Ok(line)
    }

    /// Waits until the near edge serves everything, and goes on to for a while.
    fn converge(&mut self) -> Result<(), LabError> {
        let Self {
            lab,
            scenario,
            timeline,
            ..
        } = self;
        let settle = ms(scenario.wait.stable_ms);
        let mut died = None;
        let waited = wait::stable(ms(scenario.wait.limit_ms), POLL, settle, || {
            if let Err(error) = lab.all_alive() {
                died = Some(error);
                return Ok(()); // no use in waiting
            }
            timeline.look(|events| is_near(events, scenario))
        });
        match (died, waited) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(LabError::failed(format!("the lab does not converge: {error}"))),
        }
    }

    /// Waits for every link of the chain.
    fn recovery(&mut self, fault: Nanos) -> Result<Chain, LabError> {
        let Self {
            scenario,
            timeline,
            verdicts,
            router_log,
            ..
        } = self;
        let protocol = scenario.wait.near.clone();
        let mut chain = Chain::default();
        let waited = wait::until(ms(scenario.wait.limit_ms), POLL, || {
            let mut down = verdicts
                .lines()
                .into_iter()
                .filter_map(|line| Line::of(&line)?.down(&protocol));
            chain.verdict = chain.verdict.or_else(|| down.find(|at| *at >= fault));
            let lines = router_log.lines();
            let mut removed = lines
                .iter()
                .filter_map(|line| bird_removed(line, &protocol, &scenario.anycast.prefix));
            chain.router_log = chain.router_log.or_else(|| removed.find(|at| *at >= fault));
            timeline.look(|events| chain.fill(events, fault, scenario));
            chain.missing()
        });
        waited.map_err(|error| LabError::failed(format!("after the fault: {error}")))?;
        Ok(chain)
    }

    fn record(&self, report: &mut Report, fault: Nanos, chain: &Chain) -> String {
        let anycast = report.methods.entry("anycast".to_owned()).or_default();
        let mut add = |id: &str, title: &str, from: Option<Nanos>, to: Option<Nanos>| {
            if let (Some(from), Some(to)) = (from, to) {
                anycast.add(id, title, ms_between(from, to));
            }
        };
        let start = Some(fault);
        add(
            "detected",
            "fault → verdict at the near edge",
            start,
            chain.verdict,
        );
        add(
            "on_the_wire",
            "fault → withdraw at the router",
            start,
            chain.withdrawn,
        );
        add(
            "router_log",
            "fault → route out of BIRD's table",
            start,
            chain.router_log,
        );
        add("routed", "fault → kernel forwards elsewhere", start, chain.routed);
        add(
            "first_good_reply",
            "fault → first good reply",
            start,
            chain.anycast_reply,
        );
        add(
            "verdict_to_wire",
            "verdict → withdraw at the router",
            chain.verdict,
            chain.withdrawn,
        );
        anycast.failed.push(self.failed(Method::Anycast, fault));
        let dns = report.methods.entry("dns".to_owned()).or_default();
        let mut add = |id: &str, title: &str, from: Option<Nanos>, to: Option<Nanos>| {
            if let (Some(from), Some(to)) = (from, to) {
                dns.add(id, title, ms_between(from, to));
            }
        };
        add(
            "detected",
            "fault → verdict at the near edge",
            start,
            chain.verdict,
        );
        add(
            "answer_changed",
            "fault → changed answer there",
            start,
            chain.answer,
        );
        add(
            "first_good_reply",
            "fault → first good reply",
            start,
            chain.dns_reply,
        );
        add(
            "verdict_to_answer",
            "verdict → changed answer there",
            chain.verdict,
            chain.answer,
        );
        dns.failed.push(self.failed(Method::Dns, fault));
        chain.line(fault)
    }

    fn failed(&self, method: Method, fault: Nanos) -> u64 {
        let is_failure = |event: &&Event| matches!(&event.seen, Seen::Reply { method: of, due, body: Err(_) } if *of == method && *due >= fault);
        self.timeline
            .look(|events| events.iter().filter(is_failure).count() as u64)
    }

    /// Another share of `spread_ms` for each repetition; the golden ratio covers the range evenly.
    fn spread(&self, number: u32) -> Duration {
        ms(self.scenario.wait.spread_ms).mul_f64((f64::from(number) * 0.618_033_988_749_895).fract())
    }

    fn precision(&self) -> String {
        format!(
            "CLOCK_REALTIME of one machine; log lines 1 µs, packets by kernel time stamp (ns), route events on \
             arrival in user space, direct DNS polls every {} µs, requests every {} ms",
            self.scenario.dns.poll_us, self.scenario.client.every_ms
        )
    }
}

/// The observers.
impl Rehearsal {
    fn watch_router(&mut self) -> Result<(), LabError> {
        let router = node(&self.lab.world, &self.scenario.anycast.router)?;
        let bad = || LabError::failed(format!("`{}` is no prefix", self.scenario.anycast.prefix));
        let wire = capture::wire_prefix(&self.scenario.anycast.prefix).ok_or_else(bad)?;
        let (address, length) = self.scenario.anycast.prefix.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let path = self.lab.world.dir().join(format!("{}.pcap", router.name()));
        let mut pcap = Pcap::create(&path).map_err(|source| LabError::io("create", &path, source))?;
        let socket = router.enter(capture::open)?;
        let socket = socket.map_err(|source| LabError::io("capture in", router.name(), source))?;
        self.observe(&router, "capture", move |timeline| {
            capture::watch(&socket, &mut pcap, &wire, timeline)
        })?;
        self.observe(&router, "routes", move |timeline| {
            routes::watch((address, length), timeline)
        })
    }

    fn watch_clients(&mut self) -> Result<(), LabError> {
        let client = node(&self.lab.world, &self.scenario.client.node)?;
        let dns = self.scenario.dns.clone();
        let ask = |subnet| Question::new(&dns.name, subnet).map_err(LabError::failed);
        let (direct, plain) = (ask(Some(dns.subnet))?, ask(None)?);
        let pause = Duration::from_micros(u64::from(dns.poll_us));
        self.observe(&client, "answers", move |timeline| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            answers::watch(&socket, dns.server, &direct, pause, timeline)
        })?;
        let (every, limit) = (
            ms(self.scenario.client.every_ms.max(1)),
            ms(self.scenario.client.timeout_ms),
        );
        let anycast = Target::Anycast(self.scenario.anycast.address);
        let steered = Target::Dns {
            resolver: self.scenario.dns.resolver,
            question: plain,
            port: self.scenario.dns.port,
        };
        self.observe(&client, "anycast", move |timeline| {
            replies::watch(&anycast, every, limit, timeline)
        })?;
        self.observe(&client, "dns", move |timeline| {
            replies::watch(&steered, every, limit, timeline)
        })
    }

    /// Starts an observer on a thread of its own inside a node.
    fn observe(
        &mut self,
        node: &crate::netns::Node,
        name: &'static str,
        body: impl FnOnce(&Timeline) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), LabError> {
        let timeline = self.timeline.clone();
        let thread = node.thread(name, move || {
            if let Err(error) = body(&timeline) {
                // Its events stay out; the wait for them then fails and keeps the logs.
                tracing::error!(observer = name, %error, "an observer ended");
                eprintln!("observer `{name}` ended: {error}");
            }
        })?;
        self.observers.push(thread);
        Ok(())
    }

    fn stop_watching(&mut self) {
        self.timeline.stop();
        for observer in self.observers.drain(..) {
            if observer.join().is_err() {
                tracing::error!("an observer panicked");
            }
        }
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.stop_watching();
    }
}

/// Whether route, answer and the last replies are those of the near edge.
fn is_near(events: &[Event], scenario: &Scenario) -> Result<(), String> {
    let latest = |wanted: &dyn Fn(&Seen) -> bool| events.iter().rev().find(|event| wanted(&event.seen));
    let near = IpAddr::V4(scenario.anycast.near);
    let routed = latest(&|seen| matches!(seen, Seen::Routed { .. })).map(|event| &event.seen);
    if routed != Some(&Seen::Routed { gateway: Some(near) }) {
        return Err(format!("the router's route is {routed:?}, not via {near}"));
    }
    let answer = latest(&|seen| matches!(seen, Seen::Answer { .. })).map(|event| &event.seen);
    if answer
        != Some(&Seen::Answer {
            addresses: vec![scenario.dns.near],
        })
    {
        return Err(format!(
            "the near edge's server answers {answer:?}, not {}",
            scenario.dns.near
        ));
    }
    for method in [Method::Anycast, Method::Dns] {
        let last = latest(
            &|seen| matches!(seen, Seen::Reply { method: of, body: Ok(_) | Err(_), .. } if *of == method),
        );
        let good = matches!(last.map(|event| &event.seen), Some(Seen::Reply { body: Ok(body), .. }) if *body == scenario.wait.near);
        if !good {
            return Err(format!(
                "the last reply by {method:?} is {last:?}, not from {}",
                scenario.wait.near
            ));
        }
    }
    Ok(())
}

impl Chain {
    /// Notes the first event of each kind after the fault.
    fn fill(&mut self, events: &[Event], fault: Nanos, scenario: &Scenario) {
        let first = |wanted: &dyn Fn(&Seen) -> bool| {
            events
                .iter()
                .find(|event| event.at >= fault && wanted(&event.seen))
                .map(|event| event.at)
        };
        let near = scenario.anycast.near;
        let far = IpAddr::V4(scenario.anycast.far);
        self.withdrawn = self
            .withdrawn
            .or_else(|| first(&|seen| matches!(seen, Seen::Withdrawn { peer } if *peer == near)));
        self.routed = self
            .routed
            .or_else(|| first(&|seen| matches!(seen, Seen::Routed { gateway } if *gateway == Some(far))));
        let answer = vec![scenario.dns.far];
        self.answer = self
            .answer
            .or_else(|| first(&|seen| matches!(seen, Seen::Answer { addresses } if *addresses == answer)));
        let reply = |wanted: Method| {
            first(&|seen| {
                matches!(seen, Seen::Reply { method, due, body: Ok(body) }
                    if *method == wanted && *due >= fault && *body == scenario.wait.far)
            })
        };
        self.anycast_reply = self.anycast_reply.or_else(|| reply(Method::Anycast));
        self.dns_reply = self.dns_reply.or_else(|| reply(Method::Dns));
    }

    /// What has not been seen yet. The router's log is a cross-check and comes when it comes.
    fn missing(&self) -> Result<(), String> {
        let links = [
            ("the verdict in the near edge's log", self.verdict),
            ("the withdrawal at the router", self.withdrawn),
            ("the router's route change", self.routed),
            ("the changed DNS answer", self.answer),
            ("a good anycast reply", self.anycast_reply),
            ("a good DNS reply", self.dns_reply),
        ];
        let missing: Vec<_> = links
            .iter()
            .filter(|(_, at)| at.is_none())
            .map(|(name, _)| *name)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not seen: {}", missing.join(", ")))
        }
    }

    /// For the progress line.
    fn line(&self, fault: Nanos) -> String {
        let after =
            |at: Option<Nanos>| at.map_or("-".to_owned(), |at| format!("{:.1}", ms_between(fault, at)));
        format!(
            "verdict {} ms, withdraw {}, route {}, answer {}, reply anycast {}, dns {}",
            after(self.verdict),
            after(self.withdrawn),
            after(self.routed),
            after(self.answer),
            after(self.anycast_reply),
            after(self.dns_reply)
        )
    }
}

/// Wall clock minus monotonic clock since the first call, nanoseconds: constant unless the wall clock is set.
fn clock_offset() -> i64 {
    static START: std::sync::OnceLock<(SystemTime, Instant)> = std::sync::OnceLock::new();
    let (wall, monotonic) = START.get_or_init(|| (SystemTime::now(), Instant::now()));
    let steady = i64::try_from(monotonic.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let passed = match wall.elapsed() {
        Ok(forward) => i64::try_from(forward.as_nanos()).unwrap_or(i64::MAX),
        Err(back) => -i64::try_from(back.duration().as_nanos()).unwrap_or(i64::MAX),
    };
    passed - steady
}
