//! The endpoint over UDP: an answer as long as the question.

use std::io;
use std::net::SocketAddr;

use steer_labs::datagram;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::behave::Behaviour;

/// Answers for as long as it is polled. A behaviour that a datagram cannot have is silence.
pub(super) async fn serve(
    listen: SocketAddr,
    name: &str,
    behaviour: watch::Receiver<Behaviour>,
) -> io::Result<()> {
    let socket = UdpSocket::bind(listen).await?;
    let mut buffer = [0; 2 * datagram::LENGTH];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An ICMP error about an answer of ours says nothing about the next question.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let question = buffer.get(..length).unwrap_or_default();
        let Some(answer) = datagram::answer(question, name) else {
            continue;
        };
        let now = *behaviour.borrow();
        match now {
            Behaviour::Well => {}
            Behaviour::Slow(time) => tokio::time::sleep(time).await,
            Behaviour::Error | Behaviour::Refuse | Behaviour::Reset | Behaviour::HalfOpen => continue,
        }
        if let Err(error) = socket.send_to(&answer, from).await {
            eprintln!("cannot answer {from}: {error}");
        }
    }
}
