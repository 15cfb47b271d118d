//! What the log is told of a decision: when the snapshot that carries it is on its way, for a line costs as much
//! time as a withdrawal.

use std::fmt;

/// Lines in order. Each call of the judge adds a few for each endpoint at most, after it has told the older ones.
#[derive(Default)]
pub(super) struct Journal {
    lines: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

impl Journal {
    pub(super) fn add(&mut self, line: impl FnOnce() + Send + Sync + 'static) {
        self.lines.push(Box::new(line));
    }

    pub(super) fn tell(&mut self) {
        self.lines.drain(..).for_each(|line| line());
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.tell();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({} lines)", self.lines.len())
    }
}
