//! The plane by itself: credentials, people and organizations, through the binary. This runs in every build, so that a server without the
//! product is held to the same decisions and refusals as one with it.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

#[allow(dead_code)] // Not every decision case needs what the product's tests need.
#[path = "binary/callers.rs"]
mod callers;
#[path = "../../../tests/decisions/case.rs"]
mod case;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
#[path = "binary/rows.rs"]
mod rows;
#[allow(dead_code)] // Some of it is for the product's tests.
#[path = "binary/support.rs"]
mod support;

use case::Case;
use flowyte_contract::Api;
use flowyte_core::id::{Id, ResourceId};
use serde_json::{Value, json};
use std::sync::LazyLock;
use support::{SHOP, Server, text};

const PLANE: &str = include_str!("../../../contracts/plane.yaml");
const PRODUCT: &str = include_str!("../../../contracts/product.yaml");

/// The plane's contract, which every build serves.
static OWN: LazyLock<Api> = LazyLock::new(|| flowyte_contract::compile(PLANE).ok().unwrap());
/// The same with the product's, whichever this build serves.
static WHOLE: LazyLock<Api> =
    LazyLock::new(|| flowyte_contract::compile_all(&[PLANE, PRODUCT]).ok().unwrap());

/// Whether a request asks for an operation that only the product has.
fn is_product(method: &str, target: &str) -> bool {
    let path = target.split('?').next().unwrap();
    let method = if method == "HEAD" { "GET" } else { method };
    WHOLE.contract.find(method, path).is_ok() && OWN.contract.find(method, path).is_err()
}

/// Two organizations, with what the plane alone can give them.
struct World {
    server: Server,
    owner: String,
    other_owner: String,
    organization: String,
    other_organization: String,
    /// pubkeys:read and nothing else.
    key: String,
    key_id: String,
    /// Every scope of the plane that a key may hold.
    all: String,
    all_id: String,
    other_all: String,
    /// What a publishable key is pinned to, and that key.
    resource: String,
    pk: String,
    other_resource: String,
}

impl World {
    fn new(settings: &[(&str, &str)]) -> Self {
        let given = [
            &[
                ("SIGNUP", "open"),
                ("UNAUTHENTICATED_RPM", "1000000"),
                ("LOGIN_FAILURES_PER_ADDRESS", "100000"),
                ("SIGNUPS_PER_ADDRESS", "100000"),
                ("LOG_LEVEL", "debug"),
            ],
            settings,
        ];
        let server = Server::start(&given.concat());
        let owner = server.set_up("ada@alpha.example");
        let other_owner = server.sign_up("Beta", "bob@beta.example");
        let of =
            |member: &str| text(&server.as_member(member, "GET", "/api/v1/organization", None).data()["id"]);
        let every = json!(["pubkeys:read", "pubkeys:write"]);
        let (key_id, key) = server.mint(&owner, json!({"name": "reader", "scopes": ["pubkeys:read"]}));
        let (all_id, all) = server.mint(&owner, json!({"name": "all", "scopes": every}));
        let (_, other_all) = server.mint(&other_owner, json!({"name": "all", "scopes": every}));
        let (resource, other_resource) = (resource(&server, &owner, 1), resource(&server, &other_owner, 2));
        let body =
            json!({"name": "site", "env": "live", "allowedOrigins": [SHOP, "https://app.shop.example:8443"]});
        let path = format!("/api/v1/agents/{resource}/publishable-keys");
        let pk = text(&server.as_key(&all, "POST", &path, Some(&body)).data()["keyPublic"]);
        let (organization, other_organization) = (of(&owner), of(&other_owner));
        Self {
            server,
            owner,
            other_owner,
            organization,
            other_organization,
            key,
            key_id,
            all,
            all_id,
            other_all,
            resource,
            pk,
            other_resource,
        }
    }

    /// The same on SQLite and on PostgreSQL.
    fn both() -> impl Iterator<Item = Self> {
        [false, true].into_iter().map(|postgres| match postgres {
            false => Self::new(&[]),
            true => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let url = runtime.block_on(postgres::empty_database());
                Self::new(&[("DATABASE", &url)])
            }
        })
    }

    fn publishable_keys(&self) -> String {
        format!("/api/v1/agents/{}/publishable-keys", self.resource)
    }
}

/// Something that a publishable key can be pinned to: an agent where there are agents, else whatever its maker says.
fn resource(server: &Server, owner: &str, number: u8) -> String {
    if cfg!(feature = "product") {
        let agent = json!({"name": "Front desk"});
        text(&server.as_member(owner, "POST", "/api/v1/agents", Some(&agent)).data()["id"])
    } else {
        ResourceId::from_bytes([number; 16]).to_string()
    }
}

fn whoami(server: &Server, key: &str) -> (u16, String) {
    let got = server.as_key(key, "GET", "/api/v1/whoami", None);
    (got.status, got.code())
}

const GOOD: (u16, String) = (200, String::new());

fn revoked() -> (u16, String) {
    (401, "credential_revoked".into())
}

#[test]
fn a_key_is_minted_used_rotated_and_revoked() {
    for mut world in World::both() {
        let World { server, owner, .. } = &world;
        let (id, key) = server.mint(owner, json!({"name": "nightly", "scopes": ["pubkeys:read"]}));
        let said = server.as_key(&key, "GET", "/api/v1/whoami", None).data();
        assert_eq!((&said["kind"], &said["keyId"]), (&json!("secret_key"), &json!(id)));
        assert_eq!(said["scopes"], json!(["pubkeys:read"]));
        assert_eq!(said["organizationId"], json!(world.organization));
        assert_eq!(server.as_key(&key, "GET", &world.publishable_keys(), None).status, 200);
        let refused = server.as_key(&key, "POST", &world.publishable_keys(), Some(&json!({})));
        assert_eq!((refused.status, refused.code().as_str()), (403, "insufficient_scope"));

        let act = |method: &str, path: &str, body: Value| {
            server.as_member(owner, method, &format!("/api/v1/api-keys/{id}{path}"), Some(&body)).data()
        };
        let second = text(&act("POST", "/rotate", json!({"graceSeconds": 3600}))["secret"]);
        assert_eq!((whoami(server, &key), whoami(server, &second)), (GOOD, GOOD), "grace");
        let third = text(&act("POST", "/rotate", json!({"graceSeconds": 0}))["secret"]);
        let after = [&key, &second, &third].map(|it| whoami(server, it).0);
        assert_eq!(after, [401, 401, 200], "no grace, and a second rotation ends the oldest");
        let done = server.as_member(owner, "DELETE", &format!("/api/v1/api-keys/{id}"), None).data();
        assert!(done["revision"].as_i64().is_some() && done["effective"]["nodes"] == 1, "{done}");
        assert_eq!(whoami(server, &third), revoked());

        world.server.kill_and_restart();
        let World { server, owner, key, .. } = &world;
        assert_eq!((whoami(server, &third), whoami(server, key)), (revoked(), GOOD), "after kill -9");
        let verified = server.as_member(owner, "GET", "/api/v1/audit-events/verify", None).data();
        assert_eq!(verified["intact"], true, "{verified}");
        let path = format!("/api/v1/audit-events?target={id}");
        let events = server.as_member(owner, "GET", &path, None).data();
        let actions: Vec<&str> =
            events.as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["api_key.revoked", "api_key.rotated", "api_key.rotated", "api_key.minted"]);
    }
}

#[test]
fn people_come_and_go() {
    for mut world in World::both() {
        let World { server, owner, .. } = &world;
        let viewer = server.join(owner, "viewer@alpha.example", "viewer");
        let members = server.as_member(owner, "GET", "/api/v1/members", None).data();
        assert_eq!(members.as_array().unwrap().len(), 2);
        let body = json!({"name": "x", "scopes": ["pubkeys:read"]});
        let refused = server.as_member(&viewer, "POST", "/api/v1/api-keys", Some(&body));
        assert_eq!((refused.status, refused.code().as_str()), (403, "insufficient_scope"));

        let invite = json!({"email": "late@alpha.example", "role": "developer"});
        let invite = server.as_member(owner, "POST", "/api/v1/invites", Some(&invite)).data();
        let withdraw = format!("/api/v1/invites/{}", text(&invite["id"]));
        assert!(server.as_member(owner, "DELETE", &withdraw, None).status < 300);
        let accept = json!({"token": invite["token"], "name": "Late", "password": support::PASSWORD});
        assert!(server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&accept)).status >= 400);

        let of = |member: &Value| member["role"] == "viewer";
        let id = text(&members.as_array().unwrap().iter().find(|it| of(it)).unwrap()["id"]);
        assert!(server.as_member(owner, "DELETE", &format!("/api/v1/members/{id}"), None).status < 300);
        assert_eq!(server.as_member(&viewer, "GET", "/api/v1/organization", None).status, 401);
        world.server.kill_and_restart();
        let World { server, owner, .. } = &world;
        assert_eq!(server.as_member(&viewer, "GET", "/api/v1/organization", None).status, 401);
        assert_eq!(server.as_member(owner, "GET", "/api/v1/organization", None).status, 200);
    }
}

#[test]
fn a_publishable_key_is_pinned_to_what_its_maker_named() {
    for world in World::both() {
        let World { server, owner, pk, .. } = &world;
        let said = server.as_widget(pk, "GET", "/api/v1/whoami", None).data();
        assert_eq!((&said["kind"], &said["agentId"]), (&json!("publishable_key"), &json!(world.resource)));
        let elsewhere = server.as_key(pk, "GET", "/api/v1/whoami", None);
        assert_eq!((elsewhere.status, elsewhere.code().as_str()), (403, "origin_not_allowed"));
        let list = server.as_key(&world.key, "GET", &world.publishable_keys(), None).data();
        assert_eq!(list.as_array().unwrap().len(), 1);
        // Another organization's, even under the same id, is another.
        let theirs = server.as_key(&world.other_all, "GET", &world.publishable_keys(), None);
        assert!(theirs.status == 404 || theirs.data() == json!([]), "{theirs:?}");

        let id = text(&list[0]["id"]);
        let revoke = format!("{}/{id}", world.publishable_keys());
        assert_eq!(server.as_member(owner, "DELETE", &revoke, None).status, 200);
        let after = server.as_widget(pk, "GET", "/api/v1/whoami", None);
        assert_eq!((after.status, after.code()), revoked());
    }
}

/// A case as the plane can be asked it: the same rule of another operation, or nothing where only the product has such a rule.
fn of_the_plane(mut case: Case) -> Option<Case> {
    let resource = ResourceId::from_bytes(callers::PINNED);
    case.call = match case.call.as_str() {
        // A key of the plane holds no other resource's scope to lack, so it lacks the one to write.
        "GET /api/v1/agents/agent_1/publishable-keys" => {
            "POST /api/v1/agents/agent_1/publishable-keys".into()
        }
        "POST /api/v1/chat/widget/sessions" if case.r#as == "widget" => "GET /api/v1/whoami".into(),
        call => call.replace("/api/v1/agents", &format!("/api/v1/agents/{resource}/publishable-keys")),
    };
    let (method, path) = case.call.split_once(' ').unwrap();
    (!is_product(method, path)).then_some(case)
}

#[test]
fn http_answers_what_core_decides() {
    assert_eq!(callers::every_case_is_answered("pubkeys:read", of_the_plane), 65);
}

/// A row as the plane can be asked it.
fn rewrite(row: &Value) -> Value {
    let mut text = row.to_string();
    // The plane's own operation for web pages is called from ours alone, so it is asked only for what it refuses.
    if row["code"] == "origin_not_allowed" {
        text = text.replace("/api/v1/widget/bootstrap", "/api/v1/whoami");
    }
    for (from, to) in [("agents:read", "pubkeys:read"), ("agents:write", "pubkeys:write")] {
        text = text.replace(from, to);
    }
    // The list of agents, and no address below it.
    for end in ["\"", "?", " HTTP"] {
        let from = format!("/api/v1/agents{end}");
        text = text.replace(&from, &format!("/api/v1/agents/{{agent}}/publishable-keys{end}"));
    }
    serde_json::from_str(&text).unwrap()
}

/// Whether the plane's contract has what a request speaks of.
fn can_be_asked(case: &rows::Case) -> bool {
    let mut words = case.lines[0].split(' ');
    let asked = (words.next().unwrap(), words.next().unwrap_or_default());
    let text = case.row.to_string().replace("{it}", &case.it);
    // `chat:public` and the like are unknown to the plane, and not something that it refuses to grant.
    let foreign = WHOLE.contract.scopes().iter().any(|(_, scope)| {
        let known = OWN.contract.scopes().iter().any(|(_, own)| own.name == scope.name);
        !known && case.it == scope.name
    });
    !is_product(asked.0, asked.1) && !foreign && !text.contains("{visitor}")
}

#[test]
fn hostile_requests_get_their_one_answer() {
    let world = World::new(&[]);
    let World { server, owner, .. } = &world;
    let (_, writer) = server.mint(owner, json!({"name": "writer", "scopes": ["pubkeys:write"]}));
    let names = rows::Names::new(
        "pubkeys:read",
        &[
            ("key", &world.key),
            ("all", &world.all),
            ("writer", &writer),
            ("other", &world.other_all),
            ("pk", &world.pk),
            ("agent", &world.resource),
            ("other_agent", &world.other_resource),
            ("organization", &world.organization),
            ("other_organization", &world.other_organization),
            ("key_id", &world.key_id),
            ("all_id", &world.all_id),
            ("owner", owner),
            ("port", &server.port.to_string()),
        ],
    );
    let rows: Vec<Value> = rows::rows().iter().map(rewrite).collect();
    let state = || {
        let ask = |member: &str, path: &str| {
            let mut rows = server.as_member(member, "GET", &format!("/api/v1/{path}"), None).data();
            for row in rows.as_array_mut().into_iter().flatten() {
                for used in ["lastUsedAt", "lastUsedAddress", "lastUsedOperation", "lastSeenAt"] {
                    row.as_object_mut().unwrap().remove(used);
                }
                for secret in row["secrets"].as_array_mut().into_iter().flatten() {
                    secret.as_object_mut().unwrap().remove("lastCall");
                }
            }
            rows.to_string()
        };
        let keys =
            ask(owner, "api-keys?limit=100") + &ask(owner, &world.publishable_keys()["/api/v1/".len()..]);
        keys + &ask(owner, "members") + &ask(&world.other_owner, "audit-events/verify?full=true")
    };
    let ran = rows::every_row_is_answered(server.port, &rows, &names, can_be_asked, state);
    assert_eq!(ran, 304);
    let output = server.output.lock().unwrap();
    for secret in [&world.key, &world.all, &world.other_all, &world.pk, owner] {
        assert!(!output.contains(secret.as_str()), "a credential is in the log");
    }
}
