//! Where money comes from: a sandbox that makes it up and says so, or a service that speaks Stripe's API.

use crate::id::TopUpId;
use crate::services::counted;
use async_trait::async_trait;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::time::SECOND;
use flowyte_core::{Environment, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a payment service may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far the clock of a notice may be from ours.
const TOLERANCE: i64 = 300 * SECOND;

/// A payment that is to be made.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Which; asking twice under one id pays once.
    pub id: TopUpId,
    /// The organization whose wallet gets it.
    pub organization: OrganizationId,
    /// How much, in US cents.
    pub credits: i64,
    /// The payer, as the provider knows them.
    pub customer: Option<String>,
    /// What the payer agreed to pay with when they are not there.
    pub method: Option<String>,
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Waits for the payer or the bank.
    Pending,
    /// The money was paid, and can be booked.
    Succeeded,
    /// A try failed; its payer may try again, where there is one.
    Declined,
    /// The payment has ended without money, and can't succeed any more.
    Failed,
}

/// A payment as the provider has it.
#[derive(Clone, Debug)]
pub struct Intent {
    /// What the payment service calls it.
    pub id: String,
    /// What the payer's browser completes it with.
    pub client_secret: Option<String>,
    /// How far the payment is.
    pub progress: Progress,
}

/// What a provider tells by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Our id of the payment, which was sent along.
    pub payment: TopUpId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// What the payment service calls it.
    pub intent: String,
    /// What became of the payment.
    pub progress: Progress,
    /// How much came, in US cents.
    pub credits: i64,
    /// Who pays, as the service calls them: automatic payments go by it.
    pub customer: Option<String>,
    /// What they paid with, as the service calls it: automatic payments use it again.
    pub method: Option<String>,
}

/// Why a payment could not be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// The provider will not; asking again changes nothing.
    #[error("the payment was refused: {0}")]
    Refused(String),
    /// The provider is away, busy or does not know us; asking again may help.
    #[error("the payment provider can't be reached: {0}")]
    Away(String),
}

/// Why a notice is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeRefused {
    /// The provider sends no notices, so whatever comes in its name is refused.
    #[error("this provider sends no notifications")]
    NotSent,
    /// The signature is missing, malformed or another's.
    #[error("the signature does not verify")]
    Signature,
    /// It was signed too long ago, or by a clock that is ahead.
    #[error("the notice is older than five minutes")]
    Stale,
    /// It is signed and can't be read.
    #[error("the notice can't be read")]
    Unreadable,
}

/// Moves money from a payer to the operator.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    /// Its name in answers and rows.
    fn name(&self) -> &'static str;

    /// Whether a payer must have paid once before it pays by itself.
    fn needs_method(&self) -> bool;

    /// The payer behind an organization, made at the first call. `None` where the provider has no such thing.
    async fn customer(&self, organization: OrganizationId) -> Result<Option<String>, PaymentError>;

    /// Asks for a payment. With a method it is made at once; without one the payer completes it.
    async fn pay(&self, payment: &Payment) -> Result<Intent, PaymentError>;

    /// Reads what the provider sent; `None` where it is about something else.
    fn notice(
        &self,
        signature: Option<&str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<Notice>, NoticeRefused>;
}

/// Makes money up. Every payment succeeds at once and none is real.
pub struct Sandbox;

#[async_trait]
impl PaymentProvider for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn needs_method(&self) -> bool {
        false
    }

    async fn customer(&self, _: OrganizationId) -> Result<Option<String>, PaymentError> {
        Ok(None)
    }

    async fn pay(&self, payment: &Payment) -> Result<Intent, PaymentError> {
        let id = format!("sandbox_{}", payment.id);
        let client_secret = Some(format!("{id}_secret_of_a_sandbox"));
        Ok(Intent { id, client_secret, progress: Progress::Succeeded })
    }

    fn notice(&self, _: Option<&str>, _: &[u8], _: Timestamp) -> Result<Option<Notice>, NoticeRefused> {
        Err(NoticeRefused::NotSent)
    }
}

/// Where a service that speaks Stripe's API is, and what opens it.
pub struct StripeSettings {
    /// `https://api.stripe.com`, or another that speaks the same.
    pub url: String,
    /// What opens the payment service. Never printed.
    pub key: Zeroizing<String>,
    /// What notices are signed with.
    pub webhook_secret: Zeroizing<String>,
}

/// A service that speaks Stripe's API: customers and payment intents.
pub struct Stripe {
    settings: StripeSettings,
    client: Client,
}

#[derive(Deserialize)]
struct Customer {
    id: String,
}

#[derive(Deserialize)]
struct PaymentIntent {
    id: String,
    status: String,
    client_secret: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    object: Value,
}

#[derive(Deserialize)]
struct Paid {
    id: String,
    #[serde(default)]
    amount_received: i64,
    currency: String,
    customer: Option<String>,
    payment_method: Option<String>,
}

impl Stripe {
    /// A client of that service.
    pub fn new(settings: StripeSettings) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("flowyte")
            .build()?;
        Ok(Self { settings, client })
    }

    fn request(&self, path: &str, idempotency_key: &str) -> RequestBuilder {
        self.client
            .request(Method::POST, format!("{}{path}", self.settings.url))
            .bearer_auth(&*self.settings.key)
            .header("Idempotency-Key", idempotency_key)
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, PaymentError> {
        counted("payment", Self::answer(request)).await
    }

    async fn answer<T: serde::de::DeserializeOwned>(request: RequestBuilder) -> Result<T, PaymentError> {
        // The text of an error may name the address that was asked, never the key.
        let away = |error: reqwest::Error| PaymentError::Away(error.without_url().to_string());
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let body = response.bytes().await.map_err(away)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| PaymentError::Away(format!("its answer can't be read: {error}")));
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
        match status {
            // A card that is declined, or a request that is wrong, stays so.
            StatusCode::PAYMENT_REQUIRED | StatusCode::BAD_REQUEST => {
                Err(PaymentError::Refused(format!("{} {}", said("code"), said("message")).trim().to_owned()))
            }
            _ => Err(PaymentError::Away(format!("it answers {status} {}", said("type")).trim().to_owned())),
        }
    }
}

#[async_trait]
impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn needs_method(&self) -> bool {
        true
    }

    async fn customer(&self, organization: OrganizationId) -> Result<Option<String>, PaymentError> {
        let request = self.request("/v1/customers", &format!("customer-{organization}"));
        let form = [("metadata[organizationId]", organization.to_string())];
        let customer: Customer = self.ask(request.form(&form)).await?;
        Ok(Some(customer.id))
    }

    async fn pay(&self, payment: &Payment) -> Result<Intent, PaymentError> {
        let mut form = vec![
            ("amount", payment.credits.to_string()),
            ("currency", "usd".to_owned()),
            ("metadata[topUpId]", payment.id.to_string()),
            ("metadata[organizationId]", payment.organization.to_string()),
        ];
        form.extend(payment.customer.clone().map(|it| ("customer", it)));
        match payment.method.clone() {
            Some(method) => {
                form.push(("payment_method", method));
                form.push(("off_session", "true".into()));
                form.push(("confirm", "true".into()));
            }
            None => {
                form.push(("automatic_payment_methods[enabled]", "true".into()));
                // So that auto-reload can pay with it later.
                form.push(("setup_future_usage", "off_session".into()));
            }
        }
        let request = self.request("/v1/payment_intents", &payment.id.to_string());
        let intent: PaymentIntent = self.ask(request.form(&form)).await?;
        let progress = match intent.status.as_str() {
            "succeeded" => Progress::Succeeded,
            "canceled" => Progress::Failed,
            // Something is wanted of the payer: of one who is not there it comes never.
            "requires_payment_method" | "requires_action" | "requires_confirmation"
                if payment.method.is_some() =>
            {
                Progress::Declined
            }
            _ => Progress::Pending,
        };
        Ok(Intent { id: intent.id, client_secret: intent.client_secret, progress })
    }

    fn notice(
        &self,
        signature: Option<&str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<Notice>, NoticeRefused> {
        verify(&self.settings.webhook_secret, signature.unwrap_or_default(), body, now)?;
        let event: Event = serde_json::from_slice(body).map_err(|_| NoticeRefused::Unreadable)?;
        let progress = match event.r#type.as_str() {
            "payment_intent.succeeded" => Progress::Succeeded,
            "payment_intent.canceled" => Progress::Failed,
            "payment_intent.payment_failed" => Progress::Declined,
            _ => return Ok(None),
        };
        let metadata = &event.data.object["metadata"];
        let (Some(payment), Some(organization)) = (
            metadata["topUpId"].as_str().and_then(TopUpId::parse),
            metadata["organizationId"].as_str().and_then(OrganizationId::parse),
        ) else {
            return Ok(None); // Of another system that shares the account.
        };
        let paid: Paid = serde_json::from_value(event.data.object).map_err(|_| NoticeRefused::Unreadable)?;
        if paid.currency != "usd" || paid.amount_received < 0 {
            return Err(NoticeRefused::Unreadable);
        }
        Ok(Some(Notice {
            payment,
            organization,
            intent: paid.id,
            progress,
            credits: paid.amount_received,
            customer: paid.customer,
            method: paid.payment_method,
        }))
    }
}

/// Checks `Stripe-Signature`: `t=` the second it was made at, and among any number of `v1=` one HMAC-SHA-256 over
/// `t`, a dot and the body, in hex.
fn verify(secret: &str, header: &str, body: &[u8], now: Timestamp) -> Result<(), NoticeRefused> {
    let mut at = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", text)) if at.is_none() => at = Some(text),
            Some(("t", _)) => return Err(NoticeRefused::Signature),
            Some(("v1", text)) => signatures.push(text),
            _ => {}
        }
    }
    let text = at.ok_or(NoticeRefused::Signature)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| NoticeRefused::Signature)?;
    mac.update(text.as_bytes());
    mac.update(b".");
    mac.update(body);
    let signed = signatures
        .iter()
        .filter_map(|it| hex::decode(it).ok())
        .any(|signature| mac.clone().verify_slice(&signature).is_ok()); // In constant time.
    if !signed {
        return Err(NoticeRefused::Signature);
    }
    let seconds: i64 = text.parse().map_err(|_| NoticeRefused::Signature)?;
    let made = Timestamp::from_micros(seconds.saturating_mul(SECOND));
    if now.since(made).saturating_abs() > TOLERANCE { Err(NoticeRefused::Stale) } else { Ok(()) }
}

/// Who takes payments in each environment: real ones are never asked for by a test credential.
pub struct Payments {
    live: Box<dyn PaymentProvider>,
    test: Sandbox,
}

impl Payments {
    /// `live` takes what live credentials pay.
    pub fn new(live: Box<dyn PaymentProvider>) -> Self {
        Self { live, test: Sandbox }
    }

    /// The provider of an environment.
    pub fn of(&self, environment: Environment) -> &dyn PaymentProvider {
        match environment {
            Environment::Live => &*self.live,
            Environment::Test => &self.test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_790_000_000 * SECOND);
    const BODY: &[u8] = br#"{"type":"payment_intent.succeeded"}"#;

    fn sign(secret: &str, at: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok().unwrap();
        mac.update(format!("{at}.").as_bytes());
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    #[test]
    fn a_notice_is_believed_only_signed_and_fresh() {
        let at = 1_790_000_000;
        let good = sign("whsec", at, BODY);
        let check = |header: String, body: &[u8]| verify("whsec", &header, body, NOW);
        assert_eq!(check(format!("t={at},v1={good}"), BODY), Ok(()));
        assert_eq!(check(format!("t={at}, v0=00, v1={}, v1={good}", "0".repeat(64)), BODY), Ok(()));
        for wrong in [
            String::new(),
            format!("v1={good}"),
            format!("t={at}"),
            format!("t={at},v0={good}"),
            format!("t={at},v1={}", &good[..62]),
            format!("t={at},v1={}", sign("other", at, BODY)),
            format!("t={},v1={good}", at + 1),
            format!("t={at},t={at},v1={good}"),
            format!("t=x,v1={good}"),
        ] {
            assert_eq!(check(wrong.clone(), BODY), Err(NoticeRefused::Signature), "{wrong}");
        }
        assert_eq!(check(format!("t={at},v1={good}"), b"{}"), Err(NoticeRefused::Signature));
        for (moved, answer) in [
            (300, Ok(())),
            (-300, Ok(())),
            (301, Err(NoticeRefused::Stale)),
            (-301, Err(NoticeRefused::Stale)),
        ] {
            let then = at - moved;
            let header = format!("t={then},v1={}", sign("whsec", then, BODY));
            assert_eq!(check(header, BODY), answer, "{moved}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_believed_by_chance(header in "\\PC{0,200}", body: Vec<u8>) {
            proptest::prop_assert_eq!(verify("whsec", &header, &body, NOW), Err(NoticeRefused::Signature));
        }
    }
}
