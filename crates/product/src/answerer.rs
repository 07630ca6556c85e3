//! Who answers a visitor.

use crate::conversations::{Speaker, Utterance};
use crate::id::KnowledgeSourceId;
use crate::knowledge::Passage;
use crate::knowledge::analysis::sentences;
use crate::knowledge::index::overlap;
use crate::model::Usage;
use crate::skills::toolbox::{Called, Toolbox, Wish};
use flowyte_core::Environment;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A visitor's message with what the answer may draw on.
pub struct Question<'q> {
    /// The settings that the agent answers with: those of a published version, or of the draft where somebody tries it out.
    pub config: &'q Map<String, Value>,
    /// What the visitor asks now.
    pub text: &'q str,
    /// What was said before it, oldest first.
    pub history: &'q [Utterance],
    /// What the agent knows about it, best first.
    pub passages: Vec<Passage>,
    /// What the agent can do.
    pub toolbox: Arc<Toolbox>,
    /// How the caller wishes it to be made, in fields of OpenAI's chat completions: `temperature`, `stop`, `max_tokens` and the like.
    pub wishes: &'q Map<String, Value>,
}

impl Question<'_> {
    /// Whether the agent has said nothing yet.
    pub fn is_first(&self) -> bool {
        self.history.iter().all(|it| it.speaker != Speaker::Assistant)
    }

    /// Whether the visitor was greeted and has got no answer since.
    fn just_greeted(&self) -> bool {
        let mut said = self.history.iter().filter(|it| it.speaker == Speaker::Assistant);
        said.next().is_some_and(|it| it.text == greeting(self.config)) && said.next().is_none()
    }
}

/// A source that an answer is based on.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// `source_…`, of the knowledge source.
    pub id: KnowledgeSourceId,
    /// What the organization calls it; visitors see it.
    pub label: String,
    /// The address of the page that the source was fetched from; `None` for a text or a file.
    pub url: Option<String>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// More of its text; put together they are what the visitor reads.
    Text(String),
    /// The knowledge sources that the answer is based on, each once.
    Sources(Vec<Source>),
    /// The agent does not know, which the text says in words: a gap in its knowledge.
    Unknown,
    /// A skill was called, whether or not it ran.
    Called(Box<Called>),
    /// The tokens that a model took for the whole answer.
    Usage(Usage),
    /// It ends where the caller's limit on its length ends it.
    Cut,
    /// There will be no answer, or no whole one. Why, for the operator; nothing follows.
    Failed(String),
}

/// Answers one message, piece by piece.
pub trait Answerer: Send + Sync {
    /// The pieces, as they come.
    fn answer(&self, question: &Question<'_>) -> BoxStream<'static, Piece>;
}

/// Who answers in each environment: a test credential never asks a paid model.
pub struct Answerers {
    live: Box<dyn Answerer>,
    test: Embedded,
}

impl Answerers {
    /// `live` answers what live credentials ask.
    pub fn new(live: Box<dyn Answerer>) -> Self {
        Self { live, test: Embedded }
    }

    /// The answerer of an environment.
    pub fn of(&self, environment: Environment) -> &dyn Answerer {
        match environment {
            Environment::Live => &*self.live,
            Environment::Test => &self.test,
        }
    }
}

/// What the configuration greets with.
pub fn greeting(config: &Map<String, Value>) -> String {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    match text("greeting") {
        "" => format!("Hello, this is {}.", text("name")),
        greeting => greeting.to_owned(),
    }
}

/// From which similarity on a passage is taken to answer the question.
pub const KNOWS: f64 = 0.5;
/// From which similarity on a passage is worth a look, though it may not answer.
const RELATED: f64 = 0.25;

/// A passage of at most so many characters is said whole.
const WHOLE: usize = 280;
/// A longer one is said in so many sentences at most, as long as they have not more characters than that.
const SENTENCES: usize = 3;

/// The embedded answerer: it says what the best passage says about the question, in the passage's own words, names the source, and
/// says when it does not know, with what comes closest where something does.
pub struct Embedded;

impl Answerer for Embedded {
    fn answer(&self, question: &Question<'_>) -> BoxStream<'static, Piece> {
        if let Some(wish) = question.toolbox.wish(question.text, question.history) {
            return act(wish, question);
        }
        let mut pieces = Vec::new();
        let greets = is_greeting(question.text);
        if question.is_first() || greets && !question.just_greeted() {
            pieces.extend(words(&format!("{} ", greeting(question.config))));
        }
        match question.passages.first().filter(|it| it.similarity >= RELATED) {
            Some(best) => {
                if best.similarity < KNOWS {
                    pieces.push(Piece::Unknown);
                    let said =
                        format!("I don't know that. What comes closest, from “{}”: ", best.label.trim());
                    pieces.extend(words(&said));
                }
                pieces.extend(words(excerpt(question.text, best)));
                let source = Source { id: best.source, label: best.label.clone(), url: best.url.clone() };
                pieces.push(Piece::Sources(vec![source]));
            }
            None if greets => pieces.extend(words("What would you like to know?")),
            None => {
                pieces.push(Piece::Unknown);
                pieces.extend(words("I don't know that. Please ask the people behind this site."));
            }
        }
        stream::iter(within(pieces, question.wishes)).boxed()
    }
}

/// Ends a text where its caller wishes: before the first of the texts in `stop`, and after so many words as `max_tokens` says, since
/// words are what is counted where there is no model.
fn within(pieces: Vec<Piece>, wishes: &Map<String, Value>) -> Vec<Piece> {
    let most = ["max_completion_tokens", "max_tokens"].iter().find_map(|it| wishes.get(*it)?.as_u64());
    let most = most.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
    let stops: Vec<&str> = match wishes.get("stop") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let text: String = pieces
        .iter()
        .filter_map(|it| if let Piece::Text(text) = it { Some(&**text) } else { None })
        .collect();
    let mut room =
        stops.iter().filter(|it| !it.is_empty()).filter_map(|it| text.find(it)).min().unwrap_or(text.len());
    let (mut kept, mut count) = (Vec::new(), 0);
    for piece in pieces {
        match piece {
            Piece::Text(_) if room == 0 => {}
            Piece::Text(_) if count == most => {
                room = 0;
                kept.push(Piece::Cut);
            }
            Piece::Text(text) => {
                let end = text.len().min(room);
                room -= end;
                count += 1;
                // A stop begins where a character begins.
                kept.push(Piece::Text(text[..end].to_owned()));
            }
            other => kept.push(other),
        }
    }
    kept
}

/// Does what a visitor's message says about skills.
fn act(wish: Wish, question: &Question<'_>) -> BoxStream<'static, Piece> {
    let request = match wish {
        Wish::Run(request) => request,
        Wish::Decline => return stream::iter(words("All right, I won't.")).boxed(),
        Wish::Unreadable(why) => return stream::iter(words(&why)).boxed(),
    };
    let (toolbox, history) = (question.toolbox.clone(), question.history.to_vec());
    let pieces = async move {
        let called = toolbox.call(request, &history).await;
        let mut pieces = words(&called.said);
        if called.unknown {
            pieces.push(Piece::Unknown);
        }
        if !called.sources.is_empty() {
            pieces.push(Piece::Sources(called.sources.clone()));
        }
        pieces.insert(0, Piece::Called(Box::new(called)));
        stream::iter(pieces)
    };
    stream::once(pieces).flatten().boxed()
}

/// The sentences of a passage that say most about a question. An answer that was written as one is not cut.
fn excerpt<'p>(question: &str, passage: &'p Passage) -> &'p str {
    let text = passage.text.trim();
    if passage.question.is_some() || text.chars().count() <= WHOLE {
        return text;
    }
    let start = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let parts = sentences(text);
    let mut best = (f64::MIN, text);
    for (n, first) in parts.iter().enumerate() {
        for last in parts[n..].iter().take(SENTENCES) {
            let window = &text[start(first)..start(last) + last.len()];
            let more = window.chars().count() as f64 / (4 * WHOLE) as f64;
            // What is longer has to say more.
            let score = overlap(question, window, &passage.language) - more;
            if score > best.0 {
                best = (score, window);
            }
        }
    }
    best.1
}

fn words(text: &str) -> Vec<Piece> {
    text.split_inclusive(' ').map(|it| Piece::Text(it.to_owned())).collect()
}

fn is_greeting(text: &str) -> bool {
    let word = text.trim().trim_end_matches(['!', '.', ',']).to_lowercase();
    ["hello", "hi", "hey", "good morning", "good day", "good evening", "hallo", "hola", "bonjour"]
        .contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::id::Id;
    use serde_json::json;

    fn passage(text: &str, similarity: f64) -> Passage {
        Passage {
            id: Id::from_bytes([1; 16]),
            source: Id::from_bytes([2; 16]),
            label: "Opening hours".into(),
            url: None,
            question: None,
            text: text.into(),
            language: "en".into(),
            similarity,
        }
    }

    async fn ask(text: &str, said_before: usize, passages: Vec<Passage>) -> (String, bool, Vec<Source>) {
        let config = json!({"name": "Front desk", "greeting": "Good day!"});
        let config = config.as_object().cloned().unwrap_or_default();
        let line = |text: &str| Utterance { speaker: Speaker::Assistant, text: text.into() };
        let history = [line("Good day!"), line("At nine.")];
        let history = &history[..said_before];
        let pieces: Vec<Piece> = Embedded
            .answer(&Question {
                config: &config,
                text,
                history,
                passages,
                toolbox: Arc::default(),
                wishes: &Map::new(),
            })
            .collect()
            .await;
        let (mut said, mut unknown, mut named) = (String::new(), false, Vec::new());
        for piece in pieces {
            match piece {
                Piece::Text(text) => said.push_str(&text),
                Piece::Unknown => unknown = true,
                Piece::Sources(sources) => named = sources,
                other => panic!("{other:?}"),
            }
        }
        (said, unknown, named)
    }

    #[tokio::test]
    async fn greets_once_and_claims_nothing() {
        let (said, unknown, _) = ask("When do you open?", 0, vec![]).await;
        assert!(said.starts_with("Good day! I don't know") && unknown, "{said}");
        let (said, unknown, _) = ask("When do you open?", 2, vec![passage("We sell tea.", 0.2)]).await;
        assert!(said.starts_with("I don't know") && unknown, "{said}");
        let (said, unknown, _) = ask("Hello!", 2, vec![]).await;
        assert!(said.starts_with("Good day!") && !unknown, "{said}");
        // A channel that shows the greeting itself says so; it is not said twice.
        let (said, ..) = ask("When do you open?", 1, vec![]).await;
        assert!(said.starts_with("I don't know"), "{said}");
        let (said, ..) = ask("Hello!", 1, vec![]).await;
        assert_eq!(said, "What would you like to know?");
    }

    #[tokio::test]
    async fn says_what_the_passage_says_and_names_its_source() {
        let close = vec![passage("We open at nine.", 0.4)];
        let (said, unknown, sources) = ask("Are you open for groups?", 2, close).await;
        assert_eq!(
            (said.as_str(), unknown),
            ("I don't know that. What comes closest, from “Opening hours”: We open at nine.", true)
        );
        assert_eq!(sources.len(), 1);
        let known = vec![passage("We open at nine.", 0.9)];
        let (said, unknown, sources) = ask("When do you open?", 2, known).await;
        assert_eq!((said.as_str(), unknown), ("We open at nine.", false));
        assert_eq!(sources[0].label, "Opening hours");
    }

    #[test]
    fn says_of_a_long_passage_what_was_asked() {
        let filler = "The house was built long ago and has seen many guests of all kinds. ".repeat(3);
        let text = format!(
            "{filler}Breakfast is served from seven to ten. Eggs cost extra.\n- Parking is free\n- The sauna closes at nine. {filler}"
        );
        let mut long = passage(&text, 0.9);
        assert_eq!(excerpt("When is breakfast?", &long), "Breakfast is served from seven to ten.");
        assert_eq!(excerpt("When does the sauna close?", &long), "- The sauna closes at nine.");
        assert!(excerpt("zebra", &long).len() < text.len());
        long.question = Some("Tell me everything".into());
        assert_eq!(excerpt("When is breakfast?", &long), text.trim());
    }
}
