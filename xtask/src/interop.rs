//! `cargo xtask interop`: the table of `docs/interop.md`, made by the tests themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::packages;
use crate::shell::{cargo, run, workspace};
use crate::test::steer_binary;

const BEGIN: &str = "<!-- interop: begin; made by `cargo xtask interop` -->\n";
const END: &str = "<!-- interop: end -->";

/// One line that a test left behind: what was tried, and what came of it.
type Rows = Vec<(String, String)>;

pub(crate) fn interop() -> Result<(), String> {
    packages::ensure();
    let folder = workspace().join("target/interop");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    run(&mut cargo(&["build", "--package", "steer"]))?;
    let mut tests = cargo(&["test", "--package", "steer-tests", "--test", "interop"]);
    tests.env("STEER_BIN", steer_binary()).env("STEER_ROWS", &folder);
    run(&mut tests)?;
    let table = render(&gather(&folder)?);
    let page = workspace().join("docs/interop.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let text =
        replace(&text, &table).ok_or_else(|| format!("{} has no place for the table", page.display()))?;
    fs::write(&page, text).map_err(|error| format!("{}: {error}", page.display()))?;
    println!("{table}");
    Ok(())
}

/// A file per peer: the title in the first line, then `CASE <tab> RESULT`.
fn gather(folder: &Path) -> Result<BTreeMap<String, Rows>, String> {
    let mut peers = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let rows = lines.filter_map(|line| line.split_once('\t'));
        let rows = rows.map(|(case, result)| (case.to_owned(), result.to_owned()));
        peers.insert(title, rows.collect());
    }
    if peers.is_empty() {
        return Err("no peer was tested; see above for the reasons".to_owned());
    }
    Ok(peers)
}

/// A row per case, in the order in which the cases first appear; a column per peer.
fn render(peers: &BTreeMap<String, Rows>) -> String {
    let mut cases: Vec<&str> = Vec::new();
    for (case, _) in peers.values().flatten() {
        if !cases.contains(&case.as_str()) {
            cases.push(case);
        }
    }
    let titles: Vec<&str> = peers.keys().map(String::as_str).collect();
    // Writing to a String cannot fail.
    let mut table = format!(
        "| Case | {} |\n|---|{}\n",
        titles.join(" | "),
        "---|".repeat(titles.len())
    );
    for case in cases {
        let of = |rows: &Rows| {
            let row = rows.iter().find(|(name, _)| name == case);
            row.map_or("-".to_owned(), |(_, result)| result.clone())
        };
        let cells: Vec<String> = peers.values().map(of).collect();
        let _ = writeln!(table, "| {case} | {} |", cells.join(" | "));
    }
    table
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_a_peer_does_not_have_is_a_dash_and_the_rest_of_the_page_stays() {
        let row = |case: &str, result: &str| (case.to_owned(), result.to_owned());
        let peers = BTreeMap::from([
            ("BIRD".to_owned(), vec![row("opens", "1 s"), row("roles", "ok")]),
            ("FRR".to_owned(), vec![row("opens", "2 s")]),
        ]);
        let table = render(&peers);
        assert!(
            table.contains("| opens | 1 s | 2 s |\n| roles | ok | - |\n"),
            "{table}"
        );
        let page = format!("before\n{BEGIN}old\n{END}\nafter\n");
        assert_eq!(
            replace(&page, &table),
            Some(format!("before\n{BEGIN}\n{table}\n{END}\nafter\n"))
        );
    }
}
