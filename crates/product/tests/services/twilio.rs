//! What we use of Twilio: available numbers, and incoming ones that are looked for, bought and deleted.

use super::{Request, serve};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "token-of-the-tests";

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Sells and answers nothing useful.
    TakesAndFails,
    /// 503.
    Away,
    /// Shows numbers and sells none.
    SoldOut,
}

#[derive(Default)]
pub struct State {
    pub mood: Mood,
    /// How long it takes before it sells, and again before it says so.
    pub pace: Duration,
    /// By number: sid and friendly name.
    pub owned: BTreeMap<String, (String, String)>,
    /// Every number that was ever sold, in order.
    pub sold: Vec<String>,
    pub deleted: usize,
    /// How many looks at the account do not show what is in it yet.
    pub blind: usize,
}

pub struct Twilio {
    pub url: String,
    pub state: Arc<Mutex<State>>,
}

impl Twilio {
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let inner = state.clone();
        let url = serve(move |request| {
            let pace = inner.lock().unwrap().pace;
            if request.method == "POST" {
                std::thread::sleep(pace);
            }
            let answered = answer(&mut inner.lock().unwrap(), request);
            if request.method == "POST" {
                std::thread::sleep(pace);
            }
            answered
        });
        Self { url, state }
    }

    pub fn mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }
}

fn error(status: u16, code: u32, message: &str) -> (u16, String) {
    (status, json!({"code": code, "message": message, "status": status}).to_string())
}

fn incoming(number: &str, (sid, name): &(String, String)) -> Value {
    json!({"sid": sid, "account_sid": ACCOUNT, "phone_number": number, "friendly_name": name})
}

fn available(number: &str) -> Value {
    json!({
        "phone_number": number,
        "friendly_name": format!("({}) {}-{}", &number[2..5], &number[5..8], &number[8..]),
        "locality": "Oakland",
        "rate_center": "OKLD",
        "region": "CA",
        "iso_country": "US",
        "capabilities": {"voice": true, "SMS": true, "MMS": false},
    })
}

fn answer(state: &mut State, request: &Request) -> (u16, String) {
    use base64::Engine;
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{ACCOUNT}:{TOKEN}"));
    if request.header("authorization") != format!("Basic {credentials}") {
        return error(401, 20003, "Authenticate");
    }
    if state.mood == Mood::Away {
        return (503, "upstream connect error".into());
    }
    let form = request.form();
    let path = request.path.split('?').next().unwrap();
    let resource = path.strip_prefix(&format!("/2010-04-01/Accounts/{ACCOUNT}/")).unwrap_or("");
    match (request.method.as_str(), resource) {
        ("GET", "AvailablePhoneNumbers/US/Local.json") => {
            let fits = |number: &String| {
                form.get("AreaCode").is_none_or(|it| number[2..].starts_with(it.as_str()))
                    && form.get("Contains").is_none_or(|it| number[2..].contains(it.as_str()))
            };
            let size: usize = form.get("PageSize").map_or(50, |it| it.parse().unwrap());
            let all = (100..200).map(|last| format!("+15105550{last}"));
            let free = all.filter(|it| !state.owned.contains_key(it) && fits(it)).take(size);
            let rows: Vec<Value> = free.map(|it| available(&it)).collect();
            (200, json!({"available_phone_numbers": rows, "uri": path}).to_string())
        }
        ("GET", "AvailablePhoneNumbers/CA/TollFree.json") => {
            (200, json!({"available_phone_numbers": [available("+18335550142")], "uri": path}).to_string())
        }
        ("GET", "IncomingPhoneNumbers.json") => {
            let wanted = &form["PhoneNumber"];
            if state.blind > 0 {
                state.blind -= 1;
                return (200, json!({"incoming_phone_numbers": [], "uri": path}).to_string());
            }
            // As with the real one, a part of a number is enough.
            let rows = state.owned.iter().filter(|(number, _)| number.contains(wanted.as_str()));
            let rows: Vec<Value> = rows.map(|(number, row)| incoming(number, row)).collect();
            (200, json!({"incoming_phone_numbers": rows, "uri": path}).to_string())
        }
        ("POST", "IncomingPhoneNumbers.json") => {
            let number = form["PhoneNumber"].clone();
            if state.mood == Mood::SoldOut || state.owned.contains_key(&number) {
                return error(400, 21422, "PhoneNumber is not available");
            }
            state.sold.push(number.clone());
            let sid = format!("PN{:032x}", state.sold.len());
            state.owned.insert(number.clone(), (sid, form["FriendlyName"].clone()));
            match state.mood {
                Mood::TakesAndFails => (500, String::new()),
                _ => (201, incoming(&number, &state.owned[&number]).to_string()),
            }
        }
        ("DELETE", one) => {
            let sid = one.strip_prefix("IncomingPhoneNumbers/").and_then(|it| it.strip_suffix(".json"));
            let found =
                state.owned.iter().find(|(_, row)| Some(row.0.as_str()) == sid).map(|(it, _)| it.clone());
            match found {
                Some(number) => {
                    state.owned.remove(&number);
                    state.deleted += 1;
                    (204, String::new())
                }
                None => error(404, 20404, "The requested resource was not found"),
            }
        }
        _ => error(404, 20404, "The requested resource was not found"),
    }
}
