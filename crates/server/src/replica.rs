//! This node's copy of what decisions need, in memory, fed from the store's change log.
//!
//! Readers take no lock and allocate nothing: one look-up in a concurrent map finds everything. There is one writer, which
//! applies whole states in the log's order; applying a state twice changes nothing.

use async_trait::async_trait;
use flowyte_core::id::{Id, OrganizationId, SecretKeyId, SessionId, UserId};
use flowyte_core::limit::RateLimit;
use flowyte_core::record::Idle;
use flowyte_core::{
    CredentialKind, Digest, Environment, Fence, Lookup, Organization, Record, Role, ScopeSet, ScopeTable,
    Timestamp,
};
use flowyte_store::accounts::SESSION_IDLE;
use flowyte_store::{Follower, Revision, State, Store, StoreError};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(50);

/// Digests are as good as random already, so hashing them again buys nothing.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

/// Every secret this node knows, found by digest.
pub struct Table {
    secrets: papaya::HashMap<u128, Record, BuildHasherDefault<DigestHasher>>,
    scopes: ScopeTable,
    organization_rpm: u32,
}

/// What only the writer needs: which records hang on what.
#[derive(Default)]
pub struct Ties {
    organizations: HashMap<OrganizationId, Arc<Organization>>,
    roles: HashMap<(OrganizationId, UserId), Role>,
    sessions: HashMap<SessionId, State>,
    sessions_of: HashMap<(OrganizationId, UserId), HashSet<SessionId>>,
    limits: HashMap<SecretKeyId, Arc<RateLimit>>,
}

/// The table with the store it follows.
pub struct Replica {
    table: Table,
    /// Whether everything the store acknowledged is applied, as far as this process knows.
    fresh: AtomicBool,
    store: Arc<dyn Store>,
    writer: tokio::sync::Mutex<(Ties, Revision)>,
}

impl Replica {
    /// Loads everything and follows the store from then on.
    pub async fn load(
        store: Arc<dyn Store>,
        scopes: ScopeTable,
        organization_rpm: u32,
        now: Timestamp,
    ) -> Result<Arc<Self>, StoreError> {
        let replica = Arc::new(Self {
            table: Table::new(scopes, organization_rpm),
            fresh: AtomicBool::new(false),
            store: store.clone(),
            writer: tokio::sync::Mutex::default(),
        });
        if store.follower().set(replica.clone()).is_err() {
            return Err(StoreError::Unusable("the store feeds another replica already".into()));
        }
        let mut writer = replica.writer.lock().await;
        let batch = store.snapshot(now).await?;
        batch.states.into_iter().for_each(|state| replica.table.apply(&mut writer.0, state));
        writer.1 = batch.revision;
        replica.fresh.store(true, Ordering::Release);
        drop(writer);
        Ok(replica)
    }

    /// Answers with what is known of a digest. The record is borrowed for the call only.
    pub fn with<T>(&self, digest: &Digest, decide: impl FnOnce(Lookup<'_>) -> T) -> T {
        if !self.fresh.load(Ordering::Acquire) {
            return decide(Lookup::Unavailable);
        }
        self.table.with(digest, decide)
    }
}

impl Table {
    /// An empty table for a contract's scopes. `organization_rpm`: requests a minute that each organization may make.
    pub fn new(scopes: ScopeTable, organization_rpm: u32) -> Self {
        Self { secrets: papaya::HashMap::default(), scopes, organization_rpm }
    }

    /// Answers with what is known of a digest. The record is borrowed for the call only.
    pub fn with<T>(&self, digest: &Digest, decide: impl FnOnce(Lookup<'_>) -> T) -> T {
        let secrets = self.secrets.pin();
        decide(secrets.get(&digest.key()).map_or(Lookup::Unknown, Lookup::Found))
    }

    /// How many secrets it knows.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether it knows no secret.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Replaces what was known of an entity. Applying a state twice changes nothing; there is one writer, which holds the ties.
    pub fn apply(&self, writer: &mut Ties, state: State) {
        match state {
            State::Organization { id, suspended } => {
                let known = writer.organizations.entry(id).or_insert_with(|| self.new_organization(id));
                known.suspended.store(suspended, Ordering::Relaxed);
            }
            State::Member { organization, user, role } => {
                match role {
                    Some(role) => writer.roles.insert((organization, user), role),
                    None => writer.roles.remove(&(organization, user)),
                };
                let sessions = writer.sessions_of.get(&(organization, user)).cloned().unwrap_or_default();
                let states: Vec<State> =
                    sessions.iter().filter_map(|id| writer.sessions.get(id).cloned()).collect();
                states.into_iter().for_each(|session| self.apply(writer, session));
            }
            State::SecretKey {
                organization,
                id,
                environment,
                scopes,
                expires_at,
                revoked,
                rate_limit_rpm,
                allowed_addresses,
                secrets,
            } => {
                let organization = self.organization(writer, organization);
                let granted = self
                    .scopes
                    .grant(scopes.iter().map(String::as_str))
                    .intersection(self.scopes.secret_keys());
                let limit = rate_limit_rpm.map(|rpm| match writer.limits.get(&id) {
                    Some(known) if known.limit() == rpm => known.clone(), // A change of something else resets no limit.
                    _ => Arc::new(RateLimit::per_minute(rpm)),
                });
                match &limit {
                    Some(limit) => writer.limits.insert(id, limit.clone()),
                    None => writer.limits.remove(&id),
                };
                // An address list that can't be read would admit anybody if it were skipped, so the key is refused instead.
                let addresses: Result<Vec<_>, _> =
                    allowed_addresses.iter().map(|block| block.parse()).collect();
                let unreadable = addresses.is_err();
                let addresses = addresses.unwrap_or_default();
                for (digest, secret_ends) in secrets {
                    let fence = (limit.is_some() || !addresses.is_empty()).then(|| {
                        Box::new(Fence {
                            addresses: addresses.clone(),
                            limit: limit.clone(),
                            ..Default::default()
                        })
                    });
                    let record = Record {
                        organization: organization.clone(),
                        scopes: granted,
                        id: *id.as_bytes(),
                        expires_at: expires_at.min(secret_ends),
                        kind: CredentialKind::SecretKey,
                        environment,
                        revoked: revoked || unreadable,
                        fence,
                    };
                    self.secrets.pin().insert(digest.key(), record);
                }
            }
            State::Session {
                organization,
                id,
                user,
                digest,
                signed_in_at,
                last_seen_at,
                expires_at,
                ended,
            } => {
                let role = writer.roles.get(&(organization, user)).copied();
                let secrets = self.secrets.pin();
                let known = secrets
                    .get(&digest.key())
                    .and_then(|it| Some(it.fence.as_ref()?.idle.as_ref()?.last_used()));
                let record = Record {
                    organization: self.organization(writer, organization),
                    scopes: role.map_or(ScopeSet::EMPTY, |role| self.scopes.role(role)),
                    id: *id.as_bytes(),
                    expires_at,
                    kind: CredentialKind::Session,
                    environment: Environment::Live,
                    revoked: ended || role.is_none(),
                    fence: Some(Box::new(Fence {
                        user: role.map(|role| (user, role)),
                        idle: Some(Idle::new(known.unwrap_or(last_seen_at).max(last_seen_at), SESSION_IDLE)),
                        signed_in_at: Some(signed_in_at),
                        ..Default::default()
                    })),
                };
                secrets.insert(digest.key(), record);
                let of_member = writer.sessions_of.entry((organization, user)).or_default();
                if ended {
                    of_member.remove(&id);
                    writer.sessions.remove(&id);
                } else {
                    of_member.insert(id);
                    let state = State::Session {
                        organization,
                        id,
                        user,
                        digest,
                        signed_in_at,
                        last_seen_at,
                        expires_at,
                        ended,
                    };
                    writer.sessions.insert(id, state);
                }
            }
        }
    }

    fn new_organization(&self, id: OrganizationId) -> Arc<Organization> {
        let limit = RateLimit::per_minute(self.organization_rpm);
        Arc::new(Organization { id, suspended: AtomicBool::new(false), limit })
    }

    fn organization(&self, writer: &mut Ties, id: OrganizationId) -> Arc<Organization> {
        writer.organizations.entry(id).or_insert_with(|| self.new_organization(id)).clone()
    }
}

#[async_trait]
impl Follower for Replica {
    /// While the store can't be read, the replica answers nothing rather than something old, and the call waits.
    async fn reach(&self, revision: Revision) {
        let mut writer = self.writer.lock().await;
        while writer.1 < revision {
            match self.store.changes(writer.1).await {
                Ok(batch) => {
                    batch.states.into_iter().for_each(|state| self.table.apply(&mut writer.0, state));
                    writer.1 = batch.revision;
                    self.fresh.store(true, Ordering::Release);
                }
                Err(error) => {
                    self.fresh.store(false, Ordering::Release);
                    tracing::error!(%error, "the change log can't be read; no credential is verified until it can");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
