//! Where I/O meets the decision: facts, operation, credential, look-up, decision, limits, body, handler, answer.

use crate::answer::{Answer, Body, full};
use crate::app::App;
use crate::bodies::{PUBLIC_BYTES, Room};
use crate::call::{Call, Repeat};
use crate::devices;
use crate::handlers::{completions, is_dear};
use crate::hooks;
use crate::meter::neighbourhood;
use crate::problem::{Code, Outcome, Problem};
use crate::realtime;
use crate::replica::boot_time;
use crate::site;
use crate::usage::{ALLOWED, Whose};
use crate::warrant::{Asked, Warrant};
use crate::wire::{HeadRefusal, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use bytes::Bytes;
use flowyte_contract::{BodyError, Checks};
use flowyte_core::contract::Matched;
use flowyte_core::credential::present;
use flowyte_core::facts::Field;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::limit::{Limited, Quota};
use flowyte_core::{
    CredentialKind, Denial, Digest, Lookup, OperationIndex, Permit, Presented, Principal, Record,
    RequestFacts, Timestamp, credential_id, decide, path,
};
use flowyte_store::audit::Deed;
use flowyte_store::labour::{Turn, labour};
use flowyte_store::{Actor, InLane, Lane, Store};
use futures_util::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A body up to so many bytes is checked at once.
const QUICK_BYTES: usize = 64 << 10;
/// A permit older than this when the body is there is made anew.
const PERMIT_LIFE: Duration = Duration::from_secs(1);
/// The longest `User-Agent` that is kept.
const USER_AGENT_CHARS: usize = 256;

/// Which organization the caller believes to act in.
const MEANT_ORGANIZATION: HeaderName = HeaderName::from_static("flowyte-organization");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the answer needs besides itself, gathered on the way.
#[derive(Default)]
struct Trace {
    operation: Option<usize>,
    whose: Option<Whose>,
    /// Whether the decision and the limits let it through.
    permitted: bool,
    quota: Option<Quota>,
    /// The origin to name in CORS fields: one that the credential lists, on an operation that browsers call.
    origin: Option<String>,
}

/// Answers one request, whatever happens: a panic on the way is a fault of ours and answers 500.
pub async fn serve(
    app: Arc<App>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let request_id = request_id(&app);
    // What a request changes is changed by the database or in one go, so nothing half-changed is left behind.
    let response = AssertUnwindSafe(respond(&app, request, peer, &request_id)).catch_unwind().await;
    Ok(response.unwrap_or_else(|_| {
        let problem = panicked();
        tracing::error!(request_id, status = problem.code().status(), address = %peer.ip(), "answering panicked");
        let mut response = problem.response(&app.config.public_url, &request_id).map(full);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        dress(&mut response, &Trace::default(), &request_id);
        response
    }))
}

/// What is answered where code of ours panicked; the log says where.
fn panicked() -> Problem {
    Problem::new(
        Code::InternalError,
        "Something went wrong on the server. The operator finds the cause in the log, under the request id.",
    )
}

async fn respond(
    app: &Arc<App>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    request_id: &str,
) -> Response<Body> {
    let begun = Instant::now();
    let upgrade = (request.uri().path() == realtime::PATH).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let forwarded = parts.headers.get_all("x-forwarded-for").iter().map(|it| it.to_str().unwrap_or_default());
    let address = app.config.client(peer.ip(), forwarded);
    let mut trace = Trace::default();
    let outcome = match upgrade {
        Some(upgrade) => realtime::open(app, &parts, upgrade, address, &mut trace.whose).await,
        None => answer(app, &parts, body, address, &mut trace).await,
    };

    let outcome = outcome.and_then(|mut answer| {
        let (caller, done) = (trace.whose.map(|it| (it.kind, it.organization)), !parts.method.is_safe());
        answer.own().map_or(Ok(()), |bytes| app.bodies.hold(bytes, caller, address, done))?;
        Ok(answer)
    });
    let operation = trace.operation.map_or("-", |index| app.api.contract().operations()[index].id.as_str());
    let code = outcome.as_ref().err().map(Problem::code);
    if let (Some(whose), Some(index)) = (trace.whose, trace.operation) {
        // What a handler refuses was permitted, but an id of another organization counts as the attempt that it was.
        let outcome = match code {
            Some(code) if !trace.permitted || code == Code::NotFound => code.as_str(),
            _ => ALLOWED,
        };
        app.usage.count(whose, index, outcome, app.now(), address);
    }
    let mut response = match outcome {
        Ok(answer) => {
            let declared = trace.operation.map_or(200, |index| app.api.checks[index].success_status);
            answer.response(StatusCode::from_u16(declared).unwrap_or(StatusCode::OK))
        }
        Err(mut problem) => {
            if completions::OPERATIONS.contains(&operation) {
                let error = problem.openai();
                problem = problem.with("error", error);
            }
            let mut response = problem.response(&app.config.public_url, request_id).map(full);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    };
    dress(&mut response, &trace, request_id);
    if parts.method == Method::HEAD {
        bare(&mut response);
    }
    let status = response.status().as_u16();
    let took = begun.elapsed();
    app.answers.count(trace.operation, status, code, took);
    tracing::info!(
        request_id,
        operation,
        status,
        code = code.map_or("", Code::as_str),
        organization = trace.whose.map(|it| display(it.organization)),
        credential = trace.whose.map(|it| display(credential_id(it.kind, it.id))),
        address = %address,
        micros = took.as_micros() as u64,
        "answered"
    );
    response
}

/// The answer to a head that never became a request.
pub fn refuse(app: &App, refusal: HeadRefusal, peer: SocketAddr) -> Response<Bytes> {
    let problem = match refusal {
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
    let request_id = request_id(app);
    tracing::info!(request_id, code = problem.code().as_str(), address = %peer.ip(), "refused a request head");
    let mut response = problem.response(&app.config.public_url, &request_id);
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    dress(&mut response, &Trace::default(), &request_id);
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

/// One request, in a straight line.
async fn answer(
    app: &Arc<App>,
    parts: &Parts,
    body: Incoming,
    address: IpAddr,
    trace: &mut Trace,
) -> Outcome<Answer> {
    let contract = app.api.contract();
    check_head(parts)?;
    let raw_path = parts.uri.path();
    path::check(raw_path).map_err(|why| Problem::denied(&Denial::AmbiguousPath(why), contract, None))?;
    if parts.method == Method::OPTIONS && is_preflight(&parts.headers) {
        return Ok(preflight(app, raw_path, &parts.headers));
    }
    if let Some(page) = site::find(app, &parts.method, raw_path, &parts.headers) {
        return page;
    }
    if raw_path == hooks::PAYMENTS {
        return hooks::payments(app, parts, body, address).await;
    }
    let cookies = cookies(&parts.headers, app.cookie_name());
    let facts = facts(app, parts, &cookies, address);
    let matched = match contract.find(facts.method, facts.path) {
        Ok(matched) => matched,
        Err(denial) => {
            let page = site::missing(&parts.method, raw_path, &parts.headers);
            let page = page.filter(|_| matches!(denial, Denial::NotFound));
            return page.ok_or_else(|| Problem::denied(&denial, contract, None));
        }
    };
    trace.operation = Some(matched.index);
    let refused = |denial: &Denial| Problem::denied(denial, contract, Some(matched.operation));
    let (now, decided) = (app.now(), boot_time());
    let presented = match present(&app.config.brand, matched.operation, &facts) {
        Ok(presented) => presented,
        Err(denial) => return Err(stranger(app, &denial, address, refused(&denial))),
    };
    let verdict = judge(app, &matched, presented.as_ref(), &facts, now, true);
    trace.whose = verdict.whose;
    trace.quota = verdict.quota;
    trace.origin = (matched.operation.cors && verdict.origin_listed)
        .then(|| facts.origin.one().unwrap_or("").to_owned());
    let permit = verdict.permit.map_err(|denial| stranger(app, &denial, address, refused(&denial)))?;
    if let Some(limited) = verdict.limited {
        trace.quota = Some(limited.quota);
        return Err(Problem::limited(limited));
    }
    same_organization(&permit, &parts.headers)?;
    trace.permitted = true;
    note_browser_key(app, &permit, &facts, now);

    let checks = &app.api.checks[matched.index];
    let params = matched.decoded_params();
    if !checks.fits_path(&params) {
        return Err(Problem::not_found());
    }
    let query = checks.check_query(facts.query).map_err(Problem::invalid)?;
    let values = |name: &str| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let headers = checks.check_headers(values).map_err(Problem::invalid)?;
    let begun = Instant::now();
    let sent = read(app, &permit, matched.index, &parts.headers, body, address).await?;
    let turn = match permit.caller() {
        Some(caller) if is_dear(&matched.operation.id, &query) => Some(dear_turn(app, caller).await?),
        _ => None,
    };
    if begun.elapsed() > PERMIT_LIFE {
        // The body or the turn took its time, and the credential may have been revoked meanwhile.
        judge(app, &matched, presented.as_ref(), &facts, app.now(), false)
            .permit
            .map_err(|it| refused(&it))?;
    }
    let repeat = match (headers.get("Idempotency-Key"), permit.caller()) {
        (Some(key), Some(caller)) => {
            let request =
                Sha256::new_with_prefix(raw_path).chain_update([0]).chain_update(&sent.bytes).finalize();
            Some(Repeat::new(app, caller, matched.operation, key, request.into(), now)?)
        }
        _ => None,
    };
    let Some(handler) = app.handlers[matched.index] else {
        return Err(refused(&Denial::OperationReserved));
    };
    let user_agent =
        parts.headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let call = Call {
        app: app.clone(),
        operation: matched.index,
        permit,
        warrant: Warrant::new(
            app.clone(),
            matched.index,
            Asked::of(parts, address),
            verdict.digest,
            permit,
            decided,
        ),
        digest: verdict.digest,
        params,
        query,
        headers,
        uri: parts.uri.clone(),
        body: sent.value,
        sent: sent.bytes,
        content_type: sent.content_type,
        room: sent.room,
        turn,
        origin: facts.origin.one().map(str::to_owned),
        user_agent: user_agent.chars().take(USER_AGENT_CHARS).collect(),
        devices: devices::sent(app, &parts.headers),
        address,
        now,
        quota: verdict.quota,
        repeat,
    };
    // In a task of its own: what a handler began is not dropped half-way because its caller went.
    let outcome = tokio::spawn(handler(call)).await.unwrap_or_else(|_| Err(panicked()));
    outcome.map_err(|problem| match problem.denial() {
        // What the store says of a permit that ended meanwhile lacks the names that only the contract knows.
        Some(denial) => refused(&denial),
        None => problem,
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

fn facts<'a>(app: &'a App, parts: &'a Parts, cookies: &[&'a [u8]], address: IpAddr) -> RequestFacts<'a> {
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
        public_origin: &app.config.public_url,
    }
}

/// What a decision found out on its way.
struct Verdict {
    permit: Result<Permit, Denial>,
    whose: Option<Whose>,
    digest: Option<Digest>,
    quota: Option<Quota>,
    limited: Option<Limited>,
    origin_listed: bool,
}

/// Looks the credential up under each active pepper and decides. `charge`: whether it counts against the limits.
fn judge(
    app: &App,
    matched: &Matched<'_, '_>,
    presented: Option<&Presented<'_>>,
    facts: &RequestFacts<'_>,
    now: Timestamp,
    charge: bool,
) -> Verdict {
    let nobody = |permit| Verdict {
        permit,
        whose: None,
        digest: None,
        quota: None,
        limited: None,
        origin_listed: false,
    };
    if let Some(presented) = presented {
        for digest in app.peppers.digests(presented.body()) {
            let verdict = app.replica.with(&digest, |lookup| match lookup {
                Lookup::Unknown => None,
                Lookup::Unavailable => Some(nobody(Err(Denial::VerificationUnavailable))),
                Lookup::Found(record) => {
                    let mut verdict = nobody(decide(matched, Some(presented), lookup, facts, now));
                    if !matches!(verdict.permit, Err(Denial::InvalidCredential)) {
                        (verdict.whose, verdict.digest) = (Some(whose(record, digest)), Some(digest));
                        verdict.origin_listed = lists(record, facts);
                    }
                    if charge && verdict.permit.is_ok() {
                        match charge_limits(app, record, now) {
                            Ok(quota) => verdict.quota = Some(quota),
                            Err(limited) => verdict.limited = Some(limited),
                        }
                    }
                    Some(verdict)
                }
            });
            if let Some(verdict) = verdict {
                return verdict;
            }
        }
    }
    nobody(decide(matched, presented, Lookup::Unknown, facts, now))
}

/// Whom the log and the usage name for a record.
pub(crate) fn whose(record: &Record<'_>, digest: Digest) -> Whose {
    Whose {
        organization: record.organization.id,
        kind: record.kind,
        id: record.id,
        secret: (record.kind == CredentialKind::SecretKey).then_some(digest),
        superseded: record.superseded,
    }
}

fn lists(record: &Record<'_>, facts: &RequestFacts<'_>) -> bool {
    let origins = record.fence.map_or(&[][..], |fence| &fence.origins);
    facts.origin.one().is_some_and(|origin| origins.iter().any(|listed| listed.matches(origin)))
}

/// Takes one request from the key's limit and the organization's, and moves a session's idle clock.
pub(crate) fn charge_limits(app: &App, record: &Record<'_>, now: Timestamp) -> Result<Quota, Limited> {
    let fence = record.fence;
    if let Some(idle) = fence.and_then(|it| it.idle.as_ref()) {
        idle.touch(now);
    }
    let shared = &record.organization.limit;
    match fence.and_then(|it| it.limit.as_ref()) {
        Some(own) => own.take_both(shared, app.pulse()),
        None => shared.take(app.pulse()),
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

/// An invalid credential is charged to the address it came from; above the limit the answer says so.
fn stranger(app: &App, denial: &Denial, address: IpAddr, problem: Problem) -> Problem {
    match denial {
        Denial::InvalidCredential => match app.strangers.take(neighbourhood(address), app.pulse()) {
            Ok(()) => problem,
            Err(limited) => Problem::limited(limited),
        },
        _ => problem,
    }
}

/// A secret key that comes from a web page is in every visitor's hands: its owner should know. Our own pages are another matter: there a
/// member pastes a key of theirs, and the page says what that means.
fn note_browser_key(app: &Arc<App>, permit: &Permit, facts: &RequestFacts<'_>, now: Timestamp) {
    let Some(caller) = permit.caller().filter(|it| it.kind() == CredentialKind::SecretKey) else { return };
    // Some backends' fetch sends Sec-Fetch-Mode as well; only browsers say from which site.
    let own =
        facts.fetch_site.one() == Some("same-origin") || facts.origin.one() == Some(facts.public_origin);
    let from_browser = facts.origin != Field::None || facts.fetch_site != Field::None;
    if own || !from_browser || app.browser_keys.take(caller.credential(), app.pulse()).is_err() {
        return;
    }
    let address = facts.address;
    let (app, organization, id) = (app.clone(), caller.organization(), caller.credential_id());
    tokio::spawn(async move {
        let actor = Actor { kind: "secret_key", id: id.clone(), name: String::new() };
        let by = flowyte_store::By { actor, address: address.to_string(), now };
        let deed =
            Deed { action: "api_key.used_in_browser", kind: "api_key", id, name: "", details: json!({}) };
        let store: &dyn Store = &InLane(&*app.store, Lane::product(organization));
        if let Err(error) = store.audit_only(organization, &by, deed).await {
            tracing::warn!(%error, "a secret key in a browser could not be recorded");
        }
    });
}

/// A request's body.
#[derive(Default)]
struct Sent {
    /// As JSON; null where there is none, and where it is something else.
    value: Value,
    bytes: Bytes,
    content_type: String,
    room: Option<Room>,
}

/// Reads and checks the body where the operation takes one.
async fn read(
    app: &Arc<App>,
    permit: &Permit,
    operation: OperationIndex,
    headers: &HeaderMap,
    body: Incoming,
    address: IpAddr,
) -> Outcome<Sent> {
    let checks = &app.api.checks[operation];
    if !checks.has_body {
        return Ok(Sent::default());
    }
    let empty = http_body::Body::is_end_stream(&body);
    if !empty || checks.body_required {
        check_media_type(checks, headers)?;
    }
    let caller = permit.caller();
    let usual = app.config.max_body_bytes;
    let least = if caller.is_none() { usual.min(PUBLIC_BYTES) } else { usual };
    let most = checks.max_body_bytes.map_or(least, |it| it as usize);
    let mut room = app.bodies.room(caller, address, headers)?;
    let size = http_body::Body::size_hint(&body);
    let long = most > usual && size.upper().is_none_or(|it| it > usual as u64);
    if let (true, Some(caller)) = (long && size.lower() <= most as u64, caller) {
        app.bodies.long(&mut room, caller, address).await?;
    }
    let bytes = room.read(body, most).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let content_type = content_type.to_owned();
    if !checks.takes_json() {
        return Ok(Sent { value: Value::Null, bytes, content_type, room: Some(room) });
    }
    room.grow(bytes.len())?;
    let value = check_body(app, operation, &bytes).await?.map_err(|error| match error {
        BodyError::Syntax(why) => {
            Problem::new(Code::MalformedRequest, format!("The body is not valid JSON: {why}."))
        }
        BodyError::Invalid(errors) => Problem::invalid(errors),
    })?;
    Ok(Sent { value, bytes, content_type, room: Some(room) })
}

/// Holds a body against the contract, a long one beside the requests.
async fn check_body(
    app: &Arc<App>,
    operation: OperationIndex,
    bytes: &Bytes,
) -> Outcome<Result<Value, BodyError>> {
    if bytes.len() <= QUICK_BYTES {
        return Ok(app.api.checks[operation].check_body(bytes));
    }
    let (app, bytes) = (app.clone(), bytes.clone());
    labour(move || app.api.checks[operation].check_body(&bytes)).await.map_err(|error| {
        tracing::error!(%error, "checking a body failed");
        Problem::new(Code::InternalError, "The body could not be checked.")
    })
}

/// Waits for an organization's turn at an operation that takes a core for a while.
async fn dear_turn(app: &App, caller: &Principal) -> Outcome<Turn<OrganizationId>> {
    app.dear.take(caller.organization()).await.map_err(|_| {
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
fn preflight(app: &App, raw_path: &str, headers: &HeaderMap) -> Answer {
    let field = |name: HeaderName| Field::collect(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    let origin = field(header::ORIGIN).one().filter(|origin| app.replica.lists_origin(origin));
    let wanted = field(header::ACCESS_CONTROL_REQUEST_METHOD).one().unwrap_or("");
    let mut called = app.api.contract().operations_at(raw_path).filter(|it| it.cors);
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
fn dress<B>(response: &mut Response<B>, trace: &Trace, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(quota) = trace.quota {
        let policy = format!("\"default\";q={};w=60", quota.limit);
        let left = format!("\"default\";r={};t={}", quota.remaining, quota.reset_seconds);
        for (name, text) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
    if let Some(Ok(origin)) = trace.origin.as_deref().map(HeaderValue::from_str) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, retry-after, ratelimit, ratelimit-policy");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The same answer without its body, for HEAD.
fn bare(response: &mut Response<Body>) {
    if let Some(length) = http_body::Body::size_hint(response.body()).exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = full(Bytes::new());
}

fn request_id(app: &App) -> String {
    // A request without an id is still better than none.
    format!("req_{}", hex::encode(app.random::<16>().unwrap_or_default()))
}
