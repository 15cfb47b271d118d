//! An endpoint that misbehaves as a file says: what labs break without killing anything.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Connections that are held without an answer; the oldest goes when one more comes.
const HELD_MAX: usize = 4096;

/// How it answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// 200 and the name.
    #[default]
    Well,
    /// 500.
    Error,
    /// 200, after a while.
    Slow(Duration),
    /// Nobody listens; new connections are refused. Those that stand go on.
    Refuse,
    /// New connections are accepted and end by RST.
    Reset,
    /// New connections are accepted, and then nothing: no answer, no end.
    HalfOpen,
}

impl Behaviour {
    /// One of `well`, `500`, `slow 300ms`, `refuse`, `reset`, `half-open`.
    fn parse(text: &str) -> Result<Self, String> {
        let slow = |text: &str| {
            text.strip_prefix("slow ")?
                .strip_suffix("ms")?
                .trim()
                .parse()
                .ok()
        };
        match text.trim() {
            "well" => Ok(Self::Well),
            "500" => Ok(Self::Error),
            "refuse" => Ok(Self::Refuse),
            "reset" => Ok(Self::Reset),
            "half-open" => Ok(Self::HalfOpen),
            other => match slow(other) {
                Some(ms) => Ok(Self::Slow(Duration::from_millis(ms))),
                None => Err(format!(
                    "`{other}` is none of well, 500, slow NUMBERms, refuse, reset, half-open"
                )),
            },
        }
    }
}

/// Follows the file for as long as the process runs. Without file it behaves well; a word that is none is said on
/// stderr and changes nothing.
pub(super) fn follow(file: PathBuf) -> watch::Receiver<Behaviour> {
    let (tell, told) = watch::channel(read(&file).unwrap_or_default());
    tokio::spawn(async move {
        let mut wrong = String::new();
        while !tell.is_closed() {
            tokio::time::sleep(LOOK).await;
            match read(&file) {
                Ok(now) => {
                    tell.send_if_modified(|was| std::mem::replace(was, now) != now);
                }
                Err(error) if error != wrong => {
                    eprintln!("{}: {error}", file.display());
                    wrong = error;
                }
                Err(_) => {}
            }
        }
    });
    told
}

fn read(file: &Path) -> Result<Behaviour, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Behaviour::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Behaviour::Well),
        Err(error) => Err(error.to_string()),
    }
}

/// A listener that is there, or not, as the behaviour says.
pub(super) struct Listener<B> {
    bind: B,
    /// `None` while connections are refused.
    listener: Option<TcpListener>,
    behaviour: watch::Receiver<Behaviour>,
    held: Vec<TcpStream>,
}

impl<B: Fn() -> io::Result<TcpListener>> Listener<B> {
    pub(super) fn new(bind: B, behaviour: watch::Receiver<Behaviour>) -> io::Result<Self> {
        let listener = Some(bind()?);
        Ok(Self {
            bind,
            listener,
            behaviour,
            held: Vec::new(),
        })
    }

    /// The next connection that gets an answer.
    async fn next(&mut self) -> io::Result<(TcpStream, std::net::SocketAddr)> {
        loop {
            let now = *self.behaviour.borrow_and_update();
            if now != Behaviour::HalfOpen {
                self.held.clear();
            }
            if now == Behaviour::Refuse {
                self.listener = None;
                // An error means that nobody follows the file any more: the process ends.
                if self.behaviour.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => (self.bind)()?,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => Some(accepted),
                _ = self.behaviour.changed() => None,
            };
            self.listener = Some(listener);
            let Some(accepted) = accepted else { continue };
            let (stream, from) = accepted?;
            match now {
                Behaviour::Well | Behaviour::Error | Behaviour::Slow(_) => return Ok((stream, from)),
                Behaviour::Reset => stream.set_zero_linger()?,
                Behaviour::HalfOpen => {
                    if self.held.len() >= HELD_MAX {
                        self.held.remove(0);
                    }
                    self.held.push(stream);
                }
                Behaviour::Refuse => {}
            }
        }
    }
}

impl<B: Fn() -> io::Result<TcpListener> + Send + 'static> axum::serve::Listener for Listener<B> {
    type Io = TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.next().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // Out of descriptors, or the port is taken meanwhile: again in a moment.
                    eprintln!("cannot accept: {error}");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        match &self.listener {
            Some(listener) => listener.local_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_is_read_from_its_words() {
        for (text, want) in [
            ("well\n", Behaviour::Well),
            ("500", Behaviour::Error),
            ("slow 300ms\n", Behaviour::Slow(Duration::from_millis(300))),
            ("refuse", Behaviour::Refuse),
            ("reset", Behaviour::Reset),
            ("half-open", Behaviour::HalfOpen),
        ] {
            assert_eq!(Behaviour::parse(text), Ok(want));
        }
        assert!(Behaviour::parse("slow").unwrap_err().contains("none of"));
    }

    /// What one request sees.
    async fn ask(address: std::net::SocketAddr) -> Result<String, io::ErrorKind> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let ask = async {
            let mut stream = TcpStream::connect(address).await?;
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, io::Error>(text.lines().next().unwrap_or_default().to_owned())
        };
        let seen = tokio::time::timeout(Duration::from_millis(500), ask).await;
        seen.map_or(Err(io::ErrorKind::TimedOut), |seen| seen.map_err(|e| e.kind()))
    }

    /// Asks until this is seen: the listener hears of a behaviour a moment later.
    async fn sees(address: std::net::SocketAddr, want: &Result<String, io::ErrorKind>) {
        let asked = async {
            while ask(address).await != *want {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        if tokio::time::timeout(limit, asked).await.is_err() {
            panic!("not {want:?} but {:?}", ask(address).await);
        }
    }

    #[tokio::test]
    async fn each_behaviour_is_what_its_name_says_and_ends_with_the_next() {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        drop(bound);
        let (tell, told) = watch::channel(Behaviour::Well);
        let listener = Listener::new(move || super::super::bind(address), told.clone()).unwrap();
        let app = super::super::app("fra\n".into(), told);
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let well = Ok("HTTP/1.1 200 OK".to_owned());
        for (behaviour, want) in [
            (
                Behaviour::Error,
                Ok("HTTP/1.1 500 Internal Server Error".to_owned()),
            ),
            (
                Behaviour::Slow(Duration::from_secs(2)),
                Err(io::ErrorKind::TimedOut),
            ),
            (Behaviour::HalfOpen, Err(io::ErrorKind::TimedOut)),
            (Behaviour::Refuse, Err(io::ErrorKind::ConnectionRefused)),
            (Behaviour::Reset, Err(io::ErrorKind::ConnectionReset)),
        ] {
            sees(address, &well).await;
            tell.send(behaviour).unwrap();
            sees(address, &want).await;
            tell.send(Behaviour::Well).unwrap();
        }
        sees(address, &well).await;
        server.abort();
    }
}
