//! The declared names of one kind, and looking them up.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use toml::Spanned;

use crate::config::raw::Needed;
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::{list, nearest};

/// Names of sites, checks or pools; each stands for its index in the file. A table with other faults still
/// counts, so that references to it are not faulted as well.
#[derive(Debug)]
pub(super) struct Names {
    kind: &'static str,
    /// Lower case for sites, as written for the others.
    index: HashMap<String, u32>,
    /// How many tables declare one, well or badly.
    count: u32,
    whole: Result<(), Reported>,
    /// For messages; made for the first of them.
    sorted: OnceCell<Vec<String>>,
}

impl Names {
    /// Faults what is declared twice.
    pub(super) fn gather<'r, 'd: 'r>(
        sink: &Sink<'_>,
        kind: &'static str,
        mut whole: Result<(), Reported>,
        names: impl Iterator<Item = &'r Needed<&'d str>>,
    ) -> Self {
        let mut index = HashMap::new();
        let mut lines = HashMap::new();
        let mut count = 0;
        for (number, name) in (0..).zip(names) {
            count = number + 1;
            let name = match name {
                Ok(name) => name,
                Err(reported) => {
                    whole = Err(*reported);
                    continue;
                }
            };
            match index.entry(folded(kind, name.get_ref())) {
                Entry::Vacant(entry) => {
                    entry.insert(number);
                    lines.insert(number, sink.line(name.span().start));
                }
                Entry::Occupied(entry) => {
                    let line = lines.get(entry.get()).copied().unwrap_or_default();
                    sink.conflict(
                        name.span(),
                        format!(
                            "{kind} `{}` is declared twice, first in line {line}",
                            name.get_ref()
                        ),
                        "rename or remove one of them",
                    );
                }
            }
        }
        Self {
            kind,
            index,
            count,
            whole,
            sorted: OnceCell::new(),
        }
    }

    /// Whether the file declares any, well or badly.
    pub(super) fn declared(&self) -> bool {
        self.count > 0 || self.whole.is_err()
    }

    /// How many tables declare one, well or badly.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The name behind an index.
    pub(super) fn name(&self, index: u32) -> &str {
        self.index
            .iter()
            .find(|(_, found)| **found == index)
            .map_or("", |(name, _)| name)
    }

    fn sort(&self) -> Vec<String> {
        let mut names: Vec<String> = self.index.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// The index of a name that the file refers to.
    pub(super) fn find(&self, sink: &Sink<'_>, name: &Spanned<&str>) -> Result<u32, Reported> {
        self.find_text(sink, name.span(), name.get_ref())
    }

    /// The same for a name within a longer text.
    pub(super) fn find_text(&self, sink: &Sink<'_>, span: Range<usize>, name: &str) -> Result<u32, Reported> {
        if let Some(index) = self.index.get(&folded(self.kind, name)) {
            return Ok(*index);
        }
        // The one that is meant may be the one whose name could not be read.
        self.whole?;
        let Self { kind, .. } = self;
        let known = || self.sorted.get_or_init(|| self.sort()).iter().map(String::as_str);
        let message = format!("there is no {kind} `{name}`");
        let remedy = match nearest(name, known()) {
            _ if self.index.is_empty() && *kind == "site" => {
                format!(
                    "the file declares none; add [[site]] with name = \"{name}\", or leave the site out here"
                )
            }
            _ if self.index.is_empty() => {
                format!("the file declares none; add [[{kind}]] with name = \"{name}\"")
            }
            Some(meant) => format!("did you mean `{meant}`? Declared: {}", list(known())),
            None => format!("declared: {}", list(known())),
        };
        Err(sink.conflict(span, message, remedy))
    }
}

fn folded(kind: &str, name: &str) -> String {
    if kind == "site" {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    }
}
