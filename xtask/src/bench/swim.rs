//! `cargo xtask bench swim`: the membership of up to 1,000 sites, simulated; writes the tables of `docs/swim.md` and the
//! picture beside it.

use std::fs;

use crate::shell::{cargo, output, workspace};

const BEGIN: &str = "<!-- begin; made by `cargo xtask bench swim` -->\n";
const END: &str = "<!-- end -->";

/// The simulation itself is an example of `steer-health`, so that this crate needs none of the others.
pub(crate) fn bench() -> Result<(), String> {
    let folder = workspace().join("docs");
    let (page, picture) = (folder.join("swim.md"), folder.join("swim.svg"));
    let example = [
        "run",
        "--release",
        "--quiet",
        "-p",
        "steer-health",
        "--example",
        "swim",
        "--",
    ];
    let tables = output(cargo(&example).arg(&picture))?;
    println!("{tables}");
    let fault = |error| format!("{}: {error}", page.display());
    let text = fs::read_to_string(&page).map_err(fault)?;
    let text =
        replace(&text, &tables).ok_or_else(|| format!("{}: no place for the tables", page.display()))?;
    fs::write(&page, text).map_err(fault)
}

fn replace(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n\n{END}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_around_the_tables_stays() {
        let page = format!("before\n{BEGIN}\nold\n\n{END}\nafter\n");
        let made = format!("before\n{BEGIN}\n| a |\n\n{END}\nafter\n");
        assert_eq!(replace(&page, "| a |\n"), Some(made));
        assert_eq!(replace("no place", "| a |"), None);
    }
}
