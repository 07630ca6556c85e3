//! What one operation asks of a request besides its caller: path, query, header fields and body.

use crate::field::{self, FieldError};
use crate::text;
use crate::validator::Validator;
use percent_encoding::percent_decode_str;
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::fmt;

/// The request checks of one operation, and what its handler must know to answer it.
#[derive(Debug)]
pub struct Checks {
    /// The status of a success; the smallest one declared.
    pub success_status: u16,
    /// Whether the operation declares the header field `Idempotency-Key`.
    pub idempotent: bool,
    /// Whether the contract declares a body for requests of this operation.
    pub has_body: bool,
    /// A request without a body is refused.
    pub body_required: bool,
    /// Most bytes of a body, where the contract says so.
    pub max_body_bytes: Option<u64>,
    /// The media type of the body that [`Checks::check_body`] is about; JSON where JSON is among them.
    pub content_type: Option<String>,
    /// Answers with a stream of server-sent events.
    pub sse: bool,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Validator>,
    /// JSON pointer to the schema of the body.
    pub(crate) body_schema: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) required: bool,
    /// What its text may be read as.
    pub(crate) kind: TextKind,
    pub(crate) default: Option<String>,
    /// Absent for a list or object, which is not checked and may be repeated.
    pub(crate) schema: Option<Validator>,
    /// JSON pointer to its schema.
    pub(crate) pointer: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

impl Place {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// How the text of a parameter becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Text,
    Integer,
    Number,
    Boolean,
    /// A list or object; it is read as text and not checked further.
    Composite,
}

/// The text that was sent for a parameter, or why it is none.
type Sent<'t> = Result<Cow<'t, str>, &'static str>;

/// Declared parameters of one request: decoded, checked, defaults filled in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The value of a parameter, or its default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same as a number; `None` also when it is not one that a `u32` holds.
    pub fn get_u32(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }
}

/// Values may be credentials, so only the names are shown.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not one JSON text; says where it breaks.
    Syntax(String),
    /// JSON that the schema refuses; 1 to 20 errors.
    Invalid(Vec<FieldError>),
}

impl Checks {
    /// Reads a raw query string. Parameters that are not declared are refused, whatever they hold.
    pub fn check_query(&self, query: Option<&str>) -> Result<Parameters, Vec<FieldError>> {
        const ENCODED: &str = "must be percent-encoded UTF-8";
        let mut sent: Vec<(Cow<'_, str>, Sent<'_>)> = Vec::new();
        let mut unknown = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw) = pair.split_once('=').unwrap_or((pair, ""));
            match form_decode(raw_name) {
                Some(name) if self.declares(Place::Query, &name) => {
                    sent.push((name, form_decode(raw).ok_or(ENCODED)));
                }
                Some(name) => {
                    unknown.push(FieldError::in_query(&name, "is not a parameter of this operation"))
                }
                None => unknown.push(FieldError::in_query(raw_name, ENCODED)),
            }
        }
        let known = self.check(Place::Query, |name| {
            sent.iter().filter(|it| it.0 == name).map(|it| it.1.clone()).collect()
        });
        match known {
            Ok(known) if unknown.is_empty() => Ok(known),
            known => {
                unknown.extend(known.err().unwrap_or_default());
                unknown.truncate(field::MOST);
                Err(unknown)
            }
        }
    }

    fn declares(&self, place: Place, name: &str) -> bool {
        self.parameters.iter().any(|it| it.place == place && it.name == name)
    }

    /// Whether the path's parameters, by name and decoded, have the form that the contract gives them. Where one has not, the path
    /// names nothing.
    pub fn fits_path(&self, decoded: &[(String, String)]) -> bool {
        let fits = self.check(Place::Path, |name| {
            let own = decoded.iter().filter(|it| it.0 == name);
            own.map(|it| Ok(Cow::Borrowed(it.1.as_str()))).collect()
        });
        fits.is_ok()
    }

    /// Checks the declared header fields; `values` gives every value of a field, whatever the case of its name.
    pub fn check_headers<'h>(
        &self,
        values: impl Fn(&str) -> Vec<&'h [u8]>,
    ) -> Result<Parameters, Vec<FieldError>> {
        let text = |value: &'h [u8]| {
            let plain = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            let text = std::str::from_utf8(value).ok().filter(|_| plain);
            text.map(Cow::Borrowed).ok_or("must be printable ASCII")
        };
        self.check(Place::Header, |name| values(name).into_iter().map(text).collect())
    }

    /// Holds what was `sent` by each name against the parameters of one place.
    fn check<'t>(
        &self,
        place: Place,
        sent: impl Fn(&str) -> Vec<Sent<'t>>,
    ) -> Result<Parameters, Vec<FieldError>> {
        let (mut known, mut errors) = (Vec::new(), Vec::new());
        for parameter in self.parameters.iter().filter(|it| it.place == place) {
            let values = sent(&parameter.name);
            if values.len() > 1 && parameter.kind != TextKind::Composite {
                errors.push(parameter.error("must be sent only once"));
                continue;
            }
            match values.into_iter().next() {
                Some(Err(why)) => errors.push(parameter.error(why)),
                Some(Ok(value)) => match parameter.check(&value) {
                    Ok(()) => known.push((parameter.name.clone(), value.into_owned())),
                    Err(wrong) => errors.extend(wrong),
                },
                None => match &parameter.default {
                    Some(default) => known.push((parameter.name.clone(), default.clone())),
                    None if parameter.required => errors.push(parameter.error("is required")),
                    None => {}
                },
            }
        }
        errors.truncate(field::MOST);
        if errors.is_empty() { Ok(Parameters(known)) } else { Err(errors) }
    }

    /// Whether its body is JSON, which [`Checks::check_body`] reads.
    pub fn takes_json(&self) -> bool {
        self.content_type.as_deref().is_none_or(|it| !it.starts_with("multipart/"))
    }

    /// Reads and checks a body. An absent body that may be absent is `null`; without a schema, any JSON will do.
    pub fn check_body(&self, bytes: &[u8]) -> Result<Value, BodyError> {
        if bytes.is_empty() {
            return match self.body_required {
                true => Err(BodyError::Syntax("the body is empty".into())),
                false => Ok(Value::Null),
            };
        }
        let value = text::json(bytes).map_err(BodyError::Syntax)?;
        if let Some(validator) = &self.body {
            validator.check(&value).map_err(BodyError::Invalid)?;
        }
        Ok(value)
    }
}

impl Parameter {
    fn field(&self) -> String {
        field::parameter(self.place, &self.name)
    }

    fn error(&self, message: &str) -> FieldError {
        FieldError::new(self.field(), message)
    }

    fn check(&self, text: &str) -> Result<(), Vec<FieldError>> {
        let value = self.kind.read(text).map_err(|message| vec![self.error(message)])?;
        match &self.schema {
            Some(schema) => schema.check_as(&self.field(), &value),
            None => Ok(()),
        }
    }
}

impl TextKind {
    /// Reads exactly what JSON would write: no sign, space or zero more.
    pub(crate) fn read(self, text: &str) -> Result<Value, &'static str> {
        // JSON allows space around a number; a parameter does not.
        let bare = !text.contains(|c: char| c.is_ascii_whitespace());
        let parsed = |message| match serde_json::from_str::<Number>(text) {
            Ok(number) if bare => Ok(Value::Number(number)),
            _ => Err(message),
        };
        match self {
            Self::Text | Self::Composite => Ok(Value::String(text.into())),
            Self::Integer if text.contains(['.', 'e', 'E']) => Err("must be an integer"),
            Self::Integer => parsed("must be an integer").and_then(|value| match value.is_f64() {
                true => Err("is too large"),
                false => Ok(value),
            }),
            Self::Number => parsed("must be a number"),
            Self::Boolean => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err("must be true or false"),
            },
        }
    }
}

/// Decodes `application/x-www-form-urlencoded`; `None` for a broken escape or bytes that are not UTF-8.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    percent_decode(&text.replace('+', " ")).map(Cow::Owned)
}

/// Decodes percent escapes; `None` for a broken one, which the library would leave as it is, or bytes that are not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let is_whole = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_whole) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// One broken escape is enough, wherever it stands.
        #[test]
        fn a_broken_escape_is_refused(before in "[a-z%é]{0,6}", broken in "%(|[0-9a-f]|[g-z+ é][0-9]|[0-9][g-z%é])") {
            prop_assert_eq!(percent_decode(&format!("{before}{broken}")), None);
            prop_assert_eq!(percent_decode(&format!("{broken}%20")), None);
        }

        #[test]
        fn what_was_encoded_is_decoded(text in "\\PC{0,20}") {
            let encoded = crate::schema::encode_fragment(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), Some(text));
        }
    }
}
