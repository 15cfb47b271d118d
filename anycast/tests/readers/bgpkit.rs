//! bgpkit-parser, in the process.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what another library may add to its types is not compared"
)]

use bgpkit_parser::models::{
    AsPathSegment, Asn, AsnLength, AttributeValue, BgpMessage, BgpOpenMessage, BgpUpdateMessage,
    CapabilityValue, Community, ExtendedCommunity, NetworkPrefix, Nlri, ParamValue, Safi,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::Bytes;

use super::reading::{OpenReading, Reading, UpdateReading};
use super::sample::Sample;

pub(crate) fn read(sample: &Sample) -> Reading {
    read_octets(Bytes::from(sample.octets.clone()), sample.context.four_octet)
}

pub(crate) fn read_octets(mut octets: Bytes, four_octet: bool) -> Reading {
    let width = match four_octet {
        true => AsnLength::Bits32,
        false => AsnLength::Bits16,
    };
    match parse_bgp_message(&mut octets, false, &width) {
        Ok(BgpMessage::Open(open)) => Reading::Open(read_open(&open)),
        Ok(BgpMessage::Update(update)) => Reading::Update(read_update(&update)),
        Ok(BgpMessage::Notification(notification)) => {
            let (code, subcode) = notification.error.get_codes();
            Reading::Notification { code, subcode }
        }
        Ok(BgpMessage::KeepAlive) => Reading::Keepalive {},
        Ok(BgpMessage::RouteRefresh(refresh)) => Reading::Refresh {
            afi: refresh.afi,
            subtype: refresh.subtype,
            safi: refresh.safi,
        },
        Err(error) => Reading::Refused(error.to_string()),
    }
}

fn read_open(open: &BgpOpenMessage) -> OpenReading {
    let mut reading = OpenReading {
        asn: open.asn.to_u32(),
        hold_time: open.hold_time,
        identifier: open.bgp_identifier.to_string(),
        ..OpenReading::default()
    };
    let capabilities = open
        .opt_params
        .iter()
        .flat_map(|parameter| match &parameter.param_value {
            ParamValue::Capacities(capabilities) => capabilities.as_slice(),
            ParamValue::Raw(_) => &[],
        });
    for capability in capabilities {
        match &capability.value {
            CapabilityValue::MultiprotocolExtensions(one) if one.safi == Safi::Unicast => {
                reading.families.insert(one.afi.into());
            }
            CapabilityValue::RouteRefresh(_) => reading.route_refresh = true,
            CapabilityValue::FourOctetAs(long) => {
                reading.four_octet_as = true;
                reading.asn = long.asn;
            }
            _ => {}
        }
    }
    reading
}

fn read_update(update: &BgpUpdateMessage) -> UpdateReading {
    let mut reading = UpdateReading::default();
    reading
        .withdrawn
        .extend(update.withdrawn_prefixes.iter().map(text));
    for value in &update.attributes {
        match value {
            AttributeValue::Origin(origin) => reading.origin = Some((*origin).into()),
            AttributeValue::AsPath(path) => {
                reading.as_path = path.segments.iter().map(segment).collect();
            }
            AttributeValue::NextHop(next_hop) => {
                let routes = update.announced_prefixes.iter();
                reading
                    .routes
                    .extend(routes.map(|prefix| (text(prefix), next_hop.to_string())));
            }
            AttributeValue::MultiExitDiscriminator(med) => reading.med = Some(*med),
            AttributeValue::LocalPreference(preference) => reading.local_pref = Some(*preference),
            AttributeValue::Communities(communities) => {
                reading.communities = communities.iter().map(community).collect();
            }
            AttributeValue::LargeCommunities(communities) => {
                let numbers = communities.iter().map(|one| {
                    let [first, second] = one.local_data;
                    [one.global_admin, first, second]
                });
                reading.large_communities = numbers.collect();
            }
            AttributeValue::ExtendedCommunities(communities) => {
                reading.extended_communities = communities.iter().map(extended).collect();
            }
            AttributeValue::OnlyToCustomer(asn) => reading.only_to_customer = Some(asn.to_u32()),
            AttributeValue::MpReachNlri(nlri) => reading.routes.extend(reach(nlri)),
            AttributeValue::MpUnreachNlri(nlri) => reading.withdrawn.extend(nlri.prefixes.iter().map(text)),
            _ => {}
        }
    }
    reading
}

fn reach(nlri: &Nlri) -> impl Iterator<Item = (String, String)> {
    let next_hop = nlri.next_hop.map(|next_hop| next_hop.addr().to_string());
    nlri.prefixes
        .iter()
        .map(move |prefix| (text(prefix), next_hop.clone().unwrap_or_default()))
}

/// A path identifier is shown: there is none.
fn text(prefix: &NetworkPrefix) -> String {
    match prefix.path_id {
        None => prefix.prefix.trunc().to_string(),
        Some(id) => format!("{} path {id}", prefix.prefix),
    }
}

fn segment(segment: &AsPathSegment) -> (u8, Vec<u32>) {
    let (kind, asns) = match segment {
        AsPathSegment::AsSet(asns) => (1, asns),
        AsPathSegment::AsSequence(asns) => (2, asns),
        AsPathSegment::ConfedSequence(asns) => (3, asns),
        AsPathSegment::ConfedSet(asns) => (4, asns),
    };
    (kind, asns.iter().map(Asn::to_u32).collect())
}

fn community(community: &Community) -> u32 {
    match community {
        Community::NoExport => 0xffff_ff01,
        Community::NoAdvertise => 0xffff_ff02,
        Community::NoExportSubConfed => 0xffff_ff03,
        Community::Custom(asn, value) => asn.to_u32() << 16 | u32::from(*value),
    }
}

/// The octets of the kind that there is among the samples; of others a mark.
fn extended(community: &ExtendedCommunity) -> [u8; 8] {
    match community {
        ExtendedCommunity::TransitiveTwoOctetAs(one) => {
            let mut octets = [0, one.subtype, 0, 0, 0, 0, 0, 0];
            octets[2..4].copy_from_slice(&one.global_admin.to_u32().to_be_bytes()[2..]);
            octets[4..].copy_from_slice(&one.local_admin);
            octets
        }
        _ => [0xff; 8],
    }
}
