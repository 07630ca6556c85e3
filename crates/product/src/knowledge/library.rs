//! Finds passages: an index in memory for each agent that is asked, built from the database and as new as it.
//!
//! The first question builds the index. The first one after a change reads the sources that changed, and nothing else, and puts an
//! index with them in the place of the one before ([`Index::changed`]). Questions that came before the change are answered from the
//! index that they have; those that came after it wait for as long as the change is large. What makes an index tidy again
//! ([`Index::merge`]) happens after an answer, beside the questions.

use crate::id::{AgentId, KnowledgeSourceId};
use crate::knowledge::index::{Hit, Index, Merged};
use crate::knowledge::{Knowledge, Passage, Retriever};
use async_trait::async_trait;
use flowyte_core::id::OrganizationId;
use flowyte_store::labour::{Bounds, Crowded, Slots, cores, labour};
use flowyte_store::{InLane, Lane, Store, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Passages that are kept in memory, over all agents. The index that was used longest ago goes first.
const KEPT_PASSAGES: usize = 200_000;

type AgentKey = (OrganizationId, AgentId);

/// One agent's place: its index, once it was asked.
#[derive(Default)]
struct CachedIndex {
    /// The index, and the generation of the passages in it. Locked to take or to put it, never while something is done with it.
    index: Mutex<Option<(i64, Arc<Index>)>>,
    /// Held by who puts another index there.
    change: tokio::sync::Mutex<()>,
    /// Held by who merges segments.
    merge: tokio::sync::Mutex<()>,
}

impl CachedIndex {
    fn latest(&self) -> Option<(i64, Arc<Index>)> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The index, if it is as new as is said.
    fn since(&self, generation: i64) -> Option<Arc<Index>> {
        self.latest().filter(|(known, _)| *known >= generation).map(|(_, index)| index)
    }

    /// Puts an index there. The one before ends with whoever still asks it.
    fn put(&self, generation: i64, index: Arc<Index>) {
        let mut slot = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let before = slot.replace((generation, index));
        drop(slot);
        drop(before);
    }
}

/// Every place, with what stands there.
#[derive(Default)]
struct CachedIndexes(Mutex<Places>);

#[derive(Default)]
struct Places {
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
    indexes: Arc<CachedIndexes>,
    /// Indexes are built as many at once as there are cores: each takes one, and memory.
    builds: Slots<OrganizationId>,
    /// Small changes do not wait for whole indexes.
    changes: Slots<OrganizationId>,
    /// And neither waits for what makes an index tidy.
    merges: Arc<Slots<OrganizationId>>,
    /// Searches are shared in turns, too: each takes a core for a while.
    searches: Slots<OrganizationId>,
}

/// Passages that go or come up to which a change is a small one.
const SMALL: i64 = 500;

/// The most that wait for an index or for an answer from it, altogether and of one organization.
const CROWD: Bounds =
    Bounds { at_once: 1, each: 1, waiting: 2_048, waiting_each: 512, patience: Duration::from_secs(30) };

impl Library {
    /// A library over `store` that has no index yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let turns = |work, each| Slots::new(work, Bounds { at_once: cores(), each, ..CROWD });
        let half = cores().div_ceil(2);
        Self {
            store,
            indexes: Arc::default(),
            builds: turns("indexes", 1),
            changes: turns("index changes", half),
            merges: Arc::new(turns("index merges", 1)),
            searches: turns("searches", half),
        }
    }

    /// The index of an agent, as new as the database, and its place.
    async fn index(
        &self,
        organization: OrganizationId,
        agent: AgentId,
    ) -> Result<(Arc<Index>, Arc<CachedIndex>), StoreError> {
        let store = InLane(&*self.store, Lane::product(organization));
        let knowledge = Knowledge(&store);
        let generation = knowledge.generation(organization, agent).await?;
        let shelf = self.indexes.shelf((organization, agent));
        if let Some(index) = shelf.since(generation) {
            return Ok((index, shelf));
        }
        let change = shelf.change.lock().await;
        // Whoever was here before may have seen to it.
        if let Some(index) = shelf.since(generation) {
            drop(change);
            return Ok((index, shelf));
        }
        let followed = match shelf.latest() {
            Some((known, index)) => self.follow(&knowledge, (organization, agent), known, index).await?,
            None => None,
        };
        let (generation, index) = match followed {
            Some(followed) => followed,
            None => self.build(&knowledge, (organization, agent)).await?,
        };
        shelf.put(generation, index.clone());
        self.indexes.note((organization, agent), &shelf, index.kept());
        drop(change);
        Ok((index, shelf))
    }

    /// An index of everything that an agent knows.
    async fn build(
        &self,
        knowledge: &Knowledge<'_>,
        whose: AgentKey,
    ) -> Result<(i64, Arc<Index>), StoreError> {
        let _build = self.builds.take(whose.0).await.map_err(crowded)?;
        let (generation, entries) = knowledge.passages(whose.0, whose.1).await?;
        Ok((generation, Arc::new(blocking(move || Index::build(entries)).await?)))
    }

    /// The index with what has changed since a generation. `None`: nobody knows what that is, or it is so much that everything is read
    /// as quickly.
    async fn follow(
        &self,
        knowledge: &Knowledge<'_>,
        whose: AgentKey,
        known: i64,
        index: Arc<Index>,
    ) -> Result<Option<(i64, Arc<Index>)>, StoreError> {
        let Some(changed) = knowledge.changed_since(whose.0, whose.1, known).await? else { return Ok(None) };
        let (gone, come) = (index.passages_of(&changed.sources) as i64, changed.passages);
        if gone + come > index.len() as i64 - gone + come {
            return Ok(None);
        }
        let turns = if gone + come > SMALL { &self.builds } else { &self.changes };
        let _change = turns.take(whose.0).await.map_err(crowded)?;
        let generation = changed.generation;
        let entries = knowledge.passages_since(whose.0, whose.1, known, generation).await?;
        let index = blocking(move || index.changed(&changed.sources, entries)).await?;
        Ok(Some((generation, Arc::new(index))))
    }

    /// Merges segments of an index in the background, if it should be and nobody does.
    fn tidy(&self, whose: AgentKey, shelf: Arc<CachedIndex>) {
        let (indexes, merges) = (self.indexes.clone(), self.merges.clone());
        tokio::spawn(async move {
            let Ok(_alone) = shelf.merge.try_lock() else { return };
            while let Some((_, index)) = shelf.latest().filter(|(_, index)| index.is_crowded()) {
                let Ok(_merge) = merges.take(whose.0).await else { return };
                match blocking(move || index.merge()).await {
                    Ok(Some(merged)) => put_merged(&indexes, whose, &shelf, merged).await,
                    Ok(None) => return,
                    Err(error) => return tracing::warn!(%error, "an index could not be made tidy"),
                }
            }
        });
    }
}

/// Puts a merged segment in its place, whatever has changed meanwhile.
async fn put_merged(indexes: &CachedIndexes, whose: AgentKey, shelf: &Arc<CachedIndex>, merged: Merged) {
    let _change = shelf.change.lock().await;
    let Some((generation, index)) = shelf.latest() else { return };
    let place = shelf.clone();
    // What is replaced ends there, too, which takes a moment where it is large.
    let put = labour(move || {
        let index = Arc::new(index.with(&merged));
        let kept = index.kept();
        place.put(generation, index);
        kept
    });
    if let Ok(kept) = put.await {
        indexes.note(whose, shelf, kept);
    }
}

impl CachedIndexes {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of an agent, used now.
    fn shelf(&self, whose: AgentKey) -> Arc<CachedIndex> {
        let mut indexes = self.lock();
        indexes.uses += 1;
        let now = indexes.uses;
        match indexes.places.get_mut(&whose) {
            Some((shelf, _, used)) => {
                *used = now;
                shelf.clone()
            }
            None => {
                let shelf = Arc::<CachedIndex>::default();
                indexes.places.insert(whose, (shelf.clone(), 0, now));
                indexes.kept += 1;
                shelf
            }
        }
    }

    /// Notes how much stands at a place now, and clears those that were used longest ago where it is too much.
    fn note(&self, whose: AgentKey, shelf: &Arc<CachedIndex>, passages: usize) {
        let mut indexes = self.lock();
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
        let (index, shelf) = self.index(organization, agent).await?;
        let (query, sources) = (query.to_owned(), sources.to_vec());
        let search = self.searches.take(organization).await.map_err(crowded)?;
        let found = blocking(move || {
            let hits = index.search(&query, &sources, limit)?;
            Ok((hits.iter().map(passage).collect(), index.is_crowded()))
        });
        let (found, is_crowded) = found.await?;
        drop(search);
        if is_crowded {
            self.tidy((organization, agent), shelf);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PassageId;
    use crate::knowledge::index::Entry;
    use flowyte_core::id::Id;

    /// One merges segments; what changes meanwhile stays changed.
    #[tokio::test]
    async fn an_index_is_made_tidy_beside_its_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            flowyte_store::Sqlite::open(&folder.path().join("flowyte.db"), &[crate::GUEST]).await.unwrap();
        let library = Library::new(store);
        let whose = (OrganizationId::from_bytes([1; 16]), AgentId::from_bytes([1; 16]));
        let source = |n: u8| KnowledgeSourceId::from_bytes([n; 16]);
        let entry = |n: u8| Entry {
            id: PassageId::from_bytes([n; 16]),
            source: source(n),
            label: String::new(),
            url: None,
            heading: String::new(),
            question: None,
            text: "We open at nine.".into(),
            language: "en".into(),
        };
        let mut index = Index::default();
        for n in 0..20 {
            index = index.changed(&[], vec![entry(n)]).unwrap();
        }
        let shelf = library.indexes.shelf(whose);
        shelf.put(20, Arc::new(index));
        library.tidy(whose, shelf.clone());
        tokio::task::yield_now().await;
        {
            let _change = shelf.change.lock().await;
            assert!(shelf.merge.try_lock().is_err() && shelf.since(20).is_some(), "asked while it is merged");
            let (_, index) = shelf.latest().unwrap();
            shelf.put(21, Arc::new(index.changed(&[source(3)], vec![]).unwrap()));
        }
        let _merged = shelf.merge.lock().await;
        let (generation, index) = shelf.latest().unwrap();
        assert_eq!((generation, index.len(), index.is_crowded()), (21, 19, false));
        assert_eq!(library.indexes.lock().kept, 1 + index.kept());
    }

    /// The last that were used are kept, and what is counted is what is there.
    #[tokio::test]
    async fn the_place_that_was_used_longest_ago_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            flowyte_store::Sqlite::open(&folder.path().join("flowyte.db"), &[crate::GUEST]).await.unwrap();
        let library = Library::new(store);
        let whose = |n: u8| (OrganizationId::from_bytes([1; 16]), AgentId::from_bytes([n; 16]));
        let put = |n: u8, passages| {
            let shelf = library.indexes.shelf(whose(n));
            library.indexes.note(whose(n), &shelf, passages);
        };
        let there = || {
            let indexes = library.indexes.lock();
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
