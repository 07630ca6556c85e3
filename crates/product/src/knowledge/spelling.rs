//! Words of a question that no passage has: what they most likely should be.

use crate::knowledge::statistics::Statistics;
use std::collections::{BTreeSet, HashMap};

/// Terms that stand for a word that no passage has.
const MOST_ALIKE: usize = 8;
/// How far is looked for them: different letters at one place, and terms that only go on.
const MOST_LETTERS: usize = 64;
const MOST_ENDINGS: usize = 256;

/// What was found for the words of a question that no passage has: each is looked for once.
#[derive(Default)]
pub struct Spelling(HashMap<String, Vec<String>>);

impl Spelling {
    /// The terms that stand for one that no passage has.
    pub fn alike(&mut self, all: &Statistics, term: &str) -> &[String] {
        self.0.entry(term.to_owned()).or_insert_with(|| alike_among(all, term))
    }
}

/// Terms that are most likely the same word as this one, the most frequent ones. Slips are rarely in the first letter. It looks
/// where such terms would stand, so its time grows with the word, not with the terms there are.
fn alike_among(terms: &Statistics, term: &str) -> Vec<String> {
    let letters: Vec<char> = term.chars().collect();
    let text = |letters: &[char]| letters.iter().collect::<String>();
    let mut near: BTreeSet<String> = BTreeSet::new();
    for at in 1..=letters.len() {
        let (before, rest) = letters.split_at(at);
        let before = text(before);
        let next = next_letters(terms, &before);
        if next.is_empty() {
            break;
        }
        for letter in next {
            let begun = format!("{before}{letter}");
            near.extend([
                format!("{begun}{}", text(rest)),
                format!("{begun}{}", text(rest.get(1..).unwrap_or(&[]))),
            ]);
        }
    }
    for at in 1..letters.len() {
        let mut fewer = letters.clone();
        fewer.remove(at);
        near.insert(text(&fewer));
        let mut swapped = letters.clone();
        swapped.swap(at, (at + 1).min(letters.len() - 1));
        near.insert(text(&swapped));
    }
    near.extend((letters.len().saturating_sub(3)..letters.len()).map(|end| text(&letters[..end])));
    let longer = terms.terms_from(term).take_while(|it| it.starts_with(term));
    near.extend(longer.take(MOST_ENDINGS).map(str::to_owned));
    let near = near.into_iter().filter(|it| alike(it, term));
    let mut found: Vec<(u32, String)> =
        near.map(|it| (terms.frequency(&it).any, it)).filter(|it| it.0 > 0).collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.truncate(MOST_ALIKE);
    found.into_iter().map(|(_, it)| it).collect()
}

/// The letters that follow these ones in some term.
fn next_letters(terms: &Statistics, before: &str) -> Vec<char> {
    let mut next = Vec::new();
    let mut from = format!("{before}\0");
    while next.len() < MOST_LETTERS {
        let first = terms.terms_from(&from).next().and_then(|it| it.strip_prefix(before)?.chars().next());
        let Some(letter) = first else { break };
        next.push(letter);
        // The one that stands after it, past the gap that no letter is in.
        let Some(after) = char::from_u32(letter as u32 + 1).or((letter < '\u{e000}').then_some('\u{e000}'))
        else {
            break;
        };
        from = format!("{before}{after}");
    }
    next
}

/// Whether two terms are most likely one word: one letter apart, or one the beginning of the other.
fn alike(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (shorter, longer) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if shorter.len() < 5 || a.iter().any(char::is_ascii_digit) || b.iter().any(char::is_ascii_digit) {
        return false;
    }
    let same = shorter.iter().zip(longer.iter()).take_while(|(a, b)| a == b).count();
    if same == shorter.len() {
        return longer.len() - shorter.len() <= 3;
    }
    if longer.len() - shorter.len() > 1 {
        return false;
    }
    // One letter more, another one, or two in the other order.
    let (rest, other) = (&shorter[same..], &longer[same..]);
    match shorter.len() == longer.len() {
        false => rest == &other[1..],
        true => {
            rest[1..] == other[1..]
                || (rest.len() > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2..] == other[2..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn words_that_no_passage_has_are_looked_for_where_they_would_stand() {
        // What a large agent knows: 200,000 terms, many of which begin alike.
        let vowels = ['a', 'e', 'i', 'o', 'u'];
        let word = |mut n: usize| {
            let mut word = String::from("s");
            while word.len() < 9 {
                word.push(char::from(b'b' + (n % 20) as u8));
                word.push(vowels[n % 5]);
                n /= 20;
            }
            word
        };
        let terms: BTreeMap<String, u32> = (0..200_000).map(|n| (word(n), 1 + n as u32 % 7)).collect();
        let all_terms = Statistics::of_terms(terms.clone());
        for n in (0..200_000).step_by(4_001) {
            let mut letters: Vec<char> = word(n).chars().collect();
            letters[n % 7 + 1] = 'z';
            let slip: String = letters.into_iter().collect();
            let mut all: Vec<(u32, &String)> =
                terms.iter().filter(|(it, _)| alike(it, &slip)).map(|(it, many)| (*many, it)).collect();
            all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            all.truncate(MOST_ALIKE);
            let all: Vec<String> = all.into_iter().map(|(_, it)| it.clone()).collect();
            assert!(!all.is_empty());
            assert_eq!(alike_among(&all_terms, &slip), all, "{slip}");
        }
        assert!(alike_among(&all_terms, "s").is_empty() && alike_among(&all_terms, "").is_empty());
        let crowd = Statistics::of_terms((0..30_000).map(|n| (format!("price{}", word(n)), 1)));
        assert!(alike_among(&crowd, "price").len() <= MOST_ALIKE);
    }

    proptest::proptest! {
        /// Looking at the places finds what looking at every term finds.
        #[test]
        fn no_likeness_is_missed(words in proptest::collection::btree_set("a[abcé]{3,8}", 1..60), term in "a[abcé]{3,8}") {
            let terms: BTreeMap<String, u32> = words.into_iter().map(|it| (it, 1)).collect();
            let mut all: Vec<String> = terms.keys().filter(|it| alike(it, &term)).cloned().collect();
            all.truncate(MOST_ALIKE);
            let mut found = alike_among(&Statistics::of_terms(terms), &term);
            found.retain(|it| *it != term);
            all.retain(|it| *it != term);
            proptest::prop_assert!(found.len() >= all.len().min(MOST_ALIKE - 1));
            proptest::prop_assert!(all.len() == MOST_ALIKE || found == all, "{found:?} {all:?}");
        }
    }

    #[test]
    fn alike_is_one_slip_or_one_ending() {
        for (a, b, same) in [
            ("tuesday", "tuseday", true),
            ("tuesday", "tuesda", true),
            ("reserv", "reservat", true),
            ("price", "prize", true),
            ("cat", "car", false),
            ("museum", "musical", false),
            ("20261", "20262", false),
        ] {
            assert_eq!(alike(a, b), same, "{a} {b}");
        }
    }
}
