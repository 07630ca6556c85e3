//! The accept loop and its guard, over raw sockets: ordinary clients would repair the input.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not count as tests")]

use bytes::Bytes;
use flowyte_http::accept::serve;
use flowyte_http::shares::{Holder, Shares};
use flowyte_http::wire::{
    BodyRefusal, HeadRefusal, Limits, MAX_HEAD_BYTES, MAX_TARGET_BYTES, Within, read_body,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const MAX_BODY: usize = 64 * 1024;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const BIG_ANSWER: usize = 64 * 1024 * 1024;

struct Server {
    address: SocketAddr,
    /// How many requests have reached the service.
    begun: watch::Receiver<usize>,
    stop: oneshot::Sender<()>,
    stopped: JoinHandle<()>,
}

/// Times short enough to wait for. Those which a test is not about must not end its connections, so most stay long.
fn limits() -> Limits {
    Limits { authority: "api.example:8080".into(), linger: Duration::from_millis(500), ..Limits::default() }
}

async fn start(limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = oneshot::channel::<()>();
    let (count, begun) = watch::channel(0);
    let stopped = tokio::spawn(async move {
        let refuse = Arc::new(|refusal, _| problem(refusal));
        let service_for = |_: SocketAddr| {
            let count = count.clone();
            service_fn(move |request| {
                count.send_modify(|count| *count += 1);
                echo(request)
            })
        };
        serve(listener, limits, refuse, service_for, async move {
            let _ = stopping.await;
        })
        .await;
    });
    Server { address, begun, stop, stopped }
}

fn problem(refusal: HeadRefusal) -> Response<Bytes> {
    let (status, detail) = match refusal {
        HeadRefusal::Malformed { detail } => (400, detail),
        HeadRefusal::MethodNotAllowed => (405, "method"),
        HeadRefusal::TooLarge => (431, "too large"),
        HeadRefusal::Timeout => (408, "timeout"),
        HeadRefusal::Crowded => (429, "crowded"),
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/problem+json")
        .body(Bytes::from(format!(r#"{{"status":{status},"detail":"{detail}"}}"#)))
        .unwrap()
}

/// Says what it got. `/slow` takes its time, `/never` all of it, `/deaf` does not read the body, `/tight` has little
/// memory for it, `/big` answers at length.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    match path {
        "/slow" => sleep(Duration::from_millis(300)).await,
        "/never" => std::future::pending().await,
        "/deaf" => return Ok(Response::builder().status(401).body(Full::from("deaf")).unwrap()),
        "/big" => return Ok(Response::new(Full::from(vec![b'.'; BIG_ANSWER]))),
        _ => {}
    }
    let deadline = Duration::from_millis(if path == "/hurry" { 100 } else { 5000 });
    let within = Within { bytes: MAX_BODY, deadline, stall: deadline };
    let bytes = if path == "/tight" { 4 * 1024 } else { 4 * MAX_BODY };
    let mut room = Shares::new(bytes, bytes).open(Holder::address(ADDRESS));
    let (status, body) = match read_body(body, within, &mut room).await {
        Ok(body) => (200, body),
        Err(BodyRefusal::TooLarge) => (413, Bytes::new()),
        Err(BodyRefusal::Stalled) => (408, Bytes::new()),
        Err(BodyRefusal::Broken) => (400, Bytes::from("broken")),
        Err(BodyRefusal::NoRoom) => (503, Bytes::new()),
    };
    let token = head.headers.get("authorization").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let said = format!("{} {} {:?} {}", head.method, path, token.unwrap_or_default(), body.escape_ascii());
    Ok(Response::builder().status(status).body(Full::from(said)).unwrap())
}

async fn connect(server: &Server) -> TcpStream {
    let socket = TcpStream::connect(server.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// All that the server sends until it closes. A reset in place of a close is a failure.
async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    timeout(Duration::from_secs(8), socket.read_to_end(&mut answer))
        .await
        .expect("closed in time")
        .expect("no reset");
    answer
}

/// Sends `request` and reads until the server closes.
async fn exchange(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut socket = connect(server).await;
    socket.write_all(request).await.unwrap();
    read_all(&mut socket).await
}

/// Status and body of each response.
fn responses(mut bytes: &[u8]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let head = response.parse(bytes).unwrap().unwrap();
        let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length: usize =
            length.map_or(0, |field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
        found.push((response.code.unwrap(), String::from_utf8(bytes[head..head + length].to_vec()).unwrap()));
        bytes = &bytes[head + length..];
    }
    found
}

fn statuses(bytes: &[u8]) -> Vec<u16> {
    responses(bytes).into_iter().map(|(status, _)| status).collect()
}

#[tokio::test]
async fn bad_heads_are_refused_with_a_problem() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_TARGET_BYTES));
    let endless_target = format!("GET /{}", "a".repeat(600 * 1024));
    let around = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
    let field_of =
        |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(bytes - around));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(count - 1));
    let (over, huge) = (field_of(MAX_HEAD_BYTES + 1), field_of(600 * 1024));
    let too_many = fields(101);
    let rows: &[(&str, u16)] = &[
        // The request line.
        ("GET /\r\n", 400),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\x02\r\n", 400),
        // The target.
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 400),
        ("GET http://api.example/ HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 400),
        ("GET http://a@api.example:8080/ HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 400),
        ("GET ftp://api.example:8080/ HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 400),
        ("GET api.example:8080 HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 400),
        ("GET http://api.example:8080\\@evil/ HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 400),
        (&long_target, 400),
        (&endless_target, 400),
        ("CONNECT api.example:8080 HTTP/1.1\r\nHost: api.example:8080\r\n\r\n", 405),
        // Lines.
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\r", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        // Fields.
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer k\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\t: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX(y: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\0k\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\x7f\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \x0bk\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (&over, 431),
        (&huge, 431),
        (&too_many, 431),
        // Where the body ends.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\u{a0}\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ];
    let server = start(limits()).await;
    for (request, status) in rows {
        let shown: String = request.chars().take(200).collect();
        let answer = exchange(&server, request.as_bytes()).await;
        let text = String::from_utf8(answer.clone()).unwrap();
        assert_eq!(statuses(&answer), [*status], "{shown:?} got {text:?}");
        assert!(text.contains("content-type: application/problem+json\r\n"), "{shown:?} got {text:?}");
        assert!(text.contains("connection: close\r\n"), "{shown:?} got {text:?}");
    }
}

#[tokio::test]
async fn good_heads_reach_the_service() {
    let target = format!("/{}", "a".repeat(MAX_TARGET_BYTES - 1));
    let longest_target = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let start_of_head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    let filler = "a".repeat(MAX_HEAD_BYTES - start_of_head.len() - "X: \r\n\r\n".len());
    let longest_head = format!("{start_of_head}X: {filler}\r\n\r\n");
    let most_fields = format!("{start_of_head}{}\r\n", "X: a\r\n".repeat(98));
    let rows: &[(&str, &str)] = &[
        ("GET /a?b=[c]&d=%20 HTTP/1.1\r\nHost: a\r\n", "GET /a \"\" "),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n", "GET / \"\" "),
        ("GET //a/../b%2f HTTP/1.1\r\nHost: a\r\n", "GET //a/../b%2f \"\" "),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n", "GET / \"\" "),
        ("GET http://api.example:8080/a HTTP/1.1\r\nHost: a\r\n", "GET /a \"\" "),
        ("GET HTTPS://API.example:8080?a=b HTTP/1.1\r\nHost: a\r\n", "GET / \"\" "),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", "OPTIONS * \"\" "),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n", "TRACE / \"\" "),
        ("FOO / HTTP/1.1\r\nHost: a\r\n", "FOO / \"\" "),
        ("get / HTTP/1.1\r\nHost: a\r\n", "get / \"\" "),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n", "PUT / \"\" abc"),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization:\t Bearer k\t \r\n", "GET / \"Bearer k\" "),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer\tk\r\n", "GET / \"Bearer\\tk\" "),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization:\r\n", "GET / \"\" "),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: \u{e9}\r\n", "GET / \"\u{e9}\" "),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n", "GET / \"\" "),
    ];
    let server = start(limits()).await;
    for (head, said) in rows {
        let request = format!("{head}Connection: close\r\n\r\nabc");
        let answer = exchange(&server, request.as_bytes()).await;
        assert_eq!(responses(&answer), [(200, (*said).to_owned())], "{head:?}");
    }
    for request in [longest_target, longest_head, most_fields] {
        assert_eq!(statuses(&exchange(&server, request.as_bytes()).await), [200], "{request:?}");
    }
}

#[tokio::test]
async fn http_1_0_is_served_and_not_kept_open() {
    let server = start(limits()).await;
    assert_eq!(statuses(&exchange(&server, b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n").await), [200]);
}

const PIPELINE: &[u8] = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET /x HTTP/1.1\r\n\r\
    POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\n\
    DELETE /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn pipeline_answers() -> Vec<(u16, String)> {
    let said = [
        "GET /1 \"\" ",
        r#"POST /2 "" GET /x HTTP/1.1\r\n\r"#,
        "POST /3 \"\" abc0123456789",
        "DELETE /4 \"\" ",
    ];
    said.map(|said| (200, said.to_owned())).to_vec()
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let server = start(limits()).await;
    assert_eq!(responses(&exchange(&server, PIPELINE).await), pipeline_answers());
    for cut in 1..PIPELINE.len() {
        let mut socket = connect(&server).await;
        socket.write_all(&PIPELINE[..cut]).await.unwrap();
        sleep(Duration::from_millis(2)).await;
        socket.write_all(&PIPELINE[cut..]).await.unwrap();
        assert_eq!(responses(&read_all(&mut socket).await), pipeline_answers(), "cut at {cut}");
    }
    let mut socket = connect(&server).await;
    for byte in PIPELINE {
        socket.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(responses(&read_all(&mut socket).await), pipeline_answers());
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let server = start(limits()).await;
    let mut socket = connect(&server).await;
    for body in ["a", "bc", ""] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1024];
        let length = socket.read(&mut answer).await.unwrap();
        assert_eq!(responses(&answer[..length]), [(200, format!("POST / \"\" {body}"))]);
    }
}

#[tokio::test]
async fn a_bad_head_waits_for_the_answers_before_it() {
    let server = start(limits()).await;
    let request = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3\r\n\r\n";
    let answers = responses(&exchange(&server, request).await);
    assert_eq!(answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 400]);
    assert_eq!(answers[1].1, "GET /2 \"\" ");
}

#[tokio::test]
async fn a_peer_that_finished_sending_gets_its_answers() {
    let server = start(limits()).await;
    for (request, expected) in [
        ("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", vec![200]),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n", vec![200, 400]),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", vec![400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", vec![]),
        ("", vec![]),
    ] {
        let mut socket = connect(&server).await;
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(statuses(&read_all(&mut socket).await), expected, "{request:?}");
    }
}

#[tokio::test]
async fn broken_chunks_are_a_broken_body_and_end_the_connection() {
    let server = start(limits()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "3;ext\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "1000000000000000\r\nabc",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "0;ext\n\r\n\r\n",
        "0\r\nX: trailer\r\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\n\n",
        "0\n\n",
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}");
        let answers = responses(&exchange(&server, request.as_bytes()).await);
        assert_eq!(answers, [(400, "POST / \"\" broken".to_owned())], "{body:?}");
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = start(limits()).await;
    let announced = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1);
    assert_eq!(statuses(&exchange(&server, announced.as_bytes()).await), [413], "not sent at all");
    let chunks = format!("100\r\n{}\r\n", "a".repeat(256)).repeat(2000);
    let unannounced =
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    assert_eq!(statuses(&exchange(&server, unannounced.as_bytes()).await), [413]);
    let unwanted =
        format!("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n{}", "a".repeat(4_000_000));
    assert_eq!(
        statuses(&exchange(&server, unwanted.as_bytes()).await),
        [401],
        "the answer survives the upload"
    );
    let stalled = b"POST /hurry HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na";
    assert_eq!(statuses(&exchange(&server, stalled).await), [408]);
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_may_be_read() {
    let server = start(limits()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n";
    let refused = format!("{head}Content-Length: {}\r\n\r\n", MAX_BODY + 1);
    assert_eq!(statuses(&exchange(&server, refused.as_bytes()).await), [413]);
    let taken = format!("{head}Content-Length: 1\r\n\r\n");
    let mut socket = connect(&server).await;
    socket.write_all(taken.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    socket.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"a").await.unwrap();
    assert_eq!(responses(&read_all(&mut socket).await), [(200, "POST / \"\" a".to_owned())]);
}

#[tokio::test]
async fn heads_must_come_in_time() {
    let server = start(Limits { head_deadline: Duration::from_millis(200), ..limits() }).await;
    let silent = Instant::now();
    assert_eq!(exchange(&server, b"").await, b"", "a silent connection is closed without an answer");
    assert!(silent.elapsed() >= Duration::from_millis(190));
    assert_eq!(statuses(&exchange(&server, b"GET / HT").await), [408]);
    assert_eq!(statuses(&exchange(&server, b"PRI * HT").await), [408]);
    assert_eq!(exchange(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, b"");
    assert_eq!(exchange(&server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0").await, b"");
    assert_eq!(statuses(&exchange(&server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / ").await), [200, 408]);

    let mut dribbling = connect(&server).await;
    let (mut reader, mut writer) = dribbling.split();
    let dribble = async {
        for _ in 0..200 {
            writer.write_all(b"a").await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        panic!("progress put the deadline off");
    };
    let mut first = [0; 12];
    tokio::select! {
        () = dribble => {}
        read = reader.read_exact(&mut first) => { read.unwrap(); }
    }
    assert_eq!(&first, b"HTTP/1.1 408");
}

#[tokio::test]
async fn idle_connections_are_closed_without_an_answer() {
    let server = start(Limits { idle: Duration::from_millis(200), ..limits() }).await;
    let begun = Instant::now();
    // The time of the answer itself (300 ms) does not count as idle.
    assert_eq!(statuses(&exchange(&server, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await), [200]);
    assert!(begun.elapsed() >= Duration::from_millis(490));
}

#[tokio::test]
async fn progress_starts_the_time_anew() {
    let pause = Duration::from_millis(250);
    let server = start(Limits { idle: 2 * pause, body_stall: 2 * pause, ..limits() }).await;
    let mut socket = connect(&server).await;
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n"; 4] {
        socket.write_all(request.as_bytes()).await.unwrap();
        sleep(pause).await;
    }
    socket
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n")
        .await
        .unwrap();
    for byte in [b"a"; 4] {
        sleep(pause).await;
        socket.write_all(byte).await.unwrap();
    }
    assert_eq!(statuses(&read_all(&mut socket).await), [200; 5]);
}

#[tokio::test]
async fn stalled_bodies_and_readers_are_dropped() {
    let stall = Duration::from_millis(200);
    let server =
        start(Limits { body_stall: stall, write_stall: stall, max_connections: 1, ..limits() }).await;
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na";
    assert_eq!(statuses(&exchange(&server, request).await), [408]);

    let mut deaf = connect(&server).await;
    deaf.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let next = exchange(&server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(statuses(&next), [200], "its seat is free again");
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(8), deaf.read_to_end(&mut answer)).await.expect("dropped");
    assert!(answer.len() < BIG_ANSWER);
}

#[tokio::test]
async fn a_slow_reader_gets_the_whole_answer_before_the_close() {
    let server = start(limits()).await;
    for field in ["X: a", "Upgrade: h2c", "Upgrade: websocket"] {
        let mut socket = connect(&server).await;
        let request =
            format!("GET /big HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\n{field}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(300)).await;
        let answer = read_all(&mut socket).await;
        assert!(answer.len() > BIG_ANSWER, "{field}: {} bytes", answer.len());
    }
}

#[tokio::test]
async fn at_the_cap_new_connections_wait() {
    let server = start(Limits { max_connections: 2, connections_per_address: 2, ..limits() }).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (first, second) = (connect(&server).await, connect(&server).await);
    sleep(Duration::from_millis(50)).await;
    let mut third = connect(&server).await;
    third.write_all(request).await.unwrap();
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(200), third.peek(&mut byte)).await.is_err(),
        "it is not served yet"
    );
    drop((first, second));
    assert_eq!(statuses(&read_all(&mut third).await), [200]);
}

#[tokio::test]
async fn an_address_has_a_share_and_a_proxy_has_none() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let few = || Limits { max_connections: 8, connections_per_address: 2, ..limits() };
    let server = start(few()).await;
    let held = (connect(&server).await, connect(&server).await);
    let mut third = connect(&server).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(8), third.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(statuses(&answer), [429]);
    drop(held);

    let server = start(Limits { proxies: vec!["127.0.0.0/8".parse().unwrap()], ..few() }).await;
    let _held = (connect(&server).await, connect(&server).await, connect(&server).await);
    assert_eq!(statuses(&exchange(&server, request).await), [200]);
}

/// Nobody accepts here, so whatever the queue does not take never connects.
#[tokio::test]
async fn a_thousand_fit_in_the_queue() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(flowyte_http::accept::BACKLOG).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for n in 0..1_024 {
        let stream = timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
        held.push(stream.unwrap_or_else(|_| panic!("number {n} waits")).unwrap());
    }
}

#[tokio::test]
async fn a_body_takes_no_more_memory_than_there_is_for_it() {
    let server = start(limits()).await;
    for (bytes, status) in [(1_000, 200), (5_000, 503)] {
        let body = "a".repeat(bytes);
        let head = "POST /tight HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        let declared = format!("{head}Content-Length: {bytes}\r\n\r\n{body}");
        let pieces: String = body.chars().map(|it| format!("1\r\n{it}\r\n")).collect();
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n");
        for request in [declared, chunked] {
            assert_eq!(statuses(&exchange(&server, request.as_bytes()).await), [status], "{bytes}");
        }
    }
    // What is announced and does not come is not charged.
    let announced = b"POST /tight HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\nabc";
    let mut socket = connect(&server).await;
    socket.write_all(announced).await.unwrap();
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(200), socket.peek(&mut byte)).await.is_err(),
        "it waits for the rest"
    );
}

#[tokio::test]
async fn shutdown_finishes_what_is_under_way() {
    let mut server = start(limits()).await;
    let mut idle = connect(&server).await;
    let mut kept = connect(&server).await;
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut busy = connect(&server).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut client, connection) = h2::client::handshake(connect(&server).await).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a/slow").body(()).unwrap();
    let (streamed, _) = client.send_request(request, true).unwrap();
    server.begun.wait_for(|count| *count == 3).await.unwrap();

    let called = Instant::now();
    server.stop.send(()).unwrap();
    assert_eq!(read_all(&mut idle).await, b"");
    assert!(called.elapsed() < Duration::from_secs(5), "idle connections close at once");
    drop(idle);
    let answer = read_all(&mut busy).await;
    assert_eq!(statuses(&answer), [200]);
    assert!(String::from_utf8(answer).unwrap().contains("connection: close"));
    assert_eq!(streamed.await.unwrap().status(), 200);
    assert_eq!(statuses(&read_all(&mut kept).await), [200]);
    drop((busy, kept, client));
    connection.await.unwrap().unwrap();
    timeout(Duration::from_secs(5), server.stopped).await.expect("all connections are closed").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let mut server = start(Limits { drain: Duration::from_millis(200), ..limits() }).await;
    let mut busy = connect(&server).await;
    busy.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.begun.wait_for(|count| *count == 1).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(Duration::from_secs(5), server.stopped).await.expect("dropped").unwrap();
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let server = start(limits()).await;
    let (mut client, connection) = h2::client::handshake(connect(&server).await).await.unwrap();
    tokio::spawn(connection);
    for (path, filler) in [("/1", 10), ("/2", 32 * 1024)] {
        let request = Request::post(format!("http://a{path}")).header("x", "a".repeat(filler));
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), true).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let said = response.body_mut().data().await.unwrap().unwrap();
        assert_eq!(said, format!("POST {path} \"\" abc"));
    }
    let huge = Request::get("http://a/").header("x", "a".repeat(128 * 1024)).body(()).unwrap();
    let (response, _) = client.send_request(huge, true).unwrap();
    assert!(response.await.map_or(true, |response| response.status() == 431));
}

#[tokio::test]
async fn idle_http_2_connections_are_told_to_go() {
    let server = start(Limits { idle: Duration::from_millis(200), ..limits() }).await;
    let (client, connection) = h2::client::handshake(connect(&server).await).await.unwrap();
    timeout(Duration::from_secs(2), connection).await.expect("closed").unwrap();
    drop(client);
}

#[tokio::test]
async fn http_2_is_not_spoken_after_http_1() {
    let server = start(limits()).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(statuses(&exchange(&server, request).await), [200, 400]);
}
