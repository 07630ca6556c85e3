//! Skills end to end: what can be made, what is refused and why, and what is never answered.

use crate::support::{World, text, worlds};
use serde_json::{Value, json};

const ORDERS: &str = "https://shop.example/orders";

fn webhook(name: &str) -> Value {
    json!({
        "name": name,
        "description": "Looks up where an order is.",
        "skillType": "http_webhook",
        "parametersSchema": {"type": "object", "properties": {"order": {"type": "string"}}},
        "requiredParams": ["order"],
        "executionConfig": {"url": ORDERS, "headers": {"X-Api-Key": "canary-of-a-webhook"}},
    })
}

/// Whether any file of the data folder holds a text.
fn stored(world: &World, words: &str) -> bool {
    let files = std::fs::read_dir(&world.server.folder).unwrap().map(|it| it.unwrap().path());
    files.filter(|it| it.is_file()).any(|file| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(words.len()).any(|it| it == words.as_bytes())
    })
}

#[test]
fn skills_are_made_changed_and_removed() {
    for world in worlds(&[]) {
        let path = format!("/api/v1/agents/{}/skills", world.agent);
        let key = |method: &str, path: &str, body: Value| {
            let body = (!body.is_null()).then_some(body);
            world.server.as_key(&world.all, method, path, body.as_ref())
        };
        let made = key("POST", &path, webhook("Order status"));
        assert_eq!(made.status, 201, "{made:?}");
        let skill = made.data();
        assert_eq!(skill["trigger"], "/order_status");
        assert_eq!(
            skill["executionConfig"],
            json!({"url": ORDERS, "method": "POST", "timeout_ms": 10_000, "headerNames": ["x-api-key"]})
        );
        assert_eq!((&skill["requiresConfirmation"], &skill["isEnabled"]), (&json!(false), &json!(true)));
        assert!(!made.body.contains("canary") && !stored(&world, "canary-of-a-webhook"), "{made:?}");
        let one = format!("{path}/{}", text(&skill["id"]));

        // One trigger, one skill.
        assert_eq!(key("POST", &path, webhook("order-STATUS")).code(), "conflict");
        let take = json!({"name": "Take a message", "description": "For later.", "skillType": "builtin", "executionConfig": {"action": "take_message"}});
        let take = key("POST", &path, take).data();
        assert_eq!(take["requiredParams"], json!(["message"]));
        let other = format!("{path}/{}", text(&take["id"]));
        assert_eq!(key("PATCH", &other, json!({"name": "ORDER STATUS"})).code(), "conflict");
        let listed = key("GET", &path, Value::Null).data();
        assert_eq!(listed, json!([take, skill]));

        let changed =
            key("PATCH", &one, json!({"name": "Orders", "isEnabled": false, "requiresConfirmation": true}))
                .data();
        assert_eq!((&changed["trigger"], &changed["isEnabled"]), (&json!("/orders"), &json!(false)));
        assert_eq!(changed["requiresConfirmation"], true);
        // Header fields stay on their host; elsewhere they must be given again.
        let elsewhere = json!({"executionConfig": {"url": "https://other.example/orders"}});
        let refused = key("PATCH", &one, elsewhere);
        assert!(
            refused.code() == "validation_error" && refused.body.contains("/executionConfig/headers"),
            "{refused:?}"
        );
        let moved = json!({"executionConfig": {"url": "https://shop.example/v2", "method": "GET", "timeout_ms": 500}});
        let moved = key("PATCH", &one, moved).data();
        assert_eq!(
            moved["executionConfig"],
            json!({"url": "https://shop.example/v2", "method": "GET", "timeout_ms": 500, "headerNames": ["x-api-key"]})
        );
        let without = json!({"executionConfig": {"url": "https://other.example/", "headers": {}}});
        assert_eq!(key("PATCH", &one, without).data()["executionConfig"]["headerNames"], json!([]));
        let schema = json!({"parametersSchema": {"properties": {"customer": {"type": "string"}}}});
        assert!(key("PATCH", &one, schema.clone()).body.contains("requiredParams"));
        let mut whole = schema;
        whole["requiredParams"] = json!(["customer"]);
        assert_eq!(key("PATCH", &one, whole).data()["requiredParams"], json!(["customer"]));

        let audit = world.server.as_member(&world.owner, "GET", "/api/v1/audit-events", None).body;
        assert!(audit.contains("skill.created") && audit.contains("skill.changed"), "{audit}");
        assert_eq!(key("DELETE", &one, Value::Null).data(), Value::Null);
        assert_eq!(key("DELETE", &one, Value::Null).code(), "not_found");
        assert_eq!(key("PATCH", &one, json!({"isEnabled": true})).code(), "not_found");
        assert_eq!(key("GET", &path, Value::Null).data(), json!([take]));

        // A repeated request is one skill.
        let once = || {
            let headers = [
                format!("Authorization: Bearer {}", world.all),
                "Idempotency-Key: 0123456789abcdef-skill".into(),
            ];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            world.server.send("POST", &path, &headers, Some(&webhook("Once"))).data()
        };
        assert_eq!(once(), once());
        assert_eq!(key("DELETE", &format!("/api/v1/agents/{}", world.agent), Value::Null).status, 200);
        assert_eq!(key("GET", &path, Value::Null).code(), "not_found");
    }
}

#[test]
fn what_is_no_skill_is_refused_and_says_why() {
    let world = World::new(&[]);
    let path = format!("/api/v1/agents/{}/skills", world.agent);
    let of = |skill_type: &str, config: Value| json!({"name": "x", "description": "y", "skillType": skill_type, "executionConfig": config});
    let with = |field: &str, value: Value| {
        let mut body = webhook("x");
        body[field] = value;
        body
    };
    for (body, says) in [
        (of("sms", json!({})), "http_webhook"),
        (of("native_sql", json!({})), "builtin"),
        (of("http_webhook", json!({})), "/executionConfig/url"),
        (of("http_webhook", json!({"url": "http://127.0.0.1/"})), "no public address"),
        (of("http_webhook", json!({"url": "http://[::ffff:169.254.169.254]/latest"})), "no public address"),
        (of("http_webhook", json!({"url": "file:///etc/passwd"})), "/executionConfig/url"),
        (of("http_webhook", json!({"url": "https://u:p@shop.example/"})), "/executionConfig/url"),
        (of("http_webhook", json!({"url": ORDERS, "headers": {"Host": "x"}})), "must not set host"),
        (of("http_webhook", json!({"url": ORDERS, "headers": {"a b": "x"}})), "/executionConfig/headers"),
        (
            of("http_webhook", json!({"url": ORDERS, "headers": {"a": "x\r\nb: c"}})),
            "/executionConfig/headers",
        ),
        (of("http_webhook", json!({"url": ORDERS, "headers": {"a": "1", "A": "2"}})), "twice"),
        (of("http_webhook", json!({"url": ORDERS, "headerNames": ["a"]})), "headerNames"),
        (of("http_webhook", json!({"url": ORDERS, "timeout_ms": 99})), "timeout_ms"),
        (of("http_webhook", json!({"url": ORDERS, "destination": "x"})), "does not apply to http_webhook"),
        (of("transfer", json!({})), "/executionConfig/destination"),
        (of("builtin", json!({})), "take_message"),
        (of("knowledge_query", json!({"url": ORDERS})), "executionConfig"),
        (
            json!({"name": "x", "description": "y", "skillType": "transfer", "executionConfig": {"destination": "z"}, "parametersSchema": {}}),
            "parametersSchema",
        ),
        (with("name", json!("öß")), "Latin letter"),
        (with("name", json!(" ")), "name"),
        (with("requiredParams", json!(["nothing"])), "requiredParams"),
        (
            with("parametersSchema", json!({"properties": {"order": {"$ref": "https://evil.example/x"}}})),
            "$ref",
        ),
        (with("parametersSchema", json!({"type": "array"})), "parametersSchema"),
        (
            with("executionConfig", json!({"url": "https://shop.example/orders?shop=1&Order=all"})),
            "`order` stands in the query",
        ),
        (with("stakes", json!("high")), "stakes"),
    ] {
        let got = world.server.as_key(&world.all, "POST", &path, Some(&body));
        assert_eq!((got.status, got.code().as_str()), (400, "validation_error"), "{body}: {got:?}");
        assert!(got.body.contains(says), "{body}: {got:?}");
    }
    let types = world.server.as_key(&world.all, "GET", "/api/v1/skill-types", None).data();
    let names: Vec<&str> =
        types.as_array().unwrap().iter().filter_map(|it| it["skillType"].as_str()).collect();
    assert_eq!(names, ["http_webhook", "knowledge_query", "transfer", "builtin"]);
}
