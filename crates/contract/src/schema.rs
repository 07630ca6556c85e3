//! Schemas: what is wrong with them, whether they are small enough to be checked against, and their validators.

use crate::diagnostic::Findings;
use crate::document::{Document, Node};
use crate::validator::{self, Source, Validator};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Schemas that one body may go through, each counted as often as it is reached.
const MOST_SCHEMAS: u64 = 20_000;
/// The same over all operations of a document.
const MOST_SCHEMAS_IN_ALL: u64 = 400_000;
/// Schemas on one way from a body to its smallest part, references included.
const DEEPEST: usize = 64;
/// Memory for one pattern, in bytes.
const PATTERN_BYTES: usize = 4 << 20;
/// The document's address for the validator; nothing is fetched from it.
const ADDRESS: &str = "urn:contract";

/// Keywords whose value is a schema, a list of schemas, or schemas by name; `true` where it sees the same value as its parent.
const APPLICATORS: [(&str, bool); 20] = [
    ("allOf", true),
    ("anyOf", true),
    ("oneOf", true),
    ("not", true),
    ("if", true),
    ("then", true),
    ("else", true),
    ("dependentSchemas", true),
    ("prefixItems", false),
    ("items", false),
    ("contains", false),
    ("properties", false),
    ("patternProperties", false),
    ("additionalProperties", false),
    ("propertyNames", false),
    ("unevaluatedItems", false),
    ("unevaluatedProperties", false),
    ("contentSchema", false),
    ("$defs", false),
    ("definitions", false),
];
const KEYWORDS: [&str; 43] = [
    "$ref",
    "$comment",
    "$schema",
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "format",
    "contentEncoding",
    "contentMediaType",
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "examples",
    "example",
    "discriminator",
    "xml",
    "externalDocs",
    "nullable",
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
];
/// Ways to name a schema that would give one text two meanings, depending on who asks.
const OTHER_NAMES: [&str; 5] = ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"];
/// Formats of OpenAPI that say how a number or text is stored, and ask for no check of a text.
const STORAGE_FORMATS: [&str; 7] = ["int32", "int64", "float", "double", "byte", "binary", "password"];

/// The schemas directly inside a schema, each with whether it sees the same value.
fn parts<'d>(schema: &Node<'d>) -> Vec<(Node<'d>, bool)> {
    let mut parts = Vec::new();
    for (keyword, same) in APPLICATORS {
        let Some(node) = schema.get(keyword) else { continue };
        match keyword {
            "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => {
                parts.extend(node.members().map(|(_, part)| (part, same)));
            }
            _ if node.value.is_array() => parts.extend(node.items().map(|part| (part, same))),
            _ => parts.push((node, same)),
        }
    }
    parts
}

/// Reports what is wrong with a schema, whether or not a request is checked against it.
pub(crate) fn lint(schema: &Node<'_>, findings: &mut Findings) {
    if let Err(error) = validator::check_schema(schema.value) {
        let message = format!("not a JSON Schema: {}", error.message);
        findings.error(&format!("{}{}", schema.pointer, error.field), message);
    }
    lint_words(schema, findings);
}

fn lint_words(schema: &Node<'_>, findings: &mut Findings) {
    for (keyword, member) in schema.members() {
        let known = KEYWORDS.contains(&keyword) || APPLICATORS.iter().any(|(it, _)| *it == keyword);
        if OTHER_NAMES.contains(&keyword) {
            findings.error(
                &member.pointer,
                format!("`{keyword}` is not supported; use `$ref` with a JSON pointer"),
            );
        } else if !known && !keyword.starts_with("x-") {
            let message = format!("`{}` is not a keyword and checks nothing", crate::field::quoted(keyword));
            findings.warning(&member.pointer, message);
        }
    }
    if let Some(draft) = schema.text("$schema")
        && draft != "https://json-schema.org/draft/2020-12/schema"
    {
        findings.error(&schema.pointer, "`$schema` must be JSON Schema 2020-12");
    }
    if let Some(format) = schema.text("format")
        && !STORAGE_FORMATS.contains(&format)
        && !validator::is_known_format(format)
    {
        let message = format!("format `{}` is unknown and not checked", crate::field::quoted(format));
        findings.warning(&schema.pointer, message);
    }
    if let Some(what) = schema.text("pattern").and_then(crate::pattern::unportable) {
        let message = format!(
            "the pattern uses {what}, which the engines of some clients do not know or read otherwise"
        );
        findings.error(&schema.pointer, message);
    }
    let names = schema.get("patternProperties");
    let names = names.iter().flat_map(Node::members).map(|(name, _)| name);
    if schema.text("pattern").into_iter().chain(names).any(|it| !validator::pattern_fits(it, PATTERN_BYTES)) {
        findings.error(
            &schema.pointer,
            "a pattern is no regular expression that takes linear time and little memory",
        );
    }
    for (part, _) in parts(schema) {
        lint_words(&part, findings);
    }
}

/// Whether checking against a schema ends, and soon: no reference reaches itself without going down into the value,
/// and what it unfolds to is bounded. Answers how many schemas that is.
fn bounded(document: &Document, schema: &Node<'_>) -> Result<u64, String> {
    let mut survey = Survey { document, size: HashMap::new(), open: Vec::new(), closed: HashMap::new() };
    let (size, _) = survey.measure(schema, 0)?;
    let mut names: Vec<String> = survey.size.keys().cloned().collect();
    names.sort();
    for name in names {
        survey.descend(&name, 0)?;
    }
    Ok(size)
}

struct Survey<'d> {
    document: &'d Document,
    /// Schemas and levels behind a reference.
    size: HashMap<String, (u64, usize)>,
    /// References that are being measured; one that is met again meanwhile adds nothing.
    open: Vec<String>,
    /// References being followed without going down (`false`), or done with (`true`).
    closed: HashMap<String, bool>,
}

impl Survey<'_> {
    fn measure(&mut self, schema: &Node<'_>, depth: usize) -> Result<(u64, usize), String> {
        let (mut size, mut height) = (1u64, 1);
        let mut include = |(more, levels): (u64, usize)| {
            size = size.saturating_add(more);
            height = height.max(levels + 1);
        };
        for (part, _) in parts(schema) {
            include(self.measure(&part, depth + 1)?);
        }
        if let Some(reference) = schema.text("$ref") {
            include(self.measure_reference(reference, depth + 1)?);
        }
        if depth + height > DEEPEST {
            return Err(format!("its schemas nest more than {DEEPEST} deep"));
        }
        if size > MOST_SCHEMAS {
            return Err(format!("it unfolds to more than {MOST_SCHEMAS} schemas"));
        }
        Ok((size, height))
    }

    fn measure_reference(&mut self, reference: &str, depth: usize) -> Result<(u64, usize), String> {
        if let Some(known) = self.size.get(reference) {
            return Ok(*known);
        }
        if self.open.iter().any(|open| open == reference) {
            return Ok((0, 0));
        }
        if depth > DEEPEST {
            return Err(format!("its schemas nest more than {DEEPEST} deep"));
        }
        let document = self.document;
        let target = document.locate(reference).ok_or("a reference in it leads nowhere")?;
        self.open.push(reference.into());
        let size = self.measure(&target, depth)?;
        self.open.pop();
        self.size.insert(reference.into(), size);
        Ok(size)
    }

    /// Follows only what sees the same value; coming back to where it is already means going on for ever.
    fn descend(&mut self, reference: &str, depth: usize) -> Result<(), String> {
        match self.closed.get(reference) {
            Some(true) => return Ok(()),
            Some(false) => {
                return Err(format!("`{}` refers to itself without end", crate::field::quoted(reference)));
            }
            None => {}
        }
        if depth > DEEPEST {
            return Err(format!("its schemas nest more than {DEEPEST} deep"));
        }
        let document = self.document;
        let target = document.locate(reference).ok_or("a reference in it leads nowhere")?;
        self.closed.insert(reference.into(), false);
        let mut names = Vec::new();
        same_value_references(&target, &mut names);
        for name in names {
            self.descend(name, depth + 1)?;
        }
        self.closed.insert(reference.into(), true);
        Ok(())
    }
}

fn same_value_references<'d>(schema: &Node<'d>, names: &mut Vec<&'d str>) {
    names.extend(schema.text("$ref"));
    for (part, same) in parts(schema) {
        if same {
            same_value_references(&part, names);
        }
    }
}

/// Makes validators for schemas of one document.
pub(crate) struct Compiler<'d> {
    document: &'d Document,
    source: RefCell<Source>,
    compiled: Cell<u64>,
}

impl<'d> Compiler<'d> {
    /// Takes the document in; the message says why it can't.
    pub(crate) fn new(document: &'d Document) -> Result<Self, String> {
        let source = RefCell::new(Source::new(ADDRESS, &document.root)?);
        Ok(Self { document, source, compiled: Cell::new(0) })
    }

    /// The validator of a schema: patterns in linear time, formats checked, nothing fetched.
    pub(crate) fn compile(&self, schema: &Node<'d>) -> Result<Validator, String> {
        let compiled = self.compiled.get().saturating_add(bounded(self.document, schema)?);
        if compiled > MOST_SCHEMAS_IN_ALL {
            return Err(format!("all bodies together unfold to more than {MOST_SCHEMAS_IN_ALL} schemas"));
        }
        self.compiled.set(compiled);
        let fragment = encode_fragment(schema.pointer.trim_start_matches('#'));
        self.source.borrow_mut().compile(&format!("{ADDRESS}#{fragment}"))
    }
}

/// What stands plainly in the fragments that are made here.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A JSON pointer as a URI fragment (RFC 6901 §6).
pub(crate) fn encode_fragment(pointer: &str) -> String {
    utf8_percent_encode(pointer, PLAIN).to_string()
}

/// Rewrites the schemas of an OpenAPI 3.0 document to JSON Schema 2020-12.
pub(crate) fn modernise(root: &mut Value) {
    modernise_in(root, false);
}

/// `named`: the members of `value` are names, so `nullable` among them is a property.
fn modernise_in(value: &mut Value, named: bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| modernise_in(item, false)),
        Value::Object(members) => {
            if !named {
                modernise_schema(members);
            }
            for (name, member) in members.iter_mut() {
                let data = matches!(name.as_str(), "example" | "examples" | "default" | "enum" | "const");
                if named || !data {
                    modernise_in(
                        member,
                        !named && matches!(name.as_str(), "properties" | "schemas" | "responses"),
                    );
                }
            }
        }
        _ => {}
    }
}

fn modernise_schema(members: &mut Map<String, Value>) {
    // Beside a reference everything was ignored in 3.0, and is not any more.
    if members.get("$ref").is_some_and(Value::is_string) {
        members.retain(|name, _| name == "$ref");
        return;
    }
    if members.get("nullable").is_some_and(Value::is_boolean)
        && members.remove("nullable") == Some(Value::Bool(true))
        && let Some(kind) = members.get("type").cloned()
    {
        members.insert("type".into(), json!([kind, "null"]));
        if let Some(Value::Array(options)) = members.get_mut("enum")
            && !options.contains(&Value::Null)
        {
            options.push(Value::Null);
        }
    }
    for (flag, limit) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match members.get(flag) {
            Some(Value::Bool(true)) => match members.remove(limit) {
                Some(value) => members.insert(flag.into(), value),
                None => members.remove(flag),
            },
            Some(Value::Bool(false)) => members.remove(flag),
            _ => None,
        };
    }
}
