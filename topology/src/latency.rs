//! Round-trip times between places, as somebody measured them.
//!
//! A table has lines `from,to,ms`: two IATA airport codes and the round trip between them in milliseconds. A client
//! is taken to be at the `from` that is nearest to its position, a site at the `to` that is nearest to its airport.
//! A pair that was not measured is estimated by the distance of the two places.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::country::{Position, distance_km};
use crate::fault::Place as At;
use crate::{Fault, Faults, Site, SiteId, airports};

/// Microsoft's statistics between the regions of Azure, by region's nearest airport; see `data/NOTICE.md`.
const BUILT_IN: &str = include_str!("../data/rtt.csv");

/// What a page or a command that shows results of the built-in table says beside them.
pub const ATTRIBUTION: &str =
    "Round-trip times: Azure network round-trip latency statistics, Microsoft (CC BY 4.0).";

/// Larger files are refused; all pairs of 1,000 airports have 16 MB.
const MAX_BYTES: u64 = 64 << 20;

/// Fitted on the built-in table: real paths are longer than the great circle, and light in fibre does 100 km per
/// millisecond there and back.
const DETOUR: f64 = 1.74;

/// A checked table.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    from: Vec<Place>,
    to: Vec<Place>,
    /// Milliseconds by index into `from`, then into `to`; NaN where nothing was measured.
    ms: Vec<Vec<f32>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Place {
    code: &'static str,
    position: Position,
}

/// The round trip from a client to a site.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundTrip {
    /// Milliseconds.
    pub ms: f64,
    /// Where the table takes the client to be.
    pub from: &'static str,
    /// Where it takes the site to be.
    pub to: &'static str,
    /// False: estimated by distance.
    pub measured: bool,
}

impl Latency {
    /// The table that is part of the program.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        static READ: OnceLock<Arc<Latency>> = OnceLock::new();
        let read = || Self::parse(BUILT_IN, Path::new("built-in rtt.csv")).unwrap_or_else(|_| Self::empty());
        Arc::clone(READ.get_or_init(|| Arc::new(read())))
    }

    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, Faults> {
        let unreadable = |error: std::io::Error| {
            let message = format!("the file cannot be read: {error}");
            Faults::from(Fault::of_file(
                path,
                message,
                "correct the path or the permissions",
            ))
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_BYTES {
            let message = format!("the file has {size} bytes");
            return Err(Fault::of_file(path, message, format!("at most {MAX_BYTES} are read")).into());
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text, path)
    }

    /// Checks a text that stands for the file `path`. One fault per bad line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Faults> {
        let mut cells = BTreeMap::new();
        let mut faults = Vec::new();
        let mut start = 0;
        for (number, line) in text.split('\n').enumerate() {
            let span = start..start + line.len();
            start = span.end + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || (number == 0 && line == "from,to,ms") {
                continue;
            }
            let at = || At::of(text, span.clone());
            match read_line(line) {
                Ok((from, to, ms)) => {
                    if cells.insert((from, to), ms).is_some() {
                        let message = format!("the pair {from},{to} stands twice");
                        faults.push(Fault::at(path, at(), message, "keep one of the lines"));
                    }
                }
                Err((message, remedy)) => faults.push(Fault::at(path, at(), message, remedy)),
            }
        }
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        if cells.is_empty() {
            let remedy = "write lines such as fra,nrt,235, or leave the file out for the built-in table";
            return Err(Fault::of_file(path, "the file has no round-trip time", remedy).into());
        }
        Ok(Self::of(&cells))
    }

    fn empty() -> Self {
        Self {
            from: Vec::new(),
            to: Vec::new(),
            ms: Vec::new(),
        }
    }

    fn of(cells: &BTreeMap<(&'static str, &'static str), f32>) -> Self {
        let mut from: Vec<&'static str> = cells.keys().map(|(from, _)| *from).collect();
        from.dedup(); // sorted by `from` first
        let mut to: Vec<&'static str> = cells.keys().map(|(_, to)| *to).collect();
        to.sort_unstable();
        to.dedup();
        let cell = |from, to| cells.get(&(from, to)).copied().unwrap_or(f32::NAN);
        let ms = from
            .iter()
            .map(|from| to.iter().map(|to| cell(*from, *to)).collect())
            .collect();
        Self {
            from: from.into_iter().filter_map(place).collect(),
            to: to.into_iter().filter_map(place).collect(),
            ms,
        }
    }

    /// Index of the place where a client at `position` is taken to be; `None` in an empty table.
    pub(crate) fn client(&self, position: Position) -> Option<usize> {
        nearest(&self.from, position)
    }

    /// The sites from a place of [`Latency::client`], shortest round trip first; ties in file order.
    pub(crate) fn order(&self, client: usize, sites: &[Site]) -> Box<[SiteId]> {
        let ms = |site: &Site| self.between(client, site).map_or(f64::INFINITY, |trip| trip.ms);
        let ids = (0..=u16::MAX).map(SiteId);
        let mut far: Vec<_> = sites.iter().map(ms).zip(ids).collect();
        far.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        far.into_iter().map(|(_, id)| id).collect()
    }

    /// The round trip from a client at `client` to `site`.
    #[must_use]
    pub fn round_trip(&self, client: Position, site: &Site) -> Option<RoundTrip> {
        self.between(self.client(client)?, site)
    }

    fn between(&self, client: usize, site: &Site) -> Option<RoundTrip> {
        let to = match self.to.iter().position(|place| place.code == site.name) {
            Some(itself) => itself,
            None => nearest(&self.to, site.position()?)?,
        };
        let (from, place) = (self.from.get(client)?, self.to.get(to)?);
        let cell = self.ms.get(client)?.get(to).copied().filter(|ms| !ms.is_nan());
        let guess = || distance_km(from.position, place.position) * DETOUR / 100.0;
        Some(RoundTrip {
            ms: cell.map_or_else(guess, f64::from),
            from: from.code,
            to: place.code,
            measured: cell.is_some(),
        })
    }
}

fn place(code: &'static str) -> Option<Place> {
    let airport = airports::find(code)?;
    let position = Position::new(airport.latitude, airport.longitude)?;
    Some(Place { code, position })
}

fn nearest(places: &[Place], position: Position) -> Option<usize> {
    let away = |place: &Place| distance_km(position, place.position);
    let places = places.iter().map(away).enumerate();
    places.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
}

type Cell = (&'static str, &'static str, f32);

/// One line, or what is wrong with it and what would be right.
fn read_line(line: &str) -> Result<Cell, (String, &'static str)> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [from, to, ms] = *fields else {
        let message = format!("the line has {} fields", fields.len());
        return Err((message, "write FROM,TO,MS, for example fra,nrt,235"));
    };
    let code = |text: &str| {
        let remedy = "write the three-letter code of the nearest airport, for example fra";
        match airports::find(text) {
            Some(airport) => Ok(airport.code),
            None => Err((format!("{text:?} is no IATA airport code"), remedy)),
        }
    };
    let (from, to) = (code(from)?, code(to)?);
    match ms.parse::<f32>() {
        Ok(ms) if (0.0..=60_000.0).contains(&ms) => Ok((from, to, ms)),
        Ok(_) | Err(_) => Err((
            format!("{ms:?} is no round-trip time"),
            "write milliseconds from 0 to 60000",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bias;

    fn site(code: &str) -> Site {
        let airport = airports::find(code).unwrap();
        Site {
            name: code.to_owned(),
            city: String::new(),
            country: airport.country.to_owned(),
            latitude: airport.latitude,
            longitude: airport.longitude,
            router_id: None,
            capacity: None,
            load: None,
            bias: Bias::NONE,
            gossip: None,
        }
    }

    fn at(code: &str) -> Position {
        site(code).position().unwrap()
    }

    #[test]
    fn the_built_in_table_is_whole_and_no_pair_is_faster_than_light_in_fibre() {
        let table = Latency::built_in();
        assert_eq!((table.from.len(), table.to.len()), (49, 49));
        for (from, row) in table.from.iter().zip(&table.ms) {
            for (to, ms) in table.to.iter().zip(row) {
                // Airports stand for regions: 150 km for both ends.
                let least = (distance_km(from.position, to.position) - 150.0) / 100.0;
                assert!(
                    ms.is_nan() || f64::from(*ms) >= least,
                    "{} {}: {ms}",
                    from.code,
                    to.code
                );
            }
        }
    }

    #[test]
    fn a_measured_pair_beats_distance_and_a_missing_one_is_estimated() {
        let text = "from,to,ms\nfra,nrt,100\nfra,lhr,300\n# far\nnrt,lhr,1\n";
        let table = Latency::parse(text, Path::new("rtt.csv")).unwrap();
        let sites = [site("lhr"), site("nrt")];
        let client = table.client(at("ber")).unwrap();
        assert_eq!(*table.order(client, &sites), [SiteId(1), SiteId(0)]);
        let trip = table.round_trip(at("ber"), &sites[0]).unwrap();
        assert_eq!(
            (trip.ms, trip.from, trip.to, trip.measured),
            (300.0, "fra", "lhr", true)
        );
        let guessed = table.round_trip(at("kix"), &sites[1]).unwrap();
        assert_eq!(
            (guessed.from, guessed.to, guessed.measured),
            ("nrt", "nrt", false)
        );
        assert_eq!(guessed.ms, 0.0);
        // cdg is not in the table: London's column stands for it.
        assert_eq!(table.round_trip(at("ber"), &site("cdg")).unwrap().to, "lhr");
    }

    #[test]
    fn each_bad_line_is_a_fault_with_its_place_and_a_remedy() {
        let text = "from,to,ms\nfra,nrt\nzzz,nrt,1\nfra,nrt,-1\nfra,nrt,nan\nfra,nrt,1\nFRA,nrt,2\n";
        let faults = Latency::parse(text, Path::new("rtt.csv")).unwrap_err();
        let expected = "\
rtt.csv:2:1: the line has 2 fields; write FROM,TO,MS, for example fra,nrt,235
rtt.csv:3:1: \"zzz\" is no IATA airport code; write the three-letter code of the nearest airport, for example fra
rtt.csv:4:1: \"-1\" is no round-trip time; write milliseconds from 0 to 60000
rtt.csv:5:1: \"nan\" is no round-trip time; write milliseconds from 0 to 60000
rtt.csv:7:1: the pair fra,nrt stands twice; keep one of the lines";
        assert_eq!(faults.to_string(), expected);
        let empty = Latency::parse("from,to,ms\n", Path::new("rtt.csv")).unwrap_err();
        assert!(empty.to_string().contains("has no round-trip time"), "{empty}");
    }
}
