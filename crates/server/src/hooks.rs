//! What other services tell us. Each has a path of its own outside the API, and its signature is its only credential.

use crate::answer::Answer;
use crate::app::App;
use crate::meter::neighbourhood;
use crate::problem::{Code, Outcome, Problem};
use flowyte_core::Environment;
use flowyte_platform::billing::Billing;
use flowyte_platform::payment::NoticeRefused;
use http::Method;
use http::request::Parts;
use hyper::body::Incoming;
use std::net::IpAddr;

/// Where the payment service sends its notices.
pub const PAYMENTS: &str = "/hooks/payments";
/// Longer than any notice.
const LONGEST: usize = 256 << 10;

/// A notice of the payment service. Telling the same twice books once.
pub async fn payments(app: &App, parts: &Parts, body: Incoming, address: IpAddr) -> Outcome<Answer> {
    if parts.method != Method::POST {
        return Err(Problem::new(Code::MethodNotAllowed, "This path takes POST.").allow("POST".into()));
    }
    let bytes = app.bodies.room(None, address, &parts.headers)?.read(body, LONGEST).await?;
    let mut sent = parts.headers.get_all("stripe-signature").iter();
    let signature = match (sent.next(), sent.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    };
    let now = app.now();
    let notice = match app.payments.of(Environment::Live).notice(signature, &bytes, now) {
        Ok(notice) => notice,
        Err(NoticeRefused::NotSent) => return Err(Problem::not_found()),
        Err(why) => {
            // Guessing is metered like any other invalid credential.
            app.strangers.take(neighbourhood(address), app.pulse()).map_err(Problem::limited)?;
            return Err(Problem::new(Code::MalformedRequest, format!("The notification is refused: {why}.")));
        }
    };
    if let Some(notice) = notice {
        Billing { store: &*app.store, payments: &app.payments }.hear(&notice, now).await?;
    }
    Ok(Answer::nothing())
}
