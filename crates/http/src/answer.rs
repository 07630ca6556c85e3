//! What a handler answers, and how it becomes HTTP.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use serde::Serialize;
use serde_json::{Value, json};
use std::convert::Infallible;

/// The body of every response: bytes at hand, as nearly always, or a stream.
pub type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;

/// What a handler answers when it did what it was asked: a status, a body and header fields. Refusals are a [`crate::problem::Problem`].
pub struct Answer {
    /// The contract's success status where `None`.
    pub status: Option<StatusCode>,
    payload: Payload,
    headers: Vec<(HeaderName, HeaderValue)>,
}

enum Payload {
    Nothing,
    /// JSON that was made for this answer alone.
    Json(Bytes),
    /// A document that others get too.
    Bytes(&'static str, Bytes),
    /// A stream of server-sent events, each already framed as `data:` lines.
    Events(BoxStream<'static, Bytes>),
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Room for the header fields of nearly every answer, those that are added to all of them included.
pub(crate) const FIELDS: usize = 12;

/// The memory that an answer's JSON begins with, in bytes; most need no more.
const USUAL: usize = 512;

/// `{"success":true,"data":…}`, and what a list has besides.
#[derive(Serialize)]
struct Envelope<'a, T: ?Sized> {
    success: bool,
    data: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Value>,
}

impl<'a, T: Serialize + ?Sized> Envelope<'a, T> {
    fn bytes(data: &'a T, pagination: Option<Value>) -> Bytes {
        to_bytes(&Self { success: true, data, pagination })
    }
}

/// As JSON. Only a map whose keys are no texts can't be written, and nothing here has one.
pub(crate) fn to_bytes(document: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(USUAL);
    serde_json::to_writer(&mut bytes, document).map_or_else(|_| Bytes::new(), |()| bytes.into())
}

/// Renders `data` as the JSON of a successful answer: `{"success":true,"data":…}`.
pub fn envelope(data: &(impl Serialize + ?Sized)) -> Bytes {
    Envelope::bytes(data, None)
}

impl Answer {
    /// `data` in the envelope of a successful answer, with the status that the contract declares.
    pub fn data(data: Value) -> Self {
        Self::serialized(&data)
    }

    /// One thing, written from what it is made of.
    pub fn serialized(data: &impl Serialize) -> Self {
        Self::json(envelope(data))
    }

    /// Nothing to say but that it is done.
    pub fn nothing() -> Self {
        Self::data(Value::Null)
    }

    /// A page of a list.
    pub fn list(items: &[impl Serialize], limit: u32, next: Option<String>) -> Self {
        let pagination = json!({"limit": limit, "nextCursor": next});
        Self::json(Envelope::bytes(items, Some(pagination)))
    }

    /// JSON that is rendered already.
    pub fn json(bytes: Bytes) -> Self {
        Self { status: None, payload: Payload::Json(bytes), headers: Vec::new() }
    }

    /// A document of this media type as it is, without an envelope, with the status 200.
    pub fn document(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self {
            status: Some(StatusCode::OK),
            payload: Payload::Bytes(content_type, bytes.into()),
            headers: Vec::new(),
        }
    }

    /// 204: no body and no type of one.
    pub fn no_content() -> Self {
        Self { status: Some(StatusCode::NO_CONTENT), payload: Payload::Nothing, headers: Vec::new() }
    }

    /// A stream of server-sent events.
    pub fn events(events: BoxStream<'static, Bytes>) -> Self {
        Self { status: None, payload: Payload::Events(events), headers: Vec::new() }
    }

    /// Adds a header field; one of the same name that is there already stays beside it.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the state that it shows, for `If-Match` of a change.
    #[must_use]
    pub fn tagged(self, tag: impl std::fmt::Display) -> Self {
        match HeaderValue::from_str(&format!("\"{tag}\"")) {
            Ok(value) => self.header(ETAG, value),
            Err(_) => self,
        }
    }

    /// Adds a `Set-Cookie` field with this value, which is the cookie with its attributes; an answer may have several.
    #[must_use]
    pub fn cookie(self, value: HeaderValue) -> Self {
        self.header(SET_COOKIE, value)
    }

    /// What is in memory for this answer alone until it is sent.
    pub fn own(&mut self) -> Option<&mut Bytes> {
        match &mut self.payload {
            Payload::Json(bytes) => Some(bytes),
            Payload::Nothing | Payload::Bytes(..) | Payload::Events(_) => None,
        }
    }

    /// As HTTP. `status`: the contract's.
    pub fn response(self, status: StatusCode) -> Response<Body> {
        let (content_type, body) = match self.payload {
            Payload::Nothing => ("", full(Bytes::new())),
            Payload::Json(bytes) => (JSON, full(bytes)),
            Payload::Bytes(content_type, bytes) => (content_type, full(bytes)),
            Payload::Events(events) => {
                let frames = events.map(|event| Ok(Frame::data(event)));
                (EVENTS, Either::Right(BodyExt::boxed_unsync(StreamBody::new(frames))))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status.unwrap_or(status);
        let headers = response.headers_mut();
        *headers = HeaderMap::with_capacity(FIELDS);
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        if content_type == EVENTS {
            // Proxies such as nginx hold back what they could collect first; a stream is of use while it comes.
            headers.insert(BUFFERING, HeaderValue::from_static("no"));
        }
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}

/// A body of these bytes.
pub fn full(bytes: Bytes) -> Body {
    Either::Left(Full::new(bytes))
}
