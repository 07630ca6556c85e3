//! What a handler answers, and how it becomes HTTP.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, SET_COOKIE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use std::convert::Infallible;

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A success.
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
    /// Server-sent events, already framed.
    Events(BoxStream<'static, Bytes>),
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `{"success":true,"data":…}` as bytes.
pub fn envelope(data: &Value) -> Bytes {
    json!({"success": true, "data": data}).to_string().into()
}

impl Answer {
    /// One thing.
    pub fn data(data: Value) -> Self {
        Self::json(envelope(&data))
    }

    /// Nothing to say but that it is done.
    pub fn nothing() -> Self {
        Self::data(Value::Null)
    }

    /// A page of a list.
    pub fn list(items: Vec<Value>, limit: u32, next: Option<String>) -> Self {
        let pagination = json!({"limit": limit, "nextCursor": next});
        Self::json(json!({"success": true, "data": items, "pagination": pagination}).to_string().into())
    }

    /// JSON that is rendered already.
    pub fn json(bytes: Bytes) -> Self {
        Self { status: None, payload: Payload::Json(bytes), headers: Vec::new() }
    }

    /// Any other document.
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

    /// With another header field.
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

    /// With a cookie.
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
                (EVENTS, BodyExt::boxed_unsync(StreamBody::new(frames)))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status.unwrap_or(status);
        let headers = response.headers_mut();
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
    BodyExt::boxed_unsync(Full::new(bytes))
}
