//! Sessions: set-up, sign-up, sign-in, sign-out, switching, passwords, accepting invites.

use crate::Call;
use crate::devices::{self, Nonce};
use crate::effective;
use crate::organization::inviters;
use crate::password::HashingSlot;
use flowyte_core::credential::Secret;
use flowyte_core::id::{Id, OrganizationId, SessionId, UserId};
use flowyte_core::limit::Limited;
use flowyte_core::{CredentialKind, Digest, Environment, Role, Timestamp};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_store::accounts::{InviteRow, Joining, NewOwner, NewSession, Proof, SESSION_LIFE, UserRow};
use flowyte_store::audit::AuditAction;
use flowyte_store::{AuditContext, InLane, Lane, Store, StoreError};
use flowyte_verifier::meter::rate_limit_prefix;
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
    let file = &call.state.settings.setup_token_file;
    if answer.is_ok()
        && let Err(error) = std::fs::remove_file(file)
    {
        tracing::warn!(%error, file = %file.display(), "the file of the used set-up token could not be removed; the token no longer works");
    }
    answer
}

/// A new person with a new organization, where the operator allows it.
pub async fn signup(call: Call) -> Outcome<Answer> {
    if !call.state.settings.signup_open || call.store().is_empty().await? {
        return Err(Problem::new(
            Code::SignupClosed,
            "Sign-up is closed; ask a member of an organization for an invite.",
        ));
    }
    call.state
        .signups_by_address
        .take(rate_limit_prefix(call.address), call.verifier.pulse())
        .map_err(Problem::limited)?;
    found(&call, call.read()?, None).await
}

async fn found(call: &Call, new: Founding, setup: Option<Digest>) -> Outcome<Answer> {
    let email = normal(&new.email);
    let password = Zeroizing::new(new.password);
    let turn = call.state.passwords.turn(call.address).await?;
    judge(call, &turn, "/password", &password, &[&email, &new.name, &new.organization_name]).await?;
    // An address that is taken is answered like one that is not: a password of its own makes an account of its own.
    let Tried { user, hash: password_hash } = match setup {
        None => try_password(call, &turn, &email, password).await?,
        Some(_) => Tried { user: None, hash: turn.hash(password, None, &*call.verifier.entropy).await? },
    };
    drop(turn);
    if let Some(user) = user {
        return found_another(call, &user, &password_hash, &new.organization_name).await;
    }
    let (secret, session) = new_session(call, call.now)?;
    let owner = NewOwner {
        organization: call.verifier.id(call.now)?,
        organization_name: new.organization_name,
        user: call.verifier.id(call.now)?,
        member: call.verifier.id(call.now)?,
        name: new.name,
        email,
        password_hash,
    };
    let by = call.by_user(owner.user, &owner.name);
    call.store().found_organization(&owner, &session, setup, &by).await?;
    signed_in(call, owner.organization, owner.user, &secret, call.now.plus(SESSION_LIFE)).await
}

/// Somebody signs up who has an account with this address and this password already.
async fn found_another(call: &Call, user: &UserRow, password_hash: &str, name: &str) -> Outcome<Answer> {
    let (id, member) = (call.verifier.id(call.now)?, call.verifier.id(call.now)?);
    let (most, by) = (call.state.settings.organizations_per_person, call.by_user(user.id, &user.name));
    call.store().create_organization(id, name, user.id, member, Some(password_hash), most, &by).await?;
    let (secret, session) = new_session(call, call.now)?;
    call.store().open_session(id, user.id, &session, Proof::Password(password_hash), &by).await?;
    signed_in(call, id, user.id, &secret, call.now.plus(SESSION_LIFE)).await
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
    let email = normal(&body.email);
    let turn = call.state.passwords.turn(call.address).await?;
    let Tried { user, hash } = try_password(&call, &turn, &email, Zeroizing::new(body.password)).await?;
    drop(turn);
    let user = user.ok_or_else(|| login_failed(&call, email))?;
    call.state.logins_by_account.take(user.id, call.verifier.pulse()).map_err(Problem::limited)?;
    call.state
        .logins_by_address
        .take(rate_limit_prefix(call.address), call.verifier.pulse())
        .map_err(Problem::limited)?;
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
    call.store().open_session(organization, user.id, &session, Proof::Password(&hash), &by).await?;
    signed_in(&call, organization, user.id, &secret, call.now.plus(SESSION_LIFE)).await
}

/// A password that was tried under an address: whose it is, if anybody's, and its hash.
struct Tried {
    user: Option<UserRow>,
    hash: String,
}

/// Finds the account that a password opens, under the limits on those that are nobody's. It takes as long for an address without an account.
///
/// A device that an account signed in from before has failures of its own, and goes on with that account when strangers have
/// used up those of the address.
async fn try_password(
    call: &Call,
    turn: &HashingSlot,
    email: &str,
    password: Zeroizing<String>,
) -> Outcome<Tried> {
    let state = &call.state;
    // The limits are asked and charged within the turn: a hundred guesses sent at once would all be within them before.
    attempt(call)?;
    let device = known_device(call, email).await?;
    let strangers = state.failures_by_account.peek(email, call.verifier.pulse());
    if let (None, Err(limited)) = (&device, strangers) {
        return Err(too_many(limited));
    }
    let like = call.store().hash_under(email).await?;
    let hash = turn.hash(password, like, &*call.verifier.entropy).await?;
    let fits = call.store().user_by_password(email, &hash).await?;
    let own = |it: &UserRow| device.as_ref().is_some_and(|(user, _)| user.id == it.id);
    if let Some(user) = fits.filter(|it| own(it) || strangers.is_ok()) {
        if let Some((_, nonce)) = device.filter(|(owner, _)| owner.id == user.id) {
            state.failures_by_device.forgive(nonce);
        }
        return Ok(Tried { user: Some(user), hash });
    }
    // Held against every account of the address, it counts for all of them.
    let counted = match &device {
        None => state.failures_by_account.take(email, call.verifier.pulse()),
        Some((user, nonce)) => {
            if strangers.is_ok() && call.store().has_namesake(user).await? {
                let _ = state.failures_by_account.take(email, call.verifier.pulse());
            }
            state.failures_by_device.take(*nonce, call.verifier.pulse())
        }
    };
    counted.map_err(too_many)?;
    Ok(Tried { user: None, hash })
}

/// The account with this address that the device signed in to before, unless it failed too often since.
async fn known_device(call: &Call, email: &str) -> Outcome<Option<(UserRow, Nonce)>> {
    for device in devices::sent(&call.verifier, call.cookies()) {
        let user = match call.store().user(device.user()).await {
            Err(StoreError::NotFound) => continue,
            other => other?,
        };
        let nonce = device.of(&call.verifier, &user).filter(|_| user.email == email && !user.disabled);
        if let Some(nonce) =
            nonce.filter(|it| call.state.failures_by_device.peek(*it, call.verifier.pulse()).is_ok())
        {
            return Ok(Some((user, nonce)));
        }
    }
    Ok(None)
}

fn too_many(limited: Limited) -> Problem {
    Problem::new(
        Code::RateLimited,
        "Too many sign-ins failed under this e-mail address. Wait as long as Retry-After says, use a device that you signed in \
         from before, or ask for a recovery link.",
    )
    .retry_after(limited.retry_after_seconds)
}

/// One answer, whatever the reason.
fn login_failed(call: &Call, email: String) -> Problem {
    failed(call);
    record_failure(call, email);
    Problem::new(Code::LoginFailed, "The e-mail address or the password is wrong.")
}

/// Accounts of an address whose organizations are told of a failed sign-in.
const TOLD: usize = 3;

/// Writes it down behind the answer, which would tell by its time that there is such an address.
fn record_failure(call: &Call, email: String) {
    let actor = flowyte_store::Actor { kind: "anonymous", id: String::new(), name: String::new() };
    let by = AuditContext { actor, address: call.address.to_string(), now: call.now };
    let store = call.verifier.store.clone();
    tokio::spawn(async move {
        let record = async {
            for (user, memberships) in store.accounts_of(&email).await?.into_iter().take(TOLD) {
                let Some(home) = memberships.first() else { continue };
                let deed = AuditAction {
                    action: "login.failed",
                    kind: "user",
                    id: user.id.to_string(),
                    name: &user.name,
                    details: json!({}),
                };
                let lane: &dyn Store = &InLane(&*store, Lane::product(home.organization));
                lane.audit_only(home.organization, &by, deed).await?;
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = record.await {
            tracing::warn!(%error, "a failed sign-in could not be recorded");
        }
    });
}

/// `logout`: ends the session that asks for it.
pub async fn logout(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    call.store().end_session(member.user, member.session, &call.by().await?).await?;
    Ok(Answer::nothing().cookie(cookie(&call, "", 0)?))
}

/// `getSession`: the person, the organization and the role that the presented session stands for.
pub async fn get(call: Call) -> Outcome<Answer> {
    let member = call.member()?;
    let person = call.store().user(member.user).await?;
    Ok(Answer::data(describe(&call, member.organization, &person, member.expires_at).await?))
}

/// `listSessions`: a page of the person's sessions that work, in all of their organizations, the newest first.
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
        .open_session(organization, member.user, &session, Proof::Session(member.session), &call.by().await?)
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
    let turn = call.state.passwords.turn(call.address).await?;
    attempt(&call)?;
    // The session stands for a device that is known.
    let device = *member.session.as_bytes();
    call.state.failures_by_device.peek(device, call.verifier.pulse()).map_err(too_many)?;
    let hash =
        async |password| turn.hash(password, Some(user.password_hash.clone()), &*call.verifier.entropy).await;
    if hash(Zeroizing::new(body.current_password)).await? != user.password_hash {
        let _ = call.state.failures_by_device.take(device, call.verifier.pulse());
        return Err(login_failed(&call, user.email.clone()));
    }
    let new = Zeroizing::new(body.new_password);
    judge(&call, &turn, "/newPassword", &new, &[&user.email, &user.name]).await?;
    let hash = hash(new).await?;
    own_password(&call, &user).await?;
    let (secret, session) = new_session(&call, call.now)?;
    let by = call.by_user(user.id, &user.name);
    call.store().change_password(member.organization, user.id, &hash, &session, &by).await?;
    signed_in(&call, member.organization, user.id, &secret, call.now.plus(SESSION_LIFE)).await
}

/// Two accounts of one address may not have one password, and a refusal tells that another has it: so where there is another,
/// a new password counts like one that is tried.
async fn own_password(call: &Call, user: &UserRow) -> Outcome<()> {
    if call.store().has_namesake(user).await? {
        call.state.failures_by_account.take(user.email.as_str(), call.verifier.pulse()).map_err(too_many)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Recover {
    token: String,
    password: String,
}

/// A new password by a recovery link; every session of the person ends, and one opens.
pub async fn recover(call: Call) -> Outcome<Answer> {
    let body: Recover = call.read()?;
    attempt(&call)?;
    let digests = one_time(&call, &body.token);
    let user = call.store().find_recovery(&digests, call.now).await.map_err(|error| used_up(&call, error))?;
    let password = Zeroizing::new(body.password);
    let turn = call.state.passwords.turn(call.address).await?;
    judge(&call, &turn, "/password", &password, &[&user.email, &user.name]).await?;
    let hash = turn.hash(password, Some(user.password_hash.clone()), &*call.verifier.entropy).await?;
    drop(turn);
    own_password(&call, &user).await?;
    let (secret, session) = new_session(&call, call.now)?;
    let by = call.by_user(user.id, &user.name);
    let done = call.store().recover(&digests, &hash, &session, &by).await;
    let organization = done.map_err(|error| used_up(&call, error))?;
    signed_in(&call, organization, user.id, &secret, call.now.plus(SESSION_LIFE)).await
}

fn used_up(call: &Call, error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => {
            failed(call);
            Problem::new(
                Code::NotFound,
                "This recovery link does not work: it is not known, was used or replaced, is older than 30 minutes, or whoever \
                 made it may not make it any more. Ask for a new one.",
            )
        }
        other => other.into(),
    }
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
    match call.store().find_invite(digests, &inviters(&call.verifier.contract), call.now).await {
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

/// Joins an organization by invite: with an account of the invited address, proved by its password, or with a new one. Nobody
/// holds an address by having come first, so a password that somebody else set for it stands in nobody's way.
pub async fn accept_invite(call: Call) -> Outcome<Answer> {
    let body: Accept = call.read()?;
    let digests = one_time(&call, &body.token);
    let invite = open_invite(&call, &digests).await?;
    let password = body.password.ok_or_else(|| {
        Problem::body(
            "/password",
            "is required: the password of your account here, or, together with `name`, one for a new account",
        )
    })?;
    let password = Zeroizing::new(password);
    let turn = call.state.passwords.turn(call.address).await?;
    if let Some(name) = &body.name {
        judge(&call, &turn, "/password", &password, &[&invite.email, name]).await?;
    }
    let tried = try_password(&call, &turn, &invite.email, password).await?;
    drop(turn);
    let (joining, user, name) = match (tried.user, body.name) {
        (Some(known), _) => {
            (Joining::Known { user: known.id, password_hash: tried.hash }, known.id, known.name)
        }
        // Whether or not the address is known: a password of its own makes an account of its own.
        (None, Some(name)) => {
            let user: UserId = call.verifier.id(call.now)?;
            (Joining::New { user, name: name.clone(), password_hash: tried.hash }, user, name)
        }
        (None, None) => return Err(login_failed(&call, invite.email)),
    };
    let (secret, session) = new_session(&call, call.now)?;
    let by = call.by_user(user, &name);
    call.store()
        .accept_invite(
            &digests,
            &inviters(&call.verifier.contract),
            &joining,
            call.verifier.id(call.now)?,
            &session,
            &by,
        )
        .await?;
    signed_in(&call, invite.organization, user, &secret, call.now.plus(SESSION_LIFE)).await
}

/// Refuses a new password that is easily guessed. Judging is dear, so the address is charged before.
async fn judge(
    call: &Call,
    turn: &HashingSlot,
    pointer: &str,
    password: &Zeroizing<String>,
    known: &[&str],
) -> Outcome<()> {
    attempt(call)?;
    failed(call);
    turn.judge(pointer, password, known).await
}

/// Whether this address may try at all.
fn attempt(call: &Call) -> Outcome<()> {
    let (state, from) = (&call.state, rate_limit_prefix(call.address));
    state.failures_by_address.peek(from, call.verifier.pulse()).map_err(Problem::limited)?;
    state.logins_by_address.peek(from, call.verifier.pulse()).map_err(Problem::limited)
}

fn failed(call: &Call) {
    // Whoever is above the limit is told at the next attempt.
    let _ = call.state.failures_by_address.take(rate_limit_prefix(call.address), call.verifier.pulse());
}

fn unknown_token(call: &Call) -> Problem {
    failed(call);
    Problem::new(
        Code::InvalidCredential,
        "This is not the current set-up token, or the set-up is already done. Use the link that the server printed when it was started last.",
    )
}

/// The digests of a one-time token; none of what is not one.
fn one_time(call: &Call, token: &str) -> Vec<Digest> {
    let read = call.verifier.brand.parse(token).filter(|it| it.kind() == CredentialKind::OneTime);
    read.map(|it| call.verifier.peppers.digests(it.body()).collect()).unwrap_or_default()
}

fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

fn new_session(call: &Call, signed_in_at: Timestamp) -> Outcome<(Secret, NewSession)> {
    let (secret, stored) = call.verifier.secret(CredentialKind::Session, Environment::Live)?;
    let session = NewSession {
        id: call.verifier.id(call.now)?,
        secret: stored,
        signed_in_at,
        user_agent: call.user_agent(),
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
    let person = call.store().user(user).await?;
    let session = describe(call, organization, &person, expires_at).await?;
    let seconds = expires_at.since(call.now) / flowyte_core::time::SECOND;
    let device = devices::value(&call.verifier, &person, &devices::sent(&call.verifier, call.cookies()))?;
    let device = named_cookie(call, &devices::cookie_name(&call.verifier, user), &device, devices::LIFE)?;
    Ok(Answer::data(session).cookie(cookie(call, secret.expose(), seconds)?).cookie(device))
}

/// The cookie that carries the session; an empty value with 0 seconds takes it away.
fn cookie(call: &Call, value: &str, seconds: i64) -> Outcome<HeaderValue> {
    named_cookie(call, call.verifier.cookie_name(), value, seconds)
}

/// RFC 6265 §4.1, with the `__Host-` prefix of its successor where there is TLS.
fn named_cookie(call: &Call, name: &str, value: &str, seconds: i64) -> Outcome<HeaderValue> {
    let secure = if call.verifier.is_https() { "; Secure" } else { "" };
    let text = format!("{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let mut header = flowyte_http::problem::or_internal(
        HeaderValue::from_str(&text).ok(),
        "a cookie could not be written",
    )?;
    header.set_sensitive(true);
    Ok(header)
}

async fn describe(
    call: &Call,
    organization: OrganizationId,
    person: &UserRow,
    expires_at: Timestamp,
) -> Outcome<Value> {
    let memberships = call.store().memberships(person.id).await?;
    let here =
        memberships.iter().find(|it| it.organization == organization).ok_or_else(Problem::not_found)?;
    let all: Vec<Value> = memberships
        .iter()
        .map(|it| json!({"id": it.organization.to_string(), "name": it.name, "role": it.role.as_str()}))
        .collect();
    let role: Role = here.role;
    let scopes = call.verifier.contract.scopes();
    Ok(json!({
        "user": {"id": person.id.to_string(), "name": person.name, "email": person.email},
        "organization": {"id": organization.to_string(), "name": here.name},
        "organizations": all,
        "role": role.as_str(),
        "scopes": scopes.names(scopes.role(role)),
        "createdAt": instant(expires_at.plus(-SESSION_LIFE)),
        "expiresAt": instant(expires_at),
    }))
}
