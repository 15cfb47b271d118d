//! Faults for people at a terminal: each with an excerpt of its file. The plain form is [`Fault`]'s `Display`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use crate::{Fault, Faults};

/// The texts that faults point into.
#[derive(Debug, Clone, Default)]
pub struct Sources(BTreeMap<PathBuf, Arc<str>>);

impl Sources {
    /// Reads the files that `faults` point into. A file that cannot be read gives no excerpt.
    #[must_use]
    pub fn read(faults: &Faults) -> Self {
        let mut sources = Self::default();
        for Fault { file, place, .. } in &faults.0 {
            if place.is_some()
                && !sources.0.contains_key(file)
                && let Ok(text) = fs::read_to_string(file)
            {
                sources.insert(file, text);
            }
        }
        sources
    }

    /// Adds a text that was not read from a file, or was changed since.
    pub fn insert(&mut self, file: &Path, text: String) {
        self.0.insert(file.to_owned(), text.into());
    }
}

/// Lines are cut for this many columns.
const WIDTH: usize = 110;

/// Each excerpt walks its file; whoever has more faults than this mends the first ones first.
const EXCERPTS: usize = 50;

/// All faults; the first ones with an excerpt, where `sources` has the file.
#[must_use]
pub fn render(faults: &Faults, sources: &Sources, color: bool) -> String {
    let theme = if color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_links(false);
    let mut out = String::new();
    let (first, rest) = faults.0.split_at(faults.0.len().min(EXCERPTS));
    for fault in first {
        let source = sources
            .0
            .get(&fault.file)
            .map(|text| NamedSource::new(fault.file.display().to_string(), Arc::clone(text)));
        let excerpt = Excerpt { fault, source };
        if handler.render_report(&mut out, &excerpt).is_err() {
            out.push_str(&fault.to_string());
        }
        out.push('\n');
    }
    for fault in rest {
        out.push_str(&format!("{fault}\n"));
    }
    out
}

#[derive(Debug)]
struct Excerpt<'f> {
    fault: &'f Fault,
    source: Option<NamedSource<Arc<str>>>,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            file,
            place,
            message,
            remedy: _,
        } = self.fault;
        match (place, &self.source) {
            (Some(_), Some(_)) => f.write_str(message),
            (Some(place), None) => write!(f, "{}:{}:{}: {message}", file.display(), place.line, place.column),
            (None, _) => write!(f, "{}: {message}", file.display()),
        }
    }
}

impl std::error::Error for Excerpt<'_> {}

impl Diagnostic for Excerpt<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fault.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.fault.place.as_ref()?.span.clone();
        Some(Box::new(std::iter::once(LabeledSpan::underline(span))))
    }
}
