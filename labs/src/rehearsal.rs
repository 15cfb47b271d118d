//! A running lab under observation: converge, break, watch, heal, again.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::chain::{Chain, View};
use crate::netns::NetError;
use crate::report::Clock;
use crate::scenario::{FaultSpec, Scenario, Variant, ms};
use crate::watch::answers::Question;
use crate::watch::capture::{self, Pcap};
use crate::watch::load::Load;
use crate::watch::log::{Line, Tail, bird_removed};
use crate::watch::replies::Steered;
use crate::watch::{Nanos, Timeline, answers, clock_offset, flow, load, now, replies, routes, table};
use crate::world::{Lab, node};
use crate::{LabError, Report, report, wait};

/// How often conditions are looked at. Only waiting depends on it: what is measured comes from time stamps.
const POLL: Duration = Duration::from_millis(10);

/// A larger difference between wall clock and monotonic clock within a repetition spoils its numbers.
const CLOCK_STEP_MAX: Duration = Duration::from_micros(500);

/// Where scenarios put the control socket of the router's BIRD, within the run folder.
const BIRD_SOCKET: &str = "bird.ctl";

/// A running lab under observation.
pub(crate) struct Rehearsal {
    pub(crate) lab: Lab,
    scenario: Scenario,
    timeline: Timeline,
    view: View,
    observers: Vec<JoinHandle<Result<(), NetError>>>,
    verdicts: Option<Tail>,
    router_log: Tail,
}

impl Rehearsal {
    pub(crate) fn new(lab: Lab, scenario: Scenario) -> Result<Self, LabError> {
        let dir = lab.world.dir().to_owned();
        let log = |node: &str, process: &str| Tail::new(&dir.join(format!("{node}-{process}.err")));
        let verdicts = scenario.wait.verdict.as_ref();
        let verdicts = verdicts.map(|(node, process)| log(node, process));
        let router_log = log(&scenario.anycast.router, "bird");
        let mut rehearsal = Self {
            lab,
            scenario,
            timeline: Timeline::default(),
            view: View::default(),
            observers: Vec::new(),
            verdicts,
            router_log,
        };
        rehearsal.watch_router()?;
        rehearsal.watch_clients()?;
        Ok(rehearsal)
    }

    pub(crate) fn repeat(
        &mut self,
        lab: &str,
        variants: &[Variant],
        repeat: u32,
        say: &dyn Fn(&str),
    ) -> Result<Report, LabError> {
        let mut report = Report {
            schema: report::SCHEMA,
            lab: lab.to_owned(),
            summary: self.scenario.summary.clone(),
            fault: self.scenario.fault.to_string(),
            started: jiff::Timestamp::now(),
            repeat,
            runtime: self.lab.runtime().to_string(),
            clock: Clock {
                source: self.precision(),
                largest_step_us: 0.0,
            },
            settings: self.scenario.settings.clone(),
            methods: BTreeMap::new(),
            bounds: Vec::new(),
            verdicts: Vec::new(),
            side_by_side: Vec::new(),
        };
        for number in 0..repeat {
            for variant in variants {
                if number == 0 || variants.len() > 1 {
                    self.lab.stop_all();
                    self.look(None);
                    self.view.forget_sessions();
                    self.lab.start_all(variant)?;
                }
                self.converge(variant)
                    .map_err(|error| error.of_variant(&variant.name))?;
                if number == 0 && variants.len() == 1 {
                    say("converged: the near edge serves");
                }
                std::thread::sleep(self.spread(variant, number));
                let line = self.once(variant, &mut report);
                let line = line.map_err(|error| error.of_variant(&variant.name))?;
                say(&format!("{}/{repeat} {}{line}", number + 1, title(variant)));
            }
        }
        self.lab.stop_all();
        let measured: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
        report.check(&self.scenario, &measured);
        Ok(report)
    }

    /// Breaks, watches the chain to its end, heals.
    fn once(&mut self, variant: &Variant, report: &mut Report) -> Result<String, LabError> {
        let before = clock_offset();
        self.look(None);
        let _old = (self.verdicts.as_mut().map(Tail::lines), self.router_log.lines());
        let fault = now();
        self.break_it()?;
        let chain = self.recovery(fault, self.scenario.judges(variant))?;
        let step = clock_offset() - before;
        if step.unsigned_abs() > CLOCK_STEP_MAX.as_nanos() as u64 {
            let what = format!("the wall clock stepped by {} µs within a repetition", step / 1000);
            return Err(LabError::failed(what));
        }
        report.clock.largest_step_us = report.clock.largest_step_us.max(step.unsigned_abs() as f64 / 1e3);
        self.record(variant, report, &chain);
        if self.scenario.wait.table {
            self.come_back(method(variant), report)?;
        } else {
            self.heal()?;
        }
        Ok(chain.line())
    }

    /// Heals what is reversed step by step, and counts whom that hits.
    fn come_back(&mut self, method: &str, report: &mut Report) -> Result<(), LabError> {
        let mut chain = Chain::from(now(), false);
        self.heal()?;
        let waited = wait::until(ms(self.scenario.wait.limit_ms), POLL, || {
            let ended_until = self.timeline.oldest();
            self.look(Some(&mut chain));
            self.view.is_near(&self.scenario)?;
            if ended_until >= chain.counted_until() {
                Ok(())
            } else {
                Err("some requests have not ended".to_owned())
            }
        });
        waited.map_err(|error| LabError::failed(format!("after the fault was taken back: {error}")))?;
        chain.report_return(report.methods.entry(method.to_owned()).or_default());
        Ok(())
    }

    fn break_it(&mut self) -> Result<(), LabError> {
        match self.scenario.fault.clone() {
            FaultSpec::Kill9 { node, process } => self.lab.process(&node, &process)?.kill()?,
            FaultSpec::Stop { node, process } => {
                self.lab.process(&node, &process)?.signal(Signal::SIGSTOP)?;
            }
            FaultSpec::Cut { node, port } => self.cut(&node, &port, true)?,
            FaultSpec::Run { node, run, heal: _ } => self.lab.run(&node, &run)?,
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), LabError> {
        match self.scenario.fault.clone() {
            FaultSpec::Kill9 { node, process } => self.lab.start(&node, &process)?,
            FaultSpec::Stop { node, process } => {
                self.lab.process(&node, &process)?.signal(Signal::SIGCONT)?;
            }
            FaultSpec::Cut { node, port } => self.cut(&node, &port, false)?,
            FaultSpec::Run { node, run: _, heal } => self.lab.run(&node, &heal)?,
        }
        Ok(())
    }

    fn cut(&self, switch: &str, port: &str, cut: bool) -> Result<(), LabError> {
        let switch = node(&self.lab.world, switch)?;
        Ok(self.lab.world.cut(&switch, port, cut)?)
    }

    /// Takes what the observers saw; a chain takes its part of it.
    fn look(&mut self, mut chain: Option<&mut Chain>) {
        for event in self.timeline.take() {
            self.view.note(&event);
            if let Some(chain) = &mut chain {
                chain.note(event, &self.scenario);
            }
        }
    }

    /// Waits until the near edge serves everything, and goes on to for a while.
    fn converge(&mut self, variant: &Variant) -> Result<(), LabError> {
        let (limit, settle) = (ms(self.scenario.wait.limit_ms), ms(self.scenario.wait.stable_ms));
        let mut died = None;
        let waited = wait::stable(limit, POLL, settle, || {
            if let Err(error) = self.lab.all_alive() {
                died = Some(error);
                return Ok(()); // no use in waiting
            }
            self.look(None);
            self.view.is_near(&self.scenario)?;
            if variant.bfd {
                let socket = self.lab.world.dir().join(BIRD_SOCKET);
                table::bfd_is_up(&socket, self.scenario.anycast.near)?;
            }
            Ok(())
        });
        match (died, waited) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(LabError::failed(format!("the lab does not converge: {error}"))),
        }
    }

    /// Waits for every link of the chain, and until every request counts one way or the other.
    fn recovery(&mut self, fault: Nanos, judged: bool) -> Result<Chain, LabError> {
        let near = self.scenario.wait.near.clone();
        let mut chain = Chain::from(fault, judged);
        let waited = wait::until(ms(self.scenario.wait.limit_ms), POLL, || {
            let lines = self.verdicts.as_mut().map(Tail::lines).unwrap_or_default();
            let mut down = lines.iter().filter_map(|line| Line::of(line)?.down(&near));
            chain.verdict = chain.verdict.or_else(|| down.find(|at| *at >= fault));
            let lines = self.router_log.lines();
            let prefix = &self.scenario.anycast.prefix;
            let mut removed = lines.iter().filter_map(|line| bird_removed(line, &near, prefix));
            chain.router_log = chain.router_log.or_else(|| removed.find(|at| *at >= fault));
            let ended_until = self.timeline.oldest();
            self.look(Some(&mut chain));
            chain.missing(&self.scenario)?;
            if ended_until >= chain.counted_until() {
                Ok(())
            } else {
                Err("some requests have not ended".to_owned())
            }
        });
        waited.map_err(|error| LabError::failed(format!("after the fault: {error}; {}", chain.line())))?;
        Ok(chain)
    }

    fn record(&self, variant: &Variant, report: &mut Report, chain: &Chain) {
        let anycast = report.methods.entry(method(variant).to_owned()).or_default();
        chain.report_anycast(&self.scenario, anycast);
        if self.scenario.dns.is_some() {
            chain.report_dns(
                &self.scenario,
                report.methods.entry("dns".to_owned()).or_default(),
            );
        }
    }

    /// Another share of `spread_ms` for each repetition; the golden ratio covers the range evenly.
    fn spread(&self, variant: &Variant, number: u32) -> Duration {
        let widest = variant.spread_ms.unwrap_or(self.scenario.wait.spread_ms);
        ms(widest).mul_f64((f64::from(number) * 0.618_033_988_749_895).fract())
    }

    fn precision(&self) -> String {
        let dns = match &self.scenario.dns {
            Some(dns) => format!(", direct DNS polls every {} µs", dns.poll_us),
            None => String::new(),
        };
        format!(
            "CLOCK_REALTIME of one machine; log lines 1 µs, packets by kernel time stamp (ns), route events on \
             arrival in user space{dns}, requests every {} ms",
            f64::from(self.scenario.client.every_us) / 1e3
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
        })?;
        if self.scenario.wait.table {
            let socket = self.lab.world.dir().join(BIRD_SOCKET);
            let (near, prefix) = (
                self.scenario.wait.near.clone(),
                self.scenario.anycast.prefix.clone(),
            );
            self.observe(&router, "table", move |timeline| {
                table::watch(&socket, &near, &prefix, timeline)
            })?;
        }
        Ok(())
    }

    fn watch_clients(&mut self) -> Result<(), LabError> {
        let spec = self.scenario.client.clone();
        let client = node(&self.lab.world, &spec.node)?;
        let address = self.scenario.anycast.address;
        let every = Duration::from_micros(u64::from(spec.every_us));
        let limit = ms(spec.timeout_ms);
        let load = Load {
            address,
            every,
            limit,
        };
        self.observe(&client, "load", move |timeline| load::watch(&load, timeline))?;
        if let Some(every) = spec.flow_every_ms {
            self.observe(&client, "flow", move |timeline| {
                flow::watch(address, ms(every.max(1)), timeline)
            })?;
        }
        let Some(dns) = self.scenario.dns.clone() else {
            return Ok(());
        };
        let ask = |subnet| Question::new(&dns.name, subnet).map_err(LabError::failed);
        let (direct, question) = (ask(Some(dns.subnet))?, ask(None)?);
        let pause = Duration::from_micros(u64::from(dns.poll_us));
        self.observe(&client, "answers", move |timeline| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            answers::watch(&socket, dns.server, &direct, pause, timeline)
        })?;
        let steered = Steered {
            resolver: dns.resolver,
            question,
            port: dns.port,
        };
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

    pub(crate) fn stop_watching(&mut self) {
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

/// Its name in the report.
fn method(variant: &Variant) -> &str {
    if variant.name.is_empty() {
        "anycast"
    } else {
        &variant.name
    }
}

fn title(variant: &Variant) -> String {
    if variant.name.is_empty() {
        String::new()
    } else {
        format!("{}: ", variant.name)
    }
}
