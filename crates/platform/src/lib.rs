//! What the scopes open: a module per resource, each over the store's transactions, organization first.

pub mod agents;
pub mod analytics;
pub mod answerer;
pub mod billing;
pub mod carrier;
pub mod conversations;
pub mod gaps;
mod gist;
pub mod knowledge;
pub mod model;
pub mod mood;
pub mod numbers;
pub mod outbound;
pub mod payment;
pub mod services;
pub mod skills;
pub mod talks;
pub mod turn;
pub mod uploads;
pub mod widgets;
mod words;
