//! Requests to addresses that customers name: pages that become knowledge, webhooks. Only public addresses are reached, and
//! the address that was checked is the one that is connected to, on every redirect anew.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Client, Method, redirect};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How many redirects are followed for one request.
const REDIRECTS: usize = 5;
/// Longest URL that is taken.
const LONGEST_URL: usize = 2_048;

/// Why a request was not made, or what came of it was not taken. The text is for the people who named the address: it says
/// nothing of what answers inside the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not an address that may be named.
    #[error("{0}")]
    Url(&'static str),
    /// Every address of the host is refused.
    #[error("The host has no public address.")]
    NotPublic,
    /// The name does not resolve.
    #[error("The host's name does not resolve.")]
    Unknown,
    /// No connection, or a broken one.
    #[error("The host can't be reached.")]
    Unreachable,
    /// The answer was not complete in the time that the request may take.
    #[error("The host did not answer in time.")]
    TimedOut,
    /// It is longer than so many bytes.
    #[error("The answer is longer than {0} bytes.")]
    TooLarge(usize),
    /// The host redirected more often than is followed.
    #[error("The host redirects too often.")]
    Redirects,
    /// An answer that says no.
    #[error("The host answers {0}.")]
    Status(u16),
    /// Compressed, which was not asked for.
    #[error("The answer is encoded in a way that was not asked for.")]
    Encoded,
}

impl Refusal {
    /// Whether it may go better another time.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unknown | Self::Unreachable | Self::TimedOut => true,
            Self::Status(status) => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// A host that the operator allows wherever it is, by its name or address, on one port or on all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    host: String,
    port: Option<u16>,
}

impl Allowed {
    /// Reads `host` or `host:port`; an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        // As a URL's host, so that each has one spelling.
        let url = Url::parse(&format!("http://{text}/")).ok()?;
        let plain = url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
            && !text.contains(['/', '@']);
        let host = url.host_str().filter(|_| plain)?.to_owned();
        let end = text.rsplit_once(':').map(|(_, port)| port).filter(|_| !text.ends_with(']'));
        let port = match end {
            Some(port) => Some(port.parse().ok().filter(|it| *it > 0)?),
            None => None,
        };
        Some(Self { host, port })
    }
}

/// Whether an address is one that everybody reaches: unicast, global, and not a way to say another one.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

/// IANA IPv4 Special-Purpose Address Registry; multicast; the class that was never given out.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..)
    )
}

/// IANA IPv6 Special-Purpose Address Registry: of what is given out, 2000::/3, nothing that wraps or stands for another address.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // NAT64 (RFC 6052) reaches the IPv4 address at its end.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocol assignments with Teredo; documentation; 6to4; AS112; documentation again.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x2620, 0x4f, 0x8000, ..] => false,
        [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Turns a name into addresses. The system's resolver outside of tests.
#[async_trait]
pub trait Names: Send + Sync {
    /// Every address of a name.
    async fn look_up(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// Looks names up as the machine is configured to.
pub struct System;

#[async_trait]
impl Names for System {
    async fn look_up(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|it| it.ip()).collect())
    }
}

/// Resolves for the client: what it answers is what is connected to, so a name can't change its mind after the check.
struct Checked {
    names: Arc<dyn Names>,
    allowed: Arc<[Allowed]>,
}

/// Marks a refusal on its way through the client's errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Marked(Refusal);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, allowed) = (self.names.clone(), self.allowed.clone());
        Box::pin(async move {
            let host = name.as_str();
            let found = names.look_up(host).await.map_err(|_| Marked(Refusal::Unknown))?;
            if found.is_empty() {
                return Err(Marked(Refusal::Unknown).into());
            }
            // A port that is not allowed was refused before the client was asked.
            let exempt = allowed.iter().any(|it| it.host == host);
            let checked: Vec<SocketAddr> = found
                .into_iter()
                .filter(|it| exempt || is_public(*it))
                .map(|it| SocketAddr::new(it, 0))
                .collect();
            match checked.is_empty() {
                true => Err(Marked(Refusal::NotPublic).into()),
                false => Ok(Box::new(checked.into_iter()) as Addrs),
            }
        })
    }
}

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of the answer's body.
    pub bytes: usize,
    /// From its beginning to the body's end, redirects included.
    pub time: Duration,
}

/// A request to a server that is not ours.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its method. Only GET follows redirects.
    pub method: Method,
    /// Where it goes; checked to be public before it is sent.
    pub url: String,
    /// Its own header fields. They do not go to another origin.
    pub headers: HeaderMap,
    /// The body that is sent; empty where there is none.
    pub body: Bytes,
}

/// What a server that is not ours answered.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Where it came from in the end.
    pub url: Url,
    /// The status code, whatever it is.
    pub status: u16,
    /// Its media type, as it says.
    pub content_type: String,
    /// The body in full, as it was sent: compressed answers are refused.
    pub body: Bytes,
}

/// Makes requests to addresses that customers name.
pub struct Outbound {
    /// `None`: this machine has no certificate authorities, and so nothing is asked.
    client: Option<Client>,
    allowed: Arc<[Allowed]>,
}

impl Outbound {
    /// With the hosts that the operator allows.
    pub fn new(allowed: Vec<Allowed>) -> Self {
        Self::with(allowed, Arc::new(System))
    }

    /// The same with another resolver.
    pub fn with(allowed: Vec<Allowed>, names: Arc<dyn Names>) -> Self {
        let allowed: Arc<[Allowed]> = allowed.into();
        let client = Client::builder()
            .dns_resolver(Arc::new(Checked { names, allowed: allowed.clone() }))
            .redirect(redirect::Policy::none())
            .no_proxy()
            // Nothing is unpacked that was not measured.
            .no_gzip()
            .referer(false)
            .connect_timeout(CONNECT)
            // A connection is not used for a second request, whose name may stand for another host by then.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("flowyte/", env!("CARGO_PKG_VERSION")))
            .build();
        if let Err(error) = &client {
            tracing::warn!(%error, "no outbound requests: the machine's certificate authorities can't be read");
        }
        Self { client: client.ok(), allowed }
    }

    /// Whether a URL may be asked, as far as it says itself.
    pub fn check(&self, text: &str) -> Result<Url, Refusal> {
        if text.len() > LONGEST_URL {
            return Err(Refusal::Url("The URL is too long."));
        }
        self.check_url(Url::parse(text).map_err(|_| Refusal::Url("This is not a valid URL."))?)
    }

    fn check_url(&self, url: Url) -> Result<Url, Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Url("Only http and https are fetched."));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Url("A URL with a user name or a password in it is not fetched."));
        }
        let port = url.port_or_known_default();
        let named = |host: &str| self.allowed.iter().filter(|it| it.host == host).collect::<Vec<_>>();
        let allowed = named(url.host_str().unwrap_or_default());
        let fits = allowed.iter().any(|it| it.port.is_none() || it.port == port);
        let literal = match url.host() {
            None => return Err(Refusal::Url("The URL names no host.")),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        match literal {
            _ if fits => Ok(url),
            // Names are checked when they are resolved; one that is allowed on another port only must not slip through there.
            None if allowed.is_empty() => Ok(url),
            Some(address) if is_public(address) => Ok(url),
            _ => Err(Refusal::NotPublic),
        }
    }

    /// Fetches a page. Anything but a success is a refusal.
    pub async fn get(&self, url: &str, limits: Limits) -> Result<Incoming, Refusal> {
        let request = Outgoing {
            method: Method::GET,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let answer = self.send(request, limits).await?;
        if answer.status == 200 { Ok(answer) } else { Err(Refusal::Status(answer.status)) }
    }

    /// Makes a request; whatever its status, the answer is an answer.
    pub async fn send(&self, request: Outgoing, limits: Limits) -> Result<Incoming, Refusal> {
        match tokio::time::timeout(limits.time, self.follow(request, limits.bytes)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::TimedOut),
        }
    }

    async fn follow(&self, request: Outgoing, most: usize) -> Result<Incoming, Refusal> {
        let client = self.client.as_ref().ok_or(Refusal::Unreachable)?;
        let mut url = self.check(&request.url)?;
        let origin = url.origin();
        for _ in 0..=REDIRECTS {
            let mut asked = client.request(request.method.clone(), url.clone()).body(request.body.clone());
            if url.origin() == origin {
                asked = asked.headers(request.headers.clone());
            }
            let response = asked.send().await.map_err(|error| refusal(&error))?;
            let status = response.status();
            let next = response.headers().get(LOCATION).and_then(|it| it.to_str().ok());
            match next.filter(|_| {
                request.method == Method::GET && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
            }) {
                Some(next) => {
                    let next = url.join(next).map_err(|_| {
                        Refusal::Url("The host redirects to something that is not a valid URL.")
                    })?;
                    url = self.check_url(next)?;
                }
                None => return read(url, response, most).await,
            }
        }
        Err(Refusal::Redirects)
    }
}

async fn read(url: Url, response: reqwest::Response, most: usize) -> Result<Incoming, Refusal> {
    let field = |name| response.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if !matches!(field(CONTENT_ENCODING), "" | "identity") {
        return Err(Refusal::Encoded);
    }
    let (status, content_type) = (response.status().as_u16(), field(CONTENT_TYPE).to_owned());
    if response.content_length().is_some_and(|it| it > most as u64) {
        return Err(Refusal::TooLarge(most));
    }
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| refusal(&error))?;
        if body.len() + chunk.len() > most {
            return Err(Refusal::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Incoming { url, status, content_type, body: body.freeze() })
}

/// What the client's error means: our own mark, where it is one.
fn refusal(error: &reqwest::Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(Marked(refusal)) = one.downcast_ref() {
            return refusal.clone();
        }
        cause = one.source();
    }
    if error.is_timeout() { Refusal::TimedOut } else { Refusal::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const LIMITS: Limits = Limits { bytes: 10_000, time: Duration::from_secs(5) };

    #[test]
    fn only_what_everybody_reaches_is_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:1::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn hostile_urls_are_refused_however_they_are_spelt() {
        let outbound = Outbound::new(vec![]);
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://0.0.0.0:80/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://10.0.0.1/",
            "http://192.168.0.1/",
            "http://１２７.０.０.１/",
            "http://127。0。0。1/",
            "http://[::]/",
            "http://100.100.100.200/",
            "http://3232235777/",
            "http://0300.0250.1.1/",
        ] {
            assert_eq!(outbound.check(url).err(), Some(Refusal::NotPublic), "{url}");
        }
        for url in [
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "data:text/plain,x",
            "javascript:alert(1)",
            "//example.com",
            "/relative",
            "",
            "http://",
            "http://user:secret@example.com/",
            "http://user@example.com/",
            "http://exa mple.com/",
            "http://[::1",
            "http://999.1.1.1/",
            "http://1.2.3.4.5/",
            "http://a:99999/",
            "unix:/var/run/docker.sock",
        ] {
            assert!(matches!(outbound.check(url), Err(Refusal::Url(_))), "{url}: {:?}", outbound.check(url));
        }
        assert!(outbound.check(&format!("https://example.com/{}", "x".repeat(3000))).is_err());
        assert!(outbound.check("https://example.com:8443/page?x=1#y").is_ok());
    }

    #[test]
    fn an_allowed_host_is_allowed_on_its_port_alone() {
        let parse = |text| Allowed::parse(text);
        for text in ["", "http://x", "x/y", "x:0", "x:99999", "u@x", "[::1", "x:y", "x?y", "x y"] {
            assert_eq!(parse(text), None, "{text}");
        }
        let allowed = ["Intranet.Example", "127.0.0.1:8080", "[::1]:80", "[fd00::1]"];
        let outbound = Outbound::new(allowed.into_iter().map(|it| parse(it).unwrap()).collect());
        for (url, ok) in [
            ("http://intranet.example/", true),
            ("http://intranet.example:8080/", true),
            ("http://127.0.0.1:8080/", true),
            ("http://127.0.0.1:8081/", false),
            ("http://127.0.0.1/", false),
            ("http://[::1]/", true),
            ("http://[::1]:81/", false),
            ("http://[fd00::1]:9/", true),
            ("http://[fd00::2]/", false),
        ] {
            assert_eq!(outbound.check(url).is_ok(), ok, "{url}");
        }
    }

    /// Answers each look-up with the next list.
    struct Fickle(Vec<Vec<&'static str>>, AtomicUsize);

    #[async_trait]
    impl Names for Fickle {
        async fn look_up(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            let n = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
            Ok(self.0[n].iter().map(|it| it.parse().unwrap()).collect())
        }
    }

    /// A server that answers each connection with the next text; its port, and how many it answered.
    async fn serve(answers: Vec<String>) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let n = count.fetch_add(1, Ordering::Relaxed);
                let answer = answers[n.min(answers.len() - 1)].replace("PORT", &port.to_string());
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let _ = stream.read(&mut head).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (port, served)
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn to(location: &str) -> String {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    }

    #[tokio::test]
    async fn a_name_that_stands_for_something_private_is_never_connected_to() {
        let (port, served) = serve(vec![ok("secret")]).await;
        for answers in [
            vec!["127.0.0.1"],
            vec!["::1"],
            vec!["::ffff:127.0.0.1"],
            vec!["10.1.2.3", "169.254.169.254"],
            vec!["0.0.0.0"],
        ] {
            let outbound =
                Outbound::with(vec![], Arc::new(Fickle(vec![answers.clone()], AtomicUsize::new(0))));
            let got = outbound.get(&format!("http://rebind.example:{port}/"), LIMITS).await;
            assert_eq!(got.err(), Some(Refusal::NotPublic), "{answers:?}");
        }
        // A public answer first and a private one after: what was checked is what is connected to.
        let names = Arc::new(Fickle(vec![vec!["192.0.2.1"], vec!["127.0.0.1"]], AtomicUsize::new(0)));
        let outbound = Outbound::with(vec![], names.clone());
        assert_eq!(
            outbound.get(&format!("http://rebind.example:{port}/"), LIMITS).await.err(),
            Some(Refusal::NotPublic)
        );
        assert_eq!(
            outbound.get(&format!("http://rebind.example:{port}/"), LIMITS).await.err(),
            Some(Refusal::NotPublic)
        );
        assert_eq!(served.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_redirect_is_checked_like_the_first_address() {
        let inside = [
            "http://127.0.0.1:PORT/inside",
            "http://[::1]:PORT/",
            "http://2130706433:PORT/",
            "//0.0.0.0:PORT/",
            "http://other.example:PORT/",
            "file:///etc/passwd",
            "http://u:p@start.example:PORT/",
            "http://[::ffff:7f00:1]:PORT/",
        ];
        for location in inside {
            let (port, served) = serve(vec![to(location), ok("secret")]).await;
            let allowed = vec![Allowed::parse(&format!("start.example:{port}")).unwrap()];
            let outbound =
                Outbound::with(allowed, Arc::new(Fickle(vec![vec!["127.0.0.1"]], AtomicUsize::new(0))));
            let got = outbound.get(&format!("http://start.example:{port}/"), LIMITS).await;
            assert!(matches!(got, Err(Refusal::NotPublic | Refusal::Url(_))), "{location}: {got:?}");
            assert_eq!(served.load(Ordering::Relaxed), 1, "{location}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_held_to_its_limits() {
        let ask = async |answers: Vec<String>, path: &str| {
            let (port, _) = serve(answers).await;
            let outbound = Outbound::new(vec![Allowed::parse(&format!("127.0.0.1:{port}")).unwrap()]);
            let limits = Limits { bytes: 100, time: Duration::from_millis(400) };
            outbound.get(&format!("http://127.0.0.1:{port}{path}"), limits).await
        };
        let got = ask(vec![to("/next"), ok("hello")], "/").await.unwrap();
        assert_eq!(
            (got.url.path(), &got.body[..], got.content_type.as_str()),
            ("/next", &b"hello"[..], "text/plain")
        );
        assert_eq!(ask(vec![ok(&"x".repeat(101))], "/").await.err(), Some(Refusal::TooLarge(100)));
        let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(200));
        assert_eq!(ask(vec![endless], "/").await.err(), Some(Refusal::TooLarge(100)));
        let slow = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx".to_owned();
        assert!(matches!(ask(vec![slow], "/").await.err(), Some(Refusal::TimedOut | Refusal::Unreachable)));
        let zipped = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".to_owned();
        assert_eq!(ask(vec![zipped], "/").await.err(), Some(Refusal::Encoded));
        assert_eq!(ask(vec![to("/again")], "/").await.err(), Some(Refusal::Redirects));
        let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
        assert_eq!(ask(vec![gone], "/").await.err(), Some(Refusal::Status(404)));
    }
}
