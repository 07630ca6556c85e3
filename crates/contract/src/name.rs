//! The format `display-name`: what people call a thing, as it stands in lists, logs and mails.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// Its name in a schema.
pub(crate) const FORMAT: &str = "display-name";
/// What a text must be to have it.
pub(crate) const RULE: &str = "must be one line with at least one visible character, without control characters and \
     without invisible ones (a joiner inside an emoji or a word is fine)";

/// ZERO WIDTH NON-JOINER and ZERO WIDTH JOINER: Persian words and composed emoji need them, and draw nothing alone.
const JOINERS: [char; 2] = ['\u{200C}', '\u{200D}'];
/// Letters and symbols that draw nothing, whatever their category says.
const BLANK: [char; 5] = ['\u{115F}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{FFA0}'];

/// Whether a text can be shown as a name: one line, something to see, and nothing that turns or hides the rest. A joiner
/// stands between two characters that it can join.
pub(crate) fn is_name(text: &str) -> bool {
    let mut seen = false;
    // What a joiner may follow, and whether one still waits for what comes after it.
    let (mut joinable, mut waiting) = (false, false);
    for character in text.chars() {
        if JOINERS.contains(&character) {
            if !joinable {
                return false;
            }
            (joinable, waiting) = (false, true);
            continue;
        }
        match Kind::of(character) {
            Kind::Refused => return false,
            Kind::Visible => (seen, joinable, waiting) = (true, true, false),
            // Marks belong to what stands before them: an accent, or the colour of an emoji.
            Kind::Mark if !waiting => {}
            Kind::Space if !waiting => joinable = false,
            Kind::Mark | Kind::Space => return false,
        }
    }
    seen && !waiting
}

enum Kind {
    Visible,
    Mark,
    Space,
    Refused,
}

impl Kind {
    fn of(character: char) -> Self {
        match get_general_category(character) {
            _ if BLANK.contains(&character) => Self::Refused,
            // Control characters, bidi overrides and other formatting, private and unassigned ones.
            Category::Control
            | Category::Format
            | Category::PrivateUse
            | Category::Surrogate
            | Category::Unassigned
            | Category::LineSeparator
            | Category::ParagraphSeparator => Self::Refused,
            Category::SpaceSeparator => Self::Space,
            Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark => Self::Mark,
            _ => Self::Visible,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn takes_the_names_of_people_and_things_in_their_own_writing() {
        for name in [
            "Booking backend",
            "two  spaces",
            " padded ",
            "Zoë",
            "Zoe\u{308}",
            "山田 太郎",
            "👩\u{200D}💻 nightly",
            "👩🏽\u{200D}🚀",
            "❤\u{FE0F}\u{200D}🔥",
            "می\u{200C}خواهم",
            "क्\u{200D}ष",
            "<script>alert(1)</script>",
            "=cmd|x",
        ] {
            assert!(is_name(name), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_hides_turns_or_breaks_a_line() {
        for name in [
            "",
            "   ",
            "\u{200B}\u{200B}",
            "\u{200D}",
            "\u{200C}\u{200D}",
            "a\u{200D}",
            "\u{200D}a",
            "a \u{200D}b",
            "a\u{200D} b",
            "a\u{200D}\u{200D}b",
            "a\u{200D}\u{301}b",
            "a\u{200B}b",
            "\u{202E}evil",
            "a\u{2066}b",
            "a\r\nb",
            "a\tb",
            "a\0b",
            "\u{1B}[31m",
            "a\u{2028}b",
            "\u{FEFF}a",
            "a\u{E0041}b",
            "\u{3164}",
            "a\u{2800}b",
            "\u{E000}",
            "\u{301}",
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
