//! Cuts what a source says into passages: by headings, then by paragraphs, then by sentences.

use crate::knowledge::analysis::sentences;
use serde::{Deserialize, Serialize};

/// What a source says, as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Extracted {
    /// Headings (`#` lines), paragraphs between empty lines.
    Text(String),
    /// Questions, each with its answer.
    Pairs(Vec<(String, String)>),
    /// Rows of a table, each of which stands by itself.
    Rows(Vec<String>),
}

/// A passage before it has an id.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The headings above it, from the outermost to the innermost, divided by ` › `; empty where there are none.
    pub heading: String,
    /// The question that it answers.
    pub question: Option<String>,
    /// Its text, without the headings above it.
    pub text: String,
}

/// Paragraphs are put together up to this many characters.
const ENOUGH: usize = 700;
/// No passage has more characters.
const MOST: usize = 1_200;

/// From so many characters on a line was broken because it was full.
const FULL: usize = 40;
/// A heading stands above every passage under it, so a longer line is none, whatever it begins with.
const LONGEST_HEADING: usize = 200;
/// A question stands in every passage of its answer, so a longer one is text like any other.
const LONGEST_QUESTION: usize = 400;

/// The passages of what was read; a few more than `most` where there are more than `most`, so that nobody makes what nobody keeps.
pub fn cut(extracted: &Extracted, most: usize) -> Vec<Piece> {
    match extracted {
        Extracted::Text(text) => cut_text(text, most),
        Extracted::Pairs(pairs) => {
            pairs.iter().flat_map(|(question, answer)| pair(question, answer)).take(most + 1).collect()
        }
        Extracted::Rows(rows) => rows
            .iter()
            .flat_map(|row| split(row))
            .take(most + 1)
            .map(|text| Piece { heading: String::new(), question: None, text })
            .collect(),
    }
}

fn pair(question: &str, answer: &str) -> Vec<Piece> {
    let question = question.trim();
    let (asked, answer) = match question.chars().count() > LONGEST_QUESTION {
        true => (None, format!("{question}\n{answer}")),
        false => (Some(question), answer.to_owned()),
    };
    let piece = |text| Piece { heading: String::new(), question: asked.map(str::to_owned), text };
    split(&answer).into_iter().map(piece).collect()
}

fn cut_text(text: &str, most: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut headings: Vec<(usize, &str)> = Vec::new();
    let mut open = Open::default();
    let mut paragraph = String::new();
    // Characters of the paragraph's last line, which one that goes on is put behind.
    let mut width = 0;
    for line in text.lines().chain([""]) {
        if pieces.len() > most {
            break;
        }
        let line = line.trim_end();
        if let Some((level, title)) = heading(line) {
            open.take(&mut paragraph, &mut pieces);
            open.close(&mut pieces);
            headings.retain(|(above, _)| *above < level);
            headings.push((level, title));
            open.heading = headings.iter().map(|(_, title)| *title).collect::<Vec<_>>().join(" › ");
        } else if line.trim().is_empty() {
            open.take(&mut paragraph, &mut pieces);
        } else {
            let more = line.trim();
            if paragraph.is_empty() {
                width = 0;
            } else if goes_on(&paragraph, width, more) {
                paragraph.push(' ');
                width += 1;
            } else {
                paragraph.push('\n');
                width = 0;
            }
            paragraph.push_str(more);
            width += more.chars().count();
        }
    }
    open.close(&mut pieces);
    pieces
}

/// Whether a line goes on with the sentence of the line before: that one was full, and neither ends a sentence nor is a list.
fn goes_on(before: &str, width: usize, line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let item = line.starts_with(['-', '*', '•', '|', '>']) || rest.starts_with(['.', ')']);
    width >= FULL && !before.ends_with(['.', '!', '?', ':', ';', '|']) && !item
}

/// `# Title`: how deep, and the title.
fn heading(line: &str) -> Option<(usize, &str)> {
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    let title = rest.strip_prefix(' ')?.trim().trim_end_matches('#').trim();
    let fits = !title.is_empty() && title.chars().count() <= LONGEST_HEADING;
    ((1..=6).contains(&level) && fits).then_some((level, title))
}

/// The passage that is being put together.
#[derive(Default)]
struct Open {
    heading: String,
    text: String,
}

impl Open {
    fn take(&mut self, paragraph: &mut String, pieces: &mut Vec<Piece>) {
        for part in split(&std::mem::take(paragraph)) {
            if !self.text.is_empty() && self.text.chars().count() + part.chars().count() > ENOUGH {
                self.close(pieces);
            }
            if !self.text.is_empty() {
                self.text.push_str("\n\n");
            }
            self.text.push_str(&part);
        }
    }

    fn close(&mut self, pieces: &mut Vec<Piece>) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            pieces.push(Piece { heading: self.heading.clone(), question: None, text });
        }
    }
}

/// A paragraph in parts that are not too long: by sentences, and a sentence that has no end by characters.
fn split(paragraph: &str) -> Vec<String> {
    let paragraph = paragraph.trim();
    if paragraph.chars().count() <= MOST {
        return if paragraph.chars().any(char::is_alphanumeric) {
            vec![paragraph.to_owned()]
        } else {
            vec![]
        };
    }
    let mut parts = vec![String::new()];
    for sentence in sentences(paragraph) {
        let chars: Vec<char> = sentence.chars().collect();
        for run in chars.chunks(MOST) {
            let last = parts.last().map_or(0, |it| it.chars().count());
            if last > 0 && last + run.len() > ENOUGH {
                parts.push(String::new());
            }
            if let Some(part) = parts.last_mut() {
                if !part.is_empty() {
                    part.push(' ');
                }
                part.extend(run);
            }
        }
    }
    parts.retain(|it| !it.is_empty());
    parts
}

/// Reads questions with their answers: `Q:` and `A:` lines, headings with a text, or a line that asks with the lines under
/// it. `None`: there are none, or a question has no answer.
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let marked = text.lines().any(|line| marked(line, QUESTION).is_some());
    let mut fresh = true;
    for line in text.lines().map(str::trim) {
        let asks = match marked {
            true => self::marked(line, QUESTION),
            false => heading(line).map(|it| it.1).or_else(|| (fresh && asks(line)).then_some(line)),
        };
        fresh = line.is_empty();
        if let Some(question) = asks {
            pairs.push((question.trim().to_owned(), String::new()));
            continue;
        }
        let said = if marked { self::marked(line, ANSWER).unwrap_or(line) } else { line };
        match pairs.last_mut() {
            Some((_, answer)) => {
                answer.push_str(said.trim());
                answer.push('\n');
            }
            None if said.is_empty() => {}
            None => return None,
        }
    }
    for (_, answer) in &mut pairs {
        *answer = answer.trim().to_owned();
    }
    let whole = |(question, answer): &(String, String)| !question.is_empty() && !answer.is_empty();
    (!pairs.is_empty() && pairs.iter().all(whole)).then_some(pairs)
}

const QUESTION: &[&str] = &["q", "question", "frage", "f", "pregunta", "p", "domanda", "d", "vraag", "v"];
const ANSWER: &[&str] =
    &["a", "answer", "antwort", "respuesta", "r", "réponse", "risposta", "antwoord", "resposta"];

/// What follows `Word:` at the beginning of a line, where the word is one of `words`; numbers and emphasis around it do not matter.
fn marked<'l>(line: &'l str, words: &[&str]) -> Option<&'l str> {
    let (word, rest) = line.split_once([':', '：'])?;
    let word = word
        .trim()
        .trim_matches(['*', '_'])
        .trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    words.contains(&word.to_lowercase().as_str()).then(|| rest.trim_start_matches(['*', '_']).trim())
}

fn asks(line: &str) -> bool {
    line.ends_with(['?', '？', '؟'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headings_and_paragraphs_make_passages() {
        let long = "A sentence that says something of some length. ".repeat(40);
        let text = format!(
            "Intro.\n\n# Hours\nWe open at nine.\n\nWe close at six.\n\n## Holidays\nClosed.\n\n# More\n{long}"
        );
        let pieces = cut(&Extracted::Text(text), 20_000);
        let of = |heading: &str| pieces.iter().filter(|it| it.heading == heading).count();
        assert_eq!(pieces[0].text, "Intro.");
        assert_eq!(
            pieces[1],
            Piece {
                heading: "Hours".into(),
                question: None,
                text: "We open at nine.\n\nWe close at six.".into()
            }
        );
        assert_eq!((of("Hours › Holidays"), of("More")), (1, 3), "{pieces:#?}");
    }

    #[test]
    fn three_ways_to_write_a_faq() {
        let wanted = Some(vec![
            ("When do you open?".to_owned(), "At nine.\nOn Sundays at ten.".to_owned()),
            ("Where?".to_owned(), "Here: there.".to_owned()),
        ]);
        for text in [
            "Q: When do you open?\nA: At nine.\nOn Sundays at ten.\n\nQ: Where?\nA: Here: there.",
            "## When do you open?\nAt nine.\nOn Sundays at ten.\n\n## Where?\n\nHere: there.",
            "When do you open?\nAt nine.\nOn Sundays at ten.\n\nWhere?\nHere: there.",
            "**Frage 1:** When do you open?\n**Antwort:** At nine.\nOn Sundays at ten.\nFrage 2: Where?\nAntwort: Here: there.",
        ] {
            assert_eq!(pairs(text), wanted, "{text}");
        }
        for text in ["", "We open at nine.", "Q: When?\nQ: Where?\nA: Here.", "Why?"] {
            assert_eq!(pairs(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_passage_is_empty_or_too_long_and_no_word_is_lost(text in "([a-z#]{1,9}[ .\n]{1,3}){0,400}") {
            let pieces = cut(&Extracted::Text(text.clone()), 20_000);
            let kept: String = pieces.iter().flat_map(|it| [it.heading.as_str(), " ", it.text.as_str(), " "]).collect();
            for piece in &pieces {
                prop_assert!(!piece.text.trim().is_empty());
                prop_assert!(piece.text.chars().count() <= ENOUGH + MOST);
                let _ = pairs(&piece.text);
            }
            for paragraph in text.split("\n\n").filter(|it| !it.contains('#')) {
                for word in paragraph.split(|c: char| !c.is_alphanumeric()).filter(|it| !it.is_empty()) {
                    prop_assert!(kept.contains(word), "{word}");
                }
            }
        }
    }

    /// What stands in every passage is short, whatever was written, and nobody makes what nobody keeps.
    #[test]
    fn a_small_text_makes_no_large_passages() {
        let heading = format!("# {}\n", "x".repeat(250_000));
        let sections = "## a\nx\n".repeat(30_000);
        let pieces = cut(&Extracted::Text(format!("{heading}{sections}")), 20_000);
        assert_eq!(pieces.len(), 20_001);
        assert!(pieces.iter().all(|it| it.heading.len() <= LONGEST_HEADING && it.text.len() <= 4 * MOST));
        let pairs = vec![("y".repeat(100_000), "z. ".repeat(100_000))];
        let pieces = cut(&Extracted::Pairs(pairs), 20_000);
        assert!(pieces.len() > 100 && pieces.iter().all(|it| it.question.is_none()));
        let table = vec!["w ".repeat(5_000_000)];
        assert_eq!(cut(&Extracted::Rows(table), 100).len(), 101);
    }

    /// A line that goes on for ever is looked at once.
    #[test]
    fn many_short_lines_are_one_paragraph() {
        let text = format!("{}\n{}", "b".repeat(FULL), "a\n".repeat(200_000));
        let pieces = cut(&Extracted::Text(text), 20_000);
        assert_eq!(pieces.iter().map(|it| it.text.matches('a').count()).sum::<usize>(), 200_000);
    }
}
