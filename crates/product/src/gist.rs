//! What a conversation is about, kept up to date message by message, so that nothing is read again to say it.

use crate::answerer::Source;
use crate::knowledge::analysis::terms;
use crate::knowledge::english::telling;
use flowyte_store::{Row, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The longest question that a summary quotes, in characters.
const QUOTED: usize = 160;
/// Different words, and different sources, of a conversation that may become its topic.
const MOST_TOPICS: usize = 100;
/// Words from which on a message is more than a greeting.
const SAYS_SOMETHING: usize = 3;

/// Something with how often it came, in the order in which each came first.
type Counts = Vec<(String, u32)>;

/// What was asked and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gist {
    /// The message that tells best what it is about, with its number of words.
    quoted: Option<(usize, String)>,
    asked: u32,
    unknown: u32,
    /// Names of the sources that answers leaned on.
    labels: Counts,
    /// Words of the visitor that tell something.
    words: Counts,
}

/// What a message of the visitor adds.
pub struct Question {
    length: usize,
    quoted: String,
    words: Vec<String>,
}

impl Question {
    /// Of a text in this language.
    pub fn of(text: &str, language: &str) -> Self {
        let mut quoted: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if quoted.chars().count() > QUOTED {
            quoted = quoted.chars().take(QUOTED).chain("…".chars()).collect();
        }
        // What the language's own analysis leaves is worth something; its stems are no words to show, so those are the plain ones.
        let kept: BTreeSet<String> = terms(text, language).into_iter().collect();
        let worth = |word: &String| {
            let mut stems = kept.iter().filter(|stem| word.starts_with(stem.as_str()));
            word.chars().count() > 3 && stems.any(|stem| telling(stem, language) == 1.0)
        };
        let words = terms(text, "").into_iter().filter(worth).collect();
        Self { length: text.split_whitespace().count(), quoted, words }
    }
}

impl Gist {
    /// The column `gist`; nothing where none was noted.
    pub fn read(row: &Row) -> Result<Option<Self>, StoreError> {
        let text: Option<String> = row.get("gist")?;
        let read = |text: &String| serde_json::from_str(text);
        text.as_ref()
            .map(read)
            .transpose()
            .map_err(|error| StoreError::Inconsistent(format!("column gist: {error}")))
    }

    /// The JSON text that the column `gist` keeps.
    pub fn to_text(&self) -> String {
        serde_json::to_value(self).unwrap_or_default().to_string()
    }

    /// Counts a message of the visitor, and takes it for the summary if none so far says more.
    pub fn hear(&mut self, said: Question) {
        // The first that says something, or, while nothing does, the longest of the greetings.
        let better = |(length, _): &(usize, String)| *length < SAYS_SOMETHING && said.length >= *length;
        if self.quoted.as_ref().is_none_or(better) {
            self.quoted = Some((said.length, said.quoted));
        }
        self.asked += 1;
        said.words.into_iter().for_each(|word| count(&mut self.words, word));
    }

    /// An answer was given. What one leans on that does not know is not what it was about.
    pub fn answer(&mut self, sources: &[Source], unknown: bool) {
        match unknown {
            true => self.unknown += 1,
            false => sources.iter().for_each(|it| count(&mut self.labels, it.label.clone())),
        }
    }

    /// What was asked and what became of it, in a sentence or two.
    pub fn summary(&self) -> Option<String> {
        let (_, quoted) = self.quoted.as_ref()?;
        let mut text = match self.asked.saturating_sub(1) {
            0 => format!("The visitor said: “{quoted}”"),
            1 => format!("The visitor said: “{quoted}” and one more thing."),
            others => format!("The visitor said: “{quoted}” and {others} more things."),
        };
        let labels: BTreeSet<&str> = self.labels.iter().map(|(label, _)| label.as_str()).collect();
        if !labels.is_empty() {
            let labels: Vec<String> = labels.into_iter().take(3).map(|it| format!("“{it}”")).collect();
            text.push_str(&format!(" The answers come from {}.", labels.join(", ")));
        }
        match self.unknown {
            0 => {}
            1 => text.push_str(" One question was not answered."),
            some => text.push_str(&format!(" {some} questions were not answered.")),
        }
        Some(text)
    }

    /// The source that answered most often; without one, the word that the visitor used most.
    pub fn topic(&self) -> Option<String> {
        most(&self.labels).or_else(|| most(&self.words))
    }
}

/// Counts one more; what comes when there are enough is not counted.
fn count(counts: &mut Counts, one: String) {
    let room = counts.len() < MOST_TOPICS;
    match counts.iter_mut().find(|(known, _)| *known == one) {
        Some((_, times)) => *times += 1,
        None if room => counts.push((one, 1)),
        None => {}
    }
}

/// The most frequent, and of those the first.
fn most(counts: &Counts) -> Option<String> {
    counts.iter().rev().max_by_key(|(_, times)| *times).map(|(one, _)| one.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::KnowledgeSourceId;
    use flowyte_core::id::Id;

    enum Said {
        Asked(&'static str),
        Answered(&'static [&'static str]),
        NotKnown(&'static [&'static str]),
    }

    fn gist(all: &[Said]) -> Gist {
        let named = |labels: &[&str]| -> Vec<Source> {
            let id = KnowledgeSourceId::from_bytes([0; 16]);
            labels.iter().map(|it| Source { id, label: (*it).into(), url: None }).collect()
        };
        let mut gist = Gist::default();
        for one in all {
            match one {
                Said::Asked(text) => gist.hear(Question::of(text, "en")),
                Said::Answered(labels) => gist.answer(&named(labels), false),
                Said::NotKnown(labels) => gist.answer(&named(labels), true),
            }
        }
        gist
    }

    #[test]
    fn a_summary_says_what_was_asked_and_what_became_of_it() {
        let all = gist(&[
            Said::Asked("Hello!"),
            Said::Answered(&[]),
            Said::Asked("When do you open on Sundays?"),
            Said::Answered(&["Opening hours"]),
            Said::Asked("Do you sell fish?"),
            Said::NotKnown(&[]),
        ]);
        assert_eq!(
            all.summary().unwrap(),
            "The visitor said: “When do you open on Sundays?” and 2 more things. \
             The answers come from “Opening hours”. One question was not answered."
        );
        assert_eq!(all.topic().as_deref(), Some("Opening hours"));
        assert_eq!(Gist::default().summary(), None);
        let stored: Gist = serde_json::from_str(&all.to_text()).unwrap();
        assert_eq!(stored, all);
    }

    #[test]
    fn a_topic_without_a_source_is_what_was_asked_about_most() {
        let all = gist(&[Said::Asked("Where is my parcel?"), Said::Asked("The parcel was sent on Monday")]);
        assert_eq!(all.topic().as_deref(), Some("parcel"));
        assert_eq!(gist(&[Said::Asked("???")]).topic(), None);
        // What came closest to a question that was not answered is not what it was about.
        let close = gist(&[Said::Asked("Do you sell fish?"), Said::NotKnown(&["Opening hours"])]);
        assert_eq!(close.topic().as_deref(), Some("fish"));
        assert!(!close.summary().unwrap().contains("Opening hours"));
    }

    #[test]
    fn it_does_not_grow_with_the_conversation() {
        let mut gist = Gist::default();
        for n in 0..2_000 {
            let text = format!("question{n} about something{n} and the weather");
            gist.hear(Question::of(&text, "en"));
        }
        assert!(gist.to_text().len() < 5_000, "{}", gist.to_text().len());
        assert_eq!(gist.topic().as_deref(), Some("weather"));
        assert!(
            gist.summary().unwrap().contains("question0") && gist.summary().unwrap().contains("1999 more")
        );
    }
}
