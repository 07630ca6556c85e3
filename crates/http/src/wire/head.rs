//! The strict reading of one HTTP/1 request head.
//!
//! Bytes are judged as they come, so that a head which can't become valid is refused at once instead of at its
//! deadline, and so that the verdict does not depend on how the head was cut into packets.

use super::{HeadRefusal, MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES};

/// The longest method that is passed on. The longest registered one has 17 bytes.
const MAX_METHOD_BYTES: usize = 32;
/// `METHOD SP target SP HTTP/1.1 CRLF`, each at its longest.
const MAX_REQUEST_LINE_BYTES: usize = MAX_METHOD_BYTES + 1 + MAX_TARGET_BYTES + 1 + 8 + 2;

/// How the body after a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// This many bytes; 0 also when the head says nothing of a body.
    Exact(u64),
    /// By the chunked transfer coding (RFC 9112 §7.1), whose last chunk has the length 0.
    Chunked,
}

/// The state of reading one head.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    scanned: usize,
    line_start: usize,
    blank_line_seen: bool,
    version: Option<Version>,
    fields: usize,
    has_host: bool,
    content_length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl HeadReader {
    /// Reads on in `bytes`, which begin with the head and only ever grow between calls. Answers the length of the
    /// head in bytes and what follows it, or `None` while the head is incomplete. `authority` is the only one that a
    /// target in absolute form may name.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        authority: &str,
    ) -> Result<Option<(usize, BodyLength)>, HeadRefusal> {
        while let Some(&byte) = bytes.get(self.scanned) {
            if self.scanned == MAX_HEAD_BYTES {
                return Err(HeadRefusal::TooLarge);
            }
            if self.version.is_none() && self.scanned - self.line_start == MAX_REQUEST_LINE_BYTES {
                return malformed("the request line is too long");
            }
            let after_cr = self.scanned > self.line_start && bytes[self.scanned - 1] == b'\r';
            if !after_cr && !ends_line(byte) {
                // Nothing is said within a line before its end, or before there is too much of it.
                let most = if self.version.is_none() {
                    self.line_start + MAX_REQUEST_LINE_BYTES
                } else {
                    MAX_HEAD_BYTES
                };
                let rest = &bytes[self.scanned..bytes.len().min(MAX_HEAD_BYTES).min(most)];
                self.scanned += rest.iter().position(|byte| ends_line(*byte)).unwrap_or(rest.len());
                continue;
            }
            self.scanned += 1;
            match (after_cr, byte) {
                (true, b'\n') => {
                    let line = &bytes[self.line_start..self.scanned - 2];
                    self.line_start = self.scanned;
                    if let Some(length) = self.line(line, authority)? {
                        return Ok(Some((self.scanned, length)));
                    }
                }
                (true, _) => return malformed("a carriage return is not followed by a line feed"),
                (false, b'\n') => return malformed("a line feed is not preceded by a carriage return"),
                (false, _) => {}
            }
        }
        Ok(None)
    }

    fn line(&mut self, line: &[u8], authority: &str) -> Result<Option<BodyLength>, HeadRefusal> {
        let Some(version) = self.version else {
            // RFC 9112 §2.2: one empty line before the request line is forgiven, for clients that end a body with it.
            if line.is_empty() && !self.blank_line_seen {
                self.blank_line_seen = true;
            } else {
                self.version = Some(request_line(line, authority)?);
            }
            return Ok(None);
        };
        if line.is_empty() {
            return self.end(version).map(Some);
        }
        self.field(line)?;
        Ok(None)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), HeadRefusal> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(HeadRefusal::TooLarge);
        }
        if line[0] == b' ' || line[0] == b'\t' {
            return malformed("a field is folded over several lines");
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return malformed("a field has no colon");
        };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return malformed("a field name is not a token");
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return malformed("a field value has a control character");
        }
        if name.eq_ignore_ascii_case(b"host") {
            if self.has_host || !is_host(value) {
                return malformed("Host is repeated or invalid");
            }
            self.has_host = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.content_length.is_some() {
                return malformed("Content-Length is repeated");
            }
            self.content_length = Some(content_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return malformed("Transfer-Encoding must be chunked, sent once");
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn end(&self, version: Version) -> Result<BodyLength, HeadRefusal> {
        if version == Version::Http11 && !self.has_host {
            return malformed("Host is missing");
        }
        match (self.chunked, self.content_length) {
            (true, Some(_)) => malformed("Content-Length and Transfer-Encoding must not be sent together"),
            (true, None) if version == Version::Http10 => malformed("Transfer-Encoding needs HTTP/1.1"),
            (true, None) => Ok(BodyLength::Chunked),
            (false, length) => Ok(BodyLength::Exact(length.unwrap_or(0))),
        }
    }
}

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn request_line(line: &[u8], authority: &str) -> Result<Version, HeadRefusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return malformed("the request line is not method, target and version with single spaces");
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return malformed("the HTTP version is neither 1.1 nor 1.0"),
    };
    if method.len() > MAX_METHOD_BYTES || !is_token(method) {
        return malformed("the method is not a token");
    }
    if method == b"CONNECT" {
        return Err(HeadRefusal::MethodNotAllowed);
    }
    if target.len() > MAX_TARGET_BYTES {
        return malformed("the target is too long");
    }
    if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return malformed("the target has a byte that no target may have");
    }
    let known_form = match target {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => true,
        _ => names_authority(target, authority),
    };
    if !known_form {
        return malformed("the target is neither a path nor an address of this server");
    }
    // hyper reads the target with this same parser: what it would refuse must not reach it.
    if http::Uri::try_from(target).is_err() {
        return malformed("the target is not a valid URI");
    }
    Ok(version)
}

/// Whether a target in absolute form is an `http` or `https` one of exactly this authority.
fn names_authority(target: &[u8], authority: &str) -> bool {
    let Ok(target) = std::str::from_utf8(target) else { return false };
    let Some((scheme, rest)) = target.split_once("://") else { return false };
    let named = rest.split(['/', '?']).next().unwrap_or(rest);
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && named.eq_ignore_ascii_case(authority)
}

fn content_length(value: &[u8]) -> Result<u64, HeadRefusal> {
    // `u64::from_str` would take a leading plus sign.
    let digits = if value.iter().all(u8::is_ascii_digit) { std::str::from_utf8(value).ok() } else { None };
    match digits.and_then(|digits| digits.parse::<u64>().ok()) {
        Some(length) if length <= u64::MAX / 2 => Ok(length),
        _ => malformed("Content-Length is not a number of bytes"),
    }
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte))
}

/// Without the spaces and tabs around it (RFC 9110 §5.5); no other byte is whitespace here.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn malformed<T>(detail: &'static str) -> Result<T, HeadRefusal> {
    Err(HeadRefusal::Malformed { detail })
}
