//! What the first question after an edit costs: an agent with a hundred passages beside one with as many as is said, 100,000 by default,
//! in turns in one run, in time on a processor: `make bench`. An edit removes a source with a few passages and adds another one.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;

use common::{NOW, by, found, fresh};
use flowyte_core::id::OrganizationId;
use flowyte_product::GUEST;
use flowyte_product::agents::Agents;
use flowyte_product::id::{AgentId, KnowledgeSourceId, PassageId};
use flowyte_product::knowledge::cut::{Extracted, cut};
use flowyte_product::knowledge::ingest::LEASE;
use flowyte_product::knowledge::library::Library;
use flowyte_product::knowledge::{Content, Knowledge, NewSource, Retriever};
use flowyte_store::db::id;
use flowyte_store::{Once, Sqlite, Store};
use serde_json::Map;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Passages of a source, where the agent has many.
const EACH: usize = 125;
/// Words that there are. The one at rank n is written a hundredth as often as the one at n / 100.
const WORDS: usize = 30_000;
/// Edits of each agent.
const TIMES: usize = 60;

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    /// At least 0 and less than 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A word between two ranks.
    fn word(&mut self, from: usize, to: usize) -> String {
        let (from, to) = (from as f64, to as f64);
        let mut rank = (from * (to / from).powf(self.share())) as usize;
        let mut word = String::new();
        while word.is_empty() || rank > 0 {
            word.push(char::from(b"bdfgklmnprtvz"[rank % 13]));
            word.push(char::from(b"aeiou"[rank / 13 % 5]));
            rank /= 65;
        }
        word + "x"
    }

    /// A text of about as many characters.
    fn text(&mut self, long: usize) -> String {
        let mut text = String::new();
        while text.len() < long {
            for _ in 0..12 {
                write!(text, "{} ", self.word(1, WORDS)).unwrap();
            }
            text.truncate(text.len() - 1);
            text.push_str(". ");
        }
        text
    }

    /// A question whose words a few in a hundred passages have.
    fn question(&mut self) -> String {
        (0..5).map(|_| self.word(200, 2_000)).collect::<Vec<_>>().join(" ")
    }
}

struct Agent {
    store: Arc<dyn Store>,
    library: Library,
    organization: OrganizationId,
    agent: AgentId,
    edited: KnowledgeSourceId,
    numbers: Numbers,
}

impl Agent {
    async fn new(store: &Arc<dyn Store>, passages: usize) -> Self {
        let organization = found(store).await;
        let made = Agents(&**store)
            .create(organization, fresh(), "Desk", Map::new(), None, &by(NOW), &|_| vec![])
            .await;
        let Once::Fresh(agent) = made.unwrap() else { panic!("made before") };
        let (store, library, agent) = (store.clone(), Library::new(store.clone()), agent.id);
        let numbers = Numbers(7);
        let mut it = Self { store, library, organization, agent, edited: fresh(), numbers };
        for first in (0..passages).step_by(EACH) {
            it.fill(EACH.min(passages - first)).await;
        }
        it.edited = it.add().await;
        it
    }

    /// A source with passages, written as they are: the bound of an agent is below what is measured.
    async fn fill(&mut self, passages: usize) {
        let mut tx = self.store.batch().await.unwrap();
        let source: KnowledgeSourceId = fresh();
        let many = passages as i64;
        tx.queue(
            "INSERT INTO knowledge_sources (id, organization_id, agent_id, kind, label, status, version, passages, refresh_interval_s, \
             created_at, updated_at) VALUES ($1, $2, $3, 'text', 'Source', 'indexed', 1, $4, 1, 1, 1)",
            vec![id(source), id(self.organization), id(self.agent), many.min(10).into()],
        )
        .await
        .unwrap();
        for position in 0..many {
            let text = self.numbers.text(800);
            tx.queue(
                "INSERT INTO passages (id, organization_id, agent_id, source_id, version, position, heading, text, language) \
                 VALUES ($1, $2, $3, $4, 1, $5, 'Heading', $6, 'en')",
                vec![
                    id(fresh::<PassageId>()),
                    id(self.organization),
                    id(self.agent),
                    id(source),
                    position.into(),
                    text.into(),
                ],
            )
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// Adds a short text, and reads it.
    async fn add(&mut self) -> KnowledgeSourceId {
        let knowledge = Knowledge(&*self.store);
        let new = NewSource {
            id: fresh(),
            label: "Edited".into(),
            content: Content::Text(self.numbers.text(2_000)),
        };
        let seal = |_: &_| vec![];
        knowledge.create(self.organization, self.agent, &new, None, &by(NOW), &seal).await.unwrap();
        let job = knowledge.take(NOW, NOW.plus(LEASE)).await.unwrap().unwrap();
        let pieces = cut(&Extracted::Text(job.source.text.clone().unwrap()), 100);
        let rows: Vec<_> =
            pieces.iter().enumerate().map(|(n, it)| (fresh::<PassageId>(), n as i64, it, "en")).collect();
        let total = rows.len() as i64;
        assert!(knowledge.write(&job, &rows, total, NOW.plus(LEASE), NOW).await.unwrap());
        assert!(knowledge.serve(&job, total, [0; 32], NOW).await.unwrap());
        new.id
    }

    async fn edit(&mut self) {
        let knowledge = Knowledge(&*self.store);
        knowledge.delete(self.organization, self.agent, self.edited, &by(NOW)).await.unwrap();
        self.edited = self.add().await;
    }

    async fn ask(&mut self) -> Duration {
        let question = self.numbers.question();
        let begun = on_a_processor();
        self.library.retrieve(self.organization, self.agent, &question, &[], 5).await.unwrap();
        on_a_processor() - begun
    }
}

/// The time that this process has been on a processor, which others that are busy do not change.
fn on_a_processor() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn median(all: &mut [Duration]) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() {
    let count = std::env::args().skip(1).find_map(|it| it.parse().ok()).unwrap_or(100_000);
    let times = if std::env::var_os("TIMES").is_some() { 3 } else { TIMES };
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Sqlite::open(&folder.path().join("flowyte.db"), &[GUEST]).await.unwrap();
    let mut agents = [Agent::new(&store, 100).await, Agent::new(&store, count).await];
    let mut took: [[Vec<Duration>; 2]; 3] = Default::default();
    for n in 0..2 {
        took[0][n].push(agents[n].ask().await);
    }
    for _ in 0..times {
        for (n, agent) in agents.iter_mut().enumerate() {
            agent.edit().await;
            took[1][n].push(agent.ask().await);
            took[2][n].push(agent.ask().await);
        }
    }
    println!("question\t100 passages, ms\t{count} passages, ms\tratio");
    for (name, [few, many]) in
        ["first of all", "first after an edit", "another one"].into_iter().zip(&mut took)
    {
        let (few, many) = (median(few), median(many));
        println!("{name}\t{few:.2}\t{many:.2}\t{:.2}", many / few);
    }
}
