//! `cargo xtask interop`: the tables of `docs/interop.md`, made by the tests themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::packages;
use crate::shell::{cargo, run, workspace};
use crate::test::steer_binary;

/// The test programs that leave rows behind; each has its place in the page, between two comments of its name.
const TABLES: [&str; 2] = ["interop", "bfd"];

/// One line that a test left behind: what was tried, and what came of it.
type Rows = Vec<(String, String)>;

pub(crate) fn interop(only: Option<&str>) -> Result<(), String> {
    let wanted = |test: &&str| only.is_none_or(|only| only == *test);
    if !TABLES.iter().any(wanted) {
        return Err(format!("no table {only:?}; there are {TABLES:?}"));
    }
    packages::ensure();
    run(&mut cargo(&["build", "--package", "steer"]))?;
    TABLES.into_iter().filter(wanted).try_for_each(make)
}

/// Runs one test program and puts its table into the page.
fn make(test: &str) -> Result<(), String> {
    let folder = workspace().join("target/interop").join(test);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut tests = cargo(&["test", "--package", "steer-tests", "--test", test]);
    tests.env("STEER_BIN", steer_binary()).env("STEER_ROWS", &folder);
    run(&mut tests)?;
    let table = render(&gather(&folder)?);
    let page = workspace().join("docs/interop.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let no_place = || format!("{} has no place for the table `{test}`", page.display());
    let text = replace(&text, test, &table).ok_or_else(no_place)?;
    fs::write(&page, text).map_err(|error| format!("{}: {error}", page.display()))?;
    println!("{table}");
    Ok(())
}

/// Files in the order of their names: the title of the peer in the first line, then `CASE <tab> RESULT`.
fn gather(folder: &Path) -> Result<BTreeMap<String, Rows>, String> {
    let mut peers: BTreeMap<String, Rows> = BTreeMap::new();
    let files = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut files: Vec<_> = files.flatten().map(|entry| entry.path()).collect();
    files.sort_unstable();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let rows = lines.filter_map(|line| line.split_once('\t'));
        let rows = rows.map(|(case, result)| (case.to_owned(), result.to_owned()));
        peers.entry(title).or_default().extend(rows);
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

fn replace(text: &str, test: &str, table: &str) -> Option<String> {
    let [begin, end] = marks(test);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{table}\n{end}{after}"))
}

fn marks(test: &str) -> [String; 2] {
    [
        format!("<!-- {test}: begin; made by `cargo xtask interop` -->\n"),
        format!("<!-- {test}: end -->"),
    ]
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
        let [begin, end] = marks("interop");
        let page = format!("before\n{begin}old\n{end}\nafter\n");
        assert_eq!(
            replace(&page, "interop", &table),
            Some(format!("before\n{begin}\n{table}\n{end}\nafter\n"))
        );
        assert_eq!(replace(&page, "bfd", &table), None);
    }
}
