//! The change log as replicas read it: which entities have a new state, and that state.

use crate::accounts::{SESSION_IDLE, SESSION_LIFE};
use crate::db::{ReadTx, Row, Statement, Store, Value, id};
use crate::publishable::VISITOR_IDLE;
use crate::{Revision, StoreError, args};
use flowyte_core::id::{
    Id, OrganizationId, PublishableKeyId, ResourceId, SecretKeyId, SessionId, UserId, VisitorId,
};
use flowyte_core::{Digest, Environment, Role, Timestamp};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a change is about, in the order in which states must be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// The organization itself, and whether it is suspended.
    Organization,
    /// A membership; the entity id is the user's.
    Member,
    /// A secret key with its secrets.
    SecretKey,
    /// A person's session in a browser.
    Session,
    /// A publishable key with its secrets; its visitor sessions follow it.
    PublishableKey,
    /// A visitor's session behind a publishable key.
    Visitor,
}

impl Entity {
    const ALL: [Self; 6] = [
        Self::Organization,
        Self::Member,
        Self::SecretKey,
        Self::Session,
        Self::PublishableKey,
        Self::Visitor,
    ];

    /// The name in the change log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Member => "member",
            Self::SecretKey => "secret_key",
            Self::Session => "session",
            Self::PublishableKey => "publishable_key",
            Self::Visitor => "visitor",
        }
    }
}

/// The state of one entity, as decisions need it. A replica replaces what it held of the entity by this.
#[derive(Clone, Debug)]
pub enum State {
    /// An organization, and whether it is suspended.
    Organization {
        /// The id of the organization.
        id: OrganizationId,
        /// Whether the operator suspended it, so that every credential of it is refused.
        suspended: bool,
    },
    /// A membership; `None` when it is no more.
    Member {
        /// Where they are a member.
        organization: OrganizationId,
        /// The user who is the member.
        user: UserId,
        /// What they may do; none once they are removed or their account is disabled.
        role: Option<Role>,
    },
    /// A secret key with all secrets that it ever had.
    SecretKey(SecretKeyState),
    /// A person's session, whether it goes on or was ended.
    Session(SessionState),
    /// A publishable key with its secrets, and what its visitor sessions depend on.
    PublishableKey(PublishableKeyState),
    /// A visitor's session. It works while its key does, lists its origin, and asks for no identity that was not proved.
    Visitor(VisitorState),
}

/// The newest state of a secret key.
#[derive(Clone, Debug)]
pub struct SecretKeyState {
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The id of the key, which rotation does not change.
    pub id: SecretKeyId,
    /// The environment that it acts in.
    pub environment: Environment,
    /// The names of the scopes that were granted to it; one that the contract no longer has grants nothing.
    pub scopes: Vec<String>,
    /// When the key itself ends.
    pub expires_at: Timestamp,
    /// Whether it was revoked, which can't be undone.
    pub revoked: bool,
    /// Requests a minute of its own, besides its organization's; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// CIDR blocks that it may be used from; empty: from anywhere.
    pub allowed_addresses: Vec<String>,
    /// Every secret it ever had, with the instant each ends.
    pub secrets: Vec<(Digest, Timestamp)>,
}

/// The newest state of a person's session.
#[derive(Clone, Debug)]
pub struct SessionState {
    /// The organization that it is in now.
    pub organization: OrganizationId,
    /// The id of the session (`sess_…`).
    pub id: SessionId,
    /// The user that it belongs to.
    pub user: UserId,
    /// Digest that its secret is found by.
    pub digest: Digest,
    /// When the password was last given; some operations need that to be fresh.
    pub signed_in_at: Timestamp,
    /// Last use that was written down.
    pub last_seen_at: Timestamp,
    /// When it ends, however it is used.
    pub expires_at: Timestamp,
    /// Whether it was ended before that.
    pub ended: bool,
}

/// The newest state of a publishable key.
#[derive(Clone, Debug)]
pub struct PublishableKeyState {
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The id of the key, which rotation does not change.
    pub id: PublishableKeyId,
    /// The resource it is pinned to.
    pub resource: ResourceId,
    /// The environment that it acts in.
    pub environment: Environment,
    /// Where it may be used from, canonical.
    pub allowed_origins: Vec<String>,
    /// Whether it was revoked, which can't be undone.
    pub revoked: bool,
    /// Requests a minute of its own, besides its organization's; `None`: no limit of its own.
    pub rate_limit_rpm: Option<u32>,
    /// Visitors must have proved who they are.
    pub require_identity: bool,
    /// Every secret it ever had, with the instant each ends.
    pub secrets: Vec<(Digest, Timestamp)>,
}

/// A visitor's session. It works while its key does, lists its origin, and asks for no identity that was not proved.
#[derive(Clone, Debug)]
pub struct VisitorState {
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The id of the visitor session.
    pub id: VisitorId,
    /// The key that opened it.
    pub key: PublishableKeyId,
    /// Digest that its secret is found by.
    pub digest: Digest,
    /// The page it was opened on.
    pub origin: String,
    /// The visitor had proved who they are.
    pub verified: bool,
    /// Last use that was written down.
    pub last_seen_at: Timestamp,
    /// When it ends, however it is used.
    pub expires_at: Timestamp,
}

/// How far the change log was read, and what stood there. A database that has gone back, because it was restored or because a standby took
/// over that had not heard everything, gives the same number to another change one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Everything up to and including this was read.
    pub revision: Revision,
    /// What the change of that number is about, and when it was made; `None` where it had been forgotten already.
    last: Option<([u8; 16], Timestamp)>,
}

impl Seen {
    /// Up to here, whatever stood there.
    pub const fn up_to(revision: Revision) -> Self {
        Self { revision, last: None }
    }

    /// `rows`: those of the change log from somewhere up to this.
    fn read(revision: Revision, rows: &[Row]) -> Result<Self, StoreError> {
        let last = rows.last().map(change).transpose()?;
        Ok(Self { revision, last: last.and_then(|(at, what)| (at == revision).then_some(what)) })
    }

    /// Whether the log, which begins with `first` from here on, still has what was seen.
    fn stands(self, head: Revision, forgotten: Revision, first: Option<&Row>) -> Result<bool, StoreError> {
        if head < self.revision || forgotten > self.revision {
            return Ok(false);
        }
        let there = first.map(change).transpose()?.filter(|(at, _)| *at == self.revision);
        Ok(match (self.last, there) {
            (Some(seen), Some((_, there))) => seen == there,
            (Some(_), None) => forgotten == self.revision,
            (None, _) => true,
        })
    }
}

/// The number of a change, what it is about, and when it was made.
type Change = (Revision, ([u8; 16], Timestamp));

fn change(row: &Row) -> Result<Change, StoreError> {
    Ok((row.get("revision")?, (row.bytes("entity_id")?, row.time("at")?)))
}

/// Asks for the changes from this one on, as many as are read at once.
fn changes_from(revision: Revision) -> Statement {
    (
        "SELECT revision, organization_id, entity, entity_id, at FROM changes WHERE revision >= $1 ORDER BY revision LIMIT $2",
        args![revision, CHANGES_AT_ONCE],
    )
}

/// A consistent view: states, and what they are of.
#[derive(Debug)]
pub struct Changes {
    /// Everything up to and including this is in the states.
    pub seen: Seen,
    /// In the order in which they must be applied.
    pub states: Vec<State>,
    /// There are more than are read at once.
    pub more: bool,
}

/// Changes that are read at once.
const CHANGES_AT_ONCE: i64 = 10_000;

/// States that are read for one wait.
const STATES_AT_ONCE: usize = 256;

impl dyn Store + '_ {
    /// The revision of the newest change that was committed.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        self.glance().await?.revision().await
    }

    /// The peppers that something stored depends on.
    pub async fn pepper_ids(&self) -> Result<Vec<[u8; 8]>, StoreError> {
        let mut tx = self.read().await?;
        let mut rows = tx
            .all(
                "SELECT pepper_id FROM secrets UNION SELECT pepper_id FROM sessions UNION SELECT pepper_id FROM invites \
                 UNION SELECT pepper_id FROM visitors UNION SELECT pepper_id FROM recoveries \
                 UNION SELECT identity_pepper_id FROM publishable_keys WHERE identity_pepper_id IS NOT NULL",
                vec![],
            )
            .await?;
        for query in tx.guests().iter().flat_map(|it| it.peppers) {
            rows.extend(tx.all(query, vec![]).await?);
        }
        rows.iter().map(|row| row.bytes("pepper_id")).collect()
    }

    /// Everything decisions need, from one read transaction, given to `take` one by one. Sessions that ended long ago are left
    /// out. Answers up to which change that is.
    pub async fn snapshot(
        &self,
        now: Timestamp,
        take: &mut (dyn FnMut(State) + Send),
    ) -> Result<Seen, StoreError> {
        let mut tx = self.feed().await?;
        let revision = tx.revision().await?;
        let (sql, args) = changes_from(revision);
        let seen = Seen::read(revision, &tx.all(sql, args).await?)?;
        let mut pages =
            Pages::of("SELECT id, suspended FROM organizations WHERE id > $1 ORDER BY id LIMIT $2");
        while let Some(rows) = pages.next(&mut tx, vec![]).await? {
            for row in &rows {
                take(organization(row)?);
            }
        }
        let mut pages = Pages::of(
            "SELECT m.id, m.organization_id, m.user_id, m.role, u.disabled FROM members m JOIN users u ON u.id = m.user_id \
             WHERE m.id > $1 ORDER BY m.id LIMIT $2",
        );
        while let Some(rows) = pages.next(&mut tx, vec![]).await? {
            for row in &rows {
                take(member(row)?);
            }
        }
        let mut pages = Pages::of("SELECT * FROM secret_keys WHERE id > $1 ORDER BY id LIMIT $2");
        while let Some(rows) = pages.next(&mut tx, vec![]).await? {
            let secrets = tx.secrets_of_all(&rows).await?;
            for row in &rows {
                let own = row.bytes("id").map(|key| secrets_of(&secrets, key));
                readable("secret_keys", row, own.and_then(|own| secret_key(row, own)))?.map(&mut *take);
            }
        }
        let mut pages = Pages::of("SELECT * FROM publishable_keys WHERE id > $1 ORDER BY id LIMIT $2");
        while let Some(rows) = pages.next(&mut tx, vec![]).await? {
            let secrets = tx.secrets_of_all(&rows).await?;
            for row in &rows {
                let own = row.bytes("id").map(|key| secrets_of(&secrets, key));
                let state = own.and_then(|own| publishable_key(row, own));
                readable("publishable_keys", row, state)?.map(&mut *take);
            }
        }
        let mut pages =
            Pages::of("SELECT * FROM visitors WHERE id > $1 AND last_seen_at > $3 ORDER BY id LIMIT $2");
        while let Some(rows) = pages.next(&mut tx, args![now.plus(-VISITOR_IDLE)]).await? {
            for row in &rows {
                readable("visitors", row, visitor(row))?.map(&mut *take);
            }
        }
        let mut pages =
            Pages::of("SELECT * FROM sessions WHERE id > $1 AND created_at > $3 ORDER BY id LIMIT $2");
        while let Some(rows) = pages.next(&mut tx, args![now.plus(-SESSION_LIFE - SESSION_IDLE)]).await? {
            for row in &rows {
                readable("sessions", row, session(row))?.map(&mut *take);
            }
        }
        Ok(seen)
    }

    /// What changed after `since`, each entity once, in its newest state; [`StoreError::Forgotten`] where the log can't say it.
    pub async fn changes(&self, since: Seen) -> Result<Changes, StoreError> {
        let mut tx = self.feed().await?;
        let head = ("SELECT revision, forgotten FROM head WHERE id = 1", vec![]);
        let [head, rows] = tx.each_of([head, changes_from(since.revision)]).await?;
        let head = head.first().ok_or(StoreError::NotFound)?;
        let mut revision: Revision = head.get("revision")?;
        if !since.stands(revision, head.get("forgotten")?, rows.first())? {
            return Err(StoreError::Forgotten);
        }
        let more = rows.len() as i64 == CHANGES_AT_ONCE;
        if let (true, Some(last)) = (more, rows.last()) {
            revision = change(last)?.0;
        }
        let mut touched = BTreeSet::new();
        for row in &rows {
            if change(row)?.0 <= since.revision {
                continue;
            }
            let name: String = row.get("entity")?;
            let entity = Entity::ALL
                .into_iter()
                .find(|entity| entity.as_str() == name)
                // An entity of a later release: this one can't know what it narrows, so it may not go on.
                .ok_or_else(|| {
                    StoreError::Unusable(format!(
                        "the change log has {name}, which this release does not know"
                    ))
                })?;
            touched.insert((
                entity,
                row.id::<OrganizationId>("organization_id")?,
                row.bytes::<16>("entity_id")?,
            ));
        }
        // Organizations before members before what hangs on them.
        let touched: Vec<_> = touched.into_iter().collect();
        let mut states = Vec::with_capacity(touched.len());
        for touched in touched.chunks(STATES_AT_ONCE) {
            let queries = touched.iter().flat_map(|(entity, of, it)| entity.queries(*of, *it)).collect();
            let mut answers = tx.each(queries).await?.into_iter();
            for (entity, of, it) in touched {
                states.extend(entity.state(*of, *it, &mut answers)?);
            }
        }
        Ok(Changes { seen: Seen::read(revision, &rows)?, states, more })
    }
}

/// The rows of a table, some at a time: a million of them at once would take two gibibytes.
struct Pages {
    sql: &'static str,
    /// The id of the last row; empty before the first one, `None` after the last.
    after: Option<Vec<u8>>,
    /// Rows so far, and when the log was last told of them.
    read: u64,
    told: Instant,
}

impl Pages {
    const ROWS: i64 = 2_000;
    /// How often a long read says in the log how far it is.
    const PROGRESS: Duration = Duration::from_secs(5);

    /// `sql` takes the id that a page begins after, how many rows it has, and what else it needs.
    fn of(sql: &'static str) -> Self {
        Self { sql, after: Some(Vec::new()), read: 0, told: Instant::now() }
    }

    async fn next(&mut self, tx: &mut ReadTx, more: Vec<Value>) -> Result<Option<Vec<Row>>, StoreError> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let rows = tx.all(self.sql, [args![after, Self::ROWS], more].concat()).await?;
        if rows.len() as i64 == Self::ROWS {
            self.after = rows.last().map(|row| row.get("id")).transpose()?;
        }
        self.read += rows.len() as u64;
        if self.told.elapsed() > Self::PROGRESS {
            self.told = Instant::now();
            let table = self.sql.split_once(" FROM ").and_then(|(_, rest)| rest.split(' ').next());
            tracing::info!(table, rows = self.read, "reading what credentials open");
        }
        Ok(Some(rows))
    }
}

impl ReadTx {
    /// The secrets of these keys, which stand in the order of their ids, with the key of each.
    async fn secrets_of_all(
        &mut self,
        keys: &[Row],
    ) -> Result<Vec<([u8; 16], (Digest, Timestamp))>, StoreError> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(Vec::new()) };
        let between = args![first.get::<Vec<u8>>("id")?, last.get::<Vec<u8>>("id")?];
        let sql = "SELECT key_id, digest, expires_at FROM secrets WHERE key_id >= $1 AND key_id <= $2 ORDER BY key_id";
        let mut secrets = Vec::new();
        for row in self.all(sql, between).await? {
            let of = row.bytes::<16>("key_id");
            secrets.extend(readable("secrets", &row, of.and_then(|of| Ok((of, secret(&row)?))))?);
        }
        Ok(secrets)
    }

    /// The newest change after `since` that is about one of these entities.
    pub async fn newest_change(
        &mut self,
        since: Revision,
        entities: [[u8; 16]; 3],
    ) -> Result<Option<Revision>, StoreError> {
        let [a, b, c] = entities;
        // In this order the few that are newer are read, and not all that there are.
        let sql = "SELECT revision FROM changes WHERE revision > $1 AND entity_id IN ($2, $3, $4) ORDER BY revision DESC LIMIT 1";
        self.opt(sql, args![since, a, b, c]).await?.map(|row| row.get("revision")).transpose()
    }

    /// The newest revision that this transaction sees.
    pub async fn revision(&mut self) -> Result<Revision, StoreError> {
        self.one("SELECT revision FROM head WHERE id = 1", vec![]).await?.get("revision")
    }
}

impl Entity {
    /// How the newest state is read: the entity's own row, and of a key its secrets.
    fn queries(self, organization: OrganizationId, entity_id: [u8; 16]) -> Vec<Statement> {
        let own = match self {
            Self::Organization => "SELECT id, suspended FROM organizations WHERE id = $1",
            Self::Member => {
                "SELECT m.organization_id, m.user_id, m.role, u.disabled FROM members m JOIN users u ON u.id = m.user_id \
                 WHERE m.user_id = $1 AND m.organization_id = $2"
            }
            Self::SecretKey => "SELECT * FROM secret_keys WHERE id = $1",
            Self::Session => "SELECT * FROM sessions WHERE id = $1",
            Self::PublishableKey => "SELECT * FROM publishable_keys WHERE id = $1",
            Self::Visitor => "SELECT * FROM visitors WHERE id = $1",
        };
        let mut args = args![entity_id];
        if self == Self::Member {
            args.push(id(organization));
        }
        let mut queries = vec![(own, args)];
        if self.has_secrets() {
            queries.push(("SELECT digest, expires_at FROM secrets WHERE key_id = $1", args![entity_id]));
        }
        queries
    }

    const fn has_secrets(self) -> bool {
        matches!(self, Self::SecretKey | Self::PublishableKey)
    }

    /// The state that the answers to [`Self::queries`] say.
    fn state(
        self,
        of: OrganizationId,
        entity_id: [u8; 16],
        answers: &mut impl Iterator<Item = Vec<Row>>,
    ) -> Result<Option<State>, StoreError> {
        let row = answers.next().unwrap_or_default().into_iter().next();
        let secrets = if self.has_secrets() { answers.next().unwrap_or_default() } else { Vec::new() };
        let secrets = secrets.iter().map(secret).collect::<Result<_, _>>()?;
        let state = match (self, row) {
            (Self::Member, None) => {
                State::Member { organization: of, user: UserId::from_bytes(entity_id), role: None }
            }
            // It is swept when it is over, and whoever knew it forgets it by itself.
            (Self::Visitor, None) => return Ok(None),
            (_, None) => return Err(StoreError::NotFound),
            (Self::Organization, Some(row)) => organization(&row)?,
            (Self::Member, Some(row)) => member(&row)?,
            (Self::SecretKey, Some(row)) => secret_key(&row, secrets)?,
            (Self::Session, Some(row)) => session(&row)?,
            (Self::PublishableKey, Some(row)) => publishable_key(&row, secrets)?,
            (Self::Visitor, Some(row)) => visitor(&row)?,
        };
        Ok(Some(state))
    }
}

/// What a row says at the start. A damaged one opens nothing, and the others go on: none of them stands in for it.
fn readable<T>(table: &str, row: &Row, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Inconsistent(what)) => {
            let id =
                row.bytes::<16>("key_id").or_else(|_| row.bytes("id")).map(hex::encode).unwrap_or_default();
            tracing::error!(
                table,
                id,
                what,
                "a row is damaged; the credential that it is of is refused until it is mended"
            );
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn organization(row: &Row) -> Result<State, StoreError> {
    Ok(State::Organization { id: row.id("id")?, suspended: row.flag("suspended")? })
}

fn member(row: &Row) -> Result<State, StoreError> {
    let (name, disabled) = (row.get::<String>("role")?, row.flag("disabled")?);
    // A role this release does not know holds nothing, nor does somebody who may not sign in.
    Ok(State::Member {
        organization: row.id("organization_id")?,
        user: row.id("user_id")?,
        role: Role::parse(&name).filter(|_| !disabled),
    })
}

fn secret(row: &Row) -> Result<(Digest, Timestamp), StoreError> {
    Ok((Digest::from_bytes(row.bytes("digest")?), row.time("expires_at")?))
}

/// The secrets of one key among those of all, which are in the order of their keys.
fn secrets_of(all: &[([u8; 16], (Digest, Timestamp))], key: [u8; 16]) -> Vec<(Digest, Timestamp)> {
    let begin = all.partition_point(|(of, _)| *of < key);
    all[begin..].iter().take_while(|(of, _)| *of == key).map(|(_, secret)| *secret).collect()
}

fn publishable_key(row: &Row, secrets: Vec<(Digest, Timestamp)>) -> Result<State, StoreError> {
    Ok(State::PublishableKey(PublishableKeyState {
        organization: row.id("organization_id")?,
        id: row.id("id")?,
        resource: row.id("resource_id")?,
        environment: row.environment()?,
        allowed_origins: row.list("allowed_origins")?,
        revoked: row.maybe_time("revoked_at")?.is_some(),
        rate_limit_rpm: row.get::<Option<i64>>("rate_limit_rpm")?.map(|rpm| rpm as u32),
        require_identity: row.flag("require_identity")?,
        secrets,
    }))
}

fn visitor(row: &Row) -> Result<State, StoreError> {
    Ok(State::Visitor(VisitorState {
        organization: row.id("organization_id")?,
        id: row.id("id")?,
        key: row.id("key_id")?,
        digest: Digest::from_bytes(row.bytes("digest")?),
        origin: row.get("origin")?,
        verified: row.flag("verified")?,
        last_seen_at: row.time("last_seen_at")?,
        expires_at: row.time("expires_at")?,
    }))
}

fn secret_key(row: &Row, secrets: Vec<(Digest, Timestamp)>) -> Result<State, StoreError> {
    Ok(State::SecretKey(SecretKeyState {
        organization: row.id("organization_id")?,
        id: row.id("id")?,
        environment: row.environment()?,
        scopes: row.list("scopes")?,
        expires_at: row.time("expires_at")?,
        revoked: row.maybe_time("revoked_at")?.is_some(),
        rate_limit_rpm: row.get::<Option<i64>>("rate_limit_rpm")?.map(|rpm| rpm as u32),
        allowed_addresses: row.list("allowed_addresses")?,
        secrets,
    }))
}

fn session(row: &Row) -> Result<State, StoreError> {
    Ok(State::Session(SessionState {
        organization: row.id("organization_id")?,
        id: row.id("id")?,
        user: row.id("user_id")?,
        digest: Digest::from_bytes(row.bytes("digest")?),
        signed_in_at: row.time("signed_in_at")?,
        last_seen_at: row.time("last_seen_at")?,
        expires_at: row.time("expires_at")?,
        ended: row.maybe_time("ended_at")?.is_some(),
    }))
}
