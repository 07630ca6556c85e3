//! Finds passages: an index in memory for each agent that is asked, built from the database and as new as it.

use crate::knowledge::index::{Hit, Index};
use crate::knowledge::{Knowledge, Passage, Retriever};
use async_trait::async_trait;
use flowyte_core::id::{AgentId, KnowledgeSourceId, OrganizationId};
use flowyte_store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Passages that are kept in memory, over all agents. The index that was used longest ago goes first.
const KEPT_PASSAGES: usize = 200_000;

/// One agent's place: its index, once it was asked.
#[derive(Default)]
struct Shelf {
    index: tokio::sync::Mutex<Option<(i64, Arc<Index>)>>,
    passages: AtomicU64,
    used: AtomicU64,
}

/// The indexes of the agents that are asked. No index holds two agents' passages, so no hit is another's, and how rare a
/// word is says nothing about what others know.
pub struct Library {
    store: Arc<dyn Store>,
    shelves: Mutex<HashMap<(OrganizationId, AgentId), Arc<Shelf>>>,
    clock: AtomicU64,
}

impl Library {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, shelves: Mutex::default(), clock: AtomicU64::new(0) }
    }

    /// The index of an agent, as new as the database.
    async fn index(&self, organization: OrganizationId, agent: AgentId) -> Result<Arc<Index>, StoreError> {
        let knowledge = Knowledge(&*self.store);
        let generation = knowledge.generation(organization, agent).await?;
        let shelf = self.shelf(organization, agent);
        let mut slot = shelf.index.lock().await;
        if let Some((_, index)) = slot.as_ref().filter(|(known, _)| *known >= generation) {
            return Ok(index.clone());
        }
        let (generation, entries) = knowledge.passages(organization, agent).await?;
        let index = blocking(move || Index::build(entries)).await?;
        let index = Arc::new(index);
        shelf.passages.store(index.len() as u64, Ordering::Relaxed);
        *slot = Some((generation, index.clone()));
        Ok(index)
    }

    fn shelf(&self, organization: OrganizationId, agent: AgentId) -> Arc<Shelf> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry((organization, agent)).or_default().clone();
        shelf.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let kept = |shelf: &Shelf| shelf.passages.load(Ordering::Relaxed) as usize + 1;
        let mut all: usize = shelves.values().map(|it| kept(it)).sum();
        while all > KEPT_PASSAGES {
            let oldest =
                shelves.iter().min_by_key(|(_, it)| it.used.load(Ordering::Relaxed)).map(|(key, _)| *key);
            match oldest.and_then(|key| shelves.remove(&key)) {
                Some(gone) => all -= kept(&gone),
                None => break,
            }
        }
        shelf
    }
}

/// Runs what takes a core for a while beside the requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> tantivy::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Inconsistent(format!("index: {error}")))?
        .map_err(|error| StoreError::Inconsistent(format!("index: {error}")))
}

fn passage(hit: &Hit<'_>) -> Passage {
    let entry = hit.entry;
    Passage {
        id: entry.id,
        source: entry.source,
        label: entry.label.clone(),
        url: entry.url.clone(),
        question: entry.question.clone(),
        text: entry.text.clone(),
        language: entry.language.clone(),
        similarity: hit.similarity,
    }
}

#[async_trait]
impl Retriever for Library {
    async fn retrieve(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        query: &str,
        sources: &[KnowledgeSourceId],
        limit: usize,
    ) -> Result<Vec<Passage>, StoreError> {
        let index = self.index(organization, agent).await?;
        let (query, sources) = (query.to_owned(), sources.to_vec());
        blocking(move || Ok(index.search(&query, &sources, limit)?.iter().map(passage).collect())).await
    }
}
