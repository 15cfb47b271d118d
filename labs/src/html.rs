//! `report.html`: one page out of a `result.json`. It loads nothing from anywhere and needs no script to be read.

mod cdf;
mod scale;
mod style;
mod tables;
mod timeline;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::LabError;
use crate::record::{self, Record};

/// Writes `report.html` beside a `result.json`, and says where; beside it `outages.svg`, the page's curves as a picture of
/// their own.
pub fn write(result: &Path) -> Result<PathBuf, LabError> {
    let record = Record::read(result)?;
    let path = record::folder_of(result).join("report.html");
    fs::write(&path, page(&record)).map_err(|source| LabError::io("write", &path, source))?;
    if let Some(picture) = cdf::picture(&record) {
        let path = path.with_file_name("outages.svg");
        fs::write(&path, picture).map_err(|source| LabError::io("write", &path, source))?;
    }
    Ok(path)
}

/// The whole page.
pub(crate) fn page(record: &Record) -> String {
    let mut out = String::with_capacity(64 * 1024);
    put(
        &mut out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">",
    );
    put(
        &mut out,
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">",
    );
    put(
        &mut out,
        &format!("<title>{} · steer lab</title>", escape(&record.lab)),
    );
    put(
        &mut out,
        &format!("<style>{}</style></head><body><main>", style::CSS),
    );
    head(&mut out, record);
    tables::methods(&mut out, record);
    cdf::section(&mut out, record);
    timeline::section(&mut out, record);
    tables::bounds(&mut out, record);
    tables::verdicts(&mut out, record);
    tables::details(&mut out, record);
    foot(&mut out, record);
    put(
        &mut out,
        &format!("</main><script>{}</script></body></html>\n", style::SCRIPT),
    );
    out
}

fn head(out: &mut String, record: &Record) {
    let held = record.bounds.iter().map(|bound| bound.held);
    let held = held.chain(record.verdicts.iter().map(|verdict| verdict.held));
    let (all, broken) = (held.clone().count(), held.filter(|held| !held).count());
    let (class, verdict) = match (all, broken) {
        (0, _) => ("none", "no bounds".to_owned()),
        (1, 0) => ("held", "the bound held".to_owned()),
        (_, 0) => ("held", format!("all {all} bounds held")),
        (1, _) => ("broken", "the bound was broken".to_owned()),
        (_, _) => ("broken", format!("{broken} of {all} bounds broken")),
    };
    put(out, "<header><p class=\"brand\">steer lab</p>");
    put(
        out,
        &format!(
            "<h1>{}<span class=\"verdict {class}\" data-held=\"{}\" data-broken=\"{broken}\">{verdict}</span></h1>",
            escape(&record.lab),
            all - broken
        ),
    );
    put(
        out,
        &format!(
            "<p class=\"summary\">{}</p><dl class=\"facts\">",
            escape(&record.summary)
        ),
    );
    let repeated = match record.repeat {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    let runtime = if record.runtime.is_empty() {
        "netns"
    } else {
        &record.runtime
    };
    let started = record.started.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let methods = record.methods.len().to_string();
    for (key, value) in [
        ("fault", record.fault.as_str()),
        ("repeated", &repeated),
        ("methods", &methods),
        ("runtime", runtime),
        ("started", &started),
    ] {
        put(
            out,
            &format!("<div><dt>{key}</dt><dd>{}</dd></div>", coded(value)),
        );
    }
    put(out, "</dl></header>");
}

fn foot(out: &mut String, record: &Record) {
    put(
        out,
        "<section class=\"two\"><div><h2>Settings</h2><dl class=\"plain\">",
    );
    for (name, value) in &record.settings {
        put(
            out,
            &format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)),
        );
    }
    put(out, "</dl></div><div><h2>Clock</h2>");
    put(
        out,
        &format!(
            "<p>{}. Largest step within a repetition: <b data-key=\"clock\" data-value=\"{step}\">{step:.1} µs</b>.</p>",
            escape(&record.clock.source),
            step = record.clock.largest_step_us
        ),
    );
    let runtime = match record.runtime.as_str() {
        "" | "netns" => String::new(),
        other => format!(" --runtime {other}"),
    };
    put(
        out,
        &format!(
            "<h2>Again</h2><p><code>steer lab run {} --repeat {}{}</code></p></div></section>",
            escape(&record.lab),
            record.repeat,
            escape(&runtime)
        ),
    );
}

fn put(out: &mut String, text: &str) {
    out.push_str(text);
}

/// Text between tags, and in a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Escaped, and what stands between backticks as code.
fn coded(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escape(part);
        if index.is_multiple_of(2) {
            out += &part;
        } else {
            let _ = write!(out, "<code>{part}</code>"); // into a string, which does not fail
        }
    }
    out
}

/// Milliseconds with three digits that count: `4.27 ms`, `138 ms`, `6.32 s`.
pub(crate) fn time(ms: f64) -> String {
    let size = ms.abs();
    if size < 9.995 {
        format!("{ms:.2} ms")
    } else if size < 99.95 {
        format!("{ms:.1} ms")
    } else if size < 999.5 {
        format!("{ms:.0} ms")
    } else if size < 9_995.0 {
        format!("{:.2} s", ms / 1e3)
    } else {
        format!("{:.1} s", ms / 1e3)
    }
}

/// A count with thin spaces between thousands; one digit behind the point unless it is whole.
pub(crate) fn count(value: f64) -> String {
    let whole = format!("{:.0}", value.trunc().abs());
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    if value < 0.0 {
        out.insert(0, '-');
    }
    let tenth = ((value - value.trunc()).abs() * 10.0).round();
    if tenth > 0.0 && tenth < 10.0 {
        let _ = write!(out, ".{tenth:.0}"); // into a string, which does not fail
    }
    out
}

/// Class that colours a method; the same one everywhere on the page.
fn hue(index: usize) -> String {
    format!("m{}", index % style::HUES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_keep_three_digits() {
        for (ms, want) in [
            (0.0, "0.00 ms"),
            (4.273, "4.27 ms"),
            (9.996, "10.0 ms"),
            (99.96, "100 ms"),
            (999.6, "1.00 s"),
            (6_320.2, "6.32 s"),
            (90_040.0, "90.0 s"),
        ] {
            assert_eq!(time(ms), want);
        }
        for (value, want) in [
            (0.0, "0"),
            (12.5, "12.5"),
            (1_234.0, "1\u{2009}234"),
            (1_234_567.0, "1\u{2009}234\u{2009}567"),
        ] {
            assert_eq!(count(value), want);
        }
    }

    #[test]
    fn text_from_a_scenario_cannot_become_markup() {
        assert_eq!(escape("<b a=\"x\">'&"), "&lt;b a=&quot;x&quot;&gt;&#39;&amp;");
    }
}
