//! Finds passages: an index in memory for each agent that is asked, built from the database and as new as it.

use crate::id::{AgentId, KnowledgeSourceId};
use crate::knowledge::index::{Hit, Index};
use crate::knowledge::{Knowledge, Passage, Retriever};
use async_trait::async_trait;
use flowyte_core::id::OrganizationId;
use flowyte_store::labour::{Bounds, Crowded, Turns, cores, labour};
use flowyte_store::{InLane, Lane, Store, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Passages that are kept in memory, over all agents. The index that was used longest ago goes first.
const KEPT_PASSAGES: usize = 200_000;

/// An agent, anywhere.
type AgentKey = (OrganizationId, AgentId);

/// One agent's place: its index, once it was asked.
#[derive(Default)]
struct CachedIndex {
    index: tokio::sync::Mutex<Option<(i64, Arc<Index>)>>,
}

/// Every place, with what stands there.
#[derive(Default)]
struct CachedIndexes {
    /// The place, its passages, and when it was used last.
    places: HashMap<AgentKey, (Arc<CachedIndex>, usize, u64)>,
    /// Passages in all, and one for each place.
    kept: usize,
    uses: u64,
}

/// The indexes of the agents that are asked. No index holds two agents' passages, so no hit is another's, and how rare a
/// word is says nothing about what others know.
pub struct Library {
    store: Arc<dyn Store>,
    indexes: Mutex<CachedIndexes>,
    /// Indexes are built as many at once as there are cores: each takes one, and memory.
    builds: Turns<OrganizationId>,
    /// And asked so.
    searches: Turns<OrganizationId>,
}

/// The most that wait for an index or for an answer from it, altogether and of one organization.
const CROWD: Bounds =
    Bounds { at_once: 1, each: 1, waiting: 2_048, waiting_each: 512, patience: Duration::from_secs(30) };

impl Library {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let builds = Turns::new("indexes", Bounds { at_once: cores(), ..CROWD });
        let searches =
            Turns::new("searches", Bounds { at_once: cores(), each: cores().div_ceil(2), ..CROWD });
        Self { store, indexes: Mutex::default(), builds, searches }
    }

    /// The index of an agent, as new as the database.
    async fn index(&self, organization: OrganizationId, agent: AgentId) -> Result<Arc<Index>, StoreError> {
        let store = InLane(&*self.store, Lane::product(organization));
        let knowledge = Knowledge(&store);
        let generation = knowledge.generation(organization, agent).await?;
        let shelf = self.shelf(organization, agent);
        let mut slot = shelf.index.lock().await;
        if let Some((_, index)) = slot.as_ref().filter(|(known, _)| *known >= generation) {
            return Ok(index.clone());
        }
        let _build = self.builds.take(organization).await.map_err(crowded)?;
        let (generation, entries) = knowledge.passages(organization, agent).await?;
        let index = blocking(move || Index::build(entries)).await?;
        let index = Arc::new(index);
        self.put((organization, agent), &shelf, index.len());
        *slot = Some((generation, index.clone()));
        Ok(index)
    }

    /// The place of an agent, used now.
    fn shelf(&self, organization: OrganizationId, agent: AgentId) -> Arc<CachedIndex> {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.uses += 1;
        let now = indexes.uses;
        match indexes.places.get_mut(&(organization, agent)) {
            Some((shelf, _, used)) => {
                *used = now;
                shelf.clone()
            }
            None => {
                let shelf = Arc::<CachedIndex>::default();
                indexes.places.insert((organization, agent), (shelf.clone(), 0, now));
                indexes.kept += 1;
                shelf
            }
        }
    }

    /// Notes how much stands at a place now, and clears those that were used longest ago where it is too much.
    fn put(&self, whose: AgentKey, shelf: &Arc<CachedIndex>, passages: usize) {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was cleared meanwhile ends with whoever still asks it.
        let Some((_, known, _)) = indexes.places.get_mut(&whose).filter(|it| Arc::ptr_eq(&it.0, shelf))
        else {
            return;
        };
        let before = std::mem::replace(known, passages);
        indexes.kept = indexes.kept + passages - before;
        while indexes.kept > KEPT_PASSAGES && indexes.places.len() > 1 {
            let oldest = indexes.places.iter().min_by_key(|(_, it)| it.2).map(|(whose, _)| *whose);
            let Some((_, gone, _)) = oldest.and_then(|whose| indexes.places.remove(&whose)) else { break };
            indexes.kept -= gone + 1;
        }
    }
}

fn crowded(_: Crowded) -> StoreError {
    StoreError::Crowded("Too many questions to your agents are waiting to be looked up; try again shortly.")
}

/// Runs what takes a core for a while beside the requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> tantivy::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = labour(work).await;
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
        let _search = self.searches.take(organization).await.map_err(crowded)?;
        blocking(move || Ok(index.search(&query, &sources, limit)?.iter().map(passage).collect())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::id::Id;

    /// The last that were used are kept, and what is counted is what is there.
    #[tokio::test]
    async fn the_place_that_was_used_longest_ago_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            flowyte_store::Sqlite::open(&folder.path().join("flowyte.db"), &[crate::GUEST]).await.unwrap();
        let library = Library::new(store);
        let whose = |n: u8| (OrganizationId::from_bytes([1; 16]), AgentId::from_bytes([n; 16]));
        let put = |n: u8, passages| {
            let shelf = library.shelf(whose(n).0, whose(n).1);
            library.put(whose(n), &shelf, passages);
        };
        let there = || {
            let indexes = library.indexes.lock().unwrap();
            let counted: usize = indexes.places.values().map(|it| it.1 + 1).sum();
            assert_eq!(counted, indexes.kept);
            let mut all: Vec<u8> = indexes.places.keys().map(|it| it.1.as_bytes()[0]).collect();
            all.sort_unstable();
            all
        };
        for n in 1..=4 {
            put(n, KEPT_PASSAGES / 5);
        }
        assert_eq!(there(), [1, 2, 3, 4]);
        put(1, KEPT_PASSAGES / 4);
        put(5, KEPT_PASSAGES / 3);
        assert_eq!(there(), [1, 3, 4, 5], "2 was used longest ago");
        put(6, KEPT_PASSAGES * 2);
        assert_eq!(there(), [6], "one that is too large alone is still there for who asks it");
    }
}
