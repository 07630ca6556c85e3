//! This node's copy of what decisions need, in memory, fed from the store's change log.
//!
//! Readers take no lock and allocate nothing: one look-up in a concurrent map finds everything. There is one writer, which
//! applies whole states in the log's order; applying a state twice changes nothing.

use crate::clock::boot_time;
use crate::table::{Entry, OrganizationNumber, Table};
use async_trait::async_trait;
use flowyte_core::id::{Id, OrganizationId, PublishableKeyId, ResourceId, SessionId, UserId, VisitorId};
use flowyte_core::limit::RateLimit;
use flowyte_core::record::Idle;
use flowyte_core::time::DAY;
use flowyte_core::{
    CredentialKind, Digest, Environment, Lookup, Organization, Origin, Restrictions, Role, ScopeSet,
    ScopeTable, Timestamp,
};
use flowyte_store::accounts::SESSION_IDLE;
use flowyte_store::feed::{Changes, PublishableKeyState, SecretKeyState, SessionState, VisitorState};
use flowyte_store::publishable::VISITOR_IDLE;
use flowyte_store::{Follower, Revision, Seen, State, Store, StoreError};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How often a database that others may write to is asked for changes.
pub const POLL: Duration = Duration::from_millis(500);
/// How long after the beginning of a read what it found may be answered from, nanoseconds.
const LEASE: i64 = 2_000_000_000;

/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(50);

/// Every secret this node knows, with what is needed to make entries of states.
pub struct CredentialTable {
    secrets: Table,
    /// How many working publishable keys list an origin, and how many that are pinned to one resource do.
    origins: papaya::HashMap<Box<str>, usize>,
    scopes: ScopeTable,
    organization_rpm: u32,
}

/// What only the writer needs: which records hang on what.
#[derive(Default)]
pub struct ReplicaIndex {
    organizations: HashMap<OrganizationId, OrganizationNumber>,
    roles: HashMap<(OrganizationId, UserId), Role>,
    sessions: HashMap<SessionId, SessionState>,
    sessions_of: HashMap<(OrganizationId, UserId), HashSet<SessionId>>,
    limits: HashMap<[u8; 16], Arc<RateLimit>>,
    keys: HashMap<PublishableKeyId, PublishableKey>,
    visitors: HashMap<VisitorId, VisitorState>,
    visitors_of: HashMap<PublishableKeyId, HashSet<VisitorId>>,
    /// What is to be swept, and when it is to be looked at for that.
    ends: BTreeSet<(Timestamp, Ending)>,
}

/// What is over at some time without a change in the store, and is then swept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    /// A visitor's session: after its last use, or with its key.
    Visitor(VisitorId),
    /// A person's session, whose end is remembered for a while.
    Session(SessionId),
    /// A restricted secret, and the key that it is of.
    Secret([u8; 32], [u8; 16]),
}

/// How long after its end a session is told apart from one that never was, and a key keeps its restrictions.
const KEPT: i64 = DAY;
/// How much is swept before whoever waits for the replica has its turn.
const SWEEP_AT_ONCE: usize = 1_000;

/// What visitor sessions take from the key that opened them.
#[derive(Clone)]
struct PublishableKey {
    resource: ResourceId,
    environment: Environment,
    /// None when it is revoked.
    origins: Vec<Origin>,
    limit: Option<Arc<RateLimit>>,
    require_identity: bool,
}

/// The table with the store it follows.
pub struct Replica {
    table: CredentialTable,
    /// Whether everything the store acknowledged is applied, as far as this process knows.
    fresh: AtomicBool,
    /// Until when, by a clock that also runs while the machine sleeps; the end of time where nobody else can write.
    lease: AtomicI64,
    store: Arc<dyn Store>,
    /// The change up to which all are applied.
    applied: watch::Sender<Revision>,
    writer: tokio::sync::Mutex<(ReplicaIndex, Seen)>,
}

impl Replica {
    /// Loads everything and follows the store from then on. `shared`: others may write to its database, so that only a
    /// [lease](Self::renew) makes what was read good for an answer.
    pub async fn load(
        store: Arc<dyn Store>,
        scopes: ScopeTable,
        organization_rpm: u32,
        shared: bool,
        now: Timestamp,
    ) -> Result<Arc<Self>, StoreError> {
        let replica = Arc::new(Self {
            table: CredentialTable::new(scopes, organization_rpm),
            fresh: AtomicBool::new(false),
            lease: AtomicI64::new(if shared { 0 } else { i64::MAX }),
            store: store.clone(),
            applied: watch::Sender::new(0),
            writer: tokio::sync::Mutex::default(),
        });
        if store.follower().set(replica.clone()).is_err() {
            return Err(StoreError::Unusable("the store feeds another replica already".into()));
        }
        let mut writer = replica.writer.lock().await;
        let (index, applied) = &mut *writer;
        *applied = store.snapshot(now, &mut |state| replica.table.apply(index, state)).await?;
        replica.applied.send_replace(applied.revision);
        replica.fresh.store(true, Ordering::Release);
        drop(writer);
        Ok(replica)
    }

    /// Answers with what is known of a digest. The record is borrowed for the call only.
    pub fn with<T>(&self, digest: &Digest, decide: impl FnOnce(Lookup<'_>) -> T) -> T {
        if !self.is_fresh() {
            return decide(Lookup::Unavailable);
        }
        self.table.with(digest, decide)
    }

    /// Whether it can prove that it has seen every change.
    pub fn is_fresh(&self) -> bool {
        let lease = self.lease.load(Ordering::Acquire);
        self.fresh.load(Ordering::Acquire) && (lease == i64::MAX || boot_time() < lease)
    }

    /// The store that it follows.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The change up to which all are applied, and seen by whoever looks something up after this.
    pub fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// For how many seconds more its answers may be trusted, if nothing is read until then; infinite where nobody else can write.
    pub fn lease_seconds(&self) -> f64 {
        match self.lease.load(Ordering::Acquire) {
            i64::MAX => f64::INFINITY,
            until => (until - boot_time()).max(0) as f64 / 1e9,
        }
    }

    /// How many secrets it knows.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it knows no secret.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Reads what others changed, and may be trusted for another [`LEASE`] from when the read began. Where it fails the
    /// lease runs out by itself. An error is one that no later attempt mends.
    pub async fn renew(&self) -> Result<(), StoreError> {
        let begun = boot_time();
        // The claim proves that this process still is the one that serves, and that the database is the one it claimed.
        let read = async {
            self.store.claim().await?;
            let mut writer = self.writer.lock().await;
            loop {
                let batch = self.store.changes(writer.1).await?;
                let more = batch.more;
                self.apply(&mut writer, batch);
                if !more {
                    break Ok::<_, StoreError>(());
                }
            }
        };
        match tokio::time::timeout(Duration::from_nanos(LEASE as u64), read).await {
            Ok(Ok(())) => {
                self.fresh.store(true, Ordering::Release);
                self.lease.store(begun + LEASE, Ordering::Release);
            }
            Ok(Err(error @ StoreError::Forgotten)) => return Err(error),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the change log can't be read; credentials are verified until the lease ends")
            }
            Err(_) => {
                tracing::warn!("the database does not answer; credentials are verified until the lease ends")
            }
        }
        Ok(())
    }

    fn apply(&self, writer: &mut (ReplicaIndex, Seen), changes: Changes) {
        changes.states.into_iter().for_each(|state| self.table.apply(&mut writer.0, state));
        writer.1 = changes.seen;
        self.applied.send_replace(changes.seen.revision);
    }

    /// Forgets visitors' sessions that are over, people's that ended a day ago, and what restricts keys that expired.
    pub async fn sweep(&self, now: Timestamp) {
        while self.table.sweep(&mut self.writer.lock().await.0, now) {
            tokio::task::yield_now().await;
        }
    }
}

impl Replica {
    /// Whether some publishable key that works lists this origin: what a preflight, which carries no key, may know.
    pub fn lists_origin(&self, origin: &str) -> bool {
        self.is_fresh() && self.table.lists_origin(origin)
    }

    /// Whether some publishable key that works and is pinned to this resource lists this origin.
    pub fn resource_lists(&self, resource: ResourceId, origin: &str) -> bool {
        self.is_fresh() && self.table.lists_origin(&of_resource(resource, origin))
    }
}

impl CredentialTable {
    /// An empty table for a contract's scopes. `organization_rpm`: requests a minute that each organization may make.
    pub fn new(scopes: ScopeTable, organization_rpm: u32) -> Self {
        Self { secrets: Table::default(), origins: papaya::HashMap::new(), scopes, organization_rpm }
    }

    /// Answers with what is known of a digest. The record is borrowed for the call only.
    pub fn with<T>(&self, digest: &Digest, decide: impl FnOnce(Lookup<'_>) -> T) -> T {
        self.secrets.with(digest, decide)
    }

    /// How many secrets it knows.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether it knows no secret.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Replaces what was known of an entity. Applying a state twice changes nothing; there is one writer, which holds the index.
    pub fn apply(&self, writer: &mut ReplicaIndex, state: State) {
        match state {
            State::Organization { id, suspended } => {
                let number = self.organization(writer, id);
                if let Some(known) = self.secrets.organization(number) {
                    known.suspended.store(suspended, Ordering::Relaxed);
                }
            }
            State::Member { organization, user, role } => {
                match role {
                    Some(role) => writer.roles.insert((organization, user), role),
                    None => writer.roles.remove(&(organization, user)),
                };
                let sessions = writer.sessions_of.get(&(organization, user)).cloned().unwrap_or_default();
                let states: Vec<SessionState> =
                    sessions.iter().filter_map(|id| writer.sessions.get(id).cloned()).collect();
                states.into_iter().for_each(|session| self.apply_session(writer, session));
            }
            State::SecretKey(key) => self.apply_secret_key(writer, key),
            State::Session(session) => self.apply_session(writer, session),
            State::PublishableKey(key) => self.apply_publishable_key(writer, key),
            State::Visitor(visitor) => self.apply_visitor(writer, visitor),
        }
    }

    fn apply_secret_key(&self, writer: &mut ReplicaIndex, key: SecretKeyState) {
        let SecretKeyState {
            organization,
            id,
            environment,
            scopes,
            expires_at,
            revoked,
            rate_limit_rpm,
            allowed_addresses,
            secrets,
        } = key;
        let organization = self.organization(writer, organization);
        let granted =
            self.scopes.grant(scopes.iter().map(String::as_str)).intersection(self.scopes.secret_keys());
        // What is revoked is refused before its restrictions are asked, so it needs none.
        let limit = keep_limit(writer, *id.as_bytes(), rate_limit_rpm.filter(|_| !revoked));
        // An address list that can't be read would admit anybody if it were skipped, so the key is refused instead.
        let addresses: Result<Vec<_>, _> = allowed_addresses.iter().map(|block| block.parse()).collect();
        let unreadable = addresses.is_err();
        let addresses = addresses.ok().filter(|_| !revoked).unwrap_or_default();
        for (digest, secret_ends) in secrets {
            let restrictions = (limit.is_some() || !addresses.is_empty()).then(|| Restrictions {
                addresses: addresses.clone(),
                limit: limit.clone(),
                ..Default::default()
            });
            let ends = expires_at.min(secret_ends);
            if restrictions.is_some() && ends != Timestamp::NEVER {
                writer.ends.insert((ends.plus(KEPT), Ending::Secret(*digest.as_bytes(), *id.as_bytes())));
            }
            let entry = Entry {
                organization,
                scopes: granted,
                id: *id.as_bytes(),
                expires_at: ends,
                kind: CredentialKind::SecretKey,
                environment,
                revoked: revoked || unreadable,
                superseded: secret_ends != Timestamp::NEVER,
                restrictions,
            };
            self.secrets.insert(&digest, entry);
        }
    }

    fn apply_session(&self, writer: &mut ReplicaIndex, session: SessionState) {
        let SessionState { organization, id, user, digest, signed_in_at, last_seen_at, expires_at, ended } =
            session;
        let role = writer.roles.get(&(organization, user)).copied();
        let known = self.last_used(&digest);
        let entry = Entry {
            organization: self.organization(writer, organization),
            scopes: role.map_or(ScopeSet::EMPTY, |role| self.scopes.role(role)),
            id: *id.as_bytes(),
            expires_at,
            kind: CredentialKind::Session,
            environment: Environment::Live,
            revoked: ended || role.is_none(),
            superseded: false,
            restrictions: Some(Restrictions {
                user: role.map(|role| (user, role)),
                idle: Some(Idle::new(known.unwrap_or(last_seen_at).max(last_seen_at), SESSION_IDLE)),
                signed_in_at: Some(signed_in_at),
                ..Default::default()
            }),
        };
        self.secrets.insert(&digest, entry);
        let of_member = writer.sessions_of.entry((organization, user)).or_default();
        if ended {
            of_member.remove(&id);
        } else {
            of_member.insert(id);
        }
        // Kept although it ended, until the sweep forgets it: until then it is told apart from one never known.
        writer.sessions.insert(id, session);
        writer.ends.insert((expires_at.plus(KEPT), Ending::Session(id)));
    }

    fn apply_publishable_key(&self, writer: &mut ReplicaIndex, key: PublishableKeyState) {
        let PublishableKeyState {
            organization,
            id,
            resource,
            environment,
            allowed_origins,
            revoked,
            rate_limit_rpm,
            require_identity,
            secrets,
        } = key;
        let limit = keep_limit(writer, *id.as_bytes(), rate_limit_rpm.filter(|_| !revoked));
        let origins: Vec<Origin> = allowed_origins.iter().map(|it| Origin::from_canonical(it)).collect();
        let key = PublishableKey {
            resource,
            environment,
            origins: if revoked { Vec::new() } else { origins.clone() },
            limit: limit.clone(),
            require_identity,
        };
        self.count_origins(&key, 1);
        if let Some(old) = writer.keys.insert(id, key) {
            self.count_origins(&old, -1);
        }
        for (digest, secret_ends) in secrets {
            if !revoked && secret_ends != Timestamp::NEVER {
                writer
                    .ends
                    .insert((secret_ends.plus(KEPT), Ending::Secret(*digest.as_bytes(), *id.as_bytes())));
            }
            let entry = Entry {
                organization: self.organization(writer, organization),
                scopes: self.scopes.publishable_keys(),
                id: *id.as_bytes(),
                expires_at: secret_ends,
                kind: CredentialKind::PublishableKey,
                environment,
                revoked,
                superseded: secret_ends != Timestamp::NEVER,
                // A page may read that its key was revoked only while its origin is listed (CORS).
                restrictions: Some(Restrictions {
                    origins: origins.clone(),
                    pinned: (!revoked).then_some(resource),
                    limit: limit.clone(),
                    ..Default::default()
                }),
            };
            self.secrets.insert(&digest, entry);
        }
        let visitors = writer.visitors_of.get(&id).cloned().unwrap_or_default();
        let states: Vec<VisitorState> =
            visitors.iter().filter_map(|id| writer.visitors.get(id).cloned()).collect();
        states.into_iter().for_each(|visitor| self.apply_visitor(writer, visitor));
    }

    fn apply_visitor(&self, writer: &mut ReplicaIndex, visitor: VisitorState) {
        let VisitorState { organization, id, key, digest, ref origin, verified, last_seen_at, expires_at } =
            visitor;
        let of = writer.keys.get(&key).cloned();
        let origins = of.iter().flat_map(|of| of.origins.iter().filter(|it| it.as_str() == origin));
        let origins: Vec<Origin> = origins.cloned().collect();
        // A key that is revoked, or not known, lists no origin; one may ask for an identity by now.
        let revoked = of.as_ref().is_none_or(|it| it.origins.is_empty() || it.require_identity && !verified);
        let known = self.last_used(&digest).unwrap_or(last_seen_at).max(last_seen_at);
        let idle = Idle::new(known, VISITOR_IDLE);
        let ends = if revoked { Timestamp::from_micros(i64::MIN) } else { idle.ends_at() };
        writer.ends.insert((ends, Ending::Visitor(id)));
        let entry = Entry {
            organization: self.organization(writer, organization),
            scopes: self.scopes.publishable_keys(),
            id: *id.as_bytes(),
            expires_at,
            kind: CredentialKind::Visitor,
            environment: of.as_ref().map_or(Environment::Test, |it| it.environment),
            revoked,
            superseded: false,
            restrictions: Some(Restrictions {
                origins,
                pinned: of.as_ref().map(|it| it.resource),
                limit: of.and_then(|it| it.limit),
                idle: Some(idle),
                ..Default::default()
            }),
        };
        self.secrets.insert(&digest, entry);
        writer.visitors_of.entry(key).or_default().insert(id);
        writer.visitors.insert(id, visitor);
    }

    fn lists_origin(&self, origin: &str) -> bool {
        self.origins.pin().contains_key(origin)
    }

    /// One writer, so reading and writing back is enough.
    fn count_origins(&self, key: &PublishableKey, by: isize) {
        let counts = self.origins.pin();
        let names = key
            .origins
            .iter()
            .flat_map(|it| [it.as_str().to_owned(), of_resource(key.resource, it.as_str())]);
        for name in names {
            let count = counts.get(name.as_str()).copied().unwrap_or(0).saturating_add_signed(by);
            match count {
                0 => counts.remove(name.as_str()).map(drop),
                _ => counts.insert(name.into(), count).map(drop),
            };
        }
    }

    /// Forgets some of what is over, and what restricts some of what has expired; answers whether there is more. `now` decides, as
    /// it does for requests: it never goes back.
    pub fn sweep(&self, writer: &mut ReplicaIndex, now: Timestamp) -> bool {
        for _ in 0..SWEEP_AT_ONCE {
            match writer.ends.first() {
                Some((at, _)) if *at <= now => {}
                _ => return false,
            }
            match writer.ends.pop_first() {
                Some((_, Ending::Visitor(id))) => self.sweep_visitor(writer, id, now),
                Some((_, Ending::Session(id))) => self.sweep_session(writer, id),
                Some((_, Ending::Secret(digest, key))) => {
                    self.secrets.disarm(&Digest::from_bytes(digest), now.plus(-KEPT));
                    if writer.limits.get(&key).is_some_and(|limit| Arc::strong_count(limit) == 1) {
                        writer.limits.remove(&key);
                    }
                }
                None => return false,
            }
        }
        true
    }

    /// A visitor who was there since is looked at again when that would be over.
    fn sweep_visitor(&self, writer: &mut ReplicaIndex, id: VisitorId, now: Timestamp) {
        let Some(VisitorState { key, digest, .. }) = writer.visitors.get(&id) else { return };
        let (key, digest) = (*key, *digest);
        let lives_until = self.secrets.with(&digest, |lookup| match lookup {
            Lookup::Found(record) if !record.revoked => {
                let idle = record.restrictions.and_then(|it| it.idle.as_ref()).map(Idle::ends_at);
                Some(idle.map_or(record.expires_at, |it| it.min(record.expires_at))).filter(|it| *it > now)
            }
            _ => None,
        });
        if let Some(at) = lives_until {
            writer.ends.insert((at, Ending::Visitor(id)));
            return;
        }
        self.secrets.remove(&digest);
        writer.visitors.remove(&id);
        if let Some(of_key) = writer.visitors_of.get_mut(&key) {
            of_key.remove(&id);
            if of_key.is_empty() {
                writer.visitors_of.remove(&key);
            }
        }
    }

    fn sweep_session(&self, writer: &mut ReplicaIndex, id: SessionId) {
        let Some(SessionState { organization, user, digest, .. }) = writer.sessions.remove(&id) else {
            return;
        };
        self.secrets.remove(&digest);
        if let Some(of_member) = writer.sessions_of.get_mut(&(organization, user)) {
            of_member.remove(&id);
            if of_member.is_empty() {
                writer.sessions_of.remove(&(organization, user));
            }
        }
    }

    fn organization(&self, writer: &mut ReplicaIndex, id: OrganizationId) -> OrganizationNumber {
        *writer.organizations.entry(id).or_insert_with(|| {
            let limit = RateLimit::per_minute(self.organization_rpm);
            self.secrets.add_organization(Organization { id, suspended: AtomicBool::new(false), limit })
        })
    }

    /// The idle clock of a session runs in this process only, so a new state does not set it back.
    fn last_used(&self, digest: &Digest) -> Option<Timestamp> {
        self.secrets.with(digest, |lookup| match lookup {
            Lookup::Found(record) => Some(record.restrictions?.idle.as_ref()?.last_used()),
            Lookup::Unknown | Lookup::Unavailable => None,
        })
    }
}

/// The name of an origin among those of one resource. No origin has a space in it.
fn of_resource(resource: ResourceId, origin: &str) -> String {
    format!("{resource} {origin}")
}

/// The key's limit. A change of something else does not begin it anew.
fn keep_limit(writer: &mut ReplicaIndex, key: [u8; 16], rpm: Option<u32>) -> Option<Arc<RateLimit>> {
    let limit = rpm.map(|rpm| match writer.limits.get(&key) {
        Some(known) if known.limit() == rpm => known.clone(),
        _ => Arc::new(RateLimit::per_minute(rpm)),
    });
    match &limit {
        Some(limit) => writer.limits.insert(key, limit.clone()),
        None => writer.limits.remove(&key),
    };
    limit
}

#[async_trait]
impl Follower for Replica {
    /// While the store can't be read, the replica answers nothing rather than something old, and the call waits.
    async fn reach(&self, revision: Revision) {
        let mut applied = self.applied.subscribe();
        loop {
            // Whoever is first reads for all who wait.
            let mut writer = tokio::select! {
                biased;
                _ = applied.wait_for(|applied| *applied >= revision) => return,
                writer = self.writer.lock() => writer,
            };
            if writer.1.revision >= revision {
                return;
            }
            match self.store.changes(writer.1).await {
                Ok(batch) => {
                    let all = !batch.more;
                    self.apply(&mut writer, batch);
                    if all {
                        self.fresh.store(true, Ordering::Release);
                    }
                }
                Err(error) => {
                    self.fresh.store(false, Ordering::Release);
                    tracing::error!(%error, "the change log can't be read; no credential is verified until it can");
                    // Whoever renews the lease finds out whether it ever can.
                    drop(writer);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
