//! A part of an agent's index that never changes: some passages, and where each of their terms is.

use crate::id::KnowledgeSourceId;
use crate::knowledge::index::Kept;
use crate::knowledge::said::Words;
use rpds::RedBlackTreeMapSync;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use tantivy::directory::RamDirectory;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::{IndexSettings, InvertedIndexReader};
use tantivy::postings::Postings as _;
use tantivy::query::Bm25Weight;
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{
    DocId, DocSet as _, Index as Engine, SegmentReader, SingleSegmentIndexWriter, TERMINATED,
    TantivyDocument, TantivyError, Term,
};

/// Memory that the engine asks for at once while it builds: for each passage, at least, and at most. It is given back after.
const BUILD_BYTES: (usize, usize, usize) = (2_000, 100_000, 15_000_000);
/// How much of what the other terms for a word say is added to what the best of them says.
const OTHERS: f32 = 0.3;

/// The fields of a passage: what stands above the text, and the text.
struct Fields {
    schema: Schema,
    head: Field,
    body: Field,
}

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let mut schema = Schema::builder();
    // Terms, as they are, with spaces between.
    let indexing = TextFieldIndexing::default().set_tokenizer("whitespace");
    let indexing = indexing.set_index_option(IndexRecordOption::WithFreqs);
    let text = TextOptions::default().set_indexing_options(indexing);
    let (head, body) = (schema.add_text_field("head", text.clone()), schema.add_text_field("body", text));
    Fields { schema: schema.build(), head, body }
});

/// Where the passages of each source are.
pub type Places = RedBlackTreeMapSync<KnowledgeSourceId, Range<DocId>>;

/// A term that is looked for, and what it is worth.
pub struct Wanted {
    term: Term,
    /// In what stands above the text.
    head: bool,
    weight: Bm25Weight,
}

impl Wanted {
    /// A term in a head or in a text.
    pub fn new(term: &str, head: bool, weight: Bm25Weight) -> Self {
        let field = if head { FIELDS.head } else { FIELDS.body };
        Self { term: Term::from_field_text(field, term), head, weight }
    }
}

/// One field of all passages.
struct Part {
    terms: Arc<InvertedIndexReader>,
    lengths: FieldNormReader,
}

impl Part {
    fn open(reader: &SegmentReader, field: Field) -> tantivy::Result<Self> {
        Ok(Self { terms: reader.inverted_index(field)?, lengths: reader.get_fieldnorms_reader(field)? })
    }
}

/// Passages with where their terms are.
pub struct Segment {
    entries: Vec<Arc<Kept>>,
    places: Places,
    head: Part,
    body: Part,
}

impl Segment {
    /// Of about as many passages as is said, with their terms; those of one source follow one another.
    pub fn build(about: usize, passages: impl Iterator<Item = (Arc<Kept>, Words)>) -> tantivy::Result<Self> {
        // Nothing is stored, so nothing is to be compressed by a thread of its own.
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let (each, least, most) = BUILD_BYTES;
        let mut writer: SingleSegmentIndexWriter = Engine::builder()
            .schema(FIELDS.schema.clone())
            .settings(settings)
            .single_segment_index_writer(RamDirectory::create(), (about * each).clamp(least, most))?;
        let (mut entries, mut places) = (Vec::with_capacity(about), Places::new_sync());
        for (kept, words) in passages {
            let (source, number) = (kept.entry.source, entries.len() as DocId);
            let first = places.get(&source).map_or(number, |it| it.start);
            places.insert_mut(source, first..number + 1);
            entries.push(kept);
            let mut document = TantivyDocument::default();
            document.add_text(FIELDS.head, words.head.join(" "));
            document.add_text(FIELDS.body, words.body.join(" "));
            writer.add_document(document)?;
        }
        let segments = writer.finalize()?.searchable_segments()?;
        let segment = segments.first().ok_or_else(|| TantivyError::SystemError("no segment".into()))?;
        let reader = SegmentReader::open(segment)?;
        let (head, body) = (Part::open(&reader, FIELDS.head)?, Part::open(&reader, FIELDS.body)?);
        Ok(Self { entries, places, head, body })
    }

    /// How many passages it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the passages of each source are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The passages at a place.
    pub fn entries(&self, place: &Range<DocId>) -> &[Arc<Kept>] {
        self.entries.get(place.start as usize..place.end as usize).unwrap_or_default()
    }

    /// What each passage gets for a question, whose words are looked for by any of the terms that stand for each.
    ///
    /// The engine's own queries add in an order that depends on what else is in a segment, and sums of rounded numbers with it;
    /// here they are added in the order of the question, so that a passage gets the same in each segment.
    pub fn scores(&self, question: &[Vec<Wanted>]) -> tantivy::Result<Vec<f32>> {
        let mut tally = Tally::new(self.entries.len());
        for word in question {
            for wanted in word {
                let part = if wanted.head { &self.head } else { &self.body };
                let found = part.terms.read_postings(&wanted.term, IndexRecordOption::WithFreqs)?;
                let Some(mut found) = found else { continue };
                let mut passage = found.doc();
                while passage != TERMINATED {
                    let length = part.lengths.fieldnorm_id(passage);
                    tally.add(passage, wanted.weight.score(length, found.term_freq()));
                    passage = found.advance();
                }
            }
            tally.end_word();
        }
        Ok(tally.total)
    }
}

/// What passages get for the words so far, and for the terms of this word.
struct Tally {
    total: Vec<f32>,
    best: Vec<f32>,
    sum: Vec<f32>,
    /// Passages that have one of this word's terms.
    having: Vec<DocId>,
}

impl Tally {
    fn new(passages: usize) -> Self {
        let zeros = || vec![0.0; passages];
        Self { total: zeros(), best: zeros(), sum: zeros(), having: Vec::new() }
    }

    fn add(&mut self, passage: DocId, score: f32) {
        let at = passage as usize;
        if self.sum[at] == 0.0 {
            self.having.push(passage);
        }
        self.sum[at] += score;
        self.best[at] = self.best[at].max(score);
    }

    fn end_word(&mut self) {
        for passage in self.having.drain(..) {
            let at = passage as usize;
            let (best, sum) = (std::mem::take(&mut self.best[at]), std::mem::take(&mut self.sum[at]));
            self.total[at] += best + (sum - best) * OTHERS;
        }
    }
}
