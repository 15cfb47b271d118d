//! Tables for a terminal, the same everywhere.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
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

/// The table as text. With a width, its last column is broken so that it fits. The others stay whole, for half an
/// address is of no use to anybody; where even they do not fit, nothing is broken.
pub(crate) fn text(mut table: Table, width: Option<u16>) -> String {
    if let Some(width) = width {
        fit(&mut table, width);
    }
    // Without the spaces at the end a row that fits stays one line.
    table.trim_fmt()
}

fn fit(table: &mut Table, width: u16) {
    let last = table.column_count().saturating_sub(1);
    let widths = table.column_max_content_widths();
    let padded = |width: &u16| width.saturating_add(PADDING);
    let others = widths.iter().take(last).map(padded).fold(0, u16::saturating_add);
    if others.saturating_add(LAST_COLUMN_MIN) > width {
        return;
    }
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    for column in table.column_iter_mut().take(last) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// A space on each side of a cell.
const PADDING: u16 = 2;

/// Narrower than this nobody reads it.
const LAST_COLUMN_MIN: u16 = 12;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = new(&["address", "note"], false);
        table.add_row(["2001:db8::1", "a note of several words"]);
        table.add_row(["192.0.2.1", ""]);
        table
    }

    #[test]
    fn only_the_last_column_is_broken_and_only_where_that_helps() {
        let lines = |width| {
            text(table(), width)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let whole = [
            " ADDRESS      NOTE",
            " 2001:db8::1  a note of several words",
            " 192.0.2.1",
        ];
        assert_eq!(lines(None), whole);
        assert_eq!(lines(Some(80)), whole);
        assert_eq!(lines(Some(20)), whole, "too narrow for anything");
        let broken = lines(Some(32));
        assert!(broken.iter().all(|line| line.len() <= 32), "{broken:#?}");
        assert!(
            broken.len() > 3 && broken[1].starts_with(" 2001:db8::1  a note"),
            "{broken:#?}"
        );
    }
}
