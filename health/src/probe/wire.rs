//! A TCP connection that is held for its end alone. We send nothing on it but keep-alives.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::dial::Dial;
use crate::tripwire::Cut;

/// A machine that went away in silence never ends its connections. With these the kernel gives up after 25 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// A banner is fine; an endpoint that says more than this without being asked is no good to hold.
const HEARD_MAX: usize = 16 * 1024;

pub(super) async fn dial(dial: &Dial) -> io::Result<TcpStream> {
    let stream = dial.connect().await?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
    Ok(stream)
}

/// Reads, and drops what it reads, until the connection ends.
pub(super) async fn hold(stream: TcpStream) -> Cut {
    let mut heard = 0;
    let mut bytes = [0; 512];
    while heard < HEARD_MAX {
        if let Err(error) = stream.readable().await {
            return of_error(&error);
        }
        match stream.try_read(&mut bytes) {
            Ok(0) => return Cut::Closed,
            Ok(length) => heard += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return of_error(&error),
        }
    }
    Cut::Failed
}

fn of_error(error: &io::Error) -> Cut {
    if error.kind() == io::ErrorKind::ConnectionReset {
        Cut::Reset
    } else {
        Cut::Failed
    }
}
