//! What is wrong with a field of a request, in words for the caller. No message repeats a value that was sent.

use crate::checks::Place;
use crate::name;
use crate::validator::{Forms, leaves};
use boon::{ErrorKind as Kind, InstanceToken, Type, Types, ValidationError};
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

    /// An error in the query parameter `name`; [`FieldError::field`] becomes `query.<name>`.
    pub fn in_query(name: &str, message: impl Into<String>) -> Self {
        Self::in_parameter(Place::Query, name, message)
    }

    /// An error in the header field `name`; [`FieldError::field`] becomes `header.<name>`.
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

/// Turns what the validator found into at most [`MOST`] field errors. `root` names the value as a whole; `forms` says what patterns want.
pub(crate) fn explain(root: &str, error: &ValidationError<'_, '_>, forms: &Forms) -> Vec<FieldError> {
    let mut found = Vec::new();
    leaves(error, &mut |leaf| add(root, leaf, BRANCH_DEPTH, forms, &mut found));
    found
}

fn add(
    root: &str,
    error: &ValidationError<'_, '_>,
    depth: usize,
    forms: &Forms,
    found: &mut Vec<FieldError>,
) {
    if found.len() >= MOST {
        return;
    }
    let place = Spot { root, tokens: &error.instance_location.tokens };
    let mut push = |field: String, message: String| {
        let error = FieldError::new(field, message);
        // `allOf` parts say the same thing twice.
        if found.len() < MOST && !found.contains(&error) {
            found.push(error);
        }
    };
    match &error.kind {
        Kind::Required { want } => want.iter().for_each(|it| push(place.member(it), "is required".into())),
        Kind::AdditionalProperties { got } => {
            for name in got.iter().take(MOST) {
                push(place.member(name), unknown(name));
            }
        }
        Kind::FalseSchema if error.schema_url.ends_with("/unevaluatedProperties") => {
            if let Some(InstanceToken::Prop(name)) = place.tokens.last() {
                push(place.pointer(), unknown(name));
            }
        }
        Kind::DependentRequired { missing, .. } => {
            missing.iter().for_each(|it| push(place.member(it), "is required".into()));
        }
        Kind::PropertyName { .. } => {
            let mut why = None;
            error.causes.iter().for_each(|it| leaves(it, &mut |leaf| why = why.take().or(Some(leaf))));
            let why = why.map_or_else(|| "is not valid".into(), |leaf| message(leaf, forms));
            push(place.pointer(), format!("has a field whose name {why}"));
        }
        Kind::AnyOf | Kind::OneOf(None) if depth > 0 => match meant(error) {
            Some(branch) => leaves(branch, &mut |inner| add(root, inner, depth - 1, forms, found)),
            None => push(place.pointer(), message(error, forms)),
        },
        _ => push(place.pointer(), message(error, forms)),
    }
}

fn unknown(name: &str) -> String {
    format!("unknown field `{}`", quoted(name))
}

/// The branch of an `anyOf` or `oneOf` that the sender meant: the only one whose type and constants fit.
fn meant<'e, 's, 'v>(error: &'e ValidationError<'s, 'v>) -> Option<&'e ValidationError<'s, 'v>> {
    let here = error.instance_location.tokens.len();
    let fits = |branch: &&ValidationError<'_, '_>| {
        let mut fits = true;
        leaves(branch, &mut |inner| {
            let below = inner.instance_location.tokens.len().saturating_sub(here);
            match inner.kind {
                Kind::Type { .. } => fits &= below != 0,
                Kind::Const { .. } | Kind::Enum { .. } => fits &= below > 1,
                _ => {}
            }
        });
        fits
    };
    let mut fitting = error.causes.iter().filter(fits);
    fitting.next().filter(|_| fitting.next().is_none())
}

struct Spot<'a> {
    root: &'a str,
    tokens: &'a [InstanceToken<'a>],
}

impl Spot<'_> {
    /// `/agents/3/name`, behind the root's name where that is a parameter.
    fn pointer(&self) -> String {
        let mut pointer = self.root.to_owned();
        for token in self.tokens {
            match token {
                InstanceToken::Item(index) => pointer.push_str(&format!("/{index}")),
                InstanceToken::Prop(name) => step(&mut pointer, name),
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

fn message(error: &ValidationError<'_, '_>, forms: &Forms) -> String {
    match &error.kind {
        Kind::Type { want, .. } => format!("must be {}", types(*want)),
        Kind::Const { want } => format!("must be {}", short(want)),
        Kind::Enum { want } => match want.as_slice() {
            [only] => format!("must be {}", short(only)),
            all => format!("must be one of {}", all.iter().map(short).collect::<Vec<_>>().join(", ")),
        },
        Kind::MinLength { want: 1, .. } => "must not be empty".into(),
        Kind::MinLength { want, .. } => format!("must have at least {}", count(*want, "character")),
        Kind::MaxLength { want, .. } => format!("must have at most {}", count(*want, "character")),
        Kind::Pattern { want, .. } => match forms.get(*want) {
            Some(said) => format!("must {said}"),
            None => format!("must match {want}"),
        },
        Kind::Format { want, .. } if *want == name::FORMAT => name::RULE.into(),
        Kind::Format { want, .. } => format!("must be {}", format_name(want)),
        Kind::Minimum { want, .. } => format!("must be at least {want}"),
        Kind::Maximum { want, .. } => format!("must be at most {want}"),
        Kind::ExclusiveMinimum { want, .. } => format!("must be more than {want}"),
        Kind::ExclusiveMaximum { want, .. } => format!("must be less than {want}"),
        Kind::MultipleOf { want, .. } => format!("must be a multiple of {want}"),
        Kind::MinItems { want, .. } => format!("must have at least {}", count(*want, "item")),
        Kind::MaxItems { want, .. } => format!("must have at most {}", count(*want, "item")),
        Kind::UniqueItems { .. } => "must not have the same item twice".into(),
        Kind::MinProperties { want, .. } => format!("must have at least {}", count(*want, "field")),
        Kind::MaxProperties { want, .. } => format!("must have at most {}", count(*want, "field")),
        Kind::Contains | Kind::MinContains { .. } => "lacks an item that it must contain".into(),
        Kind::MaxContains { want, .. } => format!("must not have more than {want} of such items"),
        Kind::FalseSchema => "is not allowed here".into(),
        Kind::Not => "is of a form that is not allowed".into(),
        Kind::AnyOf | Kind::OneOf(None) => "fits none of the allowed forms".into(),
        Kind::OneOf(Some(_)) => "fits more than one of the allowed forms".into(),
        _ => "is not valid".into(),
    }
}

/// The JSON types that a schema asks for, in words such as `a string or null`.
fn types(want: Types) -> String {
    // Every integer is a number.
    let said = |it: &Type| *it != Type::Integer || !want.contains(Type::Number);
    let kinds: Vec<String> = want.iter().filter(said).map(|it| article(&it.to_string())).collect();
    kinds.join(" or ")
}

/// A number with its noun, in the plural where it takes one: `1 item`, `2 items`.
fn count(number: usize, of: &str) -> String {
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
