//! What changed between two versions of a document, and whether callers notice.

use crate::document::{Document, Node};
use crate::field::quoted;
use crate::{Api, Checks, Diagnostic, compile};
use flowyte_core::{Operation, Requirement, ScopeSet, ScopeTable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Levels of a body that are compared; below them, only callers with very deep bodies notice.
const DEEPEST: usize = 12;
/// Fields of a body that are compared, so that a small document can't ask for endless work.
const MOST_FIELDS: usize = 5_000;

/// One change. `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A caller of the old version may be refused or misunderstood by the new one.
    pub breaking: bool,
    /// `operationId`, or `x-scopes` for a scope.
    pub operation: String,
    /// What changed, in one sentence.
    pub message: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.breaking { "breaking" } else { "compatible" };
        write!(f, "{kind}: {}: {}", quoted(&self.operation), self.message)
    }
}

/// Compares two documents, both of which must compile; else the errors of each, with `old` or `new` before their place.
pub fn diff(old: &str, new: &str) -> Result<Vec<Change>, Vec<Diagnostic>> {
    let read = |text: &str, name: &str| {
        compile(text).map_err(|mut found| {
            found.iter_mut().for_each(|it| it.place = format!("{name} {}", it.place));
            found
        })
    };
    let (old, new) = match (read(old, "old"), read(new, "new")) {
        (Ok(old), Ok(new)) => (Side::new(old), Side::new(new)),
        (old, new) => return Err([old.err(), new.err()].into_iter().flatten().flatten().collect()),
    };
    let mut changes = Changes { operation: "x-scopes".into(), list: Vec::new() };
    compare_scopes(old.contract.scopes(), new.contract.scopes(), &mut changes);
    let find = |side: &'_ Side, id: &str| side.contract.operations().iter().position(|it| it.id == id);
    for (index, operation) in old.contract.operations().iter().enumerate() {
        changes.operation = operation.id.clone();
        match find(&new, &operation.id) {
            None => changes.breaking(format!("removed ({} {})", operation.method, operation.template)),
            Some(other) => compare(&old, index, &new, other, &mut changes),
        }
    }
    for operation in new.contract.operations().iter().filter(|it| find(&old, &it.id).is_none()) {
        changes.operation = operation.id.clone();
        changes.compatible(format!("added ({} {})", operation.method, operation.template));
    }
    Ok(changes.list)
}

struct Side {
    contract: Arc<flowyte_core::Contract>,
    checks: Vec<Checks>,
    document: Document,
}

impl Side {
    fn new(api: Api) -> Self {
        Self { contract: api.contract, checks: api.checks, document: Document { root: api.document } }
    }
}

struct Changes {
    operation: String,
    list: Vec<Change>,
}

impl Changes {
    fn add(&mut self, breaking: bool, message: impl Into<String>) {
        self.list.push(Change { breaking, operation: self.operation.clone(), message: message.into() });
    }

    fn breaking(&mut self, message: impl Into<String>) {
        self.add(true, message);
    }

    fn compatible(&mut self, message: impl Into<String>) {
        self.add(false, message);
    }

    /// A rule that was `old` and is `new`; callers notice when it begins to hold.
    fn rule(&mut self, old: bool, new: bool, begins: &str, ends: &str) {
        match (old, new) {
            (false, true) => self.breaking(begins),
            (true, false) => self.compatible(ends),
            _ => {}
        }
    }
}

fn compare_scopes(old: &ScopeTable, new: &ScopeTable, changes: &mut Changes) {
    for (_, was) in old.iter() {
        let Some((_, is)) = new.iter().find(|(_, it)| it.name == was.name) else {
            changes.breaking(format!("scope {} removed", was.name));
            continue;
        };
        let mut holder = |before: bool, after: bool, who: &str| {
            let (begins, ends) =
                (format!("{who} hold {}", was.name), format!("{who} no longer hold {}", was.name));
            // The rule is not to hold it.
            changes.rule(!before, !after, &ends, &begins);
        };
        holder(was.for_secret_keys, is.for_secret_keys, "secret keys may");
        holder(was.for_publishable_keys, is.for_publishable_keys, "publishable keys may");
        for role in flowyte_core::Role::ALL {
            holder(
                was.roles.contains(&role),
                is.roles.contains(&role),
                &format!("members with role {role} may"),
            );
        }
    }
    for (_, is) in new.iter().filter(|(_, it)| old.find(&it.name).is_none()) {
        changes.compatible(format!("scope {} added", is.name));
    }
}

fn compare(old: &Side, old_index: usize, new: &Side, new_index: usize, changes: &mut Changes) {
    let (was, is) = (&old.contract.operations()[old_index], &new.contract.operations()[new_index]);
    if (&was.method, &was.template) != (&is.method, &is.template) {
        changes
            .breaking(format!("moved from {} {} to {} {}", was.method, was.template, is.method, is.template));
    }
    compare_requirements((was, old.contract.scopes()), (is, new.contract.scopes()), changes);
    changes.rule(
        was.reserved,
        is.reserved,
        "is reserved now and refuses every caller",
        "is no longer reserved",
    );
    changes.rule(
        was.fresh_session,
        is.fresh_session,
        "asks for a session that signed in recently",
        "no longer asks for a session that signed in recently",
    );
    changes.rule(
        !was.cors,
        !is.cors,
        "can no longer be called from other sites",
        "can be called from other sites",
    );
    if was.query_credential != is.query_credential {
        changes.add(
            was.query_credential.is_some(),
            "the query parameter that carries the credential has changed",
        );
    }
    if was.pinned_parameter != is.pinned_parameter {
        changes.add(
            is.pinned_parameter.is_some(),
            "the parameter that names the resource which the key must be pinned to has changed",
        );
    }
    let (before, after) = (&old.checks[old_index], &new.checks[new_index]);
    compare_checks(before, after, changes);
    compare_queries((old, before), (new, after), changes);
    let fields = |side: &Side, checks: &Checks| {
        let node = checks.body_schema.as_ref().and_then(|pointer| side.document.top().at(pointer));
        node.map(|node| Shape::of(&side.document, node))
    };
    match (fields(old, before), fields(new, after)) {
        (Some(before), Some(after)) => before.compare(&after, "field", "", changes),
        (None, Some(_)) if before.has_body => changes.breaking("the body is checked against a schema now"),
        _ => {}
    }
}

fn compare_requirements(
    (was, old_scopes): (&Operation, &ScopeTable),
    (is, new_scopes): (&Operation, &ScopeTable),
    changes: &mut Changes,
) {
    let describe = |kind: &str, names: &[&str]| match names {
        [] => kind.to_owned(),
        _ => format!("{kind} with {}", names.join(" and ")),
    };
    match (was.requirement(), is.requirement()) {
        (Requirement::Public, Requirement::Public) => {}
        (Requirement::Public, Requirement::Credential(_)) => {
            changes.breaking("asks for a credential; was public")
        }
        (Requirement::Credential(_), Requirement::Public) => {
            changes.compatible("is public; asked for a credential")
        }
        (Requirement::Credential(before), Requirement::Credential(after)) => {
            // Scopes are compared by name: each version numbers its own.
            let translate = |set: ScopeSet, from: &ScopeTable, to: &ScopeTable| -> Option<ScopeSet> {
                from.names(set).into_iter().map(|name| to.find(name)).collect()
            };
            for alternative in before {
                let enough = after.iter().any(|it| {
                    it.kind == alternative.kind
                        && translate(it.scopes, new_scopes, old_scopes)
                            .is_some_and(|set| alternative.scopes.covers(set))
                });
                if !enough {
                    let what = describe(alternative.kind.as_str(), &old_scopes.names(alternative.scopes));
                    changes.breaking(format!("tightened: {what} is no longer enough"));
                }
            }
            for alternative in after {
                let enough = before.iter().any(|it| {
                    it.kind == alternative.kind
                        && translate(it.scopes, old_scopes, new_scopes)
                            .is_some_and(|set| alternative.scopes.covers(set))
                });
                if !enough {
                    let what = describe(alternative.kind.as_str(), &new_scopes.names(alternative.scopes));
                    changes.compatible(format!("loosened: {what} is enough now"));
                }
            }
        }
    }
}

fn compare_checks(before: &Checks, after: &Checks, changes: &mut Changes) {
    if before.success_status != after.success_status {
        changes.breaking(format!("success is {} now; was {}", after.success_status, before.success_status));
    }
    if before.sse != after.sse {
        changes.breaking(if after.sse {
            "answers with a stream of events now"
        } else {
            "no longer answers with a stream of events"
        });
    }
    changes.rule(
        !before.idempotent,
        !after.idempotent,
        "no longer takes an Idempotency-Key",
        "takes an Idempotency-Key",
    );
    changes.rule(!before.has_body, !after.has_body, "no longer takes a body", "takes a body");
    changes.rule(
        before.body_required,
        after.body_required,
        "the body is required now",
        "the body is no longer required",
    );
    if before.has_body && after.has_body && before.content_type != after.content_type {
        changes.breaking(format!(
            "the body is {} now",
            quoted(after.content_type.as_deref().unwrap_or("of no type"))
        ));
    }
    if before.max_body_bytes != after.max_body_bytes {
        let lower =
            after.max_body_bytes.is_some_and(|limit| before.max_body_bytes.is_none_or(|old| limit < old));
        changes.add(
            lower,
            match after.max_body_bytes {
                Some(limit) => format!("bodies have at most {limit} bytes now"),
                None => "bodies have no limit of their own any more".into(),
            },
        );
    }
}

fn compare_queries((old, before): (&Side, &Checks), (new, after): (&Side, &Checks), changes: &mut Changes) {
    for was in &before.parameters {
        let name = quoted(&was.name);
        let Some(is) = after.parameters.iter().find(|it| it.name == was.name) else {
            changes.breaking(format!("query parameter `{name}` is ignored now"));
            continue;
        };
        changes.rule(
            was.required,
            is.required,
            &format!("query parameter `{name}` is required now"),
            &format!("query parameter `{name}` is no longer required"),
        );
        if was.default != is.default {
            changes.breaking(format!("query parameter `{name}` has another default"));
        }
        if let (Some(x), Some(y)) = (old.document.top().at(&was.pointer), new.document.top().at(&is.pointer))
        {
            let (x, y) = (Shape::of(&old.document, x), Shape::of(&new.document, y));
            x.compare(&y, "query parameter", &was.name, changes);
        }
    }
    for is in after.parameters.iter().filter(|it| !before.parameters.iter().any(|was| was.name == it.name)) {
        let name = quoted(&is.name);
        match is.required {
            true => changes.breaking(format!("query parameter `{name}` was added and is required")),
            false => changes.compatible(format!("query parameter `{name}` was added")),
        }
    }
}

/// What a schema asks of each field, by path (`` for the value itself, `scopes[]` for items).
#[derive(Default)]
struct Shape(BTreeMap<String, Rules>);

#[derive(Default)]
struct Rules {
    required: bool,
    closed: bool,
    /// Keyword and value: limits, types, patterns.
    words: BTreeMap<&'static str, Value>,
}

/// Keywords whose change matters, and how two values of one compare.
const WORDS: [(&str, Rank); 20] = [
    ("type", Rank::Options),
    ("enum", Rank::Options),
    ("const", Rank::None),
    ("anyOf", Rank::None),
    ("oneOf", Rank::None),
    ("not", Rank::None),
    ("pattern", Rank::None),
    ("format", Rank::None),
    ("multipleOf", Rank::None),
    ("uniqueItems", Rank::None),
    ("minLength", Rank::Less),
    ("minItems", Rank::Less),
    ("minProperties", Rank::Less),
    ("minimum", Rank::Less),
    ("exclusiveMinimum", Rank::Less),
    ("maxLength", Rank::More),
    ("maxItems", Rank::More),
    ("maxProperties", Rank::More),
    ("maximum", Rank::More),
    ("exclusiveMaximum", Rank::More),
];

#[derive(Clone, Copy)]
enum Rank {
    /// Any change may shut something out.
    None,
    /// A larger value lets less in.
    Less,
    /// A larger value lets more in.
    More,
    /// A list of what is let in.
    Options,
}

impl Shape {
    fn of(document: &Document, schema: Node<'_>) -> Self {
        let mut shape = Self::default();
        shape.collect(document, schema, String::new(), 0);
        shape
    }

    /// `allOf` parts and what a reference leads to are laid over each other. `anyOf` and `oneOf` count as a whole: which
    /// form a caller uses is not known here.
    fn collect(&mut self, document: &Document, schema: Node<'_>, path: String, depth: usize) {
        if depth > DEEPEST || self.0.len() > MOST_FIELDS {
            return;
        }
        let rules = self.0.entry(path.clone()).or_default();
        rules.closed |= schema.value.get("additionalProperties") == Some(&Value::Bool(false))
            || schema.value.get("unevaluatedProperties") == Some(&Value::Bool(false));
        for (word, _) in WORDS {
            if let Some(value) = schema.value.get(word) {
                rules.words.insert(word, value.clone());
            }
        }
        let below = |name: &str| match path.is_empty() {
            true => name.to_owned(),
            false => format!("{path}.{name}"),
        };
        for name in schema.get("required").iter().flat_map(Node::items).filter_map(|it| it.value.as_str()) {
            self.0.entry(below(name)).or_default().required = true;
        }
        for (name, part) in schema.get("properties").iter().flat_map(Node::members) {
            self.collect(document, part, below(name), depth + 1);
        }
        if let Some(items) = schema.get("items") {
            self.collect(document, items, format!("{path}[]"), depth + 1);
        }
        if let Some(others) = schema.get("additionalProperties").filter(|it| it.value.is_object()) {
            self.collect(document, others, below("*"), depth + 1);
        }
        let target = schema.text("$ref").and_then(|reference| document.locate(reference));
        for part in schema.get("allOf").iter().flat_map(Node::items).chain(target) {
            self.collect(document, part, path.clone(), depth + 1);
        }
    }

    fn compare(&self, new: &Self, noun: &str, root: &str, changes: &mut Changes) {
        let name = |path: &str| match (root, path) {
            ("", "") => "the body".to_owned(),
            ("", path) => format!("{noun} `{}`", quoted(path)),
            (root, path) => format!("{noun} `{}`", quoted(&format!("{root}{path}"))),
        };
        for (path, was) in &self.0 {
            let Some(is) = new.0.get(path) else {
                changes.breaking(format!("{} is no longer declared", name(path)));
                continue;
            };
            let what = name(path);
            changes.rule(
                was.required,
                is.required,
                &format!("{what} is required now"),
                &format!("{what} is no longer required"),
            );
            changes.rule(
                was.closed,
                is.closed,
                &format!("{what} refuses unknown fields now"),
                &format!("{what} takes unknown fields"),
            );
            for (word, rank) in WORDS {
                if let Some(narrower) = rank.narrower(was.words.get(word), is.words.get(word)) {
                    changes.add(narrower, format!("{what} has another `{word}`"));
                }
            }
        }
        for (path, is) in new.0.iter().filter(|(path, _)| !self.0.contains_key(*path)) {
            match is.required {
                true => changes.breaking(format!("{} was added and is required", name(path))),
                false => changes.compatible(format!("{} was added", name(path))),
            }
        }
    }
}

impl Rank {
    /// Whether a keyword lets less in than before; `None` when it did not change.
    fn narrower(self, was: Option<&Value>, is: Option<&Value>) -> Option<bool> {
        let (was, is) = match (was, is) {
            (None, None) => return None,
            (None, Some(_)) => return Some(true),
            (Some(_), None) => return Some(false),
            (Some(was), Some(is)) if was == is => return None,
            (Some(was), Some(is)) => (was, is),
        };
        let options = |value: &Value| match value {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        Some(match self {
            Self::None => true,
            Self::Less => is.as_f64() > was.as_f64(),
            Self::More => is.as_f64() < was.as_f64(),
            Self::Options => options(was).iter().any(|option| !options(is).contains(option)),
        })
    }
}
