//! Sources, their readings and what is found of them, on both databases and by a clock of the test's own.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod common;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;

use async_trait::async_trait;
use bytes::Bytes;
use common::{NOW, by, found, fresh, on_both};
use flowyte_core::Timestamp;
use flowyte_core::id::OrganizationId;
use flowyte_core::time::{DAY, HOUR, MINUTE, SECOND};
use flowyte_product::agents::Agents;
use flowyte_product::id::{AgentId, KnowledgeSourceId, PassageId, UploadId};
use flowyte_product::knowledge::cut::Extracted;
use flowyte_product::knowledge::extract::{Format, extract};
use flowyte_product::knowledge::ingest::{self, Extractor, LEASE, Tools, Unread};
use flowyte_product::knowledge::library::Library;
use flowyte_product::knowledge::{
    Content, KEPT_CHANGES, Knowledge, KnowledgeSource, NewSource, Retriever, Status,
};
use flowyte_product::outbound::{Allowed, Outbound};
use flowyte_product::uploads::{KEPT, Upload, Uploads};
use flowyte_store::db::id;
use flowyte_store::{Once, Store, StoreError};
use serde_json::Map;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Here;

#[async_trait]
impl Extractor for Here {
    async fn extract(&self, format: Format, content: Bytes) -> Result<Extracted, Unread> {
        extract(format, &content).map_err(Unread::never)
    }
}

async fn agent(store: &Arc<dyn Store>, organization: OrganizationId) -> AgentId {
    let made =
        Agents(&**store).create(organization, fresh(), "Desk", Map::new(), None, &by(NOW), &|_| vec![]).await;
    match made.unwrap() {
        Once::Fresh(agent) => agent.id,
        Once::Replay(_) => panic!("made before"),
    }
}

async fn add(
    store: &Arc<dyn Store>,
    organization: OrganizationId,
    agent: AgentId,
    content: Content,
    now: Timestamp,
) -> Result<KnowledgeSourceId, StoreError> {
    let new = NewSource { id: fresh(), label: "Source".into(), content };
    Knowledge(&**store).create(organization, agent, &new, None, &by(now), &|_| vec![]).await?;
    Ok(new.id)
}

/// Reads what is due; answers how many sources that was.
async fn work(store: &Arc<dyn Store>, outbound: &Outbound, now: Timestamp) -> usize {
    let tools = Tools { extractor: &Here, outbound };
    let mut done = 0;
    while let Some(job) = Knowledge(&**store).take(now, now.plus(LEASE)).await.unwrap() {
        ingest::run(&**store, &tools, &job, || now).await.unwrap();
        done += 1;
    }
    done
}

async fn says(
    store: &Arc<dyn Store>,
    organization: OrganizationId,
    agent: AgentId,
    query: &str,
) -> Vec<String> {
    let found = Library::new(store.clone()).retrieve(organization, agent, query, &[], 5).await.unwrap();
    found.into_iter().map(|it| it.text).collect()
}

fn nowhere() -> Outbound {
    Outbound::new(vec![])
}

#[tokio::test]
async fn a_lease_that_ran_out_is_another_reader_s_and_the_first_one_can_t_write_any_more() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let source = add(&store, organization, agent, Content::Text("The gate opens at nine.".into()), NOW)
            .await
            .unwrap();
        let knowledge = Knowledge(&*store);
        let first = knowledge.take(NOW, NOW.plus(LEASE)).await.unwrap().unwrap();
        assert_eq!((first.source.id, first.attempts), (source, 1));
        assert!(knowledge.take(NOW.plus(MINUTE), NOW.plus(LEASE)).await.unwrap().is_none(), "leased");
        // It is taken again when the lease has run out, and after a start.
        let second = knowledge.take(NOW.plus(LEASE), NOW.plus(2 * LEASE)).await.unwrap().unwrap();
        knowledge.release().await.unwrap();
        let third = knowledge.take(NOW.plus(LEASE), NOW.plus(2 * LEASE)).await.unwrap().unwrap();
        assert_eq!((second.attempts, third.attempts), (2, 3));
        let (tools, now) = (Tools { extractor: &Here, outbound: &nowhere() }, NOW.plus(LEASE));
        ingest::run(&*store, &tools, &first, || now).await.unwrap();
        assert_eq!(knowledge.find(organization, agent, source).await.unwrap().status, Status::Indexing);
        ingest::run(&*store, &tools, &third, || now).await.unwrap();
        ingest::run(&*store, &tools, &second, || now).await.unwrap();
        let row = knowledge.find(organization, agent, source).await.unwrap();
        assert_eq!(
            (row.status, row.passages, row.version, knowledge.generation(organization, agent).await.unwrap()),
            (Status::Indexed, 1, 1, 1)
        );
        assert_eq!(
            says(&store, organization, agent, "When does the gate open?").await,
            ["The gate opens at nine."]
        );
    })
    .await;
}

/// A reader holds its source's row while it writes; whoever takes the source away, or its agent, comes after it and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_can_be_taken_away() {
    on_both(async |store| {
        let organization = found(&store).await;
        for whole_agent in [false, true] {
            let agent = agent(&store, organization).await;
            let source =
                add(&store, organization, agent, Content::Text("Words.".into()), NOW).await.unwrap();
            Knowledge(&*store).take(NOW, NOW.plus(LEASE)).await.unwrap().unwrap();
            // What `Knowledge::write` does, held open.
            let mut writing = store.batch().await.unwrap();
            writing
                .exec(
                    "UPDATE knowledge_sources SET progress_current = 1 WHERE organization_id = $1 AND id = $2",
                    vec![id(organization), id(source)],
                )
                .await
                .unwrap();
            let away = {
                let store = store.clone();
                tokio::spawn(async move {
                    match whole_agent {
                        true => Agents(&*store).delete(organization, agent, &by(NOW)).await,
                        false => Knowledge(&*store).delete(organization, agent, source, &by(NOW)).await,
                    }
                })
            };
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            writing
                .exec(
                    "INSERT INTO passages (id, organization_id, agent_id, source_id, version, position, heading, text, language) \
                     VALUES ($1, $2, $3, $4, 1, 0, '', 'Words.', 'en')",
                    vec![id::<PassageId>(fresh()), id(organization), id(agent), id(source)],
                )
                .await
                .unwrap();
            writing.commit().await.unwrap();
            away.await.unwrap().unwrap();
            let mut tx = store.read().await.unwrap();
            let left = tx.all("SELECT id FROM passages", vec![]).await.unwrap();
            assert_eq!(left.len(), 0, "passages of a source that is gone");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_behind_all_the_sources_of_another_organization() {
    on_both(async |store| {
        let (many, one) = (found(&store).await, found(&store).await);
        let (busy, other) = (agent(&store, many).await, agent(&store, one).await);
        for n in 0..5 {
            add(&store, many, busy, Content::Text(format!("Words {n}.")), NOW).await.unwrap();
        }
        let last = add(&store, one, other, Content::Text("Words.".into()), NOW.plus(MINUTE)).await.unwrap();
        let knowledge = Knowledge(&*store);
        let now = NOW.plus(2 * MINUTE);
        let take = async || knowledge.take(now, now.plus(LEASE)).await.unwrap().unwrap().source;
        assert_eq!(take().await.organization, many, "what was due first");
        assert_eq!(take().await.id, last);
        assert_eq!(take().await.organization, many);
    })
    .await;
}

#[tokio::test]
async fn nobody_fills_the_disk_with_uploads() {
    on_both(async |store| {
        let (one, other) = (found(&store).await, found(&store).await);
        let keep = async |organization, bytes: usize, now| {
            let file = Upload {
                filename: "a.txt".into(),
                content_type: "text/plain".into(),
                content: vec![0; bytes],
            };
            Uploads(&*store).keep(organization, fresh(), file, now).await
        };
        for _ in 0..200 {
            keep(one, 1, NOW).await.unwrap();
        }
        assert!(matches!(keep(one, 1, NOW).await, Err(StoreError::Conflict(_))));
        keep(other, 1, NOW).await.unwrap();
        Uploads(&*store).sweep(NOW.plus(KEPT), 200).await.unwrap();
        keep(one, 1, NOW.plus(KEPT)).await.unwrap();
        assert!(matches!(keep(other, (1 << 30) + 1, NOW.plus(KEPT)).await, Err(StoreError::Conflict(_))));
    })
    .await;
}

#[tokio::test]
async fn a_source_that_ends_its_reader_each_time_is_given_up() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let source = add(&store, organization, agent, Content::Text("Words.".into()), NOW).await.unwrap();
        for _ in 0..10 {
            assert!(Knowledge(&*store).take(NOW, NOW.plus(LEASE)).await.unwrap().is_some());
            Knowledge(&*store).release().await.unwrap(); // As after a kill.
        }
        assert_eq!(work(&store, &nowhere(), NOW).await, 1);
        let row = Knowledge(&*store).find(organization, agent, source).await.unwrap();
        assert_eq!((row.status, row.due_at), (Status::Failed, None));
        assert!(row.error.unwrap().contains("could not be read to its end"));
    })
    .await;
}

/// A site with one page, whose status and text can be changed.
async fn site() -> (String, Outbound, Arc<Mutex<(u16, String)>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let page = Arc::new(Mutex::new((200, "<main><p>The price is 12 euros.</p></main>".to_owned())));
    let shown = page.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (status, text) = shown.lock().unwrap().clone();
            let mut head = [0; 2048];
            let _ = stream.read(&mut head).await;
            let length = text.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let outbound = Outbound::new(vec![Allowed::parse(&host).unwrap()]);
    (format!("http://{host}/"), outbound, page)
}

async fn at(
    store: &Arc<dyn Store>,
    organization: OrganizationId,
    agent: AgentId,
    source: KnowledgeSourceId,
) -> KnowledgeSource {
    Knowledge(&**store).find(organization, agent, source).await.unwrap()
}

#[tokio::test]
async fn a_page_is_fetched_again_when_it_is_time_and_replaced_only_by_what_could_be_read() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let (url, outbound, page) = site().await;
        let source = add(&store, organization, agent, Content::Url(url), NOW).await.unwrap();
        let refresh = Knowledge(&*store)
            .set_refresh(organization, agent, source, Some(true), Some(86_400), &by(NOW))
            .await
            .unwrap();
        assert_eq!(
            (refresh.due_at, refresh.next_refresh()),
            (Some(NOW), None),
            "the first reading is still due"
        );
        assert_eq!(work(&store, &outbound, NOW).await, 1);
        let read = at(&store, organization, agent, source).await;
        assert_eq!(
            (read.status, read.version, read.next_refresh()),
            (Status::Indexed, 1, Some(NOW.plus(DAY)))
        );
        assert_eq!(work(&store, &outbound, NOW.plus(DAY - SECOND)).await, 0);

        // The same again: looked at, not written.
        assert_eq!(work(&store, &outbound, NOW.plus(DAY)).await, 1);
        let same = at(&store, organization, agent, source).await;
        assert_eq!((same.version, same.checked_at, same.changed_at), (1, Some(NOW.plus(DAY)), Some(NOW)));

        // Away for a while: what was served is served on, and it is tried again soon, then at the usual time.
        *page.lock().unwrap() = (503, String::new());
        let mut now = NOW.plus(2 * DAY);
        assert_eq!(work(&store, &outbound, now).await, 1);
        let away = at(&store, organization, agent, source).await;
        assert_eq!((away.status, away.error.as_deref()), (Status::Indexed, Some("The host answers 503.")));
        assert_eq!(away.due_at, Some(now.plus(30 * SECOND)));
        for _ in 0..2 {
            now = now.plus(HOUR);
            assert_eq!(work(&store, &outbound, now).await, 1);
        }
        let away = at(&store, organization, agent, source).await;
        assert_eq!(away.next_refresh(), Some(now.plus(DAY)));
        assert_eq!(says(&store, organization, agent, "What is the price?").await, ["The price is 12 euros."]);

        *page.lock().unwrap() = (200, "<main><p>The price is 15 euros.</p></main>".into());
        assert_eq!(work(&store, &outbound, now.plus(DAY)).await, 1);
        let new = at(&store, organization, agent, source).await;
        assert_eq!((new.version, new.error, new.changed_at), (2, None, Some(now.plus(DAY))));
        assert_eq!(says(&store, organization, agent, "What is the price?").await, ["The price is 15 euros."]);
        let off = Knowledge(&*store)
            .set_refresh(organization, agent, source, Some(false), None, &by(NOW))
            .await
            .unwrap();
        assert_eq!((off.due_at, off.refresh_interval_s), (None, 86_400));
    })
    .await;
}

#[tokio::test]
async fn a_page_that_never_answers_fails_with_its_reason() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let (url, outbound, page) = site().await;
        *page.lock().unwrap() = (404, String::new());
        let source = add(&store, organization, agent, Content::Url(url), NOW).await.unwrap();
        let inside =
            add(&store, organization, agent, Content::Url("http://localhost/".into()), NOW).await.unwrap();
        assert_eq!(work(&store, &outbound, NOW).await, 2);
        let row = at(&store, organization, agent, source).await;
        assert_eq!(
            (row.status, row.error.as_deref(), row.due_at),
            (Status::Failed, Some("The host answers 404."), None)
        );
        let row = at(&store, organization, agent, inside).await;
        assert_eq!(
            (row.status, row.error.as_deref()),
            (Status::Failed, Some("The host has no public address."))
        );
    })
    .await;
}

#[tokio::test]
async fn an_upload_is_kept_a_day_and_is_its_organization_s() {
    on_both(async |store| {
        let ours = found(&store).await;
        let theirs = found(&store).await;
        let (agent, other) = (agent(&store, ours).await, agent(&store, theirs).await);
        let uploads = Uploads(&*store);
        let mut kept: Vec<UploadId> = Vec::new();
        for _ in 0..2 {
            let file = Upload {
                filename: "a.txt".into(),
                content_type: "text/plain".into(),
                content: b"The well is deep.".to_vec(),
            };
            kept.push(fresh());
            uploads.keep(ours, *kept.last().unwrap(), file, NOW).await.unwrap();
        }
        let (taken, left) = (kept[0], kept[1]);
        let not_found = |result: Result<_, StoreError>| assert!(matches!(result, Err(StoreError::NotFound)));
        not_found(add(&store, theirs, other, Content::File(taken), NOW).await);
        not_found(add(&store, ours, agent, Content::File(fresh()), NOW).await);
        let source = add(&store, ours, agent, Content::File(taken), NOW.plus(HOUR)).await.unwrap();
        let twice = add(&store, ours, agent, Content::File(taken), NOW.plus(HOUR)).await;
        assert!(matches!(twice, Err(StoreError::Conflict(_))));
        not_found(add(&store, ours, agent, Content::File(left), NOW.plus(KEPT)).await);
        assert_eq!(uploads.sweep(NOW.plus(KEPT - SECOND), 1).await.unwrap(), 0);
        assert_eq!(uploads.sweep(NOW.plus(KEPT), 1).await.unwrap(), 1, "the one that nobody took");
        assert!(uploads.read(ours, left).await.is_err());
        // Its parts follow, a few at a time; those of files that are there stay.
        assert_eq!(uploads.sweep_parts(NOW.plus(MINUTE), 10).await.unwrap(), 0, "it might be under way");
        assert_eq!(uploads.sweep_parts(NOW.plus(KEPT), 10).await.unwrap(), 1);
        let long: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).take(600_000).collect();
        let (filename, content_type) = ("b.txt".to_owned(), "text/plain".to_owned());
        let (third, content) = (fresh(), long.clone());
        uploads.keep(ours, third, Upload { filename, content_type, content }, NOW.plus(KEPT)).await.unwrap();
        assert_eq!(uploads.sweep_parts(NOW.plus(2 * KEPT), 10).await.unwrap(), 0);
        assert!(uploads.read(ours, third).await.unwrap().content == long, "in parts, and the same");
        // The other one waits for its source, however long that takes.
        assert_eq!(work(&store, &nowhere(), NOW.plus(2 * KEPT)).await, 1);
        assert_eq!(at(&store, ours, agent, source).await.status, Status::Indexed);
        assert!(uploads.read(ours, taken).await.is_err(), "read and forgotten");
        assert_eq!(says(&store, ours, agent, "Is the well deep?").await, ["The well is deep."]);
        assert!(says(&store, theirs, other, "Is the well deep?").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_agent_takes_its_knowledge_with_it() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let library = Library::new(store.clone());
        add(&store, organization, agent, Content::Text("The gate opens at nine.".into()), NOW).await.unwrap();
        let late =
            add(&store, organization, agent, Content::Text("The gate closes at six.".into()), NOW.plus(DAY))
                .await
                .unwrap();
        assert_eq!(work(&store, &nowhere(), NOW).await, 1);
        assert_eq!(library.retrieve(organization, agent, "gate", &[], 5).await.unwrap().len(), 1);
        // A reading that is under way when the agent goes writes nothing.
        let job = Knowledge(&*store).take(NOW.plus(DAY), NOW.plus(DAY + LEASE)).await.unwrap().unwrap();
        assert_eq!(job.source.id, late);
        Agents(&*store).delete(organization, agent, &by(NOW)).await.unwrap();
        let tools = Tools { extractor: &Here, outbound: &nowhere() };
        ingest::run(&*store, &tools, &job, || NOW.plus(DAY)).await.unwrap();
        let gone = library.retrieve(organization, agent, "gate", &[], 5).await;
        assert!(matches!(gone, Err(StoreError::NotFound)));
        assert_eq!(Knowledge(&*store).stock(organization, agent).await.unwrap(), Default::default());
    })
    .await;
}

/// What a library that was asked before answers, and what a new one does: the same.
async fn asked_again(
    store: &Arc<dyn Store>,
    library: &Library,
    organization: OrganizationId,
    agent: AgentId,
    question: &str,
) -> Vec<String> {
    let all = library.retrieve(organization, agent, question, &[], 50).await.unwrap();
    let anew = Library::new(store.clone()).retrieve(organization, agent, question, &[], 50).await.unwrap();
    assert_eq!(all, anew);
    all.into_iter().map(|it| it.text).collect()
}

#[tokio::test]
async fn an_index_follows_each_change_as_if_it_were_built_anew() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let (url, outbound, page) = site().await;
        let library = Library::new(store.clone());
        let says = async || {
            asked_again(&store, &library, organization, agent, "What is the price of the tour?").await
        };
        assert!(says().await.is_empty(), "an index of nothing");
        let fetched = add(&store, organization, agent, Content::Url(url), NOW).await.unwrap();
        let mut tours = Vec::new();
        for n in 0..12 {
            let text = Content::Text(format!("Tour {n} has the price of {n} euros."));
            tours.push(add(&store, organization, agent, text, NOW).await.unwrap());
            work(&store, &outbound, NOW).await;
            assert_eq!(says().await.len(), n + 2);
        }
        let faq = Content::Faq("Q: Is there a price for groups?\nA: Ten euros each.".into());
        add(&store, organization, agent, faq, NOW).await.unwrap();
        Knowledge(&*store)
            .set_refresh(organization, agent, fetched, Some(true), Some(86_400), &by(NOW))
            .await
            .unwrap();
        *page.lock().unwrap() = (200, "<main><p>The price is 15 euros.</p></main>".into());
        work(&store, &outbound, NOW.plus(DAY)).await;
        let now = says().await;
        assert!(
            now.contains(&"The price is 15 euros.".into()) && !now.contains(&"The price is 12 euros.".into())
        );
        assert!(now.contains(&"Ten euros each.".into()));
        for tour in tours {
            let before = says().await.len();
            Knowledge(&*store).delete(organization, agent, tour, &by(NOW)).await.unwrap();
            assert_eq!(says().await.len(), before - 1);
        }
    })
    .await;
}

/// A passage is changed behind the back of an index: it is seen where everything is read, and only there.
#[tokio::test]
async fn a_change_is_followed_by_reading_what_changed_and_nothing_else() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let library = Library::new(store.clone());
        let says = async || {
            let found =
                library.retrieve(organization, agent, "When does the gate open?", &[], 5).await.unwrap();
            found.into_iter().map(|it| it.text).collect::<Vec<_>>()
        };
        let write = async |sql: &'static str| {
            let mut tx = store.batch().await.unwrap();
            tx.queue(sql, vec![]).await.unwrap();
            tx.commit().await.unwrap();
        };
        let add = async |text: &str| {
            let source = add(&store, organization, agent, Content::Text(text.into()), NOW).await.unwrap();
            work(&store, &nowhere(), NOW).await;
            source
        };
        let gate = add("The gate opens at nine.").await;
        assert_eq!(says().await, ["The gate opens at nine."]);
        write("UPDATE passages SET text = 'The gate opens at ten.'").await;
        let lake = add("The lake is deep.").await;
        Knowledge(&*store).delete(organization, agent, lake, &by(NOW)).await.unwrap();
        assert_eq!(says().await, ["The gate opens at nine."]);
        // Where it is no longer known what changed, all is read.
        add("The well is deep.").await;
        write("DELETE FROM knowledge_changes").await;
        add("The moat is deep.").await;
        assert_eq!(says().await, ["The gate opens at ten."]);
        Knowledge(&*store).delete(organization, agent, gate, &by(NOW)).await.unwrap();
        assert!(says().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_latest_changes_of_an_agent_are_remembered_and_no_others() {
    on_both(async |store| {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let source = add(&store, organization, agent, Content::Text("Words.".into()), NOW).await.unwrap();
        work(&store, &nowhere(), NOW).await;
        let knowledge = Knowledge(&*store);
        let since =
            async |generation| knowledge.changed_since(organization, agent, generation).await.unwrap();
        let first = since(0).await.unwrap();
        assert_eq!((first.generation, first.sources, first.passages), (1, vec![source], 1));
        // As after many more changes.
        let mut tx = store.batch().await.unwrap();
        tx.queue("UPDATE agents SET knowledge_generation = $1", vec![KEPT_CHANGES.into()]).await.unwrap();
        tx.commit().await.unwrap();
        knowledge.delete(organization, agent, source, &by(NOW)).await.unwrap();
        let last = since(KEPT_CHANGES).await.unwrap();
        assert_eq!((last.generation, last.sources, last.passages), (KEPT_CHANGES + 1, vec![source], 0));
        assert!(since(0).await.is_none(), "the first one is forgotten");
        let rows = async || {
            let mut tx = store.read().await.unwrap();
            tx.all("SELECT generation FROM knowledge_changes", vec![]).await.unwrap().len()
        };
        assert_eq!(rows().await, 1);
        Agents(&*store).delete(organization, agent, &by(NOW)).await.unwrap();
        assert_eq!(rows().await, 0);
    })
    .await;
}
