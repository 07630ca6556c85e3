//! What a long history costs: each call on a new installation and on one with as many keys ever minted, messages charged and conversations
//! as is said, a million by default, in one run: `make bench`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Client, Server, median, request};
use tokio::runtime::Runtime;

const TIMES: usize = 100;
/// Times that a report is asked for.
const REPORTS: usize = 10;

/// An installation with an agent that answers, and somebody who talks to it.
struct Installation {
    data: std::path::PathBuf,
    url: Option<String>,
    owner: String,
    visitor: String,
    agent: String,
}

impl Installation {
    fn serve(&self) -> Server {
        serve(&self.data, self.url.as_deref())
    }
}

fn serve(data: &Path, url: Option<&str>) -> Server {
    let settings: Vec<_> = url.map(|url| ("FLOWYTE_DATABASE", Path::new(url))).into_iter().collect();
    Server::binary(data, &settings)
}

/// `url`: of a database on PostgreSQL, where it is to be there.
fn install(data: &Path, url: Option<&str>) -> Installation {
    let server = serve(data, url);
    let owner = server.set_up(data);
    let mut client = Client::new(server.port);
    let mut post = |path: &str, fields: &str, body: Value| {
        let answer = client.ask(&request("POST", path, fields, Some(&body)));
        assert!(answer.status < 300, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.data()
    };
    let agent = post("/api/v1/agents", &owner, json!({"name": "Front desk"}));
    let agent = agent["id"].as_str().unwrap().to_owned();
    let text =
        json!({"kind": "text", "label": "Hours", "text": "We are open from nine to five, Monday to Friday."});
    post(&format!("/api/v1/agents/{agent}/knowledge/sources"), &owner, text);
    post(&format!("/api/v1/agents/{agent}/publish"), &owner, json!({}));
    let key = json!({"name": "site", "env": "live", "allowedOrigins": ["https://shop.example"]});
    let key = post(&format!("/api/v1/agents/{agent}/publishable-keys"), &owner, key);
    post("/api/v1/api-keys", &owner, json!({"name": "first", "scopes": ["agents:read"]}));
    let of = |token: &Value| {
        format!("Authorization: Bearer {}\r\nOrigin: https://shop.example\r\n", token.as_str().unwrap())
    };
    let session = post("/api/v1/chat/widget/sessions", &of(&key["keyPublic"]), json!({}));
    let visitor = of(&session["visitorToken"]);
    let question = json!({"content": "When are you open?"});
    let asked = client.ask(&request("POST", "/api/v1/chat/widget/messages", &visitor, Some(&question)));
    assert_eq!(asked.status, 200, "{}", String::from_utf8_lossy(&asked.body));
    Installation { data: data.to_owned(), url: url.map(str::to_owned), owner, visitor, agent }
}

/// A database whose server is not running.
enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(Runtime, tokio_postgres::Client),
}

impl Database {
    fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(database) => database.execute_batch(sql).unwrap(),
            Self::Postgres(runtime, database) => runtime.block_on(database.batch_execute(sql)).unwrap(),
        }
    }

    fn columns(&self, table: &str) -> Vec<String> {
        match self {
            Self::Sqlite(database) => {
                let mut columns =
                    database.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
                columns.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
            }
            Self::Postgres(runtime, database) => {
                let sql = "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position";
                let rows = runtime.block_on(database.query(sql, &[&table])).unwrap();
                rows.iter().map(|row| row.get::<_, String>(0)).collect()
            }
        }
    }
}

/// Puts a history before what is there: rows like the ones that the server wrote, with earlier ids.
fn fill(database: &Database, count: u64) {
    let (series, id, digest) = match database {
        Database::Sqlite(_) => {
            database.execute("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; BEGIN");
            let series = format!(
                "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {count})"
            );
            (series, "unhex(printf('%032x', n))", "randomblob(32)")
        }
        Database::Postgres(..) => {
            database.execute("SET session_replication_role = replica; SET synchronous_commit = off; BEGIN");
            let series = format!("WITH series (n) AS (SELECT generate_series(1, {count}))");
            (series, "decode(lpad(to_hex(n), 32, '0'), 'hex')", "sha256(decode(md5(CAST(n AS TEXT)), 'hex'))")
        }
    };
    let like = |table: &str, changed: &[(&str, &str)]| {
        let columns = database.columns(table);
        let values = columns.iter().map(|name| {
            changed.iter().find(|it| it.0 == name).map_or(format!("it.{name}"), |it| it.1.to_owned())
        });
        let (columns, values) = (columns.join(", "), values.collect::<Vec<_>>().join(", "));
        database.execute(&format!(
            "INSERT INTO {table} ({columns}) {series} SELECT {values} FROM (SELECT * FROM {table} LIMIT 1) it, series"
        ));
    };
    like("secret_keys", &[("id", id), ("revoked_at", "it.created_at")]);
    like("secrets", &[("digest", digest), ("key_id", id)]);
    like("conversations", &[("id", id), ("ended_at", "it.started_at")]);
    like("messages", &[("id", id), ("conversation_id", id)]);
    like("conversation_events", &[("conversation_id", id)]);
    like("ledger_transactions", &[("id", id), ("reference", "'old ' || n")]);
    like("ledger_entries", &[("transaction_id", id)]);
    // The chain and the change log go on where these end.
    database.execute(&format!("UPDATE audit_events SET sequence = sequence + {count}"));
    like("audit_events", &[("sequence", "n"), ("id", id), ("target_id", "'key_' || n")]);
    database.execute(&format!("UPDATE head SET revision = revision + {count}"));
    database.execute(&format!("UPDATE changes SET revision = revision + {count}"));
    like("changes", &[("revision", "n"), ("entity", "'visitor'"), ("entity_id", id)]);
    database.execute("COMMIT");
    database.execute(match database {
        Database::Sqlite(_) => "ANALYZE",
        Database::Postgres(..) => "VACUUM (ANALYZE)",
    });
}

/// What each call takes.
fn measure(installation: &Installation) -> Vec<(&'static str, Duration)> {
    let begun = Instant::now();
    let server = installation.serve();
    let start = begun.elapsed();
    let mut client = Client::new(server.port);
    let mut took = |times: usize, request: &dyn Fn(usize) -> Vec<u8>, status: u16| {
        let mut all: Vec<Duration> = (0..times)
            .map(|turn| {
                let request = request(turn);
                let begun = Instant::now();
                let answer = client.ask(&request);
                assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
                begun.elapsed()
            })
            .collect();
        median(&mut all)
    };
    let owner = &installation.owner;
    let get = |path: &str| request("GET", path, owner, None);
    let body = json!({"name": "bench", "scopes": ["agents:read"]});
    let keys: Vec<String> = (0..TIMES)
        .map(|_| {
            let minted =
                Client::new(server.port).ask(&request("POST", "/api/v1/api-keys", owner, Some(&body)));
            minted.data()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let key = |turn: usize| format!("/api/v1/api-keys/{}", keys[turn]);
    let question = json!({"content": "When are you open?"});
    vec![
        ("start", start),
        ("mint", took(TIMES, &|_| request("POST", "/api/v1/api-keys", owner, Some(&body)), 201)),
        (
            "rename a key",
            took(TIMES, &|turn| request("PATCH", &key(turn), owner, Some(&json!({"name": "new"}))), 200),
        ),
        ("revoke", took(TIMES, &|turn| request("DELETE", &key(turn), owner, None), 200)),
        ("list keys", took(TIMES, &|_| get("/api/v1/api-keys"), 200)),
        (
            "charged message",
            took(
                TIMES,
                &|_| request("POST", "/api/v1/chat/widget/messages", &installation.visitor, Some(&question)),
                200,
            ),
        ),
        ("wallet", took(TIMES, &|_| get("/api/v1/billing/wallet"), 200)),
        ("usage items", took(TIMES, &|_| get("/api/v1/billing/usage/items"), 200)),
        ("list conversations", took(TIMES, &|_| get("/api/v1/conversations"), 200)),
        ("list audit events", took(TIMES, &|_| get("/api/v1/audit-events"), 200)),
        ("analytics overview", took(REPORTS, &|_| get("/api/v1/analytics/overview"), 200)),
        ("billing usage", took(REPORTS, &|_| get("/api/v1/billing/usage"), 200)),
        (
            "agent's analytics",
            took(REPORTS, &|_| get(&format!("/api/v1/agents/{}/analytics", installation.agent)), 200),
        ),
    ]
}

fn main() {
    let count = std::env::args().skip(1).find_map(|it| it.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    println!("database\tcall\tnew, ms\tafter {count}, ms\tratio");
    let (new, old) = (install(&folder.path().join("new"), None), install(&folder.path().join("old"), None));
    fill(&Database::Sqlite(rusqlite::Connection::open(old.data.join("flowyte.db")).unwrap()), count);
    compare("SQLite", &new, &old);
    let runtime = Runtime::new().unwrap();
    let (young, _one) = runtime.block_on(postgres::database_on_disk(&[]));
    let (aged, _other) = runtime.block_on(postgres::database_on_disk(&[]));
    let new = install(&folder.path().join("new on PostgreSQL"), Some(&young));
    let old = install(&folder.path().join("old on PostgreSQL"), Some(&aged));
    let database = runtime.block_on(postgres::connected(&aged));
    fill(&Database::Postgres(runtime, database), count);
    compare("PostgreSQL", &new, &old);
}

fn compare(database: &str, new: &Installation, old: &Installation) {
    for ((name, new), (_, old)) in measure(new).into_iter().zip(measure(old)) {
        let (new, old) = (new.as_secs_f64() * 1e3, old.as_secs_f64() * 1e3);
        println!("{database}\t{name}\t{new:.2}\t{old:.2}\t{:.2}", old / new);
    }
}
