//! A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, gone with the test process.
#![allow(dead_code)] // Each test and benchmark uses some of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Config, NoTls};

/// `nobody`: PostgreSQL refuses to run as root, which CI often is.
const UNPRIVILEGED: u32 = 65_534;

/// A running server, which ends when this is dropped.
pub struct Server {
    folder: PathBuf,
    /// Holds the keeper's standard input open; when this process ends, however it ends, the keeper stops the server.
    _keeper: Child,
}

/// The URL of a new, empty database, on a server that all tests of this process share.
pub async fn empty_database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    database_of(SERVER.get_or_init(|| start(&["fsync=off"], &[]))).await
}

/// The same on a server of its own, for whoever hangs it.
pub async fn database_alone() -> (String, Server) {
    let server = start(&["fsync=off"], &[]);
    (database_of(&server).await, server)
}

/// The same on a server that keeps what it has committed, for whoever measures it. `variables`: of the server's environment.
pub async fn database_on_disk(variables: &[(&str, &Path)]) -> (String, Server) {
    let server = start(&[], variables);
    (database_of(&server).await, server)
}

/// Kills a process of the server that a URL of [`database_alone`] names, so that it forgets what it had not written and starts again.
pub fn crash(url: &str) {
    let folder = url.split_once("host=").unwrap().1;
    let script = format!("kill -9 $(pgrep -P $(head -1 {folder}/data/postmaster.pid) | head -1)");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

async fn database_of(server: &Server) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let admin = connected(&url(&server.folder, "postgres")).await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    url(&server.folder, &name)
}

/// A server that also listens on this port of localhost, with a certificate for that name; the file of that certificate.
pub fn with_tls(port: u16) -> (Server, PathBuf) {
    let server = start(&["ssl=on", "listen_addresses=localhost", &format!("port={port}")], &[]);
    let certificate = server.folder.join("data/server.crt");
    (server, certificate)
}

/// A certificate for localhost that it signed itself, and its key, as `server.crt` and `server.key` of this folder.
pub fn certificate(folder: &str, as_user: &str) {
    let script = format!(
        "umask 077 && cd {folder} && {as_user} openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
         -keyout server.key -out server.crt -subj /CN=flowyte-tests -addext subjectAltName=DNS:localhost \
         -addext basicConstraints=critical,CA:FALSE"
    );
    let made = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

/// Stops every process of the server that a URL of [`database_alone`] names, or lets them go on: a database that hangs.
pub fn freeze(url: &str, hang: bool) {
    let folder = url.split_once("host=").unwrap().1;
    let signal = if hang { "STOP" } else { "CONT" };
    let script = format!("p=$(head -1 {folder}/data/postmaster.pid); kill -{signal} $p $(pgrep -P $p)");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

/// A connection to a database, for as long as it is there. The server may still be starting.
pub async fn connected(url: &str) -> Client {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match connection(url).connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) if Instant::now() > deadline => panic!("PostgreSQL did not come up: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What one of [`url`] says, which the driver would take for two hosts.
pub fn connection(url: &str) -> Config {
    let (rest, folder) = url.split_once("?host=").unwrap();
    let mut config = Config::new();
    config.user("flowyte").host_path(folder).dbname(rest.rsplit_once('/').unwrap().1);
    config
}

fn url(folder: &Path, name: &str) -> String {
    format!("postgres://flowyte@localhost/{name}?host={}", folder.display())
}

fn start(settings: &[&str], variables: &[(&str, &Path)]) -> Server {
    let programs = programs();
    let folder = tempfile::Builder::new().prefix("flowyte-pg").tempdir().unwrap().keep();
    let root =
        std::fs::metadata("/proc/self").map(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0).unwrap();
    if root {
        std::os::unix::fs::chown(&folder, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let as_user = if root { "setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "" };
    let (bin, data, socket) = (programs.display(), folder.join("data"), folder.display());
    let data = data.display();
    let initdb = format!("{as_user} {bin}/initdb -D {data} -U flowyte -A trust -E UTF8 --locale=C --no-sync");
    let made = Command::new("sh").args(["-c", &initdb]).current_dir(&folder).output().unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    if settings.contains(&"ssl=on") {
        certificate(&data.to_string(), as_user);
    }
    let settings: String = settings.iter().map(|it| format!(" -c {it}")).collect();
    // The keeper waits for the end of its input, which comes with the end of this process.
    let keeper = format!(
        "{as_user} {bin}/postgres -D {data} -k {socket} -c listen_addresses= -c max_connections=200{settings} \
         >{socket}/log 2>&1 & server=$!; cat >/dev/null; kill -QUIT $server; \
         kill -CONT $server $(pgrep -P $server) 2>/dev/null; wait $server; rm -rf {socket}"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &keeper]).current_dir(&folder).stdin(Stdio::piped()).envs(variables.iter().copied());
    let keeper = command.spawn().unwrap();
    Server { folder, _keeper: keeper }
}

fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    versions.retain(|bin| bin.join("initdb").exists());
    versions.sort();
    versions
        .pop()
        .expect("PostgreSQL's server programs are needed: apt-get install postgresql-15 (make test does it)")
}
