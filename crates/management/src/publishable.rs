//! Publishable keys: each pinned to one resource, in this API an agent, and bound to its origins.

use crate::Call;
use crate::enforced;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flowyte_core::id::{PublishableKeyId, ResourceId};
use flowyte_core::time::SECOND;
use flowyte_core::{CredentialKind, Environment, Origin};
use flowyte_http::answer::Answer;
use flowyte_http::call::{instant, present};
use flowyte_http::problem::{Outcome, Problem};
use flowyte_store::StoreError;
use flowyte_store::publishable::{
    IdentitySecret, NewPublishableKey, PublishableKeyChange, PublishableKeyFilter, PublishableKeyRow,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

const DEFAULT_GRACE_SECONDS: i64 = 86_400;

fn render(row: &PublishableKeyRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "agentId": row.resource.to_string(),
        "name": row.name,
        "env": row.environment.as_str(),
        "keyPublic": row.key_public,
        "allowedOrigins": row.allowed_origins,
        "rateLimitRpm": row.rate_limit_rpm,
        "requireIdentityVerification": row.require_identity,
        "status": if row.revoked_at.is_some() { "revoked" } else { "active" },
        "createdAt": instant(row.created_at),
        "createdBy": row.created_by.as_ref().map(|(id, name)| json!({"id": id, "name": name})),
        "lastUsedAt": instant(row.last_used_at),
        "etag": row.tag(),
    })
}

fn with_identity(row: &PublishableKeyRow, secret: Option<&str>) -> Value {
    let mut key = render(row);
    if let Some(secret) = secret {
        key["identitySecret"] = secret.into();
    }
    key
}

/// A new identity secret: its text for the one answer, and its sealed form.
fn identity(call: &Call, key: PublishableKeyId) -> Outcome<(String, IdentitySecret)> {
    let text = URL_SAFE_NO_PAD.encode(call.verifier.random::<32>()?);
    let sealed = call.verifier.seal_identity_secret(text.as_bytes(), key)?;
    Ok((text, sealed))
}

/// Every origin in its one canonical spelling.
fn origins(texts: &[String], environment: Environment) -> Outcome<Vec<String>> {
    let mut origins: Vec<String> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let origin = Origin::parse(text, environment)
            .map_err(|why| Problem::body(format!("/allowedOrigins/{index}"), why.to_string()))?;
        if !origins.iter().any(|it| it == origin.as_str()) {
            origins.push(origin.as_str().to_owned());
        }
    }
    Ok(origins)
}

/// `listPublishableKeys`: a page of an agent's keys that fit the filters, each with the key itself, which is public.
pub async fn list(call: Call) -> Outcome<Answer> {
    let filter = PublishableKeyFilter {
        search: call.search(),
        revoked: call.query.get("status").map(|it| it == "revoked"),
        environment: call.query.get("env").and_then(Environment::parse),
        created_by: call.query.get("createdBy").map(str::to_owned),
    };
    let (organization, window) = (call.organization()?, call.window()?);
    let found = call.store().publishable_keys(organization, call.id("agentId")?, &filter, window).await?;
    call.found(&found, render)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mint {
    name: String,
    allowed_origins: Vec<String>,
    env: String,
    rate_limit_rpm: Option<u32>,
    #[serde(default)]
    require_identity_verification: bool,
}

/// Mints a key for an agent.
pub async fn mint(call: Call) -> Outcome<Answer> {
    let resource: ResourceId = call.id("agentId")?;
    let body: Mint = call.read()?;
    let environment =
        Environment::parse(&body.env).ok_or_else(|| Problem::body("/env", "must be live or test"))?;
    let id: PublishableKeyId = call.verifier.id(call.now)?;
    let identity = body.require_identity_verification.then(|| identity(&call, id)).transpose()?;
    let (secret, stored) = call.verifier.secret(CredentialKind::PublishableKey, environment)?;
    let (text, identity) = identity.unzip();
    let new = NewPublishableKey {
        id,
        name: body.name,
        environment,
        key_public: secret.expose().to_owned(),
        allowed_origins: origins(&body.allowed_origins, environment)?,
        rate_limit_rpm: body.rate_limit_rpm,
        identity,
        secret: stored,
    };
    let by = call.by().await?;
    let answer = |row: &PublishableKeyRow| with_identity(row, text.as_deref());
    let done = call
        .store()
        .mint_publishable_key(call.organization()?, resource, &new, call.claim(), &by, &|row| {
            call.seal(&answer(row))
        })
        .await?;
    call.once(done, answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: Option<String>,
    allowed_origins: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    rate_limit_rpm: Option<Option<u32>>,
    require_identity_verification: Option<bool>,
}

/// Changes a key. Switching identity verification on answers its secret, once.
pub async fn update(call: Call) -> Outcome<Answer> {
    let (organization, resource) = (call.organization()?, call.id::<ResourceId>("agentId")?);
    let id: PublishableKeyId = call.id("id")?;
    let body: Update = call.read()?;
    let row = call.store().find_publishable_key(organization, resource, Some(id)).await?;
    let (text, identity) = match (body.require_identity_verification, row.require_identity) {
        (Some(true), false) => {
            let (text, secret) = identity(&call, id)?;
            (Some(text), Some(Some(secret)))
        }
        (Some(false), true) => (None, Some(None)),
        _ => (None, None),
    };
    let change = PublishableKeyChange {
        name: body.name,
        allowed_origins: body.allowed_origins.map(|it| origins(&it, row.environment)).transpose()?,
        rate_limit_rpm: body.rate_limit_rpm,
        identity,
        expected: call.if_match().map(str::to_owned),
    };
    let by = call.by().await?;
    let begun = Instant::now();
    let (row, revision) =
        match call.store().change_publishable_key(organization, resource, id, &change, &by).await {
            Err(StoreError::Stale) => {
                let current = call.store().find_publishable_key(organization, resource, Some(id)).await?;
                return Err(Problem::stale(render(&current)));
            }
            done => done?,
        };
    Ok(enforced(with_identity(&row, text.as_deref()), revision, begun).tagged(row.tag()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rotate {
    grace_seconds: Option<i64>,
}

/// A new key text; the old one lives through the grace.
pub async fn rotate(call: Call) -> Outcome<Answer> {
    let (organization, resource) = (call.organization()?, call.id::<ResourceId>("agentId")?);
    let id: PublishableKeyId = call.id("id")?;
    let body: Rotate = call.read()?;
    let row = call.store().find_publishable_key(organization, resource, Some(id)).await?;
    let (secret, stored) = call.verifier.secret(CredentialKind::PublishableKey, row.environment)?;
    let old_until = call.now.plus(body.grace_seconds.unwrap_or(DEFAULT_GRACE_SECONDS) * SECOND);
    let by = call.by().await?;
    let seal = |row: &PublishableKeyRow| call.seal(&render(row));
    let done = call
        .store()
        .rotate_publishable_key(
            organization,
            resource,
            id,
            &stored,
            secret.expose(),
            old_until,
            call.claim(),
            &by,
            &seal,
        )
        .await?;
    call.once(done, render)
}

/// Revokes a key for good, and every visitor session that it opened.
pub async fn revoke(call: Call) -> Outcome<Answer> {
    let (organization, resource) = (call.organization()?, call.id::<ResourceId>("agentId")?);
    let (id, by) = (call.id("id")?, call.by().await?);
    let begun = Instant::now();
    let (row, revision) = call.store().revoke_publishable_key(organization, resource, id, &by).await?;
    Ok(enforced(render(&row), revision, begun))
}
