//! The decision cases as data, read alike by every door that is held against them.

use flowyte_core::Timestamp;

/// The moment at which every case is decided.
pub const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub r#as: String,
    pub call: String,
    pub answer: String,
    pub header: Option<String>,
    pub query: Option<String>,
    pub origin: Option<String>,
    pub site: Option<String>,
    pub address: Option<String>,
    #[serde(default)]
    pub stale: bool,
}

/// Every case of `order.yaml`, in its order.
pub fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("order.yaml")).unwrap()
}
