//! The widget's configuration, its snippet, and what it needs to start.

use crate::Call;
use crate::agents::Agents;
use crate::answerer::greeting;
use crate::id::AgentId;
use crate::widgets::{Widget, Widgets};
use flowyte_core::id::{Id, PublishableKeyId};
use flowyte_http::answer::Answer;
use flowyte_http::problem::or_internal;
use flowyte_http::problem::{Code, Outcome, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

fn render(agent: AgentId, widget: &Widget) -> Value {
    json!({"agentId": agent.to_string(), "theme": widget.theme, "copy": widget.copy, "behavior": widget.behavior})
}

/// `getWidget`: how the widget of an agent looks.
pub async fn get(call: Call) -> Outcome<Answer> {
    let agent: AgentId = call.id("agentId")?;
    Ok(Answer::data(render(agent, &Widgets(call.store()).find(call.organization()?, agent).await?)))
}

#[derive(Deserialize)]
struct Replace {
    theme: Value,
    copy: Value,
    behavior: Value,
}

/// `replaceWidget`: sets how it looks, the whole of it.
pub async fn replace(call: Call) -> Outcome<Answer> {
    let agent: AgentId = call.id("agentId")?;
    let Replace { theme, copy, behavior } = call.read()?;
    let widget = Widget { theme, copy, behavior };
    Widgets(call.store()).replace(call.organization()?, agent, &widget, &call.by().await?).await?;
    Ok(Answer::data(render(agent, &widget)))
}

/// The line that embeds the widget in a page.
pub async fn embed(call: Call) -> Outcome<Answer> {
    let key = match call.query.get("publishableKeyId") {
        None => None,
        Some(text) => Some(PublishableKeyId::parse(text).ok_or_else(Problem::not_found)?),
    };
    let row = call.store().find_publishable_key(call.organization()?, call.id("agentId")?, key).await?;
    if row.revoked_at.is_some() {
        return Err(Problem::new(Code::Conflict, "The key is revoked; embed another."));
    }
    let url = &call.verifier.public_url;
    let snippet = format!(
        "<script src=\"{url}/widget/loader.js\" data-flowyte-key=\"{}\" async></script>",
        row.key_public
    );
    Ok(Answer::data(json!({"scriptSnippet": snippet, "publishableKey": row.key_public})))
}

/// What the widget shows before anybody says a word.
pub async fn bootstrap(call: Call) -> Outcome<Answer> {
    let organization = call.organization()?;
    let agent = or_internal(call.caller()?.pinned(), "a publishable key has no agent")?;
    let key = PublishableKeyId::from_bytes(call.caller()?.credential());
    let key = call.store().publishable_key_of(organization, key).await?;
    let (row, published) = Agents(call.store()).live(organization, agent).await?;
    let widget = Widgets(call.store()).find(organization, agent).await?;
    // A draft is nobody's business but its authors', so an agent that was never published shows its name alone.
    let meta = match &published {
        Some(version) => json!({"name": version.config["name"], "greeting": greeting(&version.config)}),
        None => json!({"name": row.name, "greeting": ""}),
    };
    Ok(Answer::data(json!({
        "agentMeta": meta,
        "theme": widget.theme,
        "copy": widget.copy,
        "behavior": widget.behavior,
        "published": published.is_some(),
        "identityRequired": key.require_identity,
    })))
}
