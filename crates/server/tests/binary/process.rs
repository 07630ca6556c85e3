//! The process as whoever operates it meets it: its variables, its signals, its version.

use crate::support::Server;
use std::net::TcpStream;
use std::process::Command;
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
    assert_eq!(server.ops("/health/ready").body, "not ready: it stops\n");
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
