//! The page of a lab in a real browser: every figure of `result.json` is in it, and it can be looked at.
//!
//! Screenshots stay in the folder that the test prints: few methods and many, narrow and wide, light and dark.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const CHROMIUM: &str = "/usr/bin/chromium";

/// Ids of methods and the middle of their outages, milliseconds.
const MANY: [(&str, f64); 12] = [
    ("anycast-app-death", 4.2),
    ("anycast-bfd300", 812.0),
    ("anycast-bfd50", 141.0),
    ("anycast-drain", 0.0),
    ("anycast-hold9", 7_640.0),
    ("anycast-hold90", 78_200.0),
    ("anycast-speaker-crash", 11.5),
    ("dns-clamped", 63_400.0),
    ("dns-ttl30", 31_800.0),
    ("dns-ttl5", 5_900.0),
    ("dns-ttl60", 60_900.0),
    ("hybrid", 1_240.0),
];

fn spread(samples: &[f64]) -> Value {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    json!({"min": least, "median": median, "p99": most, "max": most})
}

/// A repetition of one method: nine clients, the first of them served by fra, then by nobody, then by nrt.
fn run(middle: f64, number: usize) -> Value {
    let outages: Vec<f64> = (0..9)
        .map(|client| middle * (0.6 + 0.1 * f64::from(client) + 0.03 * number as f64))
        .collect();
    let mut timeline = Vec::new();
    for (client, outage) in outages.iter().enumerate() {
        let client_name = format!("client-{client}");
        let next = if client % 3 == 0 { "jfk" } else { "nrt" };
        let mut add = |at_ms: f64, site: Option<&str>| {
            timeline.push(json!({"client": client_name, "at_ms": at_ms, "site": site, "ok": site.is_some()}));
        };
        add(-middle.max(10.0), Some("fra"));
        add(-0.5, Some("fra"));
        if *outage > 0.0 {
            add(0.5, None);
            add(outage - 0.5, None);
        }
        add(*outage + 0.5, Some(next));
        add(middle.max(10.0) * 3.0, Some(next));
    }
    json!({"outage_ms": outages, "timeline": timeline, "failed": 12, "wrong_site": 0})
}

fn method(id: &str, middle: f64) -> Value {
    let runs: Vec<Value> = (0..3).map(|number| run(middle, number)).collect();
    let outages = runs.iter().flat_map(|run| run["outage_ms"].as_array().unwrap());
    let outages: Vec<f64> = outages.map(|outage| outage.as_f64().unwrap()).collect();
    let phase = |name: &str, share: f64| {
        let samples = [middle * share, middle * share * 1.1, middle * share * 1.3];
        json!({"name": name, "title": format!("fault → {name}"), "ms": spread(&samples), "samples": samples})
    };
    json!({
        "title": format!("what {id} does, in a few words"),
        "outage_ms": spread(&outages),
        "failed": spread(&[1_210.0, 1_304.0, 1_299.0]),
        "wrong_site": spread(&[0.0, 2.0, 0.0]),
        "phases": [
            phase("fault_to_detected", 0.3), phase("decided", 0.31), phase("on_the_wire", 0.35),
            phase("routers_converged", 0.5), phase("first_good_reply", 0.6), phase("clients_99", 1.4),
        ],
        "runs": runs,
    })
}

fn result(methods: &[(&str, f64)], held: bool) -> Value {
    let all: serde_json::Map<String, Value> = methods
        .iter()
        .map(|(id, middle)| ((*id).to_owned(), method(id, *middle)))
        .collect();
    json!({
        "schema": 1, "lab": "dns-vs-anycast",
        "summary": "one site of three goes: how soon is each client served again, by routing and by DNS?",
        "fault": "kill -9 of `service` on `fra`", "started": "2026-11-28T23:00:00Z", "repeat": 3, "runtime": "netns",
        "clock": {"source": "CLOCK_REALTIME of one machine; log lines 1 µs", "largest_step_us": 1.5},
        "settings": [["checks", "http every 1 s, time-out 300 ms, fall 3"], ["odd <name>", "\"quotes\" & <tags>"]],
        "methods": all,
        "bounds": [
            {"what": "anycast-app-death first_good_reply: median, ms", "limit": 5.0, "got": 4.2, "held": true},
            {"what": "dns-ttl5 outage: largest, ms", "limit": 8000.0, "got": 9_412.5, "held": held},
        ],
    })
}

/// A browser with a profile of its own, which goes with the folder.
fn browser(folder: &Path, words: &[String]) -> std::process::Output {
    Command::new(CHROMIUM)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(words)
        .output()
        .unwrap()
}

/// Writes a result, has the page made, and gives the folder.
fn page(name: &str, result: &Value) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-page").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("result.json"), result.to_string()).unwrap();
    steer_labs::write_page(&folder).unwrap();
    folder
}

/// Every `data-value` of the document that the browser has built: method, key, value, and the text shown.
fn figures(dom: &str) -> Vec<(String, String, f64, String)> {
    let mut found = Vec::new();
    for row in dom.split("<tr data-method=\"").skip(1) {
        let (method, rest) = row.split_once('"').unwrap();
        let rest = rest.split("</tr>").next().unwrap();
        for cell in rest.split("data-key=\"").skip(1) {
            let (key, rest) = cell.split_once('"').unwrap();
            let Some((_, rest)) = rest.split_once("data-value=\"") else {
                continue;
            };
            let (value, rest) = rest.split_once('"').unwrap();
            let text = rest.split_once('>').unwrap().1.split('<').next().unwrap();
            found.push((
                method.to_owned(),
                key.to_owned(),
                value.parse().unwrap(),
                text.to_owned(),
            ));
        }
    }
    found
}

/// What the words in a cell say, in milliseconds or as a count.
fn read(text: &str) -> f64 {
    let plain = text.replace('\u{2009}', "");
    match plain.split_once(' ') {
        Some((number, "s")) => number.parse::<f64>().unwrap() * 1e3,
        Some((number, _)) => number.parse().unwrap(),
        None => plain.parse().unwrap(),
    }
}

/// The same figure in `result.json`.
fn wanted(result: &Value, method: &str, key: &str) -> f64 {
    let method = &result["methods"][method];
    let (what, which) = key.split_once('.').unwrap();
    if what == "phases" {
        let phases = method["phases"].as_array().unwrap();
        let long = format!("fault_to_{which}");
        let phase = phases
            .iter()
            .find(|phase| phase["name"] == which || phase["name"] == long)
            .unwrap();
        return phase["ms"]["median"].as_f64().unwrap();
    }
    method[what][which].as_f64().unwrap()
}

#[test]
fn every_figure_of_the_result_is_on_the_page_as_the_browser_builds_it() {
    if !Path::new(CHROMIUM).exists() {
        println!("skipped: /usr/bin/chromium is missing (Debian package chromium)");
        return;
    }
    let few = result(&MANY[..3], true);
    let many = result(&MANY, false);
    for (name, result) in [("few", &few), ("many", &many)] {
        let folder = page(name, result);
        let url = format!("file://{}", folder.join("report.html").display());
        let output = browser(&folder, &["--dump-dom".to_owned(), url.clone()]);
        let dom = String::from_utf8_lossy(&output.stdout);
        let found = figures(&dom);
        let methods = result["methods"].as_object().unwrap().len();
        assert_eq!(
            found.len(),
            methods * 11,
            "three of the outage, two counts, six phases: {found:?}"
        );
        for (method, key, value, text) in &found {
            let want = wanted(result, method, key);
            assert!(
                (value - want).abs() <= want * 1e-9,
                "{method} {key}: {value} for {want}"
            );
            assert!(
                (read(text) - want).abs() <= want * 0.006,
                "{method} {key}: {text} for {want}"
            );
        }
        let verdict = if name == "few" {
            "all 2 bounds held"
        } else {
            "1 of 2 bounds broken"
        };
        assert!(dom.contains(verdict));
        assert!(dom.contains("&lt;tags&gt;") && !dom.contains("<tags>"));
        assert_eq!(dom.matches("<path class=\"line").count(), methods);
        assert_eq!(dom.matches("<figure").count(), methods);
        assert!(
            !dom.contains("http://") && !dom.contains("https://"),
            "nothing is loaded from elsewhere"
        );
        for (look, size, more) in [
            ("wide", "1280,2400", "--blink-settings=preferredColorScheme=1"),
            ("narrow", "420,2400", "--blink-settings=preferredColorScheme=1"),
            ("dark", "1280,2400", "--blink-settings=preferredColorScheme=0"),
        ] {
            let picture = folder.join(format!("{look}.png"));
            let words = [
                format!("--screenshot={}", picture.display()),
                format!("--window-size={size}"),
                more.to_owned(),
                url.clone(),
            ];
            browser(&folder, &words);
            let bytes = std::fs::read(&picture).unwrap();
            assert!(
                bytes.starts_with(b"\x89PNG") && bytes.len() > 20_000,
                "{}",
                picture.display()
            );
        }
        println!("pictures: {}", folder.display());
    }
}
