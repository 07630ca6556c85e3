//! A schema that values are held against, and what it costs to make one.

use crate::field::{self, FieldError};
use crate::name;
use boon::{Draft, Format, SchemaIndex, Schemas, ValidationError};
use regex::RegexBuilder;
use serde_json::Value;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Formats that a text is checked for, besides our own.
const FORMATS: [&str; 19] = [
    "regex",
    "ipv4",
    "ipv6",
    "hostname",
    "idn-hostname",
    "email",
    "idn-email",
    "date",
    "time",
    "date-time",
    "duration",
    "json-pointer",
    "relative-json-pointer",
    "uuid",
    "uri",
    "iri",
    "uri-reference",
    "iri-reference",
    "uri-template",
];
/// Where JSON Schema describes itself.
const SELF: &str = "https://json-schema.org/draft/2020-12/schema";
/// The address of a schema that stands alone.
const ALONE: &str = "urn:schema";

/// What to say of a text that does not fit a pattern, by the pattern as it is compiled: what the `x-form` beside it says, or itself.
pub(crate) type Forms = HashMap<String, String>;

/// A compiled schema of JSON Schema 2020-12. Formats are checked; patterns take linear time.
#[derive(Clone)]
pub struct Validator {
    schemas: Arc<Schemas>,
    index: SchemaIndex,
    forms: Arc<Forms>,
}

impl fmt::Debug for Validator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Validator").finish_non_exhaustive()
    }
}

impl Validator {
    /// Compiles a schema that refers to nothing outside itself. The message says why it can't be used.
    pub fn new(schema: &Value) -> Result<Self, String> {
        Source::new(ALONE, schema)?.compile(ALONE)
    }

    /// Whether `value` satisfies the schema; [`Validator::check`] also says why it does not.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }

    /// Says what is wrong with a value, in words that repeat nothing of it: up to 20 errors, whose fields are JSON Pointers (RFC 6901).
    pub fn check(&self, value: &Value) -> Result<(), Vec<FieldError>> {
        self.check_as(field::BODY, value)
    }

    /// The same, where `root` names the value as a whole.
    pub(crate) fn check_as(&self, root: &str, value: &Value) -> Result<(), Vec<FieldError>> {
        let found = self.schemas.validate(value, self.index);
        found.map_err(|error| field::explain(root, &error, &self.forms))
    }
}

/// A document whose schemas are compiled, each for itself.
pub(crate) struct Source {
    compiler: boon::Compiler,
    forms: Arc<Forms>,
}

impl Source {
    /// Takes a document in, under an address by which its schemas are found; the message says why it can't. Knows our own format, and loads
    /// nothing from anywhere.
    pub(crate) fn new(address: &str, document: &Value) -> Result<Self, String> {
        let mut compiler = boon::Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.use_loader(Box::new(Nothing));
        compiler.register_format(Format { name: name::FORMAT, func: is_name });
        let (mut document, mut forms) = (document.clone(), Forms::new());
        spell_out(&mut document, &mut forms);
        compiler.add_resource(address, document).map_err(|error| error.to_string())?;
        Ok(Self { compiler, forms: Arc::new(forms) })
    }

    /// The validator of the schema at an address.
    pub(crate) fn compile(&mut self, address: &str) -> Result<Validator, String> {
        let mut schemas = Schemas::new();
        let index = self.compiler.compile(address, &mut schemas).map_err(|error| error.to_string())?;
        Ok(Validator { schemas: Arc::new(schemas), index, forms: self.forms.clone() })
    }
}

/// Says what keeps a value from being a JSON Schema: where (a JSON Pointer), and what is wrong there.
pub fn check_schema(schema: &Value) -> Result<(), FieldError> {
    static META: LazyLock<Result<Validator, String>> =
        LazyLock::new(|| Source::new(ALONE, &Value::Bool(true))?.compile(SELF));
    let first = match META.as_ref() {
        Ok(meta) => meta.check(schema).map_err(|all| all.into_iter().next()),
        Err(message) => Err(Some(FieldError::in_body(field::BODY, message))),
    };
    first.map_err(|error| error.unwrap_or_else(|| FieldError::in_body(field::BODY, "is not valid")))
}

/// Writes the patterns of a document as they are compiled, and what to say of them into `forms`.
fn spell_out(value: &mut Value, forms: &mut Forms) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(pattern)) = members.get("pattern") {
                let spelled = spelled_out(pattern);
                let said = match members.get("x-form") {
                    Some(Value::String(form)) => format!("be {form}"),
                    _ => format!("match {pattern}"),
                };
                forms.insert(spelled.clone(), said);
                members.insert("pattern".into(), spelled.into());
            }
            if let Some(Value::Object(names)) = members.get_mut("patternProperties") {
                *names =
                    std::mem::take(names).into_iter().map(|(it, under)| (spelled_out(&it), under)).collect();
            }
            for (name, member) in members {
                // What only looks like a schema there is data.
                if !matches!(name.as_str(), "const" | "enum" | "default" | "example" | "examples") {
                    spell_out(member, forms);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|it| spell_out(it, forms)),
        _ => {}
    }
}

/// A pattern whose short classes mean what ECMA-262 (§22.2.2) says, and not what Rust's engine does: `\d` has ten digits, `\w` 63 letters,
/// digits and `_`, `\s` the white space and line ends of that standard.
fn spelled_out(pattern: &str) -> String {
    const SPACE: &str =
        r"\t\n\x0B\x0C\r \u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}";
    let mut spelled = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(it) = rest.next() {
        let Some(class) = (if it == '\\' { rest.next() } else { None }) else {
            spelled.push(it);
            continue;
        };
        let members = match class.to_ascii_lowercase() {
            'd' => "0-9",
            'w' => "A-Za-z0-9_",
            's' => SPACE,
            _ => {
                spelled.extend([it, class]);
                continue;
            }
        };
        let not = if class.is_ascii_uppercase() { "^" } else { "" };
        spelled.push_str(&format!("[{not}{members}]"));
    }
    spelled
}

/// Whether a pattern can be compiled, and takes at most so many bytes then.
pub fn pattern_fits(pattern: &str, bytes: usize) -> bool {
    RegexBuilder::new(&spelled_out(pattern)).size_limit(bytes).dfa_size_limit(bytes).build().is_ok()
}

pub(crate) fn is_known_format(format: &str) -> bool {
    format == name::FORMAT || FORMATS.contains(&format)
}

fn is_name(value: &Value) -> Result<(), Box<dyn Error>> {
    match value {
        Value::String(text) if !name::is_name(text) => Err(name::RULE.into()),
        _ => Ok(()),
    }
}

struct Nothing;

impl boon::UrlLoader for Nothing {
    fn load(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        Err("a schema must not refer to another document".into())
    }
}

/// What was found wrong, without the steps by which the schema was gone through: groups, references and parts of `allOf`.
pub(crate) fn leaves<'e, 's, 'v>(
    error: &'e ValidationError<'s, 'v>,
    each: &mut dyn FnMut(&'e ValidationError<'s, 'v>),
) {
    use boon::ErrorKind::{AllOf, Group, Reference, Schema};
    match error.kind {
        Group | Schema { .. } | Reference { .. } | AllOf => {
            error.causes.iter().for_each(|it| leaves(it, each))
        }
        _ => each(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_classes_mean_what_the_standard_says() {
        let fits = |pattern: &str, text: &str| {
            let validator = Validator::new(&json!({"type": "string", "pattern": pattern})).unwrap();
            validator.is_valid(&json!(text))
        };
        for space in "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{2005}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}".chars() {
            assert!(fits(r"^\s$", &space.to_string()), "{space:?}");
            assert!(!fits(r"^[^\s@]$", &space.to_string()), "{space:?}");
            assert!(!fits(r"^\S$", &space.to_string()), "{space:?}");
        }
        assert!(!fits(r"^\s$", "\u{200b}") && fits(r"^[\S]$", "a"));
        assert!(fits(r"^\d{2}$", "42") && !fits(r"^\d$", "\u{663}") && fits(r"^[\D]$", "\u{663}"));
        assert!(fits(r"^[\w-.]+$", "a_9-.") && !fits(r"^\w$", "\u{e9}") && fits(r"^\W$", "\u{e9}"));
        assert!(fits(r"^\\d$", "\\d") && fits(r"^a\.b\/c$", "a.b/c") && fits("^\u{e9}+$", "\u{e9}\u{e9}"));
    }

    #[test]
    fn what_only_looks_like_a_pattern_stays() {
        let validator = Validator::new(&json!({"const": {"pattern": r"\d"}})).unwrap();
        assert!(validator.is_valid(&json!({"pattern": r"\d"})));
        let named = json!({"patternProperties": {r"^\d$": {"type": "null"}}, "additionalProperties": false});
        let named = Validator::new(&named).unwrap();
        assert!(named.is_valid(&json!({"7": null})) && !named.is_valid(&json!({"x": null})));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_text_is_too_strange_for_a_format(text in "[0-9TZtz:+./@%~#\\[\\]{}PYMDHWS é\u{1f600}\u{2028}-]{0,24}", any in ".{0,24}") {
            static ALL: LazyLock<Vec<Validator>> = LazyLock::new(|| {
                let each = FORMATS.iter().chain([&name::FORMAT]);
                each.map(|it| Validator::new(&json!({"type": "string", "format": it})).unwrap()).collect()
            });
            for validator in ALL.iter() {
                for text in [&text, &any] {
                    let _ = validator.check(&json!(text)); // It answers, and does not panic.
                }
            }
        }
    }

    #[test]
    fn a_schema_leads_nowhere_else() {
        for other in ["file:///etc/hostname", "https://example.com/schema.json", "urn:other#/a"] {
            assert!(Validator::new(&json!({"$ref": other})).is_err(), "{other}");
        }
    }
}
