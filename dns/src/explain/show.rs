//! An explanation as text for a terminal.

use std::fmt;

use steer_health::{Service, Verdict};

use super::{AnswerView, CandidateView, ChainView, ClassView, Explanation, Location, Note, PartView};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} for {}, by snapshot {}",
            self.name, self.client, self.snapshot
        )?;
        writeln!(f)?;
        match &self.location {
            Some(location) => writeln!(f, "  location  {location}")?,
            None => writeln!(f, "  location  not looked up: no chain needs it")?,
        }
        writeln!(f, "  class     {}", self.class)?;
        match &self.zone {
            Some(zone) => writeln!(f, "  zone      {zone}")?,
            None => writeln!(f, "  zone      none of ours")?,
        }
        for answer in &self.answers {
            write!(f, "\n{answer}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.country {
            Some(country) => write!(f, "{country}")?,
            None => write!(f, "no country known")?,
        }
        if let Some(continent) = self.place.continent {
            write!(f, " ({continent})")?;
        }
        if let Some(position) = self.place.position {
            write!(f, " at {:.2}, {:.2}", position.latitude(), position.longitude())?;
        }
        if let Some(asn) = self.place.asn {
            write!(f, ", {asn}")?;
        }
        write!(f, ", by {}", self.network)?;
        if self.database.is_empty() {
            write!(f, " in no database")
        } else {
            write!(f, " in {}", self.database)
        }
    }
}

impl fmt::Display for ClassView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bits wide here; ", self.id.0, self.scope)?;
        let how = if self.distance_known {
            "nearest first"
        } else {
            "distance unknown, in file order"
        };
        if self.nearest.is_empty() {
            write!(f, "no distances asked for")?;
        } else {
            write!(f, "sites {}: {}", how, self.nearest.join(" "))?;
        }
        if !self.quickest.is_empty() {
            write!(f, "; by round trip: {}", self.quickest.join(" "))?;
        }
        if !self.traits.is_empty() {
            write!(f, "; {}", self.traits.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for AnswerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}, scope {}", self.rtype, self.rcode, self.scope)?;
        let is_binding = matches!(self.rtype.as_str(), "HTTPS" | "SVCB");
        for chain in &self.chains {
            match chain.part {
                PartView::Ipv4 if is_binding => writeln!(f, "  the chain for ipv4hint")?,
                PartView::Ipv6 if is_binding => writeln!(f, "  the chain for ipv6hint")?,
                PartView::Ipv4 | PartView::Ipv6 => {}
                PartView::Names => writeln!(f, "  the chain for names, both families together")?,
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "  answer")?;
        for record in &self.records {
            writeln!(f, "    {record}")?;
        }
        if self.records.is_empty() {
            writeln!(f, "    (none)")?;
        }
        Ok(())
    }
}

impl fmt::Display for ChainView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} is steered: pool {}, ttl {} s, chain {}",
            self.name,
            self.pool,
            self.ttl,
            self.chain.join(", ")
        )?;
        if let Some(reason) = &self.ttl_reason {
            writeln!(f, "  ttl {} s by {reason}", self.ttl)?;
        }
        writeln!(f, "  decided by {}", self.rule)?;
        writeln!(f, "  candidates")?;
        for candidate in &self.candidates {
            writeln!(f, "    {candidate}")?;
        }
        for step in &self.steps {
            writeln!(f, "  {}, given {}", step.filter, brief(&step.before))?;
            list(f, "", &step.kept)?;
            list(f, "- ", &step.dropped)?;
        }
        Ok(())
    }
}

/// The list before a filter.
fn brief(list: &[String]) -> String {
    if list.is_empty() {
        "nothing".to_owned()
    } else {
        list.join(", ")
    }
}

fn list(f: &mut fmt::Formatter<'_>, mark: &str, notes: &[Note]) -> fmt::Result {
    for Note { endpoint, reason } in notes {
        writeln!(f, "    {mark}{endpoint}  {reason}")?;
    }
    Ok(())
}

impl fmt::Display for CandidateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Unknown => "unknown",
        };
        write!(f, "{}  {verdict} since {:.0}", self.endpoint, self.since)?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        match &self.service {
            Service::In => Ok(()),
            Service::Out => write!(f, "; out of service"),
            Service::Drained => write!(f, "; drained"),
            Service::Held { reason } => write!(f, "; held in service: {reason}"),
        }
    }
}
