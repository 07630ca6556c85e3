//! Publishable keys, each pinned to one resource, and the visitor sessions that they open.

use crate::audit::{AuditAction, AuditContext};
use crate::db::{ReadTx, Row, Store, Value, id};
use crate::idempotency::{Claim, Once, Seal};
use crate::keys::NewSecret;
use crate::walk::{Found, Search, Walk, Window};
use crate::{Entity, Revision, StoreError, args, list, tag, unchanged, walk_sql};
use flowyte_core::id::{Id, OrganizationId, PublishableKeyId, ResourceId, VisitorId};
use flowyte_core::time::{DAY, MINUTE};
use flowyte_core::{Environment, Timestamp};
use serde_json::json;

/// How long a visitor session lives, used or not.
pub const VISITOR_LIFE: i64 = DAY;
/// How long a visitor session lives without use.
pub const VISITOR_IDLE: i64 = 30 * MINUTE;

/// The customer's secret for visitor identities, sealed.
#[derive(Clone)]
pub struct IdentitySecret {
    /// What only the server can open.
    pub sealed: Vec<u8>,
    /// The id of the pepper that it was made with.
    pub pepper: [u8; 8],
}

/// Which keys are listed. All of it must fit; what is absent always does.
#[derive(Clone, Debug, Default)]
pub struct PublishableKeyFilter {
    /// Part of the name, or the whole id.
    pub search: Search,
    /// `true`: only keys that were revoked; `false`: only those that were not; `None`: all.
    pub revoked: Option<bool>,
    /// Only those of this environment.
    pub environment: Option<Environment>,
    /// Only those that this user or secret key minted, by id.
    pub created_by: Option<String>,
}

/// A publishable key that is about to be minted.
#[derive(Clone)]
pub struct NewPublishableKey {
    /// The id that the key gets (`pubkey_…`); rotation does not change it.
    pub id: PublishableKeyId,
    /// What its organization calls it.
    pub name: String,
    /// The environment that its visitors are in.
    pub environment: Environment,
    /// The key itself, which is no secret: it stands in web pages.
    pub key_public: String,
    /// Origins it may be used from, canonical.
    pub allowed_origins: Vec<String>,
    /// Requests a minute of its own, besides its organization's; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// Whether visitors must be identified, and with what secret.
    pub identity: Option<IdentitySecret>,
    /// What it is found by.
    pub secret: NewSecret,
}

/// A publishable key as it is stored.
#[derive(Clone)]
pub struct PublishableKeyRow {
    /// The id of the key (`pubkey_…`), which rotation does not change.
    pub id: PublishableKeyId,
    /// The resource it is pinned to.
    pub resource: ResourceId,
    /// What its organization calls it.
    pub name: String,
    /// The environment that its visitors are in.
    pub environment: Environment,
    /// The key itself; the newest after a rotation.
    pub key_public: String,
    /// Origins it may be used from.
    pub allowed_origins: Vec<String>,
    /// Requests a minute of its own, besides its organization's; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// Whether visitors must be identified.
    pub require_identity: bool,
    /// The secret that signs identity tokens.
    pub identity_secret: Option<Vec<u8>>,
    /// When the key was minted; rotation does not change it.
    pub created_at: Timestamp,
    /// Who minted it, a user or a secret key: the id, and the name at that time. `None`: it is from before this was kept.
    pub created_by: Option<(String, String)>,
    /// When it was revoked, which can't be undone; `None`: it was not.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used; none where it never was.
    pub last_used_at: Option<Timestamp>,
}

/// What to change of a key; absent stays.
#[derive(Clone, Default)]
pub struct PublishableKeyChange {
    /// The name from now on; `None` leaves it.
    pub name: Option<String>,
    /// The origins from now on; `None` leaves them.
    pub allowed_origins: Option<Vec<String>>,
    /// New limit; `Some(None)` removes it.
    pub rate_limit_rpm: Option<Option<u32>>,
    /// `Some(None)`: visitors need no identity any more. `Some(Some(_))`: they do, under this secret.
    pub identity: Option<Option<IdentitySecret>>,
    /// Only if the key still has this tag.
    pub expected: Option<String>,
}

impl PublishableKeyRow {
    /// Which state the key is in; use of it changes nothing.
    pub fn tag(&self) -> String {
        tag(&json!([
            self.id.to_string(),
            self.name,
            self.key_public,
            self.allowed_origins,
            self.rate_limit_rpm,
            self.require_identity,
            self.revoked_at.map(Timestamp::as_micros),
        ]))
    }
}

/// How much later the database forgets it: its last use is written a moment after it, or later where the database was away.
const VISITOR_GRACE: i64 = 5 * MINUTE;

/// A visitor session to open.
#[derive(Clone)]
pub struct NewVisitor {
    /// `visit_…`, made when it is opened.
    pub id: VisitorId,
    /// What the guest opens with it: the id of a conversation, say.
    pub context: [u8; 16],
    /// What its token is found by.
    pub secret: NewSecret,
    /// Origin of the page that opened it, one that the key lists.
    pub origin: String,
    /// The visitor proved who they are.
    pub verified: bool,
    /// What the guest writes down in the same transaction: statements with their arguments.
    pub beside: Vec<(&'static str, Vec<Value>)>,
}

fn read(row: &Row) -> Result<PublishableKeyRow, StoreError> {
    Ok(PublishableKeyRow {
        id: row.id("id")?,
        resource: row.id("resource_id")?,
        name: row.get("name")?,
        environment: row.environment()?,
        key_public: row.get("key_public")?,
        allowed_origins: row.list("allowed_origins")?,
        rate_limit_rpm: row.get::<Option<i64>>("rate_limit_rpm")?.map(|rpm| rpm as u32),
        require_identity: row.flag("require_identity")?,
        identity_secret: row.get("identity_secret")?,
        created_at: row.time("created_at")?,
        created_by: row.get::<Option<String>>("created_by_id")?.zip(row.get("created_by_name")?),
        revoked_at: row.maybe_time("revoked_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
    })
}

fn deed<'a>(action: &'a str, key: &'a PublishableKeyRow, details: serde_json::Value) -> AuditAction<'a> {
    AuditAction { action, kind: "publishable_key", id: key.id.to_string(), name: &key.name, details }
}

impl ReadTx {
    /// The resource that a key is to be pinned to is there, in this organization. Where no guest owns such things, whoever mints the key
    /// knows what the id stands for.
    pub async fn resource_is_there(
        &mut self,
        organization: OrganizationId,
        resource: ResourceId,
    ) -> Result<(), StoreError> {
        for query in self.guests().iter().filter_map(|it| it.resource) {
            self.one(query, vec![id(organization), id(resource)]).await?;
        }
        Ok(())
    }

    async fn publishable_key(
        &mut self,
        organization: OrganizationId,
        resource: ResourceId,
        key: PublishableKeyId,
    ) -> Result<PublishableKeyRow, StoreError> {
        self.resource_is_there(organization, resource).await?;
        let row = self
            .one(
                "SELECT * FROM publishable_keys WHERE organization_id = $1 AND resource_id = $2 AND id = $3",
                vec![id(organization), id(resource), id(key)],
            )
            .await?;
        read(&row)
    }

    async fn active_publishable_key(
        &mut self,
        organization: OrganizationId,
        resource: ResourceId,
        key: PublishableKeyId,
    ) -> Result<PublishableKeyRow, StoreError> {
        let row = self.publishable_key(organization, resource, key).await?;
        match row.revoked_at {
            Some(_) => {
                Err(StoreError::Conflict("The key is revoked, which can't be undone; mint a new one."))
            }
            None => Ok(row),
        }
    }
}

impl dyn Store + '_ {
    /// Mints a key that is pinned to a resource.
    pub async fn mint_publishable_key(
        &self,
        organization: OrganizationId,
        resource: ResourceId,
        new: &NewPublishableKey,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: Seal<'_, PublishableKeyRow>,
    ) -> Result<Once<PublishableKeyRow>, StoreError> {
        let mut tx = self.security().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        tx.resource_is_there(organization, resource).await?;
        let identity = new.identity.as_ref();
        tx.queue(
            "INSERT INTO publishable_keys (id, organization_id, resource_id, name, environment, key_public, allowed_origins, \
             rate_limit_rpm, require_identity, identity_secret, identity_pepper_id, created_at, created_by_id, created_by_name) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            vec![
                id(new.id),
                id(organization),
                id(resource),
                new.name.clone().into(),
                new.environment.as_str().into(),
                new.key_public.clone().into(),
                list(&new.allowed_origins),
                new.rate_limit_rpm.into(),
                identity.is_some().into(),
                identity.map(|it| it.sealed.clone()).into(),
                identity.map(|it| it.pepper).into(),
                by.now.into(),
                by.actor.id.clone().into(),
                by.actor.name.clone().into(),
            ],
        )
        .await?;
        tx.insert_secret(organization, new.id, 1, &new.secret, by.now).await?;
        let row = tx.publishable_key(organization, resource, new.id).await?;
        let details = json!({"agent": resource.to_string(), "allowedOrigins": row.allowed_origins});
        tx.audit(organization, by, deed("publishable_key.minted", &row, details)).await?;
        tx.change(organization, Entity::PublishableKey, new.id, by.now).await?;
        tx.remember(organization, claim, || seal(&row)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(row))
    }

    /// Keys of a resource that fit a filter, newest first.
    pub async fn publishable_keys(
        &self,
        organization: OrganizationId,
        resource: ResourceId,
        filter: &PublishableKeyFilter,
        window: Window,
    ) -> Result<Found<PublishableKeyRow>, StoreError> {
        let mut tx = self.read().await?;
        tx.resource_is_there(organization, resource).await?;
        let sql = walk_sql!(
            window.order,
            from "publishable_keys WHERE organization_id = $1 AND resource_id = $5",
            select "SELECT * FROM publishable_keys WHERE organization_id = $1 AND resource_id = $5",
            id "id",
            filter "AND (CAST($6 AS BIGINT) IS NULL OR CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END = $6) \
                 AND (CAST($7 AS TEXT) IS NULL OR environment = $7) \
                 AND (CAST($8 AS TEXT) IS NULL OR created_by_id = $8) \
                 AND (CAST($9 AS TEXT) IS NULL OR id = $10 OR LOWER(name) LIKE $9 ESCAPE '\\' OR name LIKE $11 ESCAPE '\\')"
        );
        let PublishableKeyFilter { search, revoked, environment, created_by } = filter;
        let searched = search.is_some() || revoked.is_some() || environment.is_some() || created_by.is_some();
        let mut args =
            args![revoked.map(i64::from), environment.map(Environment::as_str), created_by.clone()];
        args.append(&mut search.args::<PublishableKeyId>());
        tx.walk(
            organization,
            &window,
            Walk { sql, list: args![*resource.as_bytes()], filter: args, searched },
            read,
        )
        .await
    }

    /// One key of a resource; the newest active one where none is named.
    pub async fn find_publishable_key(
        &self,
        organization: OrganizationId,
        resource: ResourceId,
        key: Option<PublishableKeyId>,
    ) -> Result<PublishableKeyRow, StoreError> {
        let mut tx = self.read().await?;
        if let Some(key) = key {
            return tx.publishable_key(organization, resource, key).await;
        }
        tx.resource_is_there(organization, resource).await?;
        let row = tx
            .one(
                "SELECT * FROM publishable_keys WHERE organization_id = $1 AND resource_id = $2 AND revoked_at IS NULL \
                 ORDER BY id DESC LIMIT 1",
                vec![id(organization), id(resource)],
            )
            .await?;
        read(&row)
    }

    /// Changes a key. A revoked one stays as it is.
    pub async fn change_publishable_key(
        &self,
        organization: OrganizationId,
        resource: ResourceId,
        key: PublishableKeyId,
        change: &PublishableKeyChange,
        by: &AuditContext,
    ) -> Result<(PublishableKeyRow, Revision), StoreError> {
        let mut tx = self.security().await?;
        let old = tx.active_publishable_key(organization, resource, key).await?;
        unchanged(change.expected.as_deref(), &old.tag())?;
        tx.queue(
            "UPDATE publishable_keys SET name = $3, allowed_origins = $4, rate_limit_rpm = $5 \
             WHERE organization_id = $1 AND id = $2",
            vec![
                id(organization),
                id(key),
                change.name.clone().unwrap_or_else(|| old.name.clone()).into(),
                list(change.allowed_origins.as_ref().unwrap_or(&old.allowed_origins)),
                change.rate_limit_rpm.unwrap_or(old.rate_limit_rpm).into(),
            ],
        )
        .await?;
        if let Some(identity) = &change.identity {
            tx.queue(
                "UPDATE publishable_keys SET require_identity = $3, identity_secret = $4, identity_pepper_id = $5 \
                 WHERE organization_id = $1 AND id = $2",
                vec![
                    id(organization),
                    id(key),
                    identity.is_some().into(),
                    identity.as_ref().map(|it| it.sealed.clone()).into(),
                    identity.as_ref().map(|it| it.pepper).into(),
                ],
            )
            .await?;
        }
        let row = tx.publishable_key(organization, resource, key).await?;
        let details = json!({
            "allowedOrigins": row.allowed_origins,
            "requireIdentityVerification": row.require_identity,
            "renamedFrom": (old.name != row.name).then_some(&old.name),
        });
        tx.audit(organization, by, deed("publishable_key.changed", &row, details)).await?;
        let revision = tx.change(organization, Entity::PublishableKey, key, by.now).await?;
        tx.commit().await?;
        Ok((row, revision))
    }

    /// A new key text with the same resource and origins; the one before lives until `old_until`.
    #[allow(clippy::too_many_arguments)]
    pub async fn rotate_publishable_key(
        &self,
        organization: OrganizationId,
        resource: ResourceId,
        key: PublishableKeyId,
        secret: &NewSecret,
        key_public: &str,
        old_until: Timestamp,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: Seal<'_, PublishableKeyRow>,
    ) -> Result<Once<PublishableKeyRow>, StoreError> {
        let mut tx = self.security().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        tx.active_publishable_key(organization, resource, key).await?;
        tx.add_secret(organization, key, secret, old_until, by.now).await?;
        tx.queue(
            "UPDATE publishable_keys SET key_public = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(key), key_public.into()],
        )
        .await?;
        let row = tx.publishable_key(organization, resource, key).await?;
        let details = json!({"oldKeyEndsAt": old_until.to_string()});
        tx.audit(organization, by, deed("publishable_key.rotated", &row, details)).await?;
        tx.change(organization, Entity::PublishableKey, key, by.now).await?;
        tx.remember(organization, claim, || seal(&row)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(row))
    }

    /// Revokes a key for good, and with it every visitor session that it opened. Revoking again answers the same key and the
    /// newest revision.
    pub async fn revoke_publishable_key(
        &self,
        organization: OrganizationId,
        resource: ResourceId,
        key: PublishableKeyId,
        by: &AuditContext,
    ) -> Result<(PublishableKeyRow, Revision), StoreError> {
        let mut tx = self.security().await?;
        let old = tx.publishable_key(organization, resource, key).await?;
        if old.revoked_at.is_some() {
            let revision = tx.one("SELECT revision FROM head WHERE id = 1", vec![]).await?.get("revision")?;
            return Ok((old, revision));
        }
        tx.queue(
            "UPDATE publishable_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(key), by.now.into()],
        )
        .await?;
        let row = tx.publishable_key(organization, resource, key).await?;
        tx.audit(organization, by, deed("publishable_key.revoked", &row, json!({}))).await?;
        let revision = tx.change(organization, Entity::PublishableKey, key, by.now).await?;
        tx.commit().await?;
        Ok((row, revision))
    }

    /// The key behind a credential, whatever it is pinned to.
    pub async fn publishable_key_of(
        &self,
        organization: OrganizationId,
        key: PublishableKeyId,
    ) -> Result<PublishableKeyRow, StoreError> {
        let mut tx = self.read().await?;
        let row = tx
            .one(
                "SELECT * FROM publishable_keys WHERE organization_id = $1 AND id = $2",
                vec![id(organization), id(key)],
            )
            .await?;
        read(&row)
    }

    /// Opens a visitor session. Whoever proved nothing is refused where the key asks for an identity by now.
    pub async fn open_visitor(
        &self,
        organization: OrganizationId,
        key: PublishableKeyId,
        new: &NewVisitor,
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let mut tx = self.security().await?;
        let row = tx
            .one(
                "SELECT resource_id, require_identity FROM publishable_keys \
                 WHERE organization_id = $1 AND id = $2 AND revoked_at IS NULL",
                vec![id(organization), id(key)],
            )
            .await?;
        tx.resource_is_there(organization, row.id("resource_id")?).await?;
        if row.flag("require_identity")? && !new.verified {
            return Err(StoreError::Conflict("The key asks for a signed visitor identity from now on."));
        }
        for (statement, arguments) in &new.beside {
            tx.queue(statement, arguments.clone()).await?;
        }
        tx.queue(
            "INSERT INTO visitors (id, organization_id, key_id, context_id, digest, pepper_id, origin, created_at, \
             last_seen_at, expires_at, verified) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10)",
            vec![
                id(new.id),
                id(organization),
                id(key),
                new.context.into(),
                new.secret.digest.into(),
                new.secret.pepper.into(),
                new.origin.clone().into(),
                now.into(),
                now.plus(VISITOR_LIFE).into(),
                new.verified.into(),
            ],
        )
        .await?;
        let revision = tx.change(organization, Entity::Visitor, new.id, now).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// Forgets some visitors' sessions that were not used for so long that they are over; how many. What was said stays.
    pub async fn sweep_visitors(&self, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        let mut tx = self.batch().await?;
        let gone = tx
            .exec(
                "DELETE FROM visitors WHERE id IN (SELECT id FROM visitors WHERE last_seen_at <= $1 LIMIT $2)",
                args![now.plus(-VISITOR_IDLE - VISITOR_GRACE), most],
            )
            .await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// What the guest opened with a visitor session.
    pub async fn context_of(
        &self,
        organization: OrganizationId,
        visitor: VisitorId,
    ) -> Result<[u8; 16], StoreError> {
        let mut tx = self.read().await?;
        tx.one(
            "SELECT context_id FROM visitors WHERE organization_id = $1 AND id = $2",
            args![*organization.as_bytes(), *visitor.as_bytes()],
        )
        .await?
        .bytes("context_id")
    }
}
