//! The compiled contract: operations with their requirements, and the one matcher that finds them.

use crate::authorize::Alternative;
use crate::{CredentialKind, Denial, ScopeTable, path};
use std::fmt;

/// The number of an operation in its contract.
pub type OperationIndex = usize;

/// What an operation asks of its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Anybody. Said explicitly in the contract; never a default.
    Public,
    /// Any one of these; none can be met by an empty list.
    Credential(Vec<Alternative>),
}

impl Requirement {
    /// The kinds of credential it takes, as [`CredentialKind::bit`]s.
    pub fn kinds(&self) -> u8 {
        match self {
            Self::Public => 0,
            Self::Credential(alternatives) => alternatives.iter().fold(0, |kinds, it| kinds | it.kind.bit()),
        }
    }
}

/// One operation of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The `operationId`, which is unique in the contract.
    pub id: String,
    /// The HTTP method in upper case. HEAD is never declared; it is answered as GET.
    pub method: String,
    /// Path template with the base path: `/api/v1/agents/{id}`.
    pub template: String,
    requirement: Requirement,
    /// Declared and not released: refuses every caller.
    pub reserved: bool,
    /// Asks for a session that signed in recently.
    pub fresh_session: bool,
    /// The path or query parameter that names the resource the caller means.
    pub pinned_parameter: Option<String>,
    /// The query parameter that may carry a publishable key.
    pub query_credential: Option<String>,
    /// Called by browsers on other sites.
    pub cors: bool,
}

impl Operation {
    /// An operation with its requirement and no special rule.
    pub fn new(id: &str, method: &str, template: &str, requirement: Requirement) -> Self {
        Self {
            id: id.into(),
            method: method.into(),
            template: template.into(),
            requirement,
            reserved: false,
            fresh_session: false,
            pinned_parameter: None,
            query_credential: None,
            cors: false,
        }
    }

    /// What it asks of its caller.
    pub const fn requirement(&self) -> &Requirement {
        &self.requirement
    }

    /// Whether anybody may call it.
    pub const fn is_public(&self) -> bool {
        matches!(self.requirement, Requirement::Public)
    }

    /// Whether it takes credentials of `kind`.
    pub fn takes(&self, kind: CredentialKind) -> bool {
        self.requirement.kinds() & kind.bit() != 0
    }
}

/// What makes a list of operations no contract. Each names the operations, so that the document can be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractError {
    /// Two operations with one `operationId`.
    DuplicateId(String),
    /// The same method on the same path twice.
    DuplicateOperation(String, String),
    /// An operation that neither says it is public nor lists a credential.
    NoRequirement(String),
    /// Two templates can match one URL, neither is more specific, and a method they share has different rules.
    Overlap(String, String),
    /// A template this matcher refuses.
    BadTemplate(String, String),
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId(id) => write!(f, "operationId {id} is used twice"),
            Self::DuplicateOperation(a, b) => {
                write!(f, "operations {a} and {b} have the same method and path")
            }
            Self::NoRequirement(id) => {
                write!(f, "operation {id} has no rule: it is neither public nor asks for a credential")
            }
            Self::Overlap(a, b) => {
                write!(
                    f,
                    "paths {a} and {b} can match one URL with different rules, and neither is more specific"
                )
            }
            Self::BadTemplate(template, why) => write!(f, "path {template} can't be matched: {why}"),
        }
    }
}

impl std::error::Error for ContractError {}

struct PathItem {
    template: String,
    /// Method and operation, in contract order.
    methods: Vec<(String, OperationIndex)>,
}

/// The operations of one API and their matcher. Built once; immutable.
pub struct Contract {
    operations: Vec<Operation>,
    scopes: ScopeTable,
    paths: Vec<PathItem>,
    router: matchit::Router<usize>,
}

/// An operation found for a URL, with the raw (still escaped) path parameters.
pub struct Matched<'c, 'p> {
    /// What was asked for, with its rules.
    pub operation: &'c Operation,
    /// The operation's position in [`Contract::operations`].
    pub index: OperationIndex,
    params: matchit::Params<'c, 'p>,
}

impl<'p> Matched<'_, 'p> {
    /// The raw value of a path parameter; [`path::decode`] it before use.
    pub fn param(&self, name: &str) -> Option<&'p str> {
        self.params.get(name)
    }

    /// The names and percent-decoded values of all path parameters, in the order in which the path has them.
    pub fn decoded_params(&self) -> Vec<(String, String)> {
        self.params.iter().map(|(name, raw)| (name.to_owned(), path::decode(raw))).collect()
    }
}

impl Contract {
    /// Builds the matcher, or says everything that is wrong.
    pub fn new(operations: Vec<Operation>, scopes: ScopeTable) -> Result<Self, Vec<ContractError>> {
        let mut errors = Vec::new();
        let mut paths: Vec<PathItem> = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            if operations[..index].iter().any(|earlier| earlier.id == operation.id) {
                errors.push(ContractError::DuplicateId(operation.id.clone()));
            }
            if matches!(&operation.requirement, Requirement::Credential(alternatives) if alternatives.is_empty())
            {
                errors.push(ContractError::NoRequirement(operation.id.clone()));
            }
            let entry = (operation.method.clone(), index);
            match paths.iter_mut().find(|item| item.template == operation.template) {
                None => paths.push(PathItem { template: operation.template.clone(), methods: vec![entry] }),
                Some(item) => match item.methods.iter().find(|(method, _)| *method == operation.method) {
                    Some((_, other)) => errors.push(ContractError::DuplicateOperation(
                        operations[*other].id.clone(),
                        operation.id.clone(),
                    )),
                    None => item.methods.push(entry),
                },
            }
        }
        let mut router = matchit::Router::new();
        for (index, item) in paths.iter().enumerate() {
            for earlier in &paths[..index] {
                if overlap(&earlier.template, &item.template) && rules_differ(&operations, earlier, item) {
                    errors.push(ContractError::Overlap(earlier.template.clone(), item.template.clone()));
                }
            }
            if let Err(error) = router.insert(item.template.clone(), index) {
                errors.push(ContractError::BadTemplate(item.template.clone(), error.to_string()));
            }
        }
        if errors.is_empty() { Ok(Self { operations, scopes, paths, router }) } else { Err(errors) }
    }

    /// The operation of a method and path. HEAD is GET. Ambiguous paths are refused before anything is looked up.
    pub fn find<'c, 'p>(&'c self, method: &str, raw_path: &'p str) -> Result<Matched<'c, 'p>, Denial> {
        path::check(raw_path).map_err(Denial::AmbiguousPath)?;
        let found = self.router.at(raw_path).map_err(|_| Denial::NotFound)?;
        let method = if method == "HEAD" { "GET" } else { method };
        let index = self.paths[*found.value]
            .methods
            .iter()
            .find(|(declared, _)| declared == method)
            .map(|(_, index)| *index)
            .ok_or(Denial::MethodNotAllowed { path: *found.value })?;
        Ok(Matched { operation: &self.operations[index], index, params: found.params })
    }

    /// What `Allow` says for a path: its methods, and HEAD where there is GET.
    pub fn allow(&self, path: usize) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for (method, _) in self.paths.get(path).map_or(&[][..], |item| &item.methods) {
            methods.push(method);
            if method == "GET" {
                methods.push("HEAD");
            }
        }
        methods.join(", ")
    }

    /// The operations of a path that exists, whatever the method.
    pub fn operations_at<'c>(&'c self, raw_path: &str) -> impl Iterator<Item = &'c Operation> {
        let item =
            path::check(raw_path).ok().and_then(|()| self.router.at(raw_path).ok()).map(|found| *found.value);
        item.into_iter()
            .flat_map(|item| self.paths[item].methods.iter().map(|(_, index)| &self.operations[*index]))
    }

    /// Every operation, in contract order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The scopes it speaks of.
    pub fn scopes(&self) -> &ScopeTable {
        &self.scopes
    }
}

/// Whether a method that both paths have would be decided differently. Where no rule differs, the leftmost literal
/// segment wins and nothing is at stake: `DELETE /numbers/reserve/{id}` beside `DELETE /numbers/{id}/assign`.
fn rules_differ(operations: &[Operation], a: &PathItem, b: &PathItem) -> bool {
    let rule = |index: OperationIndex| {
        let Operation {
            requirement, reserved, fresh_session, pinned_parameter, query_credential, cors, ..
        } = &operations[index];
        (requirement, reserved, fresh_session, pinned_parameter, query_credential, cors)
    };
    a.methods
        .iter()
        .any(|(method, x)| b.methods.iter().any(|(other, y)| method == other && rule(*x) != rule(*y)))
}

/// Whether two different templates can match one URL while neither is more specific (OpenAPI 3.1, Paths Object).
///
/// `/a/{x}` and `/a/b` can, and `/a/b` wins. `/a/{x}/c` and `/a/b/{y}` can, and nothing says which wins.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('/').collect(), b.split('/').collect());
    if a.len() != b.len() {
        return false;
    }
    let (mut a_wins, mut b_wins) = (false, false);
    for (x, y) in a.iter().zip(&b) {
        match (x.contains('{'), y.contains('{')) {
            (false, false) if x != y => return false,
            (false, true) => a_wins = true,
            (true, false) => b_wins = true,
            _ => {}
        }
    }
    a_wins == b_wins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(id: &str, method: &str, template: &str) -> Operation {
        Operation::new(id, method, template, Requirement::Public)
    }

    fn build(operations: Vec<Operation>) -> Result<Contract, Vec<ContractError>> {
        Contract::new(operations, ScopeTable::default())
    }

    #[test]
    fn the_most_specific_path_wins() {
        let contract =
            build(vec![op("release", "DELETE", "/numbers/{id}"), op("search", "GET", "/numbers/search")])
                .unwrap();
        assert_eq!(contract.find("GET", "/numbers/search").ok().unwrap().operation.id, "search");
        assert_eq!(contract.find("HEAD", "/numbers/search").ok().unwrap().operation.id, "search");
        assert_eq!(contract.find("DELETE", "/numbers/n1").ok().unwrap().param("id"), Some("n1"));
        let Err(Denial::MethodNotAllowed { path }) = contract.find("DELETE", "/numbers/search") else {
            panic!()
        };
        assert_eq!(contract.allow(path), "GET, HEAD");
        for gone in ["/", "/numbers", "/numbers/", "/Numbers/search", "/numbers/n1/", "/numbers/a/b"] {
            assert_eq!(contract.find("GET", gone).err(), Some(Denial::NotFound), "{gone}");
        }
        assert!(matches!(contract.find("GET", "/numbers/%2e"), Err(Denial::AmbiguousPath(_))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(
            build(vec![op("a", "GET", "/x"), op("a", "PUT", "/x")]).err(),
            Some(vec![ContractError::DuplicateId("a".into())])
        );
        let (plain, mut stricter) = (op("a", "GET", "/x/{y}/z"), op("b", "GET", "/x/w/{v}"));
        assert!(build(vec![plain.clone(), stricter.clone()]).is_ok());
        stricter.reserved = true;
        let refused = build(vec![plain, stricter]).err();
        assert!(matches!(refused.as_deref(), Some([ContractError::Overlap(..)])));
        assert!(build(vec![op("a", "GET", "/x/{y}"), op("b", "GET", "/x/{z}")]).is_err());
        let nothing = Operation::new("a", "GET", "/x", Requirement::Credential(vec![]));
        assert_eq!(build(vec![nothing]).err(), Some(vec![ContractError::NoRequirement("a".into())]));
    }
}
