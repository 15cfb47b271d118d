use super::*;
use crate::detect::trace::{INTERVAL, Kind, arrivals};

const RULES: PhiRules = PhiRules {
    threshold: 8,
    samples: 1000,
    model: PhiModel::Normal,
    pause: Duration::ZERO,
};

const BEAT: Seen = Seen::Success { took: Duration::ZERO };

fn phi(model: PhiModel) -> Phi {
    Phi::new(PhiRules { model, ..RULES })
}

const BOTH: [PhiModel; 2] = [PhiModel::Normal, PhiModel::Empirical];

/// False alarms over a trace, and how long after its heartbeats a stop would be seen, in the mean.
fn run(phi: &mut Phi, beats: &[Instant]) -> (usize, Duration) {
    let (mut alarms, mut sum) = (0, Duration::ZERO);
    for beat in beats {
        alarms += usize::from(phi.opinion(*beat) == Verdict::Down);
        phi.observe(BEAT, *beat);
        sum += phi.patience.unwrap_or_default();
    }
    (alarms, sum / beats.len() as u32)
}

fn regular(phi: &mut Phi, every: Duration, count: u32) -> Instant {
    let start = Instant::now();
    let beats: Vec<_> = (0..count).map(|number| start + every * number).collect();
    assert_eq!(run(phi, &beats).0, 0);
    *beats.last().unwrap()
}

#[test]
fn the_tail_of_the_normal_distribution_is_that_of_the_tables() {
    // Abramowitz and Stegun, table 26.1: Q(1), Q(3); table 26.5: Q(5.6120) = 10^-8.
    for (z, tail) in [
        (0.0, 0.5),
        (1.0, 0.158_655_25),
        (3.0, 0.001_349_898),
        (5.612_001, 1e-8),
    ] {
        let got = 10_f64.powf(log_normal_tail(z));
        assert!((got / tail - 1.0).abs() < 1e-4, "Q({z}) = {got}");
    }
    assert!((normal_quantile(8.0) - 5.612_001).abs() < 1e-4);
    assert!(normal_quantile(100.0).is_finite());
}

#[test]
fn a_cold_start_is_unknown_however_long_it_is_silent() {
    for model in BOTH {
        let mut phi = phi(model);
        let last = regular(&mut phi, INTERVAL, COLD as u32);
        assert_eq!(
            phi.opinion(last + Duration::from_secs(3600)),
            Verdict::Unknown,
            "{model:?}"
        );
        assert_eq!(phi.phi(last), None);
        phi.observe(BEAT, last + INTERVAL);
        assert_eq!(phi.opinion(last + INTERVAL), Verdict::Up, "{model:?}");
    }
}

#[test]
fn a_stream_without_any_variance_is_not_down_by_a_little_jitter() {
    for model in BOTH {
        let mut phi = phi(model);
        let last = regular(&mut phi, INTERVAL, 500);
        assert_eq!(phi.opinion(last + INTERVAL * 11 / 10), Verdict::Up, "{model:?}");
        assert_eq!(phi.opinion(last + INTERVAL * 2), Verdict::Down, "{model:?}");
        let fast = regular(&mut self::phi(model), Duration::from_micros(100), 500);
        assert!(fast > last - Duration::from_secs(3600), "no division by nothing");
    }
}

#[test]
fn phi_is_the_threshold_at_the_deadline_and_grows_with_silence() {
    for model in BOTH {
        let mut phi = phi(model);
        run(&mut phi, &arrivals(Kind::Jittery, 1, 2000, Instant::now()));
        let patience = phi.patience.unwrap();
        let last = phi.last.unwrap();
        let at = phi.phi(last + patience).unwrap();
        assert!((7.5..8.5).contains(&at), "{model:?}: {at}");
        let half = phi.phi(last + patience / 2).unwrap();
        assert!(half < at, "{model:?}");
        let because = phi.because(last + patience).unwrap();
        assert!(
            because.starts_with("silent for ") && because.contains(", phi "),
            "{because}"
        );
    }
}

#[test]
fn lost_heartbeats_make_it_more_patient_and_pause_is_on_top() {
    let mut steady = phi(PhiModel::Empirical);
    let (_, sure) = run(&mut steady, &arrivals(Kind::Steady, 7, 5000, Instant::now()));
    let mut losing = phi(PhiModel::Empirical);
    let (alarms, patient) = run(&mut losing, &arrivals(Kind::BurstyLoss, 7, 5000, Instant::now()));
    assert!(
        patient > sure * 2 && alarms <= 8,
        "{alarms} alarms, {patient:?} against {sure:?}"
    );
    let pause = Duration::from_millis(500);
    let mut paused = Phi::new(PhiRules { pause, ..RULES });
    let (_, with) = run(&mut paused, &arrivals(Kind::Steady, 7, 5000, Instant::now()));
    let (_, without) = run(
        &mut phi(PhiModel::Normal),
        &arrivals(Kind::Steady, 7, 5000, Instant::now()),
    );
    let difference = (with - without).as_secs_f64();
    assert!((0.45..0.55).contains(&difference), "{difference}");
}

#[test]
fn an_outage_does_not_blunt_it_and_a_slower_stream_is_learned() {
    for model in BOTH {
        let mut phi = phi(model);
        let last = regular(&mut phi, INTERVAL, 1000);
        let before = phi.patience.unwrap();
        phi.observe(BEAT, last + Duration::from_secs(3600));
        assert!(
            phi.patience.unwrap() < before * 2,
            "{model:?}: {:?}",
            phi.patience
        );
        let mut now = last + Duration::from_secs(3600);
        let mut alarms = 0;
        for _ in 0..200 {
            now += INTERVAL * 4;
            alarms += usize::from(phi.opinion(now) == Verdict::Down);
            phi.observe(BEAT, now);
        }
        assert!(alarms < 60, "{model:?}: {alarms}");
        assert_eq!(phi.opinion(now + INTERVAL * 4), Verdict::Up, "{model:?}");
    }
}

#[test]
fn a_histogram_knows_pauses_for_which_a_deviation_has_no_word() {
    for seed in 1..=5 {
        let start = Instant::now();
        let beats = arrivals(Kind::Bimodal, seed, 20_000, start);
        // What comes before the first pauses are known is the cold start of the second kind of interval.
        let (learning, known) = beats.split_at(2000);
        let mut results = BOTH.map(|model| {
            let mut phi = phi(model);
            run(&mut phi, learning);
            run(&mut phi, known)
        });
        let [(normal_alarms, normal), (alarms, empirical)] = &mut results;
        assert_eq!(*alarms, 0, "seed {seed}");
        assert!(*normal_alarms > 0, "seed {seed}: this trace shows nothing");
        let ratio = empirical.as_secs_f64() / normal.as_secs_f64();
        assert!(ratio <= 1.5, "seed {seed}: {ratio}");
    }
}

#[test]
fn a_failed_probe_is_no_heartbeat() {
    let mut phi = phi(PhiModel::Normal);
    let last = regular(&mut phi, INTERVAL, 100);
    let deadline = phi.next_deadline();
    phi.observe(Seen::Failure, last + INTERVAL);
    assert_eq!(phi.next_deadline(), deadline);
}
