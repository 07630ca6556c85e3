//! Retrieval and refusal measured on public facts: sixty passages, and questions in other words than theirs.
//!
//! Weights and the thesaurus were tuned on the questions of the split `tune` alone; the floors below hold for the other ones,
//! `held`. `cargo test -p flowyte-platform --test retrieval -- --nocapture` prints the figures; with `SIGNALS=1` each hit, too.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test says what went wrong by panicking.

use flowyte_core::id::{Id, KnowledgeSourceId, PassageId};
use flowyte_platform::answerer::KNOWS;
use flowyte_platform::knowledge::index::{Entry, Index};
use serde::Deserialize;

#[derive(Deserialize)]
struct Passage {
    id: String,
    label: String,
    text: String,
}

#[derive(Deserialize)]
struct Question {
    split: String,
    question: String,
    passage: Option<String>,
}

/// Shares of a split's questions.
#[derive(Debug, Default)]
struct Figures {
    answerable: f64,
    unanswerable: f64,
    /// The passage that answers is the first one.
    first: f64,
    /// It is among the first five.
    in_five: f64,
    /// No passage answers, and none is taken to.
    refused: f64,
    /// A passage answers, and none is taken to.
    wrongly_refused: f64,
    /// A passage answers, and another one is taken to.
    misled: f64,
}

fn bytes(n: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[14..].copy_from_slice(&(n as u16).to_be_bytes());
    bytes
}

fn measure(split: &str) -> Figures {
    let passages: Vec<Passage> =
        serde_saphyr::from_str(include_str!("../../../tests/retrieval/passages.yaml")).unwrap();
    let questions: Vec<Question> =
        serde_saphyr::from_str(include_str!("../../../tests/retrieval/questions.yaml")).unwrap();
    let entries = passages.iter().enumerate().map(|(n, it)| Entry {
        id: PassageId::from_bytes(bytes(n)),
        source: KnowledgeSourceId::from_bytes(bytes(n)),
        label: it.label.clone(),
        url: None,
        heading: String::new(),
        question: None,
        text: it.text.clone(),
        language: "en".into(),
    });
    let index = Index::build(entries.collect()).unwrap();
    let name =
        |id: PassageId| &passages[usize::from(u16::from_be_bytes([id.as_bytes()[14], id.as_bytes()[15]]))].id;
    let show = std::env::var_os("SIGNALS").is_some();
    let share = |it: bool| f64::from(u8::from(it));
    let mut figures = Figures::default();
    for question in questions.iter().filter(|it| it.split == split) {
        let hits = index.search(&question.question, &[], 5).unwrap();
        let top = hits.first().map_or(0.0, |it| it.similarity);
        let place = hits.iter().position(|it| Some(name(it.entry.id)) == question.passage.as_ref());
        for (n, hit) in hits.iter().enumerate().filter(|_| show) {
            let right = place == Some(n);
            let (name, sure, signals, text) =
                (name(hit.entry.id), hit.similarity, hit.signals, &question.question);
            println!(
                "hit\t{split}\t{n}\t{right}\t{name}\t{sure:.3}\t{signals:?}\t{:?}\t{text}",
                question.passage
            );
        }
        match &question.passage {
            Some(_) => {
                figures.answerable += 1.0;
                figures.first += share(place == Some(0));
                figures.in_five += share(place.is_some());
                figures.wrongly_refused += share(top < KNOWS);
                figures.misled += share(top >= KNOWS && place != Some(0));
            }
            None => {
                figures.unanswerable += 1.0;
                figures.refused += share(top < KNOWS);
            }
        }
    }
    for it in [&mut figures.first, &mut figures.in_five, &mut figures.wrongly_refused, &mut figures.misled] {
        *it /= figures.answerable;
    }
    figures.refused /= figures.unanswerable;
    println!("{split}: {figures:.3?}");
    figures
}

#[test]
fn what_was_never_tuned_on_is_found_and_what_nobody_knows_is_refused() {
    measure("tune");
    let held = measure("held");
    assert!(held.answerable >= 50.0 && held.unanswerable >= 20.0, "{held:?}");
    assert!(held.in_five >= 0.93 && held.first >= 0.8, "{held:?}");
    assert!(held.refused >= 0.88 && held.wrongly_refused <= 0.38 && held.misled <= 0.05, "{held:?}");
}
