//! Web origins (RFC 6454): what a publishable key is bound to.

use crate::Environment;
use std::fmt;

/// `scheme://host[:port]`, exactly as a browser sends it: lower case, default port dropped, IDN in punycode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Box<str>);

/// Why a text can't be listed as an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidOrigin {
    /// The text has no `://`; an origin is written `scheme://host[:port]`.
    Form,
    /// `null`, which any sandboxed page sends.
    Null,
    /// A wildcard: every origin is listed by name.
    Wildcard,
    /// Something after the host and port.
    Path,
    /// Not https, and not http on this machine with a test key.
    Scheme,
    /// Not a host name or address in canonical form.
    Host,
    /// Not a port from 1 to 65535.
    Port,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => {
                "an origin is written scheme://host or scheme://host:port, like https://shop.example"
            }
            Self::Null => "null can't be listed: every sandboxed page sends it",
            Self::Wildcard => "wildcards are not accepted; list each origin by name",
            Self::Path => "an origin ends after the host and port; drop the path, query and trailing slash",
            Self::Scheme => "the scheme must be https; http only for localhost and 127.0.0.1 on a test key",
            Self::Host => "not a host name or IP address in its canonical form",
            Self::Port => "the port is not 1 to 65535",
        })
    }
}

impl std::error::Error for InvalidOrigin {}

impl Origin {
    /// Reads what somebody lists for a key of `environment`, and canonicalises case, default port and IDN.
    pub fn parse(text: &str, environment: Environment) -> Result<Self, InvalidOrigin> {
        if text.eq_ignore_ascii_case("null") {
            return Err(InvalidOrigin::Null);
        }
        if text.contains('*') {
            return Err(InvalidOrigin::Wildcard);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin::Form)?;
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(InvalidOrigin::Path);
        }
        let (host, port) = split_port(rest)?;
        let host = canonical_host(host)?;
        let local = host == "localhost" || host == "127.0.0.1";
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "https" => 443,
            "http" if local && environment == Environment::Test => 80,
            _ => return Err(InvalidOrigin::Scheme),
        };
        let scheme = if default_port == 443 { "https" } else { "http" };
        Ok(Self(match port {
            Some(port) if port != default_port => format!("{scheme}://{host}:{port}").into(),
            _ => format!("{scheme}://{host}").into(),
        }))
    }

    /// From storage, where only canonical origins are written.
    pub fn from_canonical(text: &str) -> Self {
        Self(text.into())
    }

    /// As browsers send it: lower case, without a default port.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an `Origin` header says exactly this. Browsers send the canonical form; anything else is forged.
    pub fn matches(&self, header: &str) -> bool {
        *self.0 == *header
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn split_port(rest: &str) -> Result<(&str, Option<u16>), InvalidOrigin> {
    let colon = match rest.strip_prefix('[') {
        Some(_) => {
            rest.find(']').ok_or(InvalidOrigin::Host).map(|end| (end + 1 < rest.len()).then_some(end + 1))?
        }
        None => rest.find(':'),
    };
    let Some(colon) = colon else { return Ok((rest, None)) };
    let (host, port) = rest.split_at(colon);
    let digits = port.strip_prefix(':').ok_or(InvalidOrigin::Host)?;
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidOrigin::Port);
    }
    digits.parse().map(|port| (host, Some(port))).map_err(|_| InvalidOrigin::Port)
}

/// A registered name in punycode, an IPv4 address in dotted decimal or an IPv6 address in brackets, in shortest form.
fn canonical_host(host: &str) -> Result<String, InvalidOrigin> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: std::net::Ipv6Addr = inner.parse().map_err(|_| InvalidOrigin::Host)?;
        let text = format!("[{address}]");
        return (text == host.to_ascii_lowercase()).then_some(text).ok_or(InvalidOrigin::Host);
    }
    if host.is_empty() || host.len() > 253 || host.contains('%') || host.contains('@') {
        return Err(InvalidOrigin::Host);
    }
    let name = idna::domain_to_ascii_strict(host).map_err(|_| InvalidOrigin::Host)?;
    let last = name.rsplit('.').next().unwrap_or_default();
    // A last label of digits (or 0x…) is an IPv4 address to a browser (WHATWG URL "ends in a number"): canonical form only.
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        let address: std::net::Ipv4Addr = name.parse().map_err(|_| InvalidOrigin::Host)?;
        return Ok(address.to_string());
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label_ok).then_some(name).ok_or(InvalidOrigin::Host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn live(text: &str) -> Result<String, InvalidOrigin> {
        Origin::parse(text, Environment::Live).map(|o| o.to_string())
    }

    #[test]
    fn canonical_form() {
        assert_eq!(live("https://shop.example").unwrap(), "https://shop.example");
        assert_eq!(live("HTTPS://Shop.Example:443").unwrap(), "https://shop.example");
        assert_eq!(live("https://app.shop.example:8443").unwrap(), "https://app.shop.example:8443");
        assert_eq!(live("https://bücher.example").unwrap(), "https://xn--bcher-kva.example");
        assert_eq!(live("https://[2001:db8::1]:8443").unwrap(), "https://[2001:db8::1]:8443");
        assert_eq!(live("https://192.0.2.7").unwrap(), "https://192.0.2.7");
        let test = |text| Origin::parse(text, Environment::Test).map(|o| o.to_string());
        assert_eq!(test("http://localhost:5173").unwrap(), "http://localhost:5173");
        assert_eq!(test("http://127.0.0.1:80").unwrap(), "http://127.0.0.1");
        assert_eq!(test("http://shop.example"), Err(InvalidOrigin::Scheme));
    }

    #[test]
    fn refused_with_the_reason() {
        for (text, why) in [
            ("", InvalidOrigin::Form),
            ("shop.example", InvalidOrigin::Form),
            ("null", InvalidOrigin::Null),
            ("*", InvalidOrigin::Wildcard),
            ("https://*", InvalidOrigin::Wildcard),
            ("https://*.shop.example", InvalidOrigin::Wildcard),
            ("https://shop.example/", InvalidOrigin::Path),
            ("https://shop.example?x", InvalidOrigin::Path),
            ("https://shop.example#x", InvalidOrigin::Path),
            ("http://shop.example", InvalidOrigin::Scheme),
            ("http://localhost", InvalidOrigin::Scheme),
            ("ws://shop.example", InvalidOrigin::Scheme),
            ("file://x", InvalidOrigin::Scheme),
            ("https://", InvalidOrigin::Host),
            ("https://shop.example.", InvalidOrigin::Host),
            ("https://a..b", InvalidOrigin::Host),
            ("https://user@shop.example", InvalidOrigin::Host),
            ("https://127.1", InvalidOrigin::Host),
            ("https://2130706433", InvalidOrigin::Host),
            ("https://0x7f.0.0.1", InvalidOrigin::Host),
            ("https://0177.0.0.1", InvalidOrigin::Host),
            ("https://[::1%25eth0]", InvalidOrigin::Host),
            ("https://[0::1]", InvalidOrigin::Host),
            ("https://shop_x.example", InvalidOrigin::Host),
            ("https://shop.example:0", InvalidOrigin::Port),
            ("https://shop.example:", InvalidOrigin::Port),
            ("https://shop.example:65536", InvalidOrigin::Port),
            ("https://shop.example:+443", InvalidOrigin::Port),
        ] {
            assert_eq!(live(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(text in "(https?://)?[a-zA-Z0-9.\\-:\\[\\]ü]{0,30}") {
            if let Ok(origin) = Origin::parse(&text, Environment::Test) {
                prop_assert_eq!(Origin::parse(origin.as_str(), Environment::Test), Ok(origin.clone()));
                prop_assert!(origin.matches(origin.as_str()));
            }
        }
    }
}
