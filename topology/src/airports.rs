//! The built-in table of airports, which gives sites their place on Earth.
//!
//! The table is text, sorted by code, and searched as it lies: a fleet without sites pays nothing for it.

use std::cmp::Ordering;

/// `code TAB city TAB country TAB latitude TAB longitude`, one per line, sorted by code. See `data/NOTICE.md`.
static TABLE: &str = include_str!("../data/airports.tsv");

/// One airport.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Airport {
    /// IATA code, lower case.
    pub code: &'static str,
    /// The city it serves.
    pub city: &'static str,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

impl Airport {
    /// "fra (Frankfurt am Main, DE)"
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} ({}, {})", self.code, self.city, self.country)
    }

    fn from_line(line: &'static str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (code, city, country) = (fields.next()?, fields.next()?, fields.next()?);
        let latitude = fields.next()?.parse().ok()?;
        let longitude = fields.next()?.parse().ok()?;
        Some(Self {
            code,
            city,
            country,
            latitude,
            longitude,
        })
    }
}

/// The airport with that IATA code, in any case.
#[must_use]
pub fn find(code: &str) -> Option<Airport> {
    let wanted = code.to_ascii_lowercase();
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        // The line around the middle of what is left.
        let middle = TABLE.floor_char_boundary(low.midpoint(high));
        let head = TABLE.get(..middle)?;
        let start = head.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = TABLE.get(start..)?;
        let line = rest.split('\n').next()?;
        match line.split('\t').next()?.cmp(&wanted) {
            Ordering::Less => low = start + line.len() + 1,
            Ordering::Greater => high = start,
            Ordering::Equal => return Airport::from_line(line),
        }
    }
    None
}

/// Airports that a wrong code may have meant: those of a city whose name begins so, else the nearest codes. At most
/// five.
#[must_use]
pub fn similar(text: &str) -> Vec<Airport> {
    const SHOWN: usize = 5;
    let text = text.trim().to_lowercase();
    let all = || TABLE.lines().filter_map(Airport::from_line);
    let is_word = text.len() > 3;
    let in_city = all().filter(|airport| is_word && airport.city.to_lowercase().starts_with(&text));
    let in_city: Vec<Airport> = in_city.take(SHOWN).collect();
    if !in_city.is_empty() {
        return in_city;
    }
    let mut near: Vec<Airport> = all()
        .filter(|airport| strsim::osa_distance(airport.code, &text) == 1)
        .collect();
    // Slips are rarer at the beginning of a word.
    near.sort_by_key(|airport| std::cmp::Reverse(common_prefix(airport.code, &text)));
    near.truncate(SHOWN);
    near
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_line_is_found_by_its_code() {
        let mut last = "";
        for line in TABLE.lines() {
            let airport = Airport::from_line(line).unwrap_or_else(|| panic!("{line}"));
            assert!(last < airport.code, "{last} before {}", airport.code);
            assert_eq!(find(airport.code), Some(airport));
            assert!(
                airport.latitude.abs() <= 90.0 && airport.longitude.abs() <= 180.0,
                "{line}"
            );
            assert!(airport.country.len() == 2 && !airport.city.is_empty(), "{line}");
            last = airport.code;
        }
    }

    #[test]
    fn a_code_is_found_in_any_case_and_a_wrong_one_is_not() {
        let frankfurt = find("FRA").unwrap();
        assert_eq!((frankfurt.code, frankfurt.country), ("fra", "DE"));
        for wrong in ["", "f", "fraa", "zzz", "000", "\u{e9}", "\n", "~~~"] {
            assert_eq!(find(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_city_name_leads_to_its_airports() {
        assert!(similar("Frankfurt").iter().any(|airport| airport.code == "fra"));
        assert!(similar("frx").iter().any(|airport| airport.code == "fra"));
        assert_eq!(similar("nowhere at all"), []);
    }
}
