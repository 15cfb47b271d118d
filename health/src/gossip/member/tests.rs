use proptest::prelude::*;

use super::*;

fn any_instance() -> impl Strategy<Value = Instance> {
    let address = prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from)
    ];
    (prop_oneof!["fra", "nrt", "jfk", "xxx"], any::<u64>(), address).prop_map(|(site, start, address)| {
        Instance {
            site: SiteName::new(&site).unwrap(),
            start,
            address,
        }
    })
}

fn any_message() -> impl Strategy<Value = Message<Instance>> {
    (0..11_u8, any_instance(), any::<u8>()).prop_map(|(kind, about, probe_number)| match kind {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq {
            target: about,
            probe_number,
        },
        3 => Message::IndirectPing {
            origin: about,
            probe_number,
        },
        4 => Message::IndirectAck {
            target: about,
            probe_number,
        },
        5 => Message::ForwardedAck {
            origin: about,
            probe_number,
        },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        _ => Message::TurnUndead,
    })
}

fn any_header() -> impl Strategy<Value = Header<Instance>> {
    (any_instance(), any::<u16>(), any_instance(), any_message()).prop_map(
        |(src, src_incarnation, dst, message)| Header {
            src,
            src_incarnation,
            dst,
            message,
        },
    )
}

fn any_member() -> impl Strategy<Value = Member<Instance>> {
    let state = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
    (any_instance(), any::<u16>(), state)
        .prop_map(|(id, incarnation, state)| Member::new(id, incarnation, state))
}

fn packet(header: &Header<Instance>, members: &[Member<Instance>]) -> Vec<u8> {
    let mut octets = Vec::new();
    Octets.encode_header(header, &mut octets).unwrap();
    octets.put_u16(members.len() as u16);
    members
        .iter()
        .for_each(|member| Octets.encode_member(member, &mut octets).unwrap());
    octets
}

/// `xxx` is no member.
fn roster() -> Roster {
    let site = |name: &str| (SiteName::new(name).unwrap(), ([127, 0, 0, 1], 1).into());
    ["fra", "nrt", "jfk"].map(site).into_iter().collect()
}

proptest! {
    #[test]
    fn we_read_what_we_write(header in any_header(), member in any_member()) {
        let octets = packet(&header, std::slice::from_ref(&member));
        let mut rest = octets.as_slice();
        prop_assert_eq!(Octets.decode_header(&mut rest).unwrap(), header);
        rest.advance(2);
        prop_assert_eq!(Octets.decode_member(&mut rest).unwrap(), member);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn the_fleet_alone_passes(header in any_header(), members in prop::collection::vec(any_member(), 0..12)) {
        let (me, sender) = (header.dst.site, header.src.site);
        let filtered = filter(&packet(&header, &members), sender, me, &roster());
        if subject(&header.message).is_some_and(|site| !roster().has(site)) {
            prop_assert_eq!(filtered.map(drop), Err(Dropped::UnknownMember));
            return Ok(());
        }
        let kept: Vec<_> = members.iter().filter(|member| roster().has(member.id().site)).cloned().collect();
        let known = filtered.unwrap();
        prop_assert_eq!(known.octets, packet(&header, &kept));
        let own = members.iter().filter(|member| member.id().site == me).map(|member| member.id().start);
        prop_assert_eq!(known.own_start, own.chain([header.dst.start]).max());
    }

    #[test]
    fn nobody_speaks_for_another(header in any_header()) {
        let other = SiteName::new("yyy").unwrap();
        let octets = packet(&header, &[]);
        prop_assert_eq!(filter(&octets, other, header.dst.site, &roster()).map(drop), Err(Dropped::Malformed));
        prop_assert_eq!(filter(&octets, header.src.site, other, &roster()).map(drop), Err(Dropped::Malformed));
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..120)) {
        let (fra, nrt) = (SiteName::new("fra").unwrap(), SiteName::new("nrt").unwrap());
        let _ = filter(&noise, fra, nrt, &roster());
    }
}

#[test]
fn a_later_start_is_the_site() {
    let instance = |start| Instance {
        site: SiteName::new("fra").unwrap(),
        start,
        address: ([127, 0, 0, 1], 1).into(),
    };
    assert!(instance(2).win_addr_conflict(&instance(1)) && !instance(1).win_addr_conflict(&instance(2)));
    assert_eq!(instance(2).renew(), Some(instance(3)));
    assert_eq!(instance(u64::MAX).renew(), None);
}
