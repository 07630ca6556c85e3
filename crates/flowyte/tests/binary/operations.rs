//! Every operation × every caller, generated from the contract: the answer that the contract says.

use crate::support::{Got, SHOP, World, worlds};
use flowyte_core::{CredentialKind, Operation, Requirement};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const UNKNOWN: &str = "01938f2c5a007b3e8d41000000000fff";

fn contract() -> flowyte_contract::Api {
    flowyte_contract::compile_all(&[
        include_str!("../../../../contracts/plane.yaml"),
        include_str!("../../../../contracts/product.yaml"),
    ])
    .unwrap_or_else(|all| panic!("{all:?}"))
}

/// The path with each parameter's value.
fn path(operation: &Operation, values: &[(&str, &str)]) -> String {
    let mut path = operation.template.clone();
    for (name, value) in values {
        path = path.replace(&format!("{{{name}}}"), value);
    }
    assert!(!path.contains('{'), "{path}");
    path
}

/// Ids of things that are nowhere, each in the form that the contract gives it: another form is 404 before anything is looked at.
fn nowhere(operation: &Operation) -> String {
    let mut path = operation.template.clone();
    while let (Some(begin), Some(end)) = (path.find('{'), path.find('}')) {
        let it = match &path[begin + 1..end] {
            "gapId" => format!("gap_{UNKNOWN}"),
            "versionId" => format!("ver_{UNKNOWN}"),
            _ => format!("agent_{UNKNOWN}"),
        };
        path.replace_range(begin..=end, &it);
    }
    path
}

fn call(world: &World, operation: &Operation, path: &str, headers: &[&str]) -> Got {
    // Nothing that is not refused before has a body that fits, so what is permitted and takes a body gets 400 for it.
    let body = json!({"never declared": true});
    let body = (!matches!(operation.method.as_str(), "GET" | "DELETE")).then_some(&body);
    world.server.send(&operation.method, path, headers, body)
}

/// Rows: RT-20 PK-21.
#[test]
fn each_operation_answers_each_caller_as_the_contract_says() {
    let world = World::new(&[]);
    let api = contract();
    let bearer = |secret: &str| format!("Authorization: Bearer {secret}");
    let session = format!("Cookie: {}", world.owner);
    let viewer = format!("Cookie: {}", world.viewer);
    let origin = format!("Origin: {SHOP}");
    // Sessions that the matrix must not end.
    let ends = ["logout", "changePassword", "switchOrganization", "endSession"];
    for (index, operation) in api.contract.operations().iter().enumerate() {
        let what = format!("{} {}", operation.method, operation.template);
        let path = nowhere(operation);
        let ask = |headers: &[&str]| {
            let got = call(&world, operation, &path, headers);
            got.check_invariants(&what);
            (got.status, got.code())
        };
        let refused = |status: u16, code: &str| (status, code.to_owned());
        let Requirement::Credential(alternatives) = operation.requirement() else {
            // Nobody is asked who they are; a body is held against its schema, whatever it would do.
            let wanted =
                if operation.method == "GET" { refused(200, "") } else { refused(400, "validation_error") };
            assert_eq!(ask(&[]), wanted, "{what}: public");
            assert_eq!(
                ask(&["Authorization: Bearer nonsense"]),
                refused(401, "invalid_credential"),
                "{what}"
            );
            continue;
        };
        assert_eq!(ask(&[]), refused(401, "missing_credential"), "{what}");
        assert_eq!(ask(&["Authorization: Bearer nonsense"]), refused(401, "invalid_credential"), "{what}");
        let same_origin = "Sec-Fetch-Site: same-origin";
        let (all, pk, visitor) = (bearer(&world.all), bearer(&world.pk), bearer(&world.visitor));
        let callers: [(CredentialKind, Vec<&str>); 4] = [
            (CredentialKind::SecretKey, vec![all.as_str()]),
            (CredentialKind::PublishableKey, vec![pk.as_str(), &origin]),
            (CredentialKind::Visitor, vec![visitor.as_str(), &origin]),
            (CredentialKind::Session, vec![session.as_str(), same_origin]),
        ];
        for (kind, headers) in callers {
            let got = match (operation.takes(kind), operation.reserved) {
                (false, _) => Some(refused(403, "credential_not_allowed")),
                (true, true) => Some(refused(403, "operation_reserved")),
                (true, false) => None,
            };
            match got {
                Some(wanted) => assert_eq!(ask(&headers), wanted, "{what} as {}", kind.as_str()),
                None if ends.contains(&operation.id.as_str()) => {}
                // Permitted: the handler's own answer, or what is wrong with a body that nothing declares.
                None => {
                    let takes_body = api.checks[index].has_body;
                    let wanted = match (takes_body, operation.template.contains('{')) {
                        (true, _) if !api.checks[index].takes_json() => {
                            refused(415, "unsupported_media_type")
                        }
                        (true, _) => refused(400, "validation_error"),
                        (false, true) => refused(404, "not_found"),
                        (false, false) => refused(api.checks[index].success_status, ""),
                    };
                    assert_eq!(ask(&headers), wanted, "{what} as {}", kind.as_str());
                }
            }
        }
        // A caller of the right kind without the scope.
        let needs_scope =
            |kind| alternatives.iter().filter(|it| it.kind == kind).all(|it| !it.scopes.is_empty());
        if operation.takes(CredentialKind::SecretKey)
            && !operation.reserved
            && needs_scope(CredentialKind::SecretKey)
        {
            let scopes = api.contract.scopes();
            let own = alternatives.iter().filter(|it| it.kind == CredentialKind::SecretKey);
            let needed: Vec<&str> = own.flat_map(|it| scopes.names(it.scopes)).collect();
            if !needed.contains(&"agents:read") {
                assert_eq!(ask(&[&bearer(&world.key)]), refused(403, "insufficient_scope"), "{what}");
            }
        }
        if operation.takes(CredentialKind::Session)
            && !operation.reserved
            && needs_scope(CredentialKind::Session)
        {
            let held = api.contract.scopes().role(flowyte_core::Role::Viewer);
            let may =
                alternatives.iter().any(|it| it.kind == CredentialKind::Session && held.covers(it.scopes));
            if !may {
                let wanted = refused(403, "insufficient_scope");
                assert_eq!(ask(&[&viewer, "Sec-Fetch-Site: same-origin"]), wanted, "{what} as a viewer");
            }
        }
    }
}

/// Rows: SC-01 SC-06 SC-08.
/// Of keys with one scope each those may call an operation that its requirement names; and a key with every other scope may not, and
/// is told what would have been enough.
#[test]
fn each_scope_opens_its_operations_and_no_other() {
    let world = World::new(&[]);
    let api = contract();
    let scopes = api.contract.scopes();
    let grantable = scopes.names(scopes.secret_keys());
    let mint = |name: &str, scopes: &[&str]| {
        let (_, key) = world.server.mint(&world.owner, json!({"name": name, "scopes": scopes}));
        format!("Authorization: Bearer {key}")
    };
    let alone: Vec<(&str, String)> = grantable.iter().map(|it| (*it, mint(it, &[it]))).collect();
    let mut asked = 0;
    for operation in api.contract.operations() {
        let Requirement::Credential(alternatives) = operation.requirement() else { continue };
        let enough: Vec<Vec<&str>> = alternatives
            .iter()
            .filter(|it| it.kind == CredentialKind::SecretKey)
            .map(|it| scopes.names(it.scopes))
            .collect();
        if operation.reserved || enough.is_empty() || enough.iter().any(Vec::is_empty) {
            continue;
        }
        let what = format!("{} {}", operation.method, operation.template);
        let path = nowhere(operation);
        for (scope, key) in &alone {
            let got = call(&world, operation, &path, &[key]);
            assert_ne!(got.status, 429, "{what}");
            assert_eq!(got.status != 403, enough.iter().any(|it| it[..] == [*scope]), "{what} with {scope}");
            asked += 1;
        }
        let others: Vec<&str> =
            grantable.iter().copied().filter(|it| !enough.iter().any(|all| all.contains(it))).collect();
        let got = call(&world, operation, &path, &[&mint("others", &others)]);
        assert_eq!((got.status, got.code()), (403, "insufficient_scope".into()), "{what}");
        assert_eq!(got.json()["requiredScopes"], json!(enough), "{what}");
    }
    assert!(asked > 1_000, "{asked}");
}

/// Rows: RT-20.
#[test]
fn every_other_method_on_every_path_is_refused_and_runs_nothing() {
    let world = World::new(&[]);
    let api = contract();
    let mut templates: Vec<&str> = api.contract.operations().iter().map(|it| it.template.as_str()).collect();
    templates.sort_unstable();
    templates.dedup();
    let bearer = format!("Authorization: Bearer {}", world.all);
    let mut refused = 0;
    for template in templates {
        let declared: Vec<&Operation> =
            api.contract.operations().iter().filter(|it| it.template == template).collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"] {
            let as_declared = if method == "HEAD" { "GET" } else { method };
            if declared.iter().any(|it| it.method == as_declared) {
                continue;
            }
            let got = world.server.send(method, &nowhere(declared[0]), &[&bearer], None);
            got.check_invariants(template);
            assert_eq!(got.status, 405, "{method} {template}: {got:?}");
            let allow = got.header("allow").unwrap_or_else(|| panic!("{method} {template}: no Allow"));
            assert!(
                declared.iter().all(|it| allow.split(", ").any(|one| one == it.method)),
                "{template}: {allow}"
            );
            refused += 1;
        }
    }
    assert!(refused > 500, "{refused}");
}

/// A body that the operation takes, so that only the id decides.
fn body(operation: &str, world: &World) -> Option<Value> {
    Some(match operation {
        "updateMember" => json!({"role": "viewer"}),
        "updateApiKey" | "updateAgent" | "updatePublishableKey" => json!({"name": "taken over"}),
        "rollbackAgent" => json!({"versionId": world.other_version}),
        "mintPublishableKey" => json!({"name": "x", "env": "live", "allowedOrigins": [SHOP]}),
        "simulateAgent" => json!({"transcript": [{"role": "user", "text": "Hello"}]}),
        "assignNumber" => json!({"agentId": world.other_agent}),
        "replaceWidget" => json!({"theme": {}, "copy": {}, "behavior": {}}),
        "createSkill" => json!({"name": "x", "description": "y", "skillType": "knowledge_query"}),
        "updateSkill" => json!({"isEnabled": false}),
        "createKnowledgeSource" => json!({"kind": "text", "label": "x", "text": "y"}),
        "updateKnowledgeGap" => json!({"status": "dismissed"}),
        "createTalkToken" => json!({}),
        "sendChatMessage" => json!({"content": "Hello"}),
        "updateKnowledgeSource" => json!({"refreshEnabled": false}),
        "previewKnowledge" => json!({"query": "x"}),
        "rotateApiKey" | "rotatePublishableKey" | "publishAgent" => json!({}),
        _ => return None,
    })
}

fn bare(got: &Got) -> (u16, Vec<(String, String)>, String) {
    let mut headers = got.headers.clone();
    headers.retain(|(name, _)| !["x-request-id", "date", "ratelimit"].contains(&name.as_str()));
    let body = match serde_json::from_str::<Value>(&got.body) {
        Ok(mut document) => {
            document["requestId"] = Value::Null;
            document.to_string()
        }
        Err(_) => got.body.clone(),
    };
    (got.status, headers, body)
}

/// Rows: TX-01 TX-02 MI-21 RT-27 AU-05.
#[test]
fn elsewhere_and_nowhere_are_one_answer() {
    for world in worlds(&[]) {
        let other_member = {
            let members = world.server.as_member(&world.other_owner, "GET", "/api/v1/members", None).data();
            members[0]["id"].as_str().unwrap().to_owned()
        };
        let other_session = {
            let sessions =
                world.server.as_member(&world.other_owner, "GET", "/api/v1/auth/sessions", None).data();
            sessions[0]["id"].as_str().unwrap().to_owned()
        };
        let invite = json!({"email": "new@beta.example", "role": "viewer"});
        let other_invite =
            world.server.as_member(&world.other_owner, "POST", "/api/v1/invites", Some(&invite)).data();
        let other_invite = other_invite["id"].as_str().unwrap().to_owned();
        let other_source = {
            let sources = format!("/api/v1/agents/{}/knowledge/sources", world.other_agent);
            let body = json!({"kind": "text", "label": "Secret", "text": "The vault opens at midnight."});
            let source = world.server.as_key(&world.other_all, "POST", &sources, Some(&body)).data();
            source["id"].as_str().unwrap().to_owned()
        };
        // A number and a hold of the other organization's, in the sandbox.
        let wanted = |action: &str, e164: &str| {
            let path = format!("/api/v1/numbers/{action}");
            let got =
                world.server.as_key(&world.other_all, "POST", &path, Some(&json!({"e164": e164}))).data();
            got["id"].as_str().unwrap().to_owned()
        };
        let other_number = wanted("import", "+12025550123");
        let other_hold = wanted("reserve", "+12025550124");
        let other_session_of_chat = {
            let body = json!({"agentId": world.other_agent});
            let session =
                world.server.as_key(&world.other_all, "POST", "/api/v1/chat/sessions", Some(&body)).data();
            session["id"].as_str().unwrap().to_owned()
        };
        let other_skill = {
            let skills = format!("/api/v1/agents/{}/skills", world.other_agent);
            let body = json!({"name": "Look up", "description": "Theirs.", "skillType": "knowledge_query"});
            let skill = world.server.as_key(&world.other_all, "POST", &skills, Some(&body)).data();
            skill["id"].as_str().unwrap().to_owned()
        };
        let before = world
            .server
            .as_member(&world.other_owner, "GET", "/api/v1/audit-events/verify?full=true", None)
            .data();
        let api = contract();
        let mut compared = 0;
        for operation in
            api.contract.operations().iter().filter(|it| !it.reserved && it.template.contains('{'))
        {
            let theirs = |name: &str| match (name, operation.id.as_str()) {
                ("agentId", _) => world.other_agent.clone(),
                ("versionId", _) => world.other_version.clone(),
                (_, "endSession") => other_session.clone(),
                (_, "updateMember" | "removeMember" | "createRecoveryLink") => other_member.clone(),
                (_, "withdrawInvite") => other_invite.clone(),
                (_, "updateSkill" | "deleteSkill") => other_skill.clone(),
                (_, id) if id.ends_with("KnowledgeSource") => other_source.clone(),
                (_, "assignNumber" | "unassignNumber" | "releaseNumber") => other_number.clone(),
                (_, "releaseNumberReservation") => other_hold.clone(),
                (_, id) if id.contains("Chat") || id.contains("Conversation") => {
                    other_session_of_chat.clone()
                }
                (_, id) if id.contains("ApiKey") => world.other_key_id.clone(),
                (_, id) if id.contains("PublishableKey") => world.other_pk_id.clone(),
                _ => world.other_agent.clone(),
            };
            let names: Vec<&str> =
                operation.template.split('{').skip(1).map(|it| it.split('}').next().unwrap()).collect();
            let elsewhere: Vec<(&str, String)> = names.iter().map(|name| (*name, theirs(name))).collect();
            let unknown = |it: &(&str, String)| format!("{}_{UNKNOWN}", it.1.split('_').next().unwrap());
            let gone: Vec<(&str, String)> = elsewhere.iter().map(|it| (it.0, unknown(it))).collect();
            fn pairs<'a>(all: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
                all.iter().map(|(name, value)| (*name, value.as_str())).collect()
            }
            let body = body(&operation.id, &world);
            let session = [format!("Cookie: {}", world.owner), "Sec-Fetch-Site: same-origin".to_owned()];
            let key = [format!("Authorization: Bearer {}", world.all)];
            for (kind, headers) in
                [(CredentialKind::Session, &session[..]), (CredentialKind::SecretKey, &key[..])]
            {
                if !operation.takes(kind) {
                    continue;
                }
                let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
                let ask = |values: &[(&str, String)]| {
                    world.server.send(
                        &operation.method,
                        &path(operation, &pairs(values)),
                        &headers,
                        body.as_ref(),
                    )
                };
                let (there, nowhere) = (ask(&elsewhere), ask(&gone));
                assert_eq!(
                    (there.status, there.code().as_str()),
                    (404, "not_found"),
                    "{}: {there:?}",
                    operation.id
                );
                assert_eq!(bare(&there), bare(&nowhere), "{}", operation.id);
                compared += 1;
            }
        }
        assert!(compared >= 40, "only {compared} operations were compared");
        let after = world
            .server
            .as_member(&world.other_owner, "GET", "/api/v1/audit-events/verify?full=true", None)
            .data();
        assert_eq!(before, after, "the other organization sees something of it");
        assert_eq!(world.server.as_key(&world.other_all, "GET", "/api/v1/whoami", None).status, 200);
        let path = format!("/api/v1/api-keys/{}/usage", world.all_id);
        let begun = Instant::now();
        let usage = loop {
            // It is written once a second.
            let usage = world.server.as_member(&world.owner, "GET", &path, None).data().to_string();
            if usage.contains("\"not_found\"") {
                break usage;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{usage}");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(!usage.contains(&world.other_organization));
    }
}
