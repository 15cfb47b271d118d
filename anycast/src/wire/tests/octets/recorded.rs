//! Fifteen minutes of a public route collector's UPDATEs, against totals that another decoder counted.

use std::path::Path as FilePath;
use std::process::Command;

use super::*;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/mrt/routeviews.updates.20260222.1530.bz2"
);

/// Unpacked octets, or why there are none.
fn unpacked() -> Result<Vec<u8>, String> {
    if !FilePath::new(FILE).exists() {
        return Err(format!("{FILE} is not there"));
    }
    let output = Command::new("bzip2").args(["-dc", FILE]).output();
    let output = output.map_err(|error| format!("bzip2 does not run: {error}"))?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// The BGP message of each MRT record, with its context (RFC 6396 §4.4). Other records are skipped.
fn messages(mut file: &[u8]) -> Vec<(Context, &[u8])> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = file.split_first_chunk::<12>() {
        let [_, _, _, _, k1, k2, s1, s2, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        let (mut body, rest) = rest.split_at(length);
        file = rest;
        let kind = u16::from_be_bytes([k1, k2]);
        if kind == 17 {
            body = &body[4..]; // BGP4MP_ET: microseconds come first (§3)
        }
        let (four_octet, numbers) = match (kind, u16::from_be_bytes([s1, s2])) {
            (16 | 17, 1) => (false, 4),
            (16 | 17, 4) => (true, 8),
            _ => continue,
        };
        // Both AS numbers, an interface, a family, both addresses.
        let addresses = if body[numbers + 3] == 1 { 8 } else { 32 };
        let context = Context {
            four_octet,
            ..EXTERNAL
        };
        messages.push((context, &body[numbers + 4 + addresses..]));
    }
    messages
}

#[test]
fn recorded_updates_are_read_in_full() {
    let file = match unpacked() {
        Ok(file) => file,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let (mut announced, mut withdrawn, mut faults) = (0, 0, Vec::new());
    for (context, octets) in messages(&file) {
        if octets[18] != Kind::Update.octet() {
            continue;
        }
        let update = decode_update(octets, context).unwrap();
        announced += update
            .reachable
            .iter()
            .map(|reach| reach.prefixes.len())
            .sum::<usize>();
        withdrawn += update.withdrawn.len();
        faults.extend(update.faults);
    }
    assert_eq!((announced, withdrawn), (111_057, 7_606), "faults: {faults:?}");
}
