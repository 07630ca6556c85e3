//! What other services tell us. Each has a path of its own outside the API, and its signature is its only credential.

use crate::Product;
use crate::billing::Billing;
use crate::payment::NoticeRefused;
use async_trait::async_trait;
use flowyte_core::Environment;
use flowyte_http::answer::Answer;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_http::route::{Extension, Unauthorized};
use http::Method;
use std::sync::Arc;

/// Where the payment service sends its notices.
const PAYMENTS: &str = "/hooks/payments";
/// The longest body that is read, in bytes; no notice is that long.
const LONGEST: usize = 256 << 10;

/// Takes the notices of the payment service. Telling the same twice books once.
pub struct PaymentNotices(pub Arc<Product>);

#[async_trait]
impl Extension for PaymentNotices {
    fn path(&self) -> &'static str {
        PAYMENTS
    }

    async fn answer(&self, request: Unauthorized<'_>) -> Outcome<Answer> {
        let (parts, verifier) = (request.parts, &self.0.verifier);
        if parts.method != Method::POST {
            return Err(Problem::new(Code::MethodNotAllowed, "This path takes POST.").allow("POST".into()));
        }
        let bytes =
            request.bodies.room(None, request.address, &parts.headers)?.read(request.body, LONGEST).await?;
        let mut sent = parts.headers.get_all("stripe-signature").iter();
        let signature = match (sent.next(), sent.next()) {
            (Some(one), None) => one.to_str().ok(),
            _ => None,
        };
        let now = verifier.now();
        let notice = match self.0.payments.of(Environment::Live).notice(signature, &bytes, now) {
            Ok(notice) => notice,
            Err(NoticeRefused::NotSent) => return Err(Problem::not_found()),
            Err(why) => {
                // Guessing is metered like any other invalid credential.
                let charged = verifier.charge_unauthenticated(request.address);
                charged.map_err(|denial| Problem::denied(&denial, &verifier.contract, None))?;
                return Err(Problem::new(
                    Code::MalformedRequest,
                    format!("The notification is refused: {why}."),
                ));
            }
        };
        if let Some(notice) = notice {
            Billing { store: &*verifier.store, payments: &self.0.payments }.hear(&notice, now).await?;
        }
        Ok(Answer::nothing())
    }
}
