//! Tables for a terminal, the same everywhere.

use comfy_table::{Cell, Color, Table, presets};
use steer_health::{Service, Verdict};

/// A table without lines, with a header in capitals.
pub(crate) fn new(head: &[&str], color: bool) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(head.iter().map(|text| Cell::new(text.to_uppercase())));
    if color {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table
}

pub(crate) fn verdict(verdict: Verdict) -> Cell {
    let color = match verdict {
        Verdict::Up => Color::Green,
        Verdict::Down => Color::Red,
        Verdict::Unknown => Color::Yellow,
    };
    Cell::new(verdict.as_str()).fg(color)
}

pub(crate) fn service(service: &Service) -> Cell {
    match service {
        Service::In => Cell::new("in").fg(Color::Green),
        Service::Out => Cell::new("out").fg(Color::Red),
        Service::Drained => Cell::new("drained").fg(Color::Yellow),
        Service::Held { reason } => Cell::new(format!("held: {reason}")).fg(Color::Yellow),
    }
}
