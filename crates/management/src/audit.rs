//! The organization's audit trail.

use crate::Call;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::Outcome;
use flowyte_store::AuditEvent;
use flowyte_store::audit::AuditFilter;
use serde_json::{Value, json};

/// A position in the chain as a cursor carries it.
fn position(sequence: i64) -> [u8; 16] {
    i128::from(sequence).to_be_bytes()
}

fn render(event: &AuditEvent) -> Value {
    let details: Value = serde_json::from_str(&event.details).unwrap_or_default();
    json!({
        "id": event.id.to_string(),
        "sequence": event.sequence,
        "at": instant(event.at),
        "actor": {"kind": event.actor_kind, "id": event.actor_id, "name": event.actor_name},
        "action": event.action,
        "target": {"kind": event.target_kind, "id": event.target_id, "name": event.target_name},
        "details": details,
        "address": event.address,
        "hash": hex::encode(event.hash),
    })
}

/// `listAuditEvents`: newest first, those that fit the search.
pub async fn list(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let text = |name| call.query.get(name).map(str::to_owned);
    let filter = AuditFilter {
        actor: text("actor"),
        action: text("action"),
        target: text("target"),
        from: call.query_instant("from")?,
        to: call.query_instant("to")?,
    };
    let before = page.before.map(|it| i128::from_be_bytes(it) as i64);
    let rows = call.store().audit_events(call.organization()?, &filter, before, page.limit).await?;
    call.list(page, rows, |event| position(event.sequence), render)
}

/// `verifyAuditEvents`: recomputes it, and holds it against its kept head.
pub async fn verify(call: Call) -> Outcome<Answer> {
    let full = call.query.get("full") == Some("true");
    let heads = &call.state.heads;
    let found = heads.verify(call.store(), call.organization()?, full, call.now).await?;
    Ok(Answer::data(json!({
        "events": found.report.events,
        "intact": found.is_intact(),
        "brokenAt": found.report.broken_at,
        "head": found.report.head.map(|it| hex::encode(it.hash)),
        "walkedFrom": found.report.walked_from,
        "keptHead": found.head.as_str(),
    })))
}
