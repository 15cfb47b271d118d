use std::net::IpAddr;
use std::time::Instant;

use super::*;
use crate::{Geography, Site};

fn site(name: &str, latitude: f64, longitude: f64) -> Site {
    let (city, country) = (String::new(), String::new());
    Site {
        name: name.to_owned(),
        city,
        country,
        latitude,
        longitude,
        router_id: None,
    }
}

fn fra_iad_nrt() -> Vec<Site> {
    vec![
        site("fra", 50.0333, 8.5706),
        site("iad", 38.9445, -77.4558),
        site("nrt", 35.7647, 140.3864),
    ]
}

#[test]
fn the_built_in_database_tells_london_from_tokyo() {
    let geography = Geography::built_in().unwrap();
    let begin = Instant::now();
    let classes = Classes::build(&geography, &fra_iad_nrt()).unwrap();
    println!(
        "{} classes, {} ranges in {:?}",
        classes.len(),
        classes.ranges().count(),
        begin.elapsed()
    );
    for address in [
        "81.2.69.0",
        "133.11.0.0",
        "1.1.64.0",
        "2001:218::1",
        "10.0.0.1",
        "::1",
        "2002:5102:4500::1",
    ] {
        let found = classes.find(address.parse::<IpAddr>().unwrap());
        println!(
            "{address} {found:?} {:?} {:?}",
            classes.class(found.class),
            geography.locate(address.parse().unwrap())
        );
    }
}
