//! Hostile requests as data: `tests/attacks/rows.yaml`, and the account of which row of the list is checked where.

use crate::rows::{Names, every_row_is_answered, rows};
use crate::support::World;
use std::collections::BTreeSet;

const IDS: &str = include_str!("../../../../tests/attacks/ids.txt");
const WAITING: &str = include_str!("../../../../tests/attacks/waiting.txt");
/// Where tests say in a comment, behind `Rows:` and up to a full stop, what they check.
const TESTS: &[&str] = &[
    include_str!("accounts.rs"),
    include_str!("scenarios.rs"),
    include_str!("storage.rs"),
    include_str!("clock.rs"),
    include_str!("upkeep.rs"),
    include_str!("support.rs"),
    include_str!("crash.rs"),
    include_str!("canary.rs"),
    include_str!("model.rs"),
    include_str!("operations.rs"),
    include_str!("upgrade.rs"),
    include_str!("../../../verifier/tests/replica.rs"),
    include_str!("../../../http/tests/wire.rs"),
    include_str!("../../../verifier/src/clock.rs"),
    include_str!("../../../product/src/identity_token.rs"),
    include_str!("../../src/panics.rs"),
    include_str!("../../../../web/dashboard/e2e/dashboard.test.ts"),
    include_str!("../../../../web/dashboard/e2e/widget.test.ts"),
    include_str!("../../../store/tests/suite.rs"),
    include_str!("../../../contract/tests/compile.rs"),
];

/// Every row of the list is checked by data, by a test that names it, or waits with its reason; and nothing waits that
/// is checked, so that the list only shrinks.
#[test]
fn every_row_is_accounted_for() {
    let all: BTreeSet<&str> = IDS.split_whitespace().collect();
    let rows = rows();
    let mut checked: BTreeSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let comments = TESTS.iter().flat_map(|text| text.lines()).filter(|line| line.trim().starts_with("//"));
    for (_, named) in comments.filter_map(|line| line.split_once("Rows: ")) {
        checked.extend(named.split('.').next().unwrap_or_default().split(' '));
    }
    let waiting: BTreeSet<&str> = WAITING
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let known = |ids: &BTreeSet<&str>| ids.difference(&all).copied().collect::<Vec<_>>().join(" ");
    assert_eq!(known(&checked), "", "these rows are not in the list");
    assert_eq!(known(&waiting), "", "these waiting rows are not in the list");
    let both: Vec<_> = checked.intersection(&waiting).collect();
    assert!(both.is_empty(), "these rows are checked and need not wait: {both:?}");
    let neither: Vec<_> = all.iter().filter(|id| !checked.contains(*id) && !waiting.contains(*id)).collect();
    assert!(neither.is_empty(), "nothing checks these rows: {neither:?}");
}

/// What is there that an attack might have changed.
fn state(world: &World) -> String {
    let server = &world.server;
    let list = |path: &str| {
        let mut rows =
            server.as_member(&world.owner, "GET", &format!("/api/v1/{path}?limit=100"), None).data();
        for row in rows.as_array_mut().unwrap() {
            for used in ["lastUsedAt", "lastUsedAddress", "lastUsedOperation", "lastSeenAt"] {
                row.as_object_mut().unwrap().remove(used);
            }
            for secret in row["secrets"].as_array_mut().into_iter().flatten() {
                secret.as_object_mut().unwrap().remove("lastCall");
            }
        }
        rows.to_string()
    };
    let other =
        server.as_member(&world.other_owner, "GET", "/api/v1/audit-events/verify?full=true", None).data();
    format!("{} {} {} {other}", list("api-keys"), list("agents"), list("members"))
}

#[test]
fn hostile_requests_get_their_one_answer() {
    let world = World::new(&[]);
    let writer = serde_json::json!({"name": "writer", "scopes": ["agents:write"]});
    let (_, writer) = world.server.mint(&world.owner, writer);
    let names = Names::new(
        "agents:read",
        &[
            ("key", &world.key),
            ("all", &world.all),
            ("writer", &writer),
            ("other", &world.other_all),
            ("pk", &world.pk),
            ("visitor", &world.visitor),
            ("agent", &world.agent),
            ("other_agent", &world.other_agent),
            ("organization", &world.organization),
            ("other_organization", &world.other_organization),
            ("key_id", &world.key_id),
            ("all_id", &world.all_id),
            ("owner", &world.owner),
            ("port", &world.server.port.to_string()),
        ],
    );
    every_row_is_answered(world.server.port, &rows(), &names, |_| true, || state(&world));
    let output = world.server.output.lock().unwrap();
    for secret in [&world.key, &world.all, &world.other_all, &world.pk, &world.visitor, &world.owner] {
        assert!(!output.contains(secret.as_str()), "a credential is in the log");
    }
}
