//! The process as whoever operates it meets it: its variables, its signals, its version.

use crate::support::{Server, World};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn signal(server: &Server, name: &str) {
    assert!(Command::new("kill").args([name, &server.id().to_string()]).status().unwrap().success());
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_starts_beside_a_kubernetes_service_of_its_name() {
    let injected = [
        ("PORT", "tcp://10.96.12.7:8080"),
        ("SERVICE_HOST", "10.96.12.7"),
        ("SERVICE_PORT", "8080"),
        ("SERVICE_PORT_HTTP", "8080"),
        ("PORT_8080_TCP", "tcp://10.96.12.7:8080"),
        ("PORT_8080_TCP_ADDR", "10.96.12.7"),
        ("PORT_8080_TCP_PORT", "8080"),
        ("PORT_8080_TCP_PROTO", "tcp"),
    ];
    let server = Server::start(&injected);
    let said = server.output.lock().unwrap().clone();
    let lines: Vec<&str> = said.lines().filter(|it| it.contains("Kubernetes")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(injected.iter().all(|(name, _)| lines[0].contains(&format!("FLOWYTE_{name}"))), "{said}");
}

/// Whoever sends requests here hears that it stops while they are still taken; a second signal ends the wait.
#[test]
fn it_is_not_ready_before_it_stops_taking_requests() {
    let mut server = Server::start(&[("DRAIN_DELAY", "3600")]);
    assert_eq!(server.ops("/health/ready").status, 200);
    signal(&server, "-TERM");
    until("it says that it is ready", || server.ops("/health/ready").status == 503);
    assert_eq!(server.ops("/health/ready").body, "not ready: the server is stopping\n");
    assert_eq!(server.ops("/health/live").status, 200);
    assert_eq!(server.send("GET", "/api/v1/scopes", &[], None).status, 200);
    assert!(server.terminate().success());
    assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err());
}

#[test]
fn it_outlives_a_hangup() {
    let mut server = Server::start(&[]);
    for _ in 0..3 {
        signal(&server, "-HUP");
    }
    assert_eq!(server.send("GET", "/api/v1/scopes", &[], None).status, 200);
    assert_eq!(server.ops("/health/ready").status, 200);
    assert!(server.terminate().success());
}

/// The first connection that is taken finds the token in its file.
#[test]
fn the_listener_opens_when_the_set_up_token_is_there() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (port, ops_port) = (crate::support::free_port(), crate::support::free_port());
        let mut child = Server::command(&data, port, ops_port, &[]).spawn().unwrap();
        until("it does not listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let token = std::fs::read_to_string(data.join("setup-token"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(token.is_ok_and(|it| it.trim().len() > 40));
    }
}

#[test]
fn it_names_its_commit() {
    let output = Command::new(env!("CARGO_BIN_EXE_flowyte")).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let release = env!("CARGO_PKG_VERSION");
    let wanted = match git {
        Ok(git) if git.status.success() => {
            format!("flowyte {release} (commit {})\n", String::from_utf8(git.stdout).unwrap().trim())
        }
        _ => format!("flowyte {release} (commit unknown: built outside a git checkout)\n"),
    };
    assert_eq!(said, wanted);
}

/// The value of a sample by its name and labels.
fn sample(all: &str, name: &str) -> f64 {
    let line = all.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{all}")).parse().unwrap()
}

#[test]
fn metrics_say_what_happens_here_and_are_as_they_should_be() {
    let world = World::new(&[]);
    let server = &world.server;
    let before = server.ops("/metrics").body;
    for _ in 0..3 {
        server.as_key(&world.key, "GET", "/api/v1/agents", None);
    }
    server.as_key(&world.key, "POST", "/api/v1/agents", Some(&json!({"name": "x"})));
    server.send("GET", "/api/v1/never-declared", &[], None);
    let all = server.ops("/metrics").body;
    let grown = |name: &str, by: f64| {
        let was = if before.contains(&format!("{name} ")) { sample(&before, name) } else { 0.0 };
        assert_eq!(sample(&all, name) - was, by, "{name}");
    };
    grown("flowyte_requests_total{operation=\"listAgents\",status=\"200\"}", 3.0);
    grown("flowyte_requests_total{operation=\"createAgent\",status=\"403\"}", 1.0);
    grown("flowyte_requests_total{operation=\"none\",status=\"404\"}", 1.0);
    grown("flowyte_request_seconds_count{operation=\"listAgents\"}", 3.0);
    grown("flowyte_refusals_total{code=\"insufficient_scope\"}", 1.0);
    for name in
        ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds", "process_threads"]
    {
        assert!(sample(&all, name) > 0.0, "{name}");
    }
    assert!(all.contains("\nprocess_cpu_seconds_total "));
    let pid = format!("/proc/{}/status", server.id());
    let resident = std::fs::read_to_string(pid).unwrap();
    let resident = resident.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
    let resident: f64 = resident.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
    assert!((sample(&all, "process_resident_memory_bytes") / 1024.0 / resident - 1.0).abs() < 0.5);
    let build = format!(
        "flowyte_build_info{{commit=\"{}\",version=\"{}\"}}",
        flowyte::COMMIT,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(sample(&all, &build), 1.0);
    assert_eq!(sample(&all, "flowyte_replica_lag_revisions"), 0.0);
    assert_eq!(
        (sample(&all, "flowyte_replica_fresh"), sample(&all, "flowyte_replica_lease_seconds")),
        (1.0, f64::INFINITY)
    );
    assert!(
        sample(&all, "flowyte_replica_secrets") >= 10.0 && sample(&all, "flowyte_replica_revision") >= 10.0
    );
    for name in [
        "flowyte_database_waiting{mode=\"write\"}",
        "flowyte_knowledge_sources_waiting",
        "flowyte_usage_unattributed_total",
        // What has not happened yet is shown as well.
        "flowyte_work_waiting{work=\"passwords\"}",
        "flowyte_work_waiting{work=\"reports\"}",
        "flowyte_work_waiting{work=\"searches\"}",
        "flowyte_database_errors_total{kind=\"away\"}",
        "flowyte_service_call_seconds_count{outcome=\"failed\",service=\"model\"}",
        "flowyte_service_call_seconds_count{outcome=\"ok\",service=\"payment\"}",
        "flowyte_service_call_seconds_count{outcome=\"failed\",service=\"carrier\"}",
        "flowyte_refusals_total{code=\"verification_unavailable\"}",
    ] {
        assert_eq!(sample(&all, name), 0.0, "{name}");
    }
    assert!(sample(&all, "flowyte_database_wait_seconds_count{mode=\"write\"}") > 5.0);
    assert!(all.contains("flowyte_database_connections{pool=\"") && all.contains("flowyte_usage_waiting "));
    // No label comes from a caller: a name, an id, an address or a path.
    for of_a_caller in [&world.key_id, &world.organization, &world.agent, "never-declared", "127.0.0.1"] {
        assert!(!all.contains(of_a_caller), "{of_a_caller}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed; make postgres installs it");
    promtool.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(said.status.success() && words.is_empty(), "{words}");
}

#[test]
fn a_json_log_line_says_whose_the_request_was() {
    let world = World::new(&[("LOG_FORMAT", "json")]);
    let server = &world.server;
    let got = server.as_key(&world.key, "POST", "/api/v1/agents", Some(&json!({"name": "x"})));
    let id = got.header("x-request-id").unwrap().to_owned();
    let stranger = server.as_key("nonsense", "GET", "/api/v1/agents", None);
    let line = |id: &str| -> Value {
        until("there is no line", || server.output.lock().unwrap().contains(id));
        let all = server.output.lock().unwrap().clone();
        serde_json::from_str(all.lines().find(|it| it.contains(id)).unwrap()).unwrap()
    };
    let known = line(&id);
    assert_eq!(
        (&known["organization"], &known["credential"]),
        (&json!(world.organization), &json!(world.key_id))
    );
    assert_eq!((&known["operation"], &known["code"]), (&json!("createAgent"), &json!("insufficient_scope")));
    let unknown = line(stranger.header("x-request-id").unwrap());
    assert!(unknown.get("organization").is_none() && unknown.get("credential").is_none(), "{unknown}");
    assert!(!server.output.lock().unwrap().contains(&world.key));
}

/// A server whose standard error is a pipe that nobody reads; its port and that of operations.
fn unread(folder: &std::path::Path) -> (Child, u16, u16) {
    let (port, ops_port) = (crate::support::free_port(), crate::support::free_port());
    let json = [("LOG_FORMAT".to_owned(), "json".to_owned())];
    let child = Server::command(folder, port, ops_port, &json).spawn().unwrap();
    until("it does not listen", || TcpStream::connect(("127.0.0.1", ops_port)).is_ok());
    (child, port, ops_port)
}

/// Makes `times` requests that are refused, one after the other.
fn ask(port: u16, times: usize) {
    let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    connection.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = format!("GET /api/v1/whoami HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    for _ in 0..times {
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            connection.read_line(&mut head).expect("no answer");
            if let Some(value) = head[from..].strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
        std::io::copy(&mut (&mut connection).take(length), &mut std::io::sink()).unwrap();
    }
}

/// More lines than there is room for.
const MANY: usize = 12_000;

#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, port, ops_port) = unread(&folder.path().join("data"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask(port, MANY / 4));
        }
    });
    let metrics = || {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{ops_port}\r\nConnection: close\r\n\r\n");
        crate::support::raw(ops_port, request.as_bytes()).unwrap().body
    };
    let counted = sample(&metrics(), "flowyte_log_lines_dropped_total");
    assert!(counted > 0.0);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|it| it.unwrap());
    let (mut answered, mut dropped) = (0, 0);
    while dropped == 0 {
        let line: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        answered += usize::from(line["message"] == "answered");
        dropped = line["dropped"].as_u64().unwrap_or(0) as usize;
    }
    assert_eq!((answered + dropped, dropped), (MANY, counted as usize));
    // And it goes on, to the last line.
    ask(port, 1);
    assert!(lines.next().unwrap().contains("answered"));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(lines.last().unwrap().contains("stopped"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_it_from_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, port, _) = unread(&folder.path().join("data"));
    ask(port, 1_000);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not stop");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success());
}

/// What is wrong is said before the process ends, however soon that is.
#[test]
fn the_last_lines_are_written() {
    let mut server = Server::start(&[]);
    assert!(server.terminate().success());
    until("the last line is missing", || server.output.lock().unwrap().contains("stopped"));
}
