//! Does a drill fit its topology, and itself? Everything that is named must be there.

use std::path::Path;

use regex::Regex;
use steer_topology::fault::{Fault, Faults};

use super::faults::Break;
use super::spec::{Drill, Method, Stage, Verdict};
use crate::clab::Topology;
use crate::disk::MB_MAX;
use crate::faketime;
use crate::link::wrong;
use crate::scenario::Process;
use crate::watch::capture;

impl Drill {
    /// All that does not fit, at once.
    pub fn fits(&self, file: &Path, topology: &Topology) -> Result<(), Faults> {
        let mut check = Check {
            file,
            drill: self,
            topology,
            faults: Vec::new(),
        };
        check.all();
        if check.faults.is_empty() {
            Ok(())
        } else {
            Err(Faults(check.faults))
        }
    }
}

struct Check<'a> {
    file: &'a Path,
    drill: &'a Drill,
    topology: &'a Topology,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn all(&mut self) {
        let drill = self.drill;
        for process in &drill.processes {
            self.node(&process.node);
            if process.run.is_empty() {
                self.fault(
                    format!("`run` of `{}` is empty", process.name),
                    "write program and arguments",
                );
            }
            if process.disk_mb.is_some_and(|mb| mb == 0 || mb > MB_MAX) {
                let remedy = format!("write 1 to {MB_MAX}");
                self.fault(
                    format!("`disk_mb` of `{}` is out of range", process.name),
                    &remedy,
                );
            }
            process
                .methods
                .iter()
                .flatten()
                .for_each(|method| self.is_method(method));
        }
        for client in &drill.clients {
            self.node(&client.node);
        }
        if !drill.clients.is_empty() && drill.load.timeout_ms == 0 {
            self.fault(
                "clients have no time for an answer: `timeout_ms` of `[load]` is missing or 0".to_owned(),
                "write `[load]` with `every_ms`, `timeout_ms` and `late_ms`",
            );
        }
        for prefix in &drill.prefixes {
            prefix.routers.iter().for_each(|router| self.node(router));
            if capture::wire_prefix(&prefix.prefix).is_none() {
                self.fault(
                    format!("`{}` is no IPv4 prefix", prefix.prefix),
                    "write `192.0.2.53/32`",
                );
            }
        }
        drill.stages.iter().for_each(|stage| self.stage(stage));
        drill.methods.iter().for_each(|method| self.method(method));
        for bound in &drill.bounds {
            let named = [&bound.method].into_iter().chain(&bound.below);
            named.for_each(|method| self.is_method(method));
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let drill = self.drill;
        if stage
            .steps
            .first()
            .is_none_or(|step| step.at_ms != 0 || step.breaks.is_empty())
        {
            let message = format!("stage `{}` does not begin with a fault", stage.name);
            self.fault(message, "write a first `[[stage.step]]` with `break`, at 0 ms");
        }
        if stage.steps.windows(2).any(|pair| pair[0].at_ms > pair[1].at_ms) {
            self.fault(
                format!("the steps of stage `{}` are out of order", stage.name),
                "write them by `at_ms`",
            );
        }
        for broken in stage.steps.iter().flat_map(|step| &step.breaks) {
            self.node(broken.node());
            if let Some((node, process)) = broken.process() {
                self.process(stage, node, process);
            }
            if let Some((node, interface)) = broken.link_end() {
                self.link_end(node, interface);
            }
            self.prepared(broken);
        }
        for ready in &stage.ready {
            self.node(&ready.node);
            self.regex(&ready.says);
        }
        for mark in &stage.marks {
            self.regex(&mark.line);
            for (node, process) in &mark.processes {
                self.process(stage, node, process);
            }
            mark.methods
                .iter()
                .flatten()
                .for_each(|method| self.is_method(method));
        }
        match &stage.verdict {
            Some(verdict) => self.verdict(stage, verdict),
            None if drill.methods.iter().any(|method| method.stage == stage.name) => {}
            None => self.fault(
                format!("stage `{}` measures nothing", stage.name),
                "write a `[[method]]` or a `[stage.verdict]` for it",
            ),
        }
        if stage.announcer.is_empty() {
            return;
        }
        let has = |process: &&Process| process.announcer.as_ref() == Some(&stage.announcer);
        if !drill.processes.iter().any(|process| has(&process)) {
            let message = format!("no process has the announcer `{}`", stage.announcer);
            self.fault(message, "name one of a `[[process]]`");
        }
    }

    fn verdict(&mut self, stage: &Stage, verdict: &Verdict) {
        self.node(&verdict.node);
        for (node, process) in &verdict.after {
            self.process(stage, node, process);
        }
        if verdict.run.is_empty() {
            self.fault(
                format!("`run` of the verdict of stage `{}` is empty", stage.name),
                "write program and arguments",
            );
        }
    }

    fn method(&mut self, method: &Method) {
        let drill = self.drill;
        let id = &method.id;
        if drill.stage(&method.stage).is_none() {
            let names: Vec<_> = drill.stages.iter().map(|stage| stage.name.as_str()).collect();
            let remedy = format!("stages are {}", names.join(", "));
            self.fault(
                format!("method `{id}`: there is no stage `{}`", method.stage),
                &remedy,
            );
        }
        if method.connect.is_some() == method.resolve.is_some() {
            self.fault(
                format!("method `{id}` has to connect or to resolve"),
                "write one of `connect` and `resolve`",
            );
        }
        if let Some(name) = &method.prefix
            && drill.prefix(name).is_none()
        {
            self.fault(
                format!("method `{id}`: there is no prefix `{name}`"),
                "name one of `[[prefix]]`",
            );
        }
        if method.pin && method.resolve.is_none() {
            self.fault(
                format!("method `{id}` pins an address and resolves none"),
                "`pin` belongs to `resolve`",
            );
        }
        for name in method.clients.iter().flatten() {
            if !drill.clients.iter().any(|client| client.name == *name) {
                self.fault(
                    format!("method `{id}`: there is no client `{name}`"),
                    "name one of `[[client]]`",
                );
            }
        }
        let clients: Vec<_> = drill.clients_of(method).collect();
        for client in clients {
            if method.resolve.is_some() && !client.resolvers.contains_key(&method.resolver) {
                let message = format!("client `{}` has no resolver `{}`", client.name, method.resolver);
                self.fault(message, "name one of its `resolvers`");
            }
        }
        if method.every_ms.unwrap_or(drill.load.every_ms) == 0 {
            self.fault(
                format!("method `{id}`: `every_ms` is 0"),
                "write the time between two requests, such as 20",
            );
        }
    }

    fn process(&mut self, stage: &Stage, node: &str, process: &str) {
        let is_it = |other: &&Process| {
            let ours = other
                .announcer
                .as_ref()
                .is_none_or(|word| *word == stage.announcer);
            other.node == node && other.name == process && ours
        };
        if !self.drill.processes.iter().any(|other| is_it(&other)) {
            let message = format!(
                "stage `{}`: node `{node}` runs no process `{process}`",
                stage.name
            );
            self.fault(message, "name one of `[[process]]`");
        }
    }

    /// What breaks a disk or a clock needs a process that has one of its own; what spoils a line, a long one.
    fn prepared(&mut self, broken: &Break) {
        if let Break::Line(wan) = broken {
            let (a, b) = &wan.link;
            if let Some((message, remedy)) = wrong(wan, self.topology) {
                self.fault(message, remedy);
            } else if !self.drill.wan.iter().any(|line| line.joins(wan)) {
                let message = format!("the link from `{a}` to `{b}` is no long line");
                self.fault(message, "make it one by a `[[wan]]`");
            }
        }
        let of = |node: &str, name: &str, has: fn(&Process) -> bool| {
            let mut processes = self.drill.processes.iter();
            processes.any(|process| process.node == node && process.name == name && has(process))
        };
        if let Break::DiskFull { node, process } = broken
            && !of(node, process, |process| process.disk_mb.is_some())
        {
            let message = format!("`{process}` on `{node}` has no disk of its own");
            self.fault(message, "give the `[[process]]` a `disk_mb`");
        }
        if let Break::ClockStep { node, process, by } = broken {
            if !of(node, process, |process| process.clock) {
                let message = format!("`{process}` on `{node}` has no clock of its own");
                self.fault(message, "give the `[[process]]` a `clock = true`");
            }
            if !faketime::is_step(by) {
                self.fault(format!("`by` is `{by}`"), "write `+1h`, `-90s` or the like");
            }
        }
    }

    fn link_end(&mut self, node: &str, interface: &str) {
        let mut ends = self.topology.links.iter().flat_map(|link| [&link.a, &link.b]);
        if !ends.any(|end| end.node == node && end.interface == interface) {
            self.fault(
                format!("node `{node}` has no interface `{interface}`"),
                "name one end of a link",
            );
        }
    }

    fn is_method(&mut self, id: &str) {
        if !self.drill.methods.iter().any(|method| method.id == id) {
            self.fault(format!("there is no method `{id}`"), "name one of `[[method]]`");
        }
    }

    fn node(&mut self, name: &str) {
        if !self.topology.nodes.iter().any(|node| node.name == name) {
            let names: Vec<_> = self
                .topology
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .collect();
            let remedy = format!("the topology has {}", names.join(", "));
            self.fault(format!("there is no node `{name}`"), &remedy);
        }
    }

    fn regex(&mut self, text: &str) {
        if let Err(error) = Regex::new(text) {
            self.fault(
                format!("`{text}` is no regular expression: {error}"),
                "correct it",
            );
        }
    }

    fn fault(&mut self, message: String, remedy: &str) {
        self.faults.push(Fault::of_file(self.file, message, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clab;

    const TOPOLOGY: &str = include_str!("../../region-loss/region-loss.clab.yml");
    const SCENARIO: &str = include_str!("../../region-loss/scenario.toml");

    /// What is wrong with the shipped drill after one change.
    fn faults(from: &str, to: &str) -> String {
        assert!(SCENARIO.contains(from), "{from}");
        let file = Path::new("scenario.toml");
        let topology = clab::parse(Path::new("region-loss.clab.yml"), TOPOLOGY).unwrap();
        let drill = Drill::parse(file, &SCENARIO.replacen(from, to, 1));
        let fits = drill.and_then(|drill| drill.fits(file, &topology));
        fits.unwrap_err().to_string()
    }

    #[test]
    fn a_signal_that_there_is_not_is_told_before_anything_starts_whichever_value_it_comes_from() {
        let file = Path::new("scenario.toml");
        let cut = "{ kind = \"cut\", node = \"fra-wire\", port = \"port2\" }";
        let with = |signal: &str| {
            let term =
                format!("{{ kind = \"term\", node = \"fra\", process = \"steer\", signal = \"{signal}\" }}");
            Drill::parse(file, &SCENARIO.replacen(cut, &term, 1)).unwrap()
        };
        with("QUIT").is_plain().unwrap();
        let wrong = with("QIUT").is_plain().unwrap_err().to_string();
        assert!(
            wrong.contains("`signal` is \"QIUT\"; write a name without SIG"),
            "{wrong}"
        );
        let mut filled = with("@how@");
        let set = |drill: &mut Drill, value: &str| {
            let stages = drill.stages.iter_mut();
            stages.for_each(|stage| drop(stage.set.insert("how".to_owned(), value.to_owned())));
        };
        set(&mut filled, "USR1");
        filled.is_plain().unwrap();
        set(&mut filled, "SIGUSR1");
        assert!(filled.is_plain().is_err());
    }

    #[test]
    fn a_drill_that_does_not_fit_says_what_is_wrong_and_what_would_be_right() {
        for (from, to, want) in [
            (
                "node = \"client\"",
                "node = \"cleint\"",
                "there is no node `cleint`",
            ),
            (
                "port = \"port2\"",
                "port = \"port9\"",
                "node `fra-wire` has no interface `port9`",
            ),
            ("stage = \"dark\"", "stage = \"drak\"", "there is no stage `drak`"),
            ("prefix = \"vip\"", "prefix = \"pip\"", "there is no prefix `pip`"),
            (
                "resolver = \"unbound\"",
                "resolver = \"bind\"",
                "client `a` has no resolver `bind`",
            ),
            (
                "connect = \"192.0.2.53:80\"\n",
                "",
                "has to connect or to resolve",
            ),
            (
                "prefix = \"192.0.2.53/32\"",
                "prefix = \"192.0.2.53\"",
                "is no IPv4 prefix",
            ),
            ("every_ms = 10", "every_ms = 0", "`every_ms` is 0"),
            ("kind = \"cut\"", "kind = \"cat\"", "unknown variant `cat`"),
            ("stable_ms", "stabel_ms", "unknown field `stabel_ms`"),
            (
                "[[stage.step]]\n",
                "[[stage.step]]\nat_ms = 5\n",
                "does not begin with a fault",
            ),
            (
                "processes = [[\"router\", \"bird\"]]",
                "processes = [[\"router\", \"brid\"]]",
                "runs no process `brid`",
            ),
            (
                "{ kind = \"cut\", node = \"fra-wire\", port = \"port2\" }",
                "{ kind = \"disk-full\", node = \"fra\", process = \"steer\" }",
                "`steer` on `fra` has no disk of its own; give the `[[process]]` a `disk_mb`",
            ),
            (
                "{ kind = \"cut\", node = \"fra-wire\", port = \"port2\" }",
                "{ kind = \"clock-step\", node = \"fra\", process = \"steer\", by = \"1h\" }",
                "`steer` on `fra` has no clock of its own",
            ),
            (
                "{ kind = \"cut\", node = \"fra-wire\", port = \"port2\" }",
                "{ kind = \"clock-step\", node = \"fra\", process = \"steer\", by = \"1h\" }",
                "`by` is `1h`",
            ),
            (
                "{ kind = \"cut\", node = \"fra-wire\", port = \"port2\" }",
                "{ kind = \"line\", link = [\"fra:eth1\", \"fra-wire:port2\"], loss = 30 }",
                "is no long line; make it one by a `[[wan]]`",
            ),
            (
                "{ kind = \"cut\", node = \"fra-wire\", port = \"port2\" }",
                "{ kind = \"line\", link = [\"fra:eth1\", \"fra-wire:port2\"], loss = 300 }",
                "`loss` is 300",
            ),
            (
                "name = \"service\"\n",
                "name = \"service\"\ndisk_mb = 0\n",
                "`disk_mb` of `service` is out of range",
            ),
            (
                "connect = \"192.0.2.53:80\"\n",
                "connect = \"192.0.2.53:80\"\npin = true\n",
                "pins an address and resolves none",
            ),
            (
                "connect = \"192.0.2.53:80\"\n",
                "connect = \"192.0.2.53:80\"\nover = \"quic\"\n",
                "unknown variant `quic`",
            ),
            ("method = \"dns\"", "method = \"dsn\"", "there is no method `dsn`"),
            ("Established", "(Established", "is no regular expression"),
            (
                "timeout_ms = ",
                "timeout_ms = 0 #",
                "`timeout_ms` of `[load]` is missing or 0",
            ),
            (
                "[[stage.step]]\n",
                "[stage.verdict]\nnode = \"nowhere\"\nrun = []\n\n[[stage.step]]\n",
                "there is no node `nowhere`",
            ),
            (
                "[[stage.step]]\n",
                "[stage.verdict]\nnode = \"client\"\nrun = []\n\n[[stage.step]]\n",
                "`run` of the verdict of stage `dark` is empty",
            ),
            (
                "[[stage.step]]\n",
                "[stage.verdict]\nnode = \"client\"\nrun = [\"true\"]\nafter = [[\"client\", \"load\"]]\n\n[[stage.step]]\n",
                "node `client` runs no process `load`",
            ),
            (
                "[[stage.step]]\n",
                "[stage.verdict]\nnode = \"client\"\nruns = [\"true\"]\n\n[[stage.step]]\n",
                "unknown field `runs`",
            ),
        ] {
            let said = faults(from, to);
            assert!(said.contains(want), "{want}: {said}");
        }
    }
}
