//! Compiles an OpenAPI 3.1 document into core's [`Contract`] and the checks of each request.
//!
//! A document says who may call what; one that can be read in two ways is refused with [`Diagnostic`]s, all at once.
//!
//! | Question | File |
//! |---|---|
//! | How is text read? | `text.rs` |
//! | What holds for the whole document? | `document.rs`, `extension.rs` |
//! | Who may call an operation? | `security.rs` |
//! | What does a request have to look like? | `operation.rs`, `schema.rs`, `pattern.rs`, `checks.rs`, `validator.rs`, `field.rs` |
//! | What changed between two versions? | `diff.rs` |

mod checks;
mod diagnostic;
mod diff;
mod document;
mod extension;
mod field;
mod merge;
mod name;
mod operation;
mod pattern;
mod schema;
mod security;
mod text;
mod validator;

pub use checks::{BodyError, Checks, Parameters};
pub use diagnostic::{Diagnostic, Severity};
pub use diff::{Change, diff};
pub use field::FieldError;
pub use validator::{Validator, check_schema, pattern_fits};

use diagnostic::Findings;
use document::{Document, Node};
use flowyte_core::contract::{Contract, ContractError};
use operation::Shared;
use serde_json::Value;
use std::sync::Arc;

/// A document in the form that requests are checked with.
pub struct Api {
    /// The operations and who may call them.
    pub contract: Arc<Contract>,
    /// The checks of each operation, by [`flowyte_core::OperationIndex`].
    pub checks: Vec<Checks>,
    /// The document itself, in JSON.
    pub document: Value,
}

impl Api {
    /// The operations and who may call them.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }
}

/// Compiles a document in YAML or JSON, or answers every error in it.
pub fn compile(text: &str) -> Result<Api, Vec<Diagnostic>> {
    let (api, findings) = read(text);
    api.ok_or_else(|| findings.into_iter().filter(|it| it.severity == Severity::Error).collect())
}

/// Compiles several documents as one: see [`merge`].
pub fn compile_all(texts: &[&str]) -> Result<Api, Vec<Diagnostic>> {
    compile(&merge(texts)?.to_string())
}

/// Documents beside one another, as one. Each adds its paths, components, scopes and tags, and may refer to those of the ones before it; what
/// stands in two of them is an error. `info` is that of the last.
pub fn merge(texts: &[&str]) -> Result<Value, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let mut whole = Value::Null;
    for source in texts {
        match text::document(source) {
            Ok(document) => merge::add(&mut whole, document, &mut findings),
            Err(message) => findings.error("#", message),
        }
    }
    if findings.has_errors() { Err(findings.into_vec()) } else { Ok(whole) }
}

/// Everything that is wrong or doubtful in a document.
pub fn check(text: &str) -> Vec<Diagnostic> {
    read(text).1
}

fn read(text: &str) -> (Option<Api>, Vec<Diagnostic>) {
    let mut findings = Findings::default();
    let api = Document::read(text, &mut findings).and_then(|document| build(document, &mut findings));
    (api, findings.into_vec())
}

fn build(document: Document, findings: &mut Findings) -> Option<Api> {
    let compiler = match schema::Compiler::new(&document) {
        Ok(compiler) => compiler,
        Err(message) => {
            findings.error("#", format!("the document's schemas can't be used: {message}"));
            return None;
        }
    };
    let security = security::Security::read(&document, findings);
    let scopes = security.scopes.clone();
    let base = base_path(&document, findings);
    let shared = Shared { document: &document, security, compiler, base };
    let (operations, checks): (Vec<_>, Vec<_>) = operation::read_all(&shared, findings).into_iter().unzip();
    let by_template: Vec<(String, String)> =
        operations.iter().map(|it| (it.template.clone(), it.id.clone())).collect();
    let contract = match Contract::new(operations, scopes) {
        Ok(contract) => contract,
        Err(errors) => {
            for error in errors {
                let place = match &error {
                    ContractError::DuplicateId(id)
                    | ContractError::DuplicateOperation(id, _)
                    | ContractError::NoRequirement(id) => id.clone(),
                    ContractError::Overlap(template, _) | ContractError::BadTemplate(template, _) => {
                        by_template
                            .iter()
                            .find(|(known, _)| known == template)
                            .map_or_else(|| "#/paths".into(), |(_, id)| id.clone())
                    }
                };
                findings.error(&place, error.to_string());
            }
            return None;
        }
    };
    drop(shared);
    // Last of all: whatever was reported on the way, a document with an error is no contract.
    (!findings.has_errors()).then_some(Api { contract: Arc::new(contract), checks, document: document.root })
}

/// The path of the first server, without a slash at its end.
fn base_path(document: &Document, findings: &mut Findings) -> String {
    let servers: Vec<Node<'_>> = document.top().get("servers").iter().flat_map(Node::items).collect();
    let paths: Vec<Option<String>> = servers.iter().map(server_path).collect();
    let place = "#/servers/0";
    let base = match paths.first() {
        None => return String::new(),
        Some(Some(base)) => base.clone(),
        Some(None) => {
            findings.error(place, "`url` must be a path such as `/api/v1`, or a URL with one, and each variable needs a default");
            return String::new();
        }
    };
    if let Err(why) = flowyte_core::path::check(&format!("{base}/")) {
        findings.error(place, format!("no request can match this base path. {}", why.explain()));
    }
    if base.contains(['{', '}']) {
        findings.error(place, "a base path can have no parameters");
    }
    if paths.iter().flatten().any(|other| *other != base) {
        findings.warning("#/servers", "servers have different paths; that of the first one is used");
    }
    base
}

fn server_path(server: &Node<'_>) -> Option<String> {
    const LONGEST: usize = 2_000;
    let mut url = server.text("url")?.to_owned();
    for (name, variable) in server.get("variables").iter().flat_map(Node::members) {
        let default = variable.text("default").filter(|it| it.len() <= LONGEST && url.len() <= LONGEST)?;
        url = url.replace(&format!("{{{name}}}"), default);
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None if url.starts_with('/') => &url,
        None => return None,
    };
    Some(path.trim_end_matches('/').to_owned())
}
