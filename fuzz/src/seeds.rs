//! The seeds of a target, for the tests that replay them; they include this file by its path.

use std::fs;
use std::path::Path;

/// Name and octets of each seed; an empty folder would prove nothing.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let files = fs::read_dir(&folder)
        .expect("the folder of the seeds")
        .map(|file| file.expect("a file"));
    let seeds = files.map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, fs::read(file.path()).expect("a seed"))
    });
    let seeds: Vec<_> = seeds.collect();
    assert!(!seeds.is_empty(), "{}", folder.display());
    seeds
}
