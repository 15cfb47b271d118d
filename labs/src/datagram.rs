//! What `steer endpoint` and the clients of labs say to each other beside HTTP: one datagram each way.
//!
//! ```text
//! 0       4               12              64
//! +-------+---------------+---------------+
//! | "ask?"| number        | zeros         |   the question
//! | "here"| the same      | name, zeros   |   the answer: as long, so it amplifies nothing
//! +-------+---------------+---------------+
//! ```
//!
//! An answer is no question, so two endpoints never talk to each other.

/// Octets of both.
pub const LENGTH: usize = 64;

/// Header of a gRPC answer that says who gave it.
pub const SITE_HEADER: &str = "lab-site";

const ASK: &[u8; 4] = b"ask?";
const HERE: &[u8; 4] = b"here";
const HEAD: usize = 12;

/// A question with this number.
#[must_use]
pub fn question(number: u64) -> [u8; LENGTH] {
    datagram(ASK, number.to_be_bytes(), b"")
}

/// What `name` answers; `None` to what is no question. A name is cut to what there is room for.
#[must_use]
pub fn answer(question: &[u8], name: &str) -> Option<[u8; LENGTH]> {
    let (kind, rest) = question.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<8>()?;
    (kind == ASK && question.len() == LENGTH).then(|| datagram(HERE, *number, name.as_bytes()))
}

/// Who answered the question with this number.
#[must_use]
pub fn answered(datagram: &[u8], number: u64) -> Option<String> {
    let (head, name) = datagram.split_at_checked(HEAD)?;
    let (kind, of) = head.split_at(4);
    if datagram.len() != LENGTH || kind != HERE || of != number.to_be_bytes() {
        return None;
    }
    let name = name.split(|octet| *octet == 0).next().unwrap_or_default();
    String::from_utf8(name.to_vec()).ok()
}

fn datagram(kind: &[u8; 4], number: [u8; 8], name: &[u8]) -> [u8; LENGTH] {
    let mut all = [0; LENGTH];
    let octets = kind.iter().chain(&number).chain(name);
    for (to, from) in all.iter_mut().zip(octets) {
        *to = *from;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_who_gave_it_and_to_which_question() {
        let said = answer(&question(7), "fra").unwrap();
        assert_eq!(answered(&said, 7).as_deref(), Some("fra"));
        assert_eq!(answered(&said, 8), None);
    }

    #[test]
    fn an_answer_is_not_answered_and_nothing_else_is() {
        let said = answer(&question(7), "fra").unwrap();
        assert_eq!(answer(&said, "iad"), None);
        assert_eq!(answer(b"ask?", "iad"), None);
        assert_eq!(answer(&question(7)[..63], "iad"), None);
        assert_eq!(answer(&[], "iad"), None);
        assert_eq!(answered(&said[..63], 7), None);
    }

    #[test]
    fn a_long_name_is_cut_and_the_answer_is_no_longer_than_the_question() {
        let name = "x".repeat(200);
        let said = answer(&question(1), &name).unwrap();
        assert_eq!(said.len(), question(1).len());
        assert_eq!(answered(&said, 1).unwrap().len(), LENGTH - HEAD);
    }
}
