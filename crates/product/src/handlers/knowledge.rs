//! What an agent answers from: its sources, and what it would find for a question.

use crate::Call;
use crate::id::{AgentId, KnowledgeSourceId, UploadId};
use crate::knowledge::cut::pairs;
use crate::knowledge::{Content, Knowledge, KnowledgeSource, NewSource};
use flowyte_core::id::Id;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Outcome, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

/// Passages that a preview shows.
const PREVIEWED: usize = 5;

fn render(source: &KnowledgeSource) -> Value {
    json!({
        "id": source.id.to_string(),
        "agentId": source.agent.to_string(),
        "organizationId": source.organization.to_string(),
        "kind": source.kind.as_str(),
        "label": source.label,
        "status": source.status.as_str(),
        "sourceUrl": source.url,
        "chunkCount": source.passages,
        "progress": {"current": source.progress.0, "total": source.progress.1},
        "indexedAt": instant(source.indexed_at),
        "errorMessage": source.error,
        "refreshEnabled": source.refresh_enabled,
        "refreshIntervalS": source.refresh_interval_s,
        "lastCheckedAt": instant(source.checked_at),
        "lastChangedAt": instant(source.changed_at),
        "nextRefreshAt": instant(source.next_refresh()),
        "createdAt": instant(source.created_at),
        "updatedAt": instant(source.updated_at),
    })
}

fn render_whole(source: &KnowledgeSource) -> Value {
    let mut object = render(source);
    if let Some(text) = &source.text {
        object["textContent"] = text.clone().into();
    }
    object
}

/// `listKnowledgeSources`: those that fit, without their texts.
pub async fn list(call: Call) -> Outcome<Answer> {
    let (organization, agent) = (call.organization()?, call.id("agentId")?);
    let (search, status, window) = (call.search(), call.query.get("status"), call.window()?);
    let found = Knowledge(call.store()).list(organization, agent, &search, status, window).await?;
    call.found(&found, render)
}

#[derive(Deserialize)]
struct Create {
    kind: String,
    label: String,
    text: Option<String>,
    file_id: Option<String>,
    url: Option<String>,
}

/// What the source is made of: what its kind needs, and nothing else.
fn content(call: &Call, body: &Create) -> Outcome<Content> {
    let given = [("text", &body.text), ("file_id", &body.file_id), ("url", &body.url)];
    let needed = match body.kind.as_str() {
        "file" => "file_id",
        "url" => "url",
        _ => "text",
    };
    if let Some((field, _)) = given.iter().find(|(field, value)| *field != needed && value.is_some()) {
        return Err(Problem::body(format!("/{field}"), format!("does not apply to the kind {}", body.kind)));
    }
    let value = given.iter().find_map(|(field, value)| value.as_ref().filter(|_| *field == needed));
    let value = value
        .ok_or_else(|| {
            Problem::body(format!("/{needed}"), format!("is required for the kind {}", body.kind))
        })?
        .clone();
    match body.kind.as_str() {
        "faq" if pairs(&value).is_none() => {
            Err(Problem::body("/text", "must be questions with answers: a line `Q: …`, then `A: …`"))
        }
        "faq" => Ok(Content::Faq(value)),
        "file" => UploadId::parse(&value).map(Content::File).ok_or_else(Problem::not_found),
        "url" => match call.state.outbound.check(&value) {
            Ok(url) => Ok(Content::Url(url.to_string())),
            Err(why) => Err(Problem::body("/url", why.to_string())),
        },
        _ => Ok(Content::Text(value)),
    }
}

/// A new source, to be read in the background.
pub async fn create(call: Call) -> Outcome<Answer> {
    let agent: AgentId = call.id("agentId")?;
    let body: Create = call.read()?;
    let new =
        NewSource { id: call.verifier.id(call.now)?, content: content(&call, &body)?, label: body.label };
    let by = call.by().await?;
    let seal = |source: &KnowledgeSource| call.seal(&render_whole(source));
    let done =
        Knowledge(call.store()).create(call.organization()?, agent, &new, call.claim(), &by, &seal).await?;
    call.state.due.notify_one();
    call.once(done, render_whole)
}

/// `getKnowledgeSource`: one with its text.
pub async fn get(call: Call) -> Outcome<Answer> {
    let (organization, agent, id) = (call.organization()?, call.id("agentId")?, call.id("id")?);
    Ok(Answer::data(render_whole(&Knowledge(call.store()).find(organization, agent, id).await?)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    refresh_enabled: Option<bool>,
    refresh_interval_s: Option<i64>,
}

/// Whether and how often a source is fetched again.
pub async fn update(call: Call) -> Outcome<Answer> {
    let (organization, agent, id) = (call.organization()?, call.id("agentId")?, call.id("id")?);
    let (body, by): (Update, _) = (call.read()?, call.by().await?);
    let source = Knowledge(call.store())
        .set_refresh(organization, agent, id, body.refresh_enabled, body.refresh_interval_s, &by)
        .await?;
    Ok(Answer::data(render_whole(&source)))
}

/// `deleteKnowledgeSource`: removes a source with its passages, which answers no longer use.
pub async fn delete(call: Call) -> Outcome<Answer> {
    let (organization, agent, id) = (call.organization()?, call.id("agentId")?, call.id("id")?);
    Knowledge(call.store()).delete(organization, agent, id, &call.by().await?).await?;
    Ok(Answer::nothing())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    query: String,
    #[serde(default)]
    source_ids: Vec<String>,
}

/// What the agent would find for a question.
pub async fn preview(call: Call) -> Outcome<Answer> {
    let (organization, agent) = (call.organization()?, call.id("agentId")?);
    let body: Preview = call.read()?;
    let mut sources = Vec::new();
    for id in &body.source_ids {
        let id = KnowledgeSourceId::parse(id).ok_or_else(Problem::not_found)?;
        sources.push(Knowledge(call.store()).find(organization, agent, id).await?.id);
    }
    let found = call.state.retriever.retrieve(organization, agent, &body.query, &sources, PREVIEWED).await?;
    let chunks: Vec<Value> = found
        .iter()
        .map(|it| {
            json!({
                "id": it.id.to_string(),
                "sourceId": it.source.to_string(),
                "label": it.label,
                "answer": it.text,
                "language": it.language,
                "similarity": it.similarity,
                "question": it.question,
                "sourceUrl": it.url,
            })
        })
        .collect();
    let top = found.first().map_or(0.0, |it| it.similarity);
    Ok(Answer::data(json!({"chunks": chunks, "topScore": top})))
}
