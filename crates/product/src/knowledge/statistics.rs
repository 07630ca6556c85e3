//! What an agent's passages are altogether: which terms they have, how many of them have each, and how long they are. All of it
//! is counted, so that taking a passage away leaves what there would be if it had never been there.

use crate::knowledge::said::Words;
use rpds::RedBlackTreeMapSync;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// How many passages have a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frequency {
    /// How many passages have it in the head or in the text; those that have it in both count once.
    pub any: u32,
    /// In what stands above the text.
    pub head: u32,
    /// How many have it in the text itself.
    pub body: u32,
}

/// The statistics of some passages. A clone shares what neither changes (the tree is persistent), so it costs nothing to keep
/// the ones before a change, and a change costs as much as the passages that it is about.
#[derive(Clone, Default)]
pub struct Statistics {
    terms: RedBlackTreeMapSync<Arc<str>, Frequency>,
    languages: BTreeMap<String, u32>,
    passages: u32,
    /// Terms in all heads and in all texts, each as often as it is there.
    lengths: [u64; 2],
}

impl Statistics {
    /// Counts a passage. [`Statistics::remove`] takes it back, given the same words.
    pub fn add(&mut self, language: &str, words: &Words) {
        self.passages += 1;
        self.lengths[0] += words.head.len() as u64;
        self.lengths[1] += words.body.len() as u64;
        *self.languages.entry(language.to_owned()).or_default() += 1;
        for (term, here) in where_terms_are(words) {
            if let Some(known) = self.terms.get_mut(term) {
                *known = known.plus(here);
            } else {
                self.terms.insert_mut(term.into(), here);
            }
        }
    }

    /// Takes a passage back that was counted.
    pub fn remove(&mut self, language: &str, words: &Words) {
        self.passages -= 1;
        self.lengths[0] -= words.head.len() as u64;
        self.lengths[1] -= words.body.len() as u64;
        let left = self.languages.get(language).map_or(0, |it| it - 1);
        match left {
            0 => drop(self.languages.remove(language)),
            _ => drop(self.languages.insert(language.to_owned(), left)),
        }
        for (term, here) in where_terms_are(words) {
            let Some(known) = self.terms.get_mut(term) else { continue };
            *known = known.minus(here);
            if known.any == 0 {
                self.terms.remove_mut(term);
            }
        }
    }

    /// How many passages there are.
    pub fn passages(&self) -> u32 {
        self.passages
    }

    /// The languages of the passages that are counted, ISO 639-1.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.languages.keys().map(String::as_str)
    }

    /// How many terms a head has, and a text, on the average.
    pub fn average_lengths(&self) -> [f32; 2] {
        self.lengths.map(|all| all as f32 / self.passages as f32)
    }

    /// How many passages have a term.
    pub fn frequency(&self, term: &str) -> Frequency {
        self.terms.get(term).copied().unwrap_or_default()
    }

    /// Whether a passage has a term.
    pub fn has(&self, term: &str) -> bool {
        self.terms.contains_key(term)
    }

    /// The terms from this one on, in their order.
    pub fn terms_from(&self, term: &str) -> impl Iterator<Item = &str> {
        let range: (Bound<&str>, Bound<&str>) = (Bound::Included(term), Bound::Unbounded);
        self.terms.range::<str, _>(range).map(|(it, _)| &**it)
    }

    /// Of these terms, each in as many passages as is said.
    #[cfg(test)]
    pub fn of_terms(terms: impl IntoIterator<Item = (String, u32)>) -> Self {
        let frequency = |any| Frequency { any, ..Frequency::default() };
        let terms = terms.into_iter().map(|(term, any)| (term.into(), frequency(any))).collect();
        Self { terms, ..Self::default() }
    }
}

impl Frequency {
    fn plus(self, other: Self) -> Self {
        Self { any: self.any + other.any, head: self.head + other.head, body: self.body + other.body }
    }

    fn minus(self, other: Self) -> Self {
        Self { any: self.any - other.any, head: self.head - other.head, body: self.body - other.body }
    }
}

/// Each term of a passage once.
fn where_terms_are(words: &Words) -> HashMap<&str, Frequency> {
    let mut all: HashMap<&str, Frequency> = HashMap::new();
    for term in &words.head {
        *all.entry(term).or_default() = Frequency { any: 1, head: 1, body: 0 };
    }
    for term in &words.body {
        let it = all.entry(term).or_default();
        (it.any, it.body) = (1, 1);
    }
    all
}
