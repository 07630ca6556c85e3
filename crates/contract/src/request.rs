//! What a request must look like before a handler sees it.

use crate::json;
use jsonschema::Validator;
use serde_json::Value;
use std::fmt;

/// At most this many errors are told of one request.
const MOST_ERRORS: usize = 20;
/// A message is cut after this many characters, so that an answer can't be made huge.
const LONGEST_MESSAGE: usize = 200;

/// One field that breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `name`, `scopes[3]`, `query.limit`; empty for the body as a whole.
    pub field: String,
    /// What is wrong; never repeats the value.
    pub message: String,
}

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not JSON with one meaning.
    Syntax(String),
    /// JSON that breaks the schema.
    Invalid(Vec<FieldError>),
}

/// The declared query parameters of one request, decoded, with defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// A parameter's text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that the contract says is a small whole number.
    pub fn get_u32(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }
}

pub(crate) struct QueryParameter {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) is_integer: bool,
    pub(crate) default: Option<String>,
    pub(crate) schema: Validator,
}

/// The checks of one operation, compiled once.
pub struct Checks {
    /// Status of its success.
    pub success_status: u16,
    /// Takes an `Idempotency-Key`.
    pub idempotent: bool,
    /// A body may come.
    pub has_body: bool,
    /// A body must come.
    pub body_required: bool,
    pub(crate) body: Option<Validator>,
    pub(crate) query: Vec<QueryParameter>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").field("success_status", &self.success_status).finish_non_exhaustive()
    }
}

impl Checks {
    /// Reads a body and holds it against the schema; unknown fields are refused where the schema closes the object.
    pub fn check_body(&self, bytes: &[u8]) -> Result<Value, BodyError> {
        let value = json::parse(bytes).map_err(BodyError::Syntax)?;
        let Some(schema) = &self.body else { return Ok(value) };
        let errors: Vec<FieldError> =
            schema.iter_errors(&value).take(MOST_ERRORS).map(|error| field_error(&error)).collect();
        if errors.is_empty() { Ok(value) } else { Err(BodyError::Invalid(errors)) }
    }

    /// Reads the declared parameters of a query; undeclared ones are ignored, a repeated or misshapen one is an error.
    pub fn check_query(&self, query: Option<&str>) -> Result<Query, Vec<FieldError>> {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for parameter in &self.query {
            let wrong = |message: String| FieldError { field: format!("query.{}", parameter.name), message };
            let mut found = query.into_iter().flat_map(|text| text.split('&')).filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (form_decode(name).as_deref() == Some(&parameter.name)).then(|| form_decode(value))
            });
            match (found.next(), found.next()) {
                (_, Some(_)) => errors.push(wrong("given more than once".into())),
                (Some(None), None) => errors.push(wrong("not percent-encoded UTF-8".into())),
                (Some(Some(text)), None) => {
                    let value = match (parameter.is_integer, text.parse::<i64>()) {
                        (true, Ok(number)) if number.to_string() == text => Value::from(number),
                        (true, _) => {
                            errors.push(wrong("must be a whole number".into()));
                            continue;
                        }
                        (false, _) => Value::from(text.as_str()),
                    };
                    match parameter.schema.iter_errors(&value).next() {
                        Some(error) => errors.push(wrong(field_error(&error).message)),
                        None => values.push((parameter.name.clone(), text)),
                    }
                }
                (None, None) if parameter.required => errors.push(wrong("is required".into())),
                (None, None) => {
                    values.extend(parameter.default.clone().map(|text| (parameter.name.clone(), text)))
                }
            }
        }
        if errors.is_empty() { Ok(Query(values)) } else { Err(errors) }
    }
}

fn field_error(error: &jsonschema::ValidationError<'_>) -> FieldError {
    let pointer = error.instance_path().to_string();
    let mut field = String::new();
    for part in pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")) {
        match part.bytes().all(|b| b.is_ascii_digit()) {
            true => field.push_str(&format!("[{part}]")),
            false if field.is_empty() => field.push_str(&part),
            false => field.push_str(&format!(".{part}")),
        }
    }
    // `masked` keeps the value itself out of the text: it may be a password.
    let message = error.masked_with("the value").to_string();
    FieldError { field: cut(&field), message: cut(&message) }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).collect()
}

/// `application/x-www-form-urlencoded` decoding of one name or value; `None` when it is not UTF-8 or an escape is broken.
fn form_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}
