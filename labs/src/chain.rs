//! From fault to recovery: the first sight of each link of the chain, and what the clients paid.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::report;
use crate::scenario::Scenario;
use crate::watch::table::Route;
use crate::watch::{Ended, Event, Method, Nanos, Reply, Seen, ms_between};

/// The share of requests hit is taken of this long after the fault: long enough for a handful of retries, the same for
/// every variant.
pub(crate) const SHARE_OF: Nanos = 1_000_000_000;

/// The state of the lab as the observers last saw it.
#[derive(Debug, Default)]
pub(crate) struct View {
    routed: Option<Option<IpAddr>>,
    answer: Vec<IpAddr>,
    anycast: Option<Result<String, String>>,
    dns: Option<Result<String, String>>,
    flow: Option<String>,
    /// Whom the router has heard announce the prefix.
    announced: BTreeSet<Ipv4Addr>,
}

impl View {
    /// Every session begins anew.
    pub(crate) fn forget_sessions(&mut self) {
        self.announced.clear();
    }

    pub(crate) fn note(&mut self, event: &Event) {
        match &event.seen {
            Seen::Withdrawn { peer } => {
                self.announced.remove(peer);
            }
            Seen::Announced { peer } => {
                self.announced.insert(*peer);
            }
            Seen::Table { .. } => {}
            Seen::Routed { gateway } => self.routed = Some(*gateway),
            Seen::Answer { addresses } => self.answer.clone_from(addresses),
            Seen::Reply(reply) => {
                let last = match reply.method {
                    Method::Anycast => &mut self.anycast,
                    Method::Dns => &mut self.dns,
                };
                *last = Some(reply.body.clone());
            }
            Seen::FlowStarted { body } => self.flow = Some(body.clone()),
            Seen::FlowEnded { .. } => self.flow = None,
        }
    }

    /// Whether route, answer, flow and the last replies are those of the near edge, and the far one stands by.
    pub(crate) fn is_near(&self, scenario: &Scenario) -> Result<(), String> {
        let (near, name) = (IpAddr::V4(scenario.anycast.near), &scenario.wait.near);
        if self.routed != Some(Some(near)) {
            return Err(format!("the router's route is {:?}, not via {near}", self.routed));
        }
        if !self.announced.contains(&scenario.anycast.far) {
            return Err(format!("{} has not announced the prefix", scenario.anycast.far));
        }
        let is_good = |last: &Option<Result<String, String>>| matches!(last, Some(Ok(body)) if body == name);
        if !is_good(&self.anycast) {
            let what = &self.anycast;
            return Err(format!("the last reply by anycast is {what:?}, not from {name}"));
        }
        if scenario.client.flow_every_ms.is_some() && self.flow.as_ref() != Some(name) {
            return Err(format!("the old flow is at {:?}, not at {name}", self.flow));
        }
        let Some(dns) = &scenario.dns else { return Ok(()) };
        if self.answer != [dns.near] {
            let what = &self.answer;
            return Err(format!(
                "the near edge's server answers {what:?}, not {}",
                dns.near
            ));
        }
        if !is_good(&self.dns) {
            return Err(format!(
                "the last reply by DNS is {:?}, not from {name}",
                self.dns
            ));
        }
        Ok(())
    }
}

/// What one repetition saw; each the first of its kind after the fault.
#[derive(Debug)]
pub(crate) struct Chain {
    fault: Nanos,
    /// Whether the process that says the verdict runs at all.
    judged: bool,
    pub(crate) verdict: Option<Nanos>,
    pub(crate) router_log: Option<Nanos>,
    /// The first UPDATE of the near edge about the prefix.
    updated: Option<Nanos>,
    withdrawn: Option<Nanos>,
    routed: Option<Nanos>,
    /// When the router forwarded to the near edge again.
    returned: Option<Nanos>,
    answer: Option<Nanos>,
    anycast_reply: Option<Nanos>,
    dns_reply: Option<Nanos>,
    flow: Option<(Nanos, Ended)>,
    /// Of requests that were due after the fault.
    replies: Vec<(Nanos, Reply)>,
    /// The near edge's route in the router's table, step by step.
    steps: Vec<(Nanos, Option<Route>)>,
}

impl Chain {
    pub(crate) fn from(fault: Nanos, judged: bool) -> Self {
        Self {
            fault,
            judged,
            verdict: None,
            router_log: None,
            updated: None,
            withdrawn: None,
            routed: None,
            returned: None,
            answer: None,
            anycast_reply: None,
            dns_reply: None,
            flow: None,
            replies: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Notes the first event of each kind after the fault.
    pub(crate) fn note(&mut self, event: Event, scenario: &Scenario) {
        let Event { at, seen } = event;
        if at < self.fault {
            return;
        }
        let far = IpAddr::V4(scenario.anycast.far);
        let first = |place: &mut Option<Nanos>, is_it: bool| {
            if is_it {
                place.get_or_insert(at);
            }
        };
        match seen {
            Seen::Withdrawn { peer } => {
                first(&mut self.withdrawn, peer == scenario.anycast.near);
                first(&mut self.updated, peer == scenario.anycast.near);
            }
            Seen::Announced { peer } => first(&mut self.updated, peer == scenario.anycast.near),
            Seen::FlowStarted { .. } => {}
            Seen::Routed { gateway } => {
                first(&mut self.routed, gateway == Some(far));
                first(
                    &mut self.returned,
                    gateway == Some(IpAddr::V4(scenario.anycast.near)),
                );
            }
            Seen::Answer { addresses } => {
                let far = scenario.dns.as_ref().map(|dns| dns.far);
                first(&mut self.answer, far.is_some_and(|far| addresses == [far]));
            }
            Seen::Reply(reply) if reply.due >= self.fault => {
                let is_far = reply.body.as_ref() == Ok(&scenario.wait.far);
                let place = match reply.method {
                    Method::Anycast => &mut self.anycast_reply,
                    Method::Dns => &mut self.dns_reply,
                };
                first(place, is_far);
                self.replies.push((at, reply));
            }
            Seen::Reply(_) => {} // it began before
            Seen::FlowEnded { how } => {
                self.flow.get_or_insert((at, how));
            }
            Seen::Table { near } => self.steps.push((at, near)),
        }
    }

    /// What has not been seen yet. The router's log is a cross-check and comes when it comes.
    pub(crate) fn missing(&self, scenario: &Scenario) -> Result<(), String> {
        let wait = &scenario.wait;
        let dns = scenario.dns.is_some();
        let gone = self.steps.last().is_some_and(|(_, route)| route.is_none());
        let links = [
            (
                self.judged,
                self.verdict.is_some(),
                "the verdict in the near edge's log",
            ),
            (
                wait.withdrawal,
                self.withdrawn.is_some(),
                "the withdrawal at the router",
            ),
            (true, self.routed.is_some(), "the router's route change"),
            (true, self.anycast_reply.is_some(), "a good anycast reply"),
            (
                scenario.client.flow_every_ms.is_some(),
                self.flow.is_some(),
                "the end of the old flow",
            ),
            (
                wait.table,
                gone,
                "the near edge's route out of the router's table",
            ),
            (dns, self.answer.is_some(), "the changed DNS answer"),
            (dns, self.dns_reply.is_some(), "a good DNS reply"),
        ];
        let missing = links.iter().filter(|(needed, seen, _)| *needed && !*seen);
        let missing: Vec<_> = missing.map(|(_, _, name)| *name).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not seen: {}", missing.join(", ")))
        }
    }

    /// Every request that was due before this must have ended before the repetition can be counted.
    pub(crate) fn counted_until(&self) -> Nanos {
        let last = [
            self.anycast_reply,
            self.dns_reply,
            self.steps.last().map(|(at, _)| *at),
        ];
        let last = last.into_iter().flatten().max().unwrap_or(self.fault);
        last.max(self.fault + SHARE_OF)
    }

    /// Adds this repetition to the report of the anycast method.
    pub(crate) fn report_anycast(&self, scenario: &Scenario, report: &mut report::Method) {
        let from_fault = [
            ("detected", "fault → verdict at the near edge", self.verdict),
            ("on_the_wire", "fault → withdraw at the router", self.withdrawn),
            ("router_log", "fault → route out of BIRD's table", self.router_log),
            ("routed", "fault → kernel forwards elsewhere", self.routed),
            ("first_good_reply", "fault → first good reply", self.anycast_reply),
        ];
        for (id, title, at) in from_fault {
            if let Some(at) = at {
                report.add(id, title, ms_between(self.fault, at));
            }
        }
        if let (Some(verdict), Some(withdrawn)) = (self.verdict, self.withdrawn) {
            let title = "verdict → withdraw at the router";
            report.add("verdict_to_wire", title, ms_between(verdict, withdrawn));
        }
        if let Some((at, how)) = &self.flow {
            report.add(
                "flow_ended",
                "fault → old flow ended",
                ms_between(self.fault, *at),
            );
            let by_reset = u8::from(*how == Ended::Reset);
            report.count(
                "flow_reset",
                "old flow ended by RST (1) or FIN (0)",
                by_reset.into(),
            );
        }
        self.report_requests(scenario, report);
        report.run(self.run(Method::Anycast, self.anycast_reply, scenario));
        report.steps.push(self.steps(scenario));
    }

    fn report_requests(&self, scenario: &Scenario, report: &mut report::Method) {
        let late = i64::from(scenario.client.late_ms) * 1_000_000;
        let mine = self
            .replies
            .iter()
            .filter(|(_, reply)| reply.method == Method::Anycast);
        let mine: Vec<_> = mine.collect();
        let is_hit = |(at, reply): &&&(Nanos, Reply)| reply.body.is_err() || at - reply.due > late;
        let count =
            |wanted: &dyn Fn(&&&(Nanos, Reply)) -> bool| mine.iter().filter(|one| wanted(one)).count() as f64;
        let soon = |(_, reply): &&&(Nanos, Reply)| reply.due < self.fault + SHARE_OF;
        let (hit_soon, all_soon) = (count(&|one| soon(one) && is_hit(one)), count(&soon));
        report.count("hit", "requests hit: failed or late (count)", count(&is_hit));
        report.count(
            "share",
            "hit of those due in the first second (%)",
            100.0 * hit_soon / all_soon.max(1.0),
        );
        report.count(
            "syn_lost",
            "new connections that lost their SYN (count)",
            count(&|(_, reply)| reply.syn_lost),
        );
        report.count(
            "failed",
            "requests that failed (count)",
            count(&|(_, reply)| reply.body.is_err()),
        );
        if scenario.wait.table {
            let title = "failed, not in flight when the route moved (count)";
            report.count("failed_new", title, self.failed_new(self.routed));
        }
    }

    /// Adds how the way back went.
    pub(crate) fn report_return(&self, report: &mut report::Method) {
        let failed = self
            .replies
            .iter()
            .filter(|(_, reply)| reply.body.is_err())
            .count();
        report.count(
            "failed_back",
            "requests that failed on the way back (count)",
            failed as f64,
        );
        let title = "of these, not in flight when the route moved (count)";
        report.count("failed_back_new", title, self.failed_new(self.returned));
    }

    /// Failed requests but for those that were open while the route moved: their packets met a machine that did not
    /// know them. It moved after the UPDATE arrived and before the kernel's word on it reached us.
    fn failed_new(&self, moved: Option<Nanos>) -> f64 {
        let window = self.updated.zip(moved);
        let is_open = |at: Nanos, reply: &Reply| {
            window.is_some_and(|(updated, moved)| reply.opened <= moved && at >= updated)
        };
        let failed = self
            .replies
            .iter()
            .filter(|(at, reply)| reply.body.is_err() && !is_open(*at, reply));
        failed.count() as f64
    }

    /// What the repetition cost the one client of a method.
    fn run(&self, method: Method, recovered: Option<Nanos>, scenario: &Scenario) -> report::Run {
        let late = i64::from(scenario.client.late_ms) * 1_000_000;
        let mine = self.replies.iter().filter(|(_, reply)| reply.method == method);
        let moments = mine.clone().map(|(at, reply)| report::Moment {
            client: scenario.client.node.clone(),
            at_ms: ms_between(self.fault, reply.due),
            site: reply.body.as_ref().ok().cloned(),
            ok: reply.body.is_ok() && at - reply.due <= late,
        });
        let mut moments: Vec<_> = moments.collect();
        moments.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
        report::Run {
            outage_ms: recovered
                .map(|at| ms_between(self.fault, at))
                .into_iter()
                .collect(),
            timeline: report::thin(moments),
            failed: mine.filter(|(_, reply)| reply.body.is_err()).count() as u64,
            wrong_site: 0, // there are two sites, and both are right
        }
    }

    /// Adds this repetition to the report of the DNS method.
    pub(crate) fn report_dns(&self, scenario: &Scenario, report: &mut report::Method) {
        let from_fault = [
            ("detected", "fault → verdict at the near edge", self.verdict),
            ("answer_changed", "fault → changed answer there", self.answer),
            ("first_good_reply", "fault → first good reply", self.dns_reply),
        ];
        for (id, title, at) in from_fault {
            if let Some(at) = at {
                report.add(id, title, ms_between(self.fault, at));
            }
        }
        if let (Some(verdict), Some(answer)) = (self.verdict, self.answer) {
            report.add(
                "verdict_to_answer",
                "verdict → changed answer there",
                ms_between(verdict, answer),
            );
        }
        let failed = |(_, reply): &&(Nanos, Reply)| reply.method == Method::Dns && reply.body.is_err();
        let failed = self.replies.iter().filter(failed).count();
        report.count("failed", "requests that failed (count)", failed as f64);
        report.run(self.run(Method::Dns, self.dns_reply, scenario));
    }

    fn steps(&self, scenario: &Scenario) -> Vec<report::Step> {
        if !scenario.wait.table {
            return Vec::new();
        }
        let words = |route: &Option<Route>| match route {
            Some(Route {
                best,
                path,
                communities,
                local_pref,
            }) => {
                let best = if *best { "best, " } else { "" };
                let communities = if communities.is_empty() {
                    "none"
                } else {
                    communities
                };
                format!("{best}path {path}, communities {communities}, local preference {local_pref}")
            }
            None => "gone".to_owned(),
        };
        let step = |(at, route): &(Nanos, Option<Route>)| report::Step {
            at_ms: ms_between(self.fault, *at),
            what: words(route),
        };
        self.steps.iter().map(step).collect()
    }

    /// For the progress line.
    pub(crate) fn line(&self) -> String {
        let links = [
            ("verdict", self.verdict),
            ("withdraw", self.withdrawn),
            ("route", self.routed),
            ("answer", self.answer),
            ("reply", self.anycast_reply),
            ("reply by DNS", self.dns_reply),
            ("flow ended", self.flow.as_ref().map(|(at, _)| *at)),
        ];
        let seen = links.iter().filter_map(|(name, at)| {
            let at = (*at)?;
            Some(format!("{name} {:.1}", ms_between(self.fault, at)))
        });
        format!("{} ms", seen.collect::<Vec<_>>().join(", "))
    }
}
