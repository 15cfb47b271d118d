//! A drill: any topology, many clients, faults at times, several methods measured side by side.
//!
//! ```text
//! scenario.toml ► spec, fits ─► stage after stage: every process anew ► converge ► faults ► watch ► heal
//!                                      │                │
//!      clients (open loop, by address or by name) ► outcome: outage, failed, wrong site ─┐
//!      marks (log lines), UPDATEs, kernel routes, direct DNS answers ► phases ───────────┴─► report
//! ```
//!
//! Methods of one stage meet the same fault at the same time; a scenario joins them where they cannot disturb
//! each other. The smaller labs with one near and one far edge are of another kind; see [`crate::scenario`].

mod clients;
mod faults;
mod fits;
mod line;
mod marks;
mod outcome;
mod spec;
mod steps;
mod verdict;
mod watchers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use regex::Regex;

pub use faults::Break;
pub use line::Over;
pub use spec::{
    Bound, Client, Drill, Ends, Load, Mark, MarkPhase, Method, Ready, Stage, Step, Verdict, Watched,
};

use clients::{Asker, Crowd, Sample, Target};
use marks::Marks;
use outcome::{CALM, Outcome};
use steps::Steps;
use watchers::Watchers;

use crate::report::{self, Checked, Clock, Report};
use crate::scenario::{Variant, ms};
use crate::watch::answers::Question;
use crate::watch::{Nanos, clock_offset, ms_between, now};
use crate::world::Lab;
use crate::{LabError, wait};

/// How often conditions are looked at. Only waiting depends on it: what is measured comes from time stamps.
const POLL: Duration = Duration::from_millis(20);

/// Commands that say whether a stage is ready are not asked more often.
const READY_POLL: Duration = Duration::from_millis(250);

/// A larger step of the wall clock within a stage spoils its numbers. NTP slews by 0.5 ms per second at most.
const CLOCK_STEP_MAX: Duration = Duration::from_millis(50);

/// A lab that is drilled.
pub(crate) struct Drilled<'a> {
    pub(crate) lab: Lab,
    drill: Drill,
    say: &'a dyn Fn(&str),
    watchers: Watchers,
    /// What is broken and has not been taken back, in order.
    broken: Vec<Break>,
}

/// A client of a method, in order of the crowd.
struct Seat<'a> {
    method: &'a Method,
    client: &'a Client,
    away: &'a [String],
    /// `home` and `away`.
    right: Vec<String>,
}

impl Seat<'_> {
    /// Where the client must be in the end; `None` when it does not matter whether it is served at all.
    fn ends(&self) -> Option<Vec<String>> {
        match self.method.ends {
            Ends::Away => Some(self.away.to_vec()),
            Ends::Home => Some(vec![self.client.home.clone()]),
            Ends::Any => Some(self.right.clone()),
            Ends::Nowhere => None,
        }
    }
}

/// What one repetition of a stage showed.
struct Seen {
    fault: Nanos,
    /// When the first thing was taken back.
    healed: Option<Nanos>,
    samples: Vec<Vec<Sample>>,
    marks: Vec<Marks>,
}

impl<'a> Drilled<'a> {
    pub(crate) fn new(lab: Lab, drill: Drill, say: &'a dyn Fn(&str)) -> Result<Self, LabError> {
        let watchers = Watchers::start(&lab.world, &drill.prefixes)?;
        Ok(Self {
            lab,
            drill,
            say,
            watchers,
            broken: Vec::new(),
        })
    }

    pub(crate) fn stop_watching(&mut self) {
        self.watchers.stop();
    }

    /// Every stage of the methods asked for, `repeat` times.
    pub(crate) fn repeat(&mut self, lab: &str, only: &[String], repeat: u32) -> Result<Report, LabError> {
        let drill = self.drill.clone();
        let methods: Vec<&Method> = drill
            .methods
            .iter()
            .filter(|method| only.is_empty() || only.contains(&method.id))
            .collect();
        let mut report = empty(
            lab,
            &drill,
            &methods,
            only,
            repeat,
            self.lab.runtime().to_string(),
        );
        let stages = drill.stages.iter();
        let stages: Vec<_> = stages
            .map(|stage| (stage, of_stage(&methods, stage)))
            .filter(|(stage, methods)| !methods.is_empty() || stage.is_judged(only))
            .collect();
        for number in 0..repeat {
            for (stage, methods) in &stages {
                (self.say)(&format!("{}/{repeat} {}", number + 1, stage.name));
                self.once(&drill, stage, methods, number, &mut report)
                    .map_err(|error| error.of_variant(&stage.name))?;
            }
        }
        self.lab.stop_all();
        check(&mut report, &drill);
        Ok(report)
    }

    fn once(
        &mut self,
        drill: &Drill,
        stage: &Stage,
        methods: &[&Method],
        number: u32,
        report: &mut Report,
    ) -> Result<(), LabError> {
        let variant = Variant {
            name: stage.name.clone(),
            announcer: stage.announcer.clone(),
            set: stage.set.clone(),
            ..Variant::default()
        };
        self.lab.stop_all();
        self.lab.start_all(&variant)?;
        let seats = seats(drill, methods);
        self.ready(stage)?;
        let crowd = Crowd::start(&self.lab.world, &askers(drill, &seats)?)?;
        let polls = self
            .watchers
            .ask(&self.lab.world, methods, &seats_nodes(&seats))?;
        self.converge(stage, &seats, &crowd)?;
        let mut steps = Steps::begin(self.lab.world.dir())?;
        if seats.is_empty() {
            std::thread::sleep(ms(stage.stable_ms));
        }
        // The golden ratio covers the range evenly.
        let share = (f64::from(number) * 0.618_033_988_749_895).fract();
        std::thread::sleep(ms(stage.spread_ms).mul_f64(share));
        let before = clock_offset();
        let seen = self.break_and_watch(stage, &seats, crowd, &mut steps);
        let judged = match (&seen, &stage.verdict) {
            (Ok(_), Some(verdict)) => verdict.speak(&mut self.lab, &stage.name).map(Some),
            (Err(_), _) | (_, None) => Ok(None),
        };
        let polled = polls.end();
        for broken in std::mem::take(&mut self.broken) {
            broken.clear(&mut self.lab)?;
        }
        let seen = seen?;
        report.verdicts.extend(judged?);
        let step = (clock_offset() - before).unsigned_abs();
        if u128::from(step) > CLOCK_STEP_MAX.as_nanos() {
            let what = format!("the wall clock stepped by {} µs within a stage", step / 1000);
            return Err(LabError::failed(what));
        }
        report.clock.largest_step_us = report.clock.largest_step_us.max(step as f64 / 1e3);
        let on_routes = self.watchers.take(seen.fault, seen.healed);
        for method in methods {
            let entry = report.methods.entry(method.id.clone()).or_default();
            let routes = method.prefix.as_deref().map(|name| on_routes.of(name));
            let answered = polled.first_change(&method.id, seen.fault);
            record(entry, method, &seats, &seen, routes.unwrap_or_default(), answered);
        }
        Ok(())
    }

    /// Waits for what the stage asks for beside its clients.
    fn ready(&mut self, stage: &Stage) -> Result<(), LabError> {
        for ready in &stage.ready {
            let says = Regex::new(&ready.says).map_err(|error| LabError::failed(error.to_string()))?;
            let waited = wait::until(ms(stage.converge_ms), READY_POLL, || {
                let said = self
                    .lab
                    .output(&ready.node, &ready.run)
                    .map_err(|e| e.to_string())?;
                if says.is_match(&said) {
                    Ok(())
                } else {
                    let last = said.lines().last().unwrap_or_default().to_owned();
                    Err(format!("it says {last:?}"))
                }
            });
            waited.map_err(|error| {
                let what = ready.run.join(" ");
                LabError::failed(format!(
                    "`{what}` on {} does not say `{}`: {error}",
                    ready.node, ready.says
                ))
            })?;
        }
        Ok(())
    }

    fn converge(&mut self, stage: &Stage, seats: &[Seat<'_>], crowd: &Crowd) -> Result<(), LabError> {
        let warm = seats.iter().map(|seat| u64::from(seat.method.ttl_s)).max();
        let limit = ms(stage.converge_ms) + Duration::from_secs(warm.unwrap_or(0));
        let mut died = None;
        let waited = wait::until(limit, POLL, || {
            if let Err(error) = self.lab.all_alive() {
                died = Some(error);
                return Ok(()); // no use in waiting
            }
            for (number, seat) in seats.iter().enumerate() {
                let home = std::slice::from_ref(&seat.client.home);
                let served = crowd.log(number).served(home, ms(stage.stable_ms));
                served.map_err(|why| format!("{} {}: {why}", seat.method.id, seat.client.name))?;
            }
            Ok(())
        });
        match (died, waited) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => {
                if !seats.is_empty() {
                    (self.say)(&format!("    converged: {} clients are at home", seats.len()));
                }
                Ok(())
            }
            (None, Err(error)) => Err(LabError::failed(format!("the lab does not converge: {error}"))),
        }
    }

    /// The steps at their times, and the clients until all are served for good.
    fn break_and_watch(
        &mut self,
        stage: &Stage,
        seats: &[Seat<'_>],
        crowd: Crowd,
        steps: &mut Steps,
    ) -> Result<Seen, LabError> {
        let asked = |mark: &&Mark| {
            let is_here = |id: &String| seats.iter().any(|seat| seat.method.id == *id);
            mark.methods.as_ref().is_none_or(|ids| ids.iter().any(is_here))
        };
        let marks = stage
            .marks
            .iter()
            .filter(asked)
            .map(|mark| Marks::new(mark, self.lab.world.dir()));
        let mut marks = marks.collect::<Result<Vec<_>, _>>()?;
        let mut progress = Progress::new(seats, self.say);
        let mut healed = None;
        self.watchers.forget();
        let fault = now();
        for step in &stage.steps {
            let due = fault + nanos(ms(step.at_ms));
            while now() < due {
                progress.look(&crowd, fault);
                marks.iter_mut().for_each(|marks| marks.read(fault));
                std::thread::sleep(POLL.min(until(due)));
            }
            steps.note(step)?;
            for one in &step.breaks {
                (self.say)(&format!("    {:8.1} ms: {one}", ms_between(fault, now())));
                one.apply(&mut self.lab)?;
                self.broken.push(one.clone());
            }
            if step.heal {
                (self.say)(&format!("    {:8.1} ms: healed", ms_between(fault, now())));
                healed.get_or_insert(now());
                while let Some(one) = self.broken.pop() {
                    one.heal(&mut self.lab)?;
                }
            }
        }
        let last = now();
        let (least, most) = (
            last + nanos(ms(stage.watch_ms)),
            last + nanos(ms(stage.limit_ms.max(stage.watch_ms))),
        );
        let missing = loop {
            let missing = progress.look(&crowd, fault);
            marks.iter_mut().for_each(|marks| marks.read(fault));
            if (missing.is_none() && now() >= least) || now() >= most {
                break missing;
            }
            std::thread::sleep(POLL);
        };
        let samples = crowd.end()?;
        marks.iter_mut().for_each(|marks| marks.read(fault));
        if let Some(missing) = missing {
            let after = ms_between(fault, now());
            return Err(LabError::failed(format!(
                "not served for good {after:.0} ms after the fault: {missing}"
            )));
        }
        Ok(Seen {
            fault,
            healed,
            samples,
            marks,
        })
    }
}

/// Tells of each method when its last client is back.
struct Progress<'a> {
    seats: &'a [Seat<'a>],
    told: Vec<&'a str>,
    say: &'a dyn Fn(&str),
}

impl<'a> Progress<'a> {
    fn new(seats: &'a [Seat<'a>], say: &'a dyn Fn(&str)) -> Self {
        Self {
            seats,
            told: Vec::new(),
            say,
        }
    }

    /// Who is not served for good, if anybody.
    fn look(&mut self, crowd: &Crowd, fault: Nanos) -> Option<String> {
        let mut waiting: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for (number, seat) in self.seats.iter().enumerate() {
            let Some(ends) = seat.ends() else { continue };
            let served = crowd.log(number).served(&ends, Duration::from_nanos(CALM as u64));
            let missing = waiting.entry(&seat.method.id).or_default();
            if let Err(why) = served {
                missing.get_or_insert(format!("{} {}: {why}", seat.method.id, seat.client.name));
            }
        }
        let after = ms_between(fault, now());
        for (method, missing) in &waiting {
            if missing.is_none() && !self.told.contains(method) && after > 1000.0 {
                (self.say)(&format!(
                    "    {after:8.1} ms: {method}: all clients are served for good"
                ));
                self.told.push(method);
            }
        }
        waiting.into_values().flatten().next()
    }
}

fn empty(
    lab: &str,
    drill: &Drill,
    methods: &[&Method],
    only: &[String],
    repeat: u32,
    runtime: String,
) -> Report {
    let faults = drill
        .stages
        .iter()
        .filter(|stage| !of_stage(methods, stage).is_empty() || stage.is_judged(only));
    let faults = faults.map(|stage| {
        let breaks = stage.steps.iter().flat_map(|step| &step.breaks);
        let words: Vec<String> = breaks.map(ToString::to_string).collect();
        format!("{}: {}", stage.name, words.join(", "))
    });
    let Load {
        every_ms, late_ms, ..
    } = drill.load;
    Report {
        schema: report::SCHEMA,
        lab: lab.to_owned(),
        summary: drill.summary.clone(),
        fault: faults.collect::<Vec<_>>().join("; "),
        started: jiff::Timestamp::now(),
        repeat,
        runtime,
        clock: Clock {
            source: if drill.clients.is_empty() {
                "CLOCK_REALTIME of one machine".to_owned()
            } else {
                format!(
                    "CLOCK_REALTIME of one machine; log lines 1 µs, packets by kernel time stamp (ns), route events on \
                     arrival in user space, requests every {every_ms} ms unless said otherwise; later than {late_ms} ms \
                     is bad"
                )
            },
            largest_step_us: 0.0,
        },
        settings: drill.settings.clone(),
        methods: BTreeMap::new(),
        bounds: Vec::new(),
        verdicts: Vec::new(),
        side_by_side: methods.iter().map(|method| method.id.clone()).collect(),
    }
}

fn of_stage<'a>(methods: &[&'a Method], stage: &Stage) -> Vec<&'a Method> {
    let of = methods.iter().filter(|method| method.stage == stage.name);
    of.copied().collect()
}

fn seats<'a>(drill: &'a Drill, methods: &[&'a Method]) -> Vec<Seat<'a>> {
    let of = |method: &'a Method| {
        drill.clients_of(method).map(move |client| {
            let away = method.away.as_ref().unwrap_or(&client.away);
            let right = [&client.home].into_iter().chain(away).cloned().collect();
            Seat {
                method,
                client,
                away,
                right,
            }
        })
    };
    methods.iter().flat_map(|method| of(method)).collect()
}

fn seats_nodes(seats: &[Seat<'_>]) -> BTreeMap<String, (String, String)> {
    let of = |seat: &Seat<'_>| {
        let name = seat
            .method
            .resolve
            .as_ref()?
            .replace("{client}", &seat.client.name);
        Some((seat.method.id.clone(), (seat.client.node.clone(), name)))
    };
    seats.iter().rev().filter_map(of).collect()
}

fn askers(drill: &Drill, seats: &[Seat<'_>]) -> Result<Vec<Asker>, LabError> {
    let mut places: BTreeMap<&str, u32> = BTreeMap::new();
    let mut askers = Vec::new();
    for seat in seats {
        let Seat { method, client, .. } = seat;
        let place = places.entry(&method.id).or_default();
        let of = drill.clients_of(method).count().max(1);
        let offset = Duration::from_secs(method.ttl_s.into()).mul_f64(f64::from(*place) / of as f64);
        *place += 1;
        askers.push(Asker {
            node: client.node.clone(),
            target: target(method, client)?,
            over: method.over,
            every: ms(method.every_ms.unwrap_or(drill.load.every_ms)),
            limit: ms(drill.load.timeout_ms),
            late: ms(drill.load.late_ms),
            offset,
            right: seat.right.clone(),
        });
    }
    Ok(askers)
}

fn target(method: &Method, client: &Client) -> Result<Target, LabError> {
    if let Some(address) = method.connect {
        return Ok(Target::Address(address));
    }
    let name = method.resolve.clone().unwrap_or_default();
    let question = Question::new(&name.replace("{client}", &client.name), None).map_err(LabError::failed)?;
    let resolver: Option<SocketAddr> = client.resolvers.get(&method.resolver).copied();
    let missing = || LabError::failed(format!("`{}` has no resolver `{}`", client.name, method.resolver));
    Ok(Target::Name {
        question,
        resolver: resolver.ok_or_else(missing)?,
        port: method.port,
        pin: method.pin,
    })
}

/// Adds one repetition to the report of a method.
fn record(
    entry: &mut report::Method,
    method: &Method,
    seats: &[Seat<'_>],
    seen: &Seen,
    routes: watchers::OnRoutes,
    answered: Option<Nanos>,
) {
    let mine = seats.iter().zip(&seen.samples);
    let mine: Vec<_> = mine.filter(|(seat, _)| seat.method.id == method.id).collect();
    let outcomes: Vec<Outcome> = mine
        .iter()
        .map(|(seat, samples)| Outcome::of(samples, seen.fault, &seat.right, seat.away))
        .collect();
    let mark = |phase| {
        let at = seen.marks.iter().filter_map(|marks| marks.at(phase, &method.id));
        match phase {
            MarkPhase::Detected => at.min(),
            MarkPhase::Decided => at.max(),
        }
    };
    let since = |at: Option<Nanos>| at.map(|at| ms_between(seen.fault, at));
    let back: Vec<f64> = outcomes.iter().map(|outcome| outcome.recovered_ms).collect();
    let first = outcomes.iter().filter_map(|outcome| outcome.first_good_ms);
    method.title.clone_into(&mut entry.title);
    let phases = [
        (
            "fault_to_detected",
            "fault → detected",
            since(mark(MarkPhase::Detected)),
        ),
        (
            "fault_to_decided",
            "fault → decided",
            since(mark(MarkPhase::Decided)),
        ),
        (
            "fault_to_on_the_wire",
            "fault → on the wire",
            since(answered.or(routes.on_the_wire)),
        ),
        (
            "fault_to_routers_converged",
            "fault → last router's route changed",
            since(routes.converged),
        ),
        (
            "fault_to_first_good_reply",
            "fault → first good reply",
            first.min_by(f64::total_cmp),
        ),
        (
            "fault_to_clients_99",
            "fault → 99 % of clients served for good",
            report::Spread::of(&back).map(|spread| spread.p99),
        ),
    ];
    for (name, title, ms) in phases {
        entry.phase(name, title, ms);
    }
    entry.run(report::Run {
        outage_ms: outcomes.iter().map(|outcome| outcome.outage_ms).collect(),
        timeline: mine
            .iter()
            .flat_map(|(seat, samples)| outcome::timeline(&seat.client.name, samples, seen.fault))
            .collect(),
        failed: outcomes.iter().map(|outcome| outcome.failed).sum(),
        wrong_site: outcomes.iter().map(|outcome| outcome.wrong_site).sum(),
    });
}

/// Compares what was measured with the bounds of the methods that ran; a bound on what was not seen is broken.
fn check(report: &mut Report, drill: &Drill) {
    let ran = |name: &String| report.methods.contains_key(name);
    let bounds = drill.bounds.iter().filter(|bound| ran(&bound.method));
    report.bounds = bounds.flat_map(|bound| checked(report, bound)).collect();
}

fn checked(report: &Report, bound: &Bound) -> Vec<Checked> {
    let Bound {
        method,
        what,
        most,
        plus,
        below,
        times,
    } = bound;
    let own = report.spread(method, what);
    let mut all = Vec::new();
    if let Some(most) = most {
        all.push(match plus {
            None => Checked::new(format!("{method} {what}: largest"), *most, own.map(|own| own.max)),
            Some(plus) => {
                let words = format!("{method} {what}: largest, less {plus} of the same repetition");
                Checked::new(words, *most, beyond(report, method, what, plus))
            }
        });
    }
    let others = below.iter().filter(|other| report.methods.contains_key(*other));
    all.extend(others.map(|other| {
        let times = times.unwrap_or(1.0);
        let limit = report
            .spread(other, what)
            .map_or(0.0, |other| other.median * times);
        let words = format!("{method} {what}: median, at most {times} x that of {other}");
        Checked::new(words, limit, own.map(|own| own.median))
    }));
    all
}

/// By how much a value exceeds a phase of the same repetition, at most.
fn beyond(report: &Report, method: &str, what: &str, plus: &str) -> Option<f64> {
    let method = report.methods.get(method)?;
    let phase = |name: &str| method.phases.iter().find(|phase| phase.name == name);
    let plus = &phase(plus)?.samples;
    let values: Vec<f64> = match what {
        "outage" => {
            let most = |run: &report::Run| run.outage_ms.iter().copied().fold(0.0, f64::max);
            method.runs.iter().map(most).collect()
        }
        other => phase(other)?.samples.clone(),
    };
    if values.len() != plus.len() {
        return None; // not seen in some repetition
    }
    let beyond = values.iter().zip(plus).map(|(value, plus)| value - plus);
    beyond.max_by(f64::total_cmp)
}

fn nanos(time: Duration) -> Nanos {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn until(due: Nanos) -> Duration {
    Duration::from_nanos(u64::try_from(due - now()).unwrap_or(0))
}
