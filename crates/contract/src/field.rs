//! What is wrong with a field of a request, in words for the caller. No message repeats a value that was sent.

use crate::checks::Place;
use crate::name;
use crate::schema::Forms;

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Kind};
use jsonschema::paths::{Location, LocationSegment};
use serde_json::Value;

/// Most errors that one answer lists.
pub(crate) const MOST: usize = 20;
const MESSAGE_CHARS: usize = 200;
const NAME_CHARS: usize = 60;
/// How deep `anyOf` and `oneOf` are followed for the branch that was meant.
const BRANCH_DEPTH: usize = 4;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where: in the body, a JSON Pointer (RFC 6901) such as `/scopes/3`, empty for the body as a whole; for a parameter, `query.limit`.
    pub field: String,
    /// What is wrong, without the value that was sent; at most 200 characters.
    pub message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS - 1) {
            message.truncate(end);
            message.push('…');
        }
        Self { field: field.into(), message }
    }

    /// In the body, by its JSON Pointer.
    pub fn in_body(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let pointer = pointer.into();
        debug_assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer} is not a JSON Pointer");
        Self::new(pointer, message)
    }

    /// In a query parameter.
    pub fn in_query(name: &str, message: impl Into<String>) -> Self {
        Self::in_parameter(Place::Query, name, message)
    }

    /// In a header field.
    pub fn in_header(name: &str, message: impl Into<String>) -> Self {
        Self::in_parameter(Place::Header, name, message)
    }

    pub(crate) fn in_parameter(place: Place, name: &str, message: impl Into<String>) -> Self {
        Self::new(parameter(place, name), message)
    }
}

/// How a parameter is named. No JSON Pointer begins like that.
pub(crate) fn parameter(place: Place, name: &str) -> String {
    format!("{}.{}", place.as_str(), quoted(name))
}

/// A name as it may be repeated to whoever sent it: short, one line, nothing that drives a terminal.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut short: String =
        name.chars().take(NAME_CHARS).map(|c| if plain(c) { c } else { '\u{fffd}' }).collect();
    if name.chars().nth(NAME_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// Turns what the validator found into at most [`MOST`] field errors. `root` names the value as a whole; `forms` has patterns in words.
pub(crate) fn explain<'v>(
    root: &str,
    errors: impl Iterator<Item = ValidationError<'v>>,
    forms: &Forms,
) -> Vec<FieldError> {
    let mut found = Vec::new();
    for error in errors {
        add(root, &error, BRANCH_DEPTH, forms, &mut found);
        if found.len() >= MOST {
            break;
        }
    }
    found.truncate(MOST);
    found
}

fn add(root: &str, error: &ValidationError<'_>, depth: usize, forms: &Forms, found: &mut Vec<FieldError>) {
    let place = Spot { root, location: error.instance_path() };
    let mut push = |field: String, message: String| {
        let error = FieldError::new(field, message);
        // `allOf` parts say the same thing twice.
        if found.len() < MOST && !found.contains(&error) {
            found.push(error);
        }
    };
    match error.kind() {
        Kind::Required { property } => {
            push(place.member(property.as_str().unwrap_or_default()), "is required".into())
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            for name in unexpected.iter().take(MOST) {
                push(place.member(name), format!("unknown field `{}`", quoted(name)));
            }
        }
        Kind::PropertyNames { error } => {
            push(place.pointer(), format!("has a field whose name {}", message(error, forms)))
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } if depth > 0 => match meant(error, context)
        {
            Some(branch) => branch.iter().for_each(|inner| add(root, inner, depth - 1, forms, found)),
            None => push(place.pointer(), message(error, forms)),
        },
        _ => push(place.pointer(), message(error, forms)),
    }
}

/// The branch of an `anyOf` or `oneOf` that the sender meant: the only one whose type and constants fit.
fn meant<'c>(
    error: &ValidationError<'_>,
    context: &'c [Vec<ValidationError<'static>>],
) -> Option<&'c Vec<ValidationError<'static>>> {
    let here = error.instance_path().segments().count();
    let misses = |inner: &ValidationError<'_>| {
        let below = inner.instance_path().segments().count().saturating_sub(here);
        match inner.kind() {
            Kind::Type { .. } => below == 0,
            Kind::Constant { .. } | Kind::Enum { .. } => below <= 1,
            _ => false,
        }
    };
    let mut fitting = context.iter().filter(|branch| !branch.iter().any(misses));
    fitting.next().filter(|_| fitting.next().is_none())
}

struct Spot<'a> {
    root: &'a str,
    location: &'a Location,
}

impl Spot<'_> {
    /// `/agents/3/name`, behind the root's name where that is a parameter.
    fn pointer(&self) -> String {
        let mut pointer = self.root.to_owned();
        for segment in self.location.segments() {
            match segment {
                LocationSegment::Index(index) => pointer.push_str(&format!("/{index}")),
                LocationSegment::Property(name) => step(&mut pointer, &name),
            }
        }
        pointer
    }

    fn member(&self, name: &str) -> String {
        let mut pointer = self.pointer();
        step(&mut pointer, name);
        pointer
    }
}

/// The root of a body: the pointer to the whole of it.
pub(crate) const BODY: &str = "";

fn step(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&quoted(name).replace('~', "~0").replace('/', "~1"));
}

fn message(error: &ValidationError<'_>, forms: &Forms) -> String {
    match error.kind() {
        Kind::Type { kind } => match kind {
            TypeKind::Single(kind) => format!("must be {}", article(kind.as_str())),
            TypeKind::Multiple(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(|kind| article(kind.as_str())).collect();
                format!("must be {}", kinds.join(" or "))
            }
        },
        Kind::Required { .. } => "is required".into(),
        Kind::Constant { expected_value } => format!("must be {}", short(expected_value)),
        Kind::Enum { options } => match options.as_ref() {
            Value::Array(options) => {
                format!("must be one of {}", options.iter().map(short).collect::<Vec<_>>().join(", "))
            }
            only => format!("must be {}", short(only)),
        },
        Kind::MinLength { limit: 1 } => "must not be empty".into(),
        Kind::MinLength { limit } => format!("must have at least {}", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("must have at most {}", count(*limit, "character")),
        Kind::Pattern { pattern } => match forms.get(pattern.as_str()) {
            Some(form) => format!("must be {form}"),
            None => format!("must match {pattern}"),
        },
        Kind::Format { format } if format == name::FORMAT => name::RULE.into(),
        Kind::Format { format } => format!("must be {}", format_name(format)),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinItems { limit } => format!("must have at least {}", count(*limit, "item")),
        Kind::MaxItems { limit } => format!("must have at most {}", count(*limit, "item")),
        Kind::AdditionalItems { limit } => format!("must have at most {}", count(*limit as u64, "item")),
        Kind::UniqueItems => "must not have the same item twice".into(),
        Kind::MinProperties { limit } => format!("must have at least {}", count(*limit, "field")),
        Kind::MaxProperties { limit } => format!("must have at most {}", count(*limit, "field")),
        Kind::Contains => "lacks an item that it must contain".into(),
        Kind::UnevaluatedItems { .. } => "has items that are not allowed here".into(),
        Kind::FalseSchema => "is not allowed here".into(),
        Kind::Not { .. } => "is of a form that is not allowed".into(),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => "fits none of the allowed forms".into(),
        Kind::OneOfMultipleValid { .. } => "fits more than one of the allowed forms".into(),
        _ => "is not valid".into(),
    }
}

/// `1 item`, `2 items`.
fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

fn short(value: &Value) -> String {
    quoted(&value.to_string())
}

fn article(kind: &str) -> String {
    match kind {
        "null" => "null".into(),
        "array" | "integer" | "object" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

fn format_name(format: &str) -> String {
    match format {
        "date-time" => "an RFC 3339 date-time such as 2025-01-31T12:00:00Z".into(),
        "date" => "a date such as 2025-01-31".into(),
        "time" => "an RFC 3339 time such as 12:00:00Z".into(),
        "duration" => "an ISO 8601 duration such as PT15M".into(),
        "email" => "an e-mail address".into(),
        "uri" => "an absolute URI".into(),
        "uuid" => "a UUID".into(),
        other => format!("a valid {other}"),
    }
}
