//! What we use of Stripe: customers, payment intents, idempotency keys, signed notices.

use super::{Request, serve};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub const KEY: &str = "sk_test_of_the_tests";
pub const WEBHOOK_SECRET: &str = "whsec_of_the_tests";

/// How it answers the next payment intents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Takes the payment and answers nothing useful.
    TakesAndFails,
    /// 503.
    Away,
    /// The card is declined.
    Declines,
    /// The bank takes its time with a payment that is made at once.
    Waits,
    /// The bank wants something of a payer who is not there.
    Asks,
}

#[derive(Default)]
pub struct State {
    pub mood: Mood,
    /// Answers by Idempotency-Key.
    answered: BTreeMap<String, (u16, Value)>,
    /// By id.
    pub intents: BTreeMap<String, Value>,
    pub customers: usize,
}

pub struct Stripe {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

impl Stripe {
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let inner = state.clone();
        let url = serve(move |request| {
            let (status, body) = answer(&mut inner.lock().unwrap(), request);
            (status, body.to_string())
        });
        Self { url, state }
    }

    pub fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The payer completes a payment; the notice of it, with its signature made at that second.
    pub fn complete(&self, intent: &str, at: i64) -> (String, String) {
        let mut state = self.state.lock().unwrap();
        let object = state.intents.get_mut(intent).unwrap();
        object["status"] = "succeeded".into();
        object["amount_received"] = object["amount"].clone();
        object["payment_method"] = "pm_of_the_tests".into();
        notice("payment_intent.succeeded", object, at)
    }
}

/// A notice and its `Stripe-Signature`.
pub fn notice(kind: &str, object: &Value, at: i64) -> (String, String) {
    let body =
        json!({"id": "evt_1", "object": "event", "type": kind, "data": {"object": object}}).to_string();
    (body.clone(), sign(WEBHOOK_SECRET, &body, at))
}

pub fn sign(secret: &str, body: &str, at: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

fn answer(state: &mut State, request: &Request) -> (u16, Value) {
    if request.header("authorization") != format!("Bearer {KEY}") {
        return (401, json!({"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}));
    }
    assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
    if state.mood == Mood::Away {
        return (503, json!({"error": {"type": "api_error"}}));
    }
    let key = request.header("idempotency-key").to_owned();
    assert!(!key.is_empty());
    let form = request.form();
    if let Some((status, body)) = state.answered.get(&key) {
        return (*status, body.clone());
    }
    let (status, body) = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v1/customers") => {
            state.customers += 1;
            (200, json!({"id": format!("cus_{}", state.customers), "object": "customer"}))
        }
        ("POST", "/v1/payment_intents") if state.mood == Mood::Declines => (
            402,
            json!({"error": {"type": "card_error", "code": "card_declined", "message": "Your card was declined."}}),
        ),
        ("POST", "/v1/payment_intents") => {
            let at_once = form.get("confirm").is_some_and(|it| it == "true");
            if at_once {
                assert_eq!(
                    (form["off_session"].as_str(), form["payment_method"].as_str()),
                    ("true", "pm_of_the_tests")
                );
            } else {
                assert_eq!(form["setup_future_usage"], "off_session");
            }
            let id = format!("pi_{}", state.intents.len() + 1);
            let intent = json!({
                "id": id,
                "object": "payment_intent",
                "amount": form["amount"].parse::<i64>().unwrap(),
                "amount_received": if at_once { form["amount"].parse::<i64>().unwrap() } else { 0 },
                "currency": form["currency"],
                "customer": form["customer"],
                "payment_method": form.get("payment_method"),
                "client_secret": format!("{id}_secret_x"),
                "status": match (at_once, state.mood) {
                    (false, _) => "requires_payment_method",
                    (true, Mood::Waits) => "processing",
                    (true, Mood::Asks) => "requires_action",
                    (true, _) => "succeeded",
                },
                "metadata": {"topUpId": form["metadata[topUpId]"], "organizationId": form["metadata[organizationId]"]},
            });
            state.intents.insert(id, intent.clone());
            (200, intent)
        }
        _ => (404, json!({"error": {"type": "invalid_request_error"}})),
    };
    state.answered.insert(key, (status, body.clone()));
    match state.mood {
        Mood::TakesAndFails => (500, json!({"error": {"type": "api_error"}})),
        _ => (status, body),
    }
}
