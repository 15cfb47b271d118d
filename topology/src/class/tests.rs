mod any;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use proptest::prelude::*;

use self::any::{any_bias, any_database, any_traits, coordinates, geography, written};
use super::*;
use crate::country::{Position, distance_km};
use crate::geography::Database;
use crate::geography::writer::Writer;
use crate::{Bias, GeoFiles, Geography, Prefix, Site, Traits};

fn site(name: &str, latitude: f64, longitude: f64) -> Site {
    let (city, country) = (String::new(), String::new());
    Site {
        name: name.to_owned(),
        city,
        country,
        latitude,
        longitude,
        router_id: None,
        capacity: None,
        load: None,
        bias: Bias::NONE,
        gossip: None,
    }
}

fn all_sites() -> Vec<Site> {
    vec![
        site("fra", 50.0333, 8.5706),
        site("iad", 38.9445, -77.4558),
        site("nrt", 35.7647, 140.3864),
        site("gru", -23.4356, -46.4731),
        site("lhr", 51.4706, -0.4619),
        site("syd", -33.9461, 151.1772),
        site("nar", 35.7647, 140.3864), // where nrt is: ties are decided by order
    ]
}

fn fra_iad_nrt() -> Vec<Site> {
    all_sites().into_iter().take(3).collect()
}

/// What a class must be, by the plain look-up.
struct Oracle<'a> {
    geography: &'a Geography,
    sites: &'a [Site],
    traits: &'a Traits,
    latency: Option<&'a Latency>,
    known: HashMap<Key, Class>,
}

/// What a class follows from, all of it.
type Key = (
    Option<[u64; 2]>,
    Option<CountryCode>,
    Option<Continent>,
    Option<Asn>,
    Option<Prefix>,
);

impl<'a> Oracle<'a> {
    fn new(
        geography: &'a Geography,
        sites: &'a [Site],
        traits: &'a Traits,
        latency: Option<&'a Latency>,
    ) -> Self {
        Self {
            geography,
            sites,
            traits,
            latency,
            known: HashMap::new(),
        }
    }

    fn class(&mut self, address: IpAddr) -> &Class {
        let place = self.geography.locate(address).place;
        let position = place.position;
        let bits = position.map(|position| [position.latitude().to_bits(), position.longitude().to_bits()]);
        let network = self.narrowest(address);
        let key = (bits, place.country, place.continent, place.asn, network);
        let (sites, traits, latency) = (self.sites, self.traits, self.latency);
        self.known.entry(key).or_insert_with(|| {
            let known = latency.zip(position).filter(|_| traits.latency);
            let mut class = order(sites, position);
            if !traits.nearest {
                (class.nearest, class.distance_known) = (Box::default(), true);
            }
            class.quickest = known.map_or(Box::default(), |(table, client)| quickest(sites, table, client));
            class.country = place.country.filter(|key| traits.countries.contains(key));
            class.continent = place.continent.filter(|key| traits.continents.contains(key));
            class.asn = place.asn.filter(|key| traits.asns.contains(key));
            class.network = network;
            class
        })
    }

    fn narrowest(&self, address: IpAddr) -> Option<Prefix> {
        let address = match Carried::by(address) {
            Carried::V4 { address, .. } => address.into(),
            Carried::Itself | Carried::Hidden { .. } => address,
        };
        let around = self.traits.networks.iter().filter(|net| net.contains(address));
        around.max_by_key(|net| net.length()).copied()
    }
}

fn quickest(sites: &[Site], table: &Latency, client: Position) -> Box<[SiteId]> {
    let mut ids: Vec<SiteId> = (0..sites.len() as u16).map(SiteId).collect();
    let ms = |id: &SiteId| table.round_trip(client, &sites[usize::from(id.0)]).unwrap().ms;
    ids.sort_by(|a, b| ms(a).partial_cmp(&ms(b)).unwrap()); // stable
    ids.into()
}

fn order(sites: &[Site], position: Option<Position>) -> Class {
    let mut nearest: Vec<SiteId> = (0..sites.len() as u16).map(SiteId).collect();
    if let Some(position) = position {
        let away = |id: &SiteId| {
            let site = &sites[usize::from(id.0)];
            let place = Position::new(site.latitude, site.longitude).unwrap();
            site.bias.apply(distance_km(position, place))
        };
        nearest.sort_by(|a, b| away(a).partial_cmp(&away(b)).unwrap()); // stable
    }
    Class {
        nearest: nearest.into(),
        distance_known: position.is_some() || sites.len() < 2,
        ..Class::default()
    }
}

/// A partition as numbers, for both families in one line: IPv4 below IPv6.
struct Ranges(Vec<(bool, u128, u128, ClassId)>);

fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, address.to_bits().into()),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

impl Ranges {
    fn of(classes: &Classes) -> Self {
        let numbers = |range: Range| {
            let ((family, first), (_, last)) = (number(range.first), number(range.last));
            (family, first, last, range.class)
        };
        Self(classes.ranges().map(numbers).collect())
    }

    /// Sorted, disjoint, without a gap.
    fn check_cover(&self) {
        let mut expected = (false, 0);
        for (family, first, last, _) in &self.0 {
            assert_eq!((*family, *first), expected);
            assert!(first <= last);
            let end = if *family { u128::MAX } else { u32::MAX.into() };
            expected = if *last == end {
                (true, 0)
            } else {
                (*family, last + 1)
            };
        }
        let last = self.0.last().unwrap();
        assert_eq!((last.0, last.2), (true, u128::MAX));
    }

    /// Whether all addresses of a network are of one class.
    fn are_one_class(&self, family: bool, first: u128, last: u128) -> bool {
        let start = self
            .0
            .partition_point(|range| (range.0, range.2) < (family, first));
        let inside = self.0[start..]
            .iter()
            .take_while(|range| (range.0, range.1) <= (family, last));
        let mut classes = inside.map(|range| range.3);
        let first = classes.next();
        classes.all(|class| Some(class) == first)
    }
}

/// Checks one address: class as the oracle says, scope as wide as can be and no wider.
fn check(address: IpAddr, classes: &Classes, ranges: &Ranges, oracle: &mut Oracle<'_>) {
    let found = classes.find(address);
    assert_eq!(
        classes.class(found.class),
        oracle.class(address),
        "{address}: {found:?}"
    );
    let (family, bits) = number(address);
    let width = if family { 128 } else { 32 };
    let network = |scope: u8| {
        let rest = if scope == 0 {
            u128::MAX
        } else {
            (1_u128 << (width - scope)) - 1
        };
        let rest = if family { rest } else { rest & u128::from(u32::MAX) };
        (bits & !rest, bits | rest)
    };
    let (first, last) = network(found.scope);
    assert!(
        ranges.are_one_class(family, first, last),
        "{address}/{} covers a second class",
        found.scope
    );
    if found.scope > 0 {
        let (first, last) = network(found.scope - 1);
        assert!(
            !ranges.are_one_class(family, first, last),
            "{address}/{} could be wider",
            found.scope
        );
    }
}

/// The address itself, its neighbours, and the IPv6 addresses that carry it.
fn around(address: IpAddr) -> Vec<IpAddr> {
    let (family, bits) = number(address);
    let neighbours = [Some(bits), bits.checked_sub(1), bits.checked_add(1)]
        .into_iter()
        .flatten();
    neighbours
        .flat_map(|bits| match (family, u32::try_from(bits)) {
            (true, _) => vec![IpAddr::V6(Ipv6Addr::from_bits(bits))],
            (false, Err(_)) => vec![],
            (false, Ok(v4)) => {
                let v6 = [
                    bits,
                    bits | 0xffff << 32,
                    bits | 0x0064_ff9b << 96,
                    bits << 80 | 0x2002 << 112,
                ];
                let v6 = v6.into_iter().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
                v6.chain([IpAddr::V4(Ipv4Addr::from_bits(v4))]).collect()
            }
        })
        .collect()
}

fn check_all(geography: &Geography, sites: &[Site], probes: impl IntoIterator<Item = IpAddr>) -> Classes {
    let traits = Traits {
        nearest: true,
        ..Traits::default()
    };
    check_traits(geography, sites, &traits, None, probes)
}

fn check_traits(
    geography: &Geography,
    sites: &[Site],
    traits: &Traits,
    latency: Option<&Arc<Latency>>,
    probes: impl IntoIterator<Item = IpAddr>,
) -> Classes {
    let classes = Classes::divide(geography, sites, traits, latency.cloned()).unwrap();
    let ranges = Ranges::of(&classes);
    ranges.check_cover();
    let mut oracle = Oracle::new(geography, sites, traits, latency.map(|table| &**table));
    for address in probes {
        check(address, &classes, &ranges, &mut oracle);
    }
    classes
}

fn boundaries(geography: &Geography) -> Vec<IpAddr> {
    let networks = geography
        .databases()
        .iter()
        .flat_map(|database| database.networks());
    networks.flat_map(|(first, last)| [first, last]).collect()
}

// The demo of the first pages: London and Tokyo, three sites.

#[test]
fn the_built_in_database_sends_london_to_frankfurt_and_tokyo_to_narita() {
    let geography = Geography::built_in().unwrap();
    let begin = Instant::now();
    let classes = Classes::build(&geography, &fra_iad_nrt()).unwrap();
    println!(
        "{} classes, {} ranges in {:?}",
        classes.len(),
        classes.ranges().count(),
        begin.elapsed()
    );
    let nearest = |address: &str| {
        let found = classes.find(address.parse().unwrap());
        let sites: Vec<u16> = classes
            .class(found.class)
            .nearest
            .iter()
            .map(|site| site.0)
            .collect();
        (sites, found.scope)
    };
    assert_eq!(nearest("81.2.69.0"), (vec![0, 1, 2], 18)); // 81.2.64.0/18, GB
    assert_eq!(nearest("133.11.0.0"), (vec![2, 0, 1], 8)); // 133.0.0.0/8, JP
    assert_eq!(nearest("1.1.64.0"), (vec![2, 0, 1], 15));
    assert_eq!(nearest("::ffff:81.2.69.0"), (vec![0, 1, 2], 96 + 18));
    assert_eq!(nearest("64:ff9b::81.2.69.0"), (vec![0, 1, 2], 96 + 18));
    assert_eq!(nearest("2002:5102:4500::"), (vec![0, 1, 2], 16 + 18));
    let unknown = classes.find("10.0.0.1".parse().unwrap());
    assert!(!classes.class(unknown.class).distance_known);
    assert_eq!(
        *classes.class(unknown.class).nearest,
        [SiteId(0), SiteId(1), SiteId(2)]
    );
}

#[test]
fn the_built_in_partition_is_the_direct_look_up_at_every_network_boundary() {
    let geography = Geography::built_in().unwrap();
    let begin = Instant::now();
    let probes = boundaries(&geography);
    println!("{} boundaries", probes.len());
    check_all(&geography, &fra_iad_nrt(), probes);
    println!("checked in {:?}", begin.elapsed());
}

#[test]
fn the_test_databases_give_the_direct_look_up_at_every_network_boundary() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mmdb-test");
    if !std::path::Path::new(folder).exists() {
        println!("skipped: {folder} is absent");
        return;
    }
    let path = |name: &&str| std::path::Path::new(folder).join(name);
    let combinations: [(&[&str], &[&str]); 5] = [
        (&["GeoIP2-City-Test.mmdb"], &[]),
        (&[], &["GeoIP2-Country-Test.mmdb"]),
        (&["GeoLite2-City-Test.mmdb"], &["GeoLite2-Country-Test.mmdb"]),
        (
            &["GeoIP2-City-Test.mmdb", "GeoLite2-City-Test.mmdb"],
            &["GeoIP2-Country-Test.mmdb"],
        ),
        (&[], &["GeoLite2-Country-Test.mmdb", "GeoIP2-City-Test.mmdb"]),
    ];
    for (city, country) in combinations {
        let files = GeoFiles {
            city: city.iter().map(path).collect(),
            country: country.iter().map(path).collect(),
            asn: Vec::new(),
        };
        let geography = Geography::open(&files).unwrap();
        let probes = boundaries(&geography).into_iter().flat_map(around);
        let classes = check_all(&geography, &all_sites(), probes);
        println!("{city:?} {country:?}: {} classes", classes.len());
        assert!(classes.len() > 5);
    }
}

#[test]
fn fewer_than_two_sites_are_one_class_for_all() {
    let geography = Geography::built_in().unwrap();
    for sites in [&[][..], &fra_iad_nrt()[..1]] {
        let classes = Classes::build(&geography, sites).unwrap();
        assert_eq!(classes.len(), 1);
        for address in [
            "81.2.69.0",
            "133.11.0.0",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "2001::1",
            "2001:200::1",
        ] {
            assert_eq!(classes.find(address.parse().unwrap()).scope, 0, "{address}");
        }
    }
}

#[test]
fn a_single_class_needs_no_geography() {
    let classes = Classes::single();
    Ranges::of(&classes).check_cover();
    for address in ["0.0.0.0", "255.255.255.255", "::", "::ffff:192.0.2.1", "ffff::"] {
        assert_eq!(
            classes.find(address.parse().unwrap()),
            Found {
                class: ClassId(0),
                scope: 0
            }
        );
    }
}

#[test]
fn sites_at_the_same_distance_keep_the_order_of_the_file() {
    let sites = [
        site("one", 10.0, 10.0),
        site("two", 10.0, 10.0),
        site("far", -40.0, 100.0),
    ];
    let mut writer = Writer::new(4, 24);
    writer.put("0.0.0.0/1".parse().unwrap(), coordinates(9.0, 9.0));
    writer.put("128.0.0.0/1".parse().unwrap(), coordinates(-40.0, 101.0));
    let classes = Classes::build(&geography([writer]), &sites).unwrap();
    let nearest = |address: &str| {
        classes
            .class(classes.find(address.parse().unwrap()).class)
            .nearest
            .clone()
    };
    assert_eq!(*nearest("1.1.1.1"), [SiteId(0), SiteId(1), SiteId(2)]);
    assert_eq!(*nearest("200.1.1.1"), [SiteId(2), SiteId(0), SiteId(1)]);
}

#[test]
fn more_orders_than_class_numbers_is_an_error_with_a_remedy() {
    // A spiral of places around the globe, each its own /18, under 60 sites on another spiral.
    let places: u32 = 130_000;
    let spiral = |n: u32, of: u32| {
        let latitude = (1.0 - 2.0 * (f64::from(n) + 0.5) / f64::from(of))
            .asin()
            .to_degrees();
        (latitude, (f64::from(n) * 137.507_764) % 360.0 - 180.0)
    };
    let mut writer = Writer::new(4, 32);
    for n in 0..places {
        let network = Prefix::new(Ipv4Addr::from_bits(n << 14).into(), 18).unwrap();
        let (latitude, longitude) = spiral(n, places);
        writer.put(network, coordinates(latitude, longitude));
    }
    let sites: Vec<Site> = (0..60)
        .map(|n| spiral(n, 60))
        .map(|(lat, lon)| site("any", lat, lon))
        .collect();
    let geography = geography([writer]);
    let error = Classes::build(&geography, &sites).unwrap_err();
    assert_eq!(error, ClassError::TooMany { sites: 60 });
    assert_eq!(
        error.to_string(),
        "60 sites can be ordered by distance in more than 65535 ways from the places of the geo databases; use \
         country databases only ([fleet] geo without `city`), or at most 23 sites"
    );
    let traits = Traits {
        nearest: true,
        networks: ["0.0.0.0/1".parse().unwrap()].into(),
        ..Traits::default()
    };
    let error = Classes::divide(&geography, &sites, &traits, None).unwrap_err();
    assert_eq!(error, ClassError::TooManyKinds { sites: 60, keys: 1 });
    assert!(Classes::build(&geography, &sites[..8]).unwrap().len() < 8_usize.pow(4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_chains_ask_for_the_partition_is_the_direct_look_up(
        databases in proptest::collection::vec(any_database(), 0..3),
        sites in proptest::sample::subsequence(all_sites(), 0..=5),
        biases in proptest::collection::vec(any_bias(), 5),
        traits in any_traits(),
        addresses in proptest::collection::vec(any::<(bool, u128)>(), 10),
    ) {
        let mut sites = sites;
        sites.iter_mut().zip(biases).for_each(|(site, bias)| site.bias = bias);
        let geography = geography(databases.into_iter().map(written));
        let ends = |net: &Prefix| {
            let (first, width) = match net.address() {
                IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
                IpAddr::V6(address) => (address.to_bits(), 128),
            };
            let rest = if net.length() == 0 { u128::MAX } else { (1_u128 << (width - net.length())) - 1 };
            let address = |bits: u128| match net.address() {
                IpAddr::V4(_) => IpAddr::from(Ipv4Addr::from_bits(bits as u32)),
                IpAddr::V6(_) => IpAddr::from(Ipv6Addr::from_bits(bits)),
            };
            [address(first), address(first | rest)]
        };
        let edges: Vec<IpAddr> = traits.networks.iter().flat_map(ends).collect();
        let random = addresses.into_iter().map(|(v6, bits)| {
            if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
        });
        let special = crate::geography::SPECIAL.iter().flat_map(|special| [special.first, special.last()]);
        let special = special.map(|bits| Ipv6Addr::from_bits(bits).into());
        let probes = boundaries(&geography).into_iter().chain(edges).chain(random).chain(special);
        let latency = Latency::built_in();
        check_traits(&geography, &sites, &traits, Some(&latency), probes.flat_map(around));
    }

    #[test]
    fn any_databases_give_the_direct_look_up_at_any_address(
        databases in proptest::collection::vec(any_database(), 0..4),
        sites in proptest::sample::subsequence(all_sites(), 0..=7),
        addresses in proptest::collection::vec(any::<(bool, u128)>(), 30),
    ) {
        let written_networks: Vec<Prefix> =
            databases.iter().flat_map(|database| &database.3).map(|(network, _)| *network).collect();
        let geography = geography(databases.into_iter().map(written));
        let edges = written_networks.into_iter().map(|network| network.address());
        let random = addresses.into_iter().map(|(v6, bits)| {
            if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
        });
        let special = crate::geography::SPECIAL.iter().flat_map(|special| [special.first, special.last()]);
        let special = special.map(|bits| Ipv6Addr::from_bits(bits).into());
        let probes = boundaries(&geography).into_iter().chain(edges).chain(random).chain(special);
        check_all(&geography, &sites, probes.flat_map(around));
    }

    #[test]
    fn a_damaged_database_is_refused_or_read_alike_by_both_ways(
        database in any_database(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = written(database).bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(database) = Database::open("damaged.mmdb", bytes) {
            let geography = Geography::of(vec![database]);
            let special = crate::geography::SPECIAL.iter().flat_map(|special| [special.first, special.last()]);
            let special = special.flat_map(|bits| around(Ipv6Addr::from_bits(bits).into()));
            let v4 = (0..=255).map(|n| Ipv4Addr::new(n, 2, 69, n).into());
            check_all(&geography, &all_sites(), special.chain(v4));
        }
    }
}
