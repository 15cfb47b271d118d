//! OPEN and its optional parameters (RFC 4271 §4.2 and §6.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};
use steer_topology::Asn;

use super::capability::{self, Capabilities};
use super::{Malformed, Reason, take, take_u8, take_u16, take_u32};

/// The only version there is.
const VERSION: u8 = 4;

/// Optional parameter of capabilities (RFC 5492 §4).
const PARAMETER_CAPABILITIES: u8 = 2;

/// Stands in both length and first type where the parameters are longer than 255 octets (RFC 9072 §2).
const PARAMETER_EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS number: the 4-octet one where the capability says it (RFC 6793 §4.1).
    pub asn: Asn,
    /// Hold time in seconds: 0 or at least 3.
    pub hold_time: u16,
    /// BGP Identifier, never 0.
    pub identifier: Ipv4Addr,
    /// What the sender can do.
    pub capabilities: Capabilities,
}

/// Decodes the body of an OPEN, in the order of RFC 4271 §6.2.
pub(super) fn decode(mut body: &[u8]) -> Result<Open, Malformed> {
    let version = take_u8(&mut body)?;
    if version != VERSION {
        // The data is the largest version we support below the peer's: there is only 4.
        let text = format!("BGP version {version}, want 4");
        return Err(Malformed::new(Reason::UnsupportedVersion, &[0, VERSION], text));
    }
    let short_asn = take_u16(&mut body)?;
    let hold_time = take_u16(&mut body)?;
    let identifier = Ipv4Addr::from(take_u32(&mut body)?);
    let (capabilities, long_asn) = decode_parameters(body)?;
    let number = long_asn.unwrap_or(u32::from(short_asn));
    // RFC 7607 §2: AS 0 is never right.
    let asn = Asn::new(number)
        .filter(|_| short_asn != 0)
        .ok_or_else(|| Malformed::new(Reason::BadPeerAs, &[], "AS number 0 in OPEN"))?;
    if matches!(hold_time, 1 | 2) {
        let text = format!("hold time of {hold_time} s, want 0 or at least 3 s");
        return Err(Malformed::new(Reason::UnacceptableHoldTime, &[], text));
    }
    if identifier.is_unspecified() {
        return Err(Malformed::new(
            Reason::BadIdentifier,
            &[],
            "BGP Identifier 0.0.0.0",
        ));
    }
    Ok(Open {
        asn,
        hold_time,
        identifier,
        capabilities,
    })
}

fn unspecific(text: &str) -> Malformed {
    Malformed::new(Reason::OpenUnspecific, &[], text)
}

fn decode_parameters(mut body: &[u8]) -> Result<(Capabilities, Option<u32>), Malformed> {
    let mut length = usize::from(take_u8(&mut body)?);
    let extended = length != 0 && body.first() == Some(&PARAMETER_EXTENDED);
    if extended {
        // RFC 9072 §2: a type octet of 255, then the length in two octets.
        take(&mut body, 1);
        length = usize::from(take_u16(&mut body).map_err(|_| unspecific("optional parameters end early"))?);
    }
    if length != body.len() {
        return Err(unspecific(
            "the length of the optional parameters does not fit the message",
        ));
    }
    let (mut capabilities, mut long_asn) = (Capabilities::default(), None);
    while !body.is_empty() {
        let kind = take_u8(&mut body)?;
        let size = if extended {
            take_u16(&mut body)
        } else {
            take_u8(&mut body).map(u16::from)
        };
        let value = size.ok().and_then(|size| take(&mut body, usize::from(size)));
        let value = value.ok_or_else(|| unspecific("an optional parameter ends early"))?;
        if kind != PARAMETER_CAPABILITIES {
            let text = format!("optional parameter {kind}");
            return Err(Malformed::new(Reason::UnsupportedParameter, &[], text));
        }
        capability::decode(value, &mut capabilities, &mut long_asn)?;
    }
    Ok((capabilities, long_asn))
}

/// Writes the body of an OPEN. `others` is bounded by us: it must fit the 255 octets of the classic form.
pub(super) fn encode(open: &Open, out: &mut BytesMut) {
    out.put_u8(VERSION);
    // RFC 6793 §4.1: a number that does not fit is AS_TRANS here.
    let short = u16::try_from(open.asn.get()).unwrap_or(Asn::TRANS.get() as u16);
    out.put_u16(short);
    out.put_u16(open.hold_time);
    out.put_u32(open.identifier.to_bits());
    let capabilities = capability::encode(&open.capabilities, open.asn);
    match u8::try_from(capabilities.len()) {
        Ok(0) => out.put_u8(0),
        Ok(length) if length <= 253 => {
            out.put_u8(length + 2);
            out.put_u8(PARAMETER_CAPABILITIES);
            out.put_u8(length);
        }
        Ok(_) | Err(_) => {
            let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX - 3);
            out.put_u8(PARAMETER_EXTENDED);
            out.put_u8(PARAMETER_EXTENDED);
            out.put_u16(length + 3);
            out.put_u8(PARAMETER_CAPABILITIES);
            out.put_u16(length);
        }
    }
    out.put_slice(&capabilities);
}
