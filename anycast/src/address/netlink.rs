//! Addresses by rtnetlink: read them all, add one, remove one, hear of changes.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::{Error, Handle, MulticastGroup, new_connection, new_multicast_connection};
use steer_topology::Bind;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The kernel answers in microseconds; longer, and the answer was lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

const EPERM: i32 = 1;
const ENODEV: i32 = 19;

/// A socket for requests alone, so that no storm of changes can push an answer out.
pub(super) struct Link {
    handle: Handle,
    _connection: JoinSet<()>,
}

impl Link {
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        let mut task = JoinSet::new();
        task.spawn(connection);
        Ok(Self {
            handle,
            _connection: task,
        })
    }

    /// Every address that can be used: none that is still examined or was found to be a duplicate.
    pub(super) async fn addresses(&self) -> io::Result<BTreeSet<IpAddr>> {
        let all = self.handle.address().get().execute();
        let usable = all.try_filter_map(async |message| Ok(usable(&message)));
        answer(usable.try_collect()).await.map_err(|error| to_io(&error))
    }

    /// Puts the address on as a host prefix; one that is there already is fine.
    pub(super) async fn add(&self, bind: &Bind) -> Result<(), String> {
        let doing = || format!("cannot put {} on {}", bind.address, bind.interface);
        let index = self.index(&bind.interface).await;
        let index = index.map_err(|error| explain(&doing(), &error))?;
        let mut request = self
            .handle
            .address()
            .add(index, bind.address, host_length(bind.address));
        if bind.address.is_ipv6() {
            // RFC 4862 §5.4 would keep it unusable for a second, and other sites have it too.
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        match answer(request.execute()).await {
            Err(error) if !self.has(bind.address).await => Err(explain(&doing(), &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes the address off; one that is not there, on an interface that may not be there, is fine.
    pub(super) async fn remove(&self, bind: &Bind) -> Result<(), String> {
        let doing = || format!("cannot take {} off {}", bind.address, bind.interface);
        let index = match self.index(&bind.interface).await {
            Ok(index) => index,
            Err(error) if code(&error) == Some(ENODEV) => return Ok(()),
            Err(error) => return Err(explain(&doing(), &error)),
        };
        let address = self.handle.address();
        let mut same = address.add(index, bind.address, host_length(bind.address));
        let request = address.del(same.message_mut().clone());
        match answer(request.execute()).await {
            Err(error) if self.has(bind.address).await => Err(explain(&doing(), &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Decides after a failure: without the right to change anything the kernel does not even say that there is
    /// nothing to change, and an answer may be lost.
    async fn has(&self, address: IpAddr) -> bool {
        self.addresses().await.is_ok_and(|all| all.contains(&address))
    }

    async fn index(&self, interface: &str) -> Result<u32, Error> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(interface.to_owned())
            .execute();
        let link = answer(links.try_next()).await?;
        link.map(|link| link.header.index).ok_or(Error::RequestFailed)
    }
}

/// Hears that some address changed.
pub(super) struct Watch {
    messages: Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>,
    _connection: JoinSet<()>,
}

impl Watch {
    pub(super) fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, _, messages) = new_multicast_connection(&groups)?;
        let mut task = JoinSet::new();
        task.spawn(connection);
        Ok(Self {
            messages: Box::new(messages.map(|(message, _)| message)),
            _connection: task,
        })
    }

    /// Returns after one change or several; also when the kernel has dropped some.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        if self.messages.next().await.is_none() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "netlink closed"));
        }
        while let Some(Some(_)) = self.messages.next().now_or_never() {}
        Ok(())
    }
}

async fn answer<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER_LIMIT, request)
        .await
        .unwrap_or(Err(Error::RequestFailed))
}

fn usable(message: &AddressMessage) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Flags(flags) = attribute
            && flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
        {
            return None;
        }
        if let AddressAttribute::Local(ip) = attribute {
            local = Some(*ip); // of a point-to-point link, where the other one is the peer's
        }
        if let AddressAttribute::Address(ip) = attribute {
            address = Some(*ip);
        }
    }
    local.or(address)
}

fn host_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn code(error: &Error) -> Option<i32> {
    if let Error::NetlinkError(message) = error {
        return message.code.map(|code| code.get().saturating_neg());
    }
    None
}

fn to_io(error: &Error) -> io::Error {
    code(error).map_or_else(
        || io::Error::other(error.to_string()),
        io::Error::from_raw_os_error,
    )
}

fn explain(doing: &str, error: &Error) -> String {
    match code(error) {
        Some(EPERM) => format!("{doing}: steer lacks the capability CAP_NET_ADMIN"),
        Some(ENODEV) => format!("{doing}: there is no such interface"),
        Some(_) | None => format!("{doing}: {}", to_io(error)),
    }
}
