//! Databases, traits and biases of any shape.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::country::Continent;
use crate::geography::writer::{Data, Writer};
use crate::geography::{BadDatabase, Database};
use crate::{Asn, Bias, Geography, Prefix, Traits};

pub(super) fn geography(writers: impl IntoIterator<Item = Writer>) -> Geography {
    let open = |(n, writer): (usize, Writer)| match Database::open(&format!("{n}.mmdb"), writer.bytes()) {
        Ok(database) => Some(database),
        Err(BadDatabase::KnowsNothing { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    Geography::of(writers.into_iter().enumerate().filter_map(open).collect())
}

pub(super) fn coordinates(latitude: f64, longitude: f64) -> Data {
    let location = vec![
        ("latitude", Data::Double(latitude)),
        ("longitude", Data::Double(longitude)),
    ];
    Data::Map(vec![("location", Data::Map(location))])
}

pub(super) fn any_record() -> impl Strategy<Value = Data> {
    use Data::{Array, Double, Float, Map, Text, U32};
    let code = proptest::sample::select(vec!["GB", "JP", "US", "AU", "DE", "BR", "AQ", "ZZ", "gb", ""]);
    let nested = code
        .clone()
        .prop_map(|code| ("country", Map(vec![("iso_code", Text(code))])));
    let registered = code
        .clone()
        .prop_map(|code| ("registered_country", Map(vec![("iso_code", Text(code))])));
    let flat = code.clone().prop_map(|code| ("country_code", Text(code)));
    let text = code.prop_map(|code| ("country", Text(code)));
    let continent = Just(("continent", Map(vec![("code", Text("AS"))])));
    let location = proptest::sample::select(vec![
        (51.5, -0.1),
        (35.7, 139.7),
        (-33.9, 151.2),
        (0.0, 0.0),
        (91.0, 0.0),
        (f64::NAN, 1.0),
        (-90.0, 180.0),
    ]);
    let deep = location.clone().prop_map(|(lat, lon)| {
        (
            "location",
            Map(vec![("latitude", Double(lat)), ("longitude", Float(lon as f32))]),
        )
    });
    let latitude = prop_oneof![
        Just(Text("48.85")),
        Just(Text("north")),
        Just(Float(-10.0)),
        Just(U32(30)),
        Just(Array(vec![U32(1)])),
    ];
    let shallow = (latitude, location).prop_map(|(lat, (_, lon))| {
        Map(vec![
            ("latitude", lat),
            ("longitude", Double(lon)),
            ("city", Text("Somewhere")),
        ])
    });
    let system = proptest::sample::select(vec![U32(1), U32(0), Text("2"), Text("AS3"), Text("x")]);
    let asn = (any::<bool>(), system)
        .prop_map(|(long, system)| (if long { "autonomous_system_number" } else { "asn" }, system));
    let field = prop_oneof![nested, registered, flat, text, continent, deep, asn];
    prop_oneof![
        3 => proptest::collection::vec(field, 0..3).prop_map(Map),
        1 => shallow,
        1 => prop_oneof![Just(Text("no map")), Just(Map(vec![("country", U32(7))]))],
    ]
}

pub(super) fn any_network(ip_version: u16) -> impl Strategy<Value = Prefix> {
    let v4 = (
        prop_oneof![
            any::<u32>(),
            0..8_u32,
            (0..8_u32).prop_map(|n| 0x5102_0000 | n << 8)
        ],
        0..=32_u8,
    )
        .prop_map(|(bits, length)| Prefix::covering(Ipv4Addr::from_bits(bits).into(), length).unwrap());
    let base = proptest::sample::select(vec![
        0,
        0xffff << 32,
        0x0064_ff9b << 96,
        0x2001 << 112,
        0x2002 << 112,
        0x2001_0db8 << 96,
        0x2003 << 112,
    ]);
    let v6 = (base, any::<u128>(), 0..=128_u8, 0..=128_u8).prop_map(|(base, low, from, length)| {
        let low = low.checked_shr(from.into()).unwrap_or(0);
        Prefix::covering(Ipv6Addr::from_bits(base ^ low).into(), length).unwrap()
    });
    if ip_version == 4 {
        v4.boxed()
    } else {
        prop_oneof![v4, v6].boxed()
    }
}

pub(super) type Content = Vec<(Prefix, Data)>;

pub(super) fn any_database() -> impl Strategy<Value = (u16, u16, bool, Content)> {
    let version = proptest::sample::select(vec![4_u16, 6]);
    let size = proptest::sample::select(vec![24_u16, 28, 32]);
    (version, size, any::<bool>()).prop_flat_map(|(version, size, aliases)| {
        let content = proptest::collection::vec((any_network(version), any_record()), 0..12);
        (Just(version), Just(size), Just(aliases), content)
    })
}

pub(super) fn written((version, size, aliases, content): (u16, u16, bool, Content)) -> Writer {
    let mut writer = Writer::new(version, size);
    for (network, data) in content {
        writer.put(network, data);
    }
    if aliases && version == 6 {
        writer.alias_v4();
    }
    writer
}

pub(super) fn any_traits() -> impl Strategy<Value = Traits> {
    use proptest::sample::subsequence;
    let countries = ["GB", "JP", "US", "AU", "DE", "BR", "AQ"].map(|code| code.parse().unwrap());
    let continents = vec![
        Continent::Europe,
        Continent::Asia,
        Continent::Oceania,
        Continent::Antarctica,
    ];
    let asns: Vec<Asn> = (1..4).filter_map(Asn::new).collect();
    let networks = proptest::collection::vec(any_network(6), 0..5);
    let keys = (
        subsequence(countries.to_vec(), 0..3),
        subsequence(continents, 0..3),
        subsequence(asns, 0..3),
        networks,
    );
    (any::<[bool; 2]>(), keys).prop_map(|([nearest, latency], (countries, continents, asns, networks))| {
        Traits {
            nearest,
            latency,
            countries: countries.into_iter().collect(),
            continents: continents.into_iter().collect(),
            asns: asns.into_iter().collect(),
            networks: networks.into_iter().collect(),
        }
    })
}

pub(super) fn any_bias() -> impl Strategy<Value = Bias> {
    prop_oneof![
        Just(Bias::NONE),
        (-20_000.0..20_000.0).prop_map(Bias::Km),
        (-900.0..90.0).prop_map(Bias::Percent),
    ]
}
