//! Who is calling, and which scopes there are.

use crate::Call;
use flowyte_core::id::{OrganizationId, ResourceId, UserId};
use flowyte_core::{Contract, CredentialKind, Requirement, Scope, Timestamp};
use flowyte_http::answer::Answer;
use flowyte_http::problem::Outcome;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::fmt::Display;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    kind: &'static str,
    organization_id: Shown<OrganizationId>,
    environment: &'static str,
    scopes: Vec<&'a str>,
    expires_at: Option<Shown<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Shown<UserId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<Shown<ResourceId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimit>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RateLimit {
    limit: u32,
    remaining: u32,
    reset_seconds: u32,
}

/// What is written as it is shown, without a text on the way.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The identity that the credential resolves to. Clients ask for it often, so it is written as it is, without a tree of values.
pub async fn whoami(call: Call) -> Outcome<Answer> {
    let caller = call.caller()?;
    let is_key = matches!(caller.kind(), CredentialKind::SecretKey | CredentialKind::PublishableKey);
    Ok(Answer::serialized(&Identity {
        kind: caller.kind().as_str(),
        organization_id: Shown(caller.organization()),
        environment: caller.environment().as_str(),
        scopes: call.verifier.contract.scopes().names(caller.scopes()),
        expires_at: caller.expires_at().unless_never().map(Shown),
        key_id: is_key.then(|| caller.credential_id()),
        user_id: caller.user().map(|(user, _)| Shown(user)),
        agent_id: caller.pinned().map(Shown),
        rate_limit: call.quota.map(|it| RateLimit {
            limit: it.limit,
            remaining: it.remaining,
            reset_seconds: it.reset_seconds,
        }),
    }))
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
