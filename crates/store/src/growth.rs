//! Which audit chains have grown: noted when an event is durable, so that whoever keeps their heads looks at those alone, however many
//! organizations there are and however long their chains.

use flowyte_core::id::OrganizationId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A place in an audit chain: the event with this sequence has this hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The event's place, from 1.
    pub sequence: i64,
    /// The hash of that event, which covers the whole chain up to it.
    pub hash: [u8; 32],
}

impl Link {
    /// The place before the first event of every chain: sequence 0, and a hash of zeros.
    pub const START: Self = Self { sequence: 0, hash: [0; 32] };
}

/// What this process appended to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Where the chain ended before.
    pub before: Link,
    /// The newest event that was appended.
    pub last: Link,
}

/// The chains that this process has appended to since somebody asked last.
#[derive(Default)]
pub struct Grown(Mutex<HashMap<OrganizationId, Growth>>);

impl Grown {
    /// Notes what was appended. Commits may be noted in another order than they were made in.
    pub fn note(&self, all: impl IntoIterator<Item = (OrganizationId, Growth)>) {
        let mut chains = self.lock();
        for (organization, growth) in all {
            match chains.entry(organization) {
                Entry::Vacant(place) => drop(place.insert(growth)),
                Entry::Occupied(mut place) => {
                    let known = place.get_mut();
                    if growth.before.sequence < known.before.sequence {
                        known.before = growth.before;
                    }
                    if growth.last.sequence > known.last.sequence {
                        known.last = growth.last;
                    }
                }
            }
        }
    }

    /// What was noted of one chain, which is then forgotten.
    pub fn take(&self, organization: OrganizationId) -> Option<Growth> {
        self.lock().remove(&organization)
    }

    /// All that was noted, which is then forgotten.
    pub fn take_all(&self) -> HashMap<OrganizationId, Growth> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrganizationId, Growth>> {
        // Nothing in here panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
