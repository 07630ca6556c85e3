//! Configuration: flags over `FLOWYTE_…` variables over a TOML file over defaults. Everything wrong is reported at once.

use flowyte_core::Brand;
use flowyte_core::address::AddressBlock;
use flowyte_core::limit::RateLimit;
use flowyte_platform::outbound::Allowed;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// A setting: its name in a file (`public_url`); as a flag `--public-url`, as a variable `FLOWYTE_PUBLIC_URL`.
pub struct Setting {
    /// Name in a file.
    pub name: &'static str,
    /// What may stand there.
    pub value: &'static str,
    /// What it is for.
    pub help: &'static str,
}

macro_rules! settings {
    ($($name:ident $value:literal $help:literal;)*) => {
        /// Every setting.
        pub const SETTINGS: &[Setting] =
            &[$(Setting { name: stringify!($name), value: $value, help: $help }),*];
    };
}

settings! {
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
    stranger_rpm "NUMBER" "invalid credentials a minute from each address [default: 1200]";
    login_failures_per_account "NUMBER" "failed sign-ins under each e-mail address in 15 minutes, from each known device and from all others together [default: 10]";
    login_failures_per_address "NUMBER" "failed sign-ins from each address in 15 minutes [default: 100]";
    signups_per_address "NUMBER" "organizations created from each address in a day, by sign-up or by a member [default: 20]";
    organizations_per_person "NUMBER" "organizations that one person may create [default: 10]";
    keys_per_organization "NUMBER" "secret keys that work at once [default: 10000]";
    max_body_bytes "NUMBER" "longest request body [default: 1048576]";
    max_connections "NUMBER" "connections open at once [default: 10000]";
    max_connections_per_address "NUMBER" "connections open at once from one address; trusted proxies are not limited [default: a quarter of max_connections]";
    body_memory "BYTES" "memory for the bodies of requests and answers, shared fairly; at least 134217728 [default: 268435456]";
    outbound_allow "HOST,…" "hosts without a public address from which pages may be fetched and to which webhooks may be sent; HOST:PORT allows one port [default: none]";
    payment "sandbox|stripe" "who takes payments into wallets; in the sandbox no money moves [default: sandbox]";
    payment_url "URL" "where the payment service is [default: https://api.stripe.com]";
    payment_key_file "FILE" "holds the secret key of the payment service";
    payment_webhook_secret_file "FILE" "holds the secret with which the payment service signs its notifications to /hooks/payments";
    carrier "sandbox|twilio" "who sells telephone numbers; the sandbox has fictional ones [default: sandbox]";
    carrier_url "URL" "where the carrier is [default: https://api.twilio.com]";
    carrier_account "SID" "the account at the carrier, with carrier = twilio";
    carrier_token_file "FILE" "holds the token of the carrier account";
    model_url "URL" "base URL of a service that speaks OpenAI's chat completions, like https://api.openai.com/v1; its model answers live conversations [default: none; answers are sentences of the knowledge]";
    model_name "NAME" "the name of the model at model_url";
    model_key_file "FILE" "holds the key of the model's service [default: none is sent]";
    model_timeout_seconds "NUMBER" "the longest that one answer of the model may take [default: 120]";
    model_idle_seconds "NUMBER" "the longest that the model may stay silent during an answer [default: 30]";
    drain_delay "SECONDS" "how long after SIGTERM new connections are still accepted, while /health/ready already answers 503 [default: 5]";
    drain_seconds "NUMBER" "how long a stop waits for answers in progress [default: 10]";
}

/// Where the truth is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// In the data folder.
    Sqlite,
    /// There. May hold a password, so it is never printed.
    Postgres(String),
}

/// Who takes payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payment {
    /// Nobody; they are made up.
    Sandbox,
    /// A service that speaks Stripe's API.
    Stripe {
        /// Where it is, without a slash at its end.
        url: String,
        /// Holds its secret key.
        key_file: PathBuf,
        /// Holds what its notices are signed with.
        webhook_secret_file: PathBuf,
    },
}

/// Who sells telephone numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Nobody; there are fictional ones.
    Sandbox,
    /// A service that speaks Twilio's API.
    Twilio {
        /// Where it is, without a slash at its end.
        url: String,
        /// The account's SID.
        account: String,
        /// Holds the account's token.
        token_file: PathBuf,
    },
}

/// A model that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Where it is, without a slash at its end.
    pub url: String,
    /// Its name.
    pub name: String,
    /// Holds the key of its service.
    pub key_file: Option<PathBuf>,
    /// The longest that one answer may take, in seconds.
    pub timeout_seconds: u32,
    /// The longest that it may say nothing, in seconds.
    pub idle_seconds: u32,
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
    pub stranger_rpm: u32,
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
    /// Hosts that outbound requests may reach although they are not public.
    pub outbound_allow: Vec<Allowed>,
    /// Who takes payments.
    pub payment: Payment,
    /// Who sells telephone numbers.
    pub carrier: Carrier,
    /// The model that answers live conversations.
    pub model: Option<Model>,
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

fn known(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|it| it.name == name)
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

    fn take<T>(&mut self, name: &'static str, default: T, read: impl Fn(&str) -> Result<T, String>) -> T {
        let Some((text, place)) = self.values.remove(name) else { return default };
        read(&text).unwrap_or_else(|why| {
            self.problems.push(format!("{place}: {why}"));
            default
        })
    }

    /// Who takes payments, with the settings that only a real service has.
    fn payment(&mut self) -> Payment {
        const OF_STRIPE: [&str; 3] = ["payment_url", "payment_key_file", "payment_webhook_secret_file"];
        if !self.take("payment", false, |it| choice(it, &[("sandbox", false), ("stripe", true)])) {
            self.refuse_leftovers(&OF_STRIPE, "payment is stripe");
            return Payment::Sandbox;
        }
        self.require(&OF_STRIPE[1..], "payment is stripe");
        Payment::Stripe {
            url: self.take("payment_url", "https://api.stripe.com".to_owned(), service_url),
            key_file: self.take("payment_key_file", PathBuf::new(), folder),
            webhook_secret_file: self.take("payment_webhook_secret_file", PathBuf::new(), folder),
        }
    }

    /// Who sells numbers, with the settings that only a real carrier has.
    fn carrier(&mut self) -> Carrier {
        const OF_TWILIO: [&str; 3] = ["carrier_url", "carrier_account", "carrier_token_file"];
        if !self.take("carrier", false, |it| choice(it, &[("sandbox", false), ("twilio", true)])) {
            self.refuse_leftovers(&OF_TWILIO, "carrier is twilio");
            return Carrier::Sandbox;
        }
        self.require(&OF_TWILIO[1..], "carrier is twilio");
        Carrier::Twilio {
            url: self.take("carrier_url", "https://api.twilio.com".to_owned(), service_url),
            account: self.take("carrier_account", String::new(), |it| {
                let plain = !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if plain { Ok(it.to_owned()) } else { Err("must be letters and digits".into()) }
            }),
            token_file: self.take("carrier_token_file", PathBuf::new(), folder),
        }
    }

    /// The model, with the settings that only it has.
    fn model(&mut self) -> Option<Model> {
        const OF_MODEL: [&str; 4] =
            ["model_name", "model_key_file", "model_timeout_seconds", "model_idle_seconds"];
        let Some(url) = self.take("model_url", None, |it| service_url(it).map(Some)) else {
            self.refuse_leftovers(&OF_MODEL, "model_url is given");
            return None;
        };
        self.require(&OF_MODEL[..1], "model_url is");
        Some(Model {
            url,
            name: self.take("model_name", String::new(), |it| match it.trim() {
                "" => Err("must not be empty".into()),
                name => Ok(name.to_owned()),
            }),
            key_file: self.take("model_key_file", None, |it| folder(it).map(Some)),
            timeout_seconds: self.take("model_timeout_seconds", 120, |it| number(it, 1, 600)),
            idle_seconds: self.take("model_idle_seconds", 30, |it| number(it, 1, 600)),
        })
    }

    /// Settings that say nothing without another are not read over.
    fn refuse_leftovers(&mut self, names: &[&'static str], unless: &str) {
        for name in names {
            if let Some((_, place)) = self.values.remove(name) {
                self.problems.push(format!("{place}: has no effect unless {unless}"));
            }
        }
    }

    fn require(&mut self, names: &[&'static str], when: &str) {
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
            stranger_rpm: self.take("stranger_rpm", 1_200, |it| number(it, 1, RateLimit::MOST)),
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
            payment: self.payment(),
            outbound_allow: self.take("outbound_allow", Vec::new(), hosts),
            model: self.model(),
            carrier: self.carrier(),
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

    /// Whether browsers reach it through TLS.
    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// The caller's address: the peer's, or the last one in the `X-Forwarded-For` fields that no trusted proxy stands for.
    pub fn client<'h>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'h str>) -> IpAddr {
        let trusted = |address: IpAddr| self.trusted_proxies.iter().any(|block| block.contains(address));
        let mut client = peer;
        for hop in forwarded.rev().flat_map(|field| field.rsplit(',')) {
            if !trusted(client) {
                break;
            }
            match hop.trim().parse() {
                Ok(address) => client = address,
                Err(_) => break,
            }
        }
        flowyte_core::address::canonical(client)
    }
}

fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(PathBuf::from(text)) }
}

fn database(text: &str) -> Result<Database, String> {
    match text.starts_with("postgres://") || text.starts_with("postgresql://") {
        true => Ok(Database::Postgres(text.into())),
        false => {
            Err("must begin with postgres://; leave it out for the SQLite file in the data folder".into())
        }
    }
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

/// Where another service is. Its secret goes there, so it is https but on this machine.
fn service_url(text: &str) -> Result<String, String> {
    let wrong = || "must be a URL like https://api.example.com, without a query".to_owned();
    let url: http::Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else { return Err(wrong()) };
    let loopback = matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]");
    if url.query().is_some() || authority.as_str().contains('@') {
        return Err(wrong());
    }
    match scheme {
        "https" => Ok(text.trim_end_matches('/').to_owned()),
        "http" if loopback => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("must be https: a secret is sent there".into()),
    }
}

fn blocks(text: &str) -> Result<Vec<AddressBlock>, String> {
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    parts
        .map(|it| it.parse().map_err(|_| "must be addresses or CIDR blocks, separated by commas".to_owned()))
        .collect()
}

fn hosts(text: &str) -> Result<Vec<Allowed>, String> {
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    parts
        .map(|it| {
            Allowed::parse(it)
                .ok_or_else(|| "must be hosts, each with or without a port, separated by commas".to_owned())
        })
        .collect()
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| format!("must be {}", names.join(" or ")))
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
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
    SETTINGS
        .iter()
        .find(alike)
        .map_or_else(String::new, |setting| format!("; did you mean {}?", setting.name))
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
        assert!(read(&[("ORGANIZATION_RPM", "60000000"), ("STRANGER_RPM", "60000000")]).is_ok());
        assert_eq!(
            read(&[("ORGANIZATION_RPM", "60000001"), ("STRANGER_RPM", "60000001")]).err().unwrap().len(),
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
            "organization_rpm = 1\nstranger_rpm = 1\nmax_connections = 1\ntrusted_proxies = ['10.0.0.0/8']",
        )
        .unwrap();
        let mut given = Given::default();
        given.flag(known("organization_rpm").unwrap(), "3".into());
        given.variables(
            [("FLOWYTE_ORGANIZATION_RPM".into(), "2".into()), ("FLOWYTE_STRANGER_RPM".into(), "2".into())]
                .into_iter(),
        );
        given.file(&file);
        let config = given.finish().ok().unwrap();
        assert_eq!((config.organization_rpm, config.stranger_rpm, config.max_connections), (3, 2, 1));
        let client = |peer: &str, forwarded: Option<&'static str>| {
            config.client(peer.parse().unwrap(), forwarded.into_iter()).to_string()
        };
        assert_eq!(client("192.0.2.1", Some("198.51.100.1")), "192.0.2.1");
        assert_eq!(client("10.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2")), "198.51.100.1");
        assert_eq!(client("10.0.0.1", Some("x, junk")), "10.0.0.1");
        assert_eq!(client("10.0.0.1", None), "10.0.0.1");
    }

    #[test]
    fn a_carrier_has_all_of_its_settings_or_none() {
        assert_eq!(read(&[]).ok().unwrap().carrier, Carrier::Sandbox);
        let missing = read(&[("CARRIER", "twilio"), ("CARRIER_ACCOUNT", "../AC1")]).err().unwrap();
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(read(&[("CARRIER_ACCOUNT", "AC1")]).is_err());
        let whole = read(&[("CARRIER", "twilio"), ("CARRIER_ACCOUNT", "AC1"), ("CARRIER_TOKEN_FILE", "t")]);
        let Carrier::Twilio { url, .. } = whole.ok().unwrap().carrier else { panic!("not twilio") };
        assert_eq!(url, "https://api.twilio.com");
    }

    #[test]
    fn a_payment_service_has_all_of_its_settings_or_none() {
        assert_eq!(read(&[]).ok().unwrap().payment, Payment::Sandbox);
        let missing = read(&[("PAYMENT", "stripe"), ("PAYMENT_URL", "http://pay.example")]).err().unwrap();
        assert_eq!(missing.len(), 3, "{missing:?}");
        let leftover = read(&[("PAYMENT_KEY_FILE", "x")]).err().unwrap();
        assert!(leftover[0].contains("has no effect unless payment is stripe"), "{leftover:?}");
        let whole = read(&[
            ("PAYMENT", "stripe"),
            ("PAYMENT_URL", "http://127.0.0.1:9/"),
            ("PAYMENT_KEY_FILE", "k"),
            ("PAYMENT_WEBHOOK_SECRET_FILE", "w"),
        ]);
        let Payment::Stripe { url, .. } = whole.ok().unwrap().payment else { panic!("not stripe") };
        assert_eq!(url, "http://127.0.0.1:9");
    }

    #[test]
    fn a_model_has_a_url_and_a_name_or_nothing() {
        assert_eq!(read(&[]).ok().unwrap().model, None);
        let wrong = |settings: &[(&str, &str)]| read(settings).err().unwrap();
        assert!(wrong(&[("MODEL_NAME", "x")])[0].contains("has no effect unless model_url is given"));
        assert!(wrong(&[("MODEL_URL", "https://x.example/v1")])[0].contains("model_name must be given"));
        assert!(wrong(&[("MODEL_URL", "http://x.example"), ("MODEL_NAME", "x")])[0].contains("https"));
        let model = read(&[("MODEL_URL", "http://localhost:11434/v1/"), ("MODEL_NAME", "small")]);
        let model = model.ok().unwrap().model.unwrap();
        assert_eq!((model.url.as_str(), model.key_file), ("http://localhost:11434/v1", None));
        assert_eq!((model.timeout_seconds, model.idle_seconds), (120, 30));
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
