//! The operator's page is tried as it is written.

use std::fs;

use steer_tests::Steer;

const GUIDE: &str = include_str!("../../docs/guide.md");

/// The blocks of the page in one language, in order.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    GUIDE
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_configuration_that_the_guide_builds_up_has_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let zone =
        "@ 300 IN SOA ns1 hostmaster 1 7200 900 1209600 60\n@ 300 IN NS ns1\nns1 300 IN A 192.0.2.53\n";
    fs::write(folder.path().join("example.com.zone"), zone).unwrap();
    let configuration = blocks("toml");
    assert_eq!(
        configuration.len(),
        3,
        "plain zone, steered name, announced prefix"
    );
    for length in 1..=3 {
        fs::write(folder.path().join("steer.toml"), configuration[..length].concat()).unwrap();
        let finished = Steer::finish(folder.path(), &["check", "--config", "steer.toml"]);
        assert_eq!(
            finished.status.code(),
            Some(0),
            "after block {length}: {}",
            finished.stderr
        );
    }
}
