//! How many keys are minted in a second by one client and by many, on the disk as it is and on one that takes 5 ms to sync: `make bench`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
mod support;

use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Server, request};

/// Short enough that no organization comes to as many keys as it may have.
const SECONDS: u64 = 3;

/// Keys minted in a second by so many clients at once.
fn rate(server: &Server, owner: &str, clients: usize) -> f64 {
    let (minted, begun) = (AtomicUsize::new(0), Instant::now());
    let body = json!({"name": "bench", "scopes": ["agents:read"]});
    let mint = request("POST", "/api/v1/api-keys", owner, Some(&body));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::new(server.port);
                while begun.elapsed() < Duration::from_secs(SECONDS) {
                    assert_eq!(client.ask(&mint).status, 201);
                    minted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    minted.into_inner() as f64 / begun.elapsed().as_secs_f64()
}

/// A library that lets each sync take 5 ms longer.
fn slow_disk(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("disk.c"), folder.join("disk.so"));
    let code = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <time.h>
        static int late(const char *name, int descriptor) {
            struct timespec wait = {0, 5000000};
            nanosleep(&wait, 0);
            return ((int (*)(int)) dlsym(RTLD_NEXT, name))(descriptor);
        }
        int fsync(int descriptor) { return late("fsync", descriptor); }
        int fdatasync(int descriptor) { return late("fdatasync", descriptor); }
    "#;
    std::fs::write(&source, code).unwrap();
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(made.unwrap().success(), "the C compiler that builds SQLite builds this");
    library
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let slow = slow_disk(folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("database\tdisk\tclients\tmints a second\tbeside one client");
    for database in ["SQLite", "PostgreSQL"] {
        for (disk, preload) in [("as it is", None), ("5 ms a sync", Some(slow.as_path()))] {
            let preload: Vec<(&str, &Path)> = preload.map(|disk| ("LD_PRELOAD", disk)).into_iter().collect();
            let mut one = None;
            for clients in [1, 8, 64] {
                let data = folder.path().join(format!("{database}, {disk}, {clients}"));
                let rate = match database {
                    "SQLite" => measure(&data, &preload, clients),
                    _ => {
                        let (url, _server) = runtime.block_on(postgres::database_on_disk(&preload));
                        measure(&data, &[("FLOWYTE_DATABASE", Path::new(&url))], clients)
                    }
                };
                println!("{database}\t{disk}\t{clients}\t{rate:.0}\t{:.2}", rate / *one.get_or_insert(rate));
            }
        }
    }
}

/// The rate on a new server.
fn measure(data: &Path, settings: &[(&str, &Path)], clients: usize) -> f64 {
    let server = Server::binary(data, settings);
    let owner = server.set_up(data);
    rate(&server, &owner, clients)
}
