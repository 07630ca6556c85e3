//! What Flowyte's scopes open: agents and what belongs to them. A guest of the plane: it has tables, handlers and background work of its
//! own, and knows of a caller what the plane tells it.

pub mod agents;
pub mod analytics;
pub mod answerer;
pub mod billing;
pub mod carrier;
pub mod conversations;
pub mod gaps;
mod gist;
pub mod handlers;
mod hooks;
pub mod id;
pub mod identity_token;
pub mod knowledge;
mod live;
pub mod model;
pub mod money;
pub mod mood;
pub mod numbers;
pub mod outbound;
pub mod payment;
pub mod reading;
mod realtime;
pub mod services;
pub mod settings;
pub mod skills;
pub mod talks;
pub mod tasks;
mod texts;
pub mod turn;
pub mod uploads;
pub mod widgets;
mod words;

use answerer::Answerers;
use carrier::Carriers;
use flowyte_http::route::{Extension, Route};
use flowyte_store::Guest;
use flowyte_verifier::Verifier;
use knowledge::Retriever;
use knowledge::library::Library;
use outbound::{Allowed, Outbound};
use payment::Payments;
use std::sync::Arc;
use tokio::sync::Notify;

/// A permitted request of this crate's handlers.
type Call = flowyte_http::call::Call<Product>;

/// Its tables in the plane's database.
pub const GUEST: Guest = Guest {
    name: "product",
    migrations: &[
        (2, include_str!("../migrations/0002_agents.sql")),
        (4, include_str!("../migrations/0004_billing.sql")),
        (5, include_str!("../migrations/0005_knowledge.sql")),
        (6, include_str!("../migrations/0006_numbers.sql")),
        (7, include_str!("../migrations/0007_conversations.sql")),
        (8, include_str!("../migrations/0008_skills.sql")),
        (9, include_str!("../migrations/0009_bounds.sql")),
        (11, include_str!("../migrations/0011_asked.sql")),
        (12, include_str!("../migrations/0012_unanswered.sql")),
        (14, include_str!("../migrations/0014_flat.sql")),
        // Numbers up to 19 are from when the plane and the product had one list; new ones come after them.
        (20, include_str!("../migrations/0020_upload_parts.sql")),
        (21, include_str!("../migrations/0021_knowledge_changes.sql")),
    ],
    peppers: &[
        "SELECT DISTINCT headers_pepper_id AS pepper_id FROM skills WHERE headers_pepper_id IS NOT NULL",
    ],
    resource: Some("SELECT id FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL"),
    orphaned_keys: Some(
        "SELECT k.id AS key_id FROM publishable_keys k JOIN agents a ON a.id = k.resource_id WHERE a.deleted_at IS NOT NULL",
    ),
};

/// Who does outside work for it.
pub struct Services {
    /// Answer visitors: a model or the embedded answerer for live credentials, always the latter for test credentials.
    pub answerers: Answerers,
    /// Take payments into wallets: a payment service or the sandbox for live credentials, always the latter for test credentials.
    pub payments: Payments,
    /// Sell telephone numbers: a carrier or the sandbox for live credentials, always the latter for test credentials.
    pub carriers: Carriers,
    /// Hosts that outbound requests may reach although they are not public.
    pub outbound_allow: Vec<Allowed>,
    /// Answers to whoever tries an agent out are charged, since they cost something.
    pub charges_trials: bool,
}

/// The state that all handlers of this crate share.
pub struct Product {
    verifier: Arc<Verifier>,
    /// Finds what an agent knows.
    retriever: Arc<dyn Retriever>,
    /// Wakes who reads knowledge sources.
    due: Notify,
    /// Makes requests to addresses that customers name.
    outbound: Arc<Outbound>,
    answerers: Answerers,
    payments: Payments,
    carriers: Carriers,
    /// Answers to whoever tries an agent out are charged.
    charges_trials: bool,
}

impl Product {
    /// Makes the product of its parts, with a [`Library`] over the verifier's store.
    pub fn new(services: Services, verifier: Arc<Verifier>) -> Arc<Self> {
        Arc::new(Self {
            retriever: Arc::new(Library::new(verifier.store.clone())),
            due: Notify::new(),
            outbound: Arc::new(Outbound::new(services.outbound_allow)),
            answerers: services.answerers,
            payments: services.payments,
            carriers: services.carriers,
            charges_trials: services.charges_trials,
            verifier,
        })
    }

    /// What runs for the operations of the product's contract.
    pub fn routes(self: &Arc<Self>) -> Vec<Route> {
        handlers::routes(self.clone())
    }

    /// Its paths that are no operations.
    pub fn extensions(self: &Arc<Self>) -> Vec<Box<dyn Extension>> {
        vec![Box::new(realtime::Realtime(self.clone())), Box::new(hooks::PaymentNotices(self.clone()))]
    }
}
