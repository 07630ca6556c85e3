//! Sessions: set-up, sign-up, sign-in, sign-out, switching, passwords, accepting invites.

use crate::answer::Answer;
use crate::call::{Call, instant};
use crate::handlers::effective;
use crate::handlers::organization::inviters;
use crate::meter::neighbourhood;
use crate::problem::{Code, Outcome, Problem};
use flowyte_core::credential::Secret;
use flowyte_core::id::{Id, OrganizationId, SessionId, UserId};
use flowyte_core::{CredentialKind, Digest, Environment, Role, Timestamp};
use flowyte_store::accounts::{InviteRow, Joining, NewOwner, NewSession, SESSION_LIFE, UserRow};
use flowyte_store::audit::Deed;
use flowyte_store::{By, InLane, Lane, Store, StoreError};
use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Founding {
    #[serde(default)]
    token: String,
    organization_name: String,
    name: String,
    email: String,
    password: String,
}

/// The first organization, with the token that the first start printed.
pub async fn setup(call: Call) -> Outcome<Answer> {
    let new: Founding = call.read()?;
    attempt(&call)?;
    let digest = match one_time(&call, &new.token).into_iter().next() {
        Some(digest) if call.store().setup_stands(digest).await? => digest,
        _ => return Err(unknown_token(&call)),
    };
    let answer = found(&call, new, Some(digest)).await;
    if let Err(problem) = &answer
        && problem.code() == Code::NotFound
    {
        return Err(unknown_token(&call));
    }
    let file = call.app.config.data.join("setup-token");
    if answer.is_ok()
        && let Err(error) = std::fs::remove_file(&file)
    {
        tracing::warn!(%error, file = %file.display(), "the used set-up token could not be removed; it works no more");
    }
    answer
}

/// A new person with a new organization, where the operator allows it.
pub async fn signup(call: Call) -> Outcome<Answer> {
    if !call.app.config.signup_open || call.store().is_empty().await? {
        return Err(Problem::new(
            Code::SignupClosed,
            "Sign-up is closed; ask a member of an organization for an invite.",
        ));
    }
    found(&call, call.read()?, None).await
}

async fn found(call: &Call, new: Founding, setup: Option<Digest>) -> Outcome<Answer> {
    let email = normal(&new.email);
    let known = [email.as_str(), &new.name, &new.organization_name];
    let password_hash = hash_new(call, "/password", new.password, &known).await?;
    let (secret, session) = new_session(call, call.now)?;
    let owner = NewOwner {
        organization: call.app.id(call.now)?,
        organization_name: new.organization_name,
        user: call.app.id(call.now)?,
        member: call.app.id(call.now)?,
        name: new.name,
        email,
        password_hash,
    };
    let by = call.by_user(owner.user, &owner.name);
    call.store().found_organization(&owner, &session, setup, &by).await?;
    signed_in(call, owner.organization, owner.user, &secret, call.now.plus(SESSION_LIFE)).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogIn {
    email: String,
    password: String,
    organization_id: Option<String>,
}

/// Opens a session with e-mail and password.
pub async fn login(call: Call) -> Outcome<Answer> {
    let body: LogIn = call.read()?;
    let user = check_password(&call, &normal(&body.email), body.password).await?;
    let memberships = call.store().memberships(user.id).await?;
    let organization = match body.organization_id {
        Some(text) => {
            let wanted = OrganizationId::parse(&text).ok_or_else(Problem::not_found)?;
            memberships.iter().find(|it| it.organization == wanted).ok_or_else(Problem::not_found)?
        }
        None => memberships.first().ok_or_else(|| {
            Problem::new(
                Code::Conflict,
                "You are no longer a member of any organization; ask a member of one for an invite.",
            )
        })?,
    }
    .organization;
    let (secret, session) = new_session(&call, call.now)?;
    let by = call.by_user(user.id, &user.name);
    call.store().open_session(organization, user.id, &session, None, &by).await?;
    signed_in(&call, organization, user.id, &secret, call.now.plus(SESSION_LIFE)).await
}

/// Checks a password under the limits on failures. Whoever can't sign in gets one answer, whatever the reason, after as
/// long a time.
async fn check_password(call: &Call, email: &str, password: String) -> Outcome<UserRow> {
    let app = &call.app;
    let user = match call.store().user_by_email(email).await {
        Ok(user) => Some(user),
        Err(StoreError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    // The limits are asked and charged within the turn: a hundred guesses sent at once would all be within them before.
    let turn = app.passwords.turn(call.address).await?;
    attempt(call)?;
    let throttled = app.failures_by_account.peek(email, call.now).is_err();
    let usable = user.as_ref().filter(|it| !it.disabled && !throttled);
    let fits = turn.verify(Zeroizing::new(password), usable.map(|it| it.password_hash.clone())).await?;
    match user {
        Some(user) if fits => {
            app.failures_by_account.forgive(email);
            Ok(user)
        }
        user => {
            failed(call);
            let counted = app.failures_by_account.take(email, call.now).is_ok();
            if let Some(user) = user.filter(|_| counted) {
                record_failure(call, user);
            }
            Err(Problem::new(
                Code::LoginFailed,
                "E-mail and password do not belong together, or there were too many attempts; wait a few minutes.",
            ))
        }
    }
}

/// Writes it down behind the answer, which would tell by its time that there is such a user.
fn record_failure(call: &Call, user: UserRow) {
    let actor = flowyte_store::Actor { kind: "anonymous", id: String::new(), name: String::new() };
    let by = By { actor, address: call.address.to_string(), now: call.now };
    let store = call.app.store.clone();
    tokio::spawn(async move {
        let record = async {
            let Some(home) = store.memberships(user.id).await?.into_iter().next() else { return Ok(()) };
            let deed = Deed {
                action: "login.failed",
                kind: "user",
                id: user.id.to_string(),
                name: &user.name,
                details: json!({}),
            };
            let store: &dyn Store = &InLane(&*store, Lane::product(home.organization));
            store.audit_only(home.organization, &by, deed).await
        };
        if let Err(error) = record.await {
            tracing::warn!(%error, "a failed sign-in could not be recorded");
        }
    });
}

/// Ends this session.
pub async fn logout(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    call.store().end_session(member.user, member.session, &call.by().await?).await?;
    Ok(Answer::nothing().cookie(cookie(&call, "", 0)?))
}

/// Who this session is.
pub async fn get(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    Ok(Answer::data(describe(&call, member.organization, member.user, member.expires_at).await?))
}

/// The person's open sessions.
pub async fn list(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    let page = call.page()?;
    let mut rows = call.store().sessions(member.user, call.now).await?;
    rows.sort_by_key(|row| std::cmp::Reverse(*row.id.as_bytes()));
    rows.retain(|row| page.before.is_none_or(|before| *row.id.as_bytes() < before));
    rows.truncate(page.limit as usize + 1);
    call.list(
        page,
        rows,
        |row| *row.id.as_bytes(),
        |row| {
            json!({
                "id": row.id.to_string(),
                "current": row.id == member.session,
                "createdAt": instant(row.created_at),
                "lastSeenAt": instant(row.last_seen_at),
                "address": row.address,
                "userAgent": row.user_agent,
                "expiresAt": instant(row.expires_at),
            })
        },
    )
}

/// Ends one of the person's sessions.
pub async fn end(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    let session: SessionId = call.id("id")?;
    let by = call.by().await?;
    let begun = std::time::Instant::now();
    let revision = call.store().end_session(member.user, session, &by).await?;
    let answer = Answer::data(json!({"revision": revision, "effective": effective(begun)}));
    Ok(if session == member.session { answer.cookie(cookie(&call, "", 0)?) } else { answer })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Switch {
    organization_id: String,
}

/// The same person in another organization: a new session, and the old one ends.
pub async fn switch(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    let body: Switch = call.read()?;
    let organization = OrganizationId::parse(&body.organization_id).ok_or_else(Problem::not_found)?;
    // Signing in once is enough, but neither how long ago that was nor the session's longest life begins anew.
    let signed_in_at = member.expires_at.plus(-SESSION_LIFE);
    let (secret, session) = new_session(&call, signed_in_at)?;
    call.store()
        .open_session(organization, member.user, &session, Some(member.session), &call.by().await?)
        .await?;
    signed_in(&call, organization, member.user, &secret, member.expires_at).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangePassword {
    current_password: String,
    new_password: String,
}

/// A new password; every other session of the person ends.
pub async fn change_password(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    let body: ChangePassword = call.read()?;
    let user = call.store().user(member.user).await?;
    let user = check_password(&call, &user.email, body.current_password).await?;
    let hash = hash_new(&call, "/newPassword", body.new_password, &[&user.email, &user.name]).await?;
    let (secret, session) = new_session(&call, call.now)?;
    let by = call.by_user(user.id, &user.name);
    call.store().change_password(member.organization, user.id, &hash, &session, &by).await?;
    signed_in(&call, member.organization, user.id, &secret, call.now.plus(SESSION_LIFE)).await
}

#[derive(Deserialize)]
struct Accept {
    token: String,
    name: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
struct Read {
    token: String,
}

/// What an invite says, for whoever holds its link.
pub async fn read_invite(call: Call) -> Outcome<Answer> {
    let body: Read = call.read()?;
    let invite = open_invite(&call, &one_time(&call, &body.token)).await?;
    let organization = call.store().organization(invite.organization).await?;
    Ok(Answer::data(json!({
        "organization": {"id": organization.id.to_string(), "name": organization.name},
        "email": invite.email,
        "role": invite.role.as_str(),
        "invitedBy": {"id": invite.invited_by.0.to_string(), "name": invite.invited_by.1},
        "expiresAt": instant(invite.expires_at),
    })))
}

/// The invite of a link, if it can be accepted now.
async fn open_invite(call: &Call, digests: &[Digest]) -> Outcome<InviteRow> {
    attempt(call)?;
    match call.store().find_invite(digests, &inviters(&call.app), call.now).await {
        Err(StoreError::NotFound) => {
            failed(call);
            Err(Problem::new(
                Code::NotFound,
                "This invite does not work: it is not known, was used or withdrawn, is older than seven days, or whoever \
                 made it may not invite any more. Ask for a new one.",
            ))
        }
        other => Ok(other?),
    }
}

/// Joins an organization by invite. Whoever has an account proves it with its password.
pub async fn accept_invite(call: Call) -> Outcome<Answer> {
    let body: Accept = call.read()?;
    let digests = one_time(&call, &body.token);
    let invite = open_invite(&call, &digests).await?;
    let (joining, user, name) = match call.store().user_by_email(&invite.email).await {
        Ok(_) => {
            let password = body.password.ok_or_else(|| {
                Problem::body(
                    "/password",
                    "is needed: this e-mail address signs in here already, with its password",
                )
            })?;
            let known = check_password(&call, &invite.email, password).await?;
            (Joining::Known(known.id), known.id, known.name)
        }
        Err(StoreError::NotFound) => {
            let missing = |pointer| Problem::body(pointer, "is needed for somebody who is new here");
            let name = body.name.ok_or_else(|| missing("/name"))?;
            let password = body.password.ok_or_else(|| missing("/password"))?;
            let password_hash = hash_new(&call, "/password", password, &[&invite.email, &name]).await?;
            let user: UserId = call.app.id(call.now)?;
            (Joining::New { user, name: name.clone(), password_hash }, user, name)
        }
        Err(error) => return Err(error.into()),
    };
    let (secret, session) = new_session(&call, call.now)?;
    let by = call.by_user(user, &name);
    call.store()
        .accept_invite(&digests, &inviters(&call.app), &joining, call.app.id(call.now)?, &session, &by)
        .await?;
    signed_in(&call, invite.organization, user, &secret, call.now.plus(SESSION_LIFE)).await
}

/// The hash of a new password that is not easily guessed. Both cost much, so the address is charged before.
async fn hash_new(call: &Call, pointer: &str, password: String, known: &[&str]) -> Outcome<String> {
    attempt(call)?;
    failed(call);
    let password = Zeroizing::new(password);
    let turn = call.app.passwords.turn(call.address).await?;
    turn.judge(pointer, &password, known).await?;
    turn.hash(password, &*call.app.entropy).await
}

/// Whether this address may try at all.
fn attempt(call: &Call) -> Outcome<()> {
    call.app.failures_by_address.peek(neighbourhood(call.address), call.now).map_err(Problem::limited)
}

fn failed(call: &Call) {
    // Whoever is above the limit is told at the next attempt.
    let _ = call.app.failures_by_address.take(neighbourhood(call.address), call.now);
}

fn unknown_token(call: &Call) -> Problem {
    failed(call);
    Problem::new(
        Code::InvalidCredential,
        "This is not the set-up token, or the set-up is done. The newest start printed the one that counts.",
    )
}

/// The digests of a one-time token; none of what is not one.
fn one_time(call: &Call, token: &str) -> Vec<Digest> {
    let read = call.app.config.brand.parse(token).filter(|it| it.kind() == CredentialKind::OneTime);
    read.map(|it| call.app.peppers.digests(it.body()).collect()).unwrap_or_default()
}

fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

fn new_session(call: &Call, signed_in_at: Timestamp) -> Outcome<(Secret, NewSession)> {
    let (secret, stored) = call.app.secret(CredentialKind::Session, Environment::Live)?;
    let session = NewSession {
        id: call.app.id(call.now)?,
        secret: stored,
        signed_in_at,
        user_agent: call.user_agent.clone(),
    };
    Ok((secret, session))
}

async fn signed_in(
    call: &Call,
    organization: OrganizationId,
    user: UserId,
    secret: &Secret,
    expires_at: Timestamp,
) -> Outcome<Answer> {
    let session = describe(call, organization, user, expires_at).await?;
    let seconds = expires_at.since(call.now) / flowyte_core::time::SECOND;
    Ok(Answer::data(session).cookie(cookie(call, secret.expose(), seconds)?))
}

/// RFC 6265 §4.1, with the `__Host-` prefix of its successor where there is TLS.
fn cookie(call: &Call, value: &str, seconds: i64) -> Outcome<HeaderValue> {
    let secure = if call.app.config.is_https() { "; Secure" } else { "" };
    let name = call.app.cookie_name();
    let text = format!("{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let mut header =
        crate::app::or_internal(HeaderValue::from_str(&text).ok(), "a cookie could not be written")?;
    header.set_sensitive(true);
    Ok(header)
}

async fn describe(
    call: &Call,
    organization: OrganizationId,
    user: UserId,
    expires_at: Timestamp,
) -> Outcome<Value> {
    let person = call.store().user(user).await?;
    let memberships = call.store().memberships(user).await?;
    let here =
        memberships.iter().find(|it| it.organization == organization).ok_or_else(Problem::not_found)?;
    let all: Vec<Value> = memberships
        .iter()
        .map(|it| json!({"id": it.organization.to_string(), "name": it.name, "role": it.role.as_str()}))
        .collect();
    let role: Role = here.role;
    let scopes = call.app.api.contract().scopes();
    Ok(json!({
        "user": {"id": user.to_string(), "name": person.name, "email": person.email},
        "organization": {"id": organization.to_string(), "name": here.name},
        "organizations": all,
        "role": role.as_str(),
        "scopes": scopes.names(scopes.role(role)),
        "createdAt": instant(expires_at.plus(-SESSION_LIFE)),
        "expiresAt": instant(expires_at),
    }))
}
