//! What an agent answers from: sources, the passages they are cut into, and finding those that fit a question.

use async_trait::async_trait;
use flowyte_core::id::{AgentId, KnowledgeSourceId, OrganizationId, PassageId};
use flowyte_store::StoreError;

/// A passage that was found for a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// Which.
    pub id: PassageId,
    /// Of which source.
    pub source: KnowledgeSourceId,
    /// The source's name.
    pub label: String,
    /// Where the source was fetched.
    pub url: Option<String>,
    /// The question that it answers, where its source says so.
    pub question: Option<String>,
    /// What it says.
    pub text: String,
    /// Its language, ISO 639-1; empty where nobody could tell.
    pub language: String,
    /// How sure it is that it answers the question, 0 to 1.
    pub similarity: f64,
}

/// Finds passages.
#[async_trait]
pub trait Retriever: Send + Sync {
    /// The best passages of an agent for a question, best first. `sources`: only of these; empty: of all.
    async fn retrieve(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        query: &str,
        sources: &[KnowledgeSourceId],
        limit: usize,
    ) -> Result<Vec<Passage>, StoreError>;
}
