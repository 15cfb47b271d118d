//! A small MMDB writer for tests: any networks in any order, both families, all record sizes, MaxMind's aliases.

use std::net::IpAddr;

use crate::Prefix;

/// A value of the data section.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Map(Vec<(&'static str, Data)>),
    Array(Vec<Data>),
    Text(&'static str),
    Double(f64),
    Float(f32),
    U16(u16),
    U32(u32),
    U64(u64),
}

/// What a node's half leads to.
#[derive(Debug, Clone, Copy)]
enum Half {
    Empty,
    Node(usize),
    Data(usize),
}

/// A database in the making.
pub(crate) struct Writer {
    ip_version: u16,
    record_size: u16,
    nodes: Vec<[Half; 2]>,
    data: Vec<Data>,
}

impl Writer {
    pub(crate) fn new(ip_version: u16, record_size: u16) -> Self {
        Self {
            ip_version,
            record_size,
            nodes: vec![[Half::Empty; 2]],
            data: Vec::new(),
        }
    }

    /// A later network overwrites an earlier one. IPv4 goes below `::/96` in a file for IPv6.
    pub(crate) fn put(&mut self, network: Prefix, data: Data) {
        let (bits, offset) = match (network.address(), self.ip_version) {
            (IpAddr::V4(address), 4) => (u128::from(address.to_bits()) << 96, 0),
            (IpAddr::V4(address), _) => (u128::from(address.to_bits()), 96),
            (IpAddr::V6(address), _) => (address.to_bits(), 0),
        };
        self.data.push(data);
        self.set(bits, offset + network.length(), Half::Data(self.data.len() - 1));
    }

    /// `::ffff:0:0/96`, `2001::/32` and `2002::/16` lead where `::/96` leads.
    pub(crate) fn alias_v4(&mut self) {
        let mut half = Half::Node(0);
        for _ in 0..96 {
            if let Half::Node(node) = half {
                half = self.nodes[node][0];
            }
        }
        self.set(0xffff << 32, 96, half);
        self.set(0x2001 << 112, 32, half);
        self.set(0x2002 << 112, 16, half);
    }

    /// Makes one half of one node lead to a node, to break the tree.
    pub(crate) fn link(&mut self, node: usize, half: usize, to: usize) {
        self.nodes[node][half] = Half::Node(to);
    }

    pub(crate) fn add_node(&mut self) -> usize {
        self.nodes.push([Half::Empty; 2]);
        self.nodes.len() - 1
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let offsets: Vec<usize> = self
            .data
            .iter()
            .map(|value| {
                let offset = data.len();
                write(value, &mut data);
                offset
            })
            .collect();
        let mut file = Vec::new();
        for halves in &self.nodes {
            let [left, right] = halves.map(|half| match half {
                Half::Empty => self.nodes.len() as u32,
                Half::Node(node) => node as u32,
                Half::Data(index) => (self.nodes.len() + 16 + offsets[index]) as u32,
            });
            let ([l0, l1, l2, l3], [r0, r1, r2, r3]) = (left.to_be_bytes(), right.to_be_bytes());
            match self.record_size {
                24 => file.extend([l1, l2, l3, r1, r2, r3]),
                28 => file.extend([l1, l2, l3, l0 << 4 | r0, r1, r2, r3]),
                _ => file.extend([l0, l1, l2, l3, r0, r1, r2, r3]),
            }
        }
        file.extend([0; 16]);
        file.extend(data);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        write(&self.metadata(), &mut file);
        file
    }

    fn metadata(&self) -> Data {
        Data::Map(vec![
            ("binary_format_major_version", Data::U16(2)),
            ("binary_format_minor_version", Data::U16(0)),
            ("build_epoch", Data::U64(1_700_000_000)),
            ("database_type", Data::Text("steer-test")),
            ("description", Data::Map(vec![])),
            ("ip_version", Data::U16(self.ip_version)),
            ("languages", Data::Array(vec![])),
            ("node_count", Data::U32(self.nodes.len() as u32)),
            ("record_size", Data::U16(self.record_size)),
        ])
    }

    fn set(&mut self, bits: u128, length: u8, to: Half) {
        if length == 0 {
            self.nodes[0] = [to; 2];
            return;
        }
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                self.nodes[node][side] = to;
                return;
            }
            node = match self.nodes[node][side] {
                Half::Node(next) => next,
                same @ (Half::Empty | Half::Data(_)) => {
                    self.nodes.push([same; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Half::Node(next);
                    next
                }
            };
        }
    }
}

fn write(value: &Data, out: &mut Vec<u8>) {
    match value {
        Data::Map(fields) => {
            out.push(7 << 5 | fields.len() as u8);
            for (key, value) in fields {
                write(&Data::Text(key), out);
                write(value, out);
            }
        }
        Data::Array(items) => {
            out.extend([items.len() as u8, 11 - 7]);
            items.iter().for_each(|item| write(item, out));
        }
        Data::Text(text) => {
            assert!(text.len() < 29, "longer texts need a second length byte");
            out.push(2 << 5 | text.len() as u8);
            out.extend(text.as_bytes());
        }
        Data::Double(number) => {
            out.push(3 << 5 | 8);
            out.extend(number.to_be_bytes());
        }
        Data::Float(number) => {
            out.extend([4, 15 - 7]);
            out.extend(number.to_be_bytes());
        }
        Data::U16(number) => {
            out.push(5 << 5 | 2);
            out.extend(number.to_be_bytes());
        }
        Data::U32(number) => {
            out.push(6 << 5 | 4);
            out.extend(number.to_be_bytes());
        }
        Data::U64(number) => {
            out.extend([8, 9 - 7]);
            out.extend(number.to_be_bytes());
        }
    }
}
