//! `topology/data/airports.tsv`: what sites need of the PyPI package `airportsdata` (MIT).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Writes code, city, country, latitude and longitude of every airport with an IATA code, sorted by code.
/// `csv` is `airportsdata/airports.csv` of the package. Returns the number of airports.
pub fn extract(csv: &Path, tsv: &Path) -> io::Result<usize> {
    let mut rows = csv::Reader::from_path(csv).map_err(io::Error::other)?;
    let headers = rows.headers().map_err(io::Error::other)?.clone();
    let column = |name: &str| {
        let missing = || io::Error::other(format!("{} has no column {name:?}", csv.display()));
        headers.iter().position(|header| header == name).ok_or_else(missing)
    };
    let columns = [column("city")?, column("name")?, column("country")?, column("lat")?, column("lon")?];
    let code_column = column("iata")?;
    let mut airports = BTreeMap::new();
    for row in rows.records() {
        let row = row.map_err(io::Error::other)?;
        let [city, name, country, latitude, longitude] = columns.map(|column| clean(row.get(column)));
        let code = clean(row.get(code_column)).to_ascii_lowercase();
        if code.is_empty() {
            continue;
        }
        let city = if city.is_empty() { name } else { city };
        let (latitude, longitude) = (degrees(&latitude)?, degrees(&longitude)?);
        airports.insert(code, format!("{city}\t{country}\t{latitude}\t{longitude}"));
    }
    let lines: String = airports.iter().map(|(code, rest)| format!("{code}\t{rest}\n")).collect();
    fs::write(tsv, lines)?;
    Ok(airports.len())
}

/// One line, no tab.
fn clean(field: Option<&str>) -> String {
    field.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Four decimals are eleven metres: enough for an airport, and a third less text.
fn degrees(text: &str) -> io::Result<String> {
    let value: f64 = text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number of degrees")))?;
    let fixed = format!("{value:.4}");
    Ok(fixed.trim_end_matches('0').trim_end_matches('.').to_owned())
}
