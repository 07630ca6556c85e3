//! Turns, what becomes of conversations, and talk tokens, on both databases.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod common;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;

use async_trait::async_trait;
use common::{LIVE, NOW, by, found, fresh, on_both};
use flowyte_core::id::OrganizationId;
use flowyte_core::time::{MINUTE, SECOND};
use flowyte_core::{Digest, Environment, Timestamp};
use flowyte_product::agents::Agents;
use flowyte_product::answerer::{Answerers, Embedded};
use flowyte_product::billing::InsufficientBalance;
use flowyte_product::billing::charge_message_in;
use flowyte_product::conversations::{
    Conversations, Heard, IDLE, NewConversation, Outcome, Reply, Search, Via,
};
use flowyte_product::id::{AgentId, ConversationId, KnowledgeSourceId};
use flowyte_product::knowledge::{Passage, Retriever};
use flowyte_product::outbound::Outbound;
use flowyte_product::skills::toolbox::Reach;
use flowyte_product::talks::{LIFE, NotTaken, Talk, Talks};
use flowyte_product::turn::{Event, Keep, Means, Turn};
use flowyte_store::{Once, Page, Store, StoreError};
use serde_json::Map;
use std::sync::Arc;
use tokio::sync::mpsc;

const ALL: Page = Page { limit: 100, before: None };

async fn agent(store: &Arc<dyn Store>, organization: OrganizationId) -> AgentId {
    let seal = |_: &_| Vec::new();
    let made =
        Agents(&**store).create(organization, fresh(), "Desk", Map::new(), None, &by(NOW), &seal).await;
    let Ok(Once::Fresh(agent)) = made else { panic!("no agent") };
    agent.id
}

async fn open(
    store: &Arc<dyn Store>,
    organization: OrganizationId,
    agent: AgentId,
    environment: Environment,
) -> ConversationId {
    let new = NewConversation { id: fresh(), agent, environment, via: Via::Session };
    let seal = |_: &_| Vec::new();
    let Ok(Once::Fresh(row)) = Conversations(&**store).open(organization, &new, None, NOW, &seal).await
    else {
        panic!("no conversation")
    };
    row.id
}

fn heard(text: &str, at: Timestamp) -> Heard<'_> {
    Heard { id: fresh(), text, language: "en", at }
}

fn reply(unknown: bool, at: Timestamp) -> Reply {
    let (id, text) = (fresh(), "So it is.".to_owned());
    Reply { id, text, sources: Vec::new(), unknown, top_score: None, latency_ms: 5, outcome: None, at }
}

#[tokio::test]
async fn what_nobody_goes_on_with_comes_to_something() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let all = Conversations(&*store);
        let mut ids = Vec::new();
        for _ in 0..6 {
            ids.push(open(&store, organization, agent, LIVE).await);
        }
        let [silent, asked, answered, unknown, failed, recent] = ids[..] else { panic!() };
        for id in [asked, answered, unknown] {
            all.hear(organization, id, &heard("What is it?", NOW)).await.unwrap();
        }
        let broken = heard("What is it?", NOW);
        all.hear(organization, failed, &broken).await.unwrap();
        all.answer(organization, answered, "What is it?", &reply(false, NOW), &[]).await.unwrap();
        all.answer(organization, unknown, "What is it?", &reply(true, NOW), &[]).await.unwrap();
        all.fail(organization, failed, broken.id, &[], NOW).await.unwrap();
        all.hear(organization, recent, &heard("What is it?", NOW.plus(IDLE))).await.unwrap();
        let later = NOW.plus(IDLE + SECOND);
        assert_eq!(all.close_idle(later, 3).await.unwrap(), 3, "some at a time");
        assert_eq!(all.close_idle(later, 3).await.unwrap(), 2);
        assert_eq!(all.close_idle(later, 3).await.unwrap(), 0);
        for (id, wanted) in [
            (silent, Some(Outcome::Abandoned)),
            (asked, Some(Outcome::Error)),
            (answered, Some(Outcome::Completed)),
            (unknown, Some(Outcome::Abandoned)),
            (failed, Some(Outcome::Error)),
            (recent, None),
        ] {
            let row = all.find(organization, id).await.unwrap();
            assert_eq!(row.outcome, wanted);
            assert_eq!(row.ended_at.is_some(), wanted.is_some());
        }
        // Who comes back goes on; who was told that it is over does not.
        all.hear(organization, answered, &heard("And that?", later)).await.unwrap();
        assert_eq!(all.find(organization, answered).await.unwrap().outcome, None);
        let ended = all.end(organization, LIVE, unknown, later).await.unwrap();
        assert_eq!(ended.outcome, Some(Outcome::Abandoned), "it was over before");
        let refused = all.hear(organization, unknown, &heard("And that?", later)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))));
        let elsewhere = found(&store).await;
        for id in [silent, fresh()] {
            let refused = all.hear(elsewhere, id, &heard("CredentialRef is it?", later)).await;
            assert!(matches!(refused, Err(StoreError::NotFound)));
            assert!(matches!(all.end(elsewhere, LIVE, id, later).await, Err(StoreError::NotFound)));
        }
        assert_eq!(all.search(elsewhere, &Search::default(), ALL).await.unwrap().len(), 0);
        assert_eq!(all.search(organization, &Search::default(), ALL).await.unwrap().len(), 5);
    })
    .await;
}

/// Finds nothing, or breaks.
struct FixedRetriever {
    broken: bool,
}

#[async_trait]
impl Retriever for FixedRetriever {
    async fn retrieve(
        &self,
        _: OrganizationId,
        _: AgentId,
        _: &str,
        _: &[KnowledgeSourceId],
        _: usize,
    ) -> Result<Vec<Passage>, StoreError> {
        if self.broken { Err(StoreError::Inconsistent("the shelf fell over".into())) } else { Ok(Vec::new()) }
    }
}

fn turn(organization: OrganizationId, agent: AgentId, keep: Keep, text: &str) -> Turn {
    Turn {
        organization,
        agent,
        environment: LIVE,
        config: Map::new(),
        keep,
        history: Vec::new(),
        text: text.to_owned(),
        wishes: Map::new(),
        message: fresh(),
        random: [3; 10],
        at: NOW,
    }
}

async fn run(store: &Arc<dyn Store>, turn: Turn, broken: bool) -> Vec<Event> {
    let (events, mut received) = mpsc::channel(16);
    let begun = turn.begin(&**store).await.unwrap();
    let (now, retriever) = (|| NOW.plus(SECOND), FixedRetriever { broken });
    let reach = |organization, agent| Reach {
        organization,
        agent,
        outbound: Arc::new(Outbound::new(Vec::new())),
        retriever: Arc::new(FixedRetriever { broken }),
        open: Box::new(|_| None),
    };
    let answerers = Answerers::new(Box::new(Embedded));
    let means = Means {
        store: &**store,
        house: &**store,
        retriever: &retriever,
        answerers: &answerers,
        reach: &reach,
        now: &now,
    };
    let listen = async {
        let mut all = Vec::new();
        while let Some(event) = received.recv().await {
            all.push(event);
        }
        all
    };
    tokio::join!(begun.run(means, events), listen).1
}

#[tokio::test]
async fn turns_at_the_same_time_are_numbered_one_after_the_other_and_a_broken_one_is_noted() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let id = open(&store, organization, agent, LIVE).await;
        let at_once = (0..6).map(|n| {
            let mut turn = turn(organization, agent, Keep::Conversation(id), "What is it?");
            turn.random = [n; 10];
            run(&store, turn, false)
        });
        for events in futures_util::future::join_all(at_once).await {
            assert!(
                matches!(events.last(), Some(Event::Done(done)) if done.duration_ms == 1_000),
                "{events:?}"
            );
        }
        let events = run(&store, turn(organization, agent, Keep::Conversation(id), "And now?"), true).await;
        assert!(matches!(events.last(), Some(Event::Failed(_))), "{events:?}");
        let all = Conversations(&*store);
        let receipt = all.receipt(organization, id, 0, ALL).await.unwrap();
        assert_eq!(receipt.iter().map(|it| it.sequence).collect::<Vec<_>>(), (1..=26).collect::<Vec<i64>>());
        let last: Vec<&str> = receipt[24..].iter().map(|it| it.kind.as_str()).collect();
        assert_eq!(last, ["user_utterance", "error"]);
        assert_eq!(all.messages(organization, id, ALL).await.unwrap().len(), 13);
        let row = all.find(organization, id).await.unwrap();
        assert_eq!((row.user_turns, row.agent_turns), (7, 6));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_covered_is_not_heard_and_tests_cost_nothing() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let mut tx = store.product().await.unwrap();
        for _ in 0..1_000 {
            charge_message_in(&mut tx, organization, LIVE, agent, fresh(), NOW).await.unwrap();
        }
        tx.commit().await.unwrap();
        let all = Conversations(&*store);
        let id = open(&store, organization, agent, LIVE).await;
        let refused = all.hear(organization, id, &heard("What is it?", NOW)).await;
        assert!(refused.as_ref().err().and_then(InsufficientBalance::of).is_some());
        assert_eq!(all.find(organization, id).await.unwrap().user_turns, 0);
        assert_eq!(all.messages(organization, id, ALL).await.unwrap().len(), 0);
        assert_eq!(all.receipt(organization, id, 0, ALL).await.unwrap().len(), 0);
        let kept_by_caller = turn(organization, agent, Keep::Charge, "What is it?").begin(&*store).await;
        assert!(kept_by_caller.as_ref().err().and_then(InsufficientBalance::of).is_some());
        run(&store, turn(organization, agent, Keep::Nothing, "What is it?"), false).await;
        let test = open(&store, organization, agent, Environment::Test).await;
        all.hear(organization, test, &heard("What is it?", NOW)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_talk_token_is_good_for_a_minute_and_for_one() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let agent = agent(&store, organization).await;
        let new = || Talk {
            organization,
            agent,
            conversation: fresh(),
            draft: false,
            environment: LIVE,
            minted_by: Digest::from_bytes([9; 32]),
            asked: String::new(),
        };
        let talks = Talks(&*store);
        let digest = |n: u8| Digest::from_bytes([n; 32]);
        talks.mint(&new(), digest(1), NOW).await.unwrap();
        let late = Talks(&*store).take(&[digest(1)], None, NOW.plus(LIFE)).await;
        assert!(matches!(late, Err(NotTaken::Unknown)));
        let foreign = Talks(&*store).take(&[digest(1)], Some("https://shop.example"), NOW).await;
        assert!(matches!(foreign, Err(NotTaken::Origin)));
        let digests = [digest(200), digest(1)];
        let race =
            (0..6).map(|_| async { Talks(&*store).take(&digests, None, NOW.plus(LIFE - MINUTE / 60)).await });
        let won = futures_util::future::join_all(race).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(won, 1);
        let mut elsewhere = new();
        elsewhere.organization = found(&store).await;
        assert!(matches!(talks.mint(&elsewhere, digest(2), NOW).await, Err(StoreError::NotFound)));
    })
    .await;
}
