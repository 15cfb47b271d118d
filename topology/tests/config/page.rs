//! `docs/configuration.md` is what the code says of its keys. `UPDATE_GOLDEN=1` writes it anew.

use std::fs;
use std::path::Path;

use steer_topology::config::reference;

#[test]
fn the_reference_page_is_the_generated_one() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md"));
    let page = reference::page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, &page).unwrap();
    }
    let written = fs::read_to_string(file).unwrap_or_default();
    let line = page
        .lines()
        .zip(written.lines())
        .find(|(now, before)| now != before);
    assert!(
        page == written,
        "docs/configuration.md is old, from {line:?} on; run with UPDATE_GOLDEN=1"
    );
}
