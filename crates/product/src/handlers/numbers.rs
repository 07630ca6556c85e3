//! Telephone numbers: what is for sale, what is held, and what the organization has.

use crate::Call;
use crate::carrier::{CarrierError, Country, E164, NumberType, Offer, Search};
use crate::handlers::billing::usd;
use crate::id::{AgentId, NumberHoldId, NumberId};
use crate::numbers::{Hold, Number, NumberError, Numbers, Status};
use flowyte_core::id::Id;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Code, Outcome, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

const CURRENCY: &str = "USD";

fn numbers(call: &Call) -> Numbers<'_> {
    Numbers { store: call.store(), carriers: &call.state.carriers }
}

impl From<NumberError> for Problem {
    fn from(error: NumberError) -> Self {
        match error {
            NumberError::Store(error) => error.into(),
            NumberError::Carrier(error) => {
                tracing::warn!(%error, "the carrier could not be asked");
                match error {
                    CarrierError::Refused(_) => Self::new(Code::Conflict, "The carrier refused this."),
                    CarrierError::Away(_) => Self::new(
                        Code::DependencyUnavailable,
                        "The carrier does not answer. A purchase that was begun is finished or undone once it does.",
                    )
                    .retry_after(30),
                }
            }
        }
    }
}

fn render(number: &Number) -> Value {
    let status = match (number.status, number.agent) {
        (Status::Buying, _) => "pending",
        (_, Some(_)) => "assigned",
        (_, None) => "available",
    };
    json!({
        "id": number.id.to_string(),
        "organizationId": number.organization.to_string(),
        "e164": number.e164.as_str(),
        "provider": number.provider,
        "status": status,
        "defaultAgentId": number.agent.map(|it| it.to_string()),
        "imported": number.imported,
        "monthlyCost": usd(number.price.monthly),
        "currency": CURRENCY,
        "paidUntil": instant(number.paid_until().ok().flatten()),
        "env": number.environment.as_str(),
        "createdAt": instant(number.created_at),
    })
}

fn render_offer(offer: &Offer) -> Value {
    json!({
        "e164": offer.e164.as_str(),
        "formatted": offer.formatted,
        "locality": offer.locality,
        "region": offer.region,
        "rateCenter": offer.rate_center,
        "numberType": offer.kind.as_str(),
        "features": offer.features,
        "monthlyCost": usd(offer.price.monthly),
        "setupCost": usd(offer.price.setup),
        "currency": CURRENCY,
        "reservable": true,
    })
}

/// The organization's numbers, newest first.
pub async fn list(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let rows = numbers(&call).list(call.organization()?, call.environment()?, page).await?;
    call.list(page, rows, |number| *number.id.as_bytes(), render)
}

/// Numbers for sale.
pub async fn search(call: Call) -> Outcome<Answer> {
    let text = |name: &str| call.query.get(name).map(str::to_owned);
    // The contract lists the countries and types.
    let country = call.query.get("country").and_then(Country::parse).unwrap_or(Country::UnitedStates);
    let kind = call.query.get("numberType").and_then(NumberType::parse).unwrap_or(NumberType::Local);
    let features = call.query.get("features").unwrap_or_default();
    let wanted = Search {
        country,
        kind,
        area_code: text("areaCode"),
        contains: text("contains"),
        starts_with: text("startsWith"),
        ends_with: text("endsWith"),
        locality: text("locality"),
        administrative_area: text("administrativeArea"),
        features: features.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
        limit: call.query.get_u32("limit").unwrap_or(20),
    };
    let offers = numbers(&call).search(call.environment()?, &wanted, call.now).await?;
    Ok(Answer::list(offers.iter().map(render_offer).collect(), wanted.limit, None))
}

/// The price of one number.
pub async fn available(call: Call) -> Outcome<Answer> {
    let text = call.params.iter().find(|(name, _)| name == "e164").map(|(_, value)| value.as_str());
    let e164 = text.and_then(E164::parse).ok_or_else(Problem::not_found)?;
    let offer = numbers(&call).offer(call.environment()?, &e164, call.now).await?;
    Ok(Answer::data(render_offer(&offer)))
}

#[derive(Deserialize)]
struct Wanted {
    e164: String,
}

impl Wanted {
    fn of(call: &Call) -> Outcome<E164> {
        let body: Self = call.read()?;
        E164::parse(&body.e164).ok_or_else(|| Problem::body("/e164", "must be + and 7 to 15 digits"))
    }
}

fn render_hold(hold: &Hold) -> Value {
    let mut object = render_offer(&hold.offer);
    object["id"] = hold.id.to_string().into();
    object["reservable"] = false.into();
    object["expiresAt"] = instant(hold.expires_at);
    object
}

/// Holds a number.
pub async fn reserve(call: Call) -> Outcome<Answer> {
    let (e164, id) = (Wanted::of(&call)?, call.verifier.id(call.now)?);
    let seal = |hold: &Hold| call.seal(&render_hold(hold));
    let (organization, environment) = (call.organization()?, call.environment()?);
    let done =
        numbers(&call).reserve(organization, environment, id, &e164, call.claim(), call.now, &seal).await?;
    call.once(done, render_hold)
}

/// Lets go of a hold.
pub async fn let_go(call: Call) -> Outcome<Answer> {
    let id: NumberHoldId = call.id("id")?;
    numbers(&call).let_go(call.organization()?, call.environment()?, id, call.now).await?;
    Ok(Answer::nothing())
}

/// Buys a number.
pub async fn purchase(call: Call) -> Outcome<Answer> {
    let (e164, id, by) = (Wanted::of(&call)?, call.verifier.id(call.now)?, call.by().await?);
    let seal = |number: &Number| call.seal(&render(number));
    let (organization, environment) = (call.organization()?, call.environment()?);
    let done =
        numbers(&call).purchase(organization, environment, id, &e164, call.claim(), &by, &seal).await?;
    call.once(done, render)
}

/// Takes over a number that is in the carrier's account already.
pub async fn import(call: Call) -> Outcome<Answer> {
    let (e164, id, by) = (Wanted::of(&call)?, call.verifier.id(call.now)?, call.by().await?);
    let seal = |number: &Number| call.seal(&render(number));
    let (organization, environment) = (call.organization()?, call.environment()?);
    let done = numbers(&call).import(organization, environment, id, &e164, call.claim(), &by, &seal).await?;
    call.once(done, render)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assign {
    agent_id: String,
}

/// Sets the agent that answers.
pub async fn assign(call: Call) -> Outcome<Answer> {
    let id: NumberId = call.id("id")?;
    let body: Assign = call.read()?;
    let agent = AgentId::parse(&body.agent_id).ok_or_else(Problem::not_found)?;
    set_agent(&call, id, Some(agent)).await
}

/// Takes the agent off a number.
pub async fn unassign(call: Call) -> Outcome<Answer> {
    let id: NumberId = call.id("id")?;
    set_agent(&call, id, None).await
}

async fn set_agent(call: &Call, id: NumberId, agent: Option<AgentId>) -> Outcome<Answer> {
    let by = call.by().await?;
    let number = numbers(call).assign(call.organization()?, call.environment()?, id, agent, &by).await?;
    Ok(Answer::data(render(&number)))
}

/// Gives a number up.
pub async fn release(call: Call) -> Outcome<Answer> {
    let (id, by): (NumberId, _) = (call.id("id")?, call.by().await?);
    numbers(&call).release(call.organization()?, call.environment()?, id, &by).await?;
    Ok(Answer::nothing())
}
