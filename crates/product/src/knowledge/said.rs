//! What a passage says, in terms: as it is searched, and as it is judged.

use crate::knowledge::analysis::{sentences, terms};
use crate::knowledge::english;
use crate::knowledge::index::Entry;
use std::collections::BTreeSet;

/// The terms of a passage, in their order.
pub struct Words {
    /// Of what stands above the text.
    pub head: Vec<String>,
    /// The terms of the text itself.
    pub body: Vec<String>,
}

/// The terms of a passage sentence by sentence: kept beside it, as each question would have to find them again. In one text
/// each, which takes less memory than lists.
pub struct Said {
    /// With spaces between, as no term has one.
    head: String,
    /// And a line for each sentence.
    sentences: String,
}

impl Said {
    /// The terms of a passage, for both purposes.
    pub fn of(entry: &Entry) -> (Self, Words) {
        let language = &entry.language;
        let head = said(&entry.head(), language);
        let (mut body, mut lines) = (Vec::new(), String::new());
        for sentence in sentences(&entry.text) {
            let own = terms(sentence, language);
            body.extend_from_slice(&own);
            lines.push_str(&with_more(own, sentence, language).join(" "));
            lines.push('\n');
        }
        // No term goes on in the next sentence, so these are all.
        let body = with_more(body, &entry.text, language);
        (Self { head: head.join(" "), sentences: lines }, Words { head, body })
    }

    /// The terms of what stands above the text.
    pub fn head(&self) -> impl Iterator<Item = &str> {
        self.head.split_ascii_whitespace()
    }

    /// The terms of each sentence.
    pub fn sentences(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.sentences.lines().map(str::split_ascii_whitespace)
    }
}

/// The terms of a text: its words, and what is not there word by word: pairs of them that are one, and what it says by its form.
pub fn said(text: &str, language: &str) -> Vec<String> {
    with_more(terms(text, language), text, language)
}

fn with_more(mut all: Vec<String>, text: &str, language: &str) -> Vec<String> {
    if language == "en" {
        let mut more: BTreeSet<String> = english::joined(all.clone()).into_iter().collect();
        more.extend(english::by_form(text).cloned());
        more.retain(|it| !all.contains(it));
        all.extend(more);
    }
    all
}
