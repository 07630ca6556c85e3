//! Configuration: flags over `FLOWYTE_…` variables over a TOML file over defaults. Everything wrong is reported at once.
//!
//! Each crate has a section of settings that clap derives from a struct: names, help, defaults, and how a value is read. What is
//! here beside them is what clap would lose. It stops at the first value that is wrong, so each is given to it by itself. It shows
//! the values of variables in `--help`, which may be secrets, and passes over a variable whose name it does not know, which may be
//! a misspelt limit. And it reads no files.

use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use flowyte_verifier::settings::{choice, number, path};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[cfg(all(test, feature = "product"))]
mod product;

/// The database that the server keeps its state in.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file in the data folder.
    Sqlite,
    /// There. May hold a password, so it is never printed.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Sqlite { "Sqlite" } else { "Postgres(…)" })
    }
}

/// What the operator chose, valid and complete.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Server")]
pub struct Config {
    /// Where the API is served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = socket)]
    pub listen: SocketAddr,
    /// Where data lives: database, peppers, set-up token.
    #[arg(long, value_name = "FOLDER", default_value = "flowyte-data", value_parser = path)]
    pub data: PathBuf,
    /// postgres://… instead of the SQLite file in the data folder.
    #[arg(id = "database", long = "database", value_name = "URL", value_parser = database)]
    elsewhere: Option<Database>,
    /// The database to use: [`Database::Sqlite`] unless `--database` names another one.
    #[arg(skip = Database::Sqlite)]
    pub database: Database,
    /// How people and browsers reach it; https, but for localhost. Default: http://localhost and the port.
    #[arg(long, value_name = "URL", default_value = "http://localhost", hide_default_value = true, value_parser = public_url)]
    pub public_url: String,
    /// Where health and metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", value_parser = socket)]
    pub ops_listen: SocketAddr,
    /// How log lines are written to standard error.
    #[arg(id = "log_format", long = "log-format", value_name = "text|json", default_value = "text", action = ArgAction::Set, value_parser = choice([("json", true), ("text", false)]))]
    pub log_json: bool,
    /// Least level of the lines that are logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: tracing::Level,
    /// Where the peppers are. Default: pepper.key in the data folder.
    #[arg(long, value_name = "FILE", default_value = "pepper.key", hide_default_value = true, value_parser = path)]
    pub pepper_file: PathBuf,
    /// Where the signed heads of audit chains are kept. Default: audit-heads beside the peppers.
    #[arg(long, value_name = "FILE", default_value = "audit-heads", hide_default_value = true, value_parser = path)]
    pub audit_heads_file: PathBuf,
    /// How long after SIGTERM new connections are still accepted, while /health/ready already answers 503.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = number::<u32>(0, 3_600))]
    pub drain_delay: u32,
    /// The settings of credentials: their first word, and how many requests a minute there may be.
    #[command(flatten)]
    pub verifier: flowyte_verifier::Settings,
    /// The section of connections and bodies.
    #[command(flatten)]
    pub http: flowyte_http::settings::Settings,
    /// The section of accounts and keys.
    #[command(flatten)]
    pub management: flowyte_management::Settings,
    #[cfg(feature = "product")]
    #[command(flatten)]
    of_product: flowyte_product::settings::Settings,
    /// What the product needs, from its section.
    #[cfg(feature = "product")]
    #[arg(skip)]
    pub product: flowyte_product::settings::Product,
    /// Variables that Kubernetes injects for a Service, which are no settings.
    #[arg(skip)]
    pub passed_over: Vec<String>,
}

/// A setting: its name in a file (`public_url`); as a flag `--public-url`, as a variable `FLOWYTE_PUBLIC_URL`.
pub struct Setting {
    /// The name in a file, with underscores: `public_url`.
    pub name: &'static str,
    arg: &'static Arg,
}

impl Setting {
    fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// What may stand there, as `--help` says it.
    fn value(&self) -> String {
        let names = self.arg.get_value_names().unwrap_or_default();
        names.iter().map(ToString::to_string).collect()
    }

    /// Whether it is called so, or was before.
    fn is_called(&self, name: &str) -> bool {
        let former = self.arg.get_all_aliases().unwrap_or_default();
        self.name == name || former.iter().any(|it| it.replace('-', "_") == name)
    }

    /// The flag of a command line, whose text is not read yet: [`Given::finish`] says of all settings at once what is wrong.
    pub fn argument(&self) -> Arg {
        self.arg.clone().value_parser(clap::builder::ValueParser::string())
    }
}

/// Reads flags, one after another.
static READER: LazyLock<Command> = LazyLock::new(|| {
    Config::augment_args(Command::new("settings").no_binary_name(true).disable_help_flag(true))
});
static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    READER.get_arguments().map(|arg| Setting { name: arg.get_id().as_str(), arg }).collect()
});

/// All settings of the server, those of each crate among them.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter()
}

fn known(name: &str) -> Option<&'static Setting> {
    settings().find(|it| it.is_called(name))
}

fn read(flags: &[String]) -> Result<Config, clap::Error> {
    Config::from_arg_matches(&READER.clone().try_get_matches_from(flags)?)
}

/// What was given: name, value and where it stood.
#[derive(Default)]
pub struct Given {
    values: BTreeMap<&'static str, (String, String)>,
    problems: Vec<String>,
    passed_over: Vec<String>,
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
                    self.problems.push(format!("{place}: {name} must be {}", setting.value()));
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
        let flag = setting.flag();
        self.values.entry(setting.name).or_insert((value, flag));
    }

    /// The configuration, or everything that is wrong.
    pub fn finish(mut self) -> Result<Config, Vec<String>> {
        let mut flags = Vec::new();
        for setting in settings() {
            let Some((text, place)) = self.values.get(setting.name) else { continue };
            let flag = format!("{}={text}", setting.flag());
            match read(std::slice::from_ref(&flag)) {
                Ok(_) => flags.push(flag),
                Err(error) => {
                    let why =
                        std::error::Error::source(&error).map_or("can't be read".into(), ToString::to_string);
                    self.problems.push(format!("{place}: {why}"));
                }
            }
        }
        match read(&flags) {
            Ok(config) => self.complete(config),
            Err(error) => {
                self.problems.push(error.to_string());
                Err(self.problems)
            }
        }
    }

    /// With what follows from several settings.
    fn complete(mut self, mut config: Config) -> Result<Config, Vec<String>> {
        if !self.values.contains_key("public_url") {
            config.public_url = format!("http://localhost:{}", config.listen.port());
        }
        if !self.values.contains_key("pepper_file") {
            config.pepper_file = config.data.join("pepper.key");
        }
        if !self.values.contains_key("audit_heads_file") {
            config.audit_heads_file = config.pepper_file.with_file_name("audit-heads");
        }
        if let Some(elsewhere) = &config.elsewhere {
            config.database = elsewhere.clone();
        }
        if config.listen == config.ops_listen && config.listen.port() != 0 {
            self.problems.push(
                "listen and ops_listen must differ: health and metrics are never served on the public address"
                    .into(),
            );
        }
        #[cfg(feature = "product")]
        {
            let discords = config.of_product.discords(|name| self.values.contains_key(name));
            let told: Vec<String> = discords.into_iter().map(|it| self.tell(it)).collect();
            self.problems.extend(told);
            config.product = config.of_product.product();
        }
        config.passed_over = self.passed_over;
        if self.problems.is_empty() { Ok(config) } else { Err(self.problems) }
    }

    #[cfg(feature = "product")]
    fn tell(&self, discord: flowyte_product::settings::Discord) -> String {
        use flowyte_product::settings::Discord;
        match discord {
            Discord::Missing { setting, when } => format!("{setting} must be given when {when}"),
            Discord::Idle { setting, unless } => {
                let place = self.values.get(setting).map_or(setting, |(_, place)| place);
                format!("{place}: has no effect unless {unless}")
            }
        }
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

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "must be an address with a port, like 127.0.0.1:8080".to_owned())
}

fn log_level(text: &str) -> Result<tracing::Level, String> {
    text.parse().map_err(|_| "must be error, warn, info, debug or trace".to_owned())
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
    let plain = |text: &str| text.replace(['_', '-'], "");
    let typed = plain(name);
    let begins = |it: &&Setting| {
        let setting = plain(it.name);
        setting.starts_with(&typed) && typed.len() > 2 || typed.starts_with(&setting)
    };
    let letters = |it: &Setting| strsim::damerau_levenshtein(&plain(it.name), &typed);
    let slip = || settings().min_by_key(|it| letters(it)).filter(|it| letters(it) <= 2);
    let meant = settings().find(begins).or_else(slip);
    meant.map_or_else(String::new, |setting| format!("; did you mean {}?", setting.name))
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
        assert_eq!(
            (config.public_url.as_str(), config.management.signup_open),
            ("http://localhost:8080", false)
        );
        assert_eq!(config.pepper_file, PathBuf::from("flowyte-data/pepper.key"));
        assert_eq!(config.audit_heads_file, PathBuf::from("flowyte-data/audit-heads"));
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
        let rpm = (config.verifier.organization_rpm, config.verifier.unauthenticated_rpm);
        assert_eq!((rpm, config.http.max_connections), ((3, 2), 1));
        let client = |peer: &str, forwarded: Option<&'static str>| {
            flowyte_doors::api::client(
                &config.http.trusted_proxies,
                peer.parse().unwrap(),
                forwarded.into_iter(),
            )
            .to_string()
        };
        assert_eq!(client("192.0.2.1", Some("198.51.100.1")), "192.0.2.1");
        assert_eq!(client("10.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2")), "198.51.100.1");
        assert_eq!(client("10.0.0.1", Some("x, junk")), "10.0.0.1");
        assert_eq!(client("10.0.0.1", None), "10.0.0.1");
    }

    /// Names of settings, with their values.
    type Chosen = &'static [(&'static str, &'static str)];

    /// What each setting may be besides its default, with the settings that it needs to mean something.
    const OTHERS: &[(&str, &str, Chosen)] = &[
        ("listen", "127.0.0.1:9000", &[]),
        ("data", "elsewhere", &[]),
        #[cfg(feature = "postgres")]
        ("database", "postgres://flowyte:secret@localhost/flowyte", &[]),
        ("public_url", "https://api.example", &[]),
        ("ops_listen", "127.0.0.1:9001", &[]),
        ("log_format", "json", &[]),
        ("log_level", "debug", &[]),
        ("pepper_file", "peppers", &[]),
        ("audit_heads_file", "heads", &[]),
        ("drain_delay", "1", &[]),
        ("credential_brand", "acme", &[]),
        ("organization_rpm", "7", &[]),
        ("unauthenticated_rpm", "7", &[]),
        ("trusted_proxies", "10.0.0.0/8, ::1", &[]),
        ("max_body_bytes", "2048", &[]),
        ("max_connections", "7", &[]),
        ("max_connections_per_address", "7", &[]),
        ("body_memory", "134217728", &[]),
        ("drain_seconds", "1", &[]),
        ("signup", "open", &[]),
        ("login_failures_per_account", "7", &[]),
        ("login_failures_per_address", "7", &[]),
        ("signups_per_address", "7", &[]),
        ("organizations_per_person", "7", &[]),
        ("keys_per_organization", "7", &[]),
        #[cfg(feature = "product")]
        ("outbound_allow", "intranet.example:8080, 10.0.0.1", &[]),
        #[cfg(feature = "product")]
        ("payment", "stripe", OF_STRIPE),
        #[cfg(feature = "product")]
        ("payment_url", "http://localhost:1", OF_STRIPE),
        #[cfg(feature = "product")]
        ("payment_key_file", "another", OF_STRIPE),
        #[cfg(feature = "product")]
        ("payment_webhook_secret_file", "another", OF_STRIPE),
        #[cfg(feature = "product")]
        ("carrier", "twilio", OF_TWILIO),
        #[cfg(feature = "product")]
        ("carrier_url", "http://localhost:1", OF_TWILIO),
        #[cfg(feature = "product")]
        ("carrier_account", "another", OF_TWILIO),
        #[cfg(feature = "product")]
        ("carrier_token_file", "another", OF_TWILIO),
        #[cfg(feature = "product")]
        ("model_url", "http://localhost:2", OF_A_MODEL),
        #[cfg(feature = "product")]
        ("model_name", "another", OF_A_MODEL),
        #[cfg(feature = "product")]
        ("model_key_file", "another", OF_A_MODEL),
        #[cfg(feature = "product")]
        ("model_timeout_seconds", "7", OF_A_MODEL),
        #[cfg(feature = "product")]
        ("model_idle_seconds", "7", OF_A_MODEL),
    ];
    #[cfg(feature = "product")]
    const OF_STRIPE: Chosen =
        &[("payment", "stripe"), ("payment_key_file", "k"), ("payment_webhook_secret_file", "w")];
    #[cfg(feature = "product")]
    const OF_TWILIO: Chosen = &[("carrier", "twilio"), ("carrier_account", "a"), ("carrier_token_file", "t")];
    #[cfg(feature = "product")]
    const OF_A_MODEL: Chosen = &[("model_url", "http://localhost:1"), ("model_name", "n")];

    fn as_flags(given: &mut Given, chosen: &[(&str, &str)]) {
        // As on a command line: the text is not read before all of them are.
        let command = settings().fold(Command::new("flowyte"), |command, it| command.arg(it.argument()));
        let flags = chosen.iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-")));
        let matches = command.no_binary_name(true).try_get_matches_from(flags).unwrap();
        for (name, _) in chosen {
            given.flag(known(name).unwrap(), matches.get_one::<String>(name).unwrap().clone());
        }
    }

    fn as_variables(given: &mut Given, chosen: &[(&str, &str)]) {
        let variable = |name: &str| format!("FLOWYTE_{}", name.to_uppercase());
        given.variables(chosen.iter().map(|(name, value)| (variable(name).into(), (*value).into())));
    }

    fn as_file(given: &mut Given, chosen: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("flowyte.toml");
        let line = |(name, value): &(&str, &str)| match (value.parse::<u32>(), value.split_once(", ")) {
            (Ok(number), _) => format!("{name} = {number}\n"),
            (_, Some((first, second))) => format!("{name} = ['{first}', '{second}']\n"),
            _ => format!("{name} = '{value}'\n"),
        };
        std::fs::write(&file, chosen.iter().map(line).collect::<String>()).unwrap();
        given.file(&file);
    }

    /// What a configuration is, the address of the database included, which is never printed.
    fn whole(config: &Config) -> String {
        #[cfg(feature = "postgres")]
        if let Database::Postgres(url) = &config.database {
            return format!("{config:?} {url}");
        }
        format!("{config:?}")
    }

    #[test]
    fn every_setting_can_be_given_in_three_ways() {
        let mut named: Vec<&str> = OTHERS.iter().map(|it| it.0).collect();
        let mut all: Vec<&str> = settings()
            .map(|it| it.name)
            .filter(|it| *it != "database" || cfg!(feature = "postgres"))
            .collect();
        named.sort_unstable();
        all.sort_unstable();
        assert_eq!(named, all, "each setting has a line in OTHERS");
        for (name, value, needs) in OTHERS {
            let needs: Vec<(&str, &str)> = needs.iter().filter(|it| it.0 != *name).copied().collect();
            let chosen = [vec![(*name, *value)], needs.clone()].concat();
            let ways = [as_flags, as_variables, as_file].map(|way| {
                let mut given = Given::default();
                way(&mut given, &chosen);
                whole(&given.finish().unwrap_or_else(|problems| panic!("{name}: {problems:?}")))
            });
            assert!(ways.iter().all(|it| *it == ways[0]), "{name}: {ways:#?}");
            let mut without = Given::default();
            as_variables(&mut without, &needs);
            if let Ok(without) = without.finish() {
                assert_ne!(whole(&without), ways[0], "{name} changes nothing");
            }
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_password_is_never_printed() {
        let config = read(&[("DATABASE", "postgres://flowyte:hunter2@localhost/flowyte")]).unwrap();
        assert!(whole(&config).contains("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn every_value_that_is_wrong_is_named_with_its_place() {
        for setting in settings() {
            // A NUL is in no address, number, word or host; files and names may hold anything.
            let wrong =
                if matches!(setting.value().as_str(), "FILE" | "FOLDER" | "NAME") { "" } else { "\0" };
            let variable = format!("FLOWYTE_{}", setting.name.to_uppercase());
            let mut given = Given::default();
            given.variables([(variable.clone().into(), wrong.into())].into_iter());
            let problems = given.finish().err().unwrap_or_default();
            assert!(problems.iter().any(|it| it.starts_with(&format!("{variable}: must "))), "{problems:?}");
        }
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (typed, meant) in [
            ("LISTENS", Some("listen")),
            ("LISTNE", Some("listen")),
            ("PUBLICURL", Some("public_url")),
            ("ORGANISATION_RPM", Some("organization_rpm")),
            ("MAX", Some("max_body_bytes")),
            ("NONSENSE", None),
        ] {
            let problems = read(&[(typed, "1")]).err().unwrap();
            let meant = meant.map(|it| format!("; did you mean {it}?")).unwrap_or_default();
            assert_eq!(problems, [format!("unknown variable FLOWYTE_{typed}{meant}")]);
        }
        assert!(read(&[("STRANGER_RPM", "5")]).is_ok(), "its former name");
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
