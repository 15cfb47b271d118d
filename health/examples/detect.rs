//! `cargo xtask bench detect`: false alarms and detection time of three detectors on the same traces.

use std::time::{Duration, Instant};

use steer_health::Verdict;
use steer_health::detect::trace::{INTERVAL, Kind, arrivals};
use steer_health::detect::{Detector, Phi, Seen};
use steer_topology::{PhiModel, PhiRules};

const SEEDS: u64 = 5;
const HEARTBEATS: usize = 20_000;
/// Before that a detector learns; alarms are not counted.
const WARM_UP: usize = 2_000;

/// The usual thing: so long without a heartbeat is down.
#[derive(Debug)]
struct Fixed {
    patience: Duration,
    last: Option<Instant>,
}

impl Detector for Fixed {
    fn observe(&mut self, seen: Seen, now: Instant) {
        if let Seen::Success { .. } = seen {
            self.last = Some(now);
        }
    }

    fn opinion(&self, now: Instant) -> Verdict {
        match self.next_deadline() {
            None => Verdict::Unknown,
            Some(at) if now >= at => Verdict::Down,
            Some(_) => Verdict::Up,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        Some(self.last? + self.patience)
    }

    fn because(&self, _now: Instant) -> Option<String> {
        None
    }

    fn forget(&mut self) {
        self.last = None;
    }
}

fn detectors() -> [(&'static str, Box<dyn Detector>); 3] {
    let phi = |model| {
        Box::new(Phi::new(PhiRules {
            threshold: 8,
            samples: 1000,
            model,
            pause: Duration::ZERO,
        }))
    };
    let fixed = Fixed {
        patience: INTERVAL * 3,
        last: None,
    };
    [
        ("fixed, 3 intervals", Box::new(fixed)),
        ("phi 8, normal", phi(PhiModel::Normal)),
        ("phi 8, empirical", phi(PhiModel::Empirical)),
    ]
}

#[derive(Default)]
struct Score {
    alarms: usize,
    /// After each heartbeat: when a stop right behind it would be seen.
    detection: Vec<Duration>,
}

impl Score {
    fn run(&mut self, detector: &mut dyn Detector, beats: &[Instant]) {
        for (number, beat) in beats.iter().enumerate() {
            let alarm = detector.opinion(*beat) == Verdict::Down;
            detector.observe(Seen::Success { took: Duration::ZERO }, *beat);
            if number < WARM_UP {
                continue;
            }
            self.alarms += usize::from(alarm);
            self.detection
                .extend(detector.next_deadline().map(|at| at - *beat));
        }
    }

    fn detection(&mut self, share: f64) -> f64 {
        self.detection.sort_unstable();
        let at = (share * (self.detection.len().saturating_sub(1)) as f64).round() as usize;
        self.detection
            .get(at)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

fn main() {
    let judged = SEEDS as usize * (HEARTBEATS - WARM_UP);
    println!(
        "Heartbeats every 100 ms, {SEEDS} seeds, {judged} heartbeats judged per row; milliseconds from the last heartbeat to its being missed.\n"
    );
    println!("| trace | detector | false alarms | detection, median | detection, max |");
    println!("| --- | --- | --- | --- | --- |");
    let start = Instant::now();
    let mut bimodal = Vec::new();
    for kind in Kind::ALL {
        for (place, (name, _)) in detectors().iter().enumerate() {
            let mut score = Score::default();
            for seed in 1..=SEEDS {
                let [a, b, c] = detectors().map(|(_, detector)| detector);
                let mut detector = [a, b, c].into_iter().nth(place);
                if let Some(detector) = detector.as_mut() {
                    score.run(&mut **detector, &arrivals(kind, seed, HEARTBEATS, start));
                }
            }
            let (median, most) = (score.detection(0.5), score.detection(1.0));
            println!(
                "| {} | {name} | {} | {median:.0} | {most:.0} |",
                kind.name(),
                score.alarms
            );
            if kind == Kind::Bimodal {
                bimodal.push((score.alarms, median));
            }
        }
    }
    if let [_, (normal_alarms, normal), (alarms, empirical)] = bimodal[..] {
        let ratio = empirical / normal;
        println!(
            "\nbimodal: {normal_alarms} false alarms of phi-normal, {alarms} of phi-empirical, which takes {ratio:.2} times as long (bound 1.5)"
        );
        if alarms > 0 || normal_alarms == 0 || ratio > 1.5 {
            eprintln!("the promise is not kept");
            std::process::exit(1);
        }
    }
}
