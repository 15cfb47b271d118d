//! Where faults are gathered while one file is read.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use crate::fault::{Fault, Faults, Place};

/// Proof that a fault has been reported: only a [`Sink`] makes one. Whoever holds it says nothing more, so one
/// mistake gives one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported(());

/// What a fault rests on. After a syntax error only what stands by itself is still worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// The text is no TOML here. What follows is what the author meant, bar this value.
    SyntaxOfValue,
    /// The text is no TOML here, and where this table or list ends is a guess from here on.
    SyntaxOfStructure,
    /// The value at the place is wrong whatever the rest of the file says.
    Value,
    /// The value does not agree with the rest of the file.
    Relation,
}

/// All faults of one file so far.
#[derive(Debug)]
pub(super) struct Sink<'d> {
    file: &'d Path,
    text: &'d str,
    line_starts: Vec<usize>,
    found: RefCell<Vec<Found>>,
}

#[derive(Debug)]
struct Found {
    span: Range<usize>,
    basis: Basis,
    message: String,
    remedy: String,
}

impl<'d> Sink<'d> {
    pub(super) fn new(file: &'d Path, text: &'d str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            text,
            line_starts,
            found: RefCell::default(),
        }
    }

    /// The TOML parser's complaint.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let end = self.text.len();
        let span = error.span().unwrap_or(end..end);
        let (what, expected) = error
            .message()
            .split_once(", expected ")
            .unwrap_or((error.message(), ""));
        let value = self.text.get(span.clone()).unwrap_or_default();
        let (basis, remedy) = match what {
            "string values must be quoted" if !value.is_empty() => {
                (Basis::SyntaxOfValue, format!("write it in quotes: \"{value}\""))
            }
            "string values must be quoted" => {
                (Basis::SyntaxOfValue, "write a value after the `=`".to_owned())
            }
            "invalid boolean" => (
                Basis::SyntaxOfValue,
                "write true or false, or put a text in quotes".to_owned(),
            ),
            "duplicate key" => (Basis::SyntaxOfValue, "keep one of them".to_owned()),
            "missing escaped value" => (
                Basis::SyntaxOfValue,
                format!("after a backslash TOML wants one of {expected}"),
            ),
            _ if expected.is_empty() => (Basis::SyntaxOfStructure, "see toml.io for the syntax".to_owned()),
            _ => (Basis::SyntaxOfStructure, format!("expected {expected}")),
        };
        let message = if value.is_empty() || value.contains('\n') {
            format!("this is not TOML: {what}")
        } else {
            format!("this is not TOML: {what}: `{value}`")
        };
        self.push(Found {
            span,
            basis,
            message,
            remedy,
        });
    }

    /// A value that is wrong by itself.
    pub(super) fn fault(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Reported {
        self.push(Found {
            span,
            basis: Basis::Value,
            message: message.into(),
            remedy: remedy.into(),
        })
    }

    /// A value that does not fit the rest of the file, or something that is not there.
    pub(super) fn conflict(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Reported {
        self.push(Found {
            span,
            basis: Basis::Relation,
            message: message.into(),
            remedy: remedy.into(),
        })
    }

    /// A value as it stands in the file.
    pub(super) fn written(&self, span: Range<usize>) -> &'d str {
        self.text.get(span).unwrap_or_default()
    }

    /// Line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn push(&self, found: Found) -> Reported {
        self.found.borrow_mut().push(found);
        Reported(())
    }

    /// Everything that was found, in file order; `None` when nothing was.
    pub(super) fn into_faults(self) -> Option<Faults> {
        let Self {
            file,
            text,
            line_starts,
            found,
        } = self;
        let mut found = found.into_inner();
        found.sort_by_key(|fault| (fault.span.start, fault.basis != Basis::SyntaxOfStructure));
        let line = |found: &Found| line_starts.partition_point(|start| *start <= found.span.start);
        drop_follow_ups(&mut found, line);
        let mut faults: Vec<Fault> = Vec::with_capacity(found.len());
        let mut cursor = Cursor {
            text,
            offset: 0,
            line: 1,
            column: 1,
        };
        for Found {
            span,
            basis: _,
            message,
            remedy,
        } in found
        {
            let (line, column) = cursor.advance(span.start);
            faults.push(Fault::at(file, Place { line, column, span }, message, remedy));
        }
        (!faults.is_empty()).then_some(Faults(faults))
    }
}

/// Without syntax errors every fault stands. With them: one message per line, nothing about relations (half of
/// them may be lost), and after a broken bracket only more syntax.
fn drop_follow_ups(found: &mut Vec<Found>, line: impl Fn(&Found) -> usize) {
    let is_syntax = |basis| matches!(basis, Basis::SyntaxOfValue | Basis::SyntaxOfStructure);
    let Some(_) = found.iter().find(|fault| is_syntax(fault.basis)) else {
        return;
    };
    let mut syntax_lines: Vec<usize> = found
        .iter()
        .filter(|fault| is_syntax(fault.basis))
        .map(&line)
        .collect();
    syntax_lines.dedup();
    let structure = found
        .iter()
        .position(|fault| fault.basis == Basis::SyntaxOfStructure);
    let lost_from = structure
        .and_then(|index| found.get(index))
        .map_or(usize::MAX, &line);
    let (mut last_line, mut last_message) = (0, String::new());
    found.retain(|fault| {
        let here = line(fault);
        match fault.basis {
            Basis::SyntaxOfValue | Basis::SyntaxOfStructure => {
                let before = std::mem::replace(&mut last_line, here);
                let repeats = fault.message == last_message && here <= before + 1;
                last_message.clone_from(&fault.message);
                here != before && !repeats
            }
            Basis::Value => here < lost_from && syntax_lines.binary_search(&here).is_err(),
            Basis::Relation => false,
        }
    });
}

/// Walks a text once, counting lines and characters.
struct Cursor<'d> {
    text: &'d str,
    offset: usize,
    line: usize,
    column: usize,
}

impl Cursor<'_> {
    /// Line and column at `target`, which never goes back.
    fn advance(&mut self, target: usize) -> (usize, usize) {
        let target = self.text.floor_char_boundary(target);
        for character in self.text.get(self.offset..target).unwrap_or_default().chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.offset = target.max(self.offset);
        (self.line, self.column)
    }
}
