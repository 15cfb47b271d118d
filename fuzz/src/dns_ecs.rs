//! The client subnet option of a query, against the rules of RFC 7871 §6 and §7.2.1 written down a second time.

use std::net::{IpAddr, Ipv4Addr};

use domain::base::Message;
use domain::base::opt::UnknownOptData;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_dns::Transport;

use crate::dns_ground::ENGINE;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(81, 169, 145, 1));
const CLIENT_SUBNET: u16 = 8;
const FORMERR: u16 = 1;

/// The value of one option.
pub fn check(data: &[u8]) {
    for (name, is_steered) in [("www", true), ("plain", false), ("nothing", false)] {
        let query = query(name, data);
        let mut rng = SmallRng::seed_from_u64(1);
        let reply = ENGINE
            .answer(&query, CLIENT, Transport::Tcp, 0, &mut rng)
            .expect("a query has a reply");
        let octets = reply.encode().expect("a reply can be sent");
        judge(data, &octets, is_steered);
    }
}

fn query(name: &str, option: &[u8]) -> Vec<u8> {
    let length = u16::try_from(option.len()).expect("short inputs");
    let mut query = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    query.push(u8::try_from(name.len()).expect("short"));
    query.extend(name.bytes());
    query.extend(b"\x07example\x03com\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00");
    query.extend((length + 4).to_be_bytes());
    query.extend(CLIENT_SUBNET.to_be_bytes());
    query.extend(length.to_be_bytes());
    query.extend(option);
    query
}

fn judge(option: &[u8], reply: &[u8], is_steered: bool) {
    let message = Message::from_octets(reply).expect("a header");
    let opt = message.opt().expect("EDNS gets EDNS");
    let sent = opt
        .opt()
        .iter::<UnknownOptData<_>>()
        .map(|option| option.expect("whole"));
    let sent: Vec<Vec<u8>> = sent
        .filter(|option| option.code().to_int() == CLIENT_SUBNET)
        .map(|option| option.data().to_vec())
        .collect();
    let rcode = message.opt_rcode().to_int();
    let Some(width) = sound(option) else {
        assert_eq!((rcode, sent.len()), (FORMERR, 0), "{option:?}");
        return;
    };
    assert_ne!(rcode, FORMERR, "{option:?}");
    let [sent] = sent.as_slice() else {
        panic!("{} options in the reply to {option:?}", sent.len());
    };
    // RFC 7871 §7.2.1: FAMILY, SOURCE PREFIX-LENGTH and ADDRESS come back as they are.
    assert_eq!((&sent[..3], &sent[4..]), (&option[..3], &option[4..]));
    let (source, scope) = (option[2], sent[3]);
    assert!(scope <= width, "{sent:?}");
    if source == 0 || !is_steered {
        assert_eq!(scope, 0, "{option:?} holds for everybody");
    }
}

/// The width of the family where the option is sound. FAMILY 0 with SOURCE PREFIX-LENGTH 0 is what some clients send
/// for "do not locate me".
fn sound(option: &[u8]) -> Option<u8> {
    let [family0, family1, source, 0, address @ ..] = option else {
        return None;
    };
    let width = match (u16::from_be_bytes([*family0, *family1]), source) {
        (0, 0) => 0,
        (1, 0..=32) => 32,
        (2, 0..=128) => 128,
        _ => return None,
    };
    let bits = usize::from(*source);
    let beyond = |bit: usize| bit >= bits && address[bit / 8] & (0x80 >> (bit % 8)) != 0;
    let is_sound = address.len() == bits.div_ceil(8) && !(0..address.len() * 8).any(beyond);
    is_sound.then_some(width)
}
