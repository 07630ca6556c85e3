//! Whose tables there are: the plane's, and those of parts of the program that are its guests. Each brings its own to the state that
//! its code expects.

use crate::StoreError;

/// A change of the tables: its number, in ascending order, and its SQL, with BYTES for the type of bytes.
pub type Migration = (i64, &'static str);

/// A part of the program that keeps tables of its own in the same database. It may refer to the plane's tables, never the other
/// way round.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// The name under which the database notes its migrations, so it must never change.
    pub name: &'static str,
    /// What its tables went through. Released ones are never changed.
    pub migrations: &'static [Migration],
    /// Queries that answer in `pepper_id` which peppers its rows depend on.
    pub peppers: &'static [&'static str],
    /// Where it owns what publishable keys are pinned to: a query that answers a row if the resource `$2` is there in the
    /// organization `$1`.
    pub resource: Option<&'static str>,
    /// Beside it, a query that answers in `key_id` the publishable keys whose resource was deleted.
    pub orphaned_keys: Option<&'static str>,
}

/// The plane itself, as it is named among its guests.
const PLANE: &str = "plane";

/// What the plane's tables went through. Numbers that are missing here are the product's, from when both had one list.
const MIGRATIONS: &[Migration] = &[
    (1, include_str!("../migrations/0001_credentials.sql")),
    (2, include_str!("../migrations/0002_publishable_keys.sql")),
    (3, include_str!("../migrations/0003_superseded_usage.sql")),
    (10, include_str!("../migrations/0010_last_calls.sql")),
    (13, include_str!("../migrations/0013_visitors_by_use.sql")),
    (14, include_str!("../migrations/0014_flat.sql")),
    (15, include_str!("../migrations/0015_time.sql")),
    (16, include_str!("../migrations/0016_sorted_keys.sql")),
    (17, include_str!("../migrations/0017_inviters.sql")),
    (18, include_str!("../migrations/0018_verified_visitors.sql")),
    (19, include_str!("../migrations/0019_accounts.sql")),
    (20, include_str!("../migrations/0020_pinned.sql")),
    (21, include_str!("../migrations/0021_audit_targets.sql")),
    (22, include_str!("../migrations/0022_forgotten.sql")),
    (23, include_str!("../migrations/0023_minted_by.sql")),
];

/// The last number of the one list that the plane and the product had.
const LAST_IN_COMMON: i64 = 19;

/// What that list says since the lists are separate, so that a release that knows one list only does not use the database.
const SEPARATE: i64 = 20;

/// The tables that say what was applied. The first is from when there was one list.
pub(crate) const TABLES: &str = "CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY); \
     INSERT INTO migrations (version) VALUES (20) ON CONFLICT DO NOTHING; \
     CREATE TABLE IF NOT EXISTS guest_migrations (guest TEXT NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (guest, version))";

/// What was applied to a database.
pub(crate) struct Applied {
    /// What the one list says that the plane and the product had.
    common: Vec<i64>,
    separate: Vec<(String, i64)>,
}

/// What is to be done: run the SQL, and note that it was.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) guest: &'static str,
    pub(crate) version: i64,
    pub(crate) sql: &'static str,
}

impl Applied {
    pub(crate) fn new(common: Vec<i64>, separate: Vec<(String, i64)>) -> Self {
        Self { common, separate }
    }

    fn has(&self, guest: &str, version: i64) -> bool {
        let in_common = self.common.iter().copied().filter(|it| *it <= LAST_IN_COMMON).max();
        in_common.is_some_and(|last| version <= last)
            || self.separate.iter().any(|(name, number)| name == guest && *number == version)
    }
}

/// What is to be done to a database so that the plane and these guests can use it; one from a later release is refused.
pub(crate) fn pending(applied: &Applied, guests: &'static [Guest]) -> Result<Vec<Step>, StoreError> {
    let later = |have: i64, guest: &str, newest: i64| {
        StoreError::Unusable(format!(
            "the database was written by a later release (schema {have} of {guest}, this one knows {newest}); run that release"
        ))
    };
    if let Some(have) = applied.common.iter().find(|have| **have > SEPARATE) {
        return Err(later(*have, "all parts", SEPARATE));
    }
    let lists = [(PLANE, MIGRATIONS)].into_iter().chain(guests.iter().map(|it| (it.name, it.migrations)));
    let mut steps = Vec::new();
    for (guest, migrations) in lists {
        let newest = migrations.last().map_or(0, |(version, _)| *version);
        let have =
            applied.separate.iter().filter(|(name, _)| name == guest).map(|(_, version)| *version).max();
        if let Some(have) = have.filter(|have| *have > newest) {
            return Err(later(have, guest, newest));
        }
        let missing = migrations.iter().filter(|(version, _)| !applied.has(guest, *version));
        steps.extend(missing.map(|(version, sql)| Step { guest, version: *version, sql }));
    }
    Ok(steps)
}
