//! What is worked out of the texts that visitors send, which may take milliseconds each: beside the requests, and a few at a time for each
//! organization, so that the visitors of one keep neither another's nor whoever signs in waiting.

use flowyte_core::id::OrganizationId;
use flowyte_store::StoreError;
use flowyte_store::labour::{Bounds, Slots, Undone, cores};
use std::sync::LazyLock;
use std::time::Duration;

static TEXTS: LazyLock<Slots<OrganizationId>> = LazyLock::new(|| {
    let at_once = cores();
    let bounds = Bounds {
        at_once,
        each: at_once.div_ceil(2),
        waiting: 4_096,
        waiting_each: 512,
        patience: Duration::from_secs(10),
    };
    Slots::new("texts", bounds)
});

/// Works something out of a text of this organization, before a transaction that others would wait for.
pub(crate) async fn work_out<T: Send + 'static>(
    organization: OrganizationId,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    TEXTS.labour(organization, work).await.map_err(|undone| match undone {
        Undone::Crowded => {
            StoreError::Crowded("Too many messages to your agents are waiting; try again shortly.")
        }
        Undone::Panicked => {
            StoreError::Inconsistent("a text could not be worked on: the work panicked".into())
        }
    })
}
