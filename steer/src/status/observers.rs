//! What only looks on, in the status: BMP collectors and the RPKI cache.

use std::fmt::Write as _;

use comfy_table::{Cell, Color};
use serde::Serialize;
use steer_anycast::ObserverStatus;
use steer_anycast::bmp::{CollectorState, CollectorStatus};
use steer_anycast::rtr::{RpkiStatus, Validity};

use crate::moment::ago;
use crate::table;

/// Beside the peers of a speaker.
#[derive(Debug, Serialize)]
pub(super) struct ObserverRows {
    /// `[[bgp.bmp]]`, in its order.
    bmp: Vec<CollectorStatus>,
    /// `[bgp] rpki`
    rpki: Option<RpkiStatus>,
}

impl ObserverRows {
    pub(super) fn of(status: &ObserverStatus) -> Self {
        let (bmp, rpki) = (status.collectors(), status.rpki());
        Self { bmp, rpki }
    }

    /// For a terminal; empty where nothing looks on.
    pub(super) fn render(&self, color: bool) -> String {
        let mut text = String::new();
        if !self.bmp.is_empty() {
            let _ = writeln!(text, "\n{}", collector_table(&self.bmp, color)); // infallible for a string
        }
        if let Some(rpki) = &self.rpki {
            let _ = writeln!(text, "\n{}\n{}", cache_line(rpki), validity_table(rpki, color));
        }
        text
    }
}

fn collector_table(rows: &[CollectorStatus], color: bool) -> comfy_table::Table {
    let head = ["bmp collector", "state", "since", "messages", "cut off", "note"];
    let mut table = table::new(&head, color);
    for row in rows {
        let (state, tone) = match row.state {
            CollectorState::Up => ("up", Color::Green),
            CollectorState::Connecting => ("connecting", Color::Yellow),
            CollectorState::Waiting => ("waiting", Color::Red),
            CollectorState::Stopped => ("stopped", Color::Yellow),
        };
        let error = row.last_error.as_deref();
        let note = error.filter(|_| row.state != CollectorState::Up);
        table.add_row([
            Cell::new(row.address),
            Cell::new(state).fg(tone),
            Cell::new(ago(row.since)),
            Cell::new(row.messages),
            Cell::new(row.cut_off),
            Cell::new(note.unwrap_or("")),
        ]);
    }
    table
}

fn cache_line(rpki: &RpkiStatus) -> String {
    let mut line = format!("RPKI cache {}: ", rpki.cache);
    let _ = match (rpki.serial, rpki.updated) {
        (Some((_, serial)), Some(updated)) => {
            write!(line, "serial {serial}, {} ago", ago(updated))
        }
        (Some(_), None) | (None, _) => write!(line, "no data"),
    };
    if let Some(error) = rpki.last_error.as_deref().filter(|_| rpki.serial.is_none()) {
        let _ = write!(line, "; {error}");
    }
    if rpki.truncated {
        line.push_str("; more ROAs cover our prefixes than are kept");
    }
    line
}

fn validity_table(rpki: &RpkiStatus, color: bool) -> comfy_table::Table {
    let mut table = table::new(&["prefix", "rpki", "since", "covered by"], color);
    for (prefix, route) in &rpki.routes {
        let tone = match route.validity {
            Validity::Valid => Color::Green,
            Validity::Invalid => Color::Red,
            Validity::NotFound | Validity::Unknown => Color::Yellow,
        };
        let covered_by: Vec<String> = route.covered_by.iter().map(ToString::to_string).collect();
        table.add_row([
            Cell::new(prefix),
            Cell::new(route.validity.name()).fg(tone),
            Cell::new(ago(route.since)),
            Cell::new(covered_by.join("; ")),
        ]);
    }
    table
}
