//! The router's table: what BIRD says of the prefix, asked again and again on its control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Seen, Timeline, now};

/// Between two questions. A step that is shorter than this may be missed.
const PAUSE: Duration = Duration::from_millis(5);

/// The route that one protocol brought, as the router keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Whether it is the one that forwards.
    pub(crate) best: bool,
    pub(crate) path: String,
    pub(crate) communities: String,
    pub(crate) local_pref: String,
}

/// Follows the route of `protocol` to `prefix` until the timeline is stopped. BIRD may come and go.
pub(crate) fn watch(socket: &Path, protocol: &str, prefix: &str, timeline: &Timeline) -> io::Result<()> {
    let mut last = None;
    while !timeline.stopped() {
        if let Ok(mut bird) = Bird::connect(socket) {
            while !timeline.stopped()
                && let Ok(lines) = bird.ask(&format!("show route for {prefix} all"))
            {
                let at = now();
                let route = route(&lines, protocol);
                if last.as_ref() != Some(&route) {
                    timeline.push(at, Seen::Table { near: route.clone() });
                    last = Some(route);
                }
                std::thread::sleep(PAUSE);
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether BIRD's BFD session with `peer` is up; what it says otherwise.
pub(crate) fn bfd_is_up(socket: &Path, peer: Ipv4Addr) -> Result<(), String> {
    let lines = Bird::connect(socket).and_then(|mut bird| bird.ask("show bfd sessions"));
    let lines = lines.map_err(|error| format!("BIRD's control socket: {error}"))?;
    let peer = peer.to_string();
    let session = lines
        .iter()
        .find(|line| line.split_whitespace().next() == Some(&peer));
    match session.and_then(|line| line.split_whitespace().nth(2)) {
        Some("Up") => Ok(()),
        Some(state) => Err(format!("the BFD session with {peer} is {state}")),
        None => Err(format!("there is no BFD session with {peer}")),
    }
}

/// A connection to BIRD's control socket.
struct Bird(BufReader<UnixStream>);

impl Bird {
    fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut bird = Self(BufReader::new(stream));
        bird.answer()?; // the greeting
        Ok(bird)
    }

    fn ask(&mut self, question: &str) -> io::Result<Vec<String>> {
        writeln!(self.0.get_mut(), "{question}")?;
        self.answer()
    }

    /// Lines up to the one whose code is followed by a space; without the codes.
    fn answer(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            let (text, last) = match line.strip_prefix(' ') {
                Some(more) => (more, false),
                None => (
                    line.get(5..).unwrap_or_default(),
                    line.as_bytes().get(4) != Some(&b'-'),
                ),
            };
            lines.push(text.to_owned());
            if last {
                return Ok(lines);
            }
        }
    }
}

/// The route of `protocol` in the answer to `show route .. all`.
fn route(lines: &[String], protocol: &str) -> Option<Route> {
    let head = format!("[{protocol} ");
    let start = lines.iter().position(|line| line.contains(&head))?;
    let mut route = Route {
        best: lines.get(start)?.contains("] * "),
        ..Route::default()
    };
    for line in lines.iter().skip(start + 1).map(|line| line.trim()) {
        if line.contains(" [") && line.contains("] ") && !line.starts_with("BGP.") {
            break; // the next route
        }
        let places = [
            ("BGP.as_path: ", &mut route.path),
            ("BGP.community: ", &mut route.communities),
            ("BGP.local_pref: ", &mut route.local_pref),
        ];
        for (key, place) in places {
            if let Some(value) = line.strip_prefix(key) {
                value.clone_into(place);
            }
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_of_one_protocol_is_read_out_of_the_answer() {
        let text = "Table master4:\n\
            192.0.2.53/32        unicast [nrt 2026-11-25 10:00:00.000000] * (100) [AS64512i]\n\
            \tvia 203.0.113.66 on eth4\n\
            \tType: BGP univ\n\
            \tBGP.origin: IGP\n\
            \tBGP.as_path: 64512 64512 64512\n\
            \tBGP.local_pref: 100\n\
            \x20                    unicast [fra 2026-11-25 10:00:01.000000] (100) [AS64512i]\n\
            \tvia 203.0.113.2 on eth3\n\
            \tType: BGP univ\n\
            \tBGP.origin: IGP\n\
            \tBGP.as_path: 64512\n\
            \tBGP.local_pref: 0\n\
            \tBGP.community: (65535,0)";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let near = route(&lines, "fra").unwrap();
        let want = Route {
            best: false,
            path: "64512".to_owned(),
            communities: "(65535,0)".to_owned(),
            local_pref: "0".to_owned(),
        };
        assert_eq!(near, want);
        let far = route(&lines, "nrt").unwrap();
        assert!(far.best && far.communities.is_empty() && far.local_pref == "100");
        assert_eq!(route(&lines, "jfk"), None);
    }
}
