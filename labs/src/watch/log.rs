//! Log files of running processes, read as they grow.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Nanos;

/// Reads what has been added to a file, in whole lines.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: 0,
        }
    }

    /// The whole lines since the last call; none while the file cannot be read.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_string(&mut text)
        });
        if read.is_err() {
            return Vec::new();
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        text.get(..whole)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// The fields of steer's JSON log that labs read.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    /// When it was decided: the line is written later.
    at: Option<jiff::Timestamp>,
    message: String,
    site: Option<String>,
    verdict: Option<String>,
}

impl Line {
    pub(crate) fn of(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// When the line says that an endpoint of `site` was called down.
    pub(crate) fn down(&self, site: &str) -> Option<Nanos> {
        let is_down = self.message == "verdict changed"
            && self.site.as_deref() == Some(site)
            && self.verdict.as_deref() == Some("down");
        let at = self.at.filter(|_| is_down)?;
        i64::try_from(at.as_nanosecond()).ok()
    }
}

/// When BIRD took the route of `protocol` to `prefix` out, if the line of its log says so. Its clock is set to
/// UTC by the environment.
pub(crate) fn bird_removed(line: &str, protocol: &str, prefix: &str) -> Option<Nanos> {
    let (time, rest) = line.split_once(" <TRACE> ")?;
    let rest = rest.strip_prefix(protocol)?;
    if !rest.contains(&format!(" {prefix} ")) || !rest.contains("removed") {
        return None;
    }
    let time: jiff::civil::DateTime = time.parse().ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    i64::try_from(zoned.timestamp().as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_verdict_on_the_asked_site_counts() {
        let line = r#"{"timestamp":"2026-11-23T10:00:00.000321Z","level":"INFO","at":"2026-11-23T10:00:00.000123Z","message":"verdict changed","snapshot":7,"endpoint":"203.0.113.2:80","site":"fra","verdict":"down","target":"x"}"#;
        let down = Line::of(line).unwrap();
        assert_eq!(down.down("fra").unwrap() % 1_000_000_000, 123_000);
        assert_eq!(down.down("nrt"), None);
        assert!(
            Line::of(&line.replace("\"down\"", "\"up\""))
                .unwrap()
                .down("fra")
                .is_none()
        );
        assert!(
            Line::of(&line.replace("verdict changed", "other"))
                .unwrap()
                .down("fra")
                .is_none()
        );
        assert!(Line::of("thread panicked").is_none());
    }

    #[test]
    fn a_half_written_line_is_read_when_it_is_whole() {
        let path = std::env::temp_dir().join(format!("steer-labs-tail-{}", std::process::id()));
        std::fs::write(&path, "one\ntw").unwrap();
        let mut tail = Tail::new(&path);
        assert_eq!(tail.lines(), ["one"]);
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail.lines(), ["two", "three"]);
        std::fs::remove_file(&path).unwrap();
        assert!(tail.lines().is_empty());
    }
}
