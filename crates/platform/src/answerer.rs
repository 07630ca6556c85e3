//! Who answers a visitor.

use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::{Map, Value};

/// A visitor's message with what the answer may draw on.
pub struct Question<'q> {
    /// The published version that serves.
    pub config: &'q Map<String, Value>,
    /// The message.
    pub text: &'q str,
    /// Whether it is the conversation's first.
    pub first: bool,
}

/// Answers one message, piece by piece; the pieces put together are the answer.
pub trait Answerer: Send + Sync {
    /// The pieces, as they come.
    fn answer(&self, question: &Question<'_>) -> BoxStream<'static, String>;
}

/// What the configuration greets with.
pub fn greeting(config: &Map<String, Value>) -> String {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    match text("greeting") {
        "" => format!("Hello, this is {}.", text("name")),
        greeting => greeting.to_owned(),
    }
}

/// The embedded answerer: it greets, and says that it has no knowledge, which is the truth.
pub struct Embedded;

impl Answerer for Embedded {
    fn answer(&self, question: &Question<'_>) -> BoxStream<'static, String> {
        let honest = "I have no knowledge to answer from yet, so I can't tell you. Please ask the people behind this site.";
        let text = match question.first || is_greeting(question.text) {
            true => format!("{} {honest}", greeting(question.config)),
            false => honest.to_owned(),
        };
        let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        stream::iter(words).boxed()
    }
}

fn is_greeting(text: &str) -> bool {
    let word = text.trim().trim_end_matches(['!', '.', ',']).to_lowercase();
    ["hello", "hi", "hey", "good morning", "good day", "good evening", "hallo", "hola", "bonjour"]
        .contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn greets_once_and_claims_nothing() {
        let config = json!({"name": "Front desk", "greeting": "Good day!"});
        let config = config.as_object().cloned().unwrap_or_default();
        let ask =
            |text, first| Embedded.answer(&Question { config: &config, text, first }).collect::<String>();
        assert!(ask("When do you open?", true).await.starts_with("Good day! I have no knowledge"));
        assert!(ask("When do you open?", false).await.starts_with("I have no knowledge"));
        assert!(ask("Hello!", false).await.starts_with("Good day!"));
    }
}
