//! What is known of English beyond its stems: words for one thing, words that say little, what a question wants, and what a text has by
//! its form alone. No other language has any of it.
//!
//! What each part brings was measured by leaving it out, on the questions of `tests/retrieval` that nothing was chosen on (`held`: sites,
//! then facts; docs/benchmarks.md says what they are). In per cent:
//!
//! | Left out | Right passage first | Wrongly refused | Refused where nobody knows |
//! |---|---|---|---|
//! | nothing | 72.9, 88.7 | 43.8, 30.6 | 80.4, 96.4 |
//! | [`synonyms`] | 58.3, 85.5 | 54.2, 38.7 | 87.5, 96.4 |
//! | [`joined`] pairs | 71.9, 87.1 | 43.8, 32.3 | 80.4, 96.4 |
//! | [`telling`] | 68.8, 88.7 | 46.9, 30.6 | 78.6, 92.9 |
//! | [`Wants`] | 71.9, 88.7 | 43.8, 32.3 | 80.4, 96.4 |
//! | [`by_form`] | 72.9, 88.7 | 43.8, 30.6 | 80.4, 96.4 |
//! | all of it | 53.1, 83.9 | 62.5, 38.7 | 85.7, 96.4 |
//!
//! So synonyms help most, and cost some refusals; words that say little help with both. The others bring one of the held questions of each
//! kind or none. Forms bring one more answer among five there (sites: 89.6 instead of 88.5); on the sites that they were chosen on,
//! three more in a hundred come first.

use crate::knowledge::analysis::terms;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

/// Words for one thing, by their terms. Two words that follow one another are a term, joined by [`JOINT`].
static SYNONYMS: LazyLock<HashMap<String, BTreeSet<String>>> = LazyLock::new(|| {
    let mut all: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut pair = |a: &str, b: &str| {
        all.entry(a.to_owned()).or_default().insert(b.to_owned());
        all.entry(b.to_owned()).or_default().insert(a.to_owned());
    };
    let lines = include_str!("synonyms_en.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let (head, members) = line.split_once(':').map_or((None, line), |(head, rest)| (Some(head), rest));
        let term = |word: &str| Some(terms(word, "en").join(JOINT)).filter(|it| !it.is_empty());
        let members: BTreeSet<String> = members.split_whitespace().filter_map(term).collect();
        match head.and_then(term) {
            Some(head) => members.iter().filter(|it| **it != head).for_each(|it| pair(&head, it)),
            None => {
                for one in &members {
                    members.iter().filter(|other| one < *other).for_each(|other| pair(one, other));
                }
            }
        }
    }
    all
});

/// Between two terms that are one; no term has it in itself.
const JOINT: &str = "-";

/// Other terms for the same thing.
pub fn synonyms(term: &str) -> impl Iterator<Item = &'static String> {
    SYNONYMS.get(term).into_iter().flatten()
}

/// The terms with known pairs of them joined.
pub fn joined(terms: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::with_capacity(terms.len());
    for term in terms {
        let pair = all.last().map(|last| [last.as_str(), &term].join(JOINT));
        match pair.filter(|it| SYNONYMS.contains_key(it)) {
            Some(pair) => {
                all.pop();
                all.push(pair);
            }
            None => all.push(term),
        }
    }
    all
}

/// Terms that a text has by its form: an e-mail address says "e-mail" to whoever reads it, and so on.
pub fn by_form(text: &str) -> impl Iterator<Item = &'static String> {
    FORMS.iter().filter(move |(has, _)| has(text)).flat_map(|(_, terms)| terms)
}

type Form = (fn(&str) -> bool, Vec<String>);
static FORMS: LazyLock<[Form; 4]> = LazyLock::new(|| {
    let form = |has, words| (has, terms(words, "en"));
    [
        form(has_email as fn(&str) -> bool, "email mail contact"),
        form(has_telephone, "phone telephone call number contact"),
        form(has_address, "address location"),
        form(has_money, "cost price"),
    ]
});

fn has_email(text: &str) -> bool {
    text.split_whitespace().filter_map(|it| it.split_once('@')).any(|(name, host)| {
        !name.is_empty() && host.trim_end_matches(|c: char| !c.is_alphanumeric()).contains('.')
    })
}

/// Seven digits or more with nothing between them but what telephone numbers have, from a nought, a plus or a bracket on.
fn has_telephone(text: &str) -> bool {
    let number = |c: char| c.is_ascii_digit() || " +()-/".contains(c);
    text.split(|c: char| !number(c))
        .map(str::trim)
        .any(|it| it.starts_with(['0', '+', '(']) && it.chars().filter(char::is_ascii_digit).count() >= 7)
}

/// A house number near a kind of street.
fn has_address(text: &str) -> bool {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|it| it.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .collect();
    let is_number = |word: &String| word.starts_with(|c: char| c.is_ascii_digit()) && word.len() <= 5;
    words.iter().enumerate().any(|(n, word)| {
        let near = &words[n.saturating_sub(4)..(n + 2).min(words.len())];
        STREETS.contains(&word.as_str()) && near.iter().any(is_number)
    })
}

const STREETS: &[&str] = &[
    "street",
    "st",
    "road",
    "rd",
    "avenue",
    "ave",
    "lane",
    "square",
    "boulevard",
    "drive",
    "alley",
    "way",
    "court",
    "place",
    "quay",
    "terrace",
    "highway",
    "hill",
    "gardens",
    "row",
    "crescent",
    "parade",
    "strasse",
    "straße",
    "platz",
    "rue",
];

fn has_money(text: &str) -> bool {
    text.contains(['€', '$', '£', '¥'])
        || text.split(|c: char| !c.is_alphabetic()).any(|it| MONEY.contains(&it.to_lowercase().as_str()))
}

const MONEY: &[&str] =
    &["euro", "euros", "eur", "dollar", "dollars", "usd", "pounds", "gbp", "cents", "pence", "francs", "chf"];

/// English words that questions ask with more often than about: a passage that says the same otherwise is as good an answer.
const LIGHT: &str = "able answer article ask available begin big biggest build built call called carry cause come comes common consist contain \
    cost create current currently day deal describe destroy detail develop difference different discover discovered earliest \
    early easily easy end establish ever exist explain fast fastest few first found founder general give gives go goes going \
    good great happen hard high highest hold human important include info information inspire invent invented inventor item keep \
    kind know known large largest last late learn leave left less light like line list live locate located long longest look low \
    made main make making manage mean meaning measure method modern move nature near nearest necessary need needs new normal \
    number observe offer old oldest open option origin own part people person policies policy possible press produce product \
    protect provide put quick reach read real reason receive regular rest run say see sell serve service set show side sign \
    simple single size slow small smallest special stand standard start state stay still strong sure take takes tell thing time \
    tiny today took top total true turn type typical use used user usual visit walk want watch way well white whole wide win \
    word work world write year young";

static LIGHT_TERMS: LazyLock<HashSet<String>> = LazyLock::new(|| terms(LIGHT, "en").into_iter().collect());

/// Words for those who answer, whatever they are: every page is about them.
const SELF: &str = "company firm business enterprise shop store office site practice studio place organization organisation agency brand here there";
static SELF_TERMS: LazyLock<HashSet<String>> = LazyLock::new(|| terms(SELF, "en").into_iter().collect());

/// How much a term of a question says about what is wanted, 0 to 1; all of it, in another language.
pub fn telling(term: &str, language: &str) -> f64 {
    if language != "en" {
        return 1.0;
    }
    match (LIGHT_TERMS.contains(term), SELF_TERMS.contains(term)) {
        (_, true) => 0.15,
        (true, _) => 0.4,
        _ => 1.0,
    }
}

/// What questions for a time have in them.
const ASKS_TIME: [&str; 8] = [
    " when ",
    " what year ",
    " which year ",
    " what time ",
    " what day ",
    " which day ",
    " which days ",
    " what date ",
];
/// What questions for a number have in them.
const ASKS_NUMBER: [&str; 25] = [
    " how many ",
    " how much ",
    " how long ",
    " how old ",
    " how far ",
    " how deep ",
    " how tall ",
    " how high ",
    " how heavy ",
    " how fast ",
    " how big ",
    " how large ",
    " how often ",
    " how wide ",
    " how hot ",
    " how cold ",
    " length ",
    " height ",
    " weight ",
    " depth ",
    " age ",
    " altitude ",
    " capacity ",
    " temperature ",
    " frequency ",
];
/// What questions for a name have in them.
const ASKS_NAME: [&str; 3] = [" who ", " whom ", " whose "];
/// What questions for where somebody is have in them.
const ASKS_PLACE: [&str; 10] = [
    " where are you ",
    " where is your ",
    " where s your ",
    " where can i find you ",
    " where do i find you ",
    " your address ",
    " directions ",
    " get there ",
    " get to you ",
    " find you ",
];

/// What kind of thing a question wants, as far as its first words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A time: when, which year, what day.
    Time,
    /// How much or how many.
    Number,
    /// The name of somebody or something, which begins with a capital letter.
    Name,
    /// Where those are who answer.
    Place,
    /// Nothing that can be told by its form.
    Anything,
}

impl Wants {
    /// Read from an English question; others may want anything.
    pub fn of(question: &str, language: &str) -> Self {
        if language != "en" {
            return Self::Anything;
        }
        let text = format!(" {} ", question.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " "));
        let kinds: [(&[&str], Self); 4] = [
            (&ASKS_TIME, Self::Time),
            (&ASKS_NUMBER, Self::Number),
            (&ASKS_NAME, Self::Name),
            (&ASKS_PLACE, Self::Place),
        ];
        let asks = |all: &[&str]| all.iter().any(|it| text.contains(it));
        kinds.into_iter().find(|(words, _)| asks(words)).map_or(Self::Anything, |(_, kind)| kind)
    }

    /// Whether a text has something of the kind; half where nothing is wanted in particular.
    pub fn met_by(self, text: &str) -> f64 {
        let mut words = text.split_whitespace();
        let lower = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let met = match self {
            Self::Anything => return 0.5,
            // A place may be said without a street.
            Self::Place => return if has_address(text) { 1.0 } else { 0.3 },
            Self::Name => words.any(|it| it.chars().next().is_some_and(char::is_uppercase) && it.len() > 1),
            Self::Time | Self::Number if text.contains(|c: char| c.is_ascii_digit()) => true,
            Self::Time => words.any(|it| TIMES.contains(&lower(it).as_str())),
            Self::Number => words.any(|it| NUMBERS.contains(&lower(it).as_str())),
        };
        f64::from(u8::from(met))
    }
}

const TIMES: &[&str] = &[
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "mondays",
    "tuesdays",
    "wednesdays",
    "thursdays",
    "fridays",
    "saturdays",
    "sundays",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "spring",
    "summer",
    "autumn",
    "winter",
    "morning",
    "noon",
    "afternoon",
    "evening",
    "night",
    "midnight",
    "daily",
    "weekdays",
    "weekends",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "century",
    "after",
    "before",
    "during",
    "always",
    "never",
];
const NUMBERS: &[&str] = &[
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "fourteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "hundreds",
    "thousand",
    "thousands",
    "million",
    "half",
    "twelfth",
    "dozen",
    "dozens",
    "once",
    "twice",
    "free",
    "no",
    "none",
    "every",
    "all",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_stands_for_each_of_its_members_which_do_not_stand_for_each_other() {
        let others = |word: &str| {
            let term = terms(word, "en").join(JOINT);
            synonyms(&term).cloned().collect::<HashSet<String>>()
        };
        assert!(others("weekend").is_superset(&terms("saturday sunday", "en").into_iter().collect()));
        assert!(
            others("sunday").contains("weekend") && !others("sunday").contains(&terms("saturday", "en")[0])
        );
        assert!(others("price").contains("cost") && others("cost").contains("price"));
        assert!(others("refund").contains("money-back"));
    }

    #[test]
    fn known_pairs_are_one_term() {
        let all = |text: &str| joined(terms(text, "en"));
        assert_eq!(all("I want my money back"), ["money-back"].map(String::from));
        assert!(!all("back to the money").contains(&"money-back".to_owned()));
    }

    #[test]
    fn a_form_says_what_it_is() {
        for (text, email, telephone, address, money) in [
            ("Write to help@example.com.", true, false, false, false),
            ("@home at home@ a@b", false, false, false, false),
            ("Ring 0131 496 0188 or (202) 555-0100.", false, true, false, false),
            ("Built in 2009 for 1,000,000 people, 1234567 of them here", false, false, false, false),
            ("We are at 12 Main Street, Springfield", false, false, true, false),
            ("Hauptstraße: Lange Straße 5", false, false, true, false),
            ("A road trip of two weeks", false, false, false, false),
            ("It is 4.90 euros", false, false, false, true),
            ("€5", false, false, false, true),
            ("a pound of flour", false, false, false, false),
        ] {
            let has = (has_email(text), has_telephone(text), has_address(text), has_money(text));
            assert_eq!(has, (email, telephone, address, money), "{text}");
        }
        assert!(by_form("help@example.com").any(|it| it == "email"));
        assert_eq!(Wants::of("Where are you?", "en").met_by("4 Station Square"), 1.0);
    }
}
