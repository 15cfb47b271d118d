//! Datagrams with how long they lay in the socket: the kernel stamps each when it comes (SO_TIMESTAMPNS).
//!
//! A process that stood still finds what came meanwhile in its socket, and must not take it for what is said now.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    /// Octets of it that fit into the buffer.
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    pub(super) waited: Duration,
}

/// From now on what comes is stamped.
pub(super) fn stamp(udp: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(udp, ReceiveTimestampns, &true)?)
}

/// The next datagram.
pub(super) async fn receive(udp: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    udp.async_io(Interest::READABLE, || read(udp, buffer)).await
}

/// The same, if it is there.
pub(super) fn try_receive(udp: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    udp.try_io(Interest::READABLE, || read(udp, buffer))
}

fn read(udp: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(TimeSpec);
    let message = recvmsg::<SockaddrStorage>(
        udp.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let stamp = message.cmsgs()?.find_map(|control| {
        if let ControlMessageOwned::ScmTimestampns(stamp) = control {
            Some(Duration::from(stamp))
        } else {
            None
        }
    });
    let from = message.address.as_ref().and_then(address);
    Ok(Received {
        length: message.bytes,
        from: from.ok_or_else(|| io::Error::other("a datagram without an address"))?,
        waited: stamp.map_or(Duration::ZERO, since),
    })
}

/// By the clock of the day, which the kernel stamps with: after a step forward what waits seems older, once.
fn since(stamp: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(stamp)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| {
        let v6 = storage.as_sockaddr_in6()?;
        Some(std::net::SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel begins to stamp what comes only some time after the first socket of the host wants it.
    async fn until_stamped(from: &UdpSocket, to: &UdpSocket) {
        let (lay, mut buffer) = (Duration::from_millis(5), [0; 16]);
        for _ in 0..1_000 {
            from.send_to(b"is it?", to.local_addr().unwrap()).await.unwrap();
            tokio::time::sleep(lay).await;
            if receive(to, &mut buffer).await.unwrap().waited >= lay {
                return;
            }
        }
        panic!("nothing is stamped when it comes");
    }

    #[tokio::test]
    async fn a_datagram_tells_who_sent_it_and_how_long_it_lay_in_the_socket() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let (to, from) = (
                UdpSocket::bind(host).await.unwrap(),
                UdpSocket::bind(host).await.unwrap(),
            );
            stamp(&to).unwrap();
            until_stamped(&from, &to).await;
            let at = to.local_addr().unwrap();
            from.send_to(b"early", at).await.unwrap();
            let lay = Duration::from_millis(80);
            tokio::time::sleep(lay).await; // what is measured
            from.send_to(b"now", at).await.unwrap();
            let mut buffer = [0; 16];
            let early = receive(&to, &mut buffer).await.unwrap();
            assert_eq!(&buffer[..early.length], b"early");
            assert_eq!(early.from, from.local_addr().unwrap());
            assert!(early.waited >= lay, "{early:?}");
            let now = receive(&to, &mut buffer).await.unwrap();
            assert_eq!(&buffer[..now.length], b"now");
            assert!(now.waited + lay / 2 < early.waited, "{now:?} {early:?}");
            let empty = try_receive(&to, &mut buffer).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
