//! The router's forwarding: the kernel tells each change of the route to the prefix.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::{Seen, Timeline, now};

/// Runs in the router's namespace until the timeline is stopped. `prefix` has its address and length.
pub(crate) fn watch(prefix: (IpAddr, u8), timeline: &Timeline) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, _handle, mut messages) = new_multicast_connection(&[MulticastGroup::Ipv4Route])?;
        tokio::spawn(connection);
        while !timeline.stopped() {
            let next = tokio::time::timeout(Duration::from_millis(100), messages.next()).await;
            let Ok(Some((message, _))) = next else { continue };
            let at = now();
            if let NetlinkPayload::InnerMessage(inner) = message.payload
                && let Some(gateway) = change(&inner, prefix)
            {
                timeline.push(at, Seen::Routed { gateway });
            }
        }
        Ok(())
    })
}

/// The new gateway when the message is about the prefix; inside, `None` when the route is gone.
fn change(message: &RouteNetlinkMessage, prefix: (IpAddr, u8)) -> Option<Option<IpAddr>> {
    if let RouteNetlinkMessage::NewRoute(route) = message {
        return is_about(route, prefix).then(|| gateway(route));
    }
    if let RouteNetlinkMessage::DelRoute(route) = message {
        return is_about(route, prefix).then_some(None);
    }
    None
}

fn is_about(route: &RouteMessage, (address, length): (IpAddr, u8)) -> bool {
    route.header.destination_prefix_length == length
        && route
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, RouteAttribute::Destination(to) if ip(to) == Some(address)))
}

fn gateway(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Gateway(gateway) = attribute {
            ip(gateway)
        } else {
            None
        }
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = address {
        return Some(IpAddr::V4(*v4));
    }
    if let RouteAddress::Inet6(v6) = address {
        return Some(IpAddr::V6(*v6));
    }
    None
}
