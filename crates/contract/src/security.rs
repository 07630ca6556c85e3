//! Scopes, security schemes, and what an operation's `security` asks of its caller.

use crate::diagnostic::Findings;
use crate::document::{Document, Node};
use crate::field::quoted;
use flowyte_core::authorize::Alternative;
use flowyte_core::scope::ScopeInfo;
use flowyte_core::{CredentialKind, Requirement, Role, ScopeSet, ScopeTable};
use serde_json::Value;

/// Kinds that an operation can ask for.
const KINDS: [CredentialKind; 4] = [
    CredentialKind::SecretKey,
    CredentialKind::PublishableKey,
    CredentialKind::Session,
    CredentialKind::Visitor,
];

/// What the document says about credentials, once for all operations.
pub(crate) struct Security<'d> {
    /// Scheme name and kind; `None` for a scheme that can't be checked, which is reported.
    schemes: Vec<(&'d str, Option<CredentialKind>)>,
    pub(crate) scopes: ScopeTable,
    root: Option<Node<'d>>,
}

impl<'d> Security<'d> {
    pub(crate) fn read(document: &'d Document, findings: &mut Findings) -> Self {
        let top = document.top();
        let mut schemes = Vec::new();
        let declared = top.get("components").and_then(|it| it.get("securitySchemes"));
        for (name, scheme) in declared.iter().flat_map(Node::members) {
            let kind = document.resolve(scheme).and_then(|scheme| scheme_kind(&scheme, findings));
            schemes.push((name, kind));
        }
        let scopes = match top.get("x-scopes") {
            Some(scopes) => declared_scopes(&scopes, findings),
            None => implied_scopes(document, findings),
        };
        Self { schemes, scopes, root: top.get("security") }
    }

    /// What an operation asks of its caller. `None` when that is unclear, which is reported.
    pub(crate) fn requirement(
        &self,
        id: &str,
        operation: &Node<'d>,
        findings: &mut Findings,
    ) -> Option<Requirement> {
        let public = operation.value.get("x-public") == Some(&Value::Bool(true));
        let own = operation.get("security");
        if public {
            // The root's rule does not count against it: `x-public` is how an operation leaves it.
            let open = own.is_none_or(|it| {
                it.value
                    .as_array()
                    .is_some_and(|list| list.iter().all(|it| it == &Value::Object(Default::default())))
            });
            if !open {
                findings.error(id, "`x-public: true` and a credential contradict each other; remove one");
            }
            return open.then_some(Requirement::Public);
        }
        let Some(list) = own.or_else(|| self.root.clone()) else {
            findings.error(id, "operation without a rule: give it `security`, or `x-public: true`");
            return None;
        };
        if list.value.as_array().is_none_or(Vec::is_empty) {
            let message = match list.value.is_array() {
                true => "an empty `security` lets anybody in; say `x-public: true` if that is meant",
                false => "`security` must be a list of alternatives",
            };
            findings.error(id, message);
            return None;
        }
        // Every alternative is read, so that all that is wrong is reported at once.
        let alternatives: Vec<_> = list.items().map(|item| self.alternative(id, &item, findings)).collect();
        alternatives.into_iter().collect::<Option<Vec<_>>>().map(Requirement::Credential)
    }

    fn alternative(&self, id: &str, item: &Node<'d>, findings: &mut Findings) -> Option<Alternative> {
        let Some(object) = item.value.as_object() else {
            findings.error(id, "an alternative of `security` must be a scheme with a list of scopes");
            return None;
        };
        let mut members = object.iter();
        let Some((scheme, scopes)) = members.next() else {
            findings.error(id, "the alternative `{}` lets anybody in; say `x-public: true` if that is meant");
            return None;
        };
        if members.next().is_some() {
            findings.error(id, "an alternative asks for two credentials at once; a caller presents one");
            return None;
        }
        let Some((_, kind)) = self.schemes.iter().find(|(name, _)| name == scheme) else {
            findings.error(id, format!("security scheme `{}` is not declared", quoted(scheme)));
            return None;
        };
        let Some(names) = scopes.as_array() else {
            findings.error(id, format!("the scopes of `{}` must be a list", quoted(scheme)));
            return None;
        };
        let found: Vec<_> = names
            .iter()
            .map(|name| {
                let scope = name.as_str().and_then(|name| self.scopes.find(name));
                if scope.is_none() {
                    let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                    findings.error(id, format!("scope `{}` is not declared", quoted(&name)));
                }
                scope
            })
            .collect();
        let scopes: ScopeSet = found.into_iter().collect::<Option<Vec<_>>>()?.into_iter().collect();
        let kind = (*kind)?;
        let missing = scopes.minus(self.holdable(kind));
        if !missing.is_empty() {
            let names = self.scopes.names(missing).join(", ");
            let message =
                format!("no {} can ever hold {names}, so this alternative admits nobody", kind.as_str());
            findings.warning(id, message);
        }
        Some(Alternative { kind, scopes })
    }

    /// Every scope that credentials of this kind may hold. A visitor holds what the publishable key behind it does.
    fn holdable(&self, kind: CredentialKind) -> ScopeSet {
        match kind {
            CredentialKind::SecretKey => self.scopes.secret_keys(),
            CredentialKind::PublishableKey | CredentialKind::Visitor => self.scopes.publishable_keys(),
            CredentialKind::Session => {
                Role::ALL.into_iter().fold(ScopeSet::EMPTY, |all, role| all.union(self.scopes.role(role)))
            }
            CredentialKind::OneTime => ScopeSet::EMPTY,
        }
    }
}

fn scheme_kind(scheme: &Node<'_>, findings: &mut Findings) -> Option<CredentialKind> {
    if let Some(word) = scheme.value.get("x-credential") {
        let kind = KINDS.into_iter().find(|kind| word.as_str() == Some(kind.as_str()));
        if kind.is_none() {
            let names = KINDS.map(CredentialKind::as_str).join(", ");
            findings.error(&scheme.pointer, format!("`x-credential` must be one of {names}"));
        }
        return kind;
    }
    let bearer = scheme.text("scheme").is_some_and(|it| it.eq_ignore_ascii_case("bearer"));
    match (scheme.text("type"), scheme.text("in")) {
        (Some("http"), _) if bearer => {
            findings
                .warning(&scheme.pointer, "read as `x-credential: secret_key`; say so, or say what it is");
            Some(CredentialKind::SecretKey)
        }
        (Some("apiKey"), Some("header")) => {
            findings.warning(
                &scheme.pointer,
                "read as `x-credential: secret_key` in `Authorization: Bearer`, the only header keys are read from",
            );
            Some(CredentialKind::SecretKey)
        }
        _ => {
            findings.error(
                &scheme.pointer,
                "this scheme can't be checked; say with `x-credential` what it carries",
            );
            None
        }
    }
}

/// Builds the table of the scopes that can be in it, and reports the others.
fn table(scopes: Vec<(String, ScopeInfo)>, findings: &mut Findings) -> ScopeTable {
    let mut good = Vec::new();
    for (place, info) in scopes {
        match ScopeTable::new(vec![info.clone()]) {
            Ok(_) => good.push(info),
            Err(error) => findings.error(&place, error.to_string()),
        }
    }
    ScopeTable::new(good).unwrap_or_else(|error| {
        findings.error("#/x-scopes", error.to_string());
        ScopeTable::default()
    })
}

fn declared_scopes(scopes: &Node<'_>, findings: &mut Findings) -> ScopeTable {
    if !scopes.value.is_object() {
        findings.error(
            &scopes.pointer,
            "`x-scopes` must be an object: each scope with its description, holders and roles",
        );
    }
    let infos = scopes.members().map(|(name, scope)| {
        let holders = words(&scope, "holders", &["secret_key", "publishable_key", "role"], findings);
        let names = words(&scope, "roles", &Role::ALL.map(Role::as_str), findings);
        let roles: Vec<Role> = names.iter().filter_map(|name| Role::parse(name)).collect();
        for (member, _) in scope.members() {
            if !["description", "holders", "roles"].contains(&member) && !member.starts_with("x-") {
                findings.error(&scope.pointer, format!("unknown field `{}`", quoted(member)));
            }
        }
        if holders.contains(&"role") == roles.is_empty() {
            findings.error(&scope.pointer, "`holders` has `role` exactly when `roles` names some");
        }
        if holders.is_empty() {
            findings.warning(&scope.pointer, "nobody can hold this scope");
        }
        let info = ScopeInfo {
            name: name.into(),
            description: scope.text("description").unwrap_or_default().into(),
            for_secret_keys: holders.contains(&"secret_key"),
            for_publishable_keys: holders.contains(&"publishable_key"),
            roles,
        };
        (scope.pointer, info)
    });
    let infos = infos.collect();
    table(infos, findings)
}

/// The texts of a list, each of them one of `allowed` and none of them twice.
fn words<'d>(node: &Node<'d>, name: &str, allowed: &[&str], findings: &mut Findings) -> Vec<&'d str> {
    let mut found = Vec::new();
    let Some(list) = node.get(name) else { return found };
    if !list.value.is_array() {
        findings.error(&list.pointer, "must be a list");
    }
    for item in list.items() {
        match item.value.as_str() {
            Some(word) if allowed.contains(&word) && !found.contains(&word) => found.push(word),
            _ => {
                findings.error(&item.pointer, format!("must be one of {}, and only once", allowed.join(", ")))
            }
        }
    }
    found
}

/// Without `x-scopes`, the scopes are what the operations ask for, and secret keys hold them.
fn implied_scopes(document: &Document, findings: &mut Findings) -> ScopeTable {
    let top = document.top();
    let operations = top.get("paths").into_iter().flat_map(|paths| paths.members().collect::<Vec<_>>());
    let operations = operations
        .filter_map(|(_, item)| document.resolve(item))
        .flat_map(|item| {
            item.members()
                .filter(|(method, _)| crate::extension::METHODS.contains(method))
                .collect::<Vec<_>>()
        })
        .map(|(_, operation)| operation);
    let mut infos: Vec<(String, ScopeInfo)> = Vec::new();
    for holder in std::iter::once(top.clone()).chain(operations) {
        let alternatives = holder.get("security").into_iter().flat_map(|it| it.items().collect::<Vec<_>>());
        for (_, list) in alternatives.flat_map(|it| it.members().collect::<Vec<_>>()) {
            for name in list.items() {
                let Some(text) = name.value.as_str() else { continue };
                // One too many is enough to say that there are too many.
                if infos.len() > ScopeTable::MAX || infos.iter().any(|(_, info)| info.name == text) {
                    continue;
                }
                let info = ScopeInfo {
                    name: text.into(),
                    description: String::new(),
                    for_secret_keys: true,
                    for_publishable_keys: false,
                    roles: vec![],
                };
                infos.push((name.pointer, info));
            }
        }
    }
    table(infos, findings)
}
