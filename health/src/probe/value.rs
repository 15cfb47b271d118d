//! A number in a body: a load, a queue, a lag.

use steer_topology::{ValueAt, ValueRule};

use crate::outcome::{Answer, Failure, Outcome, shortened};

/// Where it stands, and its limits.
#[derive(Debug)]
pub(super) struct Value {
    rule: ValueRule,
}

impl Value {
    pub(super) fn new(rule: &ValueRule) -> Self {
        Self { rule: rule.clone() }
    }

    pub(super) fn judge(&self, body: &[u8]) -> Outcome {
        let ValueRule { at, min, max } = &self.rule;
        let found = match at {
            ValueAt::Json(pointer) => json(body, pointer),
            ValueAt::Prometheus(sample) => prometheus(body, sample),
        };
        let value = match found {
            Ok(value) => value,
            Err(why) => return Outcome::Failure(Failure::Wrong(why)),
        };
        let wrong = match (min, max) {
            (Some(min), _) if value < *min => format!("value {value}, want at least {min}"),
            (_, Some(max)) if value > *max => format!("value {value}, want at most {max}"),
            (Some(_) | None, Some(_) | None) => return Outcome::Success(Answer::Value(value)),
        };
        Outcome::Failure(Failure::Wrong(wrong))
    }
}

fn json(body: &[u8], pointer: &str) -> Result<f64, String> {
    let document: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| format!("body is no JSON: {}", shortened(&error.to_string())))?;
    let found = document.pointer(pointer);
    let found = found.ok_or_else(|| format!("body has nothing at {pointer:?}"))?;
    let number = found.as_f64().or_else(|| found.as_str()?.parse().ok());
    let number = number.filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| {
        format!(
            "body has {} at {pointer:?}, which is no number",
            shortened(&found.to_string())
        )
    })
}

/// Prometheus text format 0.0.4: `NAME{LABELS} VALUE [TIMESTAMP]`; the sample is compared as it is written.
fn prometheus(body: &[u8], sample: &str) -> Result<f64, String> {
    let text = String::from_utf8_lossy(body);
    let rest = text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(sample)?;
        rest.starts_with([' ', '\t']).then_some(rest)
    });
    let rest = rest.ok_or_else(|| format!("body has no sample {sample:?}"))?;
    let word = rest.split_whitespace().next().unwrap_or_default();
    let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("sample {sample:?} is {:?}, which is no number", shortened(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(at: ValueAt, min: Option<f64>, max: Option<f64>, body: &str) -> Outcome {
        Value::new(&ValueRule { at, min, max }).judge(body.as_bytes())
    }

    fn wrong(text: &str) -> Outcome {
        Outcome::Failure(Failure::Wrong(text.to_owned()))
    }

    #[test]
    fn a_number_is_read_by_its_pointer_and_held_to_its_limits() {
        let at = || ValueAt::Json("/queue/0/length".to_owned());
        let body = r#"{"queue": [{"length": 7.5}]}"#;
        assert_eq!(
            judge(at(), None, Some(10.0), body),
            Outcome::Success(Answer::Value(7.5))
        );
        assert_eq!(
            judge(at(), None, Some(7.0), body),
            wrong("value 7.5, want at most 7")
        );
        assert_eq!(
            judge(at(), Some(8.0), None, body),
            wrong("value 7.5, want at least 8")
        );
        assert_eq!(
            judge(at(), None, None, "{}"),
            wrong("body has nothing at \"/queue/0/length\"")
        );
        assert!(
            matches!(judge(at(), None, None, "<html>"), Outcome::Failure(Failure::Wrong(why)) if why.starts_with("body is no JSON"))
        );
    }

    #[test]
    fn a_sample_is_read_with_its_labels_and_not_by_the_beginning_of_its_name() {
        let body = "# TYPE load gauge\nload_extra 1\nload{core=\"1\"} 3 1700000000\nload 0.25\n";
        let at = |sample: &str| ValueAt::Prometheus(sample.to_owned());
        assert_eq!(
            judge(at("load"), None, None, body),
            Outcome::Success(Answer::Value(0.25))
        );
        assert_eq!(
            judge(at("load{core=\"1\"}"), None, None, body),
            Outcome::Success(Answer::Value(3.0))
        );
        assert_eq!(
            judge(at("lo"), None, None, body),
            wrong("body has no sample \"lo\"")
        );
        assert_eq!(
            judge(at("x"), None, None, "x NaN"),
            wrong("sample \"x\" is \"NaN\", which is no number")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_page_and_any_sample_give_a_number_or_a_reason(body in ".{0,200}", sample in ".{1,20}") {
            for at in [ValueAt::Prometheus(sample.clone()), ValueAt::Json(format!("/{sample}"))] {
                match judge(at, None, None, &body) {
                    Outcome::Success(Answer::Value(value)) => assert!(value.is_finite()),
                    Outcome::Failure(Failure::Wrong(why)) => assert!(!why.is_empty()),
                    other @ (Outcome::Success(_) | Outcome::Failure(_) | Outcome::Void(_)) => panic!("{other:?}"),
                }
            }
        }
    }
}
