//! Where a refusal becomes HTTP, and nowhere else: RFC 9457 problem documents with their status and header fields.

use crate::answer::{FIELDS, to_bytes};
use bytes::Bytes;
use flowyte_contract::FieldError;
use flowyte_core::denial::{CHALLENGE, INVALID_TOKEN, needed};
use flowyte_core::limit::Limited;
use flowyte_core::{Contract, CredentialKind, Denial, Operation, ScopeSet};
use flowyte_store::{DatabaseError, StoreError};
use flowyte_verifier::clock::NoEntropy;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};
use std::borrow::Cow;

macro_rules! codes {
    ($($variant:ident $code:literal $status:literal $title:literal $advice:literal;)*) => {
        /// The stable name of a refusal: what clients match on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All codes, in the order in which they are declared here.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it stands in `code`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The HTTP status, always the same for one code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// A short name for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What it means and what to do, for the page about it.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }
        }
    };
}

codes! {
    MalformedRequest "malformed_request" 400 "Malformed request"
        "The request is broken, or could be read in more than one way: a path with dot segments, empty segments or needless escapes, more than one credential, an invalid header, or a body that is not valid JSON. Nothing was done. `detail` says what to change.";
    ValidationError "validation_error" 400 "Validation failed"
        "The body, a parameter or a header is not as the API reference says. `errors` names each field and what is wrong with it.";
    IdempotencyKeyReused "idempotency_key_reused" 409 "Idempotency key reused"
        "This Idempotency-Key was already used for another request. Use a new key for a new request, and the same body for a repeated one.";
    MissingCredential "missing_credential" 401 "Credential required"
        "The operation needs a credential and none came. Send `Authorization: Bearer …` with a key; in the dashboard, sign in. A key in the URL or in another header is not read.";
    InvalidCredential "invalid_credential" 401 "Credential not valid"
        "The credential is malformed, cut short or not known here. Copy it again in full; if it is lost, mint a new key.";
    CredentialExpired "credential_expired" 401 "Credential expired"
        "The key, the session or the rotated secret has expired. Use the newest secret, mint a new key, or sign in again.";
    CredentialRevoked "credential_revoked" 401 "Credential revoked"
        "The key was revoked or the session ended, which can't be undone. Mint a new key, or sign in again.";
    LoginFailed "login_failed" 401 "Login failed"
        "The e-mail address or the password is wrong. If you lost your password, ask an owner of your organization, or the operator of the server, for a recovery link.";
    AddressNotAllowed "address_not_allowed" 403 "Address not allowed"
        "The key may be used only from the addresses it lists, and the request came from another. Call from a listed address, or change the list on the key's page.";
    CredentialNotAllowed "credential_not_allowed" 403 "Credential kind not allowed"
        "The operation does not take this kind of credential, whatever its scopes. `allowed` names the kinds it takes.";
    OperationReserved "operation_reserved" 403 "Operation reserved"
        "The operation is planned but not available yet, whatever the scopes.";
    InsufficientScope "insufficient_scope" 403 "Scope missing"
        "The credential is valid but lacks a scope. `requiredScopes` lists the sets of which one is needed, `missingScopes` what to add.";
    ScopeNotGrantable "scope_not_grantable" 403 "Scope not grantable"
        "You can only grant scopes that you hold yourself. Some scopes can't be given to this kind of credential, and some roles can't be granted by yours.";
    OriginNotAllowed "origin_not_allowed" 403 "Origin not allowed"
        "A publishable key works only on the web origins it lists, and the request came from another or named none. Add the page's origin to the key, exactly as the browser sends it: scheme, host, port.";
    AgentNotAllowed "agent_not_allowed" 403 "Agent not allowed"
        "A publishable key belongs to one agent and the request names another. Use the key of that agent.";
    IdentityRequired "identity_required" 403 "Visitor identity required"
        "The key asks for a signed visitor identity and none came, or it did not verify: HS256 under the key's identity secret, `aud` the agent's id, `sub` the visitor, `exp` at most ten minutes ahead.";
    CrossSiteRequest "cross_site_request" 403 "Cross-site request"
        "A change was asked for with a session cookie, and nothing proved that the request came from the dashboard itself. Backends use a secret key instead of a cookie.";
    SignupClosed "signup_closed" 403 "Sign-up closed"
        "The operator does not allow open sign-up. Ask a member of the organization for an invite.";
    OrganizationSuspended "organization_suspended" 403 "Organization suspended"
        "The operator suspended the organization; none of its credentials work. Talk to the operator.";
    NotFound "not_found" 404 "Not found"
        "There is no such path, or no such resource in the organization of the credential.";
    MethodNotAllowed "method_not_allowed" 405 "Method not allowed"
        "The path exists without this method. The `Allow` header lists those it has.";
    Conflict "conflict" 409 "Conflict"
        "The change conflicts with the present state of the resource; `detail` says why.";
    StaleVersion "stale_version" 409 "Stale version"
        "Somebody changed the resource since it was read. `current` is how it is now: apply the change to that.";
    NoPublishedVersion "no_published_version" 409 "No published version"
        "The agent was never published. Publish it first.";
    InsufficientBalance "insufficient_balance" 402 "Insufficient balance"
        "The wallet does not cover the charge. Top it up first.";
    PayloadTooLarge "payload_too_large" 413 "Payload too large"
        "The body is longer than the operation takes.";
    UnsupportedMediaType "unsupported_media_type" 415 "Unsupported media type"
        "The operation takes another content type; for most that is `application/json`.";
    RateLimited "rate_limited" 429 "Rate limited"
        "Too many requests. Wait as many seconds as `Retry-After` says.";
    InternalError "internal_error" 500 "Internal error"
        "Something went wrong on the server. The operator finds the cause in the log, under the request id.";
    VerificationUnavailable "verification_unavailable" 503 "Verification unavailable"
        "The server can't make sure at the moment that its copy of the credentials is up to date, so it refuses rather than guesses. Try again after `Retry-After`.";
    DependencyUnavailable "dependency_unavailable" 503 "Dependency unavailable"
        "Something that this operation needs does not answer: the database, the model, the payment provider or the carrier. `detail` says which. Nothing was changed; try again after `Retry-After`.";
    HeadersTooLarge "headers_too_large" 431 "Headers too large"
        "A request may carry at most 16 KiB of header fields and at most 100 of them.";
    RequestTimeout "request_timeout" 408 "Request timeout"
        "The request was not complete in time: 10 seconds for its head, 30 for a body that stalls.";
    ReauthenticationRequired "reauthentication_required" 403 "Sign in again"
        "The session signed in too long ago for a change like this. Sign in again.";
}

/// A refusal on its way out. Holds text for the caller only; causes are logged where they are found.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    more: Vec<(&'static str, Value)>,
    retry_after: Option<u32>,
    allow: Option<String>,
    challenge: Option<Cow<'static, str>>,
    /// A denial that came without the contract's names.
    denial: Option<Box<Denial>>,
}

/// The answer of a handler or of a step before one.
pub type Outcome<T> = Result<T, Problem>;

impl Problem {
    /// A refusal that says `detail`.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let challenge = match code {
            Code::MissingCredential | Code::LoginFailed => Some(CHALLENGE.into()),
            Code::InvalidCredential | Code::CredentialExpired | Code::CredentialRevoked => {
                Some(INVALID_TOKEN.into())
            }
            _ => None,
        };
        let retry_after =
            matches!(code, Code::VerificationUnavailable | Code::DependencyUnavailable).then_some(1);
        Self {
            code,
            detail: detail.into(),
            more: Vec::new(),
            retry_after,
            allow: None,
            challenge,
            denial: None,
        }
    }

    /// A permit that no longer held when it was asked for again.
    fn ended(denial: Denial) -> Self {
        let code = Code::ALL.iter().copied().find(|it| it.as_str() == denial.code());
        let detail = "What the caller may do was changed while the request ran; nothing was done.";
        let problem = Self::new(code.unwrap_or(Code::CredentialRevoked), detail);
        Self { denial: Some(Box::new(denial)), ..problem }
    }

    /// The denial behind it, where whoever noticed it did not know the contract.
    pub fn denial(&self) -> Option<Denial> {
        self.denial.as_deref().copied()
    }

    /// What is wrong with the request's fields.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let errors = errors.into_iter().map(|it| json!({"field": it.field, "message": it.message}));
        let errors = Value::Array(errors.collect());
        Self::new(Code::ValidationError, "The request is not valid; `errors` says where.")
            .with("errors", errors)
    }

    /// One thing wrong with the body, at a JSON Pointer.
    pub fn body(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::in_body(pointer, message)])
    }

    /// One thing wrong with a query parameter.
    pub fn query(name: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::in_query(name, message)])
    }

    /// One thing wrong with a header field.
    pub fn header(name: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::in_header(name, message)])
    }

    /// A fault of ours, whose cause is in the log.
    pub fn internal() -> Self {
        Self::new(
            Code::InternalError,
            "Something went wrong on the server. The operator finds the cause in the log, under the request id.",
        )
    }

    /// Not in this organization, wherever else it may be.
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "Nothing was found: no such path, or no such resource in your organization.",
        )
    }

    /// Somebody changed it since the caller read it; this is how it is now.
    pub fn stale(current: Value) -> Self {
        Self::new(Code::StaleVersion, "Somebody changed this since it was read; `current` is how it is now.")
            .with("current", current)
    }

    /// A refusal with the status 429 and a `Retry-After` that says after how many seconds one request may come.
    pub fn limited(limited: Limited) -> Self {
        Self::new(Code::RateLimited, "Too many requests; wait as long as Retry-After says.")
            .retry_after(limited.retry_after_seconds)
    }

    /// With another member in the document, in the place of one of that name.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.more.retain(|(known, _)| *known != name);
        self.more.push((name, value));
        self
    }

    /// With a `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds an `Allow` field that lists `methods`, separated by commas, as a 405 must (RFC 9110 §15.5.6).
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }

    /// The `detail` member: a sentence for the caller that says what is wrong and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A member that was added to it.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.more.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The code, which also decides the status and the title.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What a denial tells the caller. `operation`: the one that was asked for, where it was found.
    pub fn denied(denial: &Denial, contract: &Contract, operation: Option<&Operation>) -> Self {
        let mut problem = match *denial {
            Denial::AmbiguousPath(why) => Self::new(Code::MalformedRequest, why.explain()),
            Denial::MalformedRequest(why) => Self::new(Code::MalformedRequest, why),
            Denial::NotFound => Self::not_found(),
            Denial::MethodNotAllowed { path } => {
                let allow = contract.allow(path);
                Self::new(Code::MethodNotAllowed, format!("This path takes {allow}.")).allow(allow)
            }
            Denial::MissingCredential => {
                Self::new(Code::MissingCredential, "Send a key as Authorization: Bearer, or sign in.")
            }
            Denial::InvalidCredential => Self::new(
                Code::InvalidCredential,
                "The credential is malformed or not known; send the whole key, as Authorization: Bearer.",
            ),
            Denial::CredentialExpired => Self::new(Code::CredentialExpired, "The credential has expired."),
            Denial::CredentialRevoked => {
                Self::new(Code::CredentialRevoked, "The credential was revoked or has ended.")
            }
            Denial::VerificationUnavailable => Self::new(
                Code::VerificationUnavailable,
                "The server's copy of the credentials may be out of date; try again shortly.",
            ),
            Denial::OrganizationSuspended => {
                Self::new(Code::OrganizationSuspended, "The operator suspended this organization.")
            }
            Denial::AddressNotAllowed => Self::new(
                Code::AddressNotAllowed,
                "The key does not list the address this request came from.",
            ),
            Denial::CredentialNotAllowed { allowed } => Self::kind_not_allowed(allowed),
            Denial::OperationReserved => {
                Self::new(Code::OperationReserved, "This operation is planned but not available yet.")
            }
            Denial::CrossSiteRequest => Self::new(
                Code::CrossSiteRequest,
                "This change was asked for with a session cookie, and nothing shows that it comes from the dashboard itself. Send Origin or Sec-Fetch-Site, or use a key.",
            ),
            Denial::OriginNotAllowed => {
                Self::new(Code::OriginNotAllowed, "The key does not list the origin of this request.")
            }
            Denial::ResourceNotAllowed => {
                Self::new(Code::AgentNotAllowed, "The key belongs to another agent.")
            }
            Denial::ReauthenticationRequired => {
                Self::new(Code::ReauthenticationRequired, "Sign in again to make this change.")
            }
            Denial::InsufficientScope { held, kind } => {
                Self::insufficient_scope(contract, operation, held, kind)
            }
            Denial::RateLimited(limited) => Self::limited(limited),
        };
        problem.challenge = denial.challenge(contract, operation);
        problem
    }

    /// `allowed`: the kinds of credentials that the operation takes.
    fn kind_not_allowed(allowed: u8) -> Self {
        let kinds: Vec<&str> = CredentialKind::ALL
            .into_iter()
            .filter(|kind| allowed & kind.bit() != 0)
            .map(CredentialKind::as_str)
            .collect();
        let detail = format!("This operation takes {}.", kinds.join(" or ").replace('_', " "));
        Self::new(Code::CredentialNotAllowed, detail).with("allowed", kinds.into())
    }

    fn insufficient_scope(
        contract: &Contract,
        operation: Option<&Operation>,
        held: ScopeSet,
        kind: CredentialKind,
    ) -> Self {
        let (sets, nearest) = needed(operation, held, kind);
        let names = |set: ScopeSet| contract.scopes().names(set);
        Self::new(Code::InsufficientScope, format!("This needs the scope {}.", names(nearest).join(" ")))
            .with("requiredScopes", sets.iter().map(|set| names(*set)).collect::<Vec<_>>().into())
            .with("missingScopes", names(nearest.minus(held)).into())
    }

    /// The answer. `public_url` has no slash at its end.
    pub fn response(&self, public_url: &str, request_id: &str) -> Response<Bytes> {
        let code = self.code;
        let document = Document { problem: self, public_url, request_id };
        let mut response = Response::new(to_bytes(&document));
        *response.status_mut() =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        *headers = HeaderMap::with_capacity(FIELDS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        for (name, text) in [(ALLOW, self.allow.as_deref()), (WWW_AUTHENTICATE, self.challenge.as_deref())] {
            // Both are made of names from the contract, which are plain ASCII.
            if let Some(Ok(value)) = text.map(HeaderValue::from_str) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// A problem as JSON, written without making a tree of it first.
struct Document<'a> {
    problem: &'a Problem,
    public_url: &'a str,
    request_id: &'a str,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let code = self.problem.code;
        let page = format!("{}/errors/{}", self.public_url, code.as_str());
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("type", &page)?;
        document.serialize_entry("title", code.title())?;
        document.serialize_entry("status", &code.status())?;
        document.serialize_entry("detail", &self.problem.detail)?;
        document.serialize_entry("code", code.as_str())?;
        document.serialize_entry("requestId", self.request_id)?;
        for (name, value) in &self.problem.more {
            document.serialize_entry(name, value)?;
        }
        document.end()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found(),
            StoreError::Conflict(why) => Self::new(Code::Conflict, why),
            StoreError::OwnersOnly => Self::new(
                Code::ScopeNotGrantable,
                "Only an owner can make somebody an owner, or change or remove one.",
            ),
            StoreError::NotHeld(why) => Self::new(Code::ScopeNotGrantable, why),
            StoreError::Stale => Self::new(Code::StaleVersion, "Somebody changed this since it was read."),
            StoreError::Refused(refusal) => {
                let code = Code::ALL.iter().copied().find(|it| it.as_str() == refusal.code());
                Self::new(code.unwrap_or(Code::Conflict), refusal.to_string())
            }
            StoreError::Crowded(why) => Self::new(Code::RateLimited, why).retry_after(2),
            StoreError::IdempotencyKeyReused => Self::new(
                Code::IdempotencyKeyReused,
                "This Idempotency-Key was already used for another request.",
            ),
            StoreError::Denied(denial) => Self::ended(denial),
            StoreError::Busy => Self::new(
                Code::DependencyUnavailable,
                "Too many requests of this organization are waiting for the database; nothing was done. Try again shortly.",
            ),
            StoreError::Inconsistent(what) => {
                tracing::error!(what, "a stored row can't be read");
                Self::internal()
            }
            StoreError::Database(DatabaseError::NotDurable) => {
                tracing::error!(%error, "a commit got no answer");
                Self::new(
                    Code::DependencyUnavailable,
                    "The database stopped before it said whether this was done. Look whether it was before you send it again, or use the same Idempotency-Key.",
                )
            }
            StoreError::Unusable(_) | StoreError::Forgotten | StoreError::Database(_) => {
                tracing::error!(%error, "the database reported an error");
                Self::new(
                    Code::DependencyUnavailable,
                    "The database is unreachable, full or read-only; nothing was changed.",
                )
            }
        }
    }
}

impl From<NoEntropy> for Problem {
    fn from(error: NoEntropy) -> Self {
        tracing::error!(%error, "no random numbers can be read, so no secret can be made");
        Self::new(
            Code::DependencyUnavailable,
            "The operating system has no random numbers at the moment; nothing was created.",
        )
    }
}

/// Shorthand of handlers: the value, or the problem that says the server is at fault.
pub fn or_internal<T>(value: Option<T>, what: &'static str) -> Outcome<T> {
    value.ok_or_else(|| {
        tracing::error!(what, "something that should be impossible happened");
        Problem::internal()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_worth_of_text_and_a_status_of_its_class() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{code:?}");
            assert!(code.advice().len() > 40 && !code.title().is_empty(), "{code:?}");
            assert_eq!(Code::ALL.iter().filter(|other| other.as_str() == code.as_str()).count(), 1);
        }
    }

    #[test]
    fn a_challenge_says_what_is_wrong_and_nothing_when_nothing_came() {
        let challenge = |code| {
            let answer = Problem::new(code, "").response("http://localhost", "r");
            answer.headers().get(WWW_AUTHENTICATE).map(|it| it.to_str().unwrap().to_owned())
        };
        assert_eq!(challenge(Code::MissingCredential).as_deref(), Some("Bearer realm=\"flowyte\""));
        assert_eq!(
            challenge(Code::CredentialExpired).as_deref(),
            Some("Bearer realm=\"flowyte\", error=\"invalid_token\"")
        );
        assert_eq!(challenge(Code::NotFound), None);
    }
}
