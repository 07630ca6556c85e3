//! Where a scope is checked.

use crate::{Denial, Operation, Principal, Requirement, ScopeSet};

/// One way to be allowed: a credential of this kind with all of these scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The kind of credential that this alternative is for; others are not measured by it.
    pub kind: crate::CredentialKind,
    /// The scopes that the credential must hold, all of them; empty: the kind alone is enough.
    pub scopes: ScopeSet,
}

/// Whether the operation takes this kind of credential at all.
pub fn takes_kind(operation: &Operation, principal: &Principal) -> Result<(), Denial> {
    if operation.requirement().kinds() & principal.kind().bit() == 0 {
        return Err(Denial::CredentialNotAllowed { allowed: operation.requirement().kinds() });
    }
    Ok(())
}

/// Whether the grant covers one alternative for the caller's kind. Exact set arithmetic: nothing implies anything.
pub fn covers_scopes(operation: &Operation, principal: &Principal) -> Result<(), Denial> {
    let enough = |alternative: &Alternative| {
        alternative.kind == principal.kind() && principal.scopes().covers(alternative.scopes)
    };
    match operation.requirement() {
        Requirement::Public => Ok(()),
        Requirement::Credential(alternatives) if alternatives.iter().any(enough) => Ok(()),
        Requirement::Credential(_) => {
            Err(Denial::InsufficientScope { held: principal.scopes(), kind: principal.kind() })
        }
    }
}
