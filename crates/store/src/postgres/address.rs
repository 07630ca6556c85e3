//! Where PostgreSQL is, and how a connection to it is protected, as an operator writes it:
//! `postgres://user:password@host:port/name?sslmode=verify-full`. What stands in the query is named as in libpq's connection strings
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>) and replaces what stands before it.

use super::connection::PATIENCE;
use crate::DatabaseError;
use percent_encoding::percent_decode_str;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_tokio_postgres::{MakeRustlsConnect, config_no_verify};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Socket};
use url::Url;

/// The general form, where nothing more precise can be said.
const FORM: &str = "the database URL is not postgres://user:password@host/name";

/// Where the database is, and how a connection is protected.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
}

/// Rustls, also asked about sockets of the file system, which have no host name and need no TLS.
#[derive(Clone)]
pub(crate) struct Tls(MakeRustlsConnect);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let host = if host.is_empty() { "localhost" } else { host };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, host)
    }
}

/// What of the server's certificate is verified: libpq's `sslmode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verify {
    Nothing,
    /// An authority that is trusted signed it.
    Authority,
    /// The same, and it is the host's.
    Full,
}

impl Address {
    /// Reads a URL. `settings`: of the server, for each connection. The error is for the operator, and does not hold the password.
    pub(crate) fn parse(url: &str, settings: &[(&str, &str)]) -> Result<Self, String> {
        let mut parameters = parameters(url).ok_or(FORM)?;
        let options: String = settings.iter().map(|(name, value)| format!("-c {name}={value} ")).collect();
        // What the operator says comes later, and so is stronger.
        let given = parameters.remove("options").unwrap_or_default();
        parameters.insert("options".into(), options + &given);
        let tls = protection(&mut parameters)?;
        let text: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        let mut config = Config::from_str(&text.join(" ")).map_err(|error| {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            format!("the database URL: {}", reason.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_user().is_none() || config.get_hosts().is_empty() {
            return Err(FORM.into());
        }
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(10));
        }
        config.keepalives_idle(Duration::from_secs(30));
        config.application_name("flowyte");
        Ok(Self { config, tls: Tls(MakeRustlsConnect::new(tls)) })
    }

    /// A connection of its own. It ends when the client is dropped.
    pub(crate) async fn connect(&self) -> Result<Client, DatabaseError> {
        // A server that accepts and then says nothing would be waited for without an end.
        let connecting = timeout(PATIENCE, self.config.connect(self.tls.clone())).await;
        let (client, connection) = connecting.map_err(|_| DatabaseError::Away)??;
        tokio::spawn(async move {
            // Whoever uses it is told of its end.
            let _ = connection.await;
        });
        Ok(client)
    }
}

/// What a URL says, by libpq's names.
fn parameters(url: &str) -> Option<BTreeMap<String, String>> {
    let url = Url::parse(url).ok().filter(|it| matches!(it.scheme(), "postgres" | "postgresql"))?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
    let mut parameters = BTreeMap::new();
    let mut insert = |name: &str, value: &str| {
        if !value.is_empty() {
            parameters.insert(name.to_owned(), decoded(value)?);
        }
        Some(())
    };
    insert("user", url.username())?;
    insert("password", url.password().unwrap_or_default())?;
    insert("host", url.host_str().unwrap_or_default().trim_matches(['[', ']']))?;
    insert("port", &url.port().map(|port| port.to_string()).unwrap_or_default())?;
    insert("dbname", url.path().trim_start_matches('/'))?;
    for (name, value) in url.query_pairs() {
        parameters.insert(name.into_owned(), value.into_owned());
    }
    Some(parameters)
}

/// A value as connection strings quote it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Takes what is said of TLS out of the parameters, but for whether there is any.
fn protection(parameters: &mut BTreeMap<String, String>) -> Result<ClientConfig, String> {
    let mut take = |name: &str| parameters.remove(name);
    let (mode, root) = (take("sslmode"), take("sslrootcert"));
    let (certificate, key) = (take("sslcert"), take("sslkey"));
    let mode = mode.as_deref().unwrap_or("prefer");
    let (mode, verify) = match mode {
        "disable" => ("disable", Verify::Nothing),
        "allow" | "prefer" => ("prefer", Verify::Nothing),
        // As libpq does: whoever names an authority wants it asked.
        "require" if root.is_some() => ("require", Verify::Authority),
        "require" => ("require", Verify::Nothing),
        "verify-ca" => ("require", Verify::Authority),
        "verify-full" => ("require", Verify::Full),
        other => {
            return Err(format!(
                "the database URL: sslmode is disable, prefer, require, verify-ca or verify-full, not {other:?}"
            ));
        }
    };
    parameters.insert("sslmode".into(), mode.into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if verify == Verify::Nothing && certificate.is_none() {
        return Ok(config_no_verify());
    }
    let verifier: Arc<dyn ServerCertVerifier> = match verify {
        Verify::Nothing => Arc::new(Lenient { inner: None, provider }),
        Verify::Authority => {
            Arc::new(Lenient { inner: Some(verifier(root.as_deref(), &provider)?), provider })
        }
        Verify::Full => verifier(root.as_deref(), &provider)?,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match (certificate, key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(&certificate)?;
            let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| format!("{key}: {error}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("{certificate}: {error}"))
        }
        _ => Err("the database URL: sslcert and sslkey are given together".into()),
    }
}

/// Verifies against the authorities of a file, or those that the system trusts.
fn verifier(root: Option<&str>, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    match root {
        None | Some("system") => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{file}: {error}"))?;
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| format!("no certificate authority is trusted ({error}): name one with sslrootcert"))
}

/// The certificates of a PEM file, of which there is one at least.
fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read =
        CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(format!("{file}: there is no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

/// Verifies less than everything: who signed the certificate but not whose it is, or, without `inner`, only that the server has its key.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        status: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(certificate, intermediates, name, status, now) {
            // Asked last of all, when everything else is found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn parse(url: &str) -> Result<Config, String> {
        Address::parse(url, &[("lock_timeout", "3000")]).map(|it| it.config)
    }

    #[test]
    fn a_url_says_where_and_how() {
        let config =
            parse("postgres://ada:p%40ss%27w%5C@db.example:6000/flow%20yte?sslmode=require").unwrap();
        assert_eq!(config.get_user(), Some("ada"));
        assert_eq!(config.get_password(), Some(&b"p@ss'w\\"[..]));
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!(config.get_ports(), [6000]);
        assert_eq!(config.get_dbname(), Some("flow yte"));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.get_options(), Some("-c lock_timeout=3000 "));
        let config = parse("postgresql://ada@[::1]/x").unwrap();
        assert_eq!(config.get_hosts(), [Host::Tcp("::1".into())]);
        assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
    }

    #[test]
    fn the_query_replaces_what_stands_before_it() {
        let config = parse("postgres://ada@localhost/x?host=/run/a%20b&options=-c%20geqo%3Doff").unwrap();
        assert_eq!(config.get_hosts(), [Host::Unix(PathBuf::from("/run/a b"))]);
        assert_eq!(config.get_options(), Some("-c lock_timeout=3000 -c geqo=off"));
    }

    #[test]
    fn what_can_not_be_is_said() {
        let refused = |url: &str| parse(url).unwrap_err();
        for url in ["", "x", "mysql://ada@h/x", "postgres://h/x", "postgres:///x", "postgres://a:b@h:p/x"] {
            assert_eq!(refused(url), FORM, "{url}");
        }
        assert!(refused("postgres://a:secret@h/x?sslmode=strict").contains("not \"strict\""));
        let unknown = refused("postgres://a:secret@h/x?frobnicate=1");
        assert!(unknown.contains("frobnicate") && !unknown.contains("secret"), "{unknown}");
        assert!(
            refused("postgres://a@h/x?sslmode=verify-full&sslrootcert=/nowhere").starts_with("/nowhere: ")
        );
        assert!(refused("postgres://a@h/x?sslcert=/nowhere").contains("sslkey"));
    }
}
