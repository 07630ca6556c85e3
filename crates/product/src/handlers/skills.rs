//! What an agent can do besides talking. A webhook's header values often are secrets: they are sealed and never answered.

use crate::Call;
use crate::Product;
use crate::id::{AgentId, SkillId};
use crate::skills::toolbox::Reach;
use crate::skills::{Config, Invalid, Parameters, Sealed, Skill, SkillType, Skills, tool};
use flowyte_core::id::{Id, OrganizationId};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Code, Outcome, Problem};
use flowyte_store::labour::labour;
use flowyte_verifier::seal::{NONCE_BYTES, Seal};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What webhooks' header fields are sealed for.
const PURPOSE: &str = "skill-headers";
/// Fields that a webhook may not set: they belong to the connection, or say what the body is.
const OURS: [&str; 13] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "proxy-authorization",
    "proxy-connection",
];
/// Most header fields of a webhook.
const MOST_HEADERS: usize = 20;
/// The longest value of a header field of a webhook, in bytes.
const LONGEST_HEADER: usize = 4_096;

fn render(skill: &Skill) -> Value {
    json!({
        "id": skill.id.to_string(),
        "agentId": skill.agent.to_string(),
        "organizationId": skill.organization.to_string(),
        "name": skill.name,
        "trigger": format!("/{}", skill.tool()),
        "description": skill.description,
        "skillType": skill.config.skill_type().as_str(),
        "parametersSchema": skill.parameters.schema,
        "requiredParams": skill.parameters.required,
        "executionConfig": skill.config.to_json(),
        "requiresConfirmation": skill.requires_confirmation,
        "isEnabled": skill.is_enabled,
        "createdAt": instant(skill.created_at),
        "updatedAt": instant(skill.updated_at),
    })
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::body(format!("/{}", invalid.field.replace('.', "/")), invalid.message)
    }
}

/// The header fields of a webhook, for sending.
fn open_headers(product: &Product, skill: &Skill) -> Option<HeaderMap> {
    let Some(sealed) = &skill.headers else { return Some(HeaderMap::new()) };
    let open = |pepper| Seal::new(pepper, PURPOSE).open(&sealed.bytes, skill.id.as_bytes());
    let bytes = Zeroizing::new(product.verifier.peppers.iter().find_map(open)?);
    let given: BTreeMap<String, String> = serde_json::from_slice(&bytes).ok()?;
    let mut fields = HeaderMap::new();
    for (name, value) in given {
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        fields.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(fields)
}

/// What an agent's skills need to run.
pub fn reach(product: &Arc<Product>, organization: OrganizationId, agent: AgentId) -> Reach {
    let (outbound, retriever, keeper) =
        (product.outbound.clone(), product.retriever.clone(), product.clone());
    let open = Box::new(move |skill: &Skill| open_headers(&keeper, skill));
    Reach { organization, agent, outbound, retriever, open }
}

/// Header fields as they are sent, or what is wrong with them.
fn fields(given: &Value) -> Result<BTreeMap<String, String>, Invalid> {
    let refuse = |message: &str| Invalid { field: "executionConfig.headers", message: message.into() };
    let given = given.as_object().ok_or_else(|| refuse("must be an object of texts"))?;
    if given.len() > MOST_HEADERS {
        return Err(refuse("must be at most 20 fields"));
    }
    let mut fields = BTreeMap::new();
    for (name, value) in given {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse("has an invalid header name"))?;
        if OURS.contains(&name.as_str()) {
            return Err(refuse(&format!("must not set {name}")));
        }
        let value = value.as_str().filter(|it| it.len() <= LONGEST_HEADER);
        let value = value.filter(|it| HeaderValue::from_str(it).is_ok());
        let value = value.ok_or_else(|| refuse(&format!("has an invalid value for the header {name}")))?;
        if fields.insert(name.as_str().to_owned(), value.to_owned()).is_some() {
            return Err(refuse(&format!("names {name} twice")));
        }
    }
    Ok(fields)
}

/// What making a skill of a request needs besides the request.
struct Maker {
    product: Arc<Product>,
    nonce: [u8; NONCE_BYTES],
}

/// Makes a skill beside the requests: a schema takes a core for a while, above all its patterns.
async fn made(make: impl FnOnce() -> Result<Skill, Invalid> + Send + 'static) -> Outcome<Skill> {
    let done = labour(make).await.map_err(|error| {
        tracing::error!(%error, "making a skill failed");
        Problem::new(Code::InternalError, "The skill could not be checked.")
    })?;
    Ok(done?)
}

impl Maker {
    /// Sets what a skill does. `headers` stay where none are given, unless they would go to another host than before:
    /// whoever changes the URL need not know them, and is not to have them sent to a place of their own.
    fn configure(&self, skill: &mut Skill, of: SkillType, given: &Map<String, Value>) -> Result<(), Invalid> {
        if given.contains_key("headerNames") {
            let message = "`headerNames` is read-only; send `headers`".to_owned();
            return Err(Invalid { field: "executionConfig", message });
        }
        let mut config = Config::read(of, given)?;
        if let Config::Webhook { url, header_names, .. } = &mut config {
            let refuse = |field, message: String| Invalid { field, message };
            let checked = self.product.outbound.check(url);
            let target = checked.map_err(|why| refuse("executionConfig.url", why.to_string()))?;
            *url = target.to_string();
            let fields = given.get("headers").map(fields).transpose()?;
            let old = match &skill.config {
                Config::Webhook { url, header_names, .. } => Some((url, header_names)),
                _ => None,
            };
            match (fields, old) {
                (Some(fields), _) => {
                    *header_names = fields.keys().cloned().collect();
                    skill.headers = (!fields.is_empty()).then(|| self.seal(skill.id, &fields));
                }
                (None, Some((before, names))) if skill.headers.is_some() => {
                    let same =
                        self.product.outbound.check(before).is_ok_and(|it| it.origin() == target.origin());
                    if !same {
                        let message = "must be given again: they would go to another host than before";
                        return Err(refuse("executionConfig.headers", message.into()));
                    }
                    *header_names = names.clone();
                }
                (None, _) => {}
            }
        }
        skill.config = config;
        Ok(())
    }

    fn seal(&self, id: SkillId, fields: &BTreeMap<String, String>) -> Sealed {
        let pepper = self.product.verifier.peppers.current();
        let plain = Zeroizing::new(json!(fields).to_string());
        let bytes = Seal::new(pepper, PURPOSE).seal(plain.as_bytes(), id.as_bytes(), self.nonce);
        Sealed { pepper: pepper.id(), bytes }
    }
}

/// What a skill is called with: a webhook's own, everything else's is given.
fn parameters(
    config: &Config,
    schema: Option<Value>,
    required: Option<Vec<String>>,
    before: Option<&Parameters>,
) -> Result<Parameters, Invalid> {
    let webhook = matches!(config, Config::Webhook { .. });
    let of_webhook = |parameters: Parameters| match config {
        Config::Webhook { url, .. } => match parameters.in_query_of(url) {
            Some(name) => Err(Invalid {
                field: "parametersSchema",
                message: format!("`{name}` stands in the query of executionConfig.url already"),
            }),
            None => Ok(parameters),
        },
        _ => Ok(parameters),
    };
    match (webhook, schema.is_some(), required.is_some()) {
        (true, ..) => {
            let schema = schema.or_else(|| before.map(|it| it.schema.clone()));
            let required = required.or_else(|| before.map(|it| it.required.clone()));
            let nothing = || json!({"type": "object", "properties": {}});
            Parameters::new(schema.unwrap_or_else(nothing), required.unwrap_or_default()).and_then(of_webhook)
        }
        (false, false, false) => Ok(Parameters::of(config)),
        (false, given, _) => Err(Invalid {
            field: if given { "parametersSchema" } else { "requiredParams" },
            message: format!("is given for {} and can't be set", config.skill_type().as_str()),
        }),
    }
}

fn named(name: String) -> Result<String, Invalid> {
    match tool(&name).is_empty() {
        false => Ok(name),
        true => Err(Invalid { field: "name", message: "must contain a Latin letter or a digit".into() }),
    }
}

/// `listSkills`: newest first, header values left out.
pub async fn list(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let rows = Skills(call.store()).list(call.organization()?, call.id("agentId")?, page).await?;
    call.list(page, rows, |skill| *skill.id.as_bytes(), render)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    name: String,
    description: String,
    skill_type: String,
    parameters_schema: Option<Value>,
    required_params: Option<Vec<String>>,
    #[serde(default)]
    execution_config: Map<String, Value>,
    #[serde(default)]
    requires_confirmation: bool,
    #[serde(default = "yes")]
    is_enabled: bool,
}

fn yes() -> bool {
    true
}

/// Gives an agent a skill.
pub async fn create(call: Call) -> Outcome<Answer> {
    let (organization, agent) = (call.organization()?, call.id::<AgentId>("agentId")?);
    let body: Create = call.read()?;
    let of = SkillType::parse(&body.skill_type)
        .ok_or_else(|| Problem::body("/skillType", "must be an available type; see GET /skill-types"))?;
    let new = Skill {
        id: call.verifier.id(call.now)?,
        organization,
        agent,
        name: named(body.name)?,
        description: body.description,
        config: Config::Knowledge,
        headers: None,
        parameters: Parameters::of(&Config::Knowledge),
        requires_confirmation: body.requires_confirmation,
        is_enabled: body.is_enabled,
        created_at: call.now,
        updated_at: call.now,
    };
    let maker = Maker { product: call.state.clone(), nonce: call.verifier.random()? };
    let new = made(move || {
        let mut new = new;
        maker.configure(&mut new, of, &body.execution_config)?;
        new.parameters = parameters(&new.config, body.parameters_schema, body.required_params, None)?;
        Ok(new)
    })
    .await?;
    let by = call.by().await?;
    let seal = |skill: &Skill| call.seal(&render(skill));
    let done = Skills(call.store()).create(&new, call.claim(), &by, &seal).await?;
    call.once(done, render)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: Option<String>,
    description: Option<String>,
    parameters_schema: Option<Value>,
    required_params: Option<Vec<String>>,
    execution_config: Option<Map<String, Value>>,
    requires_confirmation: Option<bool>,
    is_enabled: Option<bool>,
}

/// Changes a skill; from the next message on.
pub async fn update(call: Call) -> Outcome<Answer> {
    let (organization, agent, id) = (call.organization()?, call.id("agentId")?, call.id("id")?);
    let (body, by): (Update, _) = (call.read()?, call.by().await?);
    let maker = Maker { product: call.state.clone(), nonce: call.verifier.random()? };
    let skills = Skills(call.store());
    let before = skills.find(organization, agent, id).await?;
    let mut skill = before.clone();
    let new = made(move || {
        if let Some(name) = body.name {
            skill.name = named(name)?;
        }
        skill.description = body.description.unwrap_or(skill.description);
        if let Some(given) = &body.execution_config {
            let of = skill.config.skill_type();
            maker.configure(&mut skill, of, given)?;
        }
        let known = Some(&skill.parameters);
        skill.parameters = parameters(&skill.config, body.parameters_schema, body.required_params, known)?;
        skill.requires_confirmation = body.requires_confirmation.unwrap_or(skill.requires_confirmation);
        skill.is_enabled = body.is_enabled.unwrap_or(skill.is_enabled);
        Ok(skill)
    })
    .await?;
    let skill = skills.change(&before, &new, &by).await?;
    Ok(Answer::data(render(&skill)))
}

/// `deleteSkill`: deletes a skill of an agent, with its sealed header fields.
pub async fn delete(call: Call) -> Outcome<Answer> {
    let (organization, agent, id) = (call.organization()?, call.id("agentId")?, call.id("id")?);
    Skills(call.store()).delete(organization, agent, id, &call.by().await?).await?;
    Ok(Answer::nothing())
}

/// The types that run here.
pub async fn types(_: Call) -> Outcome<Answer> {
    let types: Vec<Value> = SkillType::ALL
        .iter()
        .map(|it| {
            json!({
                "skillType": it.as_str(),
                "description": it.description(),
                "executionConfigSchema": it.config_schema(),
            })
        })
        .collect();
    Ok(Answer::data(types.into()))
}
