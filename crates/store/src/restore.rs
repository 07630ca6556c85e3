//! Putting a backup back without bringing back what was taken away since: revoked keys, wider scopes, removed members, old passwords.
//!
//! The database that is replaced says what stands. Where it is not there, or does not continue the backup's history, nobody can say what
//! was taken away since, and the server does not serve until the operator has seen what the backup grants.

use crate::audit::{AuditAction, AuditContext};
use crate::db::{ReadTx, Row, SecurityTx, Store, Value, id};
use crate::{Entity, Link, Revision, StoreError, args, list};
use flowyte_core::address::AddressBlock;
use flowyte_core::id::{
    Id, InviteId, MemberId, OrganizationId, PublishableKeyId, SecretKeyId, SessionId, UserId,
};
use flowyte_core::{Digest, Role, ScopeSet, Timestamp};
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// The setting that holds a restored database back until its operator has looked through it.
const PENDING: &str = "restore_pending";

/// What a database grants: compared with an older one's when that takes its place.
#[derive(Default)]
pub struct Standing {
    revision: Revision,
    seen_at: Option<Timestamp>,
    organizations: HashMap<OrganizationId, Policy>,
    members: HashMap<(OrganizationId, UserId), Membership>,
    users: HashMap<UserId, User>,
    open_invites: HashSet<InviteId>,
    secret_keys: HashMap<(OrganizationId, SecretKeyId), SecretKey>,
    publishable_keys: HashMap<(OrganizationId, PublishableKeyId), PublishableKey>,
    secrets: HashMap<Digest, Timestamp>,
}

struct Policy {
    max_ttl_days: Option<i64>,
    require_expiry: bool,
    suspended: bool,
}

struct Membership {
    id: MemberId,
    role: Role,
    joined_at: Timestamp,
}

struct User {
    email: String,
    name: String,
    password_hash: String,
    disabled: bool,
    created_at: Timestamp,
}

struct SecretKey {
    name: String,
    scopes: Vec<String>,
    expires_at: Timestamp,
    revoked: bool,
    rpm: Option<i64>,
    addresses: Vec<String>,
}

#[derive(Clone)]
struct PublishableKey {
    name: String,
    origins: Vec<String>,
    revoked: bool,
    rpm: Option<i64>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl dyn Store + '_ {
    /// Everything that is granted here.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        self.read().await?.standing().await
    }

    /// Whether this database goes on from where `earlier` ended: each of its audit chains is the beginning of one here.
    pub async fn continues(&self, earlier: &dyn Store) -> Result<bool, StoreError> {
        let organizations = earlier.organizations().await?;
        for organization in &organizations {
            let Some(end) = earlier.audit_end(*organization).await? else { return Ok(false) };
            if self.audit_differs(*organization, end).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(!organizations.is_empty())
    }

    /// Takes away here what `before`, which this database replaces, does not grant; ends every session; answers what it did, in
    /// words. `scopes`: what a role holds.
    pub async fn narrow(
        &self,
        before: &Standing,
        scopes: &(dyn Fn(Role) -> ScopeSet + Sync),
        by: &AuditContext,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.security().await?;
        // No revision is given out twice, and time does not go back, whatever the backup had reached.
        tx.queue("UPDATE head SET revision = $1 WHERE revision < $1", args![before.revision]).await?;
        if let Some(seen) = before.seen_at {
            tx.queue("UPDATE head SET seen_at = $1 WHERE seen_at < $1", args![seen]).await?;
        }
        // Used links are gone from what was put aside, and can't be told from those that were not made yet.
        tx.queue("DELETE FROM recoveries", vec![]).await?;
        let here = tx.standing().await?;
        let mut narrowing = Narrowing { tx, by, done: Vec::new() };
        narrowing.organizations(&here, before).await?;
        narrowing.people(&here, before, scopes).await?;
        narrowing.secret_keys(&here, before).await?;
        narrowing.publishable_keys(&here, before).await?;
        narrowing.secrets(&here, before).await?;
        narrowing.sessions().await?;
        let Narrowing { tx, mut done, .. } = narrowing;
        done.sort_unstable();
        tx.commit().await?;
        Ok(done)
    }

    /// Adds to a chain that its events from `from` to `head` are gone, since the database went back. `false`: there is no such organization.
    pub async fn tell_rewound(
        &self,
        organization: OrganizationId,
        from: i64,
        head: Link,
        why: &str,
        by: &AuditContext,
    ) -> Result<bool, StoreError> {
        let mut tx = self.product().await?;
        let there = "SELECT 1 AS there FROM organizations WHERE id = $1";
        if tx.opt(there, vec![id(organization)]).await?.is_none() {
            return Ok(false);
        }
        let details = json!({"why": why, "from": from, "to": head.sequence, "hash": hex::encode(head.hash)});
        let (action, kind, id, name) = ("audit.rewound", "organization", organization.to_string(), "");
        tx.audit(organization, by, AuditAction { action, kind, id, name, details }).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Keeps the server from serving until [`Self::acknowledge_restore`]. `why`: for the operator.
    pub async fn hold_restore(&self, why: &str) -> Result<(), StoreError> {
        let mut tx = self.batch().await?;
        tx.queue("DELETE FROM settings WHERE name = $1", args![PENDING]).await?;
        tx.queue("INSERT INTO settings (name, value) VALUES ($1, $2)", args![PENDING, why]).await?;
        tx.commit().await
    }

    /// Why this database is held back, if it is.
    pub async fn restore_pending(&self) -> Result<Option<String>, StoreError> {
        let mut tx = self.read().await?;
        let row = tx.opt("SELECT value FROM settings WHERE name = $1", args![PENDING]).await?;
        row.map(|row| row.get("value")).transpose()
    }

    /// The operator has seen what it grants.
    pub async fn acknowledge_restore(&self) -> Result<(), StoreError> {
        let mut tx = self.batch().await?;
        tx.queue("DELETE FROM settings WHERE name = $1", args![PENDING]).await?;
        tx.commit().await
    }

    /// What works here at `now`, a line each: to be looked through by whoever restored it.
    pub async fn grants(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let standing = self.standing().await?;
        let mut lines = Vec::new();
        for ((organization, user), member) in &standing.members {
            let email = standing.users.get(user).map_or("", |it| it.email.as_str());
            lines.push(format!("{organization} member {} {email}: {}", member.id, member.role.as_str()));
        }
        for ((organization, key), it) in &standing.secret_keys {
            if it.revoked || it.expires_at <= now {
                continue;
            }
            let expiry =
                it.expires_at.unless_never().map_or("never expires".into(), |at| format!("until {at}"));
            let from = if it.addresses.is_empty() { "anywhere".into() } else { it.addresses.join(" ") };
            lines.push(format!(
                "{organization} key {key} {:?}: {}; {expiry}; from {from}",
                it.name,
                it.scopes.join(" ")
            ));
        }
        for ((organization, key), it) in &standing.publishable_keys {
            if !it.revoked {
                let identity = if it.identity.is_some() { "; visitors are identified" } else { "" };
                lines.push(format!(
                    "{organization} publishable key {key} {:?}: {}{identity}",
                    it.name,
                    it.origins.join(" ")
                ));
            }
        }
        lines.sort_unstable();
        Ok(lines)
    }
}

impl ReadTx {
    async fn standing(&mut self) -> Result<Standing, StoreError> {
        let head = self.one("SELECT revision, seen_at FROM head WHERE id = 1", vec![]).await?;
        let mut standing = Standing {
            revision: head.get("revision")?,
            seen_at: Some(head.time("seen_at")?),
            ..Standing::default()
        };
        for row in self.all("SELECT * FROM organizations", vec![]).await? {
            let policy = Policy {
                max_ttl_days: row.get("max_ttl_days")?,
                require_expiry: row.flag("require_expiry")?,
                suspended: row.flag("suspended")?,
            };
            standing.organizations.insert(row.id("id")?, policy);
        }
        for row in self.all("SELECT * FROM users", vec![]).await? {
            let user = User {
                email: row.get("email")?,
                name: row.get("name")?,
                password_hash: row.get("password_hash")?,
                disabled: row.flag("disabled")?,
                created_at: row.time("created_at")?,
            };
            standing.users.insert(row.id("id")?, user);
        }
        for row in self.all("SELECT * FROM members", vec![]).await? {
            let name: String = row.get("role")?;
            let role = Role::parse(&name).ok_or_else(|| StoreError::Inconsistent(format!("role {name}")))?;
            let member = Membership { id: row.id("id")?, role, joined_at: row.time("joined_at")? };
            standing.members.insert((row.id("organization_id")?, row.id("user_id")?), member);
        }
        for row in self.all("SELECT id FROM invites WHERE closed_at IS NULL", vec![]).await? {
            standing.open_invites.insert(row.id("id")?);
        }
        for row in self.all("SELECT * FROM secret_keys", vec![]).await? {
            standing.secret_keys.insert((row.id("organization_id")?, row.id("id")?), secret_key(&row)?);
        }
        // A key whose resource was deleted works no more.
        let mut orphans = HashSet::new();
        for query in self.guests().iter().filter_map(|it| it.orphaned_keys) {
            for row in self.all(query, vec![]).await? {
                orphans.insert(row.id::<PublishableKeyId>("key_id")?);
            }
        }
        for row in self.all("SELECT * FROM publishable_keys", vec![]).await? {
            let key = row.id("id")?;
            let mut state = publishable_key(&row)?;
            state.revoked |= orphans.contains(&key);
            standing.publishable_keys.insert((row.id("organization_id")?, key), state);
        }
        for row in self.all("SELECT digest, expires_at FROM secrets", vec![]).await? {
            standing.secrets.insert(Digest::from_bytes(row.bytes("digest")?), row.time("expires_at")?);
        }
        Ok(standing)
    }
}

fn secret_key(row: &Row) -> Result<SecretKey, StoreError> {
    Ok(SecretKey {
        name: row.get("name")?,
        scopes: row.list("scopes")?,
        expires_at: row.time("expires_at")?,
        revoked: row.maybe_time("revoked_at")?.is_some(),
        rpm: row.get("rate_limit_rpm")?,
        addresses: row.list("allowed_addresses")?,
    })
}

fn publishable_key(row: &Row) -> Result<PublishableKey, StoreError> {
    let identity: (Option<Vec<u8>>, Option<Vec<u8>>) =
        (row.get("identity_secret")?, row.get("identity_pepper_id")?);
    Ok(PublishableKey {
        name: row.get("name")?,
        origins: row.list("allowed_origins")?,
        revoked: row.maybe_time("revoked_at")?.is_some(),
        rpm: row.get("rate_limit_rpm")?,
        identity: identity.0.zip(identity.1).filter(|_| row.flag("require_identity").unwrap_or(true)),
    })
}

/// One pass over what a backup grants.
struct Narrowing<'n> {
    tx: SecurityTx,
    by: &'n AuditContext,
    done: Vec<String>,
}

impl Narrowing<'_> {
    async fn organizations(&mut self, here: &Standing, before: &Standing) -> Result<(), StoreError> {
        for (organization, ours) in &here.organizations {
            let Some(theirs) = before.organizations.get(organization) else { continue };
            let days = least(ours.max_ttl_days, theirs.max_ttl_days);
            let (expiry, suspended) =
                (ours.require_expiry || theirs.require_expiry, ours.suspended || theirs.suspended);
            if (days, expiry, suspended) == (ours.max_ttl_days, ours.require_expiry, ours.suspended) {
                continue;
            }
            self.tx
                .queue(
                    "UPDATE organizations SET max_ttl_days = $2, require_expiry = $3, suspended = $4 WHERE id = $1",
                    vec![id(*organization), Value::Int(days), expiry.into(), suspended.into()],
                )
                .await?;
            let what = "key policy and suspension as they were before the restore".to_owned();
            let target = Target {
                action: "organization.changed",
                kind: "organization",
                id: organization.to_string(),
                name: "",
            };
            self.tell(*organization, Entity::Organization, *organization, target, what).await?;
        }
        Ok(())
    }

    async fn people(
        &mut self,
        here: &Standing,
        before: &Standing,
        scopes: &(dyn Fn(Role) -> ScopeSet + Sync),
    ) -> Result<(), StoreError> {
        self.passwords(here, before).await?;
        for ((organization, user), ours) in &here.members {
            let email = here.users.get(user).map_or("", |it| it.email.as_str());
            let target = |action| Target { action, kind: "member", id: ours.id.to_string(), name: email };
            match before.members.get(&(*organization, *user)) {
                None if before.organizations.contains_key(organization) => {
                    self.tx
                        .queue(
                            "DELETE FROM members WHERE organization_id = $1 AND user_id = $2",
                            vec![id(*organization), id(*user)],
                        )
                        .await?;
                    let what = format!("{email} is no member any more");
                    self.tell(*organization, Entity::Member, *user, target("member.removed"), what).await?;
                }
                Some(theirs) if !scopes(theirs.role).covers(scopes(ours.role)) => {
                    self.tx
                        .queue(
                            "UPDATE members SET role = $3 WHERE organization_id = $1 AND user_id = $2",
                            vec![id(*organization), id(*user), theirs.role.as_str().into()],
                        )
                        .await?;
                    let what =
                        format!("{email} is {} again, not {}", theirs.role.as_str(), ours.role.as_str());
                    self.tell(*organization, Entity::Member, *user, target("member.role_changed"), what)
                        .await?;
                }
                _ => {}
            }
        }
        self.owners(here, before).await?;
        for invite in here.open_invites.difference(&before.open_invites) {
            self.tx
                .queue(
                    "UPDATE invites SET closed_at = $2 WHERE id = $1",
                    vec![id(*invite), self.by.now.into()],
                )
                .await?;
            self.done.push(format!("{invite}: used or withdrawn since, and closed"));
        }
        Ok(())
    }

    /// Passwords that were changed since, and accounts that were locked.
    async fn passwords(&mut self, here: &Standing, before: &Standing) -> Result<(), StoreError> {
        for (user, ours) in &here.users {
            let Some(theirs) = before.users.get(user) else { continue };
            if ours.password_hash != theirs.password_hash || ours.disabled != theirs.disabled {
                self.tx
                    .queue(
                        "UPDATE users SET password_hash = $2, disabled = $3 WHERE id = $1",
                        vec![
                            id(*user),
                            theirs.password_hash.clone().into(),
                            (ours.disabled || theirs.disabled).into(),
                        ],
                    )
                    .await?;
                self.done.push(format!(
                    "{user} {}: password and lock as they were before the restore",
                    ours.email
                ));
            }
        }
        Ok(())
    }

    /// An organization whose owners of then are no more gets those who were its owners before the restore.
    async fn owners(&mut self, here: &Standing, before: &Standing) -> Result<(), StoreError> {
        for organization in here.organizations.keys() {
            let sql = "SELECT 1 AS there FROM members WHERE organization_id = $1 AND role = 'owner'";
            if self.tx.opt(sql, vec![id(*organization)]).await?.is_some() {
                continue;
            }
            let owners =
                before.members.iter().filter(|((of, _), it)| of == organization && it.role == Role::Owner);
            for ((_, user), member) in owners {
                let Some(it) = before.users.get(user) else { continue };
                self.tx
                    .queue(
                        "INSERT INTO users (id, handle, email, name, password_hash, disabled, created_at) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                        vec![
                            id(*user),
                            user.to_string().into(),
                            it.email.clone().into(),
                            it.name.clone().into(),
                            it.password_hash.clone().into(),
                            it.disabled.into(),
                            it.created_at.into(),
                        ],
                    )
                    .await?;
                self.tx
                    .queue(
                        "INSERT INTO members (id, organization_id, user_id, role, joined_at) VALUES ($1, $2, $3, 'owner', $4) \
                         ON CONFLICT (organization_id, user_id) DO UPDATE SET role = 'owner'",
                        vec![id(member.id), id(*organization), id(*user), member.joined_at.into()],
                    )
                    .await?;
                let target = Target {
                    action: "member.joined",
                    kind: "member",
                    id: member.id.to_string(),
                    name: &it.email,
                };
                let what = format!("{} is its owner, as before the restore", it.email);
                self.tell(*organization, Entity::Member, *user, target, what).await?;
            }
        }
        Ok(())
    }

    async fn secret_keys(&mut self, here: &Standing, before: &Standing) -> Result<(), StoreError> {
        for ((organization, key), ours) in &here.secret_keys {
            let Some(theirs) = before.secret_keys.get(&(*organization, *key)).filter(|_| !ours.revoked)
            else {
                continue;
            };
            let target = |action| Target { action, kind: "api_key", id: key.to_string(), name: &ours.name };
            let scopes: Vec<String> = common(&ours.scopes, &theirs.scopes);
            let addresses = meet(&ours.addresses, &theirs.addresses);
            let (Some(addresses), false, false) = (addresses, theirs.revoked, scopes.is_empty()) else {
                self.tx
                    .queue(
                        "UPDATE secret_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2",
                        vec![id(*organization), id(*key), self.by.now.into()],
                    )
                    .await?;
                let what = "revoked".to_owned();
                self.tell(*organization, Entity::SecretKey, *key, target("api_key.revoked"), what).await?;
                continue;
            };
            let (expires_at, rpm) = (ours.expires_at.min(theirs.expires_at), least(ours.rpm, theirs.rpm));
            let mut what = Vec::new();
            if scopes != ours.scopes {
                what.push(format!("scopes {}", scopes.join(" ")));
            }
            if addresses != ours.addresses {
                what.push(format!("addresses {}", addresses.join(" ")));
            }
            if expires_at != ours.expires_at {
                what.push(format!("expires {expires_at}"));
            }
            if rpm != ours.rpm {
                what.push(format!("at most {} requests a minute", rpm.unwrap_or_default()));
            }
            if what.is_empty() {
                continue;
            }
            self.tx
                .queue(
                    "UPDATE secret_keys SET scopes = $3, allowed_addresses = $4, expires_at = $5, rate_limit_rpm = $6 \
                     WHERE organization_id = $1 AND id = $2",
                    vec![
                        id(*organization),
                        id(*key),
                        list(&scopes),
                        list(&addresses),
                        expires_at.into(),
                        Value::Int(rpm),
                    ],
                )
                .await?;
            self.tell(*organization, Entity::SecretKey, *key, target("api_key.changed"), what.join("; "))
                .await?;
        }
        Ok(())
    }

    async fn publishable_keys(&mut self, here: &Standing, before: &Standing) -> Result<(), StoreError> {
        for ((organization, key), ours) in &here.publishable_keys {
            let Some(theirs) = before.publishable_keys.get(&(*organization, *key)).filter(|_| !ours.revoked)
            else {
                continue;
            };
            let target =
                |action| Target { action, kind: "publishable_key", id: key.to_string(), name: &ours.name };
            let origins = common(&ours.origins, &theirs.origins);
            if theirs.revoked || origins.is_empty() {
                self.tx
                    .queue(
                        "UPDATE publishable_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2",
                        vec![id(*organization), id(*key), self.by.now.into()],
                    )
                    .await?;
                let (what, action) = ("revoked".to_owned(), "publishable_key.revoked");
                self.tell(*organization, Entity::PublishableKey, *key, target(action), what).await?;
                continue;
            }
            let rpm = least(ours.rpm, theirs.rpm);
            // An identity secret that was replaced since is known to nobody who should not know it any more.
            let identity = theirs.identity.as_ref().or(ours.identity.as_ref());
            let mut what = Vec::new();
            if origins != ours.origins {
                what.push(format!("origins {}", origins.join(" ")));
            }
            if identity != ours.identity.as_ref() {
                what.push("visitors must be identified, as before the restore".to_owned());
            }
            if rpm != ours.rpm {
                what.push(format!("at most {} requests a minute", rpm.unwrap_or_default()));
            }
            if what.is_empty() {
                continue;
            }
            self.tx
                .queue(
                    "UPDATE publishable_keys SET allowed_origins = $3, rate_limit_rpm = $4, require_identity = $5, \
                     identity_secret = $6, identity_pepper_id = $7 WHERE organization_id = $1 AND id = $2",
                    vec![
                        id(*organization),
                        id(*key),
                        list(&origins),
                        Value::Int(rpm),
                        identity.is_some().into(),
                        Value::Bytes(identity.map(|it| it.0.clone())),
                        Value::Bytes(identity.map(|it| it.1.clone())),
                    ],
                )
                .await?;
            let (what, action) = (what.join("; "), "publishable_key.changed");
            self.tell(*organization, Entity::PublishableKey, *key, target(action), what).await?;
        }
        Ok(())
    }

    /// Secrets that a rotation ended, or whose grace was cut short.
    async fn secrets(&mut self, here: &Standing, before: &Standing) -> Result<(), StoreError> {
        for (digest, ours) in &here.secrets {
            let Some(theirs) = before.secrets.get(digest).filter(|theirs| *theirs < ours) else { continue };
            self.tx
                .queue("UPDATE secrets SET expires_at = $2 WHERE digest = $1", args![*digest, *theirs])
                .await?;
        }
        Ok(())
    }

    /// Whoever was signed in, or talked to an agent, begins anew; and no answer of then is given again.
    async fn sessions(&mut self) -> Result<(), StoreError> {
        let open =
            self.tx.all("SELECT id, organization_id FROM sessions WHERE ended_at IS NULL", vec![]).await?;
        for row in open {
            let session: SessionId = row.id("id")?;
            self.tx
                .queue(
                    "UPDATE sessions SET ended_at = $2 WHERE id = $1",
                    vec![id(session), self.by.now.into()],
                )
                .await?;
            self.tx.change(row.id("organization_id")?, Entity::Session, session, self.by.now).await?;
        }
        self.tx.queue("DELETE FROM visitors", vec![]).await?;
        self.tx.queue("DELETE FROM idempotency", vec![]).await?;
        Ok(())
    }

    async fn tell<I: Id>(
        &mut self,
        organization: OrganizationId,
        entity: Entity,
        of: I,
        target: Target<'_>,
        what: String,
    ) -> Result<(), StoreError> {
        self.done.push(format!("{} {}: {what}", target.id, target.name));
        let details = json!({"why": "a backup from before was restored", "what": what});
        let Target { action, kind, id, name } = target;
        self.tx.audit(organization, self.by, AuditAction { action, kind, id, name, details }).await?;
        self.tx.change(organization, entity, of, self.by.now).await.map(drop)
    }
}

/// What the audit trail says of a change.
struct Target<'t> {
    action: &'t str,
    kind: &'t str,
    id: String,
    name: &'t str,
}

/// The lower of two limits, of which none means no limit.
fn least(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

/// What both lists have, in the order of the first.
fn common(ours: &[String], theirs: &[String]) -> Vec<String> {
    ours.iter().filter(|it| theirs.contains(it)).cloned().collect()
}

/// The addresses that two lists both allow, of which an empty one allows all; `None`: no address at all. Of two blocks one holds the
/// other, or they have nothing in common.
fn meet(ours: &[String], theirs: &[String]) -> Option<Vec<String>> {
    if ours.is_empty() || theirs.is_empty() || ours == theirs {
        return Some(if theirs.is_empty() { ours } else { theirs }.to_vec());
    }
    let read =
        |texts: &[String]| texts.iter().map(|it| it.parse()).collect::<Result<Vec<AddressBlock>, _>>().ok();
    let (ours, theirs) = (read(ours)?, read(theirs)?);
    let mut both: Vec<String> = Vec::new();
    for (a, b) in ours.iter().flat_map(|a| theirs.iter().map(move |b| (a, b))) {
        let smaller = if b.holds(a) {
            a
        } else if a.holds(b) {
            b
        } else {
            continue;
        };
        if !both.contains(&smaller.to_string()) {
            both.push(smaller.to_string());
        }
    }
    Some(both).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_of_two_address_lists() {
        let texts = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (ours, theirs, both) in [
            ("", "10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.0/8", "", Some("10.0.0.0/8")),
            ("10.0.0.0/8 192.0.2.1/32", "10.1.0.0/16", Some("10.1.0.0/16")),
            ("10.1.0.0/16", "10.0.0.0/8 2001:db8::/32", Some("10.1.0.0/16")),
            ("10.0.0.0/8", "192.0.2.0/24", None),
            ("2001:db8::/32", "2001:db8:1::/48 10.0.0.0/8", Some("2001:db8:1::/48")),
        ] {
            assert_eq!(meet(&texts(ours), &texts(theirs)), both.map(texts), "{ours} and {theirs}");
        }
        assert_eq!(
            (least(None, Some(3)), least(Some(5), Some(3)), least(None, None)),
            (Some(3), Some(3), None)
        );
    }
}
