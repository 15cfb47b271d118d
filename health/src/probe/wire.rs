//! What is held for its end alone: a connection, a call that watches, a process of this machine.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steer_topology::{Check, Endpoint};
use tokio::net::TcpStream;

use super::dial::{Dial, Manner};
use super::process::Process;
use super::watch::Watch;
use super::{Progress, Target};
use crate::outcome::{Outcome, Void};
use crate::tripwire::Cut;

/// A banner is fine; an endpoint that says more than this without being asked is no good to hold.
const HEARD_MAX: usize = 16 * 1024;

/// What is to be held to one endpoint.
#[derive(Debug)]
pub(super) struct Plan {
    dial: Dial,
    connection: bool,
    process: Option<PathBuf>,
    /// It was told that there is no such process.
    told: AtomicBool,
}

/// What is held. The first to end ends it.
#[derive(Debug)]
pub(crate) struct Wire {
    connection: Option<Held>,
    process: Option<Process>,
}

#[derive(Debug)]
enum Held {
    Tcp(TcpStream),
    Watch(Box<Watch>),
}

impl Plan {
    pub(super) fn new(check: Option<&Check>, endpoint: &Endpoint) -> Self {
        Self {
            dial: Dial::new(check, endpoint),
            connection: check.is_some_and(|check| check.tripwire),
            process: check.and_then(|check| check.process.clone()),
            told: AtomicBool::new(false),
        }
    }

    /// Takes hold of all of it. A process that is not there leaves the connection.
    pub(super) async fn dial(&self, target: Option<&Target>, timeout: Duration) -> Result<Wire, Outcome> {
        let process = match &self.process {
            Some(file) if is_of_this_machine(self.dial.address) => match Process::of(file).await {
                Ok(process) => Some(process),
                Err(why) if self.connection => {
                    self.tell(&why);
                    None
                }
                Err(why) => {
                    self.tell(&why);
                    return Err(Outcome::Void(Void::Local(why)));
                }
            },
            Some(_) if !self.connection => {
                return Err(Outcome::Void(Void::Local(
                    "it runs on another machine".to_owned(),
                )));
            }
            Some(_) | None => None,
        };
        let connection = match self.connection {
            true => Some(self.connect(target, timeout).await?),
            false => None,
        };
        Ok(Wire { connection, process })
    }

    async fn connect(&self, target: Option<&Target>, timeout: Duration) -> Result<Held, Outcome> {
        let manner = match target {
            Some(Target::Grpc(_)) => Manner::Often,
            Some(_) | None => Manner::Silent,
        };
        let stream = self.dial.with(manner).connect_to_hold().await;
        let stream = stream.map_err(|error| Outcome::of_io_error(&error, timeout))?;
        match target {
            Some(Target::Grpc(grpc)) => {
                let watch = grpc.watch(stream, timeout, &Progress::default()).await?;
                Ok(Held::Watch(Box::new(watch)))
            }
            Some(_) | None => Ok(Held::Tcp(stream)),
        }
    }

    fn tell(&self, why: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(endpoint = %self.dial.address, why, "the exit of its process will not be seen");
        }
    }
}

/// Whether a socket here can have the address.
fn is_of_this_machine(address: SocketAddr) -> bool {
    UdpSocket::bind((address.ip(), 0)).is_ok()
}

/// Returns when it has ended.
pub(super) async fn hold(wire: Wire) -> Cut {
    let Wire { connection, process } = wire;
    let connection = async {
        match connection {
            Some(Held::Tcp(stream)) => listen(stream).await,
            Some(Held::Watch(watch)) => watch.hold().await,
            None => pending().await,
        }
    };
    let process = async {
        match process {
            Some(process) => process.ends().await,
            None => pending().await,
        }
    };
    // The kernel closes what a process had open before it tells of its exit, which says more.
    tokio::select! {
        biased;
        cut = process => cut,
        cut = connection => cut,
    }
}

/// Reads, and drops what it reads, until the connection ends. We send nothing on it but keep-alives.
async fn listen(stream: TcpStream) -> Cut {
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

pub(super) fn of_error(error: &io::Error) -> Cut {
    if error.kind() == io::ErrorKind::ConnectionReset {
        Cut::Reset
    } else {
        Cut::Failed
    }
}
