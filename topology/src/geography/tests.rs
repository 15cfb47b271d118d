use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::writer::{Data, Writer};
use super::*;

/// Where the optional test databases are.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/mmdb-test")
        .join(name);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
    }
    path.exists().then_some(path)
}

fn open(city: &[&Path], country: &[&Path]) -> Result<Geography, Faults> {
    let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    Geography::open(&GeoFiles {
        city: owned(city),
        country: owned(country),
        asn: Vec::new(),
    })
}

/// `81.2.64.0/18 geo.mmdb GB EU 52.5,-1.34`, with `-` for what is not known.
fn shown(geography: &Geography, address: &str) -> String {
    let Located {
        network,
        database,
        place,
    } = geography.locate(address.parse().unwrap());
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let position = place
        .position
        .map(|position| format!("{},{}", position.latitude(), position.longitude()));
    let country = text(place.country.map(|country| country.to_string()));
    let continent = text(place.continent.map(|continent| continent.to_string()));
    let database = if database.is_empty() { "-" } else { &*database };
    format!("{network} {database} {country} {continent} {}", text(position))
}

fn database(name: &str, ip_version: u16, content: &[(&str, Data)]) -> Database {
    let mut writer = Writer::new(ip_version, 28);
    for (network, data) in content {
        writer.put(network.parse().unwrap(), data.clone());
    }
    Database::open(name, writer.bytes()).unwrap()
}

fn flat(country: &'static str) -> Data {
    Data::Map(vec![("country_code", Data::Text(country))])
}

fn nested(field: &'static str, country: &'static str) -> Data {
    Data::Map(vec![(field, Data::Map(vec![("iso_code", Data::Text(country))]))])
}

fn at(latitude: Data, longitude: Data) -> Data {
    Data::Map(vec![("latitude", latitude), ("longitude", longitude)])
}

#[test]
fn the_built_in_database_opens_in_bounded_time_and_knows_its_probes() {
    let begin = Instant::now();
    let geography = Geography::built_in().unwrap();
    println!("unpacked and verified in {:?}", begin.elapsed());
    for (address, expected) in [
        (
            "81.2.69.142",
            "81.2.64.0/18 built-in geo-country.mmdb GB EU 52.5,-1.34",
        ),
        (
            "89.160.20.112",
            "89.160.0.0/17 built-in geo-country.mmdb SE EU 58.89,15.93",
        ),
        (
            "133.11.0.1",
            "133.0.0.0/8 built-in geo-country.mmdb JP AS 35.57,137.2",
        ),
        (
            "::ffff:133.11.0.1",
            "133.0.0.0/8 built-in geo-country.mmdb JP AS 35.57,137.2",
        ),
        ("10.0.0.1", "10.0.0.0/8 built-in geo-country.mmdb - - -"),
        ("2001::1", "2001::/32 - - - -"),
    ] {
        assert_eq!(shown(&geography, address), expected);
    }
    let two = Geography::built_in().unwrap();
    assert!(Arc::ptr_eq(&geography.databases[0], &two.databases[0]));
}

#[test]
fn the_nested_schema_gives_country_continent_and_position() {
    let Some(city) = shared("GeoIP2-City-Test.mmdb") else {
        return;
    };
    let geography = open(&[&city], &[]).unwrap();
    let place = |address: &str| {
        let place = geography.locate(address.parse().unwrap()).place;
        let position = place.position.unwrap();
        (
            place.country.unwrap().to_string(),
            position.latitude(),
            position.longitude(),
        )
    };
    assert_eq!(place("81.2.69.142"), ("GB".into(), 51.5142, -0.0931));
    assert_eq!(place("89.160.20.112"), ("SE".into(), 58.4167, 15.6167));
    assert_eq!(place("216.160.83.56"), ("US".into(), 47.2513, -122.3149));
    assert_eq!(place("175.16.199.1"), ("CN".into(), 43.88, 125.3228));
    assert_eq!(place("67.43.156.1"), ("BT".into(), 27.5, 90.5));
    assert_eq!(place("2001:218::1").0, "JP");
}

#[test]
fn a_database_for_ipv4_alone_leaves_ipv6_to_the_next() {
    let v4 = database("v4.mmdb", 4, &[("81.2.69.0/24", flat("GB"))]);
    let v6 = database("v6.mmdb", 6, &[("2001:200::/32", flat("JP"))]);
    let geography = Geography::of(vec![v4, v6]);
    assert_eq!(
        shown(&geography, "2001:200::1"),
        "2001:200::/32 v6.mmdb JP AS 35.57,137.2"
    );
    assert_eq!(
        shown(&geography, "81.2.69.1"),
        "81.2.69.0/24 v4.mmdb GB EU 52.5,-1.34"
    );
    assert_eq!(
        shown(&geography, "64:ff9b::81.2.69.1"),
        "81.2.69.0/24 v4.mmdb GB EU 52.5,-1.34"
    );
    // The narrowest network without a record, and who says so.
    assert_eq!(shown(&geography, "81.2.68.1"), "81.2.68.0/24 v4.mmdb - - -");
    let alone = Geography::of(vec![database("v4.mmdb", 4, &[("81.2.69.0/24", flat("GB"))])]);
    assert_eq!(shown(&alone, "2001:200::1"), "::/0 - - - -");
}

#[test]
fn city_databases_are_asked_before_country_databases() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, data: Data| {
        let mut writer = Writer::new(4, 24);
        writer.put("81.2.69.0/24".parse().unwrap(), data);
        let path = folder.path().join(name);
        std::fs::write(&path, writer.bytes()).unwrap();
        path
    };
    let city = file("city.mmdb", flat("FR"));
    let country = file("country.mmdb", flat("GB"));
    let geography = open(&[&city], &[&country]).unwrap();
    let located = geography.locate("81.2.69.1".parse().unwrap());
    assert_eq!(
        (&*located.database, located.place.country),
        (&*city.display().to_string(), "FR".parse().ok())
    );
}

#[test]
fn a_later_record_fills_what_is_missing_unless_it_is_of_another_country() {
    let coordinates = || at(Data::Double(35.7), Data::Double(139.7));
    let with_country = |country| {
        let Data::Map(mut fields) = coordinates() else {
            unreachable!()
        };
        fields.push(("country_code", Data::Text(country)));
        Data::Map(fields)
    };
    let shown_of = |first: Data, second: Data| {
        let first = database("1.mmdb", 4, &[("10.0.0.0/8", first)]);
        let second = database("2.mmdb", 4, &[("10.0.0.0/16", second)]);
        shown(&Geography::of(vec![first, second]), "10.0.0.1")
    };
    assert_eq!(
        shown_of(coordinates(), flat("JP")),
        "10.0.0.0/8 1.mmdb JP AS 35.7,139.7"
    );
    assert_eq!(
        shown_of(flat("JP"), with_country("JP")),
        "10.0.0.0/8 1.mmdb JP AS 35.7,139.7"
    );
    assert_eq!(
        shown_of(flat("GB"), with_country("JP")),
        "10.0.0.0/8 1.mmdb GB EU 52.5,-1.34"
    );
}

#[test]
fn fields_are_read_in_every_spelling_and_nonsense_says_nothing() {
    use Data::{Double, Float, Map, Text, U32};
    for (record, expected) in [
        (flat("GB"), "GB EU 52.5,-1.34"),
        (flat("gb"), "GB EU 52.5,-1.34"),
        (flat("ZZ"), "- - -"),
        (Map(vec![("country", Text("GB"))]), "GB EU 52.5,-1.34"),
        (Map(vec![("country", U32(44))]), "- - -"),
        (nested("country", "JP"), "JP AS 35.57,137.2"),
        (nested("registered_country", "JP"), "JP AS 35.57,137.2"),
        (nested("represented_country", "JP"), "- - -"),
        (
            Map(vec![("continent", Map(vec![("code", Text("EU"))]))]),
            "- EU -",
        ),
        (flat("AQ"), "AQ AN -"),
        (at(Text("51.5"), Text("-0.25")), "- - 51.5,-0.25"),
        (at(Float(51.5), Double(-0.25)), "- - 51.5,-0.25"),
        (at(U32(51), Text(" 7 ")), "- - 51,7"),
        (
            Map(vec![("location", at(Double(51.5), Double(-0.25)))]),
            "- - 51.5,-0.25",
        ),
        (Map(vec![("latitude", Double(51.5))]), "- - -"),
        (at(Double(f64::NAN), Double(1.0)), "- - -"),
        (at(Text("inf"), Double(1.0)), "- - -"),
        (at(Double(90.5), Double(1.0)), "- - -"),
        (at(Double(0.0), Double(0.0)), "- - -"),
        (Text("no map"), "- - -"),
    ] {
        let said = format!("{record:?}");
        let known = ("192.0.2.0/24", flat("DE")); // a file that knows nothing at all is refused
        let geography = Geography::of(vec![database("x", 4, &[("10.0.0.0/8", record), known])]);
        assert_eq!(
            shown(&geography, "10.0.0.1"),
            format!("10.0.0.0/8 x {expected}"),
            "{said}"
        );
    }
}

#[test]
fn a_record_above_the_ipv4_half_of_the_tree_holds_for_all_of_ipv4() {
    let geography = Geography::of(vec![database("x", 6, &[("::/8", flat("JP"))])]);
    assert_eq!(shown(&geography, "192.0.2.1"), "0.0.0.0/0 x JP AS 35.57,137.2");
}

// Broken files.

#[test]
fn every_broken_file_is_refused_by_name_and_at_once() {
    let Some(folder) = shared("bad") else { return };
    let expected = [
        ("GeoIP2-City-Test-Broken-Double-Format.mmdb", "double of size 5"),
        (
            "GeoIP2-City-Test-Invalid-Node-Count.mmdb",
            "search tree extends beyond",
        ),
        (
            "MaxMind-DB-test-broken-pointers-24.mmdb",
            "unexpected end of buffer",
        ),
        (
            "MaxMind-DB-test-broken-search-tree-24.mmdb",
            "deeper than 32 bits",
        ),
        ("bad-unicode-in-map-key.mmdb", "16 bytes after the search tree"),
        ("cyclic-data-structure.mmdb", "u16 of size 1"),
        ("invalid-bytes-length.mmdb", "unexpected end of buffer"),
        ("invalid-data-record-offset.mmdb", "double of size 6"),
        ("invalid-map-key-length.mmdb", "u16 of size 1"),
        ("invalid-string-length.mmdb", "unexpected end of buffer"),
        // These three read as databases, but not as geographic ones.
        (
            "libmaxminddb-corrupt-search-tree.mmdb",
            "neither a country nor coordinates",
        ),
        (
            "libmaxminddb-empty-array-last-in-metadata.mmdb",
            "neither a country nor coordinates",
        ),
        (
            "libmaxminddb-empty-map-last-in-metadata.mmdb",
            "neither a country nor coordinates",
        ),
        ("libmaxminddb-deep-array-nesting.mmdb", "nested more than 16 deep"),
        ("libmaxminddb-deep-nesting.mmdb", "nested more than 16 deep"),
        (
            "libmaxminddb-metadata-marker-only.mmdb",
            "unexpected end of buffer",
        ),
        (
            "libmaxminddb-offset-integer-overflow.mmdb",
            "unexpected end of buffer",
        ),
        (
            "libmaxminddb-oversized-array.mmdb",
            "maximum number of data structure values",
        ),
        (
            "libmaxminddb-oversized-map.mmdb",
            "maximum number of data structure values",
        ),
        ("libmaxminddb-separator-record-max-left.mmdb", "invalid location"),
        ("libmaxminddb-separator-record-min-left.mmdb", "invalid location"),
        ("libmaxminddb-separator-record-min-right.mmdb", "invalid location"),
        ("libmaxminddb-uint64-max-epoch.mmdb", "too large"),
        ("metadata-is-an-uint128.mmdb", "expected map, got type 10"),
        ("unexpected-bytes.mmdb", "expected array, got type 4"),
    ];
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        expected.len(),
        "a file without an expectation"
    );
    for (name, cause) in expected {
        let path = folder.join(name);
        let begin = Instant::now();
        let Faults(faults) = open(&[], &[&path]).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].file, path);
        assert!(faults[0].message.contains(cause), "{name}: {}", faults[0].message);
        assert!(
            begin.elapsed() < Duration::from_secs(1),
            "{name} took {:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn every_file_at_fault_is_named_and_none_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.mmdb");
    let mut writer = Writer::new(4, 24);
    writer.put("10.0.0.0/8".parse().unwrap(), flat("GB"));
    std::fs::write(&good, writer.bytes()).unwrap();
    let text = folder.path().join("text.mmdb");
    std::fs::write(&text, "no database").unwrap();
    let absent = folder.path().join("absent.mmdb");
    let Faults(faults) = open(&[&absent], &[&good, &text]).unwrap_err();
    let files: Vec<_> = faults.iter().map(|fault| fault.file.as_path()).collect();
    assert_eq!(files, [&absent, &text]);
    assert!(
        faults[0].message.contains("cannot be read"),
        "{}",
        faults[0].message
    );
    assert_eq!(faults[0].remedy, "check the path and its permissions");
    assert!(
        faults[1].message.contains("is no sound MaxMind DB"),
        "{}",
        faults[1].message
    );
}

#[test]
fn a_tree_whose_nodes_refer_to_each_other_is_refused_in_bounded_time() {
    // Both halves of each of 120 nodes lead to the next: 2^120 ways to the record.
    let mut fans = Writer::new(6, 24);
    fans.put("::/0".parse().unwrap(), flat("GB"));
    let mut node = 0;
    for _ in 0..120 {
        let next = fans.add_node();
        fans.link(node, 0, next);
        fans.link(node, 1, next);
        node = next;
    }
    let mut circle = Writer::new(6, 24);
    circle.put("::/1".parse().unwrap(), flat("GB"));
    circle.link(0, 1, 0);
    for (writer, cause) in [(fans, "refer to each other"), (circle, "deeper than 128 bits")] {
        let begin = Instant::now();
        let error = Database::open("broken", writer.bytes()).unwrap_err().to_string();
        assert!(error.contains(cause), "{error}");
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "took {:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn deep_nesting_does_not_use_up_the_stack() {
    let mut data = Data::Text("end");
    for _ in 0..400 {
        data = Data::Map(vec![("in", data)]);
    }
    let mut writer = Writer::new(4, 24);
    writer.put("0.0.0.0/1".parse().unwrap(), flat("GB"));
    writer.put("128.0.0.0/1".parse().unwrap(), data);
    let error = Database::open("deep", writer.bytes()).unwrap_err().to_string();
    assert!(error.contains("nested more than 16 deep"), "{error}");
}

#[test]
fn an_asn_database_gives_the_as_number_and_leaves_the_place_to_the_others() {
    let Some(path) = shared("GeoLite2-ASN-Test.mmdb") else {
        return;
    };
    let geography = Geography::built_in()
        .unwrap()
        .with_asn(std::slice::from_ref(&path))
        .unwrap();
    let asn = |address: &str| geography.locate(address.parse().unwrap()).place.asn.map(Asn::get);
    assert_eq!(asn("1.128.0.1"), Some(1221));
    assert_eq!(asn("::ffff:12.81.92.1"), Some(7018));
    assert_eq!(asn("10.0.0.1"), None);
    assert!(shown(&geography, "12.81.92.1").contains("built-in geo-country.mmdb US NA"));
    let refused = open(&[], &[&path]).unwrap_err().to_string();
    assert!(
        refused.contains("gives neither a country nor coordinates"),
        "{refused}"
    );
    let country = shared("GeoIP2-Country-Test.mmdb").unwrap();
    let refused = Geography::empty().with_asn(&[country]).unwrap_err().to_string();
    assert!(
        refused.contains("gives no AS number for any address"),
        "{refused}"
    );
}
