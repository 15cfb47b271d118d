//! Conditions of `while_up`: a small language within a string.
//!
//! ```text
//! any  = all { "or" all }
//! all  = one { "and" one }
//! one  = "not" one | "(" any ")" | N "of" "(" any { "," any } ")" | [ N "of" ] SUBJECT | "address:" IP
//! SUBJECT = ( "pool:" | "check:" ) NAME [ "@local" | "@" SITE ]
//! ```

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::Range;

use toml::Spanned;

use super::context::Context;
use crate::config::sink::Reported;
use crate::{At, CheckId, Condition, Formula, InService, PoolId, Subject};

/// Deeper nesting than this is refused, so that no text can exhaust the stack.
const DEPTH_MAX: usize = 16;

/// Reads one condition of `while_up`.
pub(super) fn condition(cx: &Context<'_, '_>, written: &Spanned<&str>) -> Result<Condition, Reported> {
    read(cx, written, &WHILE_UP)
}

/// Reads the `when` of a calculated check: checks alone, and nowhere in particular.
pub(super) fn formula(cx: &Context<'_, '_>, written: &Spanned<&str>) -> Result<Formula, Reported> {
    let condition = read(cx, written, &WHEN)?;
    of_checks(&condition).ok_or_else(|| WHEN.fault(cx, written, "it may name checks alone, without `@`"))
}

fn of_checks(condition: &Condition) -> Option<Formula> {
    let list = |of: &[Condition]| of.iter().map(of_checks).collect::<Option<Vec<_>>>();
    Some(match condition {
        Condition::InService(InService {
            subject: Subject::Check(check),
            at: At::Anywhere,
            at_least: NonZeroU16::MIN,
        }) => Formula::Check(*check),
        Condition::InService(_) | Condition::Address(_) => return None,
        Condition::All(of) => Formula::All(list(of)?),
        Condition::Any(of) => Formula::AtLeast(1, list(of)?),
        Condition::AtLeast { count, of } => Formula::AtLeast(count.get(), list(of)?),
        Condition::Not(one) => Formula::Not(Box::new(of_checks(one)?)),
    })
}

/// The key that the language stands in.
struct Key {
    name: &'static str,
    remedy: &'static str,
}

const WHILE_UP: Key = Key {
    name: "while_up",
    remedy: "write \"pool:NAME\", \"pool:NAME@local\", \"pool:NAME@SITE\", \"check:NAME@local\", \"address:IP\", \"2 of \
             pool:NAME\", \"2 of (A, B, C)\", and join them by and, or, not and parentheses",
};

const WHEN: Key = Key {
    name: "when",
    remedy: "write \"check:NAME\", \"2 of (check:A, check:B, check:C)\", and join them by and, or, not and parentheses",
};

impl Key {
    fn fault(&self, cx: &Context<'_, '_>, written: &Spanned<&str>, why: &str) -> Reported {
        let (name, text) = (self.name, written.get_ref());
        let message = format!("`{name}` has {text:?}, which is no condition: {why}");
        cx.sink.fault(written.span(), message, self.remedy)
    }
}

fn read(cx: &Context<'_, '_>, written: &Spanned<&str>, key: &Key) -> Result<Condition, Reported> {
    let tokens = tokens(written.get_ref());
    let mut parser = Parser {
        cx,
        written,
        key,
        tokens: &tokens,
        depth: 0,
    };
    let condition = parser.any()?;
    match parser.tokens {
        [] => Ok(condition),
        [rest, ..] => Err(parser.fault(&format!("nothing can follow before {rest:?}"))),
    }
}

/// Words, and the signs `(`, `)` and `,`.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')', ',']) {
            let (before, sign) = rest.split_at(at);
            let (sign, after) = sign.split_at(1);
            tokens.extend((!before.is_empty()).then_some(before));
            tokens.push(sign);
            rest = after;
        }
        tokens.extend((!rest.is_empty()).then_some(rest));
    }
    tokens
}

struct Parser<'a, 't> {
    cx: &'a Context<'a, 'a>,
    written: &'a Spanned<&'a str>,
    key: &'a Key,
    tokens: &'t [&'a str],
    depth: usize,
}

impl<'a> Parser<'a, '_> {
    fn any(&mut self) -> Result<Condition, Reported> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(&format!("it nests deeper than {DEPTH_MAX} levels")));
        }
        let first = self.all()?;
        let list = self.rest_of(first, "or", Self::all)?;
        self.depth -= 1;
        Ok(single(list, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, Reported> {
        let first = self.one()?;
        let list = self.rest_of(first, "and", Self::one)?;
        Ok(single(list, Condition::All))
    }

    fn rest_of(
        &mut self,
        first: Condition,
        word: &str,
        next: fn(&mut Self) -> Result<Condition, Reported>,
    ) -> Result<Vec<Condition>, Reported> {
        let mut list = vec![first];
        while self.take(word) {
            list.push(next(self)?);
        }
        Ok(list)
    }

    fn one(&mut self) -> Result<Condition, Reported> {
        let mut negations = 0_usize;
        while self.take("not") {
            negations += 1;
        }
        let condition = self.positive()?;
        Ok(if negations.is_multiple_of(2) {
            condition
        } else {
            Condition::Not(Box::new(condition))
        })
    }

    fn positive(&mut self) -> Result<Condition, Reported> {
        if self.take("(") {
            let inner = self.any()?;
            self.need(")")?;
            return Ok(inner);
        }
        let Some(word) = self.next() else {
            return Err(self.fault("a condition is missing at its end"));
        };
        if let Ok(count) = word.parse::<u16>() {
            let Some(count) = NonZeroU16::new(count) else {
                return Err(self.fault("0 of anything always holds"));
            };
            self.need("of")?;
            return self.counted(count);
        }
        self.subject(word, NonZeroU16::MIN)
    }

    fn counted(&mut self, count: NonZeroU16) -> Result<Condition, Reported> {
        if !self.take("(") {
            let Some(word) = self.next() else {
                return Err(self.fault("a condition is missing at its end"));
            };
            return self.subject(word, count);
        }
        let mut of = vec![self.any()?];
        while self.take(",") {
            of.push(self.any()?);
        }
        self.need(")")?;
        if usize::from(count.get()) > of.len() {
            return Err(self.fault(&format!("{count} of {} can never hold", of.len())));
        }
        Ok(Condition::AtLeast { count, of })
    }

    fn subject(&self, word: &str, at_least: NonZeroU16) -> Result<Condition, Reported> {
        let Some((kind, rest)) = word.split_once(':') else {
            return Err(self.fault(&format!("{word:?} is none")));
        };
        if kind == "address" {
            return match rest.parse::<IpAddr>() {
                Ok(address) if at_least == NonZeroU16::MIN => Ok(Condition::Address(address)),
                Ok(_) => Err(self.fault("an address is there or not, it is not counted")),
                Err(_) => Err(self.fault(&format!("{rest:?} is no IP address"))),
            };
        }
        let (name, place) = rest
            .split_once('@')
            .map_or((rest, None), |(name, place)| (name, Some(place)));
        let names = match kind {
            "pool" => &self.cx.pools,
            "check" => &self.cx.checks,
            _ => return Err(self.fault(&format!("{word:?} is none"))),
        };
        let found = names.find_text(self.cx.sink, self.span(), name);
        let at = match place {
            None => Ok(At::Anywhere),
            Some("local") => Ok(At::Local),
            Some(site) => self.cx.site_text(self.span(), site).map(At::Site),
        };
        let (found, at) = (found?, at?);
        let subject = match kind {
            "pool" => Subject::Pool(PoolId(found)),
            _ => Subject::Check(CheckId(found)),
        };
        Ok(Condition::InService(InService {
            subject,
            at,
            at_least,
        }))
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.tokens.first() == Some(&word);
        if taken {
            self.tokens = &self.tokens[1..];
        }
        taken
    }

    fn need(&mut self, word: &str) -> Result<(), Reported> {
        if self.take(word) {
            return Ok(());
        }
        let found = self
            .tokens
            .first()
            .map_or("the end".to_owned(), |found| format!("{found:?}"));
        Err(self.fault(&format!("it has {found} where {word:?} should be")))
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn span(&self) -> Range<usize> {
        self.written.span()
    }

    fn fault(&self, why: &str) -> Reported {
        self.key.fault(self.cx, self.written, why)
    }
}

/// A list of one is that one.
fn single(mut list: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match list.pop() {
        Some(only) if list.is_empty() => only,
        Some(last) => {
            list.push(last);
            join(list)
        }
        None => join(list),
    }
}
