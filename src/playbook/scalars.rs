//! The two scalars of a playbook with a reading of their own: limits and lengths of time.

use super::schema::{ParamValue, Seconds};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

impl Seconds {
    /// Reads `90s`, `2m`, `1h`: a whole number of at least one, and its unit.
    pub fn parse(text: &str) -> Option<Seconds> {
        let unit = match text.chars().last()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        // The unit is one byte long.
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let count: u64 = digits.parse().ok()?;
        count.checked_mul(unit).filter(|s| *s > 0).map(Seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamValue::Number(n) => write!(f, "{n}"),
            ParamValue::Text(t) => f.write_str(t),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Seconds::parse(&text).ok_or_else(|| D::Error::custom("expected a time such as `90s`, `2m` or `1h`"))
    }
}

impl<'de> Deserialize<'de> for ParamValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWord;

        impl Visitor<'_> for NumberOrWord {
            type Value = ParamValue;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number or a word")
            }

            // Limits are small numbers; beyond 2^53 the nearest double is meant.
            fn visit_i64<E: Error>(self, n: i64) -> Result<ParamValue, E> {
                Ok(ParamValue::Number(n as f64))
            }

            fn visit_u64<E: Error>(self, n: u64) -> Result<ParamValue, E> {
                Ok(ParamValue::Number(n as f64))
            }

            fn visit_f64<E: Error>(self, n: f64) -> Result<ParamValue, E> {
                Ok(ParamValue::Number(n))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ParamValue, E> {
                Ok(ParamValue::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrWord)
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0*[1-9][0-9]*[smh]$" })
    }
}

impl JsonSchema for ParamValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ParamValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_and_positive() {
        assert_eq!(Seconds::parse("90s"), Some(Seconds(90)));
        assert_eq!(Seconds::parse("2m"), Some(Seconds(120)));
        assert_eq!(Seconds::parse("1h"), Some(Seconds(3600)));
        for bad in ["", "s", "0s", "-1s", "+1s", "1.5s", "90", "1 m", "9é", "99999999999999999999h"] {
            assert_eq!(Seconds::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_written() {
        for text in ["90s", "2m", "1h"] {
            assert_eq!(Seconds::parse(text).expect("valid").to_string(), text);
        }
    }
}
