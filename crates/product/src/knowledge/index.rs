//! The full-text index of one agent: built in memory from its passages, searched by BM25, and judged for how well each hit
//! covers the question.
//!
//! The index consists of segments that never change. A change of some sources makes a new index, which shares all segments
//! with the one before and has one more, with the passages that these sources have now; what older segments have of them is no
//! longer served. Whoever searches the index before goes on doing so. Statistics are those of the passages that are served,
//! whichever segments they are in, so the answers are those of an index built from them at once. When there are many segments,
//! or much in one that is not served, [`Index::merge`] makes one of them, aside, and [`Index::with`] puts it in their place.
//! A change costs what its own passages cost. A passage is merged again when about as many others have come as it stands with, so
//! the work for each grows as slowly as the number of digits of how many there are.

use crate::id::{KnowledgeSourceId, PassageId};
use crate::knowledge::analysis::terms;
use crate::knowledge::english::{self, Wants};
use crate::knowledge::said::{Said, said};
use crate::knowledge::segment::{Places, Segment, Wanted};
use crate::knowledge::spelling::Spelling;
use crate::knowledge::statistics::Statistics;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use tantivy::query::Bm25Weight;

/// A passage as it is kept beside the index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The id of the passage (`chunk_…`).
    pub id: PassageId,
    /// The knowledge source that it comes from.
    pub source: KnowledgeSourceId,
    /// What the organization calls the source.
    pub label: String,
    /// Where the source was fetched.
    pub url: Option<String>,
    /// The headings above the passage, divided by ` › `; empty where there are none.
    pub heading: String,
    /// The question that it answers.
    pub question: Option<String>,
    /// The text of the passage, without the headings above it.
    pub text: String,
    /// The language of the passage, ISO 639-1; empty where nobody could tell.
    pub language: String,
}

impl Entry {
    /// What stands above the text: the source's name, the headings, the question.
    pub(crate) fn head(&self) -> String {
        [self.label.as_str(), &self.heading, self.question.as_deref().unwrap_or_default()].join(" \n ")
    }
}

/// A passage with the terms by which it is judged.
pub struct Kept {
    /// The passage as a hit shows it.
    pub entry: Entry,
    said: Said,
}

/// Segments that an index has for long, and at all: with more, a change merges some of them itself.
const MANY_SEGMENTS: usize = 8;
const MOST_SEGMENTS: usize = 32;
/// A term in the head says more about a passage than one in its text.
const HEAD_BOOST: f32 = 1.6;
/// How much another word for the same thing counts, and how much a word that is spelt alike.
const SYNONYM: f64 = 0.75;
const ALIKE: f64 = 0.8;
/// Hits that are judged for each that is wanted, and at least.
const JUDGED: (usize, usize) = (4, 40);
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
    fn strength(&self, present: &HashSet<&str>) -> f64 {
        self.variants
            .iter()
            .filter(|(term, _)| present.contains(term.as_str()))
            .map(|(_, it)| *it)
            .fold(0.0, f64::max)
    }
}

/// How much of what was asked a text with these terms has, 0 to 1.
pub fn coverage(concepts: &[Concept], present: &HashSet<&str>) -> f64 {
    let total: f64 = concepts.iter().map(|it| it.weight).sum();
    let had: f64 = concepts.iter().map(|it| it.weight * it.strength(present)).sum();
    if total > 0.0 { had / total } else { 0.0 }
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
    let present = said(text, language);
    let present = present.iter().map(String::as_str).collect();
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
#[derive(Clone, Default)]
pub struct Index {
    layers: Vec<Layer>,
    statistics: Statistics,
}

/// A segment, with what is served of it. Each source is served from one.
#[derive(Clone)]
struct Layer {
    segment: Arc<Segment>,
    served: Places,
    passages: usize,
}

impl Layer {
    fn new(segment: Arc<Segment>, served: Places) -> Self {
        let passages = served.values().map(ExactSizeIterator::len).sum();
        Self { segment, served, passages }
    }

    /// What is served of a source, which then is not any more.
    fn take(&mut self, source: KnowledgeSourceId) -> Option<&[Arc<Kept>]> {
        let place = self.served.get(&source)?.clone();
        self.served.remove_mut(&source);
        self.passages -= place.len();
        Some(self.segment.entries(&place))
    }

    /// Adds the passages that have words of a question. `sources`: only of these; empty: of all.
    fn find<'i>(
        &'i self,
        question: &[Vec<Wanted>],
        sources: &BTreeSet<KnowledgeSourceId>,
        found: &mut Vec<Found<'i>>,
    ) -> tantivy::Result<()> {
        let scores = self.segment.scores(question)?;
        let wanted = |source: &KnowledgeSourceId| sources.is_empty() || sources.contains(source);
        for (source, place) in self.served.iter().filter(|it| wanted(it.0)) {
            let (from, to) = (place.start as usize, place.end as usize);
            let passages = self.segment.entries(place).iter().zip(&scores[from..to]).zip(place.clone());
            found.extend(
                passages.filter(|((_, score), _)| **score > 0.0).map(|((kept, score), number)| Found {
                    score: *score,
                    source: *source,
                    number,
                    kept,
                }),
            );
        }
        Ok(())
    }

    /// Whether most of it is not served.
    fn is_hollow(&self) -> bool {
        self.passages * 2 < self.segment.len()
    }
}

/// One segment in place of some.
pub struct Merged {
    from: Vec<Layer>,
    segment: Arc<Segment>,
}

impl Merged {
    /// Of what is served of these layers.
    fn of(from: Vec<Layer>) -> tantivy::Result<Self> {
        let served = from.iter().flat_map(|it| it.served.values().flat_map(|at| it.segment.entries(at)));
        let mut kept: Vec<&Arc<Kept>> = served.collect();
        kept.sort_by_key(|it| it.entry.source);
        let passages = kept.iter().map(|it| (Arc::clone(it), Said::of(&it.entry).1));
        let segment = Arc::new(Segment::build(kept.len(), passages)?);
        Ok(Self { from, segment })
    }
}

/// A passage that has words of a question.
struct Found<'i> {
    score: f32,
    source: KnowledgeSourceId,
    number: u32,
    kept: &'i Kept,
}

impl Found<'_> {
    /// The best first; of equals, in the order of sources and of their passages.
    fn order(&self, other: &Self) -> Ordering {
        let place = (self.source, self.number).cmp(&(other.source, other.number));
        other.score.total_cmp(&self.score).then(place)
    }
}

/// A question as passages of one language are held against it.
struct Asked {
    concepts: Vec<Concept>,
    /// The most that BM25 may give for it, about.
    most: f64,
    said: Vec<String>,
    wants: Wants,
}

/// A hit: which entry, and how it was judged.
pub struct Hit<'i> {
    /// The passage that was found.
    pub entry: &'i Entry,
    /// How sure it is that the passage answers the question, from 0 to 1.
    pub similarity: f64,
    /// The measures that the similarity is made of.
    pub signals: Signals,
}

impl Index {
    /// Builds the index of these passages.
    pub fn build(entries: Vec<Entry>) -> tantivy::Result<Self> {
        Self::default().changed(&[], entries)
    }

    /// The index after a change of these sources and of those that the entries are of: the entries are all that there is of them
    /// now, in their order.
    pub fn changed(&self, sources: &[KnowledgeSourceId], mut entries: Vec<Entry>) -> tantivy::Result<Self> {
        let mut new = self.clone();
        let changed: BTreeSet<KnowledgeSourceId> =
            sources.iter().copied().chain(entries.iter().map(|it| it.source)).collect();
        for source in changed {
            new.remove(source);
        }
        new.layers.retain(|it| it.passages > 0);
        if entries.is_empty() {
            return Ok(new);
        }
        entries.sort_by_key(|it| it.source);
        let statistics = &mut new.statistics;
        let segment = Segment::build(
            entries.len(),
            entries.into_iter().map(|entry| {
                let (said, words) = Said::of(&entry);
                statistics.add(&entry.language, &words);
                (Arc::new(Kept { entry, said }), words)
            }),
        )?;
        let places = segment.places().clone();
        new.layers.push(Layer::new(Arc::new(segment), places));
        if new.layers.len() > MOST_SEGMENTS {
            let small = new.by_size().into_iter().take(MOST_SEGMENTS / 2).cloned().collect();
            new = new.with(&Merged::of(small)?);
        }
        Ok(new)
    }

    /// Takes away what is served of a source.
    fn remove(&mut self, source: KnowledgeSourceId) {
        let Self { layers, statistics } = self;
        for kept in layers.iter_mut().find_map(|it| it.take(source)).unwrap_or_default() {
            statistics.remove(&kept.entry.language, &Said::of(&kept.entry).1);
        }
    }

    /// The layers by how many passages their segments have, served or not, the smallest first.
    fn by_size(&self) -> Vec<&Layer> {
        let mut layers: Vec<&Layer> = self.layers.iter().collect();
        layers.sort_by_key(|it| it.segment.len());
        layers
    }

    /// The layers that should be one: where there are many, the smaller half and what is no larger than these together, so that
    /// what was merged is left alone until there is as much again; else those that are hollow.
    fn crowd(&self) -> Vec<&Layer> {
        let mut layers = self.by_size();
        if layers.len() <= MANY_SEGMENTS {
            layers.retain(|it| it.is_hollow());
            return layers;
        }
        let (mut many, mut together) = (0, 0);
        for layer in &layers {
            if many > layers.len() / 2 && layer.segment.len() > together {
                break;
            }
            (many, together) = (many + 1, together + layer.segment.len());
        }
        layers.truncate(many);
        layers
    }

    /// Whether there is something to merge.
    pub fn is_crowded(&self) -> bool {
        !self.crowd().is_empty()
    }

    /// Makes one segment of those that should be one, if there are any. It takes a while, in which the index may change.
    pub fn merge(&self) -> tantivy::Result<Option<Merged>> {
        let crowd: Vec<Layer> = self.crowd().into_iter().cloned().collect();
        if crowd.is_empty() { Ok(None) } else { Merged::of(crowd).map(Some) }
    }

    /// The index with a merged segment in place of those that it was made of, as far as they are still there. What has changed since
    /// is served from where it is now.
    pub fn with(&self, merged: &Merged) -> Self {
        let is_from = |layer: &Layer| merged.from.iter().any(|it| Arc::ptr_eq(&it.segment, &layer.segment));
        let (old, mut layers): (Vec<Layer>, Vec<Layer>) = self.layers.iter().cloned().partition(is_from);
        let mut served = merged.segment.places().clone();
        for source in merged.segment.places().keys() {
            if !old.iter().any(|it| it.served.contains_key(source)) {
                served.remove_mut(source);
            }
        }
        if !served.is_empty() {
            layers.push(Layer::new(merged.segment.clone(), served));
        }
        Self { layers, statistics: self.statistics.clone() }
    }

    /// How many passages it has.
    pub fn len(&self) -> usize {
        self.statistics.passages() as usize
    }

    /// Whether the agent has no passage that is served.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many passages it has of these sources.
    pub fn passages_of(&self, sources: &[KnowledgeSourceId]) -> usize {
        let served = self.layers.iter().flat_map(|it| sources.iter().filter_map(|one| it.served.get(one)));
        served.map(ExactSizeIterator::len).sum()
    }

    /// How many passages are kept for it, served or not.
    pub fn kept(&self) -> usize {
        self.layers.iter().map(|it| it.segment.len()).sum()
    }

    /// The best passages for a question, best first. `sources`: only of these; empty: of all.
    pub fn search(
        &self,
        question: &str,
        sources: &[KnowledgeSourceId],
        limit: usize,
    ) -> tantivy::Result<Vec<Hit<'_>>> {
        let mut spelling = Spelling::default();
        let languages = self.statistics.languages();
        let asked: BTreeMap<&str, Asked> =
            languages.map(|it| (it, self.asked(question, it, &mut spelling))).collect();
        let concepts = asked.values().flat_map(|it| &it.concepts);
        let wanted: Vec<Vec<Wanted>> = concepts.map(|it| self.wanted(it)).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let sources: BTreeSet<KnowledgeSourceId> = sources.iter().copied().collect();
        let judged = (limit * JUDGED.0).max(JUDGED.1);
        let mut found = Vec::new();
        for layer in &self.layers {
            layer.find(&wanted, &sources, &mut found)?;
            if found.len() > judged {
                found.select_nth_unstable_by(judged, Found::order);
                found.truncate(judged);
            }
        }
        found.sort_unstable_by(Found::order);
        let mut hits = Vec::with_capacity(found.len());
        for Found { score, kept, .. } in found {
            let Some(asked) = asked.get(kept.entry.language.as_str()) else { continue };
            let signals = self.signals(asked, kept, f64::from(score), &mut spelling);
            hits.push(Hit { entry: &kept.entry, similarity: similarity(&signals), signals });
        }
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        hits.truncate(limit);
        Ok(hits)
    }

    /// The terms by which a word is looked for, each in texts and heads, as far as it is there.
    fn wanted(&self, concept: &Concept) -> Vec<Wanted> {
        let all = u64::from(self.statistics.passages());
        let [in_head, in_body] = self.statistics.average_lengths();
        let mut wanted = Vec::new();
        for (term, strength) in &concept.variants {
            let known = self.statistics.frequency(term);
            let fields = [(false, known.body, in_body, 1.0), (true, known.head, in_head, HEAD_BOOST)];
            for (head, has, length, boost) in fields.into_iter().filter(|it| it.1 > 0) {
                let weight = Bm25Weight::for_one_term_without_explain(has.into(), all, length);
                wanted.push(Wanted::new(term, head, weight.boost_by(boost * *strength as f32)));
            }
        }
        wanted
    }

    fn asked(&self, question: &str, language: &str, spelling: &mut Spelling) -> Asked {
        let concepts = self.concepts(question, language, spelling);
        Asked {
            most: concepts.iter().map(|it| it.weight).sum::<f64>() * 2.2,
            said: said(question, language),
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
        concept.variants.retain(|(it, _)| *it == term || self.statistics.has(it));
        if !self.statistics.has(&term) {
            let alike = spelling.alike(&self.statistics, &term);
            concept.variants.extend(alike.iter().map(|it| (it.clone(), ALIKE)));
        }
        // A word that no passage has weighs as much as one that a single passage has: it may only be another way to say it.
        concept.weight *= self.rarity(self.statistics.frequency(&term).any.max(1));
        concept
    }

    /// The inverse document frequency of BM25.
    fn rarity(&self, frequency: u32) -> f64 {
        let (all, has) = (f64::from(self.statistics.passages()), f64::from(frequency));
        (1.0 + (all - has + 0.5) / (has + 0.5)).ln()
    }

    fn signals(&self, asked: &Asked, kept: &Kept, score: f64, spelling: &mut Spelling) -> Signals {
        let Kept { entry, said } = kept;
        let head: HashSet<&str> = said.head().collect();
        let mut whole = head.clone();
        let mut sentence: f64 = 0.0;
        for terms in said.sentences() {
            let mut own: HashSet<&str> = terms.collect();
            whole.extend(&own);
            own.extend(&head);
            sentence = sentence.max(coverage(&asked.concepts, &own));
        }
        let question = entry.question.as_deref().unwrap_or_default();
        let own = self.concepts(question, &entry.language, spelling);
        Signals {
            passage: coverage(&asked.concepts, &whole),
            sentence,
            bm25: if asked.most > 0.0 { score / asked.most } else { 0.0 },
            matched: asked.concepts.iter().map(|it| it.strength(&whole)).sum(),
            question: coverage(&own, &asked.said.iter().map(String::as_str).collect()),
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

    const QUESTIONS: [&str; 6] = [
        "What is the price of a ticket?",
        "are you opn on tuseday",
        "refund money back for the exhibition",
        "where are you, what is your address",
        "Was kostet die Tageskarte im Museum?",
        "ticket museum preis hour guide dog",
    ];

    /// What an index answers, to the last bit.
    fn answers(index: &Index, sources: &[KnowledgeSourceId]) -> Vec<(PassageId, u64, String)> {
        let hits = QUESTIONS.iter().flat_map(|it| index.search(it, sources, 12).unwrap());
        hits.map(|it| (it.entry.id, it.similarity.to_bits(), format!("{:?}", it.signals))).collect()
    }

    #[test]
    fn an_index_that_is_asked_stays_as_it_is_and_many_changes_leave_few_segments() {
        let source = |n: u8| KnowledgeSourceId::from_bytes([n; 16]);
        let text = |n: u8| entry(n, "Prices", &format!("A ticket for hall {n} costs {n} euros."), "en");
        let first = Index::build((0..200).map(text).collect()).unwrap();
        let before = answers(&first, &[]);
        let mut index = first.clone();
        for n in 0..200 {
            index = index.changed(&[source(n)], (n % 2 == 0).then(|| text(n)).into_iter().collect()).unwrap();
            assert!(index.layers.len() <= MOST_SEGMENTS);
        }
        assert_eq!(answers(&first, &[]), before);
        assert_eq!(index.len(), 100);
        while let Some(merged) = index.merge().unwrap() {
            index = index.with(&merged);
        }
        assert!(index.layers.len() <= MANY_SEGMENTS && index.kept() <= 200, "{}", index.kept());
        let anew = Index::build((0..200).step_by(2).map(text).collect()).unwrap();
        assert_eq!(answers(&index, &[]), answers(&anew, &[]));
        for n in 0..200 {
            index = index.changed(&[source(n)], vec![]).unwrap();
        }
        assert!(
            index.is_empty() && index.layers.is_empty() && index.statistics.terms_from("").next().is_none()
        );
    }

    /// What happens to an index.
    #[derive(Clone, Debug)]
    enum Step {
        /// Sources have these passages now, and no others.
        Change(Vec<(u8, Vec<Entry>)>),
        /// Segments are merged, and put in their place some steps later.
        Merge,
        Put,
    }

    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
        use proptest::prelude::*;
        const WORDS: &[&str] = &[
            "ticket",
            "tickets",
            "price",
            "prize",
            "open",
            "opening hours",
            "museum",
            "Tuesday.",
            "tuesdays",
            "refund",
            "money",
            "back.",
            "guide",
            "guided!",
            "12 Main Street",
            "desk@example.com",
            "€5",
            "dog",
            "exhibition",
            "Preis",
            "Tageskarte",
            "kostet",
            "hour",
        ];
        let words =
            |most| prop::collection::vec(prop::sample::select(WORDS), 0..most).prop_map(|it| it.join(" "));
        let language = prop::sample::select(&["en", "en", "de", ""][..]);
        let passage = (words(3), words(3), prop::option::of(words(5)), words(20), language).prop_map(
            |(label, heading, question, text, language)| Entry {
                heading,
                question,
                ..entry(0, &label, &text, language)
            },
        );
        let source = (0..30_u8, prop::collection::vec(passage, 0..4));
        let change = prop::collection::vec(source, 1..4).prop_map(Step::Change);
        prop::collection::vec(prop_oneof![6 => change, 1 => Just(Step::Merge), 1 => Just(Step::Put)], 0..60)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Whatever was added, changed, removed and merged, in whatever order: the answers are those of an index of what is there.
        #[test]
        fn an_index_that_followed_answers_as_one_that_was_built(steps in steps()) {
            let mut there: BTreeMap<KnowledgeSourceId, Vec<Entry>> = BTreeMap::new();
            let (mut index, mut merged, mut number) = (Index::default(), None, 0_u64);
            for step in steps {
                match step {
                    Step::Change(sources) => {
                        let mut now = BTreeMap::new();
                        for (n, mut entries) in sources {
                            let source = KnowledgeSourceId::from_bytes([n; 16]);
                            for it in &mut entries {
                                number += 1;
                                let mut id = [0; 16];
                                id[8..].copy_from_slice(&number.to_be_bytes());
                                (it.id, it.source) = (PassageId::from_bytes(id), source);
                            }
                            now.insert(source, entries);
                        }
                        let sources: Vec<KnowledgeSourceId> = now.keys().copied().collect();
                        index = index.changed(&sources, now.values().flatten().cloned().collect()).unwrap();
                        there.extend(now);
                    }
                    Step::Merge => merged = index.merge().unwrap(),
                    Step::Put => index = merged.take().map_or(index.clone(), |it| index.with(&it)),
                }
            }
            let anew = Index::build(there.values().flatten().cloned().collect()).unwrap();
            proptest::prop_assert_eq!(index.len(), anew.len());
            proptest::prop_assert_eq!(answers(&index, &[]), answers(&anew, &[]));
            let some: Vec<KnowledgeSourceId> = there.keys().copied().step_by(3).collect();
            proptest::prop_assert_eq!(answers(&index, &some), answers(&anew, &some));
        }
    }
}
