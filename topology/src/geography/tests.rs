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
