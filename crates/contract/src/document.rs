//! A document as a whole: its version, its references, its extensions, and pointers into it.

use crate::diagnostic::Findings;
use crate::{extension, schema, text};
use serde_json::Value;

/// References followed from one place before they count as going in circles.
const HOPS: usize = 16;

/// Members whose own members are names that the author chose, not words of OpenAPI or JSON Schema.
const NAMED: [&str; 20] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "schemas",
    "responses",
    "parameters",
    "headers",
    "requestBodies",
    "securitySchemes",
    "links",
    "callbacks",
    "pathItems",
    "paths",
    "webhooks",
    "content",
    "encoding",
    "variables",
    "dependentRequired",
];
/// Members that hold data, in which nothing has a meaning here.
const DATA: [&str; 8] = ["example", "examples", "default", "enum", "const", "mapping", "security", "scopes"];

/// A parsed OpenAPI 3 document whose references all lead somewhere.
pub(crate) struct Document {
    pub(crate) root: Value,
}

/// A value of the document and the pointer to it.
#[derive(Clone)]
pub(crate) struct Node<'d> {
    pub(crate) value: &'d Value,
    pub(crate) pointer: String,
}

impl<'d> Node<'d> {
    pub(crate) fn get(&self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        Some(Node { value, pointer: format!("{}/{}", self.pointer, escape(name)) })
    }

    /// What a pointer of ours (`#/a/b`) leads to from the top.
    pub(crate) fn at(&self, pointer: &str) -> Option<Self> {
        let value = self.value.pointer(pointer.strip_prefix('#')?)?;
        Some(Node { value, pointer: pointer.into() })
    }

    /// The members of an object, or none.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&'d str, Self)> {
        let pointer = self.pointer.clone();
        self.value.as_object().into_iter().flatten().map(move |(name, value)| {
            (name.as_str(), Node { value, pointer: format!("{pointer}/{}", escape(name)) })
        })
    }

    /// The items of an array, or none.
    pub(crate) fn items(&self) -> impl Iterator<Item = Self> {
        let pointer = self.pointer.clone();
        self.value
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .map(move |(index, value)| Node { value, pointer: format!("{pointer}/{index}") })
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'d str> {
        self.value.get(name)?.as_str()
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl Document {
    /// Parses a document and checks what holds everywhere in it. `None` when there is nothing to go on with.
    pub(crate) fn read(source: &str, findings: &mut Findings) -> Option<Self> {
        let mut root = match text::document(source) {
            Ok(root) => root,
            Err(message) => {
                findings.error("#", message);
                return None;
            }
        };
        let version = match root.get("openapi") {
            Some(Value::String(version)) => version.clone(),
            Some(Value::Number(version)) => version.to_string(),
            _ if root.get("swagger").is_some() => {
                findings.error(
                    "#/swagger",
                    "OpenAPI 2.0 (Swagger) is not supported; convert the document to 3.1",
                );
                return None;
            }
            _ => {
                findings.error("#", "not an OpenAPI document: it has no `openapi: 3.1.0`");
                return None;
            }
        };
        match version.split('.').take(2).collect::<Vec<_>>().as_slice() {
            ["3", "1"] => {}
            ["3", "0"] => {
                findings.warning(
                    "#/openapi",
                    "read as OpenAPI 3.0: `nullable`, boolean `exclusiveMinimum` and what stands beside `$ref` mean what they meant there",
                );
                schema::modernise(&mut root);
            }
            _ => {
                findings.error(
                    "#/openapi",
                    format!("OpenAPI {} is not supported; use 3.1", crate::field::quoted(&version)),
                );
                return None;
            }
        }
        let document = Self { root };
        document.walk(&document.top(), &mut Vec::new(), findings);
        Some(document)
    }

    pub(crate) fn top(&self) -> Node<'_> {
        Node { value: &self.root, pointer: "#".into() }
    }

    /// The value that a local reference (`#/components/schemas/Agent`) names.
    pub(crate) fn locate(&self, reference: &str) -> Option<Node<'_>> {
        let fragment = crate::checks::percent_decode(reference.strip_prefix('#')?)?;
        let value = self.root.pointer(&fragment)?;
        Some(Node { value, pointer: format!("#{fragment}") })
    }

    /// Follows `$ref` until there is none. `None` where it leads nowhere or in circles, which [`Document::read`] or
    /// [`Document::walk`] has reported.
    pub(crate) fn resolve<'d>(&'d self, node: Node<'d>) -> Option<Node<'d>> {
        let mut node = node;
        for _ in 0..HOPS {
            match node.text("$ref") {
                None => return Some(node),
                Some(reference) => node = self.locate(reference)?,
            }
        }
        None
    }

    fn walk(&self, node: &Node<'_>, path: &mut Vec<String>, findings: &mut Findings) {
        for item in node.items() {
            path.push(String::new());
            self.walk(&item, path, findings);
            path.pop();
        }
        if let Some(reference) = node.value.get("$ref") {
            self.check_reference(reference, node, findings);
        }
        for (name, member) in node.members() {
            extension::check(name, &member, path, findings);
            if name.starts_with("x-") || DATA.contains(&name) {
                continue;
            }
            path.push(name.into());
            if NAMED.contains(&name) && member.value.is_object() {
                for (own, value) in member.members() {
                    path.push(own.into());
                    if matches!(path.as_slice(), [a, b, _] if a == "components" && b == "schemas") {
                        schema::lint(&value, findings);
                    }
                    self.walk(&value, path, findings);
                    path.pop();
                }
            } else {
                if name == "schema" {
                    schema::lint(&member, findings);
                }
                self.walk(&member, path, findings);
            }
            path.pop();
        }
    }

    fn check_reference(&self, reference: &Value, node: &Node<'_>, findings: &mut Findings) {
        let shown = |text: &str| crate::field::quoted(text);
        let Some(reference) = reference.as_str() else {
            return findings.error(&node.pointer, "`$ref` must be a text");
        };
        if !reference.starts_with('#') {
            let message =
                format!("`$ref: {}` leaves the document; bundle it into one document", shown(reference));
            findings.error(&node.pointer, message);
        } else if self.locate(reference).is_none() {
            findings.error(&node.pointer, format!("`$ref: {}` leads nowhere", shown(reference)));
        } else if self.resolve(node.clone()).is_none() && self.circles(node.clone()) {
            findings.error(&node.pointer, format!("`$ref: {}` leads in circles", shown(reference)));
        }
    }

    /// Whether a chain of references has no end, as opposed to a missing end.
    fn circles<'d>(&'d self, node: Node<'d>) -> bool {
        let mut node = node;
        for _ in 0..HOPS {
            match node.text("$ref").map(|reference| self.locate(reference)) {
                Some(Some(next)) => node = next,
                _ => return false,
            }
        }
        true
    }
}
