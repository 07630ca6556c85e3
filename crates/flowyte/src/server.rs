//! The running server, apart from its sockets.

use crate::config::Config;
use crate::site::Site;
use flowyte_contract::Api;
use flowyte_doors::api::ApiDoor;
use flowyte_management::Management;
use flowyte_management::heads::Heads;
#[cfg(feature = "product")]
use flowyte_product::Product;
use flowyte_verifier::clock::{Clock, Entropy};
use flowyte_verifier::pepper::Peppers;
use flowyte_verifier::replica::Replica;
use flowyte_verifier::{Settings, Verifier};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The parts, put together once at the start.
pub struct Server {
    /// The settings that the operator chose.
    pub config: Config,
    /// Authorizes every request, from this process's own memory.
    pub verifier: Arc<Verifier>,
    /// The heads of audit chains, kept apart from the database.
    pub heads: Arc<Heads>,
    /// The door of our own API.
    pub door: Arc<ApiDoor>,
    /// What is behind the operations of the product: agents, conversations, numbers, billing.
    #[cfg(feature = "product")]
    pub product: Arc<Product>,
    /// A stop has begun: nothing new is to be sent here.
    pub draining: AtomicBool,
}

/// What is there before the server is.
pub struct Parts {
    /// The contract of the API in its compiled form.
    pub api: Api,
    /// What decisions read, fed from the store.
    pub replica: Arc<Replica>,
    /// Under which secrets are stored.
    pub peppers: Peppers,
    /// The clock that expiries and limits go by.
    pub clock: Box<dyn Clock>,
    /// Where secrets and ids get their randomness.
    pub entropy: Box<dyn Entropy>,
    /// Who does outside work for the product.
    #[cfg(feature = "product")]
    pub services: flowyte_product::Services,
}

impl Server {
    /// Puts the parts together; the contract and the handlers must name the same operations.
    pub fn new(config: Config, parts: Parts) -> Result<Arc<Self>, Vec<String>> {
        let api = parts.api;
        let settings = Settings { public_url: config.public_url.clone(), ..config.verifier.clone() };
        let heads = Heads::open(&config.audit_heads_file, &parts.peppers);
        let store = parts.replica.store().clone();
        let verifier = Verifier::new(
            settings,
            api.contract.clone(),
            store,
            parts.replica,
            parts.peppers,
            parts.clock,
            parts.entropy,
        );
        let settings = flowyte_management::Settings {
            setup_token_file: config.setup_token_file(),
            ..config.management.clone()
        };
        let management = Management::new(settings, heads.clone());
        let (routes, extensions) = (management.routes(), Vec::new());
        #[cfg(feature = "product")]
        let product = Product::new(parts.services, verifier.clone());
        #[cfg(feature = "product")]
        let (routes, extensions) = ([routes, product.routes()].concat(), [extensions, product.extensions()]);
        #[cfg(feature = "product")]
        let extensions = extensions.into_iter().flatten().collect();
        let site = Site::new(api.document.clone(), api.contract.clone(), &config.public_url);
        let door =
            ApiDoor::new(config.http.clone(), api, &routes, Box::new(site), extensions, verifier.clone())?;
        Ok(Arc::new(Self {
            config,
            verifier,
            heads,
            door,
            #[cfg(feature = "product")]
            product,
            draining: AtomicBool::new(false),
        }))
    }
}
