//! Reading typed values out of a TOML table, with their places.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::reference::Section;
use super::sink::{Reported, Sink};
use super::suggest::{did_you_mean, nearest};

/// One key of a table: what was written, `None` where nothing was, `Err` where it has been faulted.
pub(super) type Field<T> = Result<Option<Spanned<T>>, Reported>;

/// One table of the file, whose keys are read one by one.
pub(super) struct Reader<'d, 's> {
    sink: &'s Sink<'d>,
    section: &'static Section,
    table: &'d DeTable<'d>,
    span: Range<usize>,
    /// Known keys that an unknown key was probably meant to be: those are not missing as well.
    misspelt: Vec<(&'static str, Reported)>,
}

impl<'d, 's> Reader<'d, 's> {
    /// Faults the unknown keys at once.
    pub(super) fn new(
        sink: &'s Sink<'d>,
        section: &'static Section,
        table: &'d DeTable<'d>,
        span: Range<usize>,
    ) -> Self {
        let mut misspelt = Vec::new();
        for (key, _) in table {
            let word = key.get_ref().as_ref();
            if section.keys().any(|known| known == word) {
                continue;
            }
            let remedy = did_you_mean(word, section.keys(), &format!("{} knows", section.title));
            let message = format!("unknown key `{word}` in {}", section.title);
            let reported = sink.fault(key.span(), message, remedy);
            if let Some(meant) = nearest(word, section.keys()) {
                misspelt.push((meant, reported));
            }
        }
        Self {
            sink,
            section,
            table,
            span,
            misspelt,
        }
    }

    /// Where the table stands: its header, or all of an inline table.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value of `key`.
    pub(super) fn get<T: FromToml<'d>>(&self, key: &'static str) -> Field<T> {
        let Some(value) = self.value(key)? else {
            return Ok(None);
        };
        T::read(
            self.sink,
            &Named {
                section: self.section,
                key,
            },
            value,
        )
        .map(|inner| Some(Spanned::new(value.span(), inner)))
    }

    /// The value of `key`, which must be there.
    pub(super) fn need<T: FromToml<'d>>(&self, key: &'static str) -> Result<Spanned<T>, Reported> {
        self.get(key)?.ok_or_else(|| {
            let example = self.section.key(key).map_or("", |key| key.example);
            self.sink.conflict(
                self.span(),
                format!("{} has no `{key}`", self.section.title),
                format!("add for example `{key} = {example}`"),
            )
        })
    }

    /// The table at `key`, read by `read`.
    pub(super) fn table<T>(
        &self,
        key: &'static str,
        section: &'static Section,
        read: impl Fn(&Reader<'d, 's>) -> T,
    ) -> Result<Option<T>, Reported> {
        let Some(value) = self.value(key)? else {
            return Ok(None);
        };
        let reader = self.reader_of(value, section, "a table")?;
        Ok(Some(read(&reader)))
    }

    /// The list of tables at `key`, each read by `read`; empty where the key is not written.
    pub(super) fn tables<T>(
        &self,
        key: &'static str,
        section: &'static Section,
        read: impl Fn(&Reader<'d, 's>) -> T,
    ) -> List<T> {
        let value = match self.value(key) {
            Ok(Some(value)) => value,
            Ok(None) => {
                return List {
                    span: None,
                    items: Vec::new(),
                    whole: Ok(()),
                };
            }
            Err(reported) => {
                return List {
                    span: None,
                    items: Vec::new(),
                    whole: Err(reported),
                };
            }
        };
        let mut list = List {
            span: Some(value.span()),
            items: Vec::new(),
            whole: Ok(()),
        };
        let DeValue::Array(array) = value.get_ref() else {
            list.whole = Err(self.wrong_type(value, section, "a list of tables"));
            return list;
        };
        for item in array {
            match self.reader_of(item, section, "made of tables") {
                Ok(reader) => list.items.push(read(&reader)),
                Err(reported) => list.whole = Err(reported),
            }
        }
        list
    }

    fn value(&self, key: &'static str) -> Result<Option<&'d Spanned<DeValue<'d>>>, Reported> {
        debug_assert!(
            self.section.key(key).is_some(),
            "{key} is not described in {}",
            self.section.title
        );
        match self.table.get(key) {
            Some(value) => Ok(Some(value)),
            None => match self.misspelt.iter().find(|(meant, _)| *meant == key) {
                Some((_, reported)) => Err(*reported),
                None => Ok(None),
            },
        }
    }

    fn reader_of(
        &self,
        value: &'d Spanned<DeValue<'d>>,
        section: &'static Section,
        wanted: &str,
    ) -> Result<Reader<'d, 's>, Reported> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(Reader::new(self.sink, section, table, value.span())),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => Err(self.wrong_type(value, section, wanted)),
        }
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'_>>, section: &'static Section, wanted: &str) -> Reported {
        let found = type_of(value.get_ref());
        self.sink.fault(
            value.span(),
            format!("{} must be {wanted}, not {found}", section.title),
            format!("write it as {}", section.written),
        )
    }
}

/// The tables under one key.
#[derive(Debug)]
pub(super) struct List<T> {
    /// Where the list stands; `None` where it is not written.
    pub(super) span: Option<Range<usize>>,
    pub(super) items: Vec<T>,
    /// Whether `items` is all there is; if not, nothing may be said about what is missing.
    pub(super) whole: Result<(), Reported>,
}

/// A key by its full name, for messages.
pub(super) struct Named {
    section: &'static Section,
    key: &'static str,
}

impl Named {
    fn wrong_type(&self, sink: &Sink<'_>, value: &Spanned<DeValue<'_>>, wanted: &str) -> Reported {
        let Self { section, key } = self;
        let example = section.key(key).map_or("", |key| key.example);
        sink.fault(
            value.span(),
            format!("`{key}` must be {wanted}, not {}", type_of(value.get_ref())),
            format!("write for example `{key} = {example}`"),
        )
    }
}

/// A type that a key can have.
pub(super) trait FromToml<'d>: Sized {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported>;
}

impl<'d> FromToml<'d> for &'d str {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        value
            .get_ref()
            .as_str()
            .ok_or_else(|| named.wrong_type(sink, value, "a string"))
    }
}

impl<'d> FromToml<'d> for bool {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| named.wrong_type(sink, value, "true or false"))
    }
}

/// Any integer; ranges are checked where the meaning is known.
impl<'d> FromToml<'d> for i128 {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        let integer = value
            .get_ref()
            .as_integer()
            .ok_or_else(|| named.wrong_type(sink, value, "a whole number"))?;
        Ok(integer_value(integer))
    }
}

/// Saturates: what does not fit 128 bits is out of every range anyway.
fn integer_value(integer: &DeInteger<'_>) -> i128 {
    let saturated = if integer.as_str().starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    };
    i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(saturated)
}

/// A string with a unit, such as "300ms", "1m 30s" or "7d"; a day has 24 hours.
impl<'d> FromToml<'d> for Duration {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        let key = named.key;
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = number_text(value.get_ref());
                return Err(sink.fault(
                    value.span(),
                    format!("`{key}` is the bare number {number}"),
                    format!("write a unit, for example \"{number}s\" or \"{number}ms\""),
                ));
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return Err(named.wrong_type(sink, value, "a duration such as \"300ms\" or \"2h\""));
            }
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(sink.fault(
                value.span(),
                format!("`{key}` is {text:?}, without a unit"),
                format!("write a unit, for example \"{text}s\" or \"{text}ms\""),
            ));
        }
        parse_duration(text).ok_or_else(|| {
            sink.fault(
                value.span(),
                format!("`{key}` is {text:?}, which is no duration"),
                "write a number and a unit out of ms, s, m, h and d, for example \"300ms\" or \"2h\"",
            )
        })
    }
}

fn number_text<'v>(value: &'v DeValue<'_>) -> Cow<'v, str> {
    value
        .as_integer()
        .map(DeInteger::as_str)
        .or_else(|| value.as_float().map(DeFloat::as_str))
        .unwrap_or_default()
        .into()
}

/// A number and a unit, such as `300ms` or `1h 30m`, as the configuration and the command line write them.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    duration.try_into().ok()
}

/// A list, or one item standing for a list of one.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<Spanned<T>>);

impl<'d, T: FromToml<'d>> FromToml<'d> for OneOrMany<T> {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        let read = |item: &'d Spanned<DeValue<'d>>| {
            T::read(sink, named, item).map(|inner| Spanned::new(item.span(), inner))
        };
        let items = match value.get_ref() {
            DeValue::Array(array) => array.iter().map(read).collect(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => vec![read(value)],
        };
        all(items).map(Self)
    }
}

/// A string or an integer: the type alone tells two ways of writing apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextOrInt<'d> {
    Text(&'d str),
    Int(i128),
}

impl<'d> FromToml<'d> for TextOrInt<'d> {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Self::Text(text)),
            DeValue::Integer(integer) => Ok(Self::Int(integer_value(integer))),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => Err(named.wrong_type(sink, value, "a string or a whole number")),
        }
    }
}

/// A number, whole or with a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub(super) f64);

impl<'d> FromToml<'d> for Number {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        let number = match value.get_ref() {
            DeValue::Integer(integer) => Some(integer_value(integer) as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number
            .map(Self)
            .ok_or_else(|| named.wrong_type(sink, value, "a finite number"))
    }
}

/// A table whose keys are the author's own, each with a value of one type.
#[derive(Debug)]
pub(super) struct Map<'d, T>(pub(super) Vec<(Spanned<&'d str>, Spanned<T>)>);

impl<'d, T: FromToml<'d>> FromToml<'d> for Map<'d, T> {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(named.wrong_type(sink, value, "a table"));
        };
        let entries = table.iter().map(|(key, value)| {
            let key = Spanned::new(key.span(), key.get_ref().as_ref());
            T::read(sink, named, value).map(|inner| (key, Spanned::new(value.span(), inner)))
        });
        all(entries.collect()).map(Self)
    }
}

/// A duration, or the word that leaves it to the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum DurationOrAuto {
    Duration(Duration),
    Auto,
}

impl<'d> FromToml<'d> for DurationOrAuto {
    fn read(sink: &Sink<'d>, named: &Named, value: &'d Spanned<DeValue<'d>>) -> Result<Self, Reported> {
        if value.get_ref().as_str() == Some("auto") {
            return Ok(Self::Auto);
        }
        Duration::read(sink, named, value).map(Self::Duration)
    }
}

/// All the values, or the proof that at least one was faulted. Every one has been looked at by then.
pub(super) fn all<T>(results: Vec<Result<T, Reported>>) -> Result<Vec<T>, Reported> {
    results.into_iter().collect()
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
