//! One permitted request, as a handler sees it.

use crate::answer::{Answer, envelope};
use crate::bodies::Room;
use crate::cursor;
use crate::problem::{Code, Outcome, Problem, or_internal};
use bytes::Bytes;
use flowyte_contract::Parameters;
use flowyte_core::id::{Id, OrganizationId, SecretKeyId, SessionId, UserId};
use flowyte_core::limit::Quota;
use flowyte_core::time::{InvalidTimestamp, MINUTE};
use flowyte_core::{CredentialKind, Environment, Operation, Pepper, Permit, Principal, Role, Timestamp};
use flowyte_store::labour::Slot;
use flowyte_store::walk::{Found, Order, Position, Search, Window};
use flowyte_store::{Actor, AuditContext, Claim, Once, Page, Store};
use flowyte_verifier::seal::{NONCE_BYTES, Seal, keyed};
use flowyte_verifier::{Verifier, Warrant};
use http::HeaderName;
use http::header::{CONTENT_TYPE, COOKIE, ORIGIN, USER_AGENT};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The longest `User-Agent` that is kept.
const USER_AGENT_CHARS: usize = 256;
/// How long the answer to an Idempotency-Key is kept.
const REPEATABLE: i64 = 10 * MINUTE;

/// A permitted request with what its handler belongs to.
pub struct Call<S> {
    /// What its handler belongs to.
    pub state: Arc<S>,
    /// The request. Its parts can be had from the call too, as long as none is taken out.
    pub permitted: Permitted,
}

impl<S> Call<S> {
    /// A request for a handler of `state`.
    pub const fn new(state: Arc<S>, permitted: Permitted) -> Self {
        Self { state, permitted }
    }
}

impl<S> Deref for Call<S> {
    type Target = Permitted;

    fn deref(&self) -> &Permitted {
        &self.permitted
    }
}

impl<S> DerefMut for Call<S> {
    fn deref_mut(&mut self) -> &mut Permitted {
        &mut self.permitted
    }
}

/// A request that may run, checked against the contract.
pub struct Permitted {
    /// The verifier that permitted the request, with the clock, the randomness and the peppers that handlers use.
    pub verifier: Arc<Verifier>,
    /// Leave to run it, which can be asked for again.
    pub warrant: Warrant,
    /// Its head, as it was sent.
    pub head: Arc<Parts>,
    /// The names and percent-decoded values of the path parameters.
    pub params: Vec<(String, String)>,
    /// Query parameters that the contract declares.
    pub query: Parameters,
    /// Header fields that the contract declares.
    pub headers: Parameters,
    /// The body; null where there is none.
    pub body: Value,
    /// The body's bytes, as they were sent.
    pub sent: Bytes,
    /// The memory that the body takes, given back with the call.
    pub room: Option<Room>,
    /// The organization's turn at an operation that takes a core for a while.
    pub turn: Option<Slot<OrganizationId>>,
    /// The caller's IP address, after the trusted-proxy rule.
    pub address: IpAddr,
    /// When the request was decided.
    pub now: Timestamp,
    /// What is left of the tightest limit.
    pub quota: Option<Quota>,
    /// The request's Idempotency-Key, made ready for the store; `None`: it has none.
    pub repeat: Option<Repeat>,
}

/// A request that its client may repeat.
pub struct Repeat {
    claim: Claim,
    seal: Seal,
    nonce: [u8; NONCE_BYTES],
}

/// The member of an organization whose session made the request.
pub struct Member {
    /// The organization that the session is in.
    pub organization: OrganizationId,
    /// The person who is signed in.
    pub user: UserId,
    /// The member's role in that organization.
    pub role: Role,
    /// The id of the session that was presented.
    pub session: SessionId,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

impl Repeat {
    /// For a client's `key` on a request whose digest is `request`.
    pub fn new(
        verifier: &Verifier,
        caller: &Principal,
        operation: &Operation,
        key: &str,
        request: [u8; 32],
        now: Timestamp,
    ) -> Outcome<Self> {
        let pepper = verifier.peppers.current();
        // The principal that repeats, not the credential, which may have been rotated or replaced in between.
        let actor = match caller.user() {
            Some((user, _)) => user.to_string(),
            None => caller.credential_id(),
        };
        Ok(Self {
            claim: Claim {
                actor,
                digest: keyed(pepper, "idempotency-key", key.as_bytes()),
                operation: operation.id.clone(),
                request,
                expires_at: now.plus(REPEATABLE),
            },
            seal: Seal::with_word(pepper, "idempotent-answer", key),
            nonce: verifier.random()?,
        })
    }
}

impl Permitted {
    /// The permit as it was decided when the request came; the warrant says whether it still holds.
    pub const fn permit(&self) -> &Permit {
        self.warrant.permit()
    }

    /// The operation of the contract that is to run.
    pub fn operation(&self) -> &Operation {
        &self.verifier.contract.operations()[self.permit().operation()]
    }

    /// The database. What it changes is changed only while the permit holds.
    pub fn store(&self) -> &dyn Store {
        &self.warrant
    }

    /// `Origin`, where there is one.
    pub fn origin(&self) -> Option<&str> {
        let mut fields = self.head.headers.get_all(ORIGIN).iter();
        fields.next().filter(|_| fields.next().is_none())?.to_str().ok()
    }

    /// The `User-Agent` field, cut after 256 characters; empty where there is none or it is not text.
    pub fn user_agent(&self) -> String {
        self.text(USER_AGENT).chars().take(USER_AGENT_CHARS).collect()
    }

    /// The media type of the body with its parameters.
    pub fn content_type(&self) -> &str {
        self.text(CONTENT_TYPE)
    }

    /// `Cookie`, every field of it.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.head.headers.get_all(COOKIE).iter().filter_map(|it| it.to_str().ok())
    }

    fn text(&self, name: HeaderName) -> &str {
        self.head.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }

    /// Who is calling. On a public operation there is nobody, which is the contract's fault, not the caller's.
    pub fn caller(&self) -> Outcome<&Principal> {
        or_internal(self.permit().caller(), "a handler of a public operation asked for its caller")
    }

    /// The organization, which the credential alone decides.
    pub fn organization(&self) -> Outcome<OrganizationId> {
        Ok(self.caller()?.organization())
    }

    /// The world the credential acts in.
    pub fn environment(&self) -> Outcome<Environment> {
        Ok(self.caller()?.environment())
    }

    /// The member behind a session.
    pub fn member(&self) -> Outcome<Member> {
        let caller = self.caller()?;
        let (user, role) =
            or_internal(caller.user(), "a handler asked for the member behind another credential")?;
        let session = SessionId::from_bytes(caller.credential());
        Ok(Member {
            organization: caller.organization(),
            user,
            role,
            session,
            expires_at: caller.expires_at(),
        })
    }

    /// An id in the path. One that is none names nothing.
    pub fn id<I: Id>(&self, name: &str) -> Outcome<I> {
        let text = self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        text.and_then(|text| I::parse(text)).ok_or_else(Problem::not_found)
    }

    /// The body as a type. The contract was checked before, so a failure here is a rule that only the type knows.
    pub fn read<T: DeserializeOwned>(&self) -> Outcome<T> {
        let body = if self.body.is_null() { json!({}) } else { self.body.clone() };
        serde_json::from_value(body).map_err(|error| Problem::body("", error.to_string()))
    }

    /// Who does it, for the audit trail.
    pub async fn by(&self) -> Outcome<AuditContext> {
        let actor = match self.permit().caller() {
            None => Actor { kind: "anonymous", id: String::new(), name: String::new() },
            Some(caller) => match caller.user() {
                Some((user, _)) => {
                    let row = self.store().user(user).await?;
                    Actor { kind: "user", id: user.to_string(), name: row.name }
                }
                None if caller.kind() == CredentialKind::SecretKey => {
                    let key = SecretKeyId::from_bytes(caller.credential());
                    let row = self.store().find_secret_key(caller.organization(), key, self.now).await?;
                    Actor { kind: "secret_key", id: key.to_string(), name: row.name }
                }
                None => {
                    Actor { kind: caller.kind().as_str(), id: caller.credential_id(), name: String::new() }
                }
            },
        };
        Ok(self.by_actor(actor))
    }

    /// The same for somebody who has proved who they are on the way.
    pub fn by_user(&self, user: UserId, name: &str) -> AuditContext {
        self.by_actor(Actor { kind: "user", id: user.to_string(), name: name.to_owned() })
    }

    fn by_actor(&self, actor: Actor) -> AuditContext {
        AuditContext { actor, address: self.address.to_string(), now: self.now }
    }

    /// The state that a change is based on, where its caller says so.
    pub fn if_match(&self) -> Option<&str> {
        self.headers.get("If-Match").map(|it| it.trim_matches('"'))
    }

    /// How many, and from where.
    pub fn page(&self) -> Outcome<Page> {
        Ok(Page { limit: self.limit(), before: self.cursor()? })
    }

    /// How many rows of a list.
    pub fn limit(&self) -> u32 {
        self.query.get_u32("limit").unwrap_or(20)
    }

    /// Which page of a list that is searched. Its order is that of `sort`, where a minus says that the newest come first, as they do where
    /// nothing is said.
    pub fn window(&self) -> Outcome<Window> {
        let order = match self.query.get("sort") {
            Some(sort) if !sort.starts_with('-') => Order::Oldest,
            _ => Order::Newest,
        };
        Ok(Window { order, ..Window::new(self.cursor()?.map(Position::from_bytes), self.limit()) })
    }

    /// The name that is searched for.
    pub fn search(&self) -> Search {
        Search::new(self.query.get("search"))
    }

    fn cursor<const N: usize>(&self) -> Outcome<Option<[u8; N]>> {
        let Some(text) = self.query.get("cursor") else { return Ok(None) };
        let read = self.scoped(|pepper, scope| cursor::read(pepper, scope, text))?;
        let position = read.ok_or_else(|| {
            Problem::query("cursor", "is not a cursor of this list; begin again without it")
        })?;
        Ok(Some(position))
    }

    /// A page of a list that was searched.
    pub fn found<T, R: Serialize>(&self, found: &Found<T>, render: impl Fn(&T) -> R) -> Outcome<Answer> {
        let write = |at: Position| self.scoped(|pepper, scope| cursor::write(pepper, scope, &at.to_bytes()));
        let next = found.next.map(write).transpose()?;
        Ok(Answer::list(&found.rows.iter().map(render).collect::<Vec<_>>(), self.limit(), next))
    }

    /// A page of rows, of which the store read one more than wanted. `position`: what the next page begins after.
    pub fn list<T, R: Serialize>(
        &self,
        page: Page,
        mut rows: Vec<T>,
        position: impl Fn(&T) -> [u8; 16],
        render: impl Fn(&T) -> R,
    ) -> Outcome<Answer> {
        let more = rows.len() > page.limit as usize;
        rows.truncate(page.limit as usize);
        let next = match rows.last().filter(|_| more) {
            Some(row) => Some(self.scoped(|pepper, scope| cursor::write(pepper, scope, &position(row)))?),
            None => None,
        };
        Ok(Answer::list(&rows.iter().map(render).collect::<Vec<_>>(), page.limit, next))
    }

    /// Does something with what this list's cursors are bound to.
    fn scoped<T>(&self, act: impl FnOnce(&Pepper, &cursor::Scope<'_>) -> T) -> Outcome<T> {
        let list = &self.operation().id;
        let path = self.head.uri.path();
        // The query without what says where in the list to begin.
        let pairs = self.head.uri.query().unwrap_or_default().split('&');
        let pairs =
            pairs.filter(|it| ["cursor=", "limit=", "page="].iter().all(|name| !it.starts_with(name)));
        let filter = [path].into_iter().chain(pairs).collect::<Vec<_>>().join("&");
        let scope = cursor::Scope { organization: self.organization()?, list, filter: &filter };
        Ok(act(self.verifier.peppers.current(), &scope))
    }

    /// The Idempotency-Key, as the store takes it.
    pub fn claim(&self) -> Option<&Claim> {
        self.repeat.as_ref().map(|it| &it.claim)
    }

    /// The answer to keep for a repeated request.
    pub fn seal(&self, data: &impl Serialize) -> Vec<u8> {
        let context = |it: &Repeat| it.seal.seal(&envelope(data), &it.claim.request, it.nonce);
        self.repeat.as_ref().map(context).unwrap_or_default()
    }

    /// What was done now, or the answer from when it was done.
    pub fn once<T, R: Serialize>(&self, done: Once<T>, render: impl FnOnce(&T) -> R) -> Outcome<Answer> {
        match done {
            Once::Fresh(it) => Ok(Answer::serialized(&render(&it))),
            Once::Replay(sealed) => {
                let opened = self.repeat.as_ref().and_then(|it| it.seal.open(&sealed, &it.claim.request));
                opened.map(|bytes| Answer::json(bytes.into())).ok_or_else(|| {
                    Problem::new(Code::Conflict, "This was done before, and its answer can't be read again.")
                })
            }
        }
    }

    /// An instant in the query.
    pub fn query_instant(&self, name: &str) -> Outcome<Option<Timestamp>> {
        let read = |text: &str| {
            text.parse().map_err(|error: InvalidTimestamp| Problem::query(name, error.to_string()))
        };
        self.query.get(name).map(read).transpose()
    }

    /// An instant in the body.
    pub fn instant(&self, pointer: &str, text: &str) -> Outcome<Timestamp> {
        text.parse().map_err(|error: InvalidTimestamp| Problem::body(pointer, error.to_string()))
    }
}

/// An instant in JSON; null for never and for none.
pub fn instant(at: impl Into<Option<Timestamp>>) -> Value {
    at.into().and_then(Timestamp::unless_never).map_or(Value::Null, |at| at.to_string().into())
}

/// A member of a body that may be absent, null or a value.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    serde::Deserialize::deserialize(deserializer).map(Some)
}
