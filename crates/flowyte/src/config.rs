//! Configuration: flags over `FLOWYTE_…` variables over a TOML file over defaults. Everything wrong is reported at once.

use flowyte_core::Brand;
use flowyte_core::address::AddressBlock;
use flowyte_core::limit::RateLimit;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

#[cfg(feature = "product")]
pub mod product;

/// A setting: its name in a file (`public_url`); as a flag `--public-url`, as a variable `FLOWYTE_PUBLIC_URL`.
pub struct Setting {
    /// Name in a file.
    pub name: &'static str,
    /// What may stand there.
    pub value: &'static str,
    /// What it is for.
    pub help: &'static str,
}

macro_rules! declare_settings {
    ($($name:ident $value:literal $help:literal;)*) => {
        &[$($crate::config::Setting { name: stringify!($name), value: $value, help: $help }),*]
    };
}
#[cfg(feature = "product")]
pub(crate) use declare_settings;

/// Settings of every build.
const OWN: &[Setting] = declare_settings! {
    listen "ADDRESS" "where the API is served [default: 127.0.0.1:8080]";
    data "FOLDER" "where data lives: database, peppers, set-up token [default: flowyte-data]";
    database "URL" "postgres://… instead of the SQLite file in the data folder";
    public_url "URL" "how people and browsers reach it; https, but for localhost [default: http://localhost and the port]";
    ops_listen "ADDRESS" "where health and metrics are served [default: 127.0.0.1:8081]";
    signup "open|closed" "whether anybody may sign up [default: closed]";
    log_format "text|json" "how log lines are written to standard error [default: text]";
    log_level "LEVEL" "error, warn, info, debug or trace [default: info]";
    credential_brand "WORD" "first word of every credential [default: flowyte]";
    pepper_file "FILE" "where the peppers are [default: pepper.key in the data folder]";
    trusted_proxies "CIDR,…" "addresses of proxies whose X-Forwarded-For is trusted [default: none]";
    organization_rpm "NUMBER" "requests a minute of each organization [default: 60000]";
    unauthenticated_rpm "NUMBER" "invalid credentials a minute from each address [default: 1200]";
    login_failures_per_account "NUMBER" "failed sign-ins under each e-mail address in 15 minutes, from each known device and from all others together [default: 10]";
    login_failures_per_address "NUMBER" "failed sign-ins from each address in 15 minutes [default: 100]";
    signups_per_address "NUMBER" "organizations created from each address in a day, by sign-up or by a member [default: 20]";
    organizations_per_person "NUMBER" "organizations that one person may create [default: 10]";
    keys_per_organization "NUMBER" "secret keys that work at once [default: 10000]";
    max_body_bytes "NUMBER" "longest request body [default: 1048576]";
    max_connections "NUMBER" "connections open at once [default: 10000]";
    max_connections_per_address "NUMBER" "connections open at once from one address; trusted proxies are not limited [default: a quarter of max_connections]";
    body_memory "BYTES" "memory for the bodies of requests and answers, shared fairly; at least 134217728 [default: 268435456]";
    drain_delay "SECONDS" "how long after SIGTERM new connections are still accepted, while /health/ready already answers 503 [default: 5]";
    drain_seconds "NUMBER" "how long a stop waits for answers in progress [default: 10]";
};

/// Every setting.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    #[cfg(feature = "product")]
    let more = product::SETTINGS;
    #[cfg(not(feature = "product"))]
    let more: &[Setting] = &[];
    OWN.iter().chain(more)
}

/// Where the truth is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// In the data folder.
    Sqlite,
    /// There. May hold a password, so it is never printed.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

/// A valid configuration.
#[derive(Clone)]
pub struct Config {
    /// Where the API is served.
    pub listen: SocketAddr,
    /// Data folder.
    pub data: PathBuf,
    /// Database.
    pub database: Database,
    /// Scheme and authority, without a slash at its end.
    pub public_url: String,
    /// Where health and metrics are served.
    pub ops_listen: SocketAddr,
    /// Whether anybody may sign up.
    pub signup_open: bool,
    /// JSON lines instead of text.
    pub log_json: bool,
    /// Least level that is logged.
    pub log_level: tracing::Level,
    /// First word of credentials.
    pub brand: Brand,
    /// The peppers' file.
    pub pepper_file: PathBuf,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressBlock>,
    /// Requests a minute of an organization.
    pub organization_rpm: u32,
    /// Invalid credentials a minute from an address.
    pub unauthenticated_rpm: u32,
    /// Failed sign-ins in 15 minutes for an account.
    pub login_failures_per_account: u32,
    /// Failed sign-ins in 15 minutes from an address.
    pub login_failures_per_address: u32,
    /// Sign-ups in a day from an address.
    pub signups_per_address: u32,
    /// Organizations that one person may found.
    pub organizations_per_person: u32,
    /// Secret keys of an organization that work at once.
    pub keys_per_organization: u32,
    /// Longest request body.
    pub max_body_bytes: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// Of them, from one address; `None` for a quarter of them.
    pub max_connections_per_address: Option<usize>,
    /// Bytes of memory for bodies of requests and answers.
    pub body_memory: usize,
    /// What the product needs.
    #[cfg(feature = "product")]
    pub product: product::Product,
    /// Seconds between the beginning of a stop and the close of the listener.
    pub drain_delay: u32,
    /// Seconds that a stop waits.
    pub drain_seconds: u32,
    /// Variables that Kubernetes injects for a Service, which are no settings.
    pub passed_over: Vec<String>,
}

/// What was given: name, value and where it stood.
#[derive(Default)]
pub struct Given {
    values: BTreeMap<&'static str, (String, String)>,
    problems: Vec<String>,
    passed_over: Vec<String>,
}

/// What settings were called before, and are called now. Both work.
pub const FORMER_NAMES: &[(&str, &str)] = &[("stranger_rpm", "unauthenticated_rpm")];

fn known(name: &str) -> Option<&'static Setting> {
    let name = FORMER_NAMES.iter().find(|(former, _)| *former == name).map_or(name, |(_, now)| now);
    settings().find(|it| it.name == name)
}

impl Given {
    /// Adds a TOML file; what was added before wins.
    pub fn file(&mut self, path: &Path) {
        let place = path.display().to_string();
        let table = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<toml::Table>().map_err(|error| error.message().to_owned()));
        let table = match table {
            Ok(table) => table,
            Err(error) => return self.problems.push(format!("{place} can't be read: {error}")),
        };
        for (name, value) in table {
            let Some(setting) = known(&name) else {
                self.problems.push(format!("{place}: unknown setting {name}{}", nearest(&name)));
                continue;
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Array(items) if items.iter().all(|it| it.is_str()) => {
                    items.iter().filter_map(|it| it.as_str()).collect::<Vec<_>>().join(",")
                }
                _ => {
                    self.problems.push(format!("{place}: {name} must be {}", setting.value));
                    continue;
                }
            };
            self.values.entry(setting.name).or_insert((text, format!("{place}: {name}")));
        }
    }

    /// Adds `FLOWYTE_…` variables; what was added before wins.
    pub fn variables(&mut self, all: impl Iterator<Item = (OsString, OsString)>) {
        for (variable, value) in all {
            let Ok(variable) = variable.into_string() else { continue };
            let Some(name) = variable.strip_prefix("FLOWYTE_").map(str::to_ascii_lowercase) else { continue };
            let Ok(value) = value.into_string() else {
                self.problems.push(format!("{variable} is not valid UTF-8"));
                continue;
            };
            match known(&name) {
                _ if name == "config" => {}
                Some(setting) => {
                    self.values.entry(setting.name).or_insert((value, variable));
                }
                None if is_service_variable(&name, &value) => self.passed_over.push(variable),
                None => self.problems.push(format!("unknown variable {variable}{}", nearest(&name))),
            }
        }
    }

    /// Adds a flag; what was added before wins.
    pub fn flag(&mut self, setting: &'static Setting, value: String) {
        let flag = format!("--{}", setting.name.replace('_', "-"));
        self.values.entry(setting.name).or_insert((value, flag));
    }

    pub(crate) fn take<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some((text, place)) = self.values.remove(name) else { return default };
        read(&text).unwrap_or_else(|why| {
            self.problems.push(format!("{place}: {why}"));
            default
        })
    }

    /// Settings that say nothing without another are not read over.
    #[cfg(feature = "product")]
    pub(crate) fn refuse_leftovers(&mut self, names: &[&'static str], unless: &str) {
        for name in names {
            if let Some((_, place)) = self.values.remove(name) {
                self.problems.push(format!("{place}: has no effect unless {unless}"));
            }
        }
    }

    #[cfg(feature = "product")]
    pub(crate) fn require(&mut self, names: &[&'static str], when: &str) {
        for name in names {
            if !self.values.contains_key(name) {
                self.problems.push(format!("{name} must be given when {when}"));
            }
        }
    }

    /// The configuration, or everything that is wrong.
    pub fn finish(mut self) -> Result<Config, Vec<String>> {
        let socket = |text: &str| {
            text.parse().map_err(|_| "must be an address with a port, like 127.0.0.1:8080".to_owned())
        };
        let listen: SocketAddr = self.take("listen", SocketAddr::from(([127, 0, 0, 1], 8080)), socket);
        let ops_listen = self.take("ops_listen", SocketAddr::from(([127, 0, 0, 1], 8081)), socket);
        let data = self.take("data", PathBuf::from("flowyte-data"), folder);
        let pepper_file = self.take("pepper_file", data.join("pepper.key"), folder);
        let local = format!("http://localhost:{}", listen.port());
        let config = Config {
            database: self.take("database", Database::Sqlite, database),
            public_url: self.take("public_url", local, public_url),
            signup_open: self.take("signup", false, |it| choice(it, &[("open", true), ("closed", false)])),
            log_json: self.take("log_format", false, |it| choice(it, &[("json", true), ("text", false)])),
            log_level: self.take("log_level", tracing::Level::INFO, |it| {
                it.parse().map_err(|_| "must be error, warn, info, debug or trace".into())
            }),
            brand: self.take("credential_brand", Brand::default(), |it| {
                Brand::new(it)
                    .ok_or("must be 2 to 16 lower-case letters and digits, beginning with a letter".into())
            }),
            trusted_proxies: self.take("trusted_proxies", Vec::new(), blocks),
            organization_rpm: self.take("organization_rpm", 60_000, |it| number(it, 1, RateLimit::MOST)),
            unauthenticated_rpm: self.take("unauthenticated_rpm", 1_200, |it| number(it, 1, RateLimit::MOST)),
            login_failures_per_account: self
                .take("login_failures_per_account", 10, |it| number(it, 1, 1_000_000)),
            login_failures_per_address: self
                .take("login_failures_per_address", 100, |it| number(it, 1, 1_000_000)),
            signups_per_address: self.take("signups_per_address", 20, |it| number(it, 1, 1_000_000)),
            organizations_per_person: self
                .take("organizations_per_person", 10, |it| number(it, 1, 1_000_000)),
            keys_per_organization: self
                .take("keys_per_organization", 10_000, |it| number(it, 1, 100_000_000)),
            max_body_bytes: self
                .take("max_body_bytes", 1 << 20, |it| number(it, 1_024, 1 << 30).map(|it| it as usize)),
            max_connections: self
                .take("max_connections", 10_000, |it| number(it, 1, 1_000_000).map(|it| it as usize)),
            max_connections_per_address: self.take("max_connections_per_address", None, |it| {
                number(it, 1, 1_000_000).map(|it| Some(it as usize))
            }),
            // A half of three quarters is an organization's, and an upload must fit.
            body_memory: self
                .take("body_memory", 256 << 20, |it| number(it, 128 << 20, u32::MAX).map(|it| it as usize)),
            #[cfg(feature = "product")]
            product: product::Product::read(&mut self),
            drain_delay: self.take("drain_delay", 5, |it| number(it, 0, 3_600)),
            drain_seconds: self.take("drain_seconds", 10, |it| number(it, 0, 3_600)),
            passed_over: std::mem::take(&mut self.passed_over),
            listen,
            ops_listen,
            data,
            pepper_file,
        };
        if config.listen == config.ops_listen && config.listen.port() != 0 {
            self.problems.push(
                "listen and ops_listen must differ: health and metrics are never served on the public address"
                    .into(),
            );
        }
        if self.problems.is_empty() { Ok(config) } else { Err(self.problems) }
    }
}

impl Config {
    /// `host[:port]` of the public URL.
    pub fn authority(&self) -> &str {
        self.public_url.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Where the token of the first set-up lies until it is used.
    pub fn setup_token_file(&self) -> PathBuf {
        self.data.join("setup-token")
    }
}

pub(crate) fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(PathBuf::from(text)) }
}

fn database(text: &str) -> Result<Database, String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("must begin with postgres://; leave it out for the SQLite file in the data folder".into());
    }
    #[cfg(feature = "postgres")]
    return Ok(Database::Postgres(text.into()));
    #[cfg(not(feature = "postgres"))]
    return Err("can't be used: this binary was built without PostgreSQL".into());
}

fn public_url(text: &str) -> Result<String, String> {
    let wrong = || "must be an origin like https://api.example.com, without a path".to_owned();
    let url: http::Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(wrong()) };
    let plain =
        authority.as_str() == authority.as_str().to_ascii_lowercase() && !authority.as_str().contains('@');
    if !matches!(url.path(), "" | "/") || url.query().is_some() || !plain {
        return Err(wrong());
    }
    let host = authority.host();
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.as_str();
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    match scheme {
        "https" => Ok(format!("https://{authority}")),
        "http" if loopback => Ok(format!("http://{authority}")),
        "http" => Err("must be https: session cookies and keys would cross the network in the clear".into()),
        _ => Err(wrong()),
    }
}

fn blocks(text: &str) -> Result<Vec<AddressBlock>, String> {
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    parts
        .map(|it| it.parse().map_err(|_| "must be addresses or CIDR blocks, separated by commas".to_owned()))
        .collect()
}

pub(crate) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| format!("must be {}", names.join(" or ")))
}

pub(crate) fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let read: Option<u32> = text.parse().ok().filter(|it| (least..=most).contains(it));
    read.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

/// Whether Kubernetes injects a variable like this for a Service (`FLOWYTE_` and `name`, in small letters): it does so in every pod of a
/// namespace, for each Service in it, so that one called `flowyte` or `flowyte-…` would otherwise stop the start. The value must fit
/// as well: `FLOWYTE_PORT=8080` is somebody's mistake.
fn is_service_variable(name: &str, value: &str) -> bool {
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    let is_protocol = |text: &str| matches!(text, "tcp" | "udp" | "sctp");
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let is_url = |text: &str| {
        let (protocol, rest) = text.split_once("://").unwrap_or_default();
        let (host, port) = rest.rsplit_once(':').unwrap_or_default();
        is_protocol(protocol) && is_address(host.trim_matches(['[', ']'])) && is_number(port)
    };
    let words: Vec<&str> = name.split('_').collect();
    match words.as_slice() {
        [.., "port", number, protocol, "proto"] if is_number(number) => value == *protocol,
        [.., "port", number, protocol, "port"] if is_number(number) && is_protocol(protocol) => {
            value == *number
        }
        [.., "port", number, protocol, "addr"] if is_number(number) && is_protocol(protocol) => {
            is_address(value)
        }
        [.., "port", number, protocol] if is_number(number) && is_protocol(protocol) => is_url(value),
        [.., "service", "host"] => is_address(value),
        // The name of one of its ports may follow.
        words if words.windows(2).any(|pair| pair == ["service", "port"]) => is_number(value),
        [.., "port"] => is_url(value),
        _ => false,
    }
}

/// Says which setting may have been meant.
fn nearest(name: &str) -> String {
    let alike = |setting: &&Setting| {
        let (a, b) = (setting.name.replace('_', ""), name.replace(['_', '-'], ""));
        a == b || a.starts_with(&b) && b.len() > 2 || b.starts_with(&a)
    };
    settings().find(alike).map_or_else(String::new, |setting| format!("; did you mean {}?", setting.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let mut given = Given::default();
        given.variables(
            variables.iter().map(|(name, value)| (format!("FLOWYTE_{name}").into(), (*value).into())),
        );
        given.finish()
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_passed_over_and_mistakes_are_not() {
        let injected = [
            ("SERVICE_HOST", "10.96.0.1"),
            ("SERVICE_PORT", "8080"),
            ("SERVICE_PORT_HTTP", "8080"),
            ("PORT", "tcp://10.96.0.1:8080"),
            ("PORT_8080_TCP", "tcp://10.96.0.1:8080"),
            ("PORT_8080_TCP_PROTO", "tcp"),
            ("PORT_8080_TCP_PORT", "8080"),
            ("PORT_8080_TCP_ADDR", "10.96.0.1"),
            // Of a second Service, flowyte-ops, and on IPv6.
            ("OPS_SERVICE_HOST", "fd00::1"),
            ("OPS_SERVICE_PORT_OPS_METRICS", "8081"),
            ("OPS_PORT", "tcp://[fd00::1]:8081"),
            ("OPS_PORT_53_UDP_ADDR", "fd00::1"),
        ];
        let config = read(&injected).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(config.passed_over.len(), injected.len());
        assert_eq!(config.listen.port(), 8080);
        for mistake in [
            ("PORT", "8080"),
            ("PORT", "tcp://"),
            ("SERVICE_HOST", "api.example"),
            ("LISTEN_PORT", "8080"),
            ("PORT_8080_TCP_PORT", "1"),
            ("SERVICE", "10.96.0.1"),
            ("PUBLIC_URI", "https://api.example"),
        ] {
            assert!(read(&[mistake]).is_err(), "{mistake:?}");
        }
    }

    #[test]
    fn a_variable_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let mut given = Given::default();
        let bad = || OsString::from_vec(vec![0xff]);
        given.variables([(OsString::from("FLOWYTE_DATA"), bad()), (bad(), bad())].into_iter());
        assert_eq!(given.finish().err().unwrap(), ["FLOWYTE_DATA is not valid UTF-8"]);
    }

    #[test]
    fn a_limit_is_never_finer_than_the_clock() {
        assert!(read(&[("ORGANIZATION_RPM", "60000000"), ("UNAUTHENTICATED_RPM", "60000000")]).is_ok());
        assert_eq!(
            read(&[("ORGANIZATION_RPM", "60000001"), ("UNAUTHENTICATED_RPM", "60000001")])
                .err()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn nothing_given_is_a_local_server_on_one_file() {
        let config = read(&[]).ok().unwrap();
        assert_eq!((config.public_url.as_str(), config.signup_open), ("http://localhost:8080", false));
        assert_eq!(config.pepper_file, PathBuf::from("flowyte-data/pepper.key"));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let problems = read(&[
            ("LISTEN", "here"),
            ("SIGNUP", "maybe"),
            ("PUBLIC_URL", "http://api.example"),
            ("LISTENS", "x"),
        ]);
        let problems = problems.err().unwrap();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].contains("did you mean listen?"), "{problems:?}");
    }

    #[test]
    fn a_flag_wins_over_a_variable_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flowyte.toml");
        std::fs::write(
            &file,
            "organization_rpm = 1\nunauthenticated_rpm = 1\nmax_connections = 1\ntrusted_proxies = ['10.0.0.0/8']",
        )
        .unwrap();
        let mut given = Given::default();
        given.flag(known("organization_rpm").unwrap(), "3".into());
        given.variables(
            [
                ("FLOWYTE_ORGANIZATION_RPM".into(), "2".into()),
                ("FLOWYTE_UNAUTHENTICATED_RPM".into(), "2".into()),
            ]
            .into_iter(),
        );
        given.file(&file);
        let config = given.finish().ok().unwrap();
        assert_eq!((config.organization_rpm, config.unauthenticated_rpm, config.max_connections), (3, 2, 1));
        let client = |peer: &str, forwarded: Option<&'static str>| {
            flowyte_doors::api::client(&config.trusted_proxies, peer.parse().unwrap(), forwarded.into_iter())
                .to_string()
        };
        assert_eq!(client("192.0.2.1", Some("198.51.100.1")), "192.0.2.1");
        assert_eq!(client("10.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2")), "198.51.100.1");
        assert_eq!(client("10.0.0.1", Some("x, junk")), "10.0.0.1");
        assert_eq!(client("10.0.0.1", None), "10.0.0.1");
    }

    #[test]
    fn a_public_url_is_an_origin() {
        for (text, read) in [
            ("https://api.example", Some("https://api.example")),
            ("https://api.example:443/", Some("https://api.example")),
            ("http://127.0.0.1:9000", Some("http://127.0.0.1:9000")),
            ("https://api.example/x", None),
            ("https://u@api.example", None),
            ("http://api.example", None),
            ("ftp://api.example", None),
            ("https://API.example", None),
        ] {
            assert_eq!(public_url(text).ok().as_deref(), read, "{text}");
        }
    }
}
