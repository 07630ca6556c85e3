//! The public documents beside the API: its description, its reference page, a page for each refusal, first steps.

use bytes::Bytes;
use flowyte_core::{Contract, CredentialKind, Operation, Requirement};
use flowyte_doors::api::Pages;
use flowyte_http::answer::Answer;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_verifier::authorize::cookie_name;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, X_FRAME_OPTIONS};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::sync::Arc;
#[cfg(feature = "dashboard")]
use {
    flate2::read::GzDecoder,
    http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY},
    std::collections::BTreeMap,
    std::io::Read,
    std::sync::Mutex,
};

/// Pages run no script but our own files, and nobody frames them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the OpenAPI document is: the only page beside the operations.
const DESCRIPTION: &str = "/api/v1/openapi.json";
const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("site/style.css");
const DOCS_SCRIPT: &str = include_str!("site/docs.js");
const DOCS_STYLE: &str = include_str!("site/docs.css");
const LLMS: &str = include_str!("site/llms.md");

/// The dashboard as `make run` built it. Without Node it is not there, and plain pages say what to call instead.
#[cfg(feature = "dashboard")]
#[derive(rust_embed::Embed)]
#[folder = "../../web/dashboard/dist"]
#[allow_missing = true]
struct Dashboard;

/// The widget's one script, as `make run` built it.
#[cfg(all(feature = "dashboard", feature = "product"))]
#[derive(rust_embed::Embed)]
#[folder = "../../web/widget/dist"]
#[allow_missing = true]
struct Widget;

/// First segments of the dashboard's own paths: its one page finds out the rest.
#[cfg(feature = "dashboard")]
const DASHBOARD: &[&str] = &[
    "",
    "setup",
    "signin",
    "signup",
    "invite",
    "recover",
    "developer",
    "members",
    "audit",
    "sessions",
    "reference",
    #[cfg(feature = "product")]
    "agents",
    #[cfg(feature = "product")]
    "numbers",
    #[cfg(feature = "product")]
    "wallet",
    #[cfg(feature = "product")]
    "conversations",
    #[cfg(feature = "product")]
    "analytics",
];

/// What the pages say of this server.
pub struct Site {
    public_url: String,
    contract: Arc<Contract>,
    /// The OpenAPI document, and the same as it is served.
    document: Value,
    served: Bytes,
}

impl Site {
    /// The pages of a server with this contract.
    pub fn new(document: Value, contract: Arc<Contract>, public_url: &str) -> Self {
        let served = served(&document, public_url);
        Self { public_url: public_url.to_owned(), contract, document, served }
    }
}

/// The document with the name of the session cookie that is in force here.
fn served(document: &Value, public_url: &str) -> Bytes {
    let mut document = document.clone();
    let schemes = document["components"]["securitySchemes"].as_object_mut();
    for scheme in schemes.into_iter().flat_map(Map::values_mut) {
        if scheme["x-credential"] == CredentialKind::Session.as_str() {
            scheme["name"] = cookie_name(public_url).into();
        }
    }
    document.to_string().into()
}

impl Pages for Site {
    fn find(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Outcome<Answer>> {
        // Nearly every request is for an operation, and the list of pages need not be looked through for it.
        if path.starts_with("/api/") && path != DESCRIPTION {
            return None;
        }
        let answer = dashboard(path, headers).or_else(|| document(self, path))?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let problem = Problem::new(Code::MethodNotAllowed, "This path takes GET, HEAD.");
            return Some(Err(problem.allow("GET, HEAD".into())));
        }
        Some(Ok(answer))
    }

    /// The dashboard, which says so and keeps its navigation. Programs get the problem.
    fn missing(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Answer> {
        let by_browser = matches!(*method, Method::GET | Method::HEAD) && accepts(headers, "text/html");
        if !by_browser || path.starts_with("/api/") {
            return None;
        }
        let mut answer = dashboard("/", headers)?;
        answer.status = Some(StatusCode::NOT_FOUND);
        Some(answer)
    }
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let named = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    named.map(|it| it.split(';').next().unwrap_or(it).trim()).any(|it| it.eq_ignore_ascii_case(media_type))
}

/// A file of the dashboard or the widget. The dashboard's assets have their content's hash in their name.
#[cfg(feature = "dashboard")]
fn dashboard(path: &str, headers: &HeaderMap) -> Option<Answer> {
    #[cfg(feature = "product")]
    if path == "/widget/loader.js" {
        // Pages name it without a version, so it is asked for again before long.
        return file::<Widget>("loader.js", headers, "public, max-age=300");
    }
    let name = path.strip_prefix('/')?;
    let page = DASHBOARD.contains(&name.split('/').next().unwrap_or(name));
    let name = if page { "index.html" } else { name };
    let caching = match name.split('/').next() {
        _ if page => "no-cache",
        Some("assets") => "public, max-age=31536000, immutable",
        Some("docs") => "public, max-age=86400",
        _ => return None,
    };
    file::<Dashboard>(name, headers, caching)
}

/// This binary was compiled without pages for people.
#[cfg(not(feature = "dashboard"))]
fn dashboard(_: &str, _: &HeaderMap) -> Option<Answer> {
    None
}

/// An embedded file, which is there compressed, but for the dashboard's page: sent so to whoever takes gzip.
#[cfg(feature = "dashboard")]
fn file<E: rust_embed::Embed>(name: &str, headers: &HeaderMap, caching: &'static str) -> Option<Answer> {
    let bytes = |file: rust_embed::EmbeddedFile| match file.data {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let packed = format!("{name}.gz");
    let (body, coding) = match E::get(&packed) {
        Some(file) if takes_gzip(headers) => (bytes(file), Some(HeaderValue::from_static("gzip"))),
        Some(file) => (unpacked(packed, &file.data)?, None),
        None if name.ends_with(".gz") => return None,
        None => (bytes(E::get(name)?), None),
    };
    let content_type = match name.rsplit('.').next() {
        Some("html") => HTML,
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt" | "docs/LICENSE" | "docs/NOTICE") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let mut answer = guarded(Answer::document(content_type, body))
        .header(CACHE_CONTROL, HeaderValue::from_static(caching))
        .header(VARY, HeaderValue::from_static("Origin, Accept-Encoding"));
    if let Some(coding) = coding {
        answer = answer.header(CONTENT_ENCODING, coding);
    }
    Some(answer)
}

#[cfg(feature = "dashboard")]
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .any(|coding| matches!(coding.trim().split_once(';').unwrap_or((coding.trim(), "")), ("gzip", rest) if rest.trim() != "q=0"))
}

/// The same for whoever does not take gzip, unpacked once: there are few such files, and two milliseconds of work in each.
#[cfg(feature = "dashboard")]
fn unpacked(name: String, packed: &[u8]) -> Option<Bytes> {
    static KNOWN: Mutex<BTreeMap<String, Bytes>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().ok()?;
    if let Some(bytes) = known.get(&name) {
        return Some(bytes.clone());
    }
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).ok()?;
    Some(known.entry(name).or_insert(bytes.into()).clone())
}

fn document(site: &Site, path: &str) -> Option<Answer> {
    match path {
        "/" => Some(page("Flowyte", &home())),
        "/setup" => Some(page("Set up", &setup(site))),
        "/invite" => Some(page("Accept an invite", &invite(site))),
        "/recover" => Some(page("Set a new password", &recover(site))),
        "/docs" if has_reference() => Some(html(docs())),
        "/docs" => Some(page("API reference", &no_reference())),
        "/docs/init.js" => {
            Some(asset("text/javascript; charset=utf-8", Bytes::from_static(DOCS_SCRIPT.as_bytes())))
        }
        "/docs/page.css" => Some(asset("text/css; charset=utf-8", Bytes::from_static(DOCS_STYLE.as_bytes()))),
        "/style.css" => Some(asset("text/css; charset=utf-8", Bytes::from_static(STYLE.as_bytes()))),
        "/llms.txt" => Some(plain("text/plain; charset=utf-8", llms(site))),
        DESCRIPTION => Some(plain("application/json", site.served.clone())),
        "/errors" => Some(page("Refusals", &errors())),
        _ => {
            let wanted = path.strip_prefix("/errors/")?;
            let code = Code::ALL.iter().find(|code| code.as_str() == wanted)?;
            Some(page(code.title(), &error(*code)))
        }
    }
}

fn plain(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    Answer::document(content_type, text).header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
}

fn asset(content_type: &'static str, bytes: Bytes) -> Answer {
    Answer::document(content_type, bytes)
        .header(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"))
}

fn html(text: String) -> Answer {
    guarded(plain(HTML, text))
}

fn guarded(answer: Answer) -> Answer {
    answer
        .header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
        .header(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))
}

/// A page of ours. `body` holds no text from outside.
fn page(title: &str, body: &str) -> Answer {
    html(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} · Flowyte</title><link rel=\"stylesheet\" href=\"/style.css\"></head>\n<body><main><h1>{title}</h1>\n{body}\
         </main></body></html>\n"
    ))
}

fn home() -> String {
    "<p>This is a Flowyte server: an API for AI chat and voice agents, and the credentials that open it.</p>\n\
     <ul><li><a href=\"/docs\">API reference</a></li><li><a href=\"/api/v1/openapi.json\">OpenAPI document</a></li>\
     <li><a href=\"/errors\">What each refusal means</a></li><li><a href=\"/llms.txt\">For language models</a></li></ul>\n\
     <p>This binary was compiled without the dashboard, which make run builds; everything works over HTTP.</p>\n"
        .to_owned()
}

fn setup(site: &Site) -> String {
    let url = &site.public_url;
    format!(
        "<p>This binary was compiled without the dashboard, so the set-up is one call. The token is what follows <code>#token=</code> in the \
         link that the server printed; it works once.</p>\n<pre>curl -c cookies.txt {url}/api/v1/auth/setup \\\n  \
         -H 'content-type: application/json' \\\n  -d '{{\"token\": \"…\", \"organizationName\": \"Example\", \"name\": \"Ada\", \
         \"email\": \"ada@example.com\", \"password\": \"…\"}}'</pre>\n<p>Then mint the first key with the session that this \
         opened:</p>\n<pre>curl -b cookies.txt {url}/api/v1/api-keys -H 'origin: {url}' \\\n  -H 'content-type: application/json' \
         \\\n  -d '{{\"name\": \"first\", \"scopes\": [\"agents:read\"]}}'</pre>\n<p>The <a href=\"/docs\">API reference</a> has the \
         rest.</p>\n"
    )
}

fn invite(site: &Site) -> String {
    let url = &site.public_url;
    format!(
        "<p>This binary was compiled without the dashboard, so joining is one call. The token is what follows <code>#token=</code> in your link. \
         Somebody who has an account here leaves out the name and gives its password.</p>\n\
         <pre>curl -c cookies.txt {url}/api/v1/auth/invites/accept \\\n  -H 'content-type: application/json' \\\n  \
         -d '{{\"token\": \"…\", \"name\": \"Grace\", \"password\": \"…\"}}'</pre>\n"
    )
}

fn recover(site: &Site) -> String {
    let url = &site.public_url;
    format!(
        "<p>This binary was compiled without the dashboard, so setting a new password is one call. The token is what follows \
         <code>#token=</code> in your link; it works once.</p>\n<pre>curl -c cookies.txt {url}/api/v1/auth/recovery \\\n  \
         -H 'content-type: application/json' \\\n  -d '{{\"token\": \"…\", \"password\": \"…\"}}'</pre>\n"
    )
}

fn docs() -> String {
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
     <title>API reference · Flowyte</title><link rel=\"stylesheet\" href=\"/docs/swagger-ui.css\"><link rel=\"stylesheet\" href=\"/docs/page.css\"></head>\n<body><div class=\"swagger-ui\"><div class=\"wrapper\">\
     <div class=\"info\" id=\"who\" role=\"status\"></div></div></div><div id=\"docs\">\
     <noscript>The reference needs JavaScript; <a href=\"/api/v1/openapi.json\">the OpenAPI document</a> does not.</noscript></div>\
     <script src=\"/docs/swagger-ui-bundle.js\"></script><script src=\"/docs/init.js\"></script></body></html>\n"
        .to_owned()
}

#[cfg(feature = "dashboard")]
fn has_reference() -> bool {
    Dashboard::iter().any(|it| it == "docs/swagger-ui-bundle.js.gz")
}

#[cfg(not(feature = "dashboard"))]
fn has_reference() -> bool {
    false
}

fn no_reference() -> String {
    "<p>This binary was compiled without the reference page, which make run builds. The <a href=\"/api/v1/openapi.json\">OpenAPI document</a> says \
     the same, for any viewer of such documents; <a href=\"/llms.txt\">llms.txt</a> has it in short.</p>\n"
        .to_owned()
}

fn errors() -> String {
    let row = |code: &Code| {
        let name = code.as_str();
        format!(
            "<tr><td><a href=\"/errors/{name}\"><code>{name}</code></a></td><td>{}</td><td>{}</td></tr>\n",
            code.status(),
            code.title()
        )
    };
    let rows: String = Code::ALL.iter().map(row).collect();
    format!(
        "<p>Every refusal is <code>application/problem+json</code> with one of these codes.</p>\n<table><tr><th>Code</th>\
             <th>Status</th><th>Title</th></tr>\n{rows}</table>\n"
    )
}

fn error(code: Code) -> String {
    let mut advice = String::new();
    for (index, part) in code.advice().split('`').enumerate() {
        match index % 2 {
            0 => advice.push_str(part),
            _ => drop(write!(advice, "<code>{part}</code>")),
        }
    }
    format!(
        "<p><code>{}</code>, HTTP {}</p>\n<p>{advice}</p>\n<p>The answer's <code>requestId</code> finds the request in the server's \
         log. <a href=\"/errors\">All refusals</a>.</p>\n",
        code.as_str(),
        code.status()
    )
}

/// The API for language models (llmstxt.org): what it is, how to get in, what can be called.
fn llms(site: &Site) -> String {
    let mut text = LLMS.replace("{url}", &site.public_url);
    for (kind, title) in [
        (CredentialKind::SecretKey, "Operations for a secret key"),
        (CredentialKind::PublishableKey, "Operations for a publishable key"),
        (CredentialKind::Visitor, "Operations for a visitor session"),
    ] {
        // Writing to a String can't fail.
        let _ = writeln!(text, "\n## {title}\n");
        for operation in site.contract.operations().iter().filter(|it| !it.reserved && it.takes(kind)) {
            let (summary, scopes) = (summary(site, operation), scopes(site, operation, kind));
            let _ = writeln!(text, "- `{} {}`: {summary}{scopes}", operation.method, operation.template);
        }
    }
    text
}

fn summary<'a>(site: &'a Site, operation: &Operation) -> &'a str {
    let path = operation.template.strip_prefix("/api/v1").unwrap_or(&operation.template);
    site.document["paths"][path][operation.method.to_ascii_lowercase()]["summary"].as_str().unwrap_or("")
}

fn scopes(site: &Site, operation: &Operation, kind: CredentialKind) -> String {
    let Requirement::Credential(alternatives) = operation.requirement() else { return String::new() };
    let sets: Vec<String> = alternatives
        .iter()
        .filter(|it| it.kind == kind && !it.scopes.is_empty())
        .map(|it| site.contract.scopes().names(it.scopes).join(" and "))
        .collect();
    if sets.is_empty() { String::new() } else { format!(" (scope {})", sets.join(" or ")) }
}
