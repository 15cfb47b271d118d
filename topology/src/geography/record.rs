//! What one record of a database says of a place, in either schema.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::Asn;
use crate::country::{Continent, CountryCode, Position};

/// Deeper nesting than any real record (GeoIP2 Enterprise has 3 levels) is refused: decoding recurses.
const MAX_DEPTH: u8 = 16;

/// What a record says. Nothing is filled in from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Record {
    pub(crate) country: Option<CountryCode>,
    pub(crate) continent: Option<Continent>,
    pub(crate) position: Option<Position>,
    pub(crate) asn: Option<Asn>,
}

impl Record {
    /// Whether it decides a place by itself.
    pub(crate) fn is_known(&self) -> bool {
        self.country.is_some() || self.position.is_some()
    }

    /// Fills what is missing from a later record, unless that one is of another country. The AS number stands by
    /// itself.
    pub(crate) fn join(&mut self, later: &Self) {
        self.asn = self.asn.or(later.asn);
        if let (Some(ours), Some(theirs)) = (self.country, later.country)
            && ours != theirs
        {
            return;
        }
        self.country = self.country.or(later.country);
        self.continent = self.continent.or(later.continent);
        self.position = self.position.or(later.position);
    }

    /// Reads the fields of both schemas; a field of another type than expected says nothing.
    ///
    /// | | GeoIP2 nested | flat |
    /// | --- | --- | --- |
    /// | country | `country.iso_code`, else `registered_country.iso_code` | `country_code`, else `country` |
    /// | continent | `continent.code` | `continent_code`, else `continent` |
    /// | position | `location.latitude`, `location.longitude` | `latitude`, `longitude`, numbers or text |
    /// | AS number | `traits.autonomous_system_number` | `autonomous_system_number`, else `asn`; numbers or text |
    ///
    /// `country` is where the address is used. `registered_country`, where its holder registered it, is a weaker
    /// hint but better than none. `represented_country` (embassies, bases) is not where anybody is.
    fn of(value: &Value<'_>) -> Self {
        let country = |name| {
            let field = value.get(name)?;
            field.get("iso_code").unwrap_or(field).text()?.parse().ok()
        };
        let continent = |name| {
            let field = value.get(name)?;
            Continent::from_code(field.get("code").unwrap_or(field).text()?)
        };
        let located = value
            .get("location")
            .filter(|field| matches!(field, Value::Map(_)))
            .unwrap_or(value);
        let degrees = |name| located.get(name)?.number();
        let system = |value: &Value<'_>| value.get("autonomous_system_number").and_then(Value::system);
        Self {
            country: country("country_code")
                .or_else(|| country("country"))
                .or_else(|| country("registered_country")),
            continent: continent("continent_code").or_else(|| continent("continent")),
            position: degrees("latitude").zip(degrees("longitude")).and_then(position),
            asn: system(value)
                .or_else(|| value.get("asn").and_then(Value::system))
                .or_else(|| value.get("traits").and_then(system)),
        }
    }
}

/// Coordinates that are not finite, or off the globe, are no coordinates; nor is exactly 0, 0, which databases
/// write for "unknown" and where nobody lives. The file is not at fault for them: the rest of it is as good.
fn position((latitude, longitude): (f64, f64)) -> Option<Position> {
    Position::new(latitude, longitude).filter(|_| (latitude, longitude) != (0.0, 0.0))
}

impl Value<'_> {
    /// "AS64500", "64500" or 64500.
    fn system(&self) -> Option<Asn> {
        let number = match self {
            Self::Text(text) => text.strip_prefix("AS").unwrap_or(text).parse::<u32>().ok()?,
            Self::Number(number) if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number) => {
                *number as u32
            }
            Self::Number(_) | Self::Map(_) | Self::Other => return None,
        };
        Asn::new(number)
    }
}

/// Decodes the whole record, so that damage in a field we do not read is found as well.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = AtDepth(0).deserialize(deserializer)?;
        Ok(Self::of(&value))
    }
}

/// A decoded value; only what the schemas use is kept.
enum Value<'a> {
    Map(Vec<(&'a str, Value<'a>)>),
    Text(&'a str),
    Number(f64),
    Other,
}

impl<'a> Value<'a> {
    /// The first field of that name in a map.
    fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        fields
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn text(&self) -> Option<&'a str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Map(_) | Self::Other => None,
        }
    }
}

struct AtDepth(u8);

impl<'de> DeserializeSeed<'de> for AtDepth {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        if self.0 > MAX_DEPTH {
            return Err(D::Error::custom(format!(
                "a record is nested more than {MAX_DEPTH} deep"
            )));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AtDepth {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a MaxMind DB record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key()? {
            fields.push((key, map.next_value_seed(AtDepth(self.0 + 1))?));
        }
        Ok(Value::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        while items.next_element_seed(AtDepth(self.0 + 1))?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }
}
