//! One response of HTTP/1.1, read as its octets come (RFC 9112): no socket. httparse reads the lines, we the frames.

use super::Asked;

/// So much of a body is looked at; a longer one is cut.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// Each probe reads a head; more than this of it, or of a line within the body, is not what a health page has.
const HEAD_MAX: usize = 16 * 1024;

/// More fields than this are not what a health page has either.
const FIELDS_MAX: usize = 100;

/// What is known of a response so far.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    asked: Asked<'a>,
    state: State,
    /// What came and is not yet a whole line or head.
    carry: Vec<u8>,
    head: Head,
    body: Vec<u8>,
    /// Something came that is no part of it, or not all of it was read.
    untidy: bool,
}

/// The status line and what we want of the fields.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The values of the field that is asked for.
    pub(super) values: Vec<String>,
    /// The server means to keep the connection.
    persistent: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many octets of the body.
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

/// What a step made of the octets at hand.
enum Step {
    Took(usize),
    NeedsMore,
}

/// It is no HTTP, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

impl From<httparse::Error> for Malformed {
    fn from(error: httparse::Error) -> Self {
        Self(error.to_string())
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(asked: Asked<'a>) -> Self {
        Self {
            asked,
            state: State::Head,
            carry: Vec::new(),
            head: Head::default(),
            body: Vec::new(),
            untidy: false,
        }
    }

    /// Takes what came; true when all is there that is asked for.
    pub(super) fn feed(&mut self, octets: &[u8]) -> Result<bool, Malformed> {
        let joined;
        let mut rest = octets;
        if !self.carry.is_empty() {
            let mut carried = std::mem::take(&mut self.carry);
            carried.extend_from_slice(octets);
            joined = carried;
            rest = &joined;
        }
        while self.state != State::Done {
            match self.step(rest)? {
                Step::Took(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Step::NeedsMore if rest.len() > HEAD_MAX => {
                    return Err(Malformed(format!(
                        "a head or line of more than {HEAD_MAX} octets"
                    )));
                }
                Step::NeedsMore => {
                    self.carry = rest.to_vec();
                    return Ok(false);
                }
            }
        }
        self.untidy |= !rest.is_empty();
        Ok(true)
    }

    /// The server closed the connection; true where that is how a body ends.
    pub(super) fn ends(&mut self) -> bool {
        self.untidy = true;
        matches!(self.state, State::UntilClose | State::Done)
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// As much as was read of it.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The connection can carry another request.
    pub(super) fn leaves_it_open(&self) -> bool {
        self.state == State::Done && self.head.persistent && !self.untidy
    }

    fn step(&mut self, octets: &[u8]) -> Result<Step, Malformed> {
        match self.state {
            State::Head => self.read_head(octets),
            State::Length(left) => Ok(self.take_body(octets, left, State::Length, State::Done)),
            State::ChunkSize => match httparse::parse_chunk_size(octets) {
                Ok(httparse::Status::Complete((taken, size))) => {
                    self.state = match size {
                        0 => State::Trailers,
                        size => State::Chunk(size),
                    };
                    Ok(Step::Took(taken))
                }
                Ok(httparse::Status::Partial) => Ok(Step::NeedsMore),
                Err(error) => Err(Malformed(error.to_string())),
            },
            State::Chunk(left) => Ok(self.take_body(octets, left, State::Chunk, State::ChunkEnd)),
            State::ChunkEnd => match octets {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Ok(Step::Took(2))
                }
                [] | [b'\r'] => Ok(Step::NeedsMore),
                [..] => Err(Malformed("a chunk that is longer than it says".to_owned())),
            },
            State::Trailers => {
                let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
                match httparse::parse_headers(octets, &mut fields)? {
                    httparse::Status::Complete((taken, _)) => {
                        self.state = State::Done;
                        Ok(Step::Took(taken))
                    }
                    httparse::Status::Partial => Ok(Step::NeedsMore),
                }
            }
            State::UntilClose if octets.is_empty() => Ok(Step::NeedsMore),
            State::UntilClose => {
                let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
                Ok(self.take_body(octets, length, |_| State::UntilClose, State::UntilClose))
            }
            State::Done => Ok(Step::Took(0)),
        }
    }

    fn read_head(&mut self, octets: &[u8]) -> Result<Step, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(taken) = response.parse(octets)? else {
            return Ok(Step::NeedsMore);
        };
        let status = response.code.unwrap_or_default();
        // RFC 9110 §15.2: interim responses come before the final one.
        if (100..200).contains(&status) && status != 101 {
            return Ok(Step::Took(taken));
        }
        let fields = Fields(response.headers);
        self.head = Head {
            status,
            values: self
                .asked
                .field
                .map_or_else(Vec::new, |name| fields.all(name).map(text).collect()),
            persistent: match response.version {
                Some(0) => fields.lists("connection", "keep-alive"),
                Some(_) | None => !fields.lists("connection", "close"),
            },
        };
        self.state = if self.asked.body {
            fields.framing(status)?
        } else {
            self.untidy = true;
            State::Done
        };
        Ok(Step::Took(taken))
    }

    /// Up to `left` octets of the body. What is longer than anybody looks at ends there.
    fn take_body(&mut self, octets: &[u8], left: u64, more: impl Fn(u64) -> State, end: State) -> Step {
        if octets.is_empty() && left > 0 {
            return Step::NeedsMore;
        }
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(octets.len());
        let part = octets.get(..here).unwrap_or_default();
        let room = BODY_MAX - self.body.len();
        self.body.extend_from_slice(part.get(..room).unwrap_or(part));
        let left = left - here as u64;
        self.state = if part.len() > room {
            self.untidy = true;
            State::Done
        } else if left == 0 {
            end
        } else {
            more(left)
        };
        Step::Took(here)
    }
}

/// The fields of a head.
struct Fields<'f>(&'f [httparse::Header<'f>]);

impl<'f> Fields<'f> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'f [u8]> {
        let of = self
            .0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name));
        of.map(|field| field.value)
    }

    /// Whether a comma-separated list has a word.
    fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|octet| *octet == b','))
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// RFC 9112 §6.3.
    fn framing(&self, status: u16) -> Result<State, Malformed> {
        if matches!(status, 101 | 204 | 304) {
            return Ok(State::Done);
        }
        if let Some(last) = self.all("transfer-encoding").last() {
            let last = last.rsplit(|octet| *octet == b',').next().unwrap_or_default();
            return Ok(if last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                State::ChunkSize
            } else {
                State::UntilClose
            });
        }
        let mut lengths = self.all("content-length");
        let Some(first) = lengths.next() else {
            return Ok(State::UntilClose);
        };
        let wrong = || Malformed(format!("Content-Length {:?}", text(first)));
        let digits = std::str::from_utf8(first).map_err(|_| wrong())?.trim();
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number || lengths.any(|other| other != first) {
            return Err(wrong());
        }
        match digits.parse() {
            Ok(0) => Ok(State::Done),
            Ok(length) => Ok(State::Length(length)),
            Err(_too_long) => Err(wrong()),
        }
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[cfg(test)]
mod tests;
