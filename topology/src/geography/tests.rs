use super::*;

#[test]
fn the_built_in_database_knows_the_probes() {
    let begin = std::time::Instant::now();
    let geography = Geography::built_in().unwrap();
    println!("unpacked and verified in {:?}", begin.elapsed());
    for (address, country) in [
        ("81.2.69.142", "GB"),
        ("89.160.20.112", "SE"),
        ("2001:200::1", "JP"),
    ] {
        let located = geography.locate(address.parse().unwrap());
        println!("{located:?}");
        assert_eq!(
            located.place.country.map(|c| c.to_string()).as_deref(),
            Some(country),
            "{address}"
        );
    }
}

/// Where the optional test databases are.
fn shared(name: &str) -> Option<std::path::PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/mmdb-test").join(name);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
    }
    path.exists().then_some(path)
}

#[test]
fn probe_bad() {
    let Some(folder) = shared("bad") else { return };
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.extend(std::fs::read_dir(shared("").unwrap()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()));
    all.sort();
    for path in all {
        let begin = std::time::Instant::now();
        let outcome = Geography::open(&GeoFiles { country: vec![path.clone()], city: vec![] });
        println!("{} {:?} {}", path.file_name().unwrap().display(), begin.elapsed(), match outcome { Ok(_) => "READ".to_owned(), Err(f) => f.to_string().rsplit('/').next().unwrap().to_owned() });
    }
}
