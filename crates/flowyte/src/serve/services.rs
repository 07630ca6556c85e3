//! Who does outside work for the product: opened as the configuration says.

use anyhow::{Context, bail};
use flowyte_product::Services;
use flowyte_product::answerer::{Answerers, Embedded};
use flowyte_product::carrier::{self, Carriers, Twilio, TwilioSettings};
use flowyte_product::model::{self, Model};
use flowyte_product::payment::{self, Payments, Stripe, StripeSettings};
use flowyte_product::settings::{Carrier, Payment, Product};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Opens every service that the settings name; reads the files with their secrets.
pub fn open(config: &Product) -> anyhow::Result<Services> {
    Ok(Services {
        payments: open_payments(config)?,
        carriers: open_carriers(config)?,
        answerers: open_answerers(config)?,
        outbound_allow: config.outbound_allow.clone(),
        charges_trials: config.model.is_some(),
    })
}

/// What one file holds: a secret on one line, for this user's eyes alone.
fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let name = path.display();
    let mode = fs::metadata(path).with_context(|| format!("{name} can't be read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{name} can be read by others; run: chmod 600 {name}");
    }
    let text = Zeroizing::new(fs::read_to_string(path).with_context(|| format!("{name} can't be read"))?);
    let secret = Zeroizing::new(text.trim().to_owned());
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{name} must hold one secret, without spaces");
    }
    Ok(secret)
}

/// The payment service, or the sandbox.
fn open_payments(config: &Product) -> anyhow::Result<Payments> {
    Ok(match &config.payment {
        Payment::Sandbox => Payments::new(Box::new(payment::Sandbox)),
        Payment::Stripe { url, key_file, webhook_secret_file } => {
            let settings = StripeSettings {
                url: url.clone(),
                key: read_secret(key_file)?,
                webhook_secret: read_secret(webhook_secret_file)?,
            };
            Payments::new(Box::new(Stripe::new(settings).context("the payment service can't be used")?))
        }
    })
}

/// The carrier, or the sandbox.
fn open_carriers(config: &Product) -> anyhow::Result<Carriers> {
    Ok(match &config.carrier {
        Carrier::Sandbox => Carriers::new(Box::new(carrier::Sandbox)),
        Carrier::Twilio { url, account, token_file } => {
            if config.payment == Payment::Sandbox {
                tracing::warn!(
                    "payments are a sandbox and the carrier is real: numbers that cost real money are paid with invented money"
                );
            }
            let token = read_secret(token_file)?;
            let settings = TwilioSettings { url: url.clone(), account: account.clone(), token };
            Carriers::new(Box::new(Twilio::new(settings).context("the carrier can't be used")?))
        }
    })
}

/// The model, or the embedded answerer.
fn open_answerers(config: &Product) -> anyhow::Result<Answerers> {
    let Some(model) = &config.model else { return Ok(Answerers::new(Box::new(Embedded))) };
    let settings = model::Settings {
        url: model.url.clone(),
        name: model.name.clone(),
        key: model.key_file.as_deref().map(read_secret).transpose()?,
        overall: Duration::from_secs(model.timeout_seconds.into()),
        idle: Duration::from_secs(model.idle_seconds.into()),
    };
    Ok(Answerers::new(Box::new(Model::new(settings).context("the model can't be used")?)))
}
