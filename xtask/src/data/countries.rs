//! `countries.tsv`: continent and population-weighted centre of every country.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

/// What we use of `countries.min.json`.
#[derive(Deserialize)]
struct Country {
    name: String,
    continent: String,
    #[serde(rename = "partOf")]
    part_of: Option<String>,
}

/// What we use of `cities*.json`.
#[derive(Deserialize)]
struct City {
    geonameid: u64,
    latitude: f64,
    longitude: f64,
    countrycode: String,
    population: u64,
}

/// Degrees north and east, by country code.
type Centres = BTreeMap<String, (f64, f64)>;

/// `towns` decide where a country has none among the `cities`, and the country it is part of where it has neither.
pub(crate) fn table(countries: &str, cities: &str, towns: &str) -> Result<String, String> {
    let countries: BTreeMap<String, Country> = parse(countries)?;
    let (cities, towns) = (centres(cities)?, centres(towns)?);
    let mut text = String::from("# code\tcontinent\tlatitude\tlongitude\tname\n");
    for (
        code,
        Country {
            name,
            continent,
            part_of,
        },
    ) in &countries
    {
        let centre_of = |code: &String| cities.get(code).or_else(|| towns.get(code));
        let centre = centre_of(code).or_else(|| part_of.as_ref().and_then(centre_of));
        let (latitude, longitude) = centre.map_or_else(Default::default, |(lat, lon)| {
            (format!("{lat:.2}"), format!("{lon:.2}"))
        });
        writeln!(text, "{code}\t{continent}\t{latitude}\t{longitude}\t{name}")
            .map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// The mean of the cities as points in space, weighted by population, seen from the centre of the Earth.
fn centres(cities: &str) -> Result<Centres, String> {
    let by_key: BTreeMap<String, City> = parse(cities)?;
    let mut cities: Vec<City> = by_key.into_values().collect();
    cities.sort_by_key(|city| city.geonameid); // sums of floats depend on the order
    let mut sums: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    for city in cities {
        let (latitude, longitude) = (city.latitude.to_radians(), city.longitude.to_radians());
        let weight = city.population as f64;
        let sum = sums.entry(city.countrycode).or_default();
        sum[0] += weight * latitude.cos() * longitude.cos();
        sum[1] += weight * latitude.cos() * longitude.sin();
        sum[2] += weight * latitude.sin();
    }
    let inhabited = sums.into_iter().filter(|(_, sum)| *sum != [0.0; 3]);
    let centre = |[x, y, z]: [f64; 3]| (z.atan2(x.hypot(y)).to_degrees(), y.atan2(x).to_degrees());
    Ok(inhabited.map(|(code, sum)| (code, centre(sum))).collect())
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("not the shape that is expected: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centre_leans_to_where_the_people_are_and_crosses_the_date_line() {
        let city = |id: u64, country: &str, lat: f64, lon: f64, people: u64| {
            format!(
                r#""{id}":{{"geonameid":{id},"latitude":{lat},"longitude":{lon},"countrycode":"{country}","population":{people}}}"#
            )
        };
        let cities = [
            city(1, "FJ", 0.0, 179.0, 10),
            city(2, "FJ", 0.0, -179.0, 10),
            city(3, "XX", 0.0, 0.0, 1),
            city(4, "XX", 0.0, 10.0, 3),
            city(5, "NO", 1.0, 1.0, 0),
        ];
        let centres = centres(&format!("{{{}}}", cities.join(","))).unwrap();
        assert_eq!(centres["FJ"].1.abs(), 180.0);
        assert!((centres["XX"].1 - 7.5).abs() < 0.1);
        assert!(!centres.contains_key("NO"));
    }
}
