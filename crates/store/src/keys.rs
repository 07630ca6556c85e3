//! Secret keys: mint, change, rotate, revoke.

use crate::audit::{AuditAction, AuditContext, end_of_chain};
use crate::db::{ReadTx, Row, SecurityTx, Statement, Store, Value, id, next_revision};
use crate::idempotency::{Claim, Once, Seal};
use crate::walk::{Found, Position, Window, containing};
use crate::{Entity, Revision, StoreError, args, list, tag, unchanged};
use flowyte_core::id::{Id, OrganizationId, SecretKeyId, UserId};
use flowyte_core::time::DAY;
use flowyte_core::{Digest, Environment, Timestamp};
use serde_json::json;

/// A secret to store: its digest, never itself.
#[derive(Clone)]
pub struct NewSecret {
    /// What it is found by.
    pub digest: Digest,
    /// The id of the pepper that it was made with.
    pub pepper: [u8; 8],
    /// What tables show of it.
    pub last4: String,
}

/// A secret key that is about to be minted.
#[derive(Clone)]
pub struct NewSecretKey {
    /// The id that the key gets; rotation does not change it.
    pub id: SecretKeyId,
    /// What the organization calls the key.
    pub name: String,
    /// Whether the key acts on the real world or on sandboxes; can't be changed later.
    pub environment: Environment,
    /// The names of the scopes that it is granted.
    pub scopes: Vec<String>,
    /// The member who mints it.
    pub created_by: UserId,
    /// First instant at which it no longer works.
    pub expires_at: Timestamp,
    /// Requests a minute of its own, besides its organization's; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// CIDR blocks it may be used from; empty: anywhere.
    pub allowed_addresses: Vec<String>,
    /// The digest and last characters of its first secret.
    pub secret: NewSecret,
}

impl NewSecretKey {
    /// As it stands in the tables when it is minted.
    fn row(&self, created_by_name: String, now: Timestamp) -> SecretKeyRow {
        let secret = SecretRow {
            last4: self.secret.last4.clone(),
            created_at: now,
            expires_at: Timestamp::NEVER,
            last_call: None,
        };
        SecretKeyRow {
            id: self.id,
            name: self.name.clone(),
            environment: self.environment,
            scopes: self.scopes.clone(),
            created_at: now,
            created_by: (self.created_by, created_by_name),
            expires_at: self.expires_at,
            revoked_at: None,
            last_used: None,
            rate_limit_rpm: self.rate_limit_rpm,
            allowed_addresses: self.allowed_addresses.clone(),
            secrets: vec![secret],
        }
    }
}

/// A secret of a key, as tables show it.
#[derive(Clone, Debug)]
pub struct SecretRow {
    /// Last four characters of the credential.
    pub last4: String,
    /// When the secret was made: at the minting of its key, or at a rotation.
    pub created_at: Timestamp,
    /// When its grace ends; [`Timestamp::NEVER`] for the current one.
    pub expires_at: Timestamp,
    /// The last call with it: when, which operation, and what came of it.
    pub last_call: Option<(Timestamp, String, String)>,
}

/// A secret key as it is stored, without any secret.
#[derive(Clone, Debug)]
pub struct SecretKeyRow {
    /// The id of the key, which rotation does not change.
    pub id: SecretKeyId,
    /// What the organization calls the key.
    pub name: String,
    /// Whether the key acts on the real world or on sandboxes.
    pub environment: Environment,
    /// The names of the scopes that it holds.
    pub scopes: Vec<String>,
    /// When the key was minted; rotation does not change it.
    pub created_at: Timestamp,
    /// The user who minted it, and the name that they have now.
    pub created_by: (UserId, String),
    /// First instant at which it no longer works.
    pub expires_at: Timestamp,
    /// When it was revoked, which can't be undone; `None`: it was not.
    pub revoked_at: Option<Timestamp>,
    /// Last use: when, from where, which operation.
    pub last_used: Option<(Timestamp, String, String)>,
    /// Requests a minute of its own, besides its organization's; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// CIDR blocks it may be used from.
    pub allowed_addresses: Vec<String>,
    /// Its secrets that still work, newest first.
    pub secrets: Vec<SecretRow>,
}

/// What to change of a key; absent stays.
#[derive(Clone, Debug, Default)]
pub struct SecretKeyChange {
    /// The name from now on; `None` leaves it.
    pub name: Option<String>,
    /// The names of all scopes from now on; `None` leaves them.
    pub scopes: Option<Vec<String>>,
    /// The expiry from now on, [`Timestamp::NEVER`] for none; `None` leaves it.
    pub expires_at: Option<Timestamp>,
    /// New limit; `Some(None)` removes it.
    pub rate_limit_rpm: Option<Option<u32>>,
    /// All CIDR blocks from now on, none meaning anywhere; `None` leaves them.
    pub allowed_addresses: Option<Vec<String>>,
    /// Earlier end of a running grace.
    pub grace_ends_at: Option<Timestamp>,
    /// Only if the key still has this tag.
    pub expected: Option<String>,
}

impl SecretKeyRow {
    /// Which state the key is in; use of it changes nothing.
    pub fn tag(&self) -> String {
        let graces: Vec<_> = self.secrets.iter().map(|it| (&it.last4, it.expires_at.as_micros())).collect();
        tag(&json!([
            self.id.to_string(),
            self.name,
            self.scopes,
            self.expires_at.as_micros(),
            self.revoked_at.map(Timestamp::as_micros),
            self.rate_limit_rpm,
            self.allowed_addresses,
            graces,
        ]))
    }
}

/// Says whether a key may become what it is to be, given what it is: asked in the transaction that changes it, before it ends.
pub type Consent<'c> = &'c (dyn Fn(&SecretKeyRow, &SecretKeyRow) -> Result<(), StoreError> + Send + Sync);

const SELECT: &str = "SELECT k.*, u.name AS created_by_name FROM secret_keys k JOIN users u ON u.id = k.created_by \
     WHERE k.organization_id = $1 AND k.id = $2";

impl ReadTx {
    async fn secret_key(
        &mut self,
        organization: OrganizationId,
        key: SecretKeyId,
        now: Timestamp,
    ) -> Result<SecretKeyRow, StoreError> {
        let own = (SELECT, vec![id(organization), id(key)]);
        let [row, secrets] = self.each_of([own, working_secrets(key, now)]).await?;
        SecretKeyRow::read(row.first().ok_or(StoreError::NotFound)?, &secrets)
    }
}

/// Asks for the secrets of a key that work, the newest first.
fn working_secrets(key: SecretKeyId, now: Timestamp) -> Statement {
    (
        "SELECT last4, created_at, expires_at, last_call_at, last_call_operation, last_call_outcome FROM secrets \
         WHERE key_id = $1 AND expires_at > $2 ORDER BY sequence DESC",
        args![*key.as_bytes(), now],
    )
}

impl SecretKeyRow {
    /// A row of [`SELECT`], and the answer to [`working_secrets`].
    fn read(row: &Row, secrets: &[Row]) -> Result<Self, StoreError> {
        let last_used_at = row.maybe_time("last_used_at")?;
        let text = |row: &Row, column| row.get::<Option<String>>(column).map(Option::unwrap_or_default);
        Ok(Self {
            id: row.id("id")?,
            name: row.get("name")?,
            environment: row.environment()?,
            scopes: row.list("scopes")?,
            created_at: row.time("created_at")?,
            created_by: (row.id("created_by")?, row.get("created_by_name")?),
            expires_at: row.time("expires_at")?,
            revoked_at: row.maybe_time("revoked_at")?,
            last_used: match last_used_at {
                Some(at) => Some((at, text(row, "last_used_address")?, text(row, "last_used_operation")?)),
                None => None,
            },
            rate_limit_rpm: row.get::<Option<i64>>("rate_limit_rpm")?.map(|rpm| rpm as u32),
            allowed_addresses: row.list("allowed_addresses")?,
            secrets: secrets
                .iter()
                .map(|row| {
                    Ok(SecretRow {
                        last4: row.get("last4")?,
                        created_at: row.time("created_at")?,
                        expires_at: row.time("expires_at")?,
                        last_call: match row.maybe_time("last_call_at")? {
                            Some(at) => {
                                Some((at, text(row, "last_call_operation")?, text(row, "last_call_outcome")?))
                            }
                            None => None,
                        },
                    })
                })
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

impl SecurityTx {
    /// Takes expired keys out of the count that is kept of an organization's keys, which includes one that is about to be minted. The
    /// count is never less than the keys that work, and is made anew only when it comes above `most`, so that minting does not cost more the
    /// more was minted before.
    async fn count_keys(
        &mut self,
        organization: OrganizationId,
        most: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let counted = self
            .one(
                "UPDATE organizations SET keys = 1 + (SELECT COUNT(*) FROM secret_keys \
                 WHERE organization_id = $1 AND revoked_at IS NULL AND expires_at > $2) WHERE id = $1 RETURNING keys",
                vec![id(organization), now.into()],
            )
            .await?;
        if counted.get::<i64>("keys")? > i64::from(most) {
            return Err(StoreError::Conflict(
                "The organization has as many keys as it may have; revoke one first.",
            ));
        }
        Ok(())
    }

    /// Adds a secret to a key of either kind; older ones live until `old_until` at most, all but the newest of them not at all.
    pub(crate) async fn add_secret<I: Id>(
        &mut self,
        organization: OrganizationId,
        key: I,
        secret: &NewSecret,
        old_until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let newest: i64 = self
            .one("SELECT COALESCE(MAX(sequence), 0) AS newest FROM secrets WHERE key_id = $1", vec![id(key)])
            .await?
            .get("newest")?;
        self.queue(
            "UPDATE secrets SET expires_at = $3 WHERE key_id = $1 AND sequence < $2 AND expires_at > $3",
            vec![id(key), newest.into(), now.into()],
        )
        .await?;
        self.queue(
            "UPDATE secrets SET expires_at = $3 WHERE key_id = $1 AND sequence = $2 AND expires_at > $3",
            vec![id(key), newest.into(), old_until.into()],
        )
        .await?;
        self.insert_secret(organization, key, newest + 1, secret, now).await
    }

    /// Adds the secret that has this number among those of its key.
    pub(crate) async fn insert_secret<I: Id>(
        &mut self,
        organization: OrganizationId,
        key: I,
        sequence: i64,
        secret: &NewSecret,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.queue(
            "INSERT INTO secrets (digest, pepper_id, organization_id, key_id, sequence, last4, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            vec![
                secret.digest.into(),
                secret.pepper.into(),
                id(organization),
                id(key),
                sequence.into(),
                secret.last4.clone().into(),
                now.into(),
                Timestamp::NEVER.into(),
            ],
        )
        .await
    }
}

/// In which order keys are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySort {
    /// By the time of minting, the newest first.
    #[default]
    Newest,
    /// By the time of minting, the oldest first.
    Oldest,
    /// By expiry, the earliest first; keys that never expire come last.
    Expiry,
}

/// Which keys are listed. All of it must fit; what is absent always does.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Part of the name whatever its case (of ASCII), or the whole id, or the last four characters of a secret that works.
    pub search: Option<String>,
    /// The state of the key: `active`, `expired` or `revoked`; a key that is both of the latter counts as revoked.
    pub status: Option<String>,
    /// Only keys of this environment.
    pub environment: Option<Environment>,
    /// Only keys that this user minted.
    pub created_by: Option<UserId>,
    /// A scope that it holds.
    pub scope: Option<String>,
    /// Not used at or after this.
    pub unused_since: Option<Timestamp>,
    /// Only keys that expire before this instant; those that never expire are left out.
    pub expiring_before: Option<Timestamp>,
    /// The order of the list.
    pub sort: KeySort,
}

/// The statements of one order of keys.
struct KeySql {
    page: &'static str,
    floor: &'static str,
    begin: Position,
    end: Position,
    value: Option<&'static str>,
}

const FIRST: [u8; 16] = [0; 16];
const LAST: [u8; 16] = [0xff; 16];

/// `$1` organization, `$2` and `$3` id and value to begin after, `$4` and `$5` those to stop at; the rest is the filter's.
macro_rules! key_sql {
    ($after:literal, $until:literal, $order:literal) => {
        (
            concat!(
                "SELECT k.*, u.name AS created_by_name FROM secret_keys k JOIN users u ON u.id = k.created_by \
                 WHERE k.organization_id = $1 AND ", $after, " AND ", $until,
                " AND (CAST($8 AS TEXT) IS NULL OR CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' WHEN k.expires_at <= $7 \
                 THEN 'expired' ELSE 'active' END = $8) \
                 AND (CAST($9 AS TEXT) IS NULL OR k.environment = $9) \
                 AND ($10 = 0 OR k.created_by = $11) \
                 AND (CAST($12 AS TEXT) IS NULL OR k.scopes LIKE $12 ESCAPE '\\') \
                 AND (k.last_used_at IS NULL OR k.last_used_at < $13) AND k.expires_at <= $14 \
                 AND ($15 = 0 OR k.id = $16 OR LOWER(k.name) LIKE $17 ESCAPE '\\' OR k.name LIKE $18 ESCAPE '\\' \
                 OR ($19 = 1 AND EXISTS (SELECT 1 FROM secrets s WHERE s.key_id = k.id AND s.last4 = $20 AND s.expires_at > $7))) \
                 ORDER BY ", $order, " LIMIT $6"
            ),
            concat!("SELECT k.id, k.expires_at FROM secret_keys k WHERE k.organization_id = $1 AND ", $after, " ORDER BY ", $order, " LIMIT 1 OFFSET $4"),
        )
    };
}

impl KeySort {
    fn sql(self) -> KeySql {
        let by_id = |(page, floor): (&'static str, &'static str), begin, end| KeySql {
            page,
            floor,
            begin: Position { value: 0, id: begin },
            end: Position { value: 0, id: end },
            value: None,
        };
        match self {
            Self::Newest => {
                by_id(key_sql!("k.id < $2 AND $3 = 0", "k.id >= $4 AND $5 = 0", "k.id DESC"), LAST, FIRST)
            }
            Self::Oldest => {
                by_id(key_sql!("k.id > $2 AND $3 = 0", "k.id <= $4 AND $5 = 0", "k.id"), FIRST, LAST)
            }
            Self::Expiry => {
                let (page, floor) = key_sql!(
                    "(k.expires_at, k.id) > ($3, $2)",
                    "(k.expires_at, k.id) <= ($5, $4)",
                    "k.expires_at, k.id"
                );
                KeySql {
                    page,
                    floor,
                    begin: Position { value: i64::MIN, id: FIRST },
                    end: Position { value: i64::MAX, id: LAST },
                    value: Some("expires_at"),
                }
            }
        }
    }
}

impl KeySql {
    fn position(&self, row: &Row) -> Result<Position, StoreError> {
        let value = self.value.map_or(Ok(0), |column| row.get(column))?;
        Ok(Position { value, id: row.bytes("id")? })
    }
}

impl KeyFilter {
    fn is_empty(&self) -> bool {
        let Self { search, status, environment, created_by, scope, unused_since, expiring_before, sort: _ } =
            self;
        search.is_none()
            && status.is_none()
            && environment.is_none()
            && created_by.is_none()
            && scope.is_none()
            && unused_since.is_none()
            && expiring_before.is_none()
    }

    fn args(
        &self,
        organization: OrganizationId,
        begin: Position,
        end: Position,
        limit: u32,
        now: Timestamp,
    ) -> Vec<Value> {
        let search = self.search.as_deref().unwrap_or_default();
        let named = SecretKeyId::parse(search);
        args![
            *organization.as_bytes(),
            begin.id,
            begin.value,
            end.id,
            end.value,
            i64::from(limit) + 1,
            now,
            self.status.clone(),
            self.environment.map(Environment::as_str),
            self.created_by.is_some(),
            self.created_by.map_or(FIRST, |it| *it.as_bytes()),
            // Names of scopes stand in quotation marks in the list, so no name is found inside another.
            self.scope.as_deref().map(|it| containing(&format!("\"{it}\""))),
            self.unused_since.unwrap_or(Timestamp::from_micros(i64::MAX)),
            self.expiring_before.map_or(i64::MAX, |it| it.as_micros() - 1),
            self.search.is_some(),
            named.map_or(FIRST, |it| *it.as_bytes()),
            containing(&search.to_lowercase()),
            containing(search),
            search.len() == 4,
            search,
        ]
    }
}

fn live(key: &SecretKeyRow, now: Timestamp) -> Result<(), StoreError> {
    match () {
        () if key.revoked_at.is_some() => {
            Err(StoreError::Conflict("The key is revoked, which can't be undone; mint a new one."))
        }
        () if now >= key.expires_at => Err(StoreError::Conflict("The key has expired; mint a new one.")),
        () => Ok(()),
    }
}

/// An expiry that the organization's key policy allows. Whoever asks looked at the policy before, to say what is wrong; it
/// may have been changed since.
fn within_policy(organization: &Row, expires_at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
    let latest = organization.get::<Option<i64>>("max_ttl_days")?.map(|days| now.plus(days * DAY));
    let never = organization.flag("require_expiry")? && expires_at == Timestamp::NEVER;
    match never || latest.is_some_and(|latest| expires_at > latest) {
        true => Err(StoreError::Conflict(
            "The organization's key policy was changed while this request ran, so nothing was done. Send it again.",
        )),
        false => Ok(()),
    }
}

fn deed<'a>(action: &'a str, key: &'a SecretKeyRow, details: serde_json::Value) -> AuditAction<'a> {
    AuditAction { action, kind: "api_key", id: key.id.to_string(), name: &key.name, details }
}

impl dyn Store + '_ {
    /// Mints a key; acknowledged only when it is durable and applied here. `most`: keys that may work at once.
    pub async fn mint_secret_key(
        &self,
        organization: OrganizationId,
        new: &NewSecretKey,
        most: u32,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: Seal<'_, SecretKeyRow>,
    ) -> Result<Once<SecretKeyRow>, StoreError> {
        let mut tx = self.security().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let counted = (
            "UPDATE organizations SET keys = keys + 1 WHERE id = $1 RETURNING keys, max_ttl_days, require_expiry, \
             (SELECT name FROM users WHERE id = $2) AS created_by_name",
            vec![id(organization), id(new.created_by)],
        );
        let [counted, end, next] =
            tx.each_of([counted, end_of_chain(organization), next_revision(by.now)]).await?;
        let counted = counted.first().ok_or(StoreError::NotFound)?;
        within_policy(counted, new.expires_at, by.now)?;
        if counted.get::<i64>("keys")? > i64::from(most) {
            tx.count_keys(organization, most, by.now).await?;
        }
        tx.queue(
            "INSERT INTO secret_keys (id, organization_id, name, environment, scopes, created_at, created_by, expires_at, \
             rate_limit_rpm, allowed_addresses) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            vec![
                id(new.id),
                id(organization),
                new.name.clone().into(),
                new.environment.as_str().into(),
                list(&new.scopes),
                by.now.into(),
                id(new.created_by),
                new.expires_at.into(),
                new.rate_limit_rpm.into(),
                list(&new.allowed_addresses),
            ],
        )
        .await?;
        tx.insert_secret(organization, new.id, 1, &new.secret, by.now).await?;
        let key = new.row(counted.get("created_by_name")?, by.now);
        let details = json!({"scopes": key.scopes, "env": key.environment.as_str()});
        tx.audit_after(&end, organization, by, deed("api_key.minted", &key, details)).await?;
        tx.change_at(&next, organization, Entity::SecretKey, new.id, by.now).await?;
        tx.remember(organization, claim, || seal(&key)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(key))
    }

    /// Keys that fit a filter, in its order.
    pub async fn secret_keys(
        &self,
        organization: OrganizationId,
        filter: &KeyFilter,
        window: Window,
        now: Timestamp,
    ) -> Result<Found<SecretKeyRow>, StoreError> {
        let mut tx = self.read().await?;
        let sql = filter.sort.sql();
        let begin = window.after.unwrap_or(sql.begin);
        // Where nothing is filtered, as many rows are passed as are wanted.
        let floor = match filter.is_empty() {
            true => None,
            false => {
                let args = args![
                    *organization.as_bytes(),
                    begin.id.to_vec(),
                    begin.value,
                    i64::from(window.most) - 1
                ];
                tx.opt(sql.floor, args).await?.as_ref().map(|row| sql.position(row)).transpose()?
            }
        };
        let end = floor.unwrap_or(sql.end);
        let args = filter.args(organization, begin, end, window.limit, now);
        let rows = tx.all(sql.page, args).await?;
        let secrets = rows.iter().map(|row| Ok(working_secrets(row.id("id")?, now)));
        let secrets = tx.each(secrets.collect::<Result<_, StoreError>>()?).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for (row, secrets) in rows.iter().zip(secrets) {
            keys.push((sql.position(row)?, SecretKeyRow::read(row, &secrets)?));
        }
        let found = Found::new(keys, window.limit, floor, |it| it.0);
        Ok(Found { rows: found.rows.into_iter().map(|it| it.1).collect(), next: found.next })
    }

    /// A key with its secrets that work at `now`; [`StoreError::NotFound`] where the organization has no such key.
    pub async fn find_secret_key(
        &self,
        organization: OrganizationId,
        key: SecretKeyId,
        now: Timestamp,
    ) -> Result<SecretKeyRow, StoreError> {
        self.read().await?.secret_key(organization, key, now).await
    }

    /// Changes a key. A revoked or expired key stays as it is.
    pub async fn change_secret_key(
        &self,
        organization: OrganizationId,
        key: SecretKeyId,
        change: &SecretKeyChange,
        consent: Consent<'_>,
        by: &AuditContext,
    ) -> Result<(SecretKeyRow, Revision), StoreError> {
        let mut tx = self.security().await?;
        let old = tx.secret_key(organization, key, by.now).await?;
        live(&old, by.now)?;
        unchanged(change.expected.as_deref(), &old.tag())?;
        if let Some(expires_at) = change.expires_at {
            let policy = tx
                .one(
                    "SELECT max_ttl_days, require_expiry FROM organizations WHERE id = $1",
                    vec![id(organization)],
                )
                .await?;
            within_policy(&policy, expires_at, by.now)?;
        }
        tx.queue(
            "UPDATE secret_keys SET name = $3, scopes = $4, expires_at = $5, rate_limit_rpm = $6, allowed_addresses = $7 \
             WHERE organization_id = $1 AND id = $2",
            vec![
                id(organization),
                id(key),
                change.name.clone().unwrap_or_else(|| old.name.clone()).into(),
                list(change.scopes.as_ref().unwrap_or(&old.scopes)),
                change.expires_at.unwrap_or(old.expires_at).into(),
                change.rate_limit_rpm.unwrap_or(old.rate_limit_rpm).into(),
                list(change.allowed_addresses.as_ref().unwrap_or(&old.allowed_addresses)),
            ],
        )
        .await?;
        if let Some(end) = change.grace_ends_at {
            let Some(running) = old.secrets.iter().find(|secret| secret.expires_at != Timestamp::NEVER)
            else {
                return Err(StoreError::Conflict("No grace is running for this key."));
            };
            if end > running.expires_at {
                return Err(StoreError::Conflict("A running grace can be shortened, not lengthened."));
            }
            tx.queue(
                "UPDATE secrets SET expires_at = $2 WHERE key_id = $1 AND expires_at > $2 AND expires_at < $3",
                vec![id(key), end.into(), Timestamp::NEVER.into()],
            )
            .await?;
        }
        let new = tx.secret_key(organization, key, by.now).await?;
        consent(&old, &new)?;
        let details = json!({
            "scopesAdded": new.scopes.iter().filter(|it| !old.scopes.contains(it)).collect::<Vec<_>>(),
            "scopesRemoved": old.scopes.iter().filter(|it| !new.scopes.contains(it)).collect::<Vec<_>>(),
            "renamedFrom": (old.name != new.name).then_some(&old.name),
            "graceEndsAt": change.grace_ends_at.map(|at| at.to_string()),
        });
        tx.audit(organization, by, deed("api_key.changed", &new, details)).await?;
        let revision = tx.change(organization, Entity::SecretKey, key, by.now).await?;
        tx.commit().await?;
        Ok((new, revision))
    }

    /// A new secret with the same grants; the one before lives until `old_until`, any older one ends now.
    #[allow(clippy::too_many_arguments)]
    pub async fn rotate_secret_key(
        &self,
        organization: OrganizationId,
        key: SecretKeyId,
        secret: &NewSecret,
        old_until: Timestamp,
        consent: Consent<'_>,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: Seal<'_, (SecretKeyRow, Revision)>,
    ) -> Result<Once<(SecretKeyRow, Revision)>, StoreError> {
        let mut tx = self.security().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let old = tx.secret_key(organization, key, by.now).await?;
        live(&old, by.now)?;
        tx.add_secret(organization, key, secret, old_until, by.now).await?;
        let row = tx.secret_key(organization, key, by.now).await?;
        consent(&old, &row)?;
        tx.audit(
            organization,
            by,
            deed("api_key.rotated", &row, json!({"oldSecretEndsAt": old_until.to_string()})),
        )
        .await?;
        let revision = tx.change(organization, Entity::SecretKey, key, by.now).await?;
        let done = (row, revision);
        tx.remember(organization, claim, || seal(&done)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(done))
    }

    /// Revokes a key for good. Revoking again answers the same key and the newest revision.
    pub async fn revoke_secret_key(
        &self,
        organization: OrganizationId,
        key: SecretKeyId,
        by: &AuditContext,
    ) -> Result<(SecretKeyRow, Revision), StoreError> {
        let mut tx = self.security().await?;
        let old = tx.secret_key(organization, key, by.now).await?;
        if old.revoked_at.is_some() {
            let revision = tx.one("SELECT revision FROM head WHERE id = 1", vec![]).await?.get("revision")?;
            return Ok((old, revision));
        }
        tx.queue(
            "UPDATE secret_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(key), by.now.into()],
        )
        .await?;
        // One that expired before may have been taken out of the count already.
        if by.now < old.expires_at {
            tx.queue("UPDATE organizations SET keys = keys - 1 WHERE id = $1", vec![id(organization)])
                .await?;
        }
        let row = SecretKeyRow { revoked_at: Some(by.now), ..old };
        tx.audit(organization, by, deed("api_key.revoked", &row, json!({}))).await?;
        let revision = tx.change(organization, Entity::SecretKey, key, by.now).await?;
        tx.commit().await?;
        Ok((row, revision))
    }
}
