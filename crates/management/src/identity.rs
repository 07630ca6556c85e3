//! Who is calling, and which scopes there are.

use crate::Call;
use flowyte_core::{Contract, CredentialKind, Requirement, Scope};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::Outcome;
use serde_json::{Value, json};

/// The identity that the credential resolves to.
pub async fn whoami(call: Call) -> Outcome<Answer> {
    let caller = call.caller()?;
    let scopes = call.verifier.contract.scopes();
    let mut identity = json!({
        "kind": caller.kind().as_str(),
        "organizationId": caller.organization().to_string(),
        "environment": caller.environment().as_str(),
        "scopes": scopes.names(caller.scopes()),
        "expiresAt": instant(caller.expires_at()),
    });
    match caller.kind() {
        CredentialKind::SecretKey | CredentialKind::PublishableKey => {
            identity["keyId"] = caller.credential_id().into();
        }
        CredentialKind::Session | CredentialKind::Visitor | CredentialKind::OneTime => {}
    }
    if let Some((user, _)) = caller.user() {
        identity["userId"] = user.to_string().into();
    }
    if let Some(agent) = caller.pinned() {
        identity["agentId"] = agent.to_string().into();
    }
    if let Some(quota) = call.quota {
        identity["rateLimit"] =
            json!({"limit": quota.limit, "remaining": quota.remaining, "resetSeconds": quota.reset_seconds});
    }
    Ok(Answer::data(identity))
}

/// Every scope with the operations behind it.
pub async fn scopes(call: Call) -> Outcome<Answer> {
    let contract = &call.verifier.contract;
    let all = contract.scopes().iter().map(|(scope, info)| {
        let holders: Vec<&str> = [
            (info.for_secret_keys, "secret_key"),
            (info.for_publishable_keys, "publishable_key"),
            (!info.roles.is_empty(), "role"),
        ]
        .into_iter()
        .filter_map(|(holds, name)| holds.then_some(name))
        .collect();
        json!({
            "scope": info.name,
            "description": info.description,
            "holders": holders,
            "operations": operations(contract, scope),
        })
    });
    Ok(Answer::data(all.collect()))
}

fn operations(contract: &Contract, scope: Scope) -> Vec<Value> {
    let needs = |requirement: &Requirement| match requirement {
        Requirement::Public => false,
        Requirement::Credential(alternatives) => alternatives.iter().any(|it| it.scopes.contains(scope)),
    };
    contract
        .operations()
        .iter()
        .filter(|it| needs(it.requirement()))
        .map(|it| {
            let state = if it.reserved { "reserved" } else { "live" };
            json!({"operationId": it.id, "method": it.method, "path": it.template, "state": state})
        })
        .collect()
}
