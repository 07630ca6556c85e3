//! Agents: a draft that is edited, and published versions that channels serve.

use crate::id::{AgentId, AgentVersionId};
use crate::knowledge::{self, Stock};
use crate::skills;
use flowyte_core::Timestamp;
use flowyte_core::id::OrganizationId;
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::walk::{Found, Search, Walk, Window};
use flowyte_store::{
    AuditContext, BatchTx, Claim, Once, Page, ReadTx, Row, Store, StoreError, args, walk_sql,
};
use serde_json::{Map, Value, json};

/// The fields of a draft with what they are before anybody says otherwise. `name` stands beside them.
pub fn defaults() -> Map<String, Value> {
    let fields = json!({
        "persona": "",
        "primaryLanguage": "en",
        "languages": ["en"],
        "enabledChannels": ["chat"],
        "goals": [],
        "neverDo": [],
        "tone": "",
        "greeting": "",
        "lexicon": {"preferred": [], "banned": [], "pronunciations": {}},
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// An agent with its draft.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The id of the agent (`agent_…`), which publishable keys are pinned to.
    pub id: AgentId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// What its organization calls it; visitors see it, too.
    pub name: String,
    /// Counts changes of the draft, from 1.
    pub version: i64,
    /// The draft's fields by their names in the API; every field of [`defaults`] is there.
    pub draft: Map<String, Value>,
    /// The version that live channels answer with; none before the first is published.
    pub published_version: Option<AgentVersionId>,
    /// Who made it: id and name.
    pub created_by: (String, String),
    /// The time at which it was made.
    pub created_at: Timestamp,
    /// When the draft changed last.
    pub updated_at: Timestamp,
}

impl Agent {
    /// The draft as a version freezes it.
    pub fn config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        config.insert("name".into(), self.name.clone().into());
        config.extend(self.draft.clone());
        config
    }
}

/// A draft as it was when it was published; never changed.
#[derive(Clone, Debug)]
pub struct Version {
    /// `ver_…`, made when it was published.
    pub id: AgentVersionId,
    /// The agent that it belongs to.
    pub agent: AgentId,
    /// The draft's version that it froze.
    pub version: i64,
    /// The frozen draft, with the name.
    pub config: Map<String, Value>,
    /// What its publisher said of it.
    pub note: Option<String>,
    /// Who published it: the id and the name that they had then.
    pub published_by: (String, String),
    /// The time at which it was published.
    pub published_at: Timestamp,
}

/// One field that differs between a version and the draft.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Name of the field, as in the API.
    pub field: String,
    /// Its value in the version; null where it has none.
    pub before: Value,
    /// Its value in the draft; null where it has none.
    pub after: Value,
    /// How the field differs: `added`, `removed` or `changed`.
    pub kind: &'static str,
}

/// Why a draft was not changed.
pub enum NotChanged {
    /// If-Match named an older version; this is how it is now.
    Stale(Box<Agent>),
    /// The store refused it, or failed.
    Store(StoreError),
}

impl From<StoreError> for NotChanged {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn object(row: &Row, column: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(&row.get::<String>(column)?)
        .map_err(|error| StoreError::Inconsistent(format!("column {column}: {error}")))
}

fn agent(row: &Row) -> Result<Agent, StoreError> {
    Ok(Agent {
        id: row.id("id")?,
        organization: row.id("organization_id")?,
        name: row.get("name")?,
        version: row.get("version")?,
        draft: object(row, "draft")?,
        published_version: row.maybe_id("published_version_id")?,
        created_by: (row.get("created_by_id")?, row.get("created_by_name")?),
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn version(row: &Row) -> Result<Version, StoreError> {
    Ok(Version {
        id: row.id("id")?,
        agent: row.id("agent_id")?,
        version: row.get("version")?,
        config: object(row, "config")?,
        note: row.get("note")?,
        published_by: (row.get("published_by_id")?, row.get("published_by_name")?),
        published_at: row.time("published_at")?,
    })
}

fn deed<'a>(action: &'a str, agent: &'a Agent, details: Value) -> AuditAction<'a> {
    AuditAction { action, kind: "agent", id: agent.id.to_string(), name: &agent.name, details }
}

/// What belongs to an agent asks first whether the agent is there.
pub(crate) trait AgentIsThere {
    /// It is there, in this organization, or it is not found.
    async fn agent_is_there(
        &mut self,
        organization: OrganizationId,
        agent: AgentId,
    ) -> Result<(), StoreError>;
}

impl AgentIsThere for ReadTx {
    async fn agent_is_there(
        &mut self,
        organization: OrganizationId,
        agent: AgentId,
    ) -> Result<(), StoreError> {
        self.one(
            "SELECT id FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
            vec![id(organization), id(agent)],
        )
        .await
        .map(drop)
    }
}

async fn load(tx: &mut ReadTx, organization: OrganizationId, which: AgentId) -> Result<Agent, StoreError> {
    let row = tx
        .one(
            "SELECT * FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
            vec![id(organization), id(which)],
        )
        .await?;
    agent(&row)
}

async fn load_version(
    tx: &mut ReadTx,
    organization: OrganizationId,
    of: AgentId,
    which: AgentVersionId,
) -> Result<Version, StoreError> {
    let row = tx
        .one(
            "SELECT * FROM agent_versions WHERE organization_id = $1 AND agent_id = $2 AND id = $3",
            vec![id(organization), id(of), id(which)],
        )
        .await?;
    version(&row)
}

/// The agents of a store.
pub struct Agents<'s>(pub &'s dyn Store);

impl Agents<'_> {
    /// Agents that fit. `published`: whether channels serve a version of it. `created_by`: the id of who made it.
    pub async fn search(
        &self,
        organization: OrganizationId,
        search: &Search,
        published: Option<bool>,
        created_by: Option<&str>,
        window: Window,
    ) -> Result<Found<Agent>, StoreError> {
        let sql = walk_sql!(
            window.order,
            from "agents WHERE organization_id = $1",
            select "SELECT * FROM agents WHERE organization_id = $1",
            id "id",
            filter "AND deleted_at IS NULL \
                 AND (CAST($5 AS BIGINT) IS NULL OR CASE WHEN published_version_id IS NULL THEN 0 ELSE 1 END = $5) \
                 AND (CAST($6 AS TEXT) IS NULL OR created_by_id = $6) \
                 AND (CAST($7 AS TEXT) IS NULL OR id = $8 OR LOWER(name) LIKE $7 ESCAPE '\\' OR name LIKE $9 ESCAPE '\\')"
        );
        let searched = search.is_some() || published.is_some() || created_by.is_some();
        let mut args = args![published.map(i64::from), created_by];
        args.append(&mut search.args::<AgentId>());
        self.0
            .read()
            .await?
            .walk(organization, &window, Walk { sql, list: vec![], filter: args, searched }, agent)
            .await
    }

    /// A page of the agents that were not deleted, the newest first; [`Agents::search`] also filters.
    pub async fn list(&self, organization: OrganizationId, page: Page) -> Result<Vec<Agent>, StoreError> {
        // It may pass many that were deleted.
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT * FROM agents WHERE organization_id = $1 AND id < $2 AND deleted_at IS NULL ORDER BY id DESC LIMIT $3",
                vec![id(organization), page.before_bytes(), page.probe().into()],
            )
            .await?;
        rows.iter().map(agent).collect()
    }

    /// One that was not deleted.
    pub async fn find(&self, organization: OrganizationId, which: AgentId) -> Result<Agent, StoreError> {
        load(&mut self.0.glance().await?, organization, which).await
    }

    /// Makes an agent as a draft. `fields` may lack any field of a draft.
    #[allow(clippy::too_many_arguments)]
    pub async fn create(
        &self,
        organization: OrganizationId,
        new: AgentId,
        name: &str,
        fields: Map<String, Value>,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: &(dyn Fn(&Agent) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<Agent>, StoreError> {
        let mut tx = self.0.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let mut draft = defaults();
        draft.extend(fields);
        tx.queue(
            "INSERT INTO agents (id, organization_id, name, version, draft, created_by_id, created_by_name, created_at, updated_at) \
             VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $7)",
            vec![
                id(new),
                id(organization),
                name.into(),
                Value::Object(draft).to_string().into(),
                by.actor.id.clone().into(),
                by.actor.name.clone().into(),
                by.now.into(),
            ],
        )
        .await?;
        let row = load(&mut tx, organization, new).await?;
        tx.audit(organization, by, deed("agent.created", &row, json!({}))).await?;
        tx.remember(organization, claim, || seal(&row)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(row))
    }

    /// Changes the draft. `expected`: the version the caller saw.
    pub async fn change(
        &self,
        organization: OrganizationId,
        which: AgentId,
        name: Option<String>,
        fields: Map<String, Value>,
        expected: Option<i64>,
        by: &AuditContext,
    ) -> Result<Agent, NotChanged> {
        let mut tx = self.0.product().await?;
        let old = load(&mut tx, organization, which).await?;
        if expected.is_some_and(|seen| seen != old.version) {
            return Err(NotChanged::Stale(Box::new(old)));
        }
        let changed: Vec<String> =
            fields.keys().cloned().chain(name.iter().map(|_| "name".to_owned())).collect();
        let mut draft = old.draft.clone();
        draft.extend(fields);
        tx.queue(
            "UPDATE agents SET name = $3, version = version + 1, draft = $4, updated_at = $5 WHERE organization_id = $1 AND id = $2",
            vec![
                id(organization),
                id(which),
                name.unwrap_or(old.name).into(),
                Value::Object(draft).to_string().into(),
                by.now.into(),
            ],
        )
        .await?;
        let row = load(&mut tx, organization, which).await?;
        tx.audit(
            organization,
            by,
            deed("agent.changed", &row, json!({"version": row.version, "fields": changed})),
        )
        .await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Takes an agent away. What it said stays in the history; nothing serves it any more.
    pub async fn delete(
        &self,
        organization: OrganizationId,
        which: AgentId,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.product().await?;
        let row = load(&mut tx, organization, which).await?;
        // Sources before their agent, as whoever reads them takes hold of the rows.
        knowledge::forget(&mut tx, organization, which).await?;
        tx.queue(
            "UPDATE agents SET deleted_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(which), by.now.into()],
        )
        .await?;
        // Its numbers stay the organization's and are answered by nobody.
        tx.queue(
            "UPDATE numbers SET agent_id = NULL WHERE organization_id = $1 AND agent_id = $2",
            vec![id(organization), id(which)],
        )
        .await?;
        skills::forget(&mut tx, organization, which).await?;
        tx.audit(organization, by, deed("agent.deleted", &row, json!({}))).await?;
        tx.commit().await
    }

    /// Freezes the draft as the version that channels serve.
    #[allow(clippy::too_many_arguments)]
    pub async fn publish(
        &self,
        organization: OrganizationId,
        which: AgentId,
        new: AgentVersionId,
        note: Option<&str>,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: &(dyn Fn(&Version) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<Version>, StoreError> {
        let mut tx = self.0.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let row = load(&mut tx, organization, which).await?;
        tx.queue(
            "INSERT INTO agent_versions (id, organization_id, agent_id, version, config, note, published_by_id, \
             published_by_name, published_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            vec![
                id(new),
                id(organization),
                id(which),
                row.version.into(),
                Value::Object(row.config()).to_string().into(),
                note.into(),
                by.actor.id.clone().into(),
                by.actor.name.clone().into(),
                by.now.into(),
            ],
        )
        .await?;
        serve_version(&mut tx, organization, which, new).await?;
        let details = json!({"version": row.version, "versionId": new.to_string()});
        tx.audit(organization, by, deed("agent.published", &row, details)).await?;
        let published = load_version(&mut tx, organization, which, new).await?;
        tx.remember(organization, claim, || seal(&published)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(published))
    }

    /// Serves an earlier version again.
    pub async fn rollback(
        &self,
        organization: OrganizationId,
        which: AgentId,
        to: AgentVersionId,
        by: &AuditContext,
    ) -> Result<Version, StoreError> {
        let mut tx = self.0.product().await?;
        let row = load(&mut tx, organization, which).await?;
        let earlier = load_version(&mut tx, organization, which, to).await?;
        serve_version(&mut tx, organization, which, to).await?;
        let details = json!({"version": earlier.version, "versionId": to.to_string()});
        tx.audit(organization, by, deed("agent.rolled_back", &row, details)).await?;
        tx.commit().await?;
        Ok(earlier)
    }

    /// A page of an agent's published versions, the newest first; not found where the agent was deleted.
    pub async fn versions(
        &self,
        organization: OrganizationId,
        which: AgentId,
        page: Page,
    ) -> Result<Vec<Version>, StoreError> {
        let mut tx = self.0.read().await?;
        load(&mut tx, organization, which).await?;
        let rows = tx
            .all(
                "SELECT * FROM agent_versions WHERE organization_id = $1 AND agent_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4",
                vec![id(organization), id(which), page.before_bytes(), page.probe().into()],
            )
            .await?;
        rows.iter().map(version).collect()
    }

    /// What differs between a version and the draft.
    pub async fn diff(
        &self,
        organization: OrganizationId,
        which: AgentId,
        from: AgentVersionId,
    ) -> Result<Vec<Change>, StoreError> {
        let mut tx = self.0.read().await?;
        let row = load(&mut tx, organization, which).await?;
        let old = load_version(&mut tx, organization, which, from).await?;
        Ok(changes(&old.config, &row.config()))
    }

    /// What channels serve: the agent, and its published version where it has one.
    pub async fn live(
        &self,
        organization: OrganizationId,
        which: AgentId,
    ) -> Result<(Agent, Option<Version>), StoreError> {
        let mut tx = self.0.read().await?;
        let row = load(&mut tx, organization, which).await?;
        let published = match row.published_version {
            Some(published) => Some(load_version(&mut tx, organization, which, published).await?),
            None => None,
        };
        Ok((row, published))
    }
}

async fn serve_version(
    tx: &mut BatchTx,
    organization: OrganizationId,
    which: AgentId,
    published: AgentVersionId,
) -> Result<(), StoreError> {
    tx.exec(
        "UPDATE agents SET published_version_id = $3 WHERE organization_id = $1 AND id = $2",
        vec![id(organization), id(which), id(published)],
    )
    .await
    .map(drop)
}

fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Change> {
    let fields = before.keys().chain(after.keys().filter(|field| !before.contains_key(*field)));
    let value = |config: &Map<String, Value>, field: &str| config.get(field).cloned().unwrap_or(Value::Null);
    fields
        .filter(|field| before.get(*field) != after.get(*field))
        .map(|field| {
            let kind = match (before.contains_key(field), after.contains_key(field)) {
                (false, _) => "added",
                (_, false) => "removed",
                _ => "changed",
            };
            Change { field: field.clone(), before: value(before, field), after: value(after, field), kind }
        })
        .collect()
}

/// What an agent will and won't answer once its draft is published.
pub struct Report {
    /// Whether the draft can be published: none of `findings` is an `error`.
    pub ready: bool,
    /// That it greets, what its knowledge covers, and its goals.
    pub will_answer: Vec<String>,
    /// What it must never do, and what its knowledge does not cover.
    pub will_not_answer: Vec<String>,
    /// `error` or `warning`, the field, and what about it.
    pub findings: Vec<Finding>,
}

/// `error` or `warning`, the field, and what about it.
pub type Finding = (&'static str, &'static str, String);

fn warning(field: &'static str, message: impl Into<String>) -> Finding {
    ("warning", field, message.into())
}

/// Looks at a draft, and at what the agent knows, before it is published.
pub fn report(agent: &Agent, knowledge: Stock) -> Report {
    let mut findings = draft_findings(&agent.draft);
    findings.extend(knowledge_findings(knowledge));
    let mut will_answer = vec!["Greetings".to_owned()];
    let mut will_not_answer = texts(&agent.draft, "neverDo");
    if knowledge.passages == 0 {
        will_not_answer
            .push("Questions about facts: the agent has no knowledge yet, and says so.".to_owned());
    } else {
        let (passages, sources) = (count(knowledge.passages, "passage"), count(knowledge.indexed, "source"));
        will_answer.push(format!("Questions that its knowledge covers: {passages} from {sources}."));
        will_not_answer
            .push("Questions that its knowledge does not cover: it says that it does not know.".to_owned());
    }
    will_answer.extend(texts(&agent.draft, "goals"));
    Report {
        ready: findings.iter().all(|(severity, ..)| *severity != "error"),
        will_answer,
        will_not_answer,
        findings,
    }
}

/// What a draft lacks: findings about its own fields, without those about its knowledge.
fn draft_findings(draft: &Map<String, Value>) -> Vec<Finding> {
    let text = |field: &str| draft.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    if text("greeting").is_empty() {
        let message = "There is no greeting; visitors get a plain one with the agent's name.";
        findings.push(warning("greeting", message));
    }
    if text("persona").is_empty() {
        findings.push(warning("persona", "There is no persona, so the agent has no character of its own."));
    }
    if texts(draft, "goals").is_empty() {
        findings.push(warning("goals", "There are no goals, so the agent does not know what it is for."));
    }
    if !texts(draft, "languages").iter().any(|it| it == text("primaryLanguage")) {
        findings.push(warning("languages", "The primary language is not among the languages."));
    }
    if !texts(draft, "enabledChannels").iter().any(|it| it == "chat") {
        let message = "Chat is not enabled, and no other channel serves yet.".to_owned();
        findings.push(("error", "enabledChannels", message));
    }
    findings
}

/// What keeps an agent from knowing more.
fn knowledge_findings(knowledge: Stock) -> Vec<Finding> {
    let mut findings = Vec::new();
    if knowledge.passages == 0 {
        let message = "There is no knowledge that is ready, so the agent can't answer questions.";
        findings.push(warning("knowledge", message));
    }
    if knowledge.waiting > 0 {
        let waiting = count(knowledge.waiting, "knowledge source");
        findings.push(warning("knowledge", format!("{waiting} not read yet.")));
    }
    if knowledge.failed > 0 {
        let failed = count(knowledge.failed, "knowledge source");
        let message = format!("{failed} could not be read; see why on the knowledge page.");
        findings.push(warning("knowledge", message));
    }
    findings
}

fn texts(draft: &Map<String, Value>, field: &str) -> Vec<String> {
    let items = draft.get(field).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn count(number: i64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_what_was_added_removed_and_changed() {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let before = map(json!({"tone": "warm", "persona": "x", "gone": 1}));
        let after = map(json!({"tone": "brisk", "persona": "x", "new": [2]}));
        let kinds: Vec<_> = changes(&before, &after).into_iter().map(|it| (it.field, it.kind)).collect();
        assert_eq!(kinds, [("tone".into(), "changed"), ("gone".into(), "removed"), ("new".into(), "added")]);
    }
}
