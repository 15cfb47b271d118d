//! Countries, continents and positions, and the built-in table that joins them.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::Serialize;

/// `code, continent, latitude, longitude, name`, made by `cargo xtask data`; sources in `data/NOTICE.md`.
const TABLE: &str = include_str!("../data/countries.tsv");

/// Mean radius of the Earth (IUGG), kilometres.
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// A country of the built-in table, as ISO 3166-1 alpha-2 writes it (and `XK`, Kosovo). Upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

/// Why a text is no [`CountryCode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no country; write an ISO 3166-1 code of two letters, for example DE")]
pub struct InvalidCountry {
    /// The text as it was written.
    pub value: String,
}

/// A continent. Seven, as in the country databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Continent {
    /// AF
    #[serde(rename = "AF")]
    Africa,
    /// AN
    #[serde(rename = "AN")]
    Antarctica,
    /// AS
    #[serde(rename = "AS")]
    Asia,
    /// EU
    #[serde(rename = "EU")]
    Europe,
    /// NA
    #[serde(rename = "NA")]
    NorthAmerica,
    /// OC
    #[serde(rename = "OC")]
    Oceania,
    /// SA
    #[serde(rename = "SA")]
    SouthAmerica,
}

/// A point on the Earth. Always finite and in range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Position {
    latitude: f64,
    longitude: f64,
}

/// Great-circle distance in kilometres (haversine on a sphere; up to 0.5 % off the ellipsoid).
#[must_use]
pub fn distance_km(a: Position, b: Position) -> f64 {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = (lat_b - lat_a) / 2.0;
    let half_lon = (b.longitude - a.longitude).to_radians() / 2.0;
    let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    // Rounding may push `h` past 1 for antipodes.
    2.0 * EARTH_RADIUS_KM * h.min(1.0).sqrt().asin()
}

impl Position {
    /// Degrees north and east. `None` unless both are finite, within 90 and 180 degrees of zero.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let in_range = latitude.abs() <= 90.0 && longitude.abs() <= 180.0; // false for NaN
        in_range.then_some(Self { latitude, longitude })
    }

    /// Degrees north, -90 to 90.
    #[must_use]
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east, -180 to 180.
    #[must_use]
    pub fn longitude(self) -> f64 {
        self.longitude
    }
}

impl CountryCode {
    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The continent it belongs to in the built-in table.
    #[must_use]
    pub fn continent(self) -> Option<Continent> {
        find(self).map(|row| row.continent)
    }

    /// English short name.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        find(self).map(|row| row.name)
    }

    /// Where its people live on average: the centre of its cities weighted by population. `None` for the four
    /// uninhabited territories (AQ, BV, HM, UM).
    #[must_use]
    pub fn centre(self) -> Option<Position> {
        find(self).and_then(|row| row.centre)
    }

    /// Every country of the table, by code.
    pub fn all() -> impl Iterator<Item = Self> {
        table().iter().map(|row| row.code)
    }
}

impl FromStr for CountryCode {
    type Err = InvalidCountry;

    /// In any case. Pseudo-codes of databases (`ZZ`, `EU`, `AP`, `A1`) are no countries.
    fn from_str(text: &str) -> Result<Self, InvalidCountry> {
        let known = || {
            let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
            find(Self(letters.map(|letter| letter.to_ascii_uppercase())))
        };
        known().map(|row| row.code).ok_or_else(|| InvalidCountry {
            value: text.to_owned(),
        })
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CountryCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Continent {
    /// The continent behind a two-letter code, upper case.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        match code {
            "AF" => Some(Self::Africa),
            "AN" => Some(Self::Antarctica),
            "AS" => Some(Self::Asia),
            "EU" => Some(Self::Europe),
            "NA" => Some(Self::NorthAmerica),
            "OC" => Some(Self::Oceania),
            "SA" => Some(Self::SouthAmerica),
            _ => None,
        }
    }
}

impl fmt::Display for Continent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Africa => "AF",
            Self::Antarctica => "AN",
            Self::Asia => "AS",
            Self::Europe => "EU",
            Self::NorthAmerica => "NA",
            Self::Oceania => "OC",
            Self::SouthAmerica => "SA",
        })
    }
}

struct Row {
    code: CountryCode,
    continent: Continent,
    centre: Option<Position>,
    name: &'static str,
}

fn find(code: CountryCode) -> Option<&'static Row> {
    let rows = table();
    let index = rows.binary_search_by_key(&code, |row| row.code).ok()?;
    rows.get(index)
}

/// Sorted by code, as the file is.
fn table() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        TABLE
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(row)
            .collect()
    })
}

fn row(line: &'static str) -> Option<Row> {
    let mut fields = line.split('\t');
    let code = CountryCode(fields.next()?.as_bytes().try_into().ok()?);
    let continent = Continent::from_code(fields.next()?)?;
    let (latitude, longitude) = (fields.next()?, fields.next()?);
    let centre = match (latitude.parse(), longitude.parse()) {
        (Ok(latitude), Ok(longitude)) => Position::new(latitude, longitude),
        _ => None,
    };
    Some(Row {
        code,
        continent,
        centre,
        name: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_row_in_order() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((lines, table().len()), (252, 252));
        assert!(table().is_sorted_by(|a, b| a.code < b.code));
        let without: Vec<_> = CountryCode::all()
            .filter(|code| code.centre().is_none())
            .collect();
        assert_eq!(format!("{without:?}"), "[AQ, BV, HM, UM]");
    }

    #[test]
    fn a_country_is_known_in_any_case_and_a_pseudo_code_is_none() {
        let japan: CountryCode = "jp".parse().unwrap();
        assert_eq!(
            (japan.as_str(), japan.continent(), japan.name()),
            ("JP", Some(Continent::Asia), Some("Japan"))
        );
        for text in ["", "J", "JPN", "ZZ", "EU", "AP", "A1", "é", "??"] {
            assert!(text.parse::<CountryCode>().is_err(), "{text}");
        }
    }

    #[test]
    fn distances_are_those_of_the_textbook() {
        let place = |latitude, longitude| Position::new(latitude, longitude).unwrap();
        let (fra, nrt) = (place(50.0333, 8.5706), place(35.7647, 140.3864));
        assert!(
            (distance_km(fra, nrt) - 9_366.0).abs() < 20.0,
            "{}",
            distance_km(fra, nrt)
        );
        assert_eq!(distance_km(fra, fra), 0.0);
        let half = distance_km(place(0.0, 0.0), place(0.0, 180.0));
        assert!((half - std::f64::consts::PI * EARTH_RADIUS_KM).abs() < 1e-6);
        // The date line is no border.
        assert!(distance_km(place(0.0, 179.9), place(0.0, -179.9)) < 23.0);
    }

    #[test]
    fn a_position_off_the_globe_is_none() {
        for (latitude, longitude) in [(f64::NAN, 0.0), (0.0, f64::INFINITY), (90.1, 0.0), (0.0, -180.1)] {
            assert_eq!(Position::new(latitude, longitude), None);
        }
    }
}
