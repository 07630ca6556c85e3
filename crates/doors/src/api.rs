//! Our own API: facts, authorization, limits of the body, handler, answer.

use crate::answers::Answers;
use crate::request_id::RequestId;
use bytes::Bytes;
use flowyte_contract::{Api, BodyError, Checks};
use flowyte_core::address::AddressBlock;
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::limit::Quota;
use flowyte_core::{
    CredentialKind, Denial, OperationIndex, Permit, Principal, RequestFacts, credential_id, path,
};
use flowyte_http::answer::{Answer, Body, full};
use flowyte_http::bodies::{Bodies, PUBLIC_BYTES, Room};
use flowyte_http::call::{Permitted, Repeat};
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_http::route::{Extension, Route, Unauthorized, Work, bind};
use flowyte_http::settings::Settings;
use flowyte_http::shares::Holder;
use flowyte_http::wire::{HeadRefusal, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use flowyte_store::audit::AuditAction;
use flowyte_store::labour::{Bounds, Slot, Slots, Undone};
use flowyte_store::{Actor, AuditContext, InLane, Lane, Store};
use flowyte_verifier::Verifier;
use flowyte_verifier::meter::Meter;
use flowyte_verifier::usage::{ALLOWED, CredentialRef};
use flowyte_verifier::warrant::{Asked, Warrant};
use futures_util::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{Cursor, Write};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A body up to so many bytes is checked at once.
const QUICK_BYTES: usize = 16 << 10;

/// Which organization the caller believes to act in.
const MEANT_ORGANIZATION: HeaderName = HeaderName::from_static("flowyte-organization");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// An organization does one dear thing at once; its others wait, and a few of its own only.
const DEAR: Bounds =
    Bounds { at_once: 4, each: 1, waiting: 256, waiting_each: 32, patience: Duration::from_secs(10) };

/// Long bodies that are held against the contract at once. What is wrong with one may take many times its size to say.
const LONG_BODIES: Bounds =
    Bounds { at_once: 2, each: 1, waiting: 1_024, waiting_each: 64, patience: Duration::from_secs(10) };

/// Documents beside the API: pages for people, files that they need, the OpenAPI document.
pub trait Pages: Send + Sync {
    /// What stands at a path; `None` where there is nothing.
    fn find(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Outcome<Answer>>;

    /// For a browser that opens an address where nothing is.
    fn missing(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Answer>;
}

/// The door of our own API.
pub struct ApiDoor {
    settings: Settings,
    /// The contract in its compiled form, with the checks of requests.
    api: Api,
    /// By operation; `None` where it is reserved.
    routes: Vec<Option<Route>>,
    pages: Box<dyn Pages>,
    extensions: Vec<Box<dyn Extension>>,
    /// The verifier, which every request is authorized by.
    pub verifier: Arc<Verifier>,
    /// Memory for the bodies of requests.
    pub bodies: Bodies,
    /// Operations that take a core for a while, by organization.
    dear: Slots<OrganizationId>,
    /// Checks of long bodies, by who sent them.
    checks: Slots<Holder>,
    /// Secret keys met in browsers: one audit event a day each.
    browser_keys: Meter,
    answers: Answers,
}

impl ApiDoor {
    /// Opens it; the contract and the routes must name the same operations.
    pub fn new(
        settings: Settings,
        api: Api,
        routes: &[Route],
        pages: Box<dyn Pages>,
        extensions: Vec<Box<dyn Extension>>,
        verifier: Arc<Verifier>,
    ) -> Result<Arc<Self>, Vec<String>> {
        Ok(Arc::new(Self {
            routes: bind(&api.contract, routes)?,
            bodies: Bodies::new(settings.body_memory),
            dear: Slots::new("reports", DEAR),
            checks: Slots::new("bodies", LONG_BODIES),
            browser_keys: Meter::new(1, flowyte_core::time::DAY),
            answers: Answers::new(api.contract.operations().iter().map(|it| it.id.clone())),
            settings,
            api,
            pages,
            extensions,
            verifier,
        }))
    }

    /// The caller's address: the peer's, or the last one in the `X-Forwarded-For` fields that no trusted proxy stands for.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all(FORWARDED_FOR).iter().map(|it| it.to_str().unwrap_or_default());
        client(&self.settings.trusted_proxies, peer, forwarded)
    }
}

/// The address that stands behind a peer and what `X-Forwarded-For` says of it.
pub fn client<'h>(
    trusted_proxies: &[AddressBlock],
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'h str>,
) -> IpAddr {
    let trusted = |address: IpAddr| trusted_proxies.iter().any(|block| block.contains(address));
    let mut client = peer;
    for hop in forwarded.rev().flat_map(|field| field.rsplit(',')) {
        if !trusted(client) {
            break;
        }
        match hop.trim().parse() {
            Ok(address) => client = address,
            Err(_) => break,
        }
    }
    flowyte_core::address::canonical(client)
}

/// What the answer needs besides itself, gathered on the way.
#[derive(Default)]
struct Trace {
    operation: Option<usize>,
    credential: Option<CredentialRef>,
    /// Whether the decision and the limits let it through.
    permitted: bool,
    quota: Option<Quota>,
    /// The origin to name in CORS fields: one that the credential lists, on an operation that browsers call.
    origin: Option<String>,
}

/// Answers one request, whatever happens: a panic on the way is a fault of ours and answers 500.
pub async fn serve(
    api: Arc<ApiDoor>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let request_id = RequestId::new(&*api.verifier.entropy);
    // Boxed, because it is large, and is moved some times before it begins.
    let response = Box::pin(respond(&api, request, peer, &request_id));
    // What a request changes is changed by the database or in one go, so nothing half-changed is left behind.
    let response = AssertUnwindSafe(response).catch_unwind().await;
    Ok(response.unwrap_or_else(|_| {
        let problem = Problem::internal();
        let (request_id, status) = (request_id.as_str(), problem.code().status());
        tracing::error!(request_id, status, address = %peer.ip(), "answering panicked");
        let mut response = refusal(&api, &problem, request_id).map(full);
        add_common_headers(&mut response, &Trace::default(), request_id);
        response
    }))
}

async fn respond(
    api: &Arc<ApiDoor>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    request_id: &RequestId,
) -> Response<Body> {
    let begun = Instant::now();
    let request_id = request_id.as_str();
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let parts = Arc::new(parts);
    let address = api.client(peer.ip(), &parts.headers);
    let mut trace = Trace::default();
    let outcome = answer(api, Received { parts: &parts, body, upgrade, address }, &mut trace).await;

    let outcome = outcome.and_then(|mut answer| {
        let (caller, done) = (trace.credential.map(|it| (it.kind, it.organization)), !parts.method.is_safe());
        answer.own().map_or(Ok(()), |bytes| api.bodies.hold(bytes, caller, address, done))?;
        Ok(answer)
    });
    let route = trace.operation.and_then(|index| api.routes[index].as_ref());
    let outcome = outcome.map_err(|problem| match route {
        Some(route) => (route.refused)(problem),
        None => problem,
    });
    let code = outcome.as_ref().err().map(Problem::code);
    count_usage(api, &trace, code, address);
    let mut response = match outcome {
        Ok(answer) => {
            let declared = trace.operation.map_or(200, |index| api.api.checks[index].success_status);
            answer.response(StatusCode::from_u16(declared).unwrap_or(StatusCode::OK))
        }
        Err(problem) => refusal(api, &problem, request_id).map(full),
    };
    add_common_headers(&mut response, &trace, request_id);
    if parts.method == Method::HEAD {
        remove_body(&mut response);
    }
    let status = response.status().as_u16();
    let took = begun.elapsed();
    api.answers.count(trace.operation, status, code, took);
    tracing::info!(
        request_id,
        operation = trace.operation.map_or("-", |index| api.api.contract.operations()[index].id.as_str()),
        status,
        code = code.map_or("", Code::as_str),
        organization = trace.credential.map(|it| display(it.organization)),
        credential = trace.credential.map(|it| display(credential_id(it.kind, it.id))),
        address = %address,
        micros = took.as_micros() as u64,
        "answered"
    );
    response
}

/// What a handler refuses was permitted, but an id of another organization counts as the attempt that it was.
fn count_usage(api: &ApiDoor, trace: &Trace, code: Option<Code>, address: IpAddr) {
    let (Some(credential), Some(index)) = (trace.credential, trace.operation) else { return };
    let outcome = match code {
        Some(code) if !trace.permitted || code == Code::NotFound => code.as_str(),
        _ => ALLOWED,
    };
    api.verifier.usage.count(credential, index, outcome, api.verifier.now(), address);
}

fn refusal(api: &ApiDoor, problem: &Problem, request_id: &str) -> Response<Bytes> {
    let mut response = problem.response(&api.verifier.public_url, request_id);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to a head that never became a request.
pub fn refuse(api: &ApiDoor, refused: HeadRefusal, peer: SocketAddr) -> Response<Bytes> {
    let problem = match refused {
        HeadRefusal::Malformed { detail } => Problem::new(Code::MalformedRequest, detail),
        HeadRefusal::MethodNotAllowed => tunnel(),
        HeadRefusal::TooLarge => too_many_fields(),
        HeadRefusal::Crowded => {
            let detail = "There are too many connections from this address.";
            Problem::new(Code::RateLimited, detail).retry_after(5)
        }
        HeadRefusal::Timeout => {
            Problem::new(Code::RequestTimeout, "The head of the request was not complete in time.")
        }
    };
    let request_id = RequestId::new(&*api.verifier.entropy);
    let request_id = request_id.as_str();
    tracing::info!(request_id, code = problem.code().as_str(), address = %peer.ip(), "refused a request head");
    let mut response = refusal(api, &problem, request_id);
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        response.headers_mut().insert(header::DATE, date);
    }
    add_common_headers(&mut response, &Trace::default(), request_id);
    response
}

fn tunnel() -> Problem {
    Problem::new(Code::MethodNotAllowed, "CONNECT is not supported.").allow(String::new())
}

fn too_many_fields() -> Problem {
    Problem::new(
        Code::HeadersTooLarge,
        "Too many header fields; at most 100 of them and 16 KiB altogether are accepted.",
    )
}

/// A request as it was received.
struct Received<'r> {
    parts: &'r Arc<Parts>,
    body: Incoming,
    upgrade: OnUpgrade,
    address: IpAddr,
}

/// One request, in a straight line.
async fn answer(api: &Arc<ApiDoor>, request: Received<'_>, trace: &mut Trace) -> Outcome<Answer> {
    let Received { parts, body, upgrade, address } = request;
    let contract = &api.api.contract;
    let raw_path = parts.uri.path();
    check_head(parts)?;
    if let Some(extension) = api.extensions.iter().find(|it| it.path() == raw_path) {
        let (bodies, credential) = (&api.bodies, &mut trace.credential);
        return extension.answer(Unauthorized { parts, body, bodies, upgrade, address, credential }).await;
    }
    path::check(raw_path).map_err(|why| Problem::denied(&Denial::AmbiguousPath(why), contract, None))?;
    if parts.method == Method::OPTIONS && is_preflight(&parts.headers) {
        return Ok(preflight(api, raw_path, &parts.headers));
    }
    if let Some(page) = api.pages.find(&parts.method, raw_path, &parts.headers) {
        return page;
    }
    let cookies = cookies(&parts.headers, api.verifier.cookie_name());
    let facts = facts(api, parts, &cookies, address);
    let authorization = api.verifier.authorize(&facts);
    let Some(matched) = &authorization.matched else {
        let denial = authorization.decision.err().unwrap_or(Denial::NotFound);
        let page = api.pages.missing(&parts.method, raw_path, &parts.headers);
        let page = page.filter(|_| matches!(denial, Denial::NotFound));
        return page.ok_or_else(|| Problem::denied(&denial, contract, None));
    };
    trace.operation = Some(matched.index);
    trace.credential = authorization.credential;
    trace.quota = authorization.quota;
    trace.origin = (matched.operation.cors && authorization.origin_listed)
        .then(|| facts.origin.one().unwrap_or("").to_owned());
    let refused = |denial: &Denial| Problem::denied(denial, contract, Some(matched.operation));
    let permit = authorization.decision.map_err(|denial| refused(&denial))?;
    same_organization(&permit, &parts.headers)?;
    trace.permitted = true;
    note_browser_key(api, &permit, &facts);

    let route = api.routes[matched.index].as_ref().ok_or_else(|| refused(&Denial::OperationReserved))?;
    let warrant = Warrant::new(api.verifier.clone(), route.class, Asked::of(&facts), &authorization);
    let warrant = warrant.map_err(|denial| refused(&denial))?;
    let (params, quota) = (matched.decoded_params(), authorization.quota);
    let permitted = check(api, route, warrant, quota, params, &facts, (parts, body)).await?;
    run((route.handler)(permitted)).await.map_err(|problem| match problem.denial() {
        // What the store says of a permit that ended meanwhile lacks the names that only the contract knows.
        Some(denial) => refused(&denial),
        None => problem,
    })
}

/// Runs a handler to its end, also where the caller leaves before: what it began is not dropped half-way. One that has to wait goes on in
/// a task of its own; to most questions there is an answer at once, and those are spared the way to another thread and back.
async fn run(mut work: Work) -> Outcome<Answer> {
    let first = poll_fn(|context| {
        // A panic is a fault of this request alone, as it would be in a task.
        Poll::Ready(catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))))
    });
    match first.await {
        Ok(Poll::Ready(outcome)) => outcome,
        Ok(Poll::Pending) => tokio::spawn(work).await.unwrap_or_else(|_| Err(Problem::internal())),
        Err(_) => Err(Problem::internal()),
    }
}

/// Reads the rest of a permitted request, holds it against the contract, and waits for its organization's turn where it costs much.
async fn check(
    api: &Arc<ApiDoor>,
    route: &Route,
    warrant: Warrant,
    quota: Option<Quota>,
    params: Vec<(String, String)>,
    facts: &RequestFacts<'_>,
    (parts, body): (&Arc<Parts>, Incoming),
) -> Outcome<Permitted> {
    let permit = *warrant.permit();
    let operation = &api.api.contract.operations()[permit.operation()];
    let checks = &api.api.checks[permit.operation()];
    if !checks.fits_path(&params) {
        return Err(Problem::not_found());
    }
    let query = checks.check_query(facts.query).map_err(Problem::invalid)?;
    let values = |name: &str| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let headers = checks.check_headers(values).map_err(Problem::invalid)?;
    let sent = read(api, &permit, &parts.headers, body, facts.address).await?;
    let (turn, warrant) = match permit.caller() {
        Some(caller) if route.is_dear(&query) => (Some(dear_turn(api, caller).await?), warrant.for_report()),
        _ => (None, warrant),
    };
    // The body or the turn may have taken its time, and the credential been revoked meanwhile.
    warrant.check_if_old().map_err(|denial| Problem::denied(&denial, &api.api.contract, Some(operation)))?;
    let repeat = match (headers.get("Idempotency-Key"), permit.caller()) {
        (Some(key), Some(caller)) => {
            let request =
                Sha256::new_with_prefix(facts.path).chain_update([0]).chain_update(&sent.bytes).finalize();
            Some(Repeat::new(&api.verifier, caller, operation, key, request.into(), permit.decided_at())?)
        }
        _ => None,
    };
    Ok(Permitted {
        verifier: api.verifier.clone(),
        warrant,
        head: parts.clone(),
        params,
        query,
        headers,
        body: sent.value,
        sent: sent.bytes,
        room: sent.room,
        turn,
        address: facts.address,
        now: permit.decided_at(),
        quota,
        repeat,
    })
}

/// What the guard checks of an HTTP/1 head; HTTP/2 has to be asked here.
fn check_head(parts: &Parts) -> Outcome<()> {
    if parts.method == Method::CONNECT {
        return Err(tunnel());
    }
    let target = parts.uri.path_and_query().map_or(0, |it| it.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Err(Problem::new(Code::MalformedRequest, "The request target is too long."));
    }
    if parts.version == Version::HTTP_2 {
        let bytes: usize =
            parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if parts.headers.len() > MAX_FIELDS || bytes + target > MAX_HEAD_BYTES {
            return Err(too_many_fields());
        }
    }
    Ok(())
}

fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| pair.trim_ascii_start().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .collect()
}

fn facts<'a>(api: &'a ApiDoor, parts: &'a Parts, cookies: &[&'a [u8]], address: IpAddr) -> RequestFacts<'a> {
    let field =
        |name: HeaderName| Field::collect(parts.headers.get_all(name).iter().map(HeaderValue::as_bytes));
    RequestFacts {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        authorization: field(header::AUTHORIZATION),
        session_cookie: Field::collect(cookies.iter().copied()),
        origin: field(header::ORIGIN),
        fetch_site: field(HeaderName::from_static("sec-fetch-site")),
        address,
        public_origin: &api.verifier.public_url,
    }
}

/// Refuses a request that was meant for another organization than the credential's: a page may show one while its session
/// has moved on to another.
fn same_organization(permit: &Permit, headers: &HeaderMap) -> Outcome<()> {
    let Some(caller) = permit.caller() else { return Ok(()) };
    let own = caller.organization();
    let meant = |value: &HeaderValue| value.to_str().ok().and_then(OrganizationId::parse) == Some(own);
    if headers.get_all(MEANT_ORGANIZATION).iter().all(meant) {
        return Ok(());
    }
    let detail = format!(
        "The request is meant for another organization than the one of this {}.",
        caller.kind().as_str().replace('_', " ")
    );
    Err(Problem::new(Code::Conflict, detail).with("organizationId", own.to_string().into()))
}

/// A secret key that comes from a web page is in every visitor's hands: its owner should know. Our own pages are another matter: there a
/// member pastes a key of theirs, and the page says what that means.
fn note_browser_key(api: &Arc<ApiDoor>, permit: &Permit, facts: &RequestFacts<'_>) {
    let Some(caller) = permit.caller().filter(|it| it.kind() == CredentialKind::SecretKey) else { return };
    // Some backends' fetch sends Sec-Fetch-Mode as well; only browsers say from which site.
    let own =
        facts.fetch_site.one() == Some("same-origin") || facts.origin.one() == Some(facts.public_origin);
    let from_browser = facts.origin != Field::None || facts.fetch_site != Field::None;
    let now = permit.decided_at();
    if own || !from_browser || api.browser_keys.take(caller.credential(), api.verifier.pulse()).is_err() {
        return;
    }
    let address = facts.address;
    let (store, organization, id) =
        (api.verifier.store.clone(), caller.organization(), caller.credential_id());
    tokio::spawn(async move {
        let actor = Actor { kind: "secret_key", id: id.clone(), name: String::new() };
        let by = AuditContext { actor, address: address.to_string(), now };
        let deed = AuditAction {
            action: "api_key.used_in_browser",
            kind: "api_key",
            id,
            name: "",
            details: json!({}),
        };
        let store: &dyn Store = &InLane(&*store, Lane::product(organization));
        if let Err(error) = store.audit_only(organization, &by, deed).await {
            tracing::warn!(%error, "a secret key in a browser could not be recorded");
        }
    });
}

/// The body of a request after it was read and checked; empty where the operation takes none.
#[derive(Default)]
struct Sent {
    /// As JSON; null where there is none, and where it is something else.
    value: Value,
    bytes: Bytes,
    room: Option<Room>,
}

/// Reads and checks the body where the operation takes one.
async fn read(
    api: &Arc<ApiDoor>,
    permit: &Permit,
    headers: &HeaderMap,
    body: Incoming,
    address: IpAddr,
) -> Outcome<Sent> {
    let checks = &api.api.checks[permit.operation()];
    if !checks.has_body {
        return Ok(Sent::default());
    }
    let empty = http_body::Body::is_end_stream(&body);
    if !empty || checks.body_required {
        check_media_type(checks, headers)?;
    }
    let caller = permit.caller();
    let usual = api.settings.max_body_bytes;
    let least = if caller.is_none() { usual.min(PUBLIC_BYTES) } else { usual };
    let most = checks.max_body_bytes.map_or(least, |it| it as usize);
    let mut room = api.bodies.room(caller, address, headers)?;
    let size = http_body::Body::size_hint(&body);
    let long = most > usual && size.upper().is_none_or(|it| it > usual as u64);
    if let (true, Some(caller)) = (long && size.lower() <= most as u64, caller) {
        api.bodies.long(&mut room, caller, address).await?;
    }
    let bytes = room.read(body, most).await?;
    if !checks.takes_json() {
        return Ok(Sent { value: Value::Null, bytes, room: Some(room) });
    }
    room.grow(bytes.len())?;
    let sender =
        caller.map_or_else(|| Holder::address(address), |it| Holder::Organization(it.organization()));
    let value = check_body(api, permit.operation(), sender, &bytes).await?.map_err(|error| match error {
        BodyError::Syntax(why) => {
            Problem::new(Code::MalformedRequest, format!("The body is not valid JSON: {why}."))
        }
        BodyError::Invalid(errors) => Problem::invalid(errors),
    })?;
    Ok(Sent { value, bytes, room: Some(room) })
}

/// Holds a body against the contract, a long one beside the requests.
async fn check_body(
    api: &Arc<ApiDoor>,
    operation: OperationIndex,
    sender: Holder,
    bytes: &Bytes,
) -> Outcome<Result<Value, BodyError>> {
    if bytes.len() <= QUICK_BYTES {
        return Ok(api.api.checks[operation].check_body(bytes));
    }
    let (door, bytes) = (api.clone(), bytes.clone());
    let check = move || door.api.checks[operation].check_body(&bytes);
    api.checks.labour(sender, check).await.map_err(|undone| match undone {
        Undone::Crowded => {
            let detail = "Too many long bodies of yours are waiting to be checked; send fewer at once.";
            Problem::new(Code::RateLimited, detail).retry_after(2)
        }
        Undone::Panicked => {
            tracing::error!("checking a body panicked");
            Problem::new(Code::InternalError, "The body could not be checked.")
        }
    })
}

/// Waits for an organization's turn at an operation that takes a core for a while.
async fn dear_turn(api: &ApiDoor, caller: &Principal) -> Outcome<Slot<OrganizationId>> {
    api.dear.take(caller.organization()).await.map_err(|_| {
        let detail =
            "Too many slow requests of your organization are running; wait until one of them has finished.";
        Problem::new(Code::RateLimited, detail).retry_after(5)
    })
}

/// One Content-Type, the contract's, with no parameter but `charset=utf-8`, or the boundary of a multipart body; and no
/// Content-Encoding.
fn check_media_type(checks: &Checks, headers: &HeaderMap) -> Outcome<()> {
    let wanted = checks.content_type.as_deref().unwrap_or("application/json");
    let mut sent = headers.get_all(header::CONTENT_TYPE).iter();
    let one = match (sent.next().and_then(|it| it.to_str().ok()), sent.next()) {
        (Some(one), None) => one,
        _ => "",
    };
    let (essence, parameters) =
        one.split_once(';').map_or((one, ""), |(essence, rest)| (essence, rest.trim()));
    let fits = match (checks.takes_json(), parameters.to_ascii_lowercase().as_str()) {
        (true, parameters) => matches!(parameters, "" | "charset=utf-8" | "charset=\"utf-8\""),
        (false, parameters) => parameters.starts_with("boundary="),
    };
    if essence.trim().eq_ignore_ascii_case(wanted) && fits && !headers.contains_key(header::CONTENT_ENCODING)
    {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("Send the body as {wanted}, not compressed.")))
}

fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight (Fetch §4.8). It carries no credential, so the origin must be listed by some active publishable
/// key; every other origin and path gets the same answer without a CORS field.
fn preflight(api: &ApiDoor, raw_path: &str, headers: &HeaderMap) -> Answer {
    let field = |name: HeaderName| Field::collect(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    let origin = field(header::ORIGIN).one().filter(|origin| api.verifier.replica.lists_origin(origin));
    let wanted = field(header::ACCESS_CONTROL_REQUEST_METHOD).one().unwrap_or("");
    let mut called = api.api.contract.operations_at(raw_path).filter(|it| it.cors);
    let answer = Answer::no_content();
    match (origin.and_then(|it| HeaderValue::from_str(it).ok()), called.find(|it| it.method == wanted)) {
        (Some(origin), Some(operation)) => answer
            .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .header(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_str(&operation.method).unwrap_or(HeaderValue::from_static("GET")),
            )
            .header(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("authorization, content-type, idempotency-key"),
            )
            .header(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
        _ => answer,
    }
}

/// Header fields that every answer has.
fn add_common_headers<B>(response: &mut Response<B>, trace: &Trace, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(quota) = trace.quota {
        headers.insert(RATELIMIT_POLICY, short(format_args!("\"default\";q={};w=60", quota.limit)));
        let left = format_args!("\"default\";r={};t={}", quota.remaining, quota.reset_seconds);
        headers.insert(RATELIMIT, short(left));
    }
    if let Some(Ok(origin)) = trace.origin.as_deref().map(HeaderValue::from_str) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, retry-after, ratelimit, ratelimit-policy");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// A short value, written without a text on the way.
fn short(value: std::fmt::Arguments<'_>) -> HeaderValue {
    let mut text = Cursor::new([0; 64]);
    // There is room for two numbers and what stands around them.
    let _ = text.write_fmt(value);
    let length = text.position() as usize;
    HeaderValue::from_bytes(&text.get_ref()[..length]).unwrap_or(HeaderValue::from_static(""))
}

/// The same answer without its body, for HEAD.
fn remove_body(response: &mut Response<Body>) {
    if let Some(length) = http_body::Body::size_hint(response.body()).exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = full(Bytes::new());
}
