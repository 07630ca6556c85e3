//! The organization, its members and their invites.

use crate::Call;
use crate::effective;
use flowyte_core::credential::Secret;
use flowyte_core::id::{Id, InviteId, MemberId};
use flowyte_core::{Contract, CredentialKind, Environment, Operation, Requirement, Role};
use flowyte_http::answer::Answer;
use flowyte_http::call::{instant, present};
use flowyte_http::problem::{Outcome, Problem};
use flowyte_store::StoreError;
use flowyte_store::accounts::{InviteRow, Inviters, MemberRow, OrganizationChange, OrganizationRow};
use flowyte_verifier::meter::rate_limit_prefix;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

fn organization(row: &OrganizationRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "name": row.name,
        "keyPolicy": {"maxTtlDays": row.max_ttl_days, "requireExpiry": row.require_expiry},
        "createdAt": instant(row.created_at),
        "etag": row.tag(),
    })
}

fn member(row: &MemberRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "userId": row.user.to_string(),
        "name": row.name,
        "email": row.email,
        "role": row.role.as_str(),
        "joinedAt": instant(row.joined_at),
        "lastSeenAt": instant(row.last_seen_at),
        "etag": row.tag(),
    })
}

fn invite_row(row: &InviteRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "email": row.email,
        "role": row.role.as_str(),
        "invitedBy": {"id": row.invited_by.0.to_string(), "name": row.invited_by.1},
        "createdAt": instant(row.created_at),
        "expiresAt": instant(row.expires_at),
    })
}

/// The roles whose members may invite: those that the contract lets call `createInvite`.
pub(super) fn inviters(contract: &Contract) -> Inviters {
    let invite = contract.operations().iter().find(|it| it.id == "createInvite");
    let may = |role: &Role| match invite.map(Operation::requirement) {
        Some(Requirement::Credential(all)) => all
            .iter()
            .any(|it| it.kind == CredentialKind::Session && contract.scopes().role(*role).covers(it.scopes)),
        _ => false,
    };
    Inviters(Role::ALL.into_iter().filter(may).collect())
}

/// The role named in a body; the contract lists the same names.
fn role(name: &str) -> Outcome<Role> {
    Role::parse(name).ok_or_else(|| Problem::body("/role", "must be owner, admin, developer or viewer"))
}

/// The organization of the session.
pub async fn get(call: Call) -> Outcome<Answer> {
    let row = call.store().organization(call.organization()?).await?;
    Ok(Answer::data(organization(&row)).tagged(row.tag()))
}

#[derive(Deserialize)]
struct Create {
    name: String,
}

/// Another organization of the same person; the session stays where it is. It counts like a sign-up: whoever invites themself
/// again and again is another person each time, but comes from the same address.
pub async fn create(call: Call) -> Outcome<Answer> {
    let body: Create = call.read()?;
    call.state
        .signups_by_address
        .take(rate_limit_prefix(call.address), call.verifier.pulse())
        .map_err(Problem::limited)?;
    let (user, by) = (call.member()?.user, call.by().await?);
    let (id, owner) = (call.verifier.id(call.now)?, call.verifier.id(call.now)?);
    let row = call
        .store()
        .create_organization(
            id,
            &body.name,
            user,
            owner,
            None,
            call.state.settings.organizations_per_person,
            &by,
        )
        .await?;
    Ok(Answer::data(organization(&row)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: Option<String>,
    key_policy: Option<KeyPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyPolicy {
    #[serde(default, deserialize_with = "present")]
    max_ttl_days: Option<Option<u32>>,
    require_expiry: Option<bool>,
}

/// A new name or key policy.
pub async fn update(call: Call) -> Outcome<Answer> {
    let body: Update = call.read()?;
    let policy = body.key_policy.as_ref();
    let change = OrganizationChange {
        name: body.name.clone(),
        max_ttl_days: policy.and_then(|it| it.max_ttl_days),
        require_expiry: policy.and_then(|it| it.require_expiry),
        expected: call.if_match().map(str::to_owned),
    };
    let (id, by) = (call.organization()?, call.by().await?);
    let row = match call.store().change_organization(id, &change, &by).await {
        Err(StoreError::Stale) => {
            return Err(Problem::stale(organization(&call.store().organization(id).await?)));
        }
        done => done?,
    };
    Ok(Answer::data(organization(&row)).tagged(row.tag()))
}

/// `listMembers`: a page of the organization's members, by name and role where that is asked for.
pub async fn members(call: Call) -> Outcome<Answer> {
    let role = call.query.get("role").and_then(Role::parse);
    let (organization, window) = (call.organization()?, call.window()?);
    let found = call.store().members(organization, &call.search(), role, window).await?;
    call.found(&found, member)
}

#[derive(Deserialize)]
struct UpdateMember {
    role: String,
}

/// A new role, which every session of the member has at once.
pub async fn update_member(call: Call) -> Outcome<Answer> {
    let (me, id) = (call.member()?, call.id::<MemberId>("id")?);
    let body: UpdateMember = call.read()?;
    let by = call.by().await?;
    let begun = Instant::now();
    let (new, expected) = (role(&body.role)?, call.if_match());
    let inviters = inviters(&call.verifier.contract);
    let changed = call.store().change_role(me.organization, id, new, me.role, expected, &inviters, &by).await;
    let revision = match changed {
        Err(StoreError::Stale) => {
            return Err(Problem::stale(member(&call.store().member(me.organization, id).await?)));
        }
        done => done?,
    };
    let effective = effective(begun);
    let row = call.store().member(me.organization, id).await?;
    let mut answer = member(&row);
    answer["revision"] = revision.into();
    answer["effective"] = effective;
    Ok(Answer::data(answer).tagged(row.tag()))
}

/// Removes a member and ends the sessions they have here.
pub async fn remove_member(call: Call) -> Outcome<Answer> {
    let (me, id) = (call.member()?, call.id::<MemberId>("id")?);
    let by = call.by().await?;
    let begun = Instant::now();
    let revision = call
        .store()
        .remove_member(me.organization, id, me.role, &inviters(&call.verifier.contract), &by)
        .await?;
    Ok(Answer::data(json!({"revision": revision, "effective": effective(begun)})))
}

/// A link with which a member who lost their password sets a new one; the one answer that carries it.
pub async fn recovery_link(call: Call) -> Outcome<Answer> {
    let (me, id) = (call.member()?, call.id::<MemberId>("id")?);
    let (secret, stored) = call.verifier.secret(CredentialKind::OneTime, Environment::Live)?;
    let (maker, by) = ((me.user, me.role), call.by().await?);
    let expires_at = call.store().offer_recovery_to(me.organization, id, &stored, maker, &by).await?;
    Ok(Answer::data(json!({
        "token": secret.expose(),
        "link": recovery_page(&call.verifier.public_url, &secret),
        "expiresAt": instant(expires_at),
    })))
}

/// The page that takes a recovery link's token; after `#`, so that no server and no log on the way sees it.
pub fn recovery_page(public_url: &str, secret: &Secret) -> String {
    format!("{public_url}/recover#token={}", secret.expose())
}

/// Invites that nobody used yet.
pub async fn invites(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let rows = call.store().invites(call.organization()?, page, call.now).await?;
    call.list(page, rows, |row| *row.id.as_bytes(), invite_row)
}

#[derive(Deserialize)]
struct Invite {
    email: String,
    role: String,
}

/// Invites somebody; the one answer that carries the link.
pub async fn invite(call: Call) -> Outcome<Answer> {
    let me = call.member()?;
    let body: Invite = call.read()?;
    let (email, role) = (body.email.trim().to_lowercase(), role(&body.role)?);
    let (secret, stored) = call.verifier.secret(CredentialKind::OneTime, Environment::Live)?;
    let (id, by) = (call.verifier.id::<InviteId>(call.now)?, call.by().await?);
    let maker = (me.user, me.role);
    let expires_at = call.store().invite(me.organization, id, &email, role, &stored, maker, &by).await?;
    let row = InviteRow {
        id,
        organization: me.organization,
        email,
        role,
        invited_by: (me.user, by.actor.name),
        created_at: call.now,
        expires_at,
    };
    let mut answer = invite_row(&row);
    answer["token"] = secret.expose().into();
    // After `#`, so that no server and no log on the way sees the token.
    answer["link"] = format!("{}/invite#token={}", call.verifier.public_url, secret.expose()).into();
    Ok(Answer::data(answer))
}

/// `withdrawInvite`: its link opens nothing from then on.
pub async fn withdraw_invite(call: Call) -> Outcome<Answer> {
    let id: InviteId = call.id("id")?;
    call.store().withdraw_invite(call.organization()?, id, &call.by().await?).await?;
    Ok(Answer::nothing())
}
