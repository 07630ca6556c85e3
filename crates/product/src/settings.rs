//! What the operator may choose of the product: whom it pays, buys from and asks.

use crate::outbound::Allowed;
use clap::{ArgAction, Args};
use flowyte_verifier::settings::{choice, list, number, path};
use std::path::PathBuf;

/// What the operator may choose of it, setting by setting; [`Settings::product`] says what it comes to.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Services of the product")]
pub struct Settings {
    /// Hosts without a public address from which pages may be fetched and to which webhooks may be sent; HOST:PORT allows one port.
    /// Default: none.
    #[arg(long, value_name = "HOST,…", default_value = "", hide_default_value = true, value_parser = hosts())]
    outbound_allow: std::vec::Vec<Allowed>,
    /// Who takes payments into wallets; in the sandbox no money moves.
    #[arg(id = "payment", long = "payment", value_name = "sandbox|stripe", default_value = "sandbox", action = ArgAction::Set, value_parser = choice([("sandbox", false), ("stripe", true)]))]
    pays_by_stripe: bool,
    /// Where the payment service is.
    #[arg(long, value_name = "URL", default_value = "https://api.stripe.com", value_parser = service_url)]
    payment_url: String,
    /// Holds the secret key of the payment service.
    #[arg(long, value_name = "FILE", value_parser = path)]
    payment_key_file: Option<PathBuf>,
    /// Holds the secret with which the payment service signs its notifications to /hooks/payments.
    #[arg(long, value_name = "FILE", value_parser = path)]
    payment_webhook_secret_file: Option<PathBuf>,
    /// Who sells telephone numbers; the sandbox has fictional ones.
    #[arg(id = "carrier", long = "carrier", value_name = "sandbox|twilio", default_value = "sandbox", action = ArgAction::Set, value_parser = choice([("sandbox", false), ("twilio", true)]))]
    buys_from_twilio: bool,
    /// Where the carrier is.
    #[arg(long, value_name = "URL", default_value = "https://api.twilio.com", value_parser = service_url)]
    carrier_url: String,
    /// The account at the carrier, with carrier = twilio.
    #[arg(long, value_name = "SID", value_parser = account)]
    carrier_account: Option<String>,
    /// Holds the token of the carrier account.
    #[arg(long, value_name = "FILE", value_parser = path)]
    carrier_token_file: Option<PathBuf>,
    /// Base URL of a service that speaks OpenAI's chat completions, like https://api.openai.com/v1; its model answers live
    /// conversations. Default: none; answers are sentences of the knowledge.
    #[arg(long, value_name = "URL", value_parser = service_url)]
    model_url: Option<String>,
    /// The name of the model at model_url.
    #[arg(long, value_name = "NAME", value_parser = name)]
    model_name: Option<String>,
    /// Holds the key of the model's service. Default: none is sent.
    #[arg(long, value_name = "FILE", value_parser = path)]
    model_key_file: Option<PathBuf>,
    /// The longest that one answer of the model may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = number::<u32>(1, 600))]
    model_timeout_seconds: u32,
    /// The longest that the model may stay silent during an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = number::<u32>(1, 600))]
    model_idle_seconds: u32,
}

/// What the settings come to.
#[derive(Clone, Debug, Default)]
pub struct Product {
    /// Hosts that outbound requests may reach although they are not public.
    pub outbound_allow: Vec<Allowed>,
    /// The service that takes payments into wallets.
    pub payment: Payment,
    /// The carrier that telephone numbers are bought from.
    pub carrier: Carrier,
    /// The model that answers live conversations.
    pub model: Option<Model>,
}

/// The service that takes payments into wallets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Payment {
    /// Nobody; they are made up.
    #[default]
    Sandbox,
    /// A service that speaks Stripe's API.
    Stripe {
        /// Where it is, without a slash at its end.
        url: String,
        /// The path of the file with the secret key of the payment service.
        key_file: PathBuf,
        /// Holds what its notices are signed with.
        webhook_secret_file: PathBuf,
    },
}

/// The carrier that telephone numbers are bought from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Carrier {
    /// Nobody; there are fictional ones.
    #[default]
    Sandbox,
    /// A service that speaks Twilio's API.
    Twilio {
        /// Where it is, without a slash at its end.
        url: String,
        /// The id (SID) of the operator's account at the carrier, `AC…`.
        account: String,
        /// The path of the file with the token of the carrier account.
        token_file: PathBuf,
    },
}

/// The endpoint and the name of a model that answers live conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Where it is, without a slash at its end.
    pub url: String,
    /// What the endpoint calls it.
    pub name: String,
    /// Holds the key of its service.
    pub key_file: Option<PathBuf>,
    /// The longest that one answer may take, in seconds.
    pub timeout_seconds: u32,
    /// The longest that it may say nothing, in seconds.
    pub idle_seconds: u32,
}

/// Settings that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discord {
    /// One was given that says nothing.
    Idle {
        /// Its name, as in a file.
        setting: &'static str,
        /// What it needs to say something.
        unless: &'static str,
    },
    /// One was not given that another needs.
    Missing {
        /// Its name, as in a file.
        setting: &'static str,
        /// What needs it, in words.
        when: &'static str,
    },
}

/// Settings that belong to another one, and to one of its values.
struct Group {
    belongs: bool,
    needed: &'static [&'static str],
    possible: &'static [&'static str],
    /// What makes them mean something, in words.
    unless: &'static str,
    when: &'static str,
}

impl Settings {
    /// What does not go together. `given`: whether a setting was given, right or wrong.
    pub fn discords(&self, given: impl Fn(&str) -> bool) -> Vec<Discord> {
        let groups = [
            Group {
                belongs: self.pays_by_stripe,
                needed: &["payment_key_file", "payment_webhook_secret_file"],
                possible: &["payment_url"],
                unless: "payment is stripe",
                when: "payment is stripe",
            },
            Group {
                belongs: self.buys_from_twilio,
                needed: &["carrier_account", "carrier_token_file"],
                possible: &["carrier_url"],
                unless: "carrier is twilio",
                when: "carrier is twilio",
            },
            Group {
                belongs: given("model_url"),
                needed: &["model_name"],
                possible: &["model_key_file", "model_timeout_seconds", "model_idle_seconds"],
                unless: "model_url is given",
                when: "model_url is",
            },
        ];
        groups.iter().flat_map(|group| group.discords(&given)).collect()
    }

    /// The settings that the product is made with: services with what belongs to them, and sandboxes where none was chosen.
    pub fn product(&self) -> Product {
        let file = |it: &Option<PathBuf>| it.clone().unwrap_or_default();
        let payment = Payment::Stripe {
            url: self.payment_url.clone(),
            key_file: file(&self.payment_key_file),
            webhook_secret_file: file(&self.payment_webhook_secret_file),
        };
        let carrier = Carrier::Twilio {
            url: self.carrier_url.clone(),
            account: self.carrier_account.clone().unwrap_or_default(),
            token_file: file(&self.carrier_token_file),
        };
        let model = self.model_url.as_ref().map(|url| Model {
            url: url.clone(),
            name: self.model_name.clone().unwrap_or_default(),
            key_file: self.model_key_file.clone(),
            timeout_seconds: self.model_timeout_seconds,
            idle_seconds: self.model_idle_seconds,
        });
        Product {
            outbound_allow: self.outbound_allow.clone(),
            payment: if self.pays_by_stripe { payment } else { Payment::Sandbox },
            carrier: if self.buys_from_twilio { carrier } else { Carrier::Sandbox },
            model,
        }
    }
}

impl Group {
    fn discords(&self, given: impl Fn(&str) -> bool) -> Vec<Discord> {
        let all = self.needed.iter().chain(self.possible);
        match self.belongs {
            true => {
                let missing = self.needed.iter().filter(|it| !given(it));
                missing.map(|setting| Discord::Missing { setting, when: self.when }).collect()
            }
            false => {
                let idle = all.filter(|it| given(it));
                idle.map(|setting| Discord::Idle { setting, unless: self.unless }).collect()
            }
        }
    }
}

fn hosts() -> impl Fn(&str) -> Result<Vec<Allowed>, String> + Clone {
    list("hosts, each with or without a port", Allowed::parse)
}

fn account(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { Ok(text.to_owned()) } else { Err("must be letters and digits".into()) }
}

fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("must not be empty".into()),
        name => Ok(name.to_owned()),
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
