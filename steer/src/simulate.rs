//! `steer simulate`: where a list of queries goes before and after a change of the configuration.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::Hash;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;
use steer_dns::{Asked, Sent, Tables};
use steer_health::Judge;
use steer_topology::{Geography, Name, airports};

use crate::cli::SimulateArgs;
use crate::exit::Failure;
use crate::load::Loaded;
use crate::table;

/// A line of many queries is drawn so many times; the draws share its count.
const DRAWS: u64 = 100;

/// Longer lines are refused: a name has at most 255 octets.
const MAX_LINE: u64 = 1_024;

/// One line of the file.
#[derive(Debug, PartialEq)]
struct Query {
    client: IpAddr,
    name: Name,
    asked: Asked,
    count: u64,
}

/// One configuration with every verdict unknown.
struct World {
    tables: Tables,
    /// Where each address stands.
    places: HashMap<IpAddr, String>,
    /// Where the endpoints of each name stand.
    names: HashMap<String, String>,
    rng: SmallRng,
}

/// Queries by where they went.
type Counts = BTreeMap<String, f64>;

/// What came out for some of the queries.
#[derive(Debug, Default, Serialize)]
struct Shares {
    queries: u64,
    before: Counts,
    after: Counts,
}

/// What came out.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    all: Shares,
    /// By the country of the client; `-` where it is not known.
    countries: BTreeMap<String, Shares>,
}

/// Reads both configurations and the queries, and prints the shares.
pub(crate) fn simulate(args: &SimulateArgs) -> Result<(), Failure> {
    let before = Loaded::from_file(&args.before)?;
    let after = Loaded::from_file(&args.config)?;
    let geography = match &after.geography {
        Some(geography) => Arc::clone(geography),
        None => Arc::new(Geography::built_in().map_err(|error| Failure::Runtime(error.to_string()))?),
    };
    let mut worlds = [World::new(&before), World::new(&after)];
    let mut outcome = Outcome::default();
    each_query(&args.queries, |query| outcome.add(query, &mut worlds, &geography))?;
    if args.json {
        println!("{}", serde_json::json!(outcome));
    } else {
        print!("{}", outcome.text());
    }
    Ok(())
}

/// Calls `then` for every line with a query. The file is not held in memory.
fn each_query(path: &Path, mut then: impl FnMut(&Query)) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::Runtime(format!("{}: {error}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let mut part = file.by_ref().take(MAX_LINE + 1);
        if part.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let query = one_line(&line).map_err(|wrong| {
            let place = format!("{}:{number}", path.display());
            Failure::Usage(format!("{place}: {wrong}; write CLIENT NAME [TYPE] [COUNT]"))
        })?;
        if let Some(query) = query {
            then(&query);
        }
    }
    Ok(())
}

/// `None` where there is nothing but a comment.
fn one_line(line: &[u8]) -> Result<Option<Query>, String> {
    if line.len() as u64 > MAX_LINE {
        return Err(format!("the line has more than {MAX_LINE} octets"));
    }
    let text = std::str::from_utf8(line).map_err(|_| "the line is no UTF-8".to_owned())?;
    let text = text.split('#').next().unwrap_or_default().trim();
    if text.is_empty() {
        Ok(None)
    } else {
        read(text).map(Some)
    }
}

fn read(text: &str) -> Result<Query, String> {
    let mut words = text.split_whitespace();
    let client = words.next().unwrap_or_default();
    let name = words.next().ok_or("the line has no name")?;
    let mut query = Query {
        client: client
            .parse()
            .map_err(|_| format!("{client:?} is no address of a client"))?,
        name: name
            .parse()
            .map_err(|error| format!("{name:?} is no name: {error}"))?,
        asked: Asked::A,
        count: 1,
    };
    let mut rest = words.peekable();
    let is_type = |word: &&str| !word.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    if let Some(rtype) = rest.next_if(is_type) {
        query.asked = rtype.parse()?;
    }
    if let Some(count) = rest.next() {
        query.count = count.parse().map_err(|_| format!("{count:?} is no count"))?;
    }
    match rest.next() {
        Some(surplus) => Err(format!("{surplus:?} is too much")),
        None => Ok(query),
    }
}

impl World {
    fn new(loaded: &Loaded) -> Self {
        let judge = Judge::new(Arc::clone(&loaded.fleet), Instant::now(), Timestamp::now());
        let fleet = &loaded.fleet;
        let mut places: HashMap<IpAddr, String> = HashMap::new();
        let mut names: HashMap<String, String> = HashMap::new();
        for endpoint in &fleet.endpoints {
            let address = endpoint.address.ip();
            let place = endpoint
                .site
                .map_or_else(|| address.to_string(), |site| fleet.site(site).name.clone());
            learn(&mut places, address, &place);
            if let Some(target) = endpoint.target() {
                learn(&mut names, target.to_string(), &place);
            }
        }
        Self {
            tables: loaded.tables(Arc::new(judge.first_snapshot())),
            places,
            names,
            rng: SmallRng::seed_from_u64(0),
        }
    }

    /// Adds where the query goes, `each` for every draw.
    fn send(&mut self, query: &Query, draws: u64, to: &mut [&mut Counts]) {
        let each = query.count as f64 / draws as f64;
        for _ in 0..draws {
            let place = match self
                .tables
                .send(query.client, &query.name, query.asked, &mut self.rng)
            {
                Sent::To(address) => self
                    .places
                    .get(&address)
                    .cloned()
                    .unwrap_or_else(|| address.to_string()),
                Sent::On(name) => self.names.get(&name).cloned().unwrap_or(name),
                Sent::Told(text) => format!("{text:?}"),
                Sent::Nowhere => "(no answer)".to_owned(),
                Sent::Refused => "(refused)".to_owned(),
                Sent::Failed => "(failed)".to_owned(),
            };
            for counts in to.iter_mut() {
                *counts.entry(place.clone()).or_default() += each;
            }
        }
    }
}

/// What stands at several sites is at none.
fn learn<K: Eq + Hash>(places: &mut HashMap<K, String>, what: K, place: &str) {
    let known = places.entry(what).or_insert_with(|| place.to_owned());
    if known != place {
        "(several sites)".clone_into(known);
    }
}

impl Outcome {
    fn add(&mut self, query: &Query, worlds: &mut [World; 2], geography: &Geography) {
        if query.count == 0 {
            return;
        }
        let country = geography.locate(query.client).place.country;
        let country = country.map_or_else(|| "-".to_owned(), |country| country.to_string());
        let draws = query.count.min(DRAWS);
        let own = self.countries.entry(country).or_default();
        let [before, after] = worlds;
        before.send(query, draws, &mut [&mut self.all.before, &mut own.before]);
        after.send(query, draws, &mut [&mut self.all.after, &mut own.after]);
        self.all.queries = self.all.queries.saturating_add(query.count);
        own.queries = own.queries.saturating_add(query.count);
    }

    fn text(&self) -> String {
        let mut table = table::new(
            &["clients in", "queries", "sent to", "before", "after", "change"],
            false,
        );
        let countries = self
            .countries
            .iter()
            .map(|(country, shares)| (country.as_str(), shares));
        for (country, shares) in [("all", &self.all)].into_iter().chain(countries) {
            for (n, (place, before, after)) in shares.rows().into_iter().enumerate() {
                let head = if n == 0 {
                    (country.to_owned(), shares.queries.to_string())
                } else {
                    Default::default()
                };
                let place = match airports::find(place) {
                    Some(airport) => format!("{place} ({})", airport.city),
                    None => place.to_owned(),
                };
                let change = format!("{:+.1}", after - before);
                table.add_row([
                    head.0,
                    head.1,
                    place,
                    format!("{before:.1} %"),
                    format!("{after:.1} %"),
                    change,
                ]);
            }
        }
        table::text(table, None) + "\n"
    }
}

impl Shares {
    /// Place, per cent before, per cent after.
    fn rows(&self) -> Vec<(&str, f64, f64)> {
        let places: std::collections::BTreeSet<&str> = self
            .before
            .keys()
            .chain(self.after.keys())
            .map(String::as_str)
            .collect();
        let percent = |counts: &Counts, place: &str| {
            counts.get(place).copied().unwrap_or(0.0) * 100.0 / self.queries.max(1) as f64
        };
        let row = |place| (place, percent(&self.before, place), percent(&self.after, place));
        places.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_client_name_type_and_count() {
        assert_eq!(one_line(b"  # nothing\n"), Ok(None));
        assert!(
            one_line(&[b'a'; 2_000])
                .unwrap_err()
                .contains("more than 1024 octets")
        );
        let query = read("192.0.2.1 www.example.com").unwrap();
        assert_eq!((query.asked, query.count), (Asked::A, 1));
        let query = read("2001:db8::1 www.example.com. aaaa 20").unwrap();
        assert_eq!(
            (query.asked, query.count, query.client.is_ipv6()),
            ("AAAA".parse().unwrap(), 20, true)
        );
        assert_eq!(read("192.0.2.1 a.example 7").unwrap().count, 7);
        for (wrong, why) in [
            ("192.0.2 a.example", "\"192.0.2\" is no address of a client"),
            ("192.0.2.1", "the line has no name"),
            ("192.0.2.1 a..example", "\"a..example\" is no name"),
            ("192.0.2.1 a.example NS", "\"NS\" is none of A, AAAA, HTTPS"),
            ("192.0.2.1 a.example MX -1", "\"-1\" is no count"),
            ("192.0.2.1 a.example A 1 2", "\"2\" is too much"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
