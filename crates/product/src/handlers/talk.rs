//! A token for a conversation over a WebSocket; `realtime.rs` is where it is used.

use crate::Call;
use crate::handlers::simulate::config;
use crate::realtime;
use crate::talks::{LIFE, Talk, Talks};
use flowyte_core::{CredentialKind, Environment};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::Outcome;
use flowyte_http::problem::or_internal;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    #[serde(default)]
    draft_mode: bool,
}

/// A token that opens one connection within a minute.
pub async fn mint(call: Call) -> Outcome<Answer> {
    let body: Ask = call.read()?;
    let (organization, agent) = (call.organization()?, call.id("agentId")?);
    config(&call, organization, agent, body.draft_mode).await?;
    let talk = Talk {
        organization,
        agent,
        conversation: call.verifier.id(call.now)?,
        draft: body.draft_mode,
        environment: call.caller()?.environment(),
        minted_by: or_internal(call.warrant.digest().copied(), "a caller has no digest")?,
        asked: call.warrant.asked().to_text(),
    };
    let (secret, stored) = call.verifier.secret(CredentialKind::OneTime, Environment::Live)?;
    Talks(call.store()).mint(&talk, stored.digest, call.now).await?;
    Ok(Answer::data(json!({
        "realtimeUrl": realtime::url(&call.verifier.public_url),
        "token": secret.expose(),
        "room": talk.room(),
        "expiresAt": instant(call.now.plus(LIFE)),
    })))
}
