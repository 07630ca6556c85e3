//! Our own words in a document. A misspelt one would be ignored by every other tool, and open what it should close.

use crate::diagnostic::Findings;
use crate::document::Node;

/// Where an extension has a meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Root,
    Scheme,
    Operation,
    Schema,
}

const OURS: [(&str, Home); 11] = [
    ("x-scopes", Home::Root),
    ("x-credential", Home::Scheme),
    ("x-public", Home::Operation),
    ("x-reserved", Home::Operation),
    ("x-fresh-session", Home::Operation),
    ("x-pinned-parameter", Home::Operation),
    ("x-query-credential", Home::Operation),
    ("x-cors", Home::Operation),
    ("x-max-body-bytes", Home::Operation),
    ("x-secret", Home::Schema),
    ("x-form", Home::Schema),
];
/// Ours that are true or false.
const SWITCHES: [&str; 5] = ["x-public", "x-reserved", "x-fresh-session", "x-cors", "x-secret"];
pub(crate) const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Reports an extension of ours that is misspelt, in the wrong place, or not of its type. `path` leads to its object.
pub(crate) fn check(name: &str, member: &Node<'_>, path: &[String], findings: &mut Findings) {
    if !name.starts_with("x-") && !name.starts_with("X-") && !name.starts_with("x_") {
        return;
    }
    match OURS.iter().find(|(ours, _)| *ours == name) {
        None => {
            if let Some((ours, _)) = OURS.iter().find(|(ours, _)| similar(name, ours)) {
                findings.error(&member.pointer, format!("unknown extension; did you mean `{ours}`?"));
            }
        }
        Some((_, home)) if !at_home(*home, path) => {
            let place = match home {
                Home::Root => "at the top of the document",
                Home::Scheme => "in a security scheme",
                Home::Operation => "in an operation",
                Home::Schema => "in a schema",
            };
            findings.error(&member.pointer, format!("`{name}` has no meaning here; it belongs {place}"));
        }
        Some(_) if name == "x-form" && !member.value.is_string() => {
            findings.error(&member.pointer, "`x-form` must be a text, such as `an e-mail address`");
        }
        Some(_) if SWITCHES.contains(&name) && !member.value.is_boolean() => {
            findings.error(&member.pointer, format!("`{name}` must be true or false"));
        }
        Some(_) => {}
    }
}

fn at_home(home: Home, path: &[String]) -> bool {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match (home, words.as_slice()) {
        (Home::Root, []) | (Home::Scheme, ["components", "securitySchemes", _]) => true,
        (Home::Operation, ["paths", _, method] | ["components", "pathItems", _, method]) => {
            METHODS.contains(method)
        }
        (Home::Schema, words) => words.contains(&"schema") || words.contains(&"schemas"),
        _ => false,
    }
}

/// Whether `name` is probably a slip of the pen for `ours`: another case or separator, a beginning, a letter or two off.
fn similar(name: &str, ours: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).take(40).collect()
    };
    let (name, ours) = (plain(name), plain(ours));
    let allowed = if ours.len() > 8 { 2 } else { 1 };
    (name.len() > 4 && ours.starts_with(&name)) || strsim::levenshtein(&name, &ours) <= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_seen() {
        for (name, meant) in [
            ("x-publik", Some("x-public")),
            ("X_Fresh_Session", Some("x-fresh-session")),
            ("x-fersh-session", Some("x-fresh-session")), // Two letters, of a long name.
            ("x-pubilc", None),                           // Two letters, of a short one.
            ("x-pinned", Some("x-pinned-parameter")),
            ("x-secrét", Some("x-secret")),
            ("x-logo", None),
        ] {
            let found = OURS.iter().find(|(ours, _)| similar(name, ours)).map(|(ours, _)| *ours);
            assert_eq!(found, meant, "{name}");
        }
    }
}
