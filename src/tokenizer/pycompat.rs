//! Methods of Python's `str`, `dict` and `list` that chat templates call, with Python's meaning.

use minijinja::value::{Rest, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Calls `value.method(args)`; the fallback of the template engine for methods it does not know.
pub(super) fn call(_: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return on_text(text, method, args);
    }
    match value.kind() {
        ValueKind::Map => on_map(value, method, args),
        ValueKind::Seq => on_list(value, method, args),
        _ => Err(unknown(method)),
    }
}

fn on_text(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let drop = |c: char| chars.map_or(c.is_whitespace(), |set| set.contains(c));
            Ok(Value::from(match method {
                "lstrip" => text.trim_start_matches(drop),
                "rstrip" => text.trim_end_matches(drop),
                _ => text.trim_matches(drop),
            }))
        }
        "split" | "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = most.and_then(|n| usize::try_from(n).ok());
            split(text, separator, most, method == "rsplit").map(Value::from)
        }
        "splitlines" => {
            let () = from_args(args)?;
            Ok(Value::from(text.lines().map(str::to_owned).collect::<Vec<_>>()))
        }
        "startswith" | "endswith" => {
            let (affix,): (&Value,) = from_args(args)?;
            // A tuple asks for any of its members.
            let any: Vec<Value> =
                if affix.as_str().is_some() { vec![affix.clone()] } else { affix.try_iter()?.collect() };
            let hit = |a: &Value| {
                a.as_str().is_some_and(|a| {
                    if method == "startswith" { text.starts_with(a) } else { text.ends_with(a) }
                })
            };
            Ok(Value::from(any.iter().any(hit)))
        }
        "removeprefix" | "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            let cut =
                if method == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
            Ok(Value::from(cut.unwrap_or(text)))
        }
        "replace" => {
            let (from, to, most): (&str, &str, Option<i64>) = from_args(args)?;
            Ok(Value::from(match most.and_then(|n| usize::try_from(n).ok()) {
                Some(most) => text.replacen(from, to, most),
                None => text.replace(from, to),
            }))
        }
        "find" | "rfind" => {
            let (what,): (&str,) = from_args(args)?;
            let byte = if method == "find" { text.find(what) } else { text.rfind(what) };
            Ok(Value::from(byte.map_or(-1, |b| text[..b].chars().count() as i64)))
        }
        "count" => {
            let (what,): (&str,) = from_args(args)?;
            Ok(Value::from(text.matches(what).count()))
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let items: Vec<String> = items.try_iter()?.map(|v| v.to_string()).collect();
            Ok(Value::from(items.join(text)))
        }
        "lower" | "upper" | "capitalize" | "title" | "isdigit" | "isalpha" | "isalnum" | "isspace"
        | "isupper" | "islower" => {
            let () = from_args(args)?;
            Ok(cased(text, method))
        }
        _ => Err(unknown(method)),
    }
}

fn cased(text: &str, method: &str) -> Value {
    let all = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    match method {
        "lower" => Value::from(text.to_lowercase()),
        "upper" => Value::from(text.to_uppercase()),
        "capitalize" => {
            let mut chars = text.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            Value::from(first + &chars.as_str().to_lowercase())
        }
        "title" => {
            let mut inside = false;
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                if inside {
                    out.extend(c.to_lowercase());
                } else {
                    out.extend(c.to_uppercase());
                }
                inside = c.is_alphabetic();
            }
            Value::from(out)
        }
        "isdigit" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(char::is_whitespace),
        "isupper" => {
            Value::from(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
        }
        _ => Value::from(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
    }
}

fn split(
    text: &str,
    separator: Option<&str>,
    most: Option<usize>,
    from_right: bool,
) -> Result<Vec<String>, Error> {
    let parts: Vec<&str> = match (separator, most) {
        (Some(""), _) => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        (Some(s), None) => text.split(s).collect(),
        (Some(s), Some(n)) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(n + 1, s).collect();
            parts.reverse();
            parts
        }
        (Some(s), Some(n)) => text.splitn(n + 1, s).collect(),
        (None, None) => text.split_whitespace().collect(),
        (None, Some(_)) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "split at blanks with a limit is not supported",
            ));
        }
    };
    Ok(parts.into_iter().map(str::to_owned).collect())
}

fn on_map(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            let found = map.get_item(key)?;
            Ok(if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found })
        }
        "keys" | "values" | "items" => {
            let () = from_args(args)?;
            let mut out = Vec::new();
            for key in map.try_iter()? {
                let value = map.get_item(&key)?;
                out.push(match method {
                    "keys" => key,
                    "values" => value,
                    _ => Value::from(vec![key, value]),
                });
            }
            Ok(Value::from(out))
        }
        _ => Err(unknown(method)),
    }
}

fn on_list(list: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "count" | "index" => {
            let (what, rest): (&Value, Rest<Value>) = from_args(args)?;
            if !rest.is_empty() {
                return Err(unknown(method));
            }
            let mut hits = list.try_iter()?.enumerate().filter(|(_, item)| item == what).map(|(i, _)| i);
            if method == "count" {
                return Ok(Value::from(hits.count()));
            }
            hits.next()
                .map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{what} is not in the list")))
        }
        _ => Err(unknown(method)),
    }
}

fn unknown(method: &str) -> Error {
    Error::new(ErrorKind::UnknownMethod, format!("no method named {method}"))
}
