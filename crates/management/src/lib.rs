//! Handlers of keys, publishable keys, sessions, members, the organization, the audit trail and scopes.

mod audit;
mod devices;
pub mod heads;
mod identity;
mod keys;
pub mod organization;
mod password;
mod publishable;
mod session;
mod settings;

use flowyte_core::time::{DAY, MINUTE};
use flowyte_http::answer::Answer;
use flowyte_http::route::{Route, Routes};
use flowyte_store::Revision;
use flowyte_verifier::meter::Meter;
use heads::Heads;
use password::Passwords;
use serde_json::{Value, json};
pub use settings::Settings;
use std::sync::Arc;
use std::time::Instant;

/// A permitted request of this crate's handlers.
type Call = flowyte_http::call::Call<Management>;

/// The state that all handlers of this crate share.
pub struct Management {
    settings: Settings,
    /// The heads of audit chains, kept apart from the database.
    heads: Arc<Heads>,
    passwords: Passwords,
    /// Passwords that fitted no account, by e-mail address, from devices that are not known.
    failures_by_account: Meter,
    /// The same, by device, from those that are.
    failures_by_device: Meter,
    /// Passwords and one-time tokens that were wrong, by IP address (of IPv6, by /64).
    failures_by_address: Meter,
    /// Sign-ins that succeeded, by account: each costs a hash and a session.
    logins_by_account: Meter,
    /// Sign-ins that succeeded, by IP address (of IPv6, by /64).
    logins_by_address: Meter,
    /// Sign-ups, by IP address (of IPv6, by /64).
    signups_by_address: Meter,
}

/// The time in which failed sign-ins are counted.
const LOGIN_WINDOW: i64 = 15 * MINUTE;
/// Sign-ins with the right password in that time.
const LOGINS_PER_ACCOUNT: u32 = 100;
/// The same from one address, behind which a whole company may be.
const LOGINS_PER_ADDRESS: u32 = 1_000;

impl Management {
    /// Nobody has signed in or failed to yet.
    pub fn new(settings: Settings, heads: Arc<Heads>) -> Arc<Self> {
        Arc::new(Self {
            heads,
            passwords: Passwords::default(),
            failures_by_account: Meter::new(settings.login_failures_per_account, LOGIN_WINDOW),
            failures_by_device: Meter::new(settings.login_failures_per_account, LOGIN_WINDOW),
            failures_by_address: Meter::new(settings.login_failures_per_address, LOGIN_WINDOW),
            logins_by_account: Meter::new(LOGINS_PER_ACCOUNT, LOGIN_WINDOW),
            logins_by_address: Meter::new(LOGINS_PER_ADDRESS, LOGIN_WINDOW),
            signups_by_address: Meter::new(settings.signups_per_address, DAY),
            settings,
        })
    }

    /// What runs for the operations of the plane's contract.
    pub fn routes(self: Arc<Self>) -> Vec<Route> {
        let mut on = Routes::new(self);
        on.credentials("setup", session::setup);
        on.credentials("signup", session::signup);
        on.credentials("login", session::login);
        on.narrowing("logout", session::logout);
        on.credentials("getSession", session::get);
        on.credentials("listSessions", session::list);
        on.narrowing("endSession", session::end);
        on.credentials("switchOrganization", session::switch);
        on.narrowing("changePassword", session::change_password);
        on.narrowing("recoverAccount", session::recover);
        on.credentials("createRecoveryLink", organization::recovery_link);
        on.credentials("readInvite", session::read_invite);
        on.credentials("acceptInvite", session::accept_invite);
        on.credentials("createOrganization", organization::create);
        on.credentials("getOrganization", organization::get);
        on.credentials("updateOrganization", organization::update);
        on.credentials("listMembers", organization::members);
        on.narrowing("updateMember", organization::update_member);
        on.narrowing("removeMember", organization::remove_member);
        on.credentials("listInvites", organization::invites);
        on.credentials("createInvite", organization::invite);
        on.narrowing("withdrawInvite", organization::withdraw_invite);
        on.credentials("listApiKeys", keys::list).dear_with(&[
            "search",
            "status",
            "env",
            "createdBy",
            "scope",
            "unusedSince",
            "expiringBefore",
        ]);
        on.credentials("mintApiKey", keys::mint);
        on.credentials("getApiKey", keys::get);
        on.narrowing("updateApiKey", keys::update);
        on.credentials("rotateApiKey", keys::rotate);
        on.narrowing("revokeApiKey", keys::revoke);
        on.credentials("getApiKeyUsage", keys::usage).dear();
        on.credentials("getApiKeyScopeAdvice", keys::scope_advice).dear();
        on.credentials("whoami", identity::whoami);
        on.credentials("listScopes", identity::scopes);
        on.credentials("listAuditEvents", audit::list).dear_with(&["actor", "action", "from", "to"]);
        on.credentials("verifyAuditEvents", audit::verify).dear();
        on.credentials("listPublishableKeys", publishable::list);
        on.credentials("mintPublishableKey", publishable::mint);
        on.narrowing("updatePublishableKey", publishable::update);
        on.credentials("rotatePublishableKey", publishable::rotate);
        on.narrowing("revokePublishableKey", publishable::revoke);
        on.into_vec()
    }
}

/// A key after a change that no node can miss any more.
fn enforced(mut key: Value, revision: Revision, begun: Instant) -> Answer {
    key["revision"] = revision.into();
    key["effective"] = effective(begun);
    Answer::data(key)
}

/// What `effective` says: how many nodes had to confirm, and how long that took.
fn effective(begun: Instant) -> Value {
    json!({"nodes": 1, "waitedMs": begun.elapsed().as_millis() as u64})
}
