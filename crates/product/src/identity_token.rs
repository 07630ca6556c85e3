//! Visitor identities: a JWT (RFC 7519) that the customer's backend signs with HS256 under the key's identity secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flowyte_core::Timestamp;
use flowyte_core::time::{MINUTE, SECOND};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

/// The furthest that `exp` may be ahead.
const LONGEST: i64 = 10 * MINUTE;
/// How far the customer's clock may be off.
const SKEW: i64 = 30 * SECOND;
/// The longest `sub`, in bytes: an operator's own name for a visitor.
const SUBJECT_BYTES: usize = 255;

/// Why an identity is refused, for the customer's developer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not three base64url parts with a JSON header.
    #[error("it is not a signed JWT")]
    Malformed,
    /// Another algorithm, or a header this server does not understand.
    #[error("its header must say HS256 and nothing critical")]
    Header,
    /// Wrong signature, or claims of another shape.
    #[error("its signature or its claims are wrong: sub, aud and exp are needed")]
    Signature,
    /// The claim `aud` does not name the agent that the key is pinned to.
    #[error("aud must be the agent's id")]
    Audience,
    /// `sub` is empty or too long.
    #[error("sub must be 1 to 255 bytes")]
    Subject,
    /// `exp` has passed or is too far ahead.
    #[error("exp must be in the future and at most 10 minutes ahead")]
    Expiry,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    exp: i64,
}

/// The subject of a token for `agent`. The algorithm is fixed before anything is read: `alg`, `jwk`, `jku` or `kid` in the
/// header choose nothing.
pub fn verify(token: &str, secret: &[u8], agent: &str, now: Timestamp) -> Result<String, Refused> {
    let header = token
        .split('.')
        .next()
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .ok_or(Refused::Malformed)?;
    let header: Value = serde_json::from_slice(&header).map_err(|_| Refused::Malformed)?;
    if header["alg"] != "HS256" || header.get("crit").is_some() || header.get("enc").is_some() {
        return Err(Refused::Header);
    }
    let mut rules = Validation::new(Algorithm::HS256);
    // Audience and expiry are checked below: exactly one audience, and by this server's clock.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let claims: Claims = jsonwebtoken::decode(token, &DecodingKey::from_secret(secret), &rules)
        .map_err(|_| Refused::Signature)?
        .claims;
    if claims.aud != agent {
        return Err(Refused::Audience);
    }
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES {
        return Err(Refused::Subject);
    }
    let expires = Timestamp::from_micros(claims.exp.checked_mul(SECOND).ok_or(Refused::Expiry)?);
    if now >= expires.plus(SKEW) || expires > now.plus(LONGEST + SKEW) {
        return Err(Refused::Expiry);
    }
    Ok(claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::json;
    use sha2::Sha256;

    const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
    const EXP: i64 = 1_790_000_300;

    fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn check(header: Value, claims: Value) -> Result<String, Refused> {
        verify(&sign(&header, &claims, b"secret"), b"secret", "agent_1", NOW)
    }

    /// Rows: VI-01 VI-02 VI-04.
    #[test]
    fn one_algorithm_one_audience_ten_minutes() {
        let good = || json!({"sub": "visitor", "aud": "agent_1", "exp": EXP});
        assert_eq!(check(json!({"alg": "HS256", "typ": "JWT"}), good()).as_deref(), Ok("visitor"));
        assert_eq!(
            check(json!({"alg": "HS256", "kid": "../../etc", "jku": "https://evil.example"}), good())
                .as_deref(),
            Ok("visitor")
        );
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "nOnE"}),
            json!({"alg": "HS384"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({"typ": "JWT"}),
            json!({"alg": "HS256", "crit": ["exp"]}),
        ] {
            assert_eq!(check(header.clone(), good()), Err(Refused::Header), "{header}");
        }
        let with = |field: &str, value: Value| {
            let mut claims = good();
            claims[field] = value;
            check(json!({"alg": "HS256"}), claims)
        };
        assert_eq!(with("aud", json!("agent_2")), Err(Refused::Audience));
        assert_eq!(with("aud", json!("agent_")), Err(Refused::Audience));
        assert_eq!(with("aud", json!(["agent_2", "agent_1"])), Err(Refused::Signature));
        assert_eq!(with("aud", Value::Null), Err(Refused::Signature));
        assert_eq!(with("sub", json!("")), Err(Refused::Subject));
        assert_eq!(with("sub", json!("x".repeat(1 << 20))), Err(Refused::Subject));
        assert_eq!(with("sub", json!(7)), Err(Refused::Signature));
        assert_eq!(with("exp", json!(EXP + 600)), Err(Refused::Expiry));
        assert_eq!(with("exp", json!(EXP - 600)), Err(Refused::Expiry));
        assert_eq!(with("exp", json!(i64::MAX)), Err(Refused::Expiry));
        let other = sign(&json!({"alg": "HS256"}), &good(), b"another");
        assert_eq!(verify(&other, b"secret", "agent_1", NOW), Err(Refused::Signature));
        for text in ["", ".", "..", "a.b.c", "{\"payload\":\"x\"}"] {
            assert!(verify(text, b"secret", "agent_1", NOW).is_err(), "{text}");
        }
    }
}
