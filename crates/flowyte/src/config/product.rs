//! The settings of the product: whom it pays, buys from and asks.

use super::{Given, Setting, choice, declare_settings, folder, number};
use flowyte_product::outbound::Allowed;
use std::path::PathBuf;

/// What may be set.
pub(super) const SETTINGS: &[Setting] = declare_settings! {
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
};

/// A valid configuration of the product.
#[derive(Clone, Debug)]
pub struct Product {
    /// Hosts that outbound requests may reach although they are not public.
    pub outbound_allow: Vec<Allowed>,
    /// Who takes payments.
    pub payment: Payment,
    /// Who sells telephone numbers.
    pub carrier: Carrier,
    /// The model that answers live conversations.
    pub model: Option<Model>,
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

impl Product {
    /// Takes what is the product's from what was given.
    pub(super) fn read(given: &mut Given) -> Self {
        Self {
            payment: payment(given),
            outbound_allow: given.take("outbound_allow", Vec::new(), hosts),
            model: model(given),
            carrier: carrier(given),
        }
    }
}

/// Who takes payments, with the settings that only a real service has.
fn payment(given: &mut Given) -> Payment {
    const OF_STRIPE: [&str; 3] = ["payment_url", "payment_key_file", "payment_webhook_secret_file"];
    if !given.take("payment", false, |it| choice(it, &[("sandbox", false), ("stripe", true)])) {
        given.refuse_leftovers(&OF_STRIPE, "payment is stripe");
        return Payment::Sandbox;
    }
    given.require(&OF_STRIPE[1..], "payment is stripe");
    Payment::Stripe {
        url: given.take("payment_url", "https://api.stripe.com".to_owned(), service_url),
        key_file: given.take("payment_key_file", PathBuf::new(), folder),
        webhook_secret_file: given.take("payment_webhook_secret_file", PathBuf::new(), folder),
    }
}

/// Who sells numbers, with the settings that only a real carrier has.
fn carrier(given: &mut Given) -> Carrier {
    const OF_TWILIO: [&str; 3] = ["carrier_url", "carrier_account", "carrier_token_file"];
    if !given.take("carrier", false, |it| choice(it, &[("sandbox", false), ("twilio", true)])) {
        given.refuse_leftovers(&OF_TWILIO, "carrier is twilio");
        return Carrier::Sandbox;
    }
    given.require(&OF_TWILIO[1..], "carrier is twilio");
    Carrier::Twilio {
        url: given.take("carrier_url", "https://api.twilio.com".to_owned(), service_url),
        account: given.take("carrier_account", String::new(), |it| {
            let plain = !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if plain { Ok(it.to_owned()) } else { Err("must be letters and digits".into()) }
        }),
        token_file: given.take("carrier_token_file", PathBuf::new(), folder),
    }
}

/// The model, with the settings that only it has.
fn model(given: &mut Given) -> Option<Model> {
    const OF_MODEL: [&str; 4] =
        ["model_name", "model_key_file", "model_timeout_seconds", "model_idle_seconds"];
    let Some(url) = given.take("model_url", None, |it| service_url(it).map(Some)) else {
        given.refuse_leftovers(&OF_MODEL, "model_url is given");
        return None;
    };
    given.require(&OF_MODEL[..1], "model_url is");
    Some(Model {
        url,
        name: given.take("model_name", String::new(), |it| match it.trim() {
            "" => Err("must not be empty".into()),
            name => Ok(name.to_owned()),
        }),
        key_file: given.take("model_key_file", None, |it| folder(it).map(Some)),
        timeout_seconds: given.take("model_timeout_seconds", 120, |it| number(it, 1, 600)),
        idle_seconds: given.take("model_idle_seconds", 30, |it| number(it, 1, 600)),
    })
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

fn hosts(text: &str) -> Result<Vec<Allowed>, String> {
    let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    parts
        .map(|it| {
            Allowed::parse(it)
                .ok_or_else(|| "must be hosts, each with or without a port, separated by commas".to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Product, Vec<String>> {
        let mut given = Given::default();
        given.variables(
            variables.iter().map(|(name, value)| (format!("FLOWYTE_{name}").into(), (*value).into())),
        );
        given.finish().map(|config| config.product)
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
}
