//! Tables for a terminal, the same everywhere.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use steer_health::{Service, Verdict};

use crate::client;

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

/// Breaks the cells so that the table fits; without a width it is as wide as it likes, a row for each line.
pub(crate) fn fit(table: &mut Table, width: Option<u16>) {
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
}

/// What a server is told of the terminal on stdout, as a query.
pub(crate) fn look() -> Vec<(&'static str, String)> {
    let mut look = vec![
        ("format", "text".to_owned()),
        ("color", client::color().to_string()),
    ];
    let width = Table::new().width();
    look.extend(width.map(|width| ("width", width.to_string())));
    look
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
