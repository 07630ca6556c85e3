//! How many keys are minted in a second by one client and by many, on the disk as it is and on one that takes 5 ms to sync: `make bench`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark says what went wrong by panicking, and prints.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Short enough that no organization comes to as many keys as it may have.
const SECONDS: u64 = 3;

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Server {
    fn start(folder: &Path, disk: Option<&Path>) -> Self {
        let [port, ops] =
            std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowyte"));
        command
            .args(["serve", "--log-level", "warn", "--organization-rpm", "60000000", "--data"])
            .arg(folder);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--ops-listen", &format!("127.0.0.1:{ops}")]);
        command.envs(disk.map(|disk| ("LD_PRELOAD", disk)));
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

/// One open connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Posts something; the status of the answer, and its session cookie.
    fn post(&mut self, path: &str, cookie: &str, body: &Value) -> (u16, Option<String>) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length, mut cookie) = (0, 0, None);
        for line in self.0.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
            match line.split_once(": ") {
                None => status = line[9..12].parse().unwrap(),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("set-cookie", value)) if value.starts_with("flowyte_session=") => {
                    cookie = value.split(';').next().map(str::to_owned);
                }
                Some(_) => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
        (status, cookie)
    }
}

/// Keys minted in a second by so many clients at once.
fn rate(server: &Server, cookie: &str, clients: usize) -> f64 {
    let (minted, begun) = (AtomicUsize::new(0), Instant::now());
    let body = json!({"name": "bench", "scopes": ["agents:read"]});
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::new(server.port);
                while begun.elapsed() < Duration::from_secs(SECONDS) {
                    assert_eq!(client.post("/api/v1/api-keys", cookie, &body).0, 201);
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
    println!("disk\tclients\tmints a second\tbeside one client");
    for (name, disk) in [("as it is", None), ("5 ms a sync", Some(slow.as_path()))] {
        let mut one = None;
        for clients in [1, 8, 64] {
            let rate = measure(&folder.path().join(format!("{name}, {clients}")), disk, clients);
            println!("{name}\t{clients}\t{rate:.0}\t{:.2}", rate / *one.get_or_insert(rate));
        }
    }
}

/// The rate on a new server.
fn measure(data: &Path, disk: Option<&Path>, clients: usize) -> f64 {
    let server = Server::start(data, disk);
    let token = std::fs::read_to_string(data.join("setup-token")).unwrap();
    let body = json!({"token": token.trim(), "organizationName": "Example", "name": "Ada", "email": "ada@example.com",
        "password": "mountain-kettle-orbit-71"});
    let (status, cookie) = Client::new(server.port).post("/api/v1/auth/setup", "", &body);
    rate(&server, &cookie.unwrap_or_else(|| panic!("set-up answers {status}")), clients)
}
