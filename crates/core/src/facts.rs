//! What a door knows of a request before anything is decided. Borrowed; no I/O.

use std::net::IpAddr;

/// A header field that may appear at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// The field was not sent.
    None,
    /// Present once. What could not be read as text is the empty string, which no credential or origin equals.
    One(&'a str),
    /// The field was sent more than once; its values are not kept.
    Many,
}

impl<'a> Field<'a> {
    /// Collects the values of one field name.
    pub fn collect(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            (Some(value), None) => Self::One(std::str::from_utf8(value).unwrap_or("")),
            _ => Self::Many,
        }
    }

    /// The value, where there is exactly one.
    pub fn one(self) -> Option<&'a str> {
        match self {
            Self::One(value) => Some(value),
            _ => None,
        }
    }
}

/// The request as decisions see it.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The request method as received; it is compared case-sensitively.
    pub method: &'a str,
    /// Path without the query, as received.
    pub path: &'a str,
    /// Query without `?`, as received.
    pub query: Option<&'a str>,
    /// The `Authorization` header field, which carries a secret key, publishable key or visitor token.
    pub authorization: Field<'a>,
    /// The value of the session cookie.
    pub session_cookie: Field<'a>,
    /// The `Origin` header field (RFC 6454), which browsers send.
    pub origin: Field<'a>,
    /// The `Sec-Fetch-Site` header field, by which a browser says how the requesting page relates to this server.
    pub fetch_site: Field<'a>,
    /// The caller's address, after the trusted-proxy rule.
    pub address: IpAddr,
    /// Where the dashboard lives, as an origin: what same-site requests name.
    pub public_origin: &'a str,
}

impl RequestFacts<'_> {
    /// Methods that may change something (RFC 9110 §9.2.1).
    pub fn is_unsafe(&self) -> bool {
        !matches!(self.method, "GET" | "HEAD" | "OPTIONS")
    }
}
