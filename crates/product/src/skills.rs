//! What an agent can do besides talking: skills of the types that run here. [`toolbox`] runs them.

pub mod toolbox;

use crate::agents::AgentIsThere;
use crate::id::{AgentId, SkillId};
use crate::words::words;
use flowyte_contract::{Validator, check_schema, pattern_fits};
use flowyte_core::Timestamp;
use flowyte_core::id::OrganizationId;
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::{AuditContext, BatchTx, Claim, Once, Page, ReadTx, Row, Store, StoreError};
use serde_json::{Map, Value, json};
use url::Url;

/// Skills that an agent may have: each is described to the model with every question.
pub const MOST_SKILLS: i64 = 50;
/// How long a webhook may take, in milliseconds, where nobody says otherwise.
pub const TIMEOUT_MS: u32 = 10_000;
/// Longest schema of parameters, as JSON.
const LONGEST_SCHEMA: usize = 16_384;
/// How deep a schema of parameters may nest.
const DEEPEST_SCHEMA: usize = 16;
/// Most bytes that a pattern in a schema may compile to, and how many of them there may be: compiling takes time.
const PATTERN_BYTES: usize = 1 << 20;
const MOST_PATTERNS: usize = 20;
/// Longest name that the model and visitors call a skill by.
const LONGEST_TOOL: usize = 64;

/// What is wrong with a skill that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which field of the request.
    pub field: &'static str,
    /// What is wrong with it, in one sentence.
    pub message: String,
}

fn invalid<T>(field: &'static str, message: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field, message: message.into() })
}

words! {
    /// What running a skill does.
    SkillType {
        /// Asks a service of the customer's.
        HttpWebhook = "http_webhook",
        /// Looks something up in the agent's knowledge.
        KnowledgeQuery = "knowledge_query",
        /// Hands the conversation over to people.
        Transfer = "transfer",
        /// Something every agent can do; `action` says what.
        Builtin = "builtin",
    }
}

impl SkillType {
    /// What it does, for the catalogue.
    pub const fn description(self) -> &'static str {
        match self {
            Self::HttpWebhook => {
                "Sends the arguments that its schema declares to a service of yours and answers with what it says: as a JSON body, \
                 with GET and DELETE as query parameters. Only public addresses are reached."
            }
            Self::KnowledgeQuery => "Looks something up in the agent's knowledge.",
            Self::Transfer => "Hands the conversation over to people; its outcome is then `transferred`.",
            Self::Builtin => {
                "What every agent can do: `end_call` ends the conversation, `take_message` keeps a message with the \
                 conversation, `repeat` says the last answer again."
            }
        }
    }

    /// The schema of its `executionConfig`, for the catalogue.
    pub fn config_schema(self) -> Value {
        let (required, properties) = match self {
            Self::HttpWebhook => (
                json!(["url"]),
                json!({
                    "url": {"type": "string", "format": "uri", "maxLength": 2048},
                    "method": {"type": "string", "enum": Method::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>(), "default": "POST"},
                    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                    "timeout_ms": {"type": "integer", "minimum": 100, "maximum": 30_000, "default": TIMEOUT_MS},
                }),
            ),
            Self::KnowledgeQuery => (json!([]), json!({})),
            Self::Transfer => {
                (json!(["destination"]), json!({"destination": {"type": "string", "maxLength": 200}}))
            }
            Self::Builtin => (
                json!(["action"]),
                json!({"action": {"type": "string", "enum": Action::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>()}}),
            ),
        };
        json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
    }
}

words! {
    /// How a webhook is asked.
    #[allow(missing_docs)] // The methods of HTTP.
    Method {
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
    }
}

words! {
    /// What every agent can do.
    Action {
        /// Ends the conversation, which then counts as completed.
        EndCall = "end_call",
        /// Keeps a message for the people behind the agent.
        TakeMessage = "take_message",
        /// Says the last answer again.
        Repeat = "repeat",
    }
}

/// What a skill does, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Of [`SkillType::HttpWebhook`]. Its header fields are kept beside it, sealed.
    Webhook {
        /// Where the webhook is, checked to be public before it is asked.
        url: String,
        /// The HTTP method of the request. With GET and DELETE the arguments are query parameters, else a JSON body.
        method: Method,
        /// How long it may take.
        timeout_ms: u32,
        /// Which header fields are sent along.
        header_names: Vec<String>,
    },
    /// Of [`SkillType::KnowledgeQuery`]: it needs no settings.
    Knowledge,
    /// Of [`SkillType::Transfer`]: the conversation ends, and people take over.
    Transfer {
        /// Where to, in the customer's words: a team, a number, an address.
        destination: String,
    },
    /// Of [`SkillType::Builtin`]: one of the actions that every agent has.
    Builtin(Action),
}

impl Config {
    /// The type that it belongs to.
    pub const fn skill_type(&self) -> SkillType {
        match self {
            Self::Webhook { .. } => SkillType::HttpWebhook,
            Self::Knowledge => SkillType::KnowledgeQuery,
            Self::Transfer { .. } => SkillType::Transfer,
            Self::Builtin(_) => SkillType::Builtin,
        }
    }

    /// Reads an `executionConfig` as it was sent or as it is stored. A webhook's URL is read by whoever sends requests.
    pub fn read(of: SkillType, given: &Map<String, Value>) -> Result<Self, Invalid> {
        let known: &[&str] = match of {
            SkillType::HttpWebhook => &["url", "method", "headers", "timeout_ms", "headerNames"],
            SkillType::KnowledgeQuery => &[],
            SkillType::Transfer => &["destination"],
            SkillType::Builtin => &["action"],
        };
        if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
            let name: String = name.chars().filter(|it| !it.is_control()).take(60).collect();
            return invalid("executionConfig", format!("`{name}` does not apply to {}", of.as_str()));
        }
        let text =
            |name: &str| given.get(name).and_then(Value::as_str).map(str::trim).filter(|it| !it.is_empty());
        Ok(match of {
            SkillType::KnowledgeQuery => Self::Knowledge,
            SkillType::Transfer => match text("destination") {
                Some(destination) => Self::Transfer { destination: destination.to_owned() },
                None => return invalid("executionConfig.destination", "is required for transfer"),
            },
            SkillType::Builtin => match text("action").and_then(Action::parse) {
                Some(action) => Self::Builtin(action),
                None => {
                    return invalid("executionConfig.action", "must be end_call, take_message or repeat");
                }
            },
            SkillType::HttpWebhook => {
                let Some(url) = text("url") else {
                    return invalid("executionConfig.url", "is required for http_webhook");
                };
                let asked = text("method").unwrap_or("POST");
                let Some(method) = Method::parse(asked) else {
                    return invalid("executionConfig.method", "must be GET, POST, PUT, PATCH or DELETE");
                };
                let timeout_ms = given.get("timeout_ms").map_or(Some(TIMEOUT_MS.into()), Value::as_u64);
                let timeout_ms = timeout_ms.and_then(|it| u32::try_from(it).ok());
                let Some(timeout_ms) = timeout_ms.filter(|it| (100..=30_000).contains(it)) else {
                    return invalid("executionConfig.timeout_ms", "must be from 100 to 30000");
                };
                let names = given.get("headerNames").and_then(Value::as_array).into_iter().flatten();
                let header_names = names.filter_map(Value::as_str).map(str::to_owned).collect();
                Self::Webhook { url: url.to_owned(), method, timeout_ms, header_names }
            }
        })
    }

    /// As it is answered and stored.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Knowledge => json!({}),
            Self::Transfer { destination } => json!({"destination": destination}),
            Self::Builtin(action) => json!({"action": action.as_str()}),
            Self::Webhook { url, method, timeout_ms, header_names } => json!({
                "url": url,
                "method": method.as_str(),
                "timeout_ms": timeout_ms,
                "headerNames": header_names,
            }),
        }
    }
}

/// What a skill is called with.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// A JSON Schema of an object.
    pub schema: Value,
    /// Properties that must be there.
    pub required: Vec<String>,
}

impl Parameters {
    /// Of a webhook: the customer's own. The schema stands alone, so that checking arguments fetches nothing and ends soon.
    pub fn new(schema: Value, required: Vec<String>) -> Result<Self, Invalid> {
        const FIELD: &str = "parametersSchema";
        if schema.to_string().len() > LONGEST_SCHEMA {
            return invalid(FIELD, format!("must not be longer than {LONGEST_SCHEMA} bytes"));
        }
        if let Some(name) = dollar(&schema, 0)? {
            let name: String = name.chars().filter(|it| !it.is_control()).take(60).collect();
            return invalid(FIELD, format!("`{name}` is not supported: the schema must stand alone"));
        }
        let mut found = Vec::new();
        patterns(&schema, &mut found);
        if found.len() > MOST_PATTERNS {
            return invalid(FIELD, format!("must not have more than {MOST_PATTERNS} patterns"));
        }
        if let Some(pattern) = found.into_iter().find(|it| !pattern_fits(it, PATTERN_BYTES)) {
            let pattern: String = pattern.chars().filter(|it| !it.is_control()).take(60).collect();
            let why = "is not a regular expression without look-around and back-references, or is too large";
            return invalid(FIELD, format!("the pattern `{pattern}` {why}"));
        }
        let members = match &schema {
            Value::Object(members) => members,
            _ => return invalid(FIELD, "must be an object"),
        };
        if members.get("type").is_some_and(|it| it != "object") {
            return invalid(FIELD, "must have the type object");
        }
        let properties = match members.get("properties") {
            None => None,
            Some(Value::Object(properties)) => Some(properties),
            Some(_) => return invalid(FIELD, "must have an object as properties"),
        };
        if let Err(error) = check_schema(&schema) {
            let why = format!("is not a JSON Schema: {} {}", error.field, error.message);
            return invalid(FIELD, why);
        }
        for name in &required {
            if !properties.is_some_and(|it| it.contains_key(name)) {
                return invalid("requiredParams", "must name properties of parametersSchema only");
            }
        }
        let parameters = Self { schema, required };
        match parameters.validator() {
            Ok(_) => Ok(parameters),
            Err(why) => invalid(FIELD, why),
        }
    }

    /// Of every type but webhooks: what it needs.
    pub fn of(config: &Config) -> Self {
        let text =
            |description: &str| json!({"type": "string", "maxLength": 4000, "description": description});
        let (properties, required): (Value, &[&str]) = match config {
            Config::Webhook { .. } => (json!({}), &[]),
            Config::Knowledge => (json!({"query": text("What to look up.")}), &["query"]),
            Config::Transfer { .. } => (json!({"reason": text("Why people are needed.")}), &[]),
            Config::Builtin(Action::EndCall | Action::Repeat) => (json!({}), &[]),
            Config::Builtin(Action::TakeMessage) => (
                json!({
                    "message": text("What to pass on."),
                    "name": text("Who it is from."),
                    "contact": text("How they can be reached."),
                }),
                &["message"],
            ),
        };
        Self {
            schema: json!({"type": "object", "properties": properties, "additionalProperties": false}),
            required: required.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    /// The schema with everything that is required, as arguments are held against it.
    pub fn whole(&self) -> Value {
        let mut members = self.schema.as_object().cloned().unwrap_or_default();
        members.insert("type".into(), "object".into());
        members.entry("properties").or_insert_with(|| json!({}));
        let mut required: Vec<Value> = match members.get("required") {
            Some(Value::Array(names)) => names.clone(),
            _ => Vec::new(),
        };
        for name in &self.required {
            if !required.iter().any(|it| it == name) {
                required.push(name.clone().into());
            }
        }
        members.insert("required".into(), required.into());
        Value::Object(members)
    }

    /// The same, and nothing that it does not declare: what arguments are held against before they are sent anywhere.
    fn closed(&self) -> Value {
        let mut whole = self.whole();
        close(&mut whole, true);
        whole
    }

    /// A parameter that the query of `url` has already: sent beside it, it would stand in for what the customer wrote there.
    pub fn in_query_of(&self, url: &str) -> Option<&str> {
        let names = self.schema.get("properties").and_then(Value::as_object)?.keys();
        let url = Url::parse(url).ok()?;
        names.map(String::as_str).find(|name| is_in_query(&url, name))
    }

    fn validator(&self) -> Result<Validator, String> {
        Validator::new(&self.closed())
    }

    /// Holds arguments against the schema; says what is wrong with the first that does not fit, without repeating it.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        self.validator()?.check(arguments).map_err(|errors| {
            let Some(error) = errors.first() else { return "arguments: are not valid".to_owned() };
            let place = error.field.trim_start_matches('/').replace('/', ".");
            let place = if place.is_empty() { "arguments".to_owned() } else { place };
            format!("{place}: {}", error.message)
        })
    }

    /// The one argument that a text alone can stand for: the only required one, where it takes a text.
    pub fn sole_text(&self) -> Option<&str> {
        let [name] = &self.required[..] else { return None };
        (self.schema["properties"][name]["type"] == "string").then_some(name)
    }
}

/// Whether a URL's query has a parameter of this name, as services read names: many ignore case, and what stands in brackets, and
/// take signs for one another.
pub(crate) fn is_in_query(url: &Url, name: &str) -> bool {
    let read = |name: &str| {
        let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
        name.split('[')
            .next()
            .unwrap_or_default()
            .trim()
            .to_lowercase()
            .chars()
            .map(plain)
            .collect::<String>()
    };
    let name = read(name);
    url.query_pairs().any(|(there, _)| read(&there) == name)
}

/// Closes every object of a schema that names its properties and does not say itself what others there may be. `whole`: this
/// schema alone describes its value, and is no part of another that does.
fn close(schema: &mut Value, whole: bool) {
    let Value::Object(members) = schema else { return };
    for (keyword, under) in members.iter_mut() {
        match (keyword.as_str(), under) {
            ("properties" | "patternProperties", Value::Object(all)) => {
                all.values_mut().for_each(|it| close(it, true));
            }
            ("dependentSchemas", Value::Object(all)) => all.values_mut().for_each(|it| close(it, false)),
            ("prefixItems", Value::Array(all)) => all.iter_mut().for_each(|it| close(it, true)),
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter_mut().for_each(|it| close(it, false))
            }
            ("if" | "then" | "else" | "not", under) => close(under, false),
            (
                "items" | "contains" | "additionalProperties" | "unevaluatedProperties" | "unevaluatedItems",
                under,
            ) => {
                close(under, true);
            }
            _ => {}
        }
    }
    let said = members.contains_key("additionalProperties") || members.contains_key("unevaluatedProperties");
    if whole && members.contains_key("properties") && !said {
        members.insert("unevaluatedProperties".into(), false.into());
    }
}

/// A key in a schema that names or refers to something.
fn dollar(value: &Value, depth: usize) -> Result<Option<&str>, Invalid> {
    if depth > DEEPEST_SCHEMA {
        return invalid("parametersSchema", format!("must not nest more than {DEEPEST_SCHEMA} deep"));
    }
    let parts: Vec<&Value> = match value {
        Value::Object(members) => {
            let refers = |name: &&String| {
                name.starts_with('$') && *name != "$comment" && members.get(*name) != Some(&DRAFT.into())
            };
            if let Some(name) = members.keys().find(refers) {
                return Ok(Some(name));
            }
            members.values().collect()
        }
        Value::Array(items) => items.iter().collect(),
        _ => return Ok(None),
    };
    for part in parts {
        if let Some(name) = dollar(part, depth + 1)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The patterns of a schema, and maybe what only looks like one.
fn patterns<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            for (name, under) in members {
                match (name.as_str(), under) {
                    ("pattern", Value::String(pattern)) => found.push(pattern),
                    ("patternProperties", Value::Object(all)) => {
                        found.extend(all.keys().map(String::as_str));
                        patterns(under, found);
                    }
                    _ => patterns(under, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|it| patterns(it, found)),
        _ => {}
    }
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Header fields under a seal: bytes that only the server opens, and the pepper that it does so with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the pepper that they are sealed under.
    pub pepper: [u8; 8],
    /// The header fields, sealed together.
    pub bytes: Vec<u8>,
}

/// Something that an agent can do besides answering.
#[derive(Clone, Debug, PartialEq)]
pub struct Skill {
    /// The id of the skill (`skill_…`).
    pub id: SkillId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The agent that it belongs to.
    pub agent: AgentId,
    /// What its organization calls it; a model is told it, too.
    pub name: String,
    /// When to use it, for the model.
    pub description: String,
    /// What it does, by its type.
    pub config: Config,
    /// Header fields of a webhook.
    pub headers: Option<Sealed>,
    /// What it is called with.
    pub parameters: Parameters,
    /// The visitor is asked before it runs.
    pub requires_confirmation: bool,
    /// Whether it is used at all.
    pub is_enabled: bool,
    /// When the skill was made.
    pub created_at: Timestamp,
    /// When anything of it changed.
    pub updated_at: Timestamp,
}

impl Skill {
    /// What the model and visitors call it by: its name in small letters, digits and underscores.
    pub fn tool(&self) -> String {
        tool(&self.name)
    }
}

/// What a skill of that name is called by. Empty where the name has no Latin letter and no digit.
pub fn tool(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let spelt: String = name.chars().map(plain).collect();
    let words: Vec<&str> = spelt.split('_').filter(|it| !it.is_empty()).collect();
    words.join("_").chars().take(LONGEST_TOOL).collect()
}

fn parsed<T: serde::de::DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(&row.get::<String>(column)?)
        .map_err(|error| StoreError::Inconsistent(format!("column {column}: {error}")))
}

fn skill(row: &Row) -> Result<Skill, StoreError> {
    let name: String = row.get("skill_type")?;
    let wrong = |what: String| StoreError::Inconsistent(what);
    let skill_type = SkillType::parse(&name).ok_or_else(|| wrong(format!("skill type {name}")))?;
    let config = Config::read(skill_type, &parsed(row, "execution_config")?);
    let sealed: Option<Vec<u8>> = row.get("sealed_headers")?;
    Ok(Skill {
        id: row.id("id")?,
        organization: row.id("organization_id")?,
        agent: row.id("agent_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        config: config.map_err(|it| wrong(format!("{}: {}", it.field, it.message)))?,
        headers: match sealed {
            Some(bytes) => Some(Sealed { pepper: row.bytes("headers_pepper_id")?, bytes }),
            None => None,
        },
        parameters: Parameters {
            schema: parsed(row, "parameters_schema")?,
            required: parsed(row, "required_params")?,
        },
        requires_confirmation: row.flag("requires_confirmation")?,
        is_enabled: row.flag("is_enabled")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

async fn load(
    tx: &mut ReadTx,
    organization: OrganizationId,
    agent: AgentId,
    which: SkillId,
) -> Result<Skill, StoreError> {
    tx.agent_is_there(organization, agent).await?;
    let row = tx
        .one(
            "SELECT * FROM skills WHERE organization_id = $1 AND agent_id = $2 AND id = $3",
            vec![id(organization), id(agent), id(which)],
        )
        .await?;
    skill(&row)
}

/// A name that another skill of the agent goes by already is refused: nobody could tell which was meant.
async fn name_is_free(tx: &mut ReadTx, of: &Skill) -> Result<(), StoreError> {
    let taken = tx
        .opt(
            "SELECT id FROM skills WHERE organization_id = $1 AND agent_id = $2 AND tool = $3 AND id <> $4",
            vec![id(of.organization), id(of.agent), of.tool().into(), id(of.id)],
        )
        .await?;
    match taken {
        None => Ok(()),
        Some(_) => Err(StoreError::Conflict("The agent has another skill with this name.")),
    }
}

/// Takes the skills of an agent away: they go with it.
pub(crate) async fn forget(
    tx: &mut BatchTx,
    organization: OrganizationId,
    agent: AgentId,
) -> Result<(), StoreError> {
    tx.exec(
        "DELETE FROM skills WHERE organization_id = $1 AND agent_id = $2",
        vec![id(organization), id(agent)],
    )
    .await
    .map(drop)
}

fn deed<'a>(action: &'a str, skill: &'a Skill) -> AuditAction<'a> {
    let details = json!({
        "agentId": skill.agent.to_string(),
        "skillType": skill.config.skill_type().as_str(),
        "isEnabled": skill.is_enabled,
        "requiresConfirmation": skill.requires_confirmation,
    });
    AuditAction { action, kind: "skill", id: skill.id.to_string(), name: &skill.name, details }
}

fn headers(of: &Skill) -> (Option<Vec<u8>>, Option<[u8; 8]>) {
    of.headers.as_ref().map(|it| (it.bytes.clone(), it.pepper)).unzip()
}

/// The skills of a store.
pub struct Skills<'s>(pub &'s dyn Store);

impl Skills<'_> {
    /// Skills of an agent, newest first.
    pub async fn list(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        page: Page,
    ) -> Result<Vec<Skill>, StoreError> {
        let mut tx = self.0.read().await?;
        tx.agent_is_there(organization, agent).await?;
        let rows = tx
            .all(
                "SELECT * FROM skills WHERE organization_id = $1 AND agent_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4",
                vec![id(organization), id(agent), page.before_bytes(), page.probe().into()],
            )
            .await?;
        rows.iter().map(skill).collect()
    }

    /// What an agent can do now, oldest first.
    pub async fn enabled(
        &self,
        organization: OrganizationId,
        agent: AgentId,
    ) -> Result<Vec<Skill>, StoreError> {
        let mut tx = self.0.read().await?;
        let rows = tx
            .all(
                "SELECT * FROM skills WHERE organization_id = $1 AND agent_id = $2 AND is_enabled = 1 ORDER BY id",
                vec![id(organization), id(agent)],
            )
            .await?;
        rows.iter().map(skill).collect()
    }

    /// Gives an agent a skill.
    pub async fn create(
        &self,
        new: &Skill,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: &(dyn Fn(&Skill) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<Skill>, StoreError> {
        let mut tx = self.0.product().await?;
        if let Some(answer) = tx.claimed(new.organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        tx.agent_is_there(new.organization, new.agent).await?;
        let row = tx
            .one(
                "SELECT COUNT(*) AS skills FROM skills WHERE organization_id = $1 AND agent_id = $2",
                vec![id(new.organization), id(new.agent)],
            )
            .await?;
        if row.get::<i64>("skills")? >= MOST_SKILLS {
            return Err(StoreError::Conflict(
                "The agent has as many skills as it may have; remove some first.",
            ));
        }
        name_is_free(&mut tx, new).await?;
        let (sealed, pepper) = headers(new);
        tx.queue(
            "INSERT INTO skills (id, organization_id, agent_id, name, tool, description, skill_type, parameters_schema, \
             required_params, execution_config, sealed_headers, headers_pepper_id, requires_confirmation, is_enabled, \
             created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)",
            vec![
                id(new.id),
                id(new.organization),
                id(new.agent),
                new.name.clone().into(),
                new.tool().into(),
                new.description.clone().into(),
                new.config.skill_type().as_str().into(),
                new.parameters.schema.to_string().into(),
                json!(new.parameters.required).to_string().into(),
                new.config.to_json().to_string().into(),
                sealed.into(),
                pepper.into(),
                new.requires_confirmation.into(),
                new.is_enabled.into(),
                by.now.into(),
            ],
        )
        .await?;
        let row = load(&mut tx, new.organization, new.agent, new.id).await?;
        tx.audit(new.organization, by, deed("skill.created", &row)).await?;
        tx.remember(new.organization, claim, || seal(&row)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(row))
    }

    /// One of an agent's, whether or not it is enabled.
    pub async fn find(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        which: SkillId,
    ) -> Result<Skill, StoreError> {
        load(&mut self.0.read().await?, organization, agent, which).await
    }

    /// Changes a skill that is as it was `before` into the new one, which was made and checked before: that takes time.
    pub async fn change(&self, before: &Skill, new: &Skill, by: &AuditContext) -> Result<Skill, StoreError> {
        let (organization, agent, which) = (before.organization, before.agent, before.id);
        let mut tx = self.0.product().await?;
        if load(&mut tx, organization, agent, which).await? != *before {
            return Err(StoreError::Conflict(
                "Somebody else changed the skill at the same moment, so nothing was done. Send it again.",
            ));
        }
        name_is_free(&mut tx, new).await?;
        let (sealed, pepper) = headers(new);
        tx.queue(
            "UPDATE skills SET name = $4, tool = $5, description = $6, parameters_schema = $7, required_params = $8, \
             execution_config = $9, sealed_headers = $10, headers_pepper_id = $11, requires_confirmation = $12, \
             is_enabled = $13, updated_at = $14 WHERE organization_id = $1 AND agent_id = $2 AND id = $3",
            vec![
                id(organization),
                id(agent),
                id(which),
                new.name.clone().into(),
                new.tool().into(),
                new.description.clone().into(),
                new.parameters.schema.to_string().into(),
                json!(new.parameters.required).to_string().into(),
                new.config.to_json().to_string().into(),
                sealed.into(),
                pepper.into(),
                new.requires_confirmation.into(),
                new.is_enabled.into(),
                by.now.into(),
            ],
        )
        .await?;
        let row = load(&mut tx, organization, agent, which).await?;
        tx.audit(organization, by, deed("skill.changed", &row)).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Deletes a skill with its sealed header fields.
    pub async fn delete(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        which: SkillId,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.product().await?;
        let row = load(&mut tx, organization, agent, which).await?;
        tx.queue(
            "DELETE FROM skills WHERE organization_id = $1 AND agent_id = $2 AND id = $3",
            vec![id(organization), id(agent), id(which)],
        )
        .await?;
        tx.audit(organization, by, deed("skill.deleted", &row)).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(schema: Value, required: &[&str]) -> (&'static str, String) {
        let required = required.iter().map(|it| (*it).to_owned()).collect();
        let invalid = Parameters::new(schema, required).unwrap_err();
        (invalid.field, invalid.message)
    }

    #[test]
    fn a_schema_of_parameters_stands_alone_and_compiles() {
        let order = json!({"properties": {"order": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"}}});
        let parameters = Parameters::new(order.clone(), vec!["order".into()]).unwrap();
        assert_eq!(parameters.check(&json!({"order": "AB12"})), Ok(()));
        assert!(parameters.check(&json!({})).unwrap_err().contains("order"), "{parameters:?}");
        let why = parameters.check(&json!({"order": "secret value"})).unwrap_err();
        assert!(why.starts_with("order: ") && !why.contains("secret"), "{why}");
        assert!(parameters.check(&json!([])).is_err() && parameters.check(&json!(null)).is_err());
        assert_eq!(parameters.sole_text(), Some("order"));

        assert_eq!(wrong(order, &["order", "customer"]).0, "requiredParams");
        assert_eq!(wrong(json!({}), &["order"]).0, "requiredParams");
        let mut deep = json!({});
        for _ in 0..20 {
            deep = json!({"properties": {"x": deep}});
        }
        let many = |keyword: &str| -> Map<String, Value> {
            (0..=MOST_PATTERNS).map(|n| (format!("x{n}"), json!({keyword: format!("^x{n}$")}))).collect()
        };
        for (schema, says) in [
            (json!([]), "an object"),
            (json!({"type": "string"}), "type object"),
            (json!({"properties": []}), "properties"),
            (json!({"properties": {"x": {"type": "strung"}}}), "not a JSON Schema"),
            (json!({"properties": {"x": {"$ref": "https://x.example/y"}}}), "$ref"),
            (json!({"properties": {"x": {"$ref": "#"}}}), "$ref"),
            (json!({"$id": "https://x.example/y"}), "$id"),
            (json!({"$schema": "http://json-schema.org/draft-04/schema#"}), "$schema"),
            (json!({"$schema": "file:///etc/passwd"}), "$schema"),
            (json!({"properties": {"x": {"pattern": "("}}}), ""),
            (json!({"properties": {"x": {"pattern": "(a{1000}){1000}"}}}), ""),
            (json!({"description": "x".repeat(20_000)}), "longer"),
            (deep, "deep"),
            (json!({"properties": many("pattern")}), "patterns"),
            (json!({"properties": {"x": {"patternProperties": many("description")}}}), "patterns"),
        ] {
            let (field, message) = wrong(schema.clone(), &[]);
            assert!(field == "parametersSchema" && message.contains(says), "{schema}: {message}");
        }
        let current = json!({"$schema": DRAFT, "$comment": "x", "type": "object"});
        assert!(Parameters::new(current, vec![]).is_ok());
    }

    #[test]
    fn a_pattern_that_backtracks_elsewhere_ends_here() {
        let schema = json!({"properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}});
        let parameters = Parameters::new(schema, vec![]).unwrap();
        let begun = std::time::Instant::now();
        assert!(parameters.check(&json!({"x": format!("{}b", "a".repeat(10_000))})).is_err());
        assert!(begun.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_config_says_what_its_type_needs_and_nothing_else() {
        let read = |of, given: Value| Config::read(of, given.as_object().unwrap());
        for (of, given, field) in [
            (SkillType::HttpWebhook, json!({}), "executionConfig.url"),
            (
                SkillType::HttpWebhook,
                json!({"url": "https://x.example", "method": "TRACE"}),
                "executionConfig.method",
            ),
            (
                SkillType::HttpWebhook,
                json!({"url": "https://x.example", "timeout_ms": 99}),
                "executionConfig.timeout_ms",
            ),
            (
                SkillType::HttpWebhook,
                json!({"url": "https://x.example", "action": "repeat"}),
                "executionConfig",
            ),
            (SkillType::Transfer, json!({"destination": "  "}), "executionConfig.destination"),
            (SkillType::Builtin, json!({"action": "dance"}), "executionConfig.action"),
            (SkillType::KnowledgeQuery, json!({"url": "x"}), "executionConfig"),
        ] {
            assert_eq!(read(of, given.clone()).unwrap_err().field, field, "{given}");
        }
        for (of, given) in [
            (
                SkillType::HttpWebhook,
                json!({"url": "https://x.example", "method": "GET", "timeout_ms": 500, "headerNames": ["x"]}),
            ),
            (SkillType::Transfer, json!({"destination": "Sales"})),
            (SkillType::Builtin, json!({"action": "take_message"})),
            (SkillType::KnowledgeQuery, json!({})),
        ] {
            let config = read(of, given.clone()).unwrap();
            assert_eq!((config.skill_type(), config.to_json()), (of, given));
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_name_the_tool_is_one_that_models_take(name in "\\PC{0,90}") {
            let tool = tool(&name);
            proptest::prop_assert!(tool.len() <= LONGEST_TOOL);
            proptest::prop_assert!(tool.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_')));
        }

        #[test]
        fn no_schema_makes_the_check_panic(text in "[{}\\[\\]\":,a-z$0-9]{0,60}") {
            if let Ok(schema) = serde_json::from_str::<Value>(&text)
                && let Ok(parameters) = Parameters::new(schema, vec![])
            {
                let _ = parameters.check(&json!({"a": [1, "b", null]}));
            }
        }
    }
}
