//! JSON bodies, read strictly: an object in UTF-8 without byte order mark, no key twice, nesting bounded. It refuses to
//! know any field; what a command's fields must be is judged by the command.

use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{Problem, codes};

/// How deep arrays and objects may be nested, the outermost object counted.
const DEPTH: usize = 32;
/// How much of a client's own key is shown to it in an error, in characters.
const SHOWN_CHARS: usize = 64;

/// A body that is one JSON object. Everything else is 400, 413 or 415.
#[derive(Debug, Clone)]
pub struct JsonBody(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        let bytes =
            Bytes::from_request(request, state)
                .await
                .map_err(|rejection| match rejection.into_response().status() {
                    StatusCode::PAYLOAD_TOO_LARGE => {
                        Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE)
                    }
                    _ => Problem::malformed("The body did not arrive whole."),
                })?;
        parse_object(&bytes).map(Self)
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_json = text(CONTENT_TYPE).is_some_and(|value| {
        let mut parts = value.split(';').map(str::trim);
        parts
            .next()
            .is_some_and(|media| media.eq_ignore_ascii_case("application/json"))
            && parts.all(|parameter| match parameter.split_once('=') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                    value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
                }
                _ => true,
            })
    });
    if is_json
        && text(CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"))
    {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        codes::UNSUPPORTED_MEDIA_TYPE,
        "Send the body as Content-Type: application/json, in UTF-8, without Content-Encoding.",
    ))
}

/// Reads one JSON object; 400 `malformed` says where it is wrong.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Problem::malformed(
            "The body begins with a byte order mark: leave it out (RFC 8259, section 8.1).",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: DEPTH }
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::malformed("The body must be a JSON object: {…}.")),
        Err(error) => Err(Problem::malformed(format!(
            "The body is not valid JSON: {error}."
        ))),
    }
}

/// Reads any JSON value, and refuses keys that come twice and nesting beyond what is left.
struct Strict {
    left: usize,
}

impl Strict {
    fn inner<E: Error>(&self) -> Result<usize, E> {
        self.left
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("it is nested more than {DEPTH} levels deep")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let left = self.inner()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(Self { left })? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let left = self.inner()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Self { left })?;
            if object.contains_key(&key) {
                let shown: String = key.chars().take(SHOWN_CHARS).collect();
                return Err(A::Error::custom(format_args!(
                    "the key {shown:?} comes twice"
                )));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let problem = parse_object(bytes).unwrap_err();
        assert_eq!(
            (problem.status().as_u16(), problem.code()),
            (400, "malformed")
        );
        problem.detail().to_owned()
    }

    #[test]
    fn objects_are_read_as_serde_json_reads_them() {
        let text = r#"{"a":null,"b":[true,-1,18446744073709551615,1.5],"c":{"d":"ü\u0041"},"":""}"#;
        let read = Value::Object(parse_object(text.as_bytes()).unwrap());
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_at_any_depth() {
        assert!(refused(br#"{"a":1,"a":2}"#).contains(r#""a" comes twice"#));
        assert!(refused(br#"{"x":[{"b":1,"\u0062":2}]}"#).contains(r#""b" comes twice"#));
    }

    #[test]
    fn nesting_is_bounded_exactly() {
        let nested = |levels: usize| {
            format!(
                r#"{{"a":{}1{}}}"#,
                "[".repeat(levels - 1),
                "]".repeat(levels - 1)
            )
            .into_bytes()
        };
        assert!(parse_object(&nested(DEPTH)).is_ok());
        assert!(refused(&nested(DEPTH + 1)).contains("32 levels"));
        assert!(refused(&nested(20_000)).contains("32 levels"));
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        for bytes in [
            &b""[..],
            b"[]",
            b"1",
            b"{} {}",
            b"{",
            b"{\"a\":1,}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":1e999}",
            b"{a:1}",
        ] {
            refused(bytes);
        }
        assert!(refused(b"\xef\xbb\xbf{}").contains("byte order mark"));
    }

    #[test]
    fn only_plain_utf8_json_is_taken() {
        let check = |content_type: Option<&str>, coding: Option<&str>| {
            let mut headers = HeaderMap::new();
            content_type.map(|value| headers.insert(CONTENT_TYPE, value.parse().unwrap()));
            coding.map(|value| headers.insert(CONTENT_ENCODING, value.parse().unwrap()));
            check_media_type(&headers).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(check(Some("application/json"), None), Ok(()));
        assert_eq!(
            check(
                Some("Application/JSON; charset=\"UTF-8\""),
                Some("identity")
            ),
            Ok(())
        );
        for bad in [
            None,
            Some("text/plain"),
            Some("application/json; charset=latin1"),
            Some("application/jsonp"),
        ] {
            assert_eq!(check(bad, None), Err(415), "{bad:?}");
        }
        assert_eq!(check(Some("application/json"), Some("gzip")), Err(415));
    }
}
