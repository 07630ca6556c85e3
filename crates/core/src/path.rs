//! One canonical spelling of a path. What another party could read as a different path is refused, never cleaned.

use percent_encoding::percent_decode_str;

/// Why a path has no single meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// Does not begin with `/`.
    NotAbsolute,
    /// A segment is `.` or `..`.
    DotSegment,
    /// Two slashes follow one another before the end of the path.
    EmptySegment,
    /// `\`, `;`, `#`, a control, a space, a non-ASCII byte, or another byte RFC 3986 does not allow in a path.
    RawByte,
    /// `%` without two hex digits.
    InvalidEscape,
    /// An escape of a character that is written plainly (`%65`).
    NeedlessEscape,
    /// An escape that hides a delimiter or a control: `/`, `\`, `?`, `#`, NUL and the like.
    HiddenDelimiter,
    /// The decoded bytes are not UTF-8.
    NotUtf8,
}

impl Ambiguity {
    /// One sentence for the caller.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::NotAbsolute => "The path must begin with a slash.",
            Self::DotSegment => "The path has a dot segment; write the path it stands for.",
            Self::EmptySegment => "The path has an empty segment; write single slashes.",
            Self::RawByte => "The path has a character that must be percent-encoded in a path.",
            Self::InvalidEscape => "The path has a percent sign without two hexadecimal digits.",
            Self::NeedlessEscape => "The path escapes a character that needs no escape; write it plainly.",
            Self::HiddenDelimiter => "The path escapes a delimiter or control character.",
            Self::NotUtf8 => "The path's escapes are not UTF-8.",
        }
    }
}

/// Checks that `path` has one meaning. Linear in its length; allocates nothing.
///
/// Slashes at the very end are left alone: such a path has one meaning, it just names nothing.
pub fn check(path: &str) -> Result<(), Ambiguity> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Ambiguity::NotAbsolute);
    }
    if is_plain(bytes) {
        return Ok(());
    }
    check_bytes(bytes)?;
    let trimmed = path.trim_end_matches('/');
    for segment in trimmed.split('/').skip(1) {
        match segment {
            "" => return Err(Ambiguity::EmptySegment),
            "." | ".." => return Err(Ambiguity::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

const SLASH: u8 = 1;
/// What may make a segment ambiguous where it follows a slash: another slash, or a dot.
const SUSPECT: u8 = 2;
/// An escape, or what may not stand in a path.
const ODD: u8 = 4;

/// The class of each byte: 0 for those that never need a second look.
const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'/' => SLASH | SUSPECT,
            b'.' => SUSPECT,
            other if is_path_byte(other) => 0,
            _ => ODD,
        };
        byte += 1;
    }
    table
};

/// Whether the path is in order at first sight, as nearly every one is: no escape, and no segment begins with a dot or is
/// empty. One pass without a branch.
fn is_plain(bytes: &[u8]) -> bool {
    let (mut doubt, mut after_slash) = (0, 0);
    for byte in bytes {
        let class = CLASSES[usize::from(*byte)];
        doubt |= class & (ODD | after_slash);
        after_slash = (class & SLASH) << 1; // SUSPECT, where a slash came before.
    }
    doubt == 0
}

fn check_bytes(bytes: &[u8]) -> Result<(), Ambiguity> {
    let mut utf8 = Utf8Run::default();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let escaped = escape(bytes, at).ok_or(Ambiguity::InvalidEscape)?;
            match escaped {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    return Err(Ambiguity::NeedlessEscape);
                }
                b'/' | b'\\' | b'?' | b'#' | 0x00..=0x1f | 0x7f => return Err(Ambiguity::HiddenDelimiter),
                _ => utf8.push(escaped)?,
            }
            at += 3;
        } else {
            if !is_path_byte(bytes[at]) {
                return Err(Ambiguity::RawByte);
            }
            utf8.push(bytes[at])?;
            at += 1;
        }
    }
    utf8.finish()
}

/// RFC 3986 `pchar` and `/`, without `;`, which some servers read as the start of path parameters.
const fn is_path_byte(byte: u8) -> bool {
    matches!(byte,
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' | b'/')
}

fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    Some((digit(bytes.get(at + 1))? << 4 | digit(bytes.get(at + 2))?) as u8)
}

/// Collects at most one character's bytes, so that decoding needs no buffer.
#[derive(Default)]
struct Utf8Run {
    bytes: [u8; 4],
    have: usize,
}

impl Utf8Run {
    fn push(&mut self, byte: u8) -> Result<(), Ambiguity> {
        if self.have == 0 && byte.is_ascii() {
            return Ok(());
        }
        if self.have == 4 {
            return Err(Ambiguity::NotUtf8);
        }
        self.bytes[self.have] = byte;
        self.have += 1;
        match std::str::from_utf8(&self.bytes[..self.have]) {
            Ok(_) => self.have = 0,
            Err(error) if error.error_len().is_some() => return Err(Ambiguity::NotUtf8),
            Err(_) => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Ambiguity> {
        if self.have == 0 { Ok(()) } else { Err(Ambiguity::NotUtf8) }
    }
}

/// Decodes one segment of a checked path, once.
pub fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is waved through at first sight has nothing that a second look would find.
        #[test]
        fn plain_paths_are_in_order(path in "(/{0,2}[a-z.%;0-9~]{0,4}){0,8}") {
            if is_plain(path.as_bytes()) {
                prop_assert!(check_bytes(path.as_bytes()).is_ok());
                let named = path.trim_end_matches('/');
                prop_assert!(named.split('/').skip(1).all(|it| !matches!(it, "" | "." | "..")));
            }
        }
    }

    #[test]
    fn one_meaning() {
        for good in [
            "/",
            "/api/v1/agents",
            "/a/b.json",
            "/a/%20",
            "/a/%25",
            "/a/%252e",
            "/a/%C3%BC",
            "/a/",
            "/a//",
            "/a/..b",
            "/x:y@z",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", Ambiguity::NotAbsolute),
            ("a", Ambiguity::NotAbsolute),
            ("//a", Ambiguity::EmptySegment),
            ("/a//b", Ambiguity::EmptySegment),
            ("/a/./b", Ambiguity::DotSegment),
            ("/a/../b", Ambiguity::DotSegment),
            ("/a/..", Ambiguity::DotSegment),
            ("/a/%2e%2e", Ambiguity::NeedlessEscape),
            ("/a/%2E.", Ambiguity::NeedlessEscape),
            ("/%65", Ambiguity::NeedlessEscape),
            ("/a/..;/b", Ambiguity::RawByte),
            ("/a;x", Ambiguity::RawByte),
            ("/a\\b", Ambiguity::RawByte),
            ("/a#b", Ambiguity::RawByte),
            ("/\u{fc}", Ambiguity::RawByte),
            ("/a b", Ambiguity::RawByte),
            ("/%2f", Ambiguity::HiddenDelimiter),
            ("/%5c", Ambiguity::HiddenDelimiter),
            ("/%00", Ambiguity::HiddenDelimiter),
            ("/%0d%0a", Ambiguity::HiddenDelimiter),
            ("/%3f", Ambiguity::HiddenDelimiter),
            ("/%23", Ambiguity::HiddenDelimiter),
            ("/%", Ambiguity::InvalidEscape),
            ("/%z", Ambiguity::InvalidEscape),
            ("/%zz", Ambiguity::InvalidEscape),
            ("/%c0%ae", Ambiguity::NotUtf8),
            ("/%c3", Ambiguity::NotUtf8),
            ("/%c3x", Ambiguity::NotUtf8),
        ] {
            assert_eq!(check(bad), Err(why), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_decodes_to_the_same_segments(path in "/[a-z%0-9A-F./;~]{0,24}") {
            if check(&path).is_ok() {
                let decoded = decode(&path);
                prop_assert_eq!(decoded.matches('/').count(), path.matches('/').count());
                prop_assert!(decoded.split('/').all(|s| s != "." && s != ".."));
                let hidden = decoded.contains(['\\', '?', '#', '\0', '\u{fffd}']);
                prop_assert!(!hidden);
            }
        }

        #[test]
        fn never_panics(path in "\\PC{0,40}") {
            let _ = check(&path);
            let _ = decode(&path);
        }
    }
}
