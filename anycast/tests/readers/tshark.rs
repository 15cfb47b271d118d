//! tshark: a capture file in, PDML out.

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::pcap::{Capture, Flow};
use super::reading::{OpenReading, Reading, UpdateReading};
use super::sample::Sample;

const TSHARK: &str = "/usr/bin/tshark";

/// Severity of an expert's word that is an error (Wireshark's `PI_ERROR`).
const ERROR: &str = "8388608";

/// One message as tshark shows it.
#[derive(Debug)]
pub(crate) struct Dissected {
    pub(crate) reading: Reading,
    /// Malformed marks and expert errors.
    pub(crate) complaints: Vec<String>,
}

/// Whether tshark is here.
pub(crate) fn missing() -> Result<(), String> {
    match Path::new(TSHARK).exists() {
        true => Ok(()),
        false => Err(format!(
            "{TSHARK} is missing: install the Debian package `tshark`"
        )),
    }
}

/// What tshark reads of each message.
pub(crate) fn read(samples: &[Sample]) -> Result<Vec<Dissected>, String> {
    missing()?;
    let mut readings: Vec<Option<Dissected>> = samples.iter().map(|_| None).collect();
    // The width of AS numbers is a setting of the whole run, so each width has a file of its own.
    for four_octet in [false, true] {
        let chosen = samples
            .iter()
            .enumerate()
            .filter(|(_, sample)| sample.context.four_octet == four_octet);
        let (numbers, capture): (Vec<usize>, Capture) = one_stream(chosen);
        let dissected = dissect(&capture, Some(four_octet));
        assert_eq!(
            dissected.len(),
            numbers.len(),
            "tshark sees as many messages as there are"
        );
        for (number, one) in numbers.into_iter().zip(dissected) {
            readings[number] = Some(one);
        }
    }
    Ok(readings.into_iter().flatten().collect())
}

fn one_stream<'a>(samples: impl Iterator<Item = (usize, &'a Sample)>) -> (Vec<usize>, Capture) {
    let (here, there): (SocketAddrV4, SocketAddrV4) = (
        ([192, 0, 2, 1], 40_000).into_address(),
        ([192, 0, 2, 2], 179).into_address(),
    );
    let (mut flow, back) = (Flow::new(here, there), Flow::new(there, here));
    let mut capture = Capture::new();
    capture.connect(Duration::ZERO, &flow, &back);
    let mut numbers = Vec::new();
    for (number, sample) in samples {
        numbers.push(number);
        capture.send(Duration::ZERO, &mut flow, &back, &sample.octets);
    }
    (numbers, capture)
}

trait IntoAddress {
    fn into_address(self) -> SocketAddrV4;
}

impl IntoAddress for ([u8; 4], u16) {
    fn into_address(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.0.into(), self.1)
    }
}

/// Every BGP message of the file, in order. Without `four_octet` tshark finds the width of AS numbers itself.
pub(crate) fn dissect(capture: &Capture, four_octet: Option<bool>) -> Vec<Dissected> {
    let width = match four_octet {
        None => "Auto-detect",
        Some(false) => "2 octet",
        Some(true) => "4 octet",
    };
    let mut reader = Reader::default();
    pdml(capture, &format!("bgp.asn_len:{width}"), |line| reader.take(line));
    reader.finish()
}

/// How many packets of BFD the file has, and what tshark complains of.
pub(crate) fn dissect_bfd(capture: &Capture) -> (usize, Vec<String>) {
    let (mut packets, mut complaints) = (0, Vec::new());
    pdml(capture, "bgp.asn_len:Auto-detect", |line| {
        let line = line.trim_start();
        packets += usize::from(line.starts_with("<proto name=\"bfd\""));
        let error = line.contains("_ws.expert.severity") && attribute(line, "show") == ERROR;
        if error || line.contains("_ws.malformed") {
            complaints.push(line.to_owned());
        }
    });
    (packets, complaints)
}

/// Gives each line of what tshark says of a capture.
fn pdml(capture: &Capture, setting: &str, mut take: impl FnMut(&str)) {
    let folder = tempfile::tempdir().expect("a folder for the capture");
    let file = folder.path().join("session.pcap");
    std::fs::write(&file, capture.octets()).expect("the capture is written");
    let mut child = Command::new(TSHARK)
        .args(["-n", "-T", "pdml", "-o", setting, "-r"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tshark runs");
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        take(&line.expect("UTF-8"));
    }
    let status = child.wait().expect("our own child");
    assert!(status.success(), "tshark: {status}");
}

/// Reads PDML line by line; each line is one tag.
#[derive(Default)]
struct Reader {
    messages: Vec<Dissected>,
    current: Option<Message>,
}

/// A message under way.
#[derive(Default)]
struct Message {
    kind: u8,
    open: OpenReading,
    update: UpdateReading,
    /// NEXT_HOP, and that of MP_REACH_NLRI.
    classic: String,
    next_hop: String,
    classic_prefixes: Vec<String>,
    length: u8,
    code: u8,
    subcode: u8,
    refresh: (u16, u8, u8),
    complaints: Vec<String>,
}

impl Reader {
    fn take(&mut self, line: &str) {
        let line = line.trim_start();
        if let Some(tag) = line.strip_prefix("<proto ") {
            self.close();
            match attribute(tag, "name") {
                "bgp" => self.current = Some(Message::default()),
                "_ws.malformed" => self.blame(tag),
                _ => {}
            }
        } else if let Some(tag) = line.strip_prefix("<field ") {
            let (name, shown) = (attribute(tag, "name"), attribute(tag, "show"));
            if let Some(message) = &mut self.current {
                message.take(name, shown, tag);
            }
        }
    }

    /// A malformed mark stands behind the message that it is about.
    fn blame(&mut self, tag: &str) {
        match self.messages.last_mut() {
            Some(message) => message.complaints.push(tag.to_owned()),
            None => self.messages.push(Dissected {
                reading: Reading::Refused(tag.to_owned()),
                complaints: vec![tag.to_owned()],
            }),
        }
    }

    fn close(&mut self) {
        self.messages.extend(self.current.take().map(Message::finish));
    }

    fn finish(mut self) -> Vec<Dissected> {
        self.close();
        self.messages
    }
}

impl Message {
    fn take(&mut self, name: &str, shown: &str, tag: &str) {
        if name == "_ws.expert.severity" && shown == ERROR || name.starts_with("_ws.malformed") {
            self.complaints.push(attribute(tag, "showname").to_owned());
        }
        let Some(name) = name.strip_prefix("bgp.") else {
            return;
        };
        match name {
            "type" => self.kind = number(shown),
            "open.myas" => self.open.asn = number(shown),
            "open.holdtime" => self.open.hold_time = number(shown),
            "open.identifier" => self.open.identifier = shown.to_owned(),
            "cap.type" => self.take_capability(number(shown)),
            "cap.mp.afi" => drop(self.open.families.insert(number(shown))),
            "cap.4as" => self.open.asn = number(shown),
            "notify.major_error" => self.code = number(shown),
            "route_refresh.afi" => self.refresh.0 = number(shown),
            "route_refresh.subtype" => self.refresh.1 = number(shown),
            "route_refresh.safi" => self.refresh.2 = number(shown),
            "prefix_length" => self.length = number(shown),
            _ if name.starts_with("notify.minor_error") => self.subcode = number(shown),
            _ => self.take_update(name, shown),
        }
    }

    fn take_capability(&mut self, code: u8) {
        match code {
            2 => self.open.route_refresh = true,
            65 => self.open.four_octet_as = true,
            _ => {}
        }
    }

    fn take_update(&mut self, name: &str, shown: &str) {
        let prefix = || format!("{shown}/{}", self.length);
        let update = &mut self.update;
        match name {
            "withdrawn_prefix" | "mp_unreach_nlri_ipv4_prefix" | "mp_unreach_nlri_ipv6_prefix" => {
                update.withdrawn.insert(prefix());
            }
            "nlri_prefix" => self.classic_prefixes.push(prefix()),
            "mp_reach_nlri_ipv4_prefix" | "mp_reach_nlri_ipv6_prefix" => {
                update.routes.insert(prefix(), self.next_hop.clone());
            }
            "update.path_attribute.mp_reach_nlri.next_hop.ipv4"
            | "update.path_attribute.mp_reach_nlri.next_hop.ipv6" => self.next_hop = shown.to_owned(),
            "update.path_attribute.next_hop" => self.classic = shown.to_owned(),
            "update.path_attribute.origin" => update.origin = Some(number(shown)),
            "update.path_attribute.multi_exit_disc" => update.med = Some(number(shown)),
            "update.path_attribute.local_pref" => update.local_pref = Some(number(shown)),
            "update.path_attribute.as_path_segment.type" => update.as_path.push((number(shown), Vec::new())),
            "update.path_attribute.as_path_segment.as2" | "update.path_attribute.as_path_segment.as4" => {
                let segment = update.as_path.last_mut().expect("a segment has a type first");
                segment.1.push(number(shown));
            }
            "update.path_attribute.community_wellknown" => update.communities.push(number(shown)),
            "update.path_attribute.community_as" => update.communities.push(number::<u32>(shown) << 16),
            "update.path_attribute.community_value" => {
                *update.communities.last_mut().expect("the AS comes first") |= number::<u32>(shown);
            }
            "ext_com.type" => update
                .extended_communities
                .push([number(shown), 0, 0, 0, 0, 0, 0, 0]),
            "ext_com.stype_tr_as2" => extended(update)[1] = number(shown),
            "ext_com.value_as2" => {
                extended(update)[2..4].copy_from_slice(&number::<u16>(shown).to_be_bytes());
            }
            "ext_com.value_an4" => extended(update)[4..].copy_from_slice(&number::<u32>(shown).to_be_bytes()),
            "large_communities.ga" => update.large_communities.push([number(shown), 0, 0]),
            "large_communities.ldp1" | "large_communities.ldp2" => {
                let field = if name.ends_with('1') { 1 } else { 2 };
                update.large_communities.last_mut().expect("the AS comes first")[field] = number(shown);
            }
            _ => {}
        }
    }

    fn finish(mut self) -> Dissected {
        let classic = self
            .classic_prefixes
            .into_iter()
            .map(|prefix| (prefix, self.classic.clone()));
        self.update.routes.extend(classic);
        let (afi, subtype, safi) = self.refresh;
        let reading = match self.kind {
            1 => Reading::Open(self.open),
            2 => Reading::Update(self.update),
            3 => Reading::Notification {
                code: self.code,
                subcode: self.subcode,
            },
            4 => Reading::Keepalive {},
            5 => Reading::Refresh { afi, subtype, safi },
            other => Reading::Refused(format!("type {other}")),
        };
        Dissected {
            reading,
            complaints: self.complaints,
        }
    }
}

/// The value of an attribute of a tag; empty where it has none.
fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let begin = format!("{name}=\"");
    let at = tag.match_indices(&begin).map(|(at, _)| at);
    // `show` must not be found in `value_show`.
    let at = at.into_iter().find(|at| *at == 0 || tag[..*at].ends_with(' '));
    let rest = at.map_or("", |at| &tag[at + begin.len()..]);
    rest.split('"').next().unwrap_or("")
}

/// Decimal, or hexadecimal with `0x`; what does not fit is 0 and will be seen as a difference.
fn number<N: TryFrom<u64> + Default>(shown: &str) -> N {
    let parsed = match shown.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => shown.parse(),
    };
    parsed
        .ok()
        .and_then(|number| N::try_from(number).ok())
        .unwrap_or_default()
}

fn extended(update: &mut UpdateReading) -> &mut [u8; 8] {
    update
        .extended_communities
        .last_mut()
        .expect("the type comes first")
}
