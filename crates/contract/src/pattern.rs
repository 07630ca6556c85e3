//! Patterns that every regular expression engine reads alike. Clients are generated from a document, and each checks its patterns with
//! the engine of its own language; what only some of them know would fail there, or mean something else.

/// What a pattern uses that not every engine knows, in words. Known everywhere: literals, `.`, `^`, `$`, classes of characters and
/// ranges, groups without a name, `|`, quantifiers, and the escapes for which this answers nothing.
pub(crate) fn unportable(pattern: &str) -> Option<String> {
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    let mut after_quantifier = false;
    while let Some(c) = rest.next() {
        let quantified = std::mem::replace(&mut after_quantifier, false);
        match c {
            '\\' => {
                let escaped = rest.next()?;
                let digits = match escaped {
                    'x' => 2,
                    'u' => 4,
                    'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'n' | 'r' | 't' | 'f' | 'v' => 0,
                    'b' | 'B' if !in_class => 0,
                    punctuation if punctuation.is_ascii_punctuation() => 0,
                    other => return Some(format!("`\\{other}`")),
                };
                if (0..digits).any(|_| !rest.next().is_some_and(|it| it.is_ascii_hexdigit())) {
                    return Some(format!("`\\{escaped}` without {digits} hexadecimal digits"));
                }
            }
            '[' if in_class => return Some("`[` inside a class of characters".into()),
            ']' if in_class => in_class = false,
            '&' | '~' if in_class && rest.peek() == Some(&c) => {
                return Some(format!("`{c}{c}` inside a class of characters"));
            }
            '-' if in_class && rest.peek() == Some(&'-') => {
                return Some("`--` inside a class of characters".into());
            }
            _ if in_class => {}
            '[' => {
                in_class = true;
                rest.next_if_eq(&'^');
                if rest.peek() == Some(&']') {
                    return Some("a class that begins with `]`".into());
                }
            }
            '(' if rest.next_if_eq(&'?').is_some() => match rest.next() {
                Some(':') => {}
                other => return Some(format!("`(?{}`", other.map(String::from).unwrap_or_default())),
            },
            '+' if quantified => return Some("a possessive quantifier".into()),
            '*' | '+' | '?' | '}' => after_quantifier = true,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::unportable;

    #[test]
    fn what_every_engine_knows_passes() {
        for fine in [
            "",
            "^[a-z]+_[0-9a-f]{32}$",
            r"^\+[1-9][0-9]{6,14}$",
            r"^(?:/.*|(?:query|header)\..+)?$",
            r"^[^\s\x00-\x1F\u200B-\u200F@\[\]\\-]+?$",
            r"\bword\b|[-a&b~]",
        ] {
            assert_eq!(unportable(fine), None, "{fine}");
        }
    }

    #[test]
    fn what_only_some_know_is_named() {
        for (pattern, named) in [
            (r"^\p{L}+$", r"`\p`"),
            (r"^[^\P{C}]$", r"`\P`"),
            (r"(a)\1", r"`\1`"),
            (r"\Aa\z", r"`\A`"),
            (r"\x{200b}", r"`\x` without 2 hexadecimal digits"),
            (r"\u{1f600}", r"`\u` without 4 hexadecimal digits"),
            (r"^(?=.*a)b", "`(?=`"),
            (r"(?i)a", "`(?i`"),
            (r"(?P<n>a)", "`(?P`"),
            (r"(?<n>a)", "`(?<`"),
            (r"[[:alpha:]]", "`[` inside a class of characters"),
            (r"[a&&b]", "`&&` inside a class of characters"),
            (r"[]a]", "a class that begins with `]`"),
            (r"a++", "a possessive quantifier"),
        ] {
            assert_eq!(unportable(pattern).as_deref(), Some(named), "{pattern}");
        }
    }
}
