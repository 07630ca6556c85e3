//! Puts documents beside one another.

use crate::diagnostic::Findings;
use serde_json::Value;

/// Members whose members, or whose members' members, come from several documents: how deep that goes.
const SHARED: [(&str, usize); 4] = [("paths", 1), ("components", 2), ("x-scopes", 1), ("tags", 0)];

/// Adds a document to those that were added before.
pub(crate) fn add(whole: &mut Value, document: Value, findings: &mut Findings) {
    let (Some(into), Value::Object(members)) = (whole.as_object_mut(), &document) else {
        *whole = document;
        return;
    };
    for (name, value) in members {
        match SHARED.iter().find(|(known, _)| known == name) {
            Some((_, depth)) => {
                let old = into.entry(name.clone()).or_insert_with(|| match value {
                    Value::Array(_) => Value::Array(Vec::new()),
                    _ => Value::Object(Default::default()),
                });
                put(old, value, *depth, &format!("#/{name}"), findings);
            }
            None if name == "info" => drop(into.insert(name.clone(), value.clone())),
            None => match into.get(name) {
                Some(old) if old != value => {
                    findings.error(
                        &format!("#/{name}"),
                        "two documents that belong together say different things",
                    );
                }
                _ => drop(into.insert(name.clone(), value.clone())),
            },
        }
    }
}

fn put(into: &mut Value, value: &Value, depth: usize, pointer: &str, findings: &mut Findings) {
    match (into, value) {
        (Value::Array(into), Value::Array(more)) => into.extend(more.iter().cloned()),
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                let place = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                match into.get_mut(name) {
                    Some(old) if depth > 1 => put(old, value, depth - 1, &place, findings),
                    Some(_) => findings.error(&place, "stands in two documents that belong together"),
                    None => drop(into.insert(name.clone(), value.clone())),
                }
            }
        }
        _ => findings.error(pointer, "is an object in one document and something else in another"),
    }
}
