//! Agents: draft, published versions, and what differs between them.

use crate::Call;
use crate::agents::{self, Agent, Agents, NotChanged, Version};
use crate::id::{AgentId, AgentVersionId};
use crate::knowledge::Knowledge;
use flowyte_core::id::Id;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Outcome, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

fn render(agent: &Agent) -> Value {
    let mut object = json!({
        "id": agent.id.to_string(),
        "organizationId": agent.organization.to_string(),
        "name": agent.name,
        "version": agent.version,
        "status": if agent.published_version.is_some() { "published" } else { "draft" },
        "isActive": agent.published_version.is_some(),
        "publishedVersionId": agent.published_version.map(|it| it.to_string()),
        "createdBy": {"id": agent.created_by.0, "name": agent.created_by.1},
        "createdAt": instant(agent.created_at),
        "updatedAt": instant(agent.updated_at),
    });
    for (field, value) in &agent.draft {
        object[field.as_str()] = value.clone();
    }
    object
}

fn render_version(version: &Version) -> Value {
    json!({
        "id": version.id.to_string(),
        "agentId": version.agent.to_string(),
        "version": version.version,
        "compiledConfig": version.config,
        "note": version.note,
        "publishedAt": instant(version.published_at),
        "publishedBy": {"id": version.published_by.0, "name": version.published_by.1},
    })
}

/// The name and the fields of a draft in a body, which the contract has checked.
fn draft(call: &Call) -> (Option<String>, Map<String, Value>) {
    let mut fields = call.body.as_object().cloned().unwrap_or_default();
    let name = fields.remove("name").and_then(|it| it.as_str().map(str::to_owned));
    (name, fields)
}

/// `listAgents`: a page of the agents that fit the filters.
pub async fn list(call: Call) -> Outcome<Answer> {
    let published = call.query.get("status").map(|it| it == "published");
    let (organization, window) = (call.organization()?, call.window()?);
    let created_by = call.query.get("createdBy");
    let found =
        Agents(call.store()).search(organization, &call.search(), published, created_by, window).await?;
    call.found(&found, render)
}

/// A new agent, as a draft.
pub async fn create(call: Call) -> Outcome<Answer> {
    let (name, fields) = draft(&call);
    let name = name.ok_or_else(|| Problem::body("/name", "is required"))?;
    let (id, by) = (call.verifier.id(call.now)?, call.by().await?);
    let seal = |agent: &Agent| call.seal(&render(agent));
    let done = Agents(call.store())
        .create(call.organization()?, id, &name, fields, call.claim(), &by, &seal)
        .await?;
    call.once(done, render)
}

/// `getAgent`: the draft, and which version is published.
pub async fn get(call: Call) -> Outcome<Answer> {
    let agent = Agents(call.store()).find(call.organization()?, call.id("id")?).await?;
    Ok(Answer::data(render(&agent)).tagged(agent.version))
}

/// A changed draft. If-Match names the version that the caller saw.
pub async fn update(call: Call) -> Outcome<Answer> {
    let expected = match call.if_match() {
        None => None,
        // The contract has checked that it is a number, in quotation marks or not.
        Some(text) => Some(text.parse().map_err(|_| Problem::header("If-Match", "is too large"))?),
    };
    let (name, fields) = draft(&call);
    let (id, by) = (call.id("id")?, call.by().await?);
    match Agents(call.store()).change(call.organization()?, id, name, fields, expected, &by).await {
        Ok(agent) => Ok(Answer::data(render(&agent)).tagged(agent.version)),
        Err(NotChanged::Store(error)) => Err(error.into()),
        Err(NotChanged::Stale(current)) => Err(Problem::stale(render(&current))),
    }
}

/// `deleteAgent`: deletes an agent with its knowledge and skills; its numbers stay, and are answered by nobody.
pub async fn delete(call: Call) -> Outcome<Answer> {
    Agents(call.store()).delete(call.organization()?, call.id("id")?, &call.by().await?).await?;
    Ok(Answer::nothing())
}

#[derive(Deserialize)]
struct Publish {
    note: Option<String>,
}

/// Freezes the draft as the version that channels serve.
pub async fn publish(call: Call) -> Outcome<Answer> {
    let body: Publish = call.read()?;
    let (id, version, by) = (call.id("id")?, call.verifier.id(call.now)?, call.by().await?);
    let seal = |version: &Version| call.seal(&render_version(version));
    let done = Agents(call.store())
        .publish(call.organization()?, id, version, body.note.as_deref(), call.claim(), &by, &seal)
        .await?;
    call.once(done, render_version)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rollback {
    version_id: String,
}

/// Serves an earlier version again.
pub async fn rollback(call: Call) -> Outcome<Answer> {
    let id: AgentId = call.id("id")?;
    let body: Rollback = call.read()?;
    let to = AgentVersionId::parse(&body.version_id).ok_or_else(Problem::not_found)?;
    let version = Agents(call.store()).rollback(call.organization()?, id, to, &call.by().await?).await?;
    Ok(Answer::data(render_version(&version)))
}

/// `listAgentVersions`: a page of an agent's published versions, the newest first.
pub async fn versions(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let rows = Agents(call.store()).versions(call.organization()?, call.id("id")?, page).await?;
    call.list(page, rows, |version| *version.id.as_bytes(), render_version)
}

/// A version against the draft.
pub async fn diff(call: Call) -> Outcome<Answer> {
    let changes =
        Agents(call.store()).diff(call.organization()?, call.id("id")?, call.id("versionId")?).await?;
    let changes: Vec<Value> = changes
        .iter()
        .map(|it| json!({"field": it.field, "before": it.before, "after": it.after, "kind": it.kind}))
        .collect();
    Ok(Answer::data(json!({"changes": changes})))
}

/// What the agent will and won't answer once it is published.
pub async fn report(call: Call) -> Outcome<Answer> {
    let (organization, id) = (call.organization()?, call.id("id")?);
    let agent = Agents(call.store()).find(organization, id).await?;
    let report = agents::report(&agent, Knowledge(call.store()).stock(organization, id).await?);
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|(severity, field, message)| json!({"severity": severity, "field": field, "message": message}))
        .collect();
    Ok(Answer::data(json!({
        "agentId": agent.id.to_string(),
        "version": agent.version,
        "ready": report.ready,
        "willAnswer": report.will_answer,
        "willNotAnswer": report.will_not_answer,
        "findings": findings,
    })))
}
