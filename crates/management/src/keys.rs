//! Secret keys: mint, list, change, rotate, revoke, and what they are used for.

use crate::Call;
use crate::enforced;
use flowyte_core::address::{AddressBlock, AddressSet};
use flowyte_core::id::{Id, SecretKeyId, UserId};
use flowyte_core::time::{DAY, SECOND};
use flowyte_core::{
    CredentialKind, Environment, Operation, Principal, Requirement, Restraints, ScopeSet, Timestamp,
};
use flowyte_http::answer::Answer;
use flowyte_http::call::{instant, present};
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_store::StoreError;
use flowyte_store::keys::{KeyFilter, KeySort, NewSecretKey, SecretKeyChange, SecretKeyRow};
use flowyte_verifier::usage::ALLOWED;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// How long a key lives when nothing is said.
const DEFAULT_LIFE_DAYS: i64 = 90;
/// How long the old secret lives after a rotation when nothing is said.
const DEFAULT_GRACE_SECONDS: i64 = 86_400;
/// How long calls are observed before advice on scopes can be relied upon.
const RECOMMENDED_AFTER_DAYS: i64 = 7;
/// Addresses shown of those that still use an old secret.
const MOST_ADDRESSES: usize = 20;
/// An expiry later than this is taken for a mistake.
const LATEST: Timestamp = Timestamp::from_micros(4_102_444_800_000_000); // 2100-01-01

fn render(call: &Call, row: &SecretKeyRow) -> Value {
    let status = match () {
        () if row.revoked_at.is_some() => "revoked",
        () if call.now >= row.expires_at => "expired",
        () => "active",
    };
    let used = row.last_used.as_ref();
    // Revoking ended all of them; the newest stays to be recognized by.
    let shown = if row.revoked_at.is_some() { 1 } else { row.secrets.len() };
    let secrets: Vec<Value> = row
        .secrets
        .iter()
        .take(shown)
        .map(|it| {
            let last = it.last_call.as_ref();
            json!({
                "last4": it.last4,
                "createdAt": instant(it.created_at),
                "expiresAt": instant(it.expires_at),
                "lastCall": last.map(|(at, operation, outcome)| json!({"at": instant(*at), "operationId": operation, "outcome": outcome})),
            })
        })
        .collect();
    json!({
        "id": row.id.to_string(),
        "name": row.name,
        "env": row.environment.as_str(),
        "scopes": row.scopes,
        "prefix": call.verifier.brand.prefix(CredentialKind::SecretKey, row.environment),
        "last4": row.secrets.first().map_or("", |it| it.last4.as_str()),
        "status": status,
        "createdAt": instant(row.created_at),
        "createdBy": {"id": row.created_by.0.to_string(), "name": row.created_by.1},
        "expiresAt": instant(row.expires_at),
        "revokedAt": instant(row.revoked_at),
        "lastUsedAt": instant(used.map(|it| it.0)),
        "lastUsedAddress": used.map(|it| it.1.as_str()),
        "lastUsedOperation": used.map(|it| it.2.as_str()),
        "rateLimitRpm": row.rate_limit_rpm,
        "allowedAddresses": row.allowed_addresses,
        "secrets": secrets,
        "etag": row.tag(),
    })
}

/// `listApiKeys`: a page of the organization's secret keys that fit the filters; never a secret.
pub async fn list(call: Call) -> Outcome<Answer> {
    let text = |name| call.query.get(name).map(str::to_owned);
    let created_by = match call.query.get("createdBy") {
        Some(id) => {
            Some(UserId::parse(id).ok_or_else(|| Problem::query("createdBy", "is not the id of a user"))?)
        }
        None => None,
    };
    let filter = KeyFilter {
        search: text("search"),
        status: text("status"),
        environment: call.query.get("env").and_then(Environment::parse),
        created_by,
        scope: text("scope"),
        unused_since: call.query_instant("unusedSince")?,
        expiring_before: call.query_instant("expiringBefore")?,
        sort: match call.query.get("sort") {
            Some("createdAt") => KeySort::Oldest,
            Some("expiresAt") => KeySort::Expiry,
            _ => KeySort::Newest,
        },
    };
    let (organization, window) = (call.organization()?, call.window()?);
    let found = call.store().secret_keys(organization, &filter, window, call.now).await?;
    call.found(&found, |row| render(&call, row))
}

/// `getApiKey`: one with its secrets' times, never a secret.
pub async fn get(call: Call) -> Outcome<Answer> {
    let row = call.store().find_secret_key(call.organization()?, call.id("id")?, call.now).await?;
    Ok(Answer::data(render(&call, &row)).tagged(row.tag()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mint {
    name: String,
    scopes: Vec<String>,
    env: Option<String>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<String>>,
    rate_limit_rpm: Option<u32>,
    #[serde(default)]
    allowed_addresses: Vec<String>,
}

/// Mints a key; the one answer that carries its secret.
pub async fn mint(call: Call) -> Outcome<Answer> {
    let body: Mint = call.read()?;
    let member = call.member()?;
    let environment = body.env.as_deref().and_then(Environment::parse).unwrap_or(Environment::Live);
    let wanted = grantable(&call, &body.scopes)?;
    holds(&call, wanted, "You can't grant what you do not hold")?;
    let policy = call.store().organization(member.organization).await?;
    let expires_at = match body.expires_at {
        None => call.now.plus(
            policy.max_ttl_days.map_or(DEFAULT_LIFE_DAYS, |most| DEFAULT_LIFE_DAYS.min(i64::from(most)))
                * DAY,
        ),
        Some(asked) => expiry(&call, asked.as_deref(), policy.max_ttl_days, policy.require_expiry)?,
    };
    let (secret, stored) = call.verifier.secret(CredentialKind::SecretKey, environment)?;
    let new = NewSecretKey {
        id: call.verifier.id(call.now)?,
        name: body.name,
        environment,
        scopes: in_contract_order(&call, &body.scopes),
        created_by: member.user,
        expires_at,
        rate_limit_rpm: body.rate_limit_rpm,
        allowed_addresses: addresses(&body.allowed_addresses)?,
        secret: stored,
    };
    let answer = |row: &SecretKeyRow| {
        let mut key = render(&call, row);
        key["secret"] = secret.expose().into();
        key
    };
    let by = call.by().await?;
    let most = call.state.settings.keys_per_organization;
    let done = call
        .store()
        .mint_secret_key(member.organization, &new, most, call.claim(), &by, &|row| call.seal(&answer(row)))
        .await?;
    call.once(done, answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: Option<String>,
    scopes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    expires_at: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    rate_limit_rpm: Option<Option<u32>>,
    allowed_addresses: Option<Vec<String>>,
    grace_ends_at: Option<String>,
}

/// Renames a key, tightens or loosens it, or cuts a running grace short. Whoever loosens it must hold all of its scopes.
pub async fn update(call: Call) -> Outcome<Answer> {
    let (organization, id) = (call.organization()?, call.id::<SecretKeyId>("id")?);
    let body: Update = call.read()?;
    call.store().find_secret_key(organization, id, call.now).await?;
    if let Some(scopes) = &body.scopes {
        grantable(&call, scopes)?;
    }
    let expires_at = match &body.expires_at {
        None => None,
        Some(asked) => {
            let policy = call.store().organization(organization).await?;
            Some(expiry(&call, asked.as_deref(), policy.max_ttl_days, policy.require_expiry)?)
        }
    };
    let change = SecretKeyChange {
        name: body.name,
        scopes: body.scopes.map(|names| in_contract_order(&call, &names)),
        expires_at,
        rate_limit_rpm: body.rate_limit_rpm,
        allowed_addresses: body.allowed_addresses.as_deref().map(addresses).transpose()?,
        // A grace that ends in the past ends now.
        grace_ends_at: match &body.grace_ends_at {
            Some(text) => Some(call.instant("/graceEndsAt", text)?.max(call.now)),
            None => None,
        },
        expected: call.if_match().map(str::to_owned),
    };
    let consent = |old: &SecretKeyRow, new: &SecretKeyRow| match restraints(&call, old)
        .loosened_by(&restraints(&call, new))
    {
        false => Ok(()),
        true => holds(
            &call,
            granted(&call, new),
            "This loosens the key, so you must hold all of its scopes, and you lack",
        ),
    };
    let by = call.by().await?;
    let begun = Instant::now();
    let changed = call.store().change_secret_key(organization, id, &change, &consent, &by).await;
    let (row, revision) = match changed {
        Err(StoreError::Stale) => {
            let current = call.store().find_secret_key(organization, id, call.now).await?;
            return Err(Problem::stale(render(&call, &current)));
        }
        done => done?,
    };
    Ok(enforced(render(&call, &row), revision, begun).tagged(row.tag()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rotate {
    grace_seconds: Option<i64>,
}

/// A new secret with the same grants. The old one lives through the grace.
pub async fn rotate(call: Call) -> Outcome<Answer> {
    let (organization, id) = (call.organization()?, call.id::<SecretKeyId>("id")?);
    let body: Rotate = call.read()?;
    let row = call.store().find_secret_key(organization, id, call.now).await?;
    let consent = |_: &SecretKeyRow, new: &SecretKeyRow| {
        holds(
            &call,
            granted(&call, new),
            "The answer carries a working secret, so you must hold all of its scopes, and you lack",
        )
    };
    let (secret, stored) = call.verifier.secret(CredentialKind::SecretKey, row.environment)?;
    let old_until = call.now.plus(body.grace_seconds.unwrap_or(DEFAULT_GRACE_SECONDS) * SECOND);
    let answer = |done: &(SecretKeyRow, i64)| {
        let mut key = render(&call, &done.0);
        key["secret"] = secret.expose().into();
        key["revision"] = done.1.into();
        key
    };
    let by = call.by().await?;
    let done = call
        .store()
        .rotate_secret_key(organization, id, &stored, old_until, &consent, call.claim(), &by, &|done| {
            call.seal(&answer(done))
        })
        .await?;
    call.once(done, answer)
}

/// Revokes a key for good: when this has answered, no node accepts any of its secrets.
pub async fn revoke(call: Call) -> Outcome<Answer> {
    let (organization, id) = (call.organization()?, call.id::<SecretKeyId>("id")?);
    let by = call.by().await?;
    let begun = Instant::now();
    let (row, revision) = call.store().revoke_secret_key(organization, id, &by).await?;
    Ok(enforced(render(&call, &row), revision, begun))
}

/// How many calls were allowed, and how many refused by code.
type Calls = (i64, serde_json::Map<String, Value>);

/// Calls per day and operation, refusals by reason.
pub async fn usage(call: Call) -> Outcome<Answer> {
    let (organization, id) = (call.organization()?, call.id::<SecretKeyId>("id")?);
    let key = call.store().find_secret_key(organization, id, call.now).await?;
    let day = |name, default: Timestamp| {
        call.query.get(name).map_or_else(|| default.day(), |it| it.chars().take(10).collect())
    };
    let (from, to) = (day("from", call.now.plus(-29 * DAY)), day("to", call.now));
    let rows = call.store().usage(organization, id, &from, &to).await?;
    let mut days: BTreeMap<&str, BTreeMap<&str, Calls>> = BTreeMap::new();
    let mut total = 0;
    for (date, operation, outcome, calls, _) in &rows {
        let (allowed, denied) = days.entry(date).or_default().entry(operation).or_default();
        match outcome.as_str() {
            ALLOWED => *allowed += calls,
            code => {
                denied.insert(code.to_owned(), (*calls).into());
            }
        }
        total += calls;
    }
    let days: Vec<Value> = days
        .into_iter()
        .map(|(date, operations)| {
            let operations: Vec<Value> = operations
                .into_iter()
                .map(|(id, (allowed, denied))| json!({"operationId": id, "allowed": allowed, "denied": denied}))
                .collect();
            json!({"date": date, "operations": operations})
        })
        .collect();
    let mut data = json!({"days": days, "total": total});
    // The newest is the current one; an older one is there only while its grace runs.
    if let Some(old) = key.secrets.get(1).filter(|_| key.revoked_at.is_none()) {
        let users = call.store().superseded_usage(organization, id, call.now).await?;
        let addresses: Vec<Value> = users
            .iter()
            .take(MOST_ADDRESSES)
            .map(|(address, calls, last)| json!({"address": address, "calls": calls, "lastUsedAt": instant(*last)}))
            .collect();
        data["oldSecret"] = json!({
            "last4": old.last4,
            "expiresAt": instant(old.expires_at),
            "calls": users.iter().map(|(_, calls, _)| calls).sum::<i64>(),
            "lastUsedAt": users.first().map(|(_, _, last)| instant(*last)),
            "addressCount": users.len(),
            "addresses": addresses,
        });
    }
    Ok(Answer::data(data))
}

/// The smallest scopes that the recorded calls of the last days need.
pub async fn scope_advice(call: Call) -> Outcome<Answer> {
    let (organization, id) = (call.organization()?, call.id::<SecretKeyId>("id")?);
    let row = call.store().find_secret_key(organization, id, call.now).await?;
    let days = i64::from(call.query.get_u32("days").unwrap_or(30));
    let from = call.now.plus(-(days - 1) * DAY).day();
    let rows = call.store().usage(organization, id, &from, &call.now.day()).await?;
    let contract = &call.verifier.contract;
    let granted = granted(&call, &row);
    let mut needed = ScopeSet::EMPTY;
    let mut used: BTreeMap<usize, (i64, Timestamp, Vec<&str>)> = BTreeMap::new();
    let mut observed: Vec<(&Operation, i64)> = Vec::new();
    // Calls are counted by day, so the first day counts whole; but not from before the key was there.
    let mut since: Option<Timestamp> = None;
    for (day, operation, outcome, calls, last) in &rows {
        let Some(operation) = contract.operations().iter().find(|it| it.id == *operation) else { continue };
        // What was permitted, whatever came of it afterwards.
        if outcome != ALLOWED && outcome != Code::NotFound.as_str() {
            continue;
        }
        observed.push((operation, *calls));
        if since.is_none() {
            since = format!("{day}T00:00:00Z").parse().ok().map(|at: Timestamp| at.max(row.created_at));
        }
        let Requirement::Credential(alternatives) = operation.requirement() else { continue };
        // Where either of several scopes is enough, one that is needed anyway, else the one granted that asks least.
        let fitting = alternatives
            .iter()
            .filter(|it| it.kind == CredentialKind::SecretKey && granted.covers(it.scopes))
            .min_by_key(|it| (it.scopes.minus(needed).len(), it.scopes.len()));
        let Some(fitting) = fitting else { continue };
        needed = needed.union(fitting.scopes);
        for scope in fitting.scopes.iter() {
            let (sum, latest, operations) = used.entry(scope.index()).or_insert((0, *last, Vec::new()));
            *sum += calls;
            *latest = (*latest).max(*last);
            if !operations.contains(&operation.id.as_str()) {
                operations.push(&operation.id);
            }
        }
    }
    let name = |index: usize| {
        contract.scopes().iter().find(|(scope, _)| scope.index() == index).map(|(_, info)| info.name.as_str())
    };
    let used: Vec<Value> = used
        .into_iter()
        .map(|(index, (calls, last, operations))| {
            json!({"scope": name(index), "calls": calls, "lastUsedAt": instant(last), "operations": operations})
        })
        .collect();
    Ok(Answer::data(json!({
        "granted": contract.scopes().names(granted),
        "used": used,
        "unused": contract.scopes().names(granted.minus(needed)),
        "proposed": contract.scopes().names(needed),
        "observedSince": instant(since),
        "recommended": since.is_some_and(|since| since.plus(RECOMMENDED_AFTER_DAYS * DAY) <= call.now),
        "observedCalls": observed.iter().map(|(_, calls)| calls).sum::<i64>(),
        // By construction none; counted all the same, since a narrowing in one click trusts this number.
        "wouldBeDenied": observed.iter().filter(|(it, _)| !covers(it, needed)).map(|(_, calls)| calls).sum::<i64>(),
    })))
}

/// Whether a secret key with these scopes may call the operation.
fn covers(operation: &Operation, scopes: ScopeSet) -> bool {
    match operation.requirement() {
        Requirement::Public => true,
        Requirement::Credential(all) => {
            all.iter().any(|it| it.kind == CredentialKind::SecretKey && scopes.covers(it.scopes))
        }
    }
}

/// The scopes of these names: each exists, and a secret key may hold it.
fn grantable(call: &Call, names: &[String]) -> Outcome<ScopeSet> {
    let table = call.verifier.contract.scopes();
    let mut wanted = ScopeSet::EMPTY;
    for (index, name) in names.iter().enumerate() {
        let Some(scope) = table.find(name) else {
            return Err(Problem::body(
                format!("/scopes/{index}"),
                "is not a scope; GET /api/v1/scopes lists them",
            ));
        };
        wanted = wanted.with(scope);
    }
    let never = wanted.minus(table.secret_keys());
    if !never.is_empty() {
        let names = table.names(never).join(", ");
        return Err(Problem::new(
            Code::ScopeNotGrantable,
            format!("A secret key may never hold this: {names}."),
        ));
    }
    Ok(wanted)
}

/// Whether the caller holds all of these scopes; `why` they must comes before what is missing.
fn holds(call: &Call, scopes: ScopeSet, why: &str) -> Result<(), StoreError> {
    let held = call.permit().caller().map_or(ScopeSet::EMPTY, Principal::scopes);
    let lacking = scopes.minus(held);
    match lacking.is_empty() {
        true => Ok(()),
        false => {
            let names = call.verifier.contract.scopes().names(lacking).join(", ");
            Err(StoreError::NotHeld(format!("{why}: {names}.")))
        }
    }
}

fn granted(call: &Call, row: &SecretKeyRow) -> ScopeSet {
    call.verifier.contract.scopes().grant(row.scopes.iter().map(String::as_str))
}

/// What holds a stored key back. A list that can't be read admits nobody, as in the replica.
fn restraints(call: &Call, row: &SecretKeyRow) -> Restraints {
    let blocks: Result<Vec<AddressBlock>, _> = row.allowed_addresses.iter().map(|it| it.parse()).collect();
    Restraints {
        scopes: granted(call, row),
        addresses: blocks.map_or(AddressSet::NOWHERE, |it| AddressSet::admitted(&it)),
        rate_limit_rpm: row.rate_limit_rpm,
        expires_at: row.expires_at,
    }
}

fn in_contract_order(call: &Call, names: &[String]) -> Vec<String> {
    let table = call.verifier.contract.scopes();
    let set = table.grant(names.iter().map(String::as_str));
    table.names(set).into_iter().map(str::to_owned).collect()
}

fn expiry(call: &Call, asked: Option<&str>, max_ttl_days: Option<u32>, require: bool) -> Outcome<Timestamp> {
    let Some(text) = asked else {
        return match (require, max_ttl_days) {
            (false, None) => Ok(Timestamp::NEVER),
            _ => Err(Problem::body(
                "/expiresAt",
                "may not be null: the organization's key policy asks for an expiry",
            )),
        };
    };
    let at = call.instant("/expiresAt", text)?;
    if at <= call.now {
        return Err(Problem::body("/expiresAt", "must be in the future"));
    }
    if at > LATEST {
        return Err(Problem::body("/expiresAt", "must be before 2100; null means never"));
    }
    match max_ttl_days {
        Some(most) if at > call.now.plus(i64::from(most) * DAY) => Err(Problem::body(
            "/expiresAt",
            format!(
                "may be at most {most} {} ahead, says the organization's key policy",
                if most == 1 { "day" } else { "days" }
            ),
        )),
        _ => Ok(at),
    }
}

/// Each block in its one canonical spelling.
fn addresses(texts: &[String]) -> Outcome<Vec<String>> {
    let mut blocks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let block: AddressBlock = text
            .parse()
            .map_err(|error| Problem::body(format!("/allowedAddresses/{index}"), format!("{error}")))?;
        blocks.push(block.to_string());
    }
    Ok(blocks)
}
