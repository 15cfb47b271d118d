//! The search tree of an MMDB file, walked from the first address to the last.
//!
//! MaxMind DB format 2.0, "Binary Search Tree Section". The reading library iterates too, but its walk has no
//! bound for a tree that is no tree, and leaves out aliased networks; ours has the one and needs the others.

/// Steps that any walk may take, for trees that share nodes.
const STEPS_BASE: u64 = 1 << 20;

/// Steps per node of the file. A plain tree takes one, MaxMind's aliases of the IPv4 half make it four at most.
const STEPS_PER_NODE: u64 = 16;

/// No walk takes more steps, however large the file.
const STEPS_MAX: u64 = 1 << 27;

/// The tree section of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'a> {
    bytes: &'a [u8],
    node_count: u32,
    record_size: u16,
}

/// A network that the tree does not divide further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// First address, in the low bits.
    pub(crate) first: u128,
    /// Last address.
    pub(crate) last: u128,
    /// The tree's value that leads to the record; `None`: no record.
    pub(crate) record: Option<u32>,
}

/// Why a tree cannot be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTree {
    #[error("node {node} lies outside of the file")]
    Outside { node: u32 },
    #[error("the search tree is deeper than {bits} bits: it runs in a circle or is cut off")]
    TooDeep { bits: u8 },
    #[error(
        "the search tree has {nodes} nodes but more than {steps} branches: its nodes refer to each other"
    )]
    TooManySteps { nodes: u32, steps: u64 },
    #[error("the search tree ends before the last address")]
    Ended,
}

impl<'a> Tree<'a> {
    /// `bytes` begins with the tree. Callers have checked that `record_size` is 24, 28 or 32.
    pub(crate) fn new(bytes: &'a [u8], node_count: u32, record_size: u16) -> Self {
        Self {
            bytes,
            node_count,
            record_size,
        }
    }

    /// Bytes of the tree section.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.node_count) * u64::from(self.record_size) / 4
    }

    /// Where the walk of an address family begins: the value of the root (`zeros` 0), or what lies `zeros` left
    /// turns below it, which may already be a leaf.
    pub(crate) fn descend(&self, zeros: u8) -> Result<u32, BadTree> {
        let mut value = 0;
        for _ in 0..zeros {
            if value >= self.node_count {
                break;
            }
            value = self.children(value)?.0;
        }
        Ok(value)
    }

    /// All leaves below `start` in address order, without a gap. `is_cut` ends the walk at a network as if it
    /// had no record.
    pub(crate) fn leaves(self, start: u32, bits: u8, is_cut: fn(u128, u8) -> bool) -> Leaves<'a> {
        let steps = (u64::from(self.node_count) * STEPS_PER_NODE + STEPS_BASE).min(STEPS_MAX);
        Leaves {
            tree: self,
            bits,
            is_cut,
            stack: vec![(0, 0, start)],
            steps,
            taken: 0,
        }
    }

    fn children(&self, node: u32) -> Result<(u32, u32), BadTree> {
        self.try_children(node).ok_or(BadTree::Outside { node })
    }

    fn try_children(&self, node: u32) -> Option<(u32, u32)> {
        let size = usize::from(self.record_size / 4);
        let start = usize::try_from(node).ok()?.checked_mul(size)?;
        let bytes = self.bytes.get(start..start.checked_add(size)?)?;
        match *bytes {
            [a, b, c, d, e, f] => Some((u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([0, d, e, f]))),
            // The middle byte has the top four bits of both.
            [a, b, c, m, d, e, f] => Some((
                u32::from_be_bytes([m >> 4, a, b, c]),
                u32::from_be_bytes([m & 15, d, e, f]),
            )),
            [a, b, c, d, e, f, g, h] => {
                Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
            }
            _ => None,
        }
    }
}

/// See [`Tree::leaves`]. Ends after the first error.
pub(crate) struct Leaves<'a> {
    tree: Tree<'a>,
    bits: u8,
    is_cut: fn(u128, u8) -> bool,
    /// First address, length, value; at most one entry per bit.
    stack: Vec<(u128, u8, u32)>,
    steps: u64,
    taken: u64,
}

impl Leaves<'_> {
    fn step(&mut self, first: u128, length: u8, value: u32) -> Result<Option<Leaf>, BadTree> {
        self.taken += 1;
        if self.taken > self.steps {
            return Err(BadTree::TooManySteps {
                nodes: self.tree.node_count,
                steps: self.steps,
            });
        }
        let cut = (self.is_cut)(first, length);
        if cut || value >= self.tree.node_count {
            let last = first | low_bits(self.bits - length);
            let record = (!cut && value != self.tree.node_count).then_some(value);
            return Ok(Some(Leaf { first, last, record }));
        }
        if length == self.bits {
            return Err(BadTree::TooDeep { bits: self.bits });
        }
        let (left, right) = self.tree.children(value)?;
        let half = 1 << (self.bits - length - 1);
        self.stack.push((first | half, length + 1, right));
        self.stack.push((first, length + 1, left));
        Ok(None)
    }
}

impl Iterator for Leaves<'_> {
    type Item = Result<Leaf, BadTree>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((first, length, value)) = self.stack.pop() {
            match self.step(first, length, value) {
                Ok(None) => {}
                Ok(Some(leaf)) => return Some(Ok(leaf)),
                Err(error) => {
                    self.stack.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

fn low_bits(count: u8) -> u128 {
    1_u128
        .checked_shl(u32::from(count))
        .map_or(u128::MAX, |bit| bit - 1)
}
