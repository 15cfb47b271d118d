//! `airports.tsv`: what sites need of the PyPI package `airportsdata` (MIT).

use std::collections::BTreeMap;

/// Code, city, country, latitude and longitude of every airport with an IATA code, sorted by code; the airport's
/// name where no city is given. `text` is `airportsdata/airports.csv` of the package.
pub(crate) fn table(text: &str) -> Result<String, String> {
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let headers = rows.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| {
        let missing = || format!("airports.csv has no column {name:?}");
        headers
            .iter()
            .position(|header| header == name)
            .ok_or_else(missing)
    };
    let columns = [
        column("city")?,
        column("name")?,
        column("country")?,
        column("lat")?,
        column("lon")?,
    ];
    let code_column = column("iata")?;
    let mut airports = BTreeMap::new();
    for row in rows.records() {
        let row = row.map_err(|error| error.to_string())?;
        let [city, name, country, latitude, longitude] = columns.map(|column| clean(row.get(column)));
        let code = clean(row.get(code_column)).to_ascii_lowercase();
        if code.is_empty() {
            continue;
        }
        let city = if city.is_empty() { name } else { city };
        let (latitude, longitude) = (degrees(&latitude)?, degrees(&longitude)?);
        airports.insert(code, format!("{city}\t{country}\t{latitude}\t{longitude}"));
    }
    Ok(airports
        .iter()
        .map(|(code, rest)| format!("{code}\t{rest}\n"))
        .collect())
}

/// One line, no tab.
fn clean(field: Option<&str>) -> String {
    field
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Four decimals are eleven metres: enough for an airport, and a third less text.
fn degrees(text: &str) -> Result<String, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of degrees"))?;
    let fixed = format!("{value:.4}");
    Ok(fixed.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_airports_with_an_iata_code_are_kept_and_sorted() {
        let csv = "\"iata\",\"name\",\"city\",\"country\",\"lat\",\"lon\"\n\
                   BBB,Field,\"Some \"\"big\"\",  town\",DE,50.02640,8.5\n\
                   \"\",No code,,,1,1\n\
                   AAA,Anaa Airport,,PF,-17.3526,-145.50999\n";
        let expected =
            "aaa\tAnaa Airport\tPF\t-17.3526\t-145.51\nbbb\tSome \"big\", town\tDE\t50.0264\t8.5\n";
        assert_eq!(table(csv).unwrap(), expected);
    }
}
