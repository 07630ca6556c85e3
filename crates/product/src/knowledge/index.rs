//! The full-text index of one agent: built in memory from its passages, searched by BM25, and judged for how well each hit
//! covers the question.

use crate::id::{KnowledgeSourceId, PassageId};
use crate::knowledge::analysis::{sentences, terms};
use crate::knowledge::english::{self, Wants};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, Occur, Query, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{Index as Engine, Searcher, TantivyDocument, Term};

/// A passage as it is kept beside the index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub id: PassageId,
    /// The knowledge source that it comes from.
    pub source: KnowledgeSourceId,
    /// The source's name.
    pub label: String,
    /// Where the source was fetched.
    pub url: Option<String>,
    /// The headings above it.
    pub heading: String,
    /// The question that it answers.
    pub question: Option<String>,
    /// What it says.
    pub text: String,
    /// ISO 639-1.
    pub language: String,
}

impl Entry {
    /// What stands above the text: the source's name, the headings, the question.
    fn head(&self) -> String {
        [self.label.as_str(), &self.heading, self.question.as_deref().unwrap_or_default()].join(" \n ")
    }
}

/// Memory that the engine may use while it builds; it is given back after.
const BUILD_BYTES: usize = 15_000_000;
/// A term in the head says more about a passage than one in its text.
const HEAD_BOOST: f32 = 1.6;
/// How much another word for the same thing counts, and how much a word that is spelt alike.
const SYNONYM: f64 = 0.75;
const ALIKE: f64 = 0.8;
/// Hits that are judged for each that is wanted, and at least.
const JUDGED: (usize, usize) = (4, 40);
/// Terms that stand for a word that no passage has.
const MOST_ALIKE: usize = 8;
/// How far is looked for them: different letters at one place, and terms that only go on.
const MOST_LETTERS: usize = 64;
const MOST_ENDINGS: usize = 256;
/// Words of a question that are looked at.
const MOST_CONCEPTS: usize = 48;

/// A word of a question with the terms that stand for it, and how much each counts.
#[derive(Clone, Debug)]
pub struct Concept {
    variants: Vec<(String, f64)>,
    /// How much it tells, by how rare it is here.
    weight: f64,
}

impl Concept {
    /// A word with those for the same thing.
    fn plain(term: String, language: &str) -> Self {
        let english = language == "en";
        let weight = english::telling(&term, language);
        let others = english::synonyms(&term).filter(|_| english);
        let mut variants: Vec<(String, f64)> = others.map(|it| (it.clone(), SYNONYM)).collect();
        variants.push((term, 1.0));
        Self { variants, weight }
    }

    /// How well a text with these terms has it, 0 to 1.
    fn strength(&self, present: &HashSet<String>) -> f64 {
        self.variants.iter().filter(|(term, _)| present.contains(term)).map(|(_, it)| *it).fold(0.0, f64::max)
    }
}

/// How much of what was asked a text with these terms has, 0 to 1.
pub fn coverage(concepts: &[Concept], present: &HashSet<String>) -> f64 {
    let total: f64 = concepts.iter().map(|it| it.weight).sum();
    let had: f64 = concepts.iter().map(|it| it.weight * it.strength(present)).sum();
    if total > 0.0 { had / total } else { 0.0 }
}

/// The terms of a passage or a part of it: its words, and what is not there word by word: pairs of them that are one, and what it
/// says by its form.
fn said(text: &str, language: &str) -> Vec<String> {
    let mut all = terms(text, language);
    if language == "en" {
        let mut more: BTreeSet<String> = english::joined(all.clone()).into_iter().collect();
        more.extend(english::by_form(text).cloned());
        more.retain(|it| !all.contains(it));
        all.extend(more);
    }
    all
}

/// The terms of a question.
fn asked(question: &str, language: &str) -> Vec<String> {
    let words = terms(question, language);
    if language != "en" {
        return words;
    }
    let mut words = english::joined(words);
    if Wants::of(question, language) == Wants::Place {
        words.extend(terms("address", language));
    }
    words
}

/// How much of a question a text says, 0 to 1, where nothing tells how rare its words are.
pub fn overlap(question: &str, text: &str, language: &str) -> f64 {
    let present = said(text, language).into_iter().collect();
    let asked: BTreeSet<String> = asked(question, language).into_iter().collect();
    let concepts: Vec<Concept> = asked.into_iter().map(|term| Concept::plain(term, language)).collect();
    coverage(&concepts, &present)
}

/// What is known of a hit before it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Signals {
    /// How much of the question the passage with its head covers.
    pub passage: f64,
    /// How much of it the best of its sentences does.
    pub sentence: f64,
    /// BM25 by the most that the question could get.
    pub bm25: f64,
    /// Words of the question that are there.
    pub matched: f64,
    /// How much of the passage's own question was asked.
    pub question: f64,
    /// Whether the passage has the kind of thing that was asked for: 1, 0, or a half where that can't be told.
    pub kind: f64,
}

/// The index of one agent's passages.
pub struct Index {
    entries: Vec<Entry>,
    searcher: Searcher,
    fields: Fields,
    /// How many passages have a term.
    frequency: BTreeMap<String, u32>,
    languages: BTreeSet<String>,
}

#[derive(Clone, Copy)]
struct Fields {
    head: Field,
    body: Field,
    source: Field,
}

/// A question as passages of one language are held against it.
struct Asked {
    concepts: Vec<Concept>,
    /// The most that BM25 may give for it, about.
    most: f64,
    said: HashSet<String>,
    wants: Wants,
}

/// A hit: which entry, and how it was judged.
pub struct Hit<'i> {
    /// The passage.
    pub entry: &'i Entry,
    /// 0 to 1.
    pub similarity: f64,
    /// What that rests on.
    pub signals: Signals,
}

impl Index {
    /// Builds the index of these passages.
    pub fn build(entries: Vec<Entry>) -> tantivy::Result<Self> {
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqs);
        let text = TextOptions::default().set_indexing_options(indexing);
        let fields = Fields {
            head: schema.add_text_field("head", text.clone()),
            body: schema.add_text_field("body", text),
            source: schema.add_text_field("source", STRING),
        };
        let builder = Engine::builder().schema(schema.build());
        // One segment, so that a document's number is the entry's.
        let mut writer = builder.single_segment_index_writer(RamDirectory::create(), BUILD_BYTES)?;
        let mut frequency: BTreeMap<String, u32> = BTreeMap::new();
        let mut languages = BTreeSet::new();
        for entry in &entries {
            let (head, body) = (said(&entry.head(), &entry.language), said(&entry.text, &entry.language));
            for term in head.iter().chain(&body).collect::<HashSet<_>>() {
                *frequency.entry(term.clone()).or_default() += 1;
            }
            languages.insert(entry.language.clone());
            let mut document = TantivyDocument::default();
            document.add_pre_tokenized_text(fields.head, tokens(head));
            document.add_pre_tokenized_text(fields.body, tokens(body));
            document.add_text(fields.source, entry.source.to_string());
            writer.add_document(document)?;
        }
        let searcher = writer.finalize()?.reader()?.searcher();
        Ok(Self { entries, searcher, fields, frequency, languages })
    }

    /// How many passages it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The best passages for a question, best first. `sources`: only of these; empty: of all.
    pub fn search(
        &self,
        question: &str,
        sources: &[KnowledgeSourceId],
        limit: usize,
    ) -> tantivy::Result<Vec<Hit<'_>>> {
        let mut spelling = Spelling::default();
        let asked: HashMap<&str, Asked> =
            self.languages.iter().map(|it| (it.as_str(), self.asked(question, it, &mut spelling))).collect();
        let mut wanted: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for concept in asked.values().flat_map(|it| &it.concepts) {
            let variants = concept.variants.iter().flat_map(|(term, strength)| {
                let boosts = [(self.fields.body, 1.0), (self.fields.head, HEAD_BOOST)];
                boosts.map(|(field, boost)| self.term(field, term, boost * *strength as f32))
            });
            wanted.push((
                Occur::Should,
                Box::new(DisjunctionMaxQuery::with_tie_breaker(variants.collect(), 0.3)),
            ));
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut query: Vec<(Occur, Box<dyn Query>)> =
            vec![(Occur::Must, Box::new(BooleanQuery::new(wanted)))];
        if !sources.is_empty() {
            let any =
                sources.iter().map(|it| (Occur::Should, self.term(self.fields.source, &it.to_string(), 1.0)));
            let any = BooleanQuery::new(any.collect());
            query.push((Occur::Must, Box::new(ConstScoreQuery::new(Box::new(any), 0.0))));
        }
        let judged = (limit * JUDGED.0).max(JUDGED.1);
        let found =
            self.searcher.search(&BooleanQuery::new(query), &TopDocs::with_limit(judged).order_by_score())?;
        let mut hits: Vec<Hit<'_>> = found
            .into_iter()
            .filter_map(|(score, address)| Some((score, self.entries.get(address.doc_id as usize)?)))
            .filter_map(|(score, entry)| {
                let asked = asked.get(entry.language.as_str())?;
                let signals = self.signals(asked, entry, f64::from(score), &mut spelling);
                Some(Hit { entry, similarity: similarity(&signals), signals })
            })
            .collect();
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        hits.truncate(limit);
        Ok(hits)
    }

    fn term(&self, field: Field, term: &str, boost: f32) -> Box<dyn Query> {
        let query = TermQuery::new(Term::from_field_text(field, term), IndexRecordOption::WithFreqs);
        Box::new(BoostQuery::new(Box::new(query), boost))
    }

    fn asked(&self, question: &str, language: &str, spelling: &mut Spelling) -> Asked {
        let concepts = self.concepts(question, language, spelling);
        Asked {
            most: concepts.iter().map(|it| it.weight).sum::<f64>() * 2.2,
            said: said(question, language).into_iter().collect(),
            wants: Wants::of(question, language),
            concepts,
        }
    }

    /// What a question asks about, in the terms of a language.
    fn concepts(&self, question: &str, language: &str, spelling: &mut Spelling) -> Vec<Concept> {
        let mut seen = HashSet::new();
        let distinct = asked(question, language).into_iter().filter(|term| seen.insert(term.clone()));
        distinct.take(MOST_CONCEPTS).map(|term| self.concept(term, language, spelling)).collect()
    }

    fn concept(&self, term: String, language: &str, spelling: &mut Spelling) -> Concept {
        let mut concept = Concept::plain(term.clone(), language);
        concept.variants.retain(|(it, _)| *it == term || self.frequency.contains_key(it));
        if !self.frequency.contains_key(&term) {
            let alike = spelling.0.entry(term.clone()).or_insert_with(|| alike_among(&self.frequency, &term));
            concept.variants.extend(alike.iter().map(|it| (it.clone(), ALIKE)));
        }
        // A word that no passage has weighs as much as one that a single passage has: it may only be another way to say it.
        concept.weight *= self.rarity(self.frequency.get(&term).copied().unwrap_or(0).max(1));
        concept
    }

    /// The inverse document frequency of BM25.
    fn rarity(&self, frequency: u32) -> f64 {
        let (all, has) = (self.entries.len() as f64, f64::from(frequency));
        (1.0 + (all - has + 0.5) / (has + 0.5)).ln()
    }

    fn signals(&self, asked: &Asked, entry: &Entry, score: f64, spelling: &mut Spelling) -> Signals {
        let head: HashSet<String> = said(&entry.head(), &entry.language).into_iter().collect();
        let mut whole = head.clone();
        let mut sentence: f64 = 0.0;
        for text in sentences(&entry.text) {
            let mut own: HashSet<String> = said(text, &entry.language).into_iter().collect();
            whole.extend(own.iter().cloned());
            own.extend(head.iter().cloned());
            sentence = sentence.max(coverage(&asked.concepts, &own));
        }
        let question = entry.question.as_deref().unwrap_or_default();
        let own = self.concepts(question, &entry.language, spelling);
        Signals {
            passage: coverage(&asked.concepts, &whole),
            sentence,
            bm25: if asked.most > 0.0 { score / asked.most } else { 0.0 },
            matched: asked.concepts.iter().map(|it| it.strength(&whole)).sum(),
            question: coverage(&own, &asked.said),
            kind: asked.wants.met_by(&entry.text),
        }
    }
}

/// How sure the signals make it that a passage answers: a logistic regression on the questions of public facts that tests/retrieval
/// names `tune`; fitted to the questions of sites as well it refuses more and misleads no less. What a passage's own question adds is an
/// assumption, too little to answer "may I bring a cat?" from "may I bring a dog?".
fn similarity(signals: &Signals) -> f64 {
    let sum = -6.6
        + 4.7 * signals.passage
        + 2.6 * signals.sentence
        + 0.9 * signals.bm25
        + 2.5 * signals.matched.ln_1p()
        + 0.6 * signals.kind
        + 0.8 * signals.question;
    1.0 / (1.0 + (-sum).exp())
}

fn tokens(terms: Vec<String>) -> PreTokenizedString {
    let token = |(position, text): (usize, String)| Token { position, text, ..Token::default() };
    PreTokenizedString { text: String::new(), tokens: terms.into_iter().enumerate().map(token).collect() }
}

/// What was found for the words of a question that no passage has: each is looked for once.
#[derive(Default)]
struct Spelling(HashMap<String, Vec<String>>);

/// Terms that are most likely the same word as this one, the most frequent ones. Slips are rarely in the first letter. It looks
/// where such terms would stand, so its time grows with the word, not with the terms there are.
fn alike_among(terms: &BTreeMap<String, u32>, term: &str) -> Vec<String> {
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
    let longer = terms.range(term.to_owned()..).map(|(it, _)| it).take_while(|it| it.starts_with(term));
    near.extend(longer.take(MOST_ENDINGS).cloned());
    let mut found: Vec<(u32, String)> =
        near.into_iter().filter(|it| alike(it, term)).filter_map(|it| Some((*terms.get(&it)?, it))).collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.truncate(MOST_ALIKE);
    found.into_iter().map(|(_, it)| it).collect()
}

/// The letters that follow these ones in some term.
fn next_letters(terms: &BTreeMap<String, u32>, before: &str) -> Vec<char> {
    let mut next = Vec::new();
    let mut from = format!("{before}\0");
    while next.len() < MOST_LETTERS {
        let first = terms.range(from..).next().and_then(|(it, _)| it.strip_prefix(before)?.chars().next());
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
    use flowyte_core::id::Id;

    fn entry(n: u8, label: &str, text: &str, language: &str) -> Entry {
        Entry {
            id: PassageId::from_bytes([n; 16]),
            source: KnowledgeSourceId::from_bytes([n; 16]),
            label: label.into(),
            url: None,
            heading: String::new(),
            question: None,
            text: text.into(),
            language: language.into(),
        }
    }

    #[test]
    fn finds_by_stem_synonym_and_misspelling_and_in_each_language() {
        let index = Index::build(vec![
            entry(1, "Prices", "A day ticket costs twelve euros, for students eight.", "en"),
            entry(2, "Hours", "We are open from Tuesday to Sunday, nine to five.", "en"),
            entry(3, "Preise", "Eine Tageskarte kostet zwölf Euro.", "de"),
            entry(4, "料金", "一日券は千円です。", "ja"),
        ])
        .unwrap();
        let first = |question: &str| {
            index.search(question, &[], 3).unwrap().first().map(|it| it.entry.id.as_bytes()[0])
        };
        assert_eq!(first("What is the price of tickets?"), Some(1));
        assert_eq!(first("Is it expensive for pupils?"), Some(1));
        assert_eq!(first("are you open on Tuseday"), Some(2));
        assert_eq!(first("Was kosten Tageskarten?"), Some(3));
        assert_eq!(first("一日券はいくらですか"), Some(4));
        assert_eq!(first("Zeppelin"), None);
        assert_eq!(first("what is it"), None);
        let only = [KnowledgeSourceId::from_bytes([2; 16])];
        assert!(index.search("price of tickets", &only, 3).unwrap().is_empty());
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        let index = Index::build(vec![]).unwrap();
        assert!(index.is_empty() && index.search("anything", &[], 5).unwrap().is_empty());
    }

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
            assert_eq!(alike_among(&terms, &slip), all, "{slip}");
        }
        assert!(alike_among(&terms, "s").is_empty() && alike_among(&terms, "").is_empty());
        let crowd: BTreeMap<String, u32> = (0..30_000).map(|n| (format!("price{}", word(n)), 1)).collect();
        assert!(alike_among(&crowd, "price").len() <= MOST_ALIKE);
    }

    proptest::proptest! {
        /// Looking at the places finds what looking at every term finds.
        #[test]
        fn no_likeness_is_missed(words in proptest::collection::btree_set("a[abcé]{3,8}", 1..60), term in "a[abcé]{3,8}") {
            let terms: BTreeMap<String, u32> = words.into_iter().map(|it| (it, 1)).collect();
            let mut all: Vec<String> = terms.keys().filter(|it| alike(it, &term)).cloned().collect();
            all.truncate(MOST_ALIKE);
            let mut found = alike_among(&terms, &term);
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
