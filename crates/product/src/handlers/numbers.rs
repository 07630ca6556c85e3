//! Telephone numbers: what is for sale, what is held, and what the organization has.

use crate::Call;
use crate::carrier::{CarrierError, Country, E164, NumberType, Offer, Search};
use crate::id::{AgentId, NumberHoldId, NumberId};
use crate::money::Usd;
use crate::numbers::{Hold, Number, NumberError, Numbers, Status};
use flowyte_core::id::Id;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Code, Outcome, Problem};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownNumber {
    id: String,
    organization_id: String,
    e164: String,
    provider: String,
    status: &'static str,
    default_agent_id: Option<String>,
    imported: bool,
    monthly_cost: Usd,
    currency: &'static str,
    paid_until: Value,
    env: &'static str,
    created_at: Value,
}

fn render(number: &Number) -> ShownNumber {
    let status = match (number.status, number.agent) {
        (Status::Buying, _) => "pending",
        (_, Some(_)) => "assigned",
        (_, None) => "available",
    };
    ShownNumber {
        id: number.id.to_string(),
        organization_id: number.organization.to_string(),
        e164: number.e164.as_str().to_owned(),
        provider: number.provider.clone(),
        status,
        default_agent_id: number.agent.map(|it| it.to_string()),
        imported: number.imported,
        monthly_cost: Usd(number.price.monthly),
        currency: CURRENCY,
        paid_until: instant(number.paid_until().ok().flatten()),
        env: number.environment.as_str(),
        created_at: instant(number.created_at),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownOffer {
    e164: String,
    formatted: String,
    locality: Option<String>,
    region: Option<String>,
    rate_center: Option<String>,
    number_type: &'static str,
    features: Vec<String>,
    monthly_cost: Usd,
    setup_cost: Usd,
    currency: &'static str,
    reservable: bool,
}

fn render_offer(offer: &Offer) -> ShownOffer {
    ShownOffer {
        e164: offer.e164.as_str().to_owned(),
        formatted: offer.formatted.clone(),
        locality: offer.locality.clone(),
        region: offer.region.clone(),
        rate_center: offer.rate_center.clone(),
        number_type: offer.kind.as_str(),
        features: offer.features.clone(),
        monthly_cost: Usd(offer.price.monthly),
        setup_cost: Usd(offer.price.setup),
        currency: CURRENCY,
        reservable: true,
    }
}

/// The organization's numbers, newest first.
pub async fn list(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let rows = numbers(&call).list(call.organization()?, call.environment()?, page).await?;
    call.list(page, rows, |number| *number.id.as_bytes(), render)
}

/// `searchNumbers`: what the carrier has for sale now.
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
    let shown: Vec<_> = offers.iter().map(render_offer).collect();
    Ok(Answer::list(&shown, wanted.limit, None))
}

/// The price of one number.
pub async fn available(call: Call) -> Outcome<Answer> {
    let text = call.params.iter().find(|(name, _)| name == "e164").map(|(_, value)| value.as_str());
    let e164 = text.and_then(E164::parse).ok_or_else(Problem::not_found)?;
    let offer = numbers(&call).offer(call.environment()?, &e164, call.now).await?;
    Ok(Answer::serialized(&render_offer(&offer)))
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

/// An offer that is held. Nobody else can hold it now.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownHold {
    #[serde(flatten)]
    offer: ShownOffer,
    id: String,
    expires_at: Value,
}

fn render_hold(hold: &Hold) -> ShownHold {
    let offer = ShownOffer { reservable: false, ..render_offer(&hold.offer) };
    ShownHold { offer, id: hold.id.to_string(), expires_at: instant(hold.expires_at) }
}

/// `reserveNumber`: nobody else can buy it for half an hour.
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

/// `purchaseNumber`: paid from the wallet, once, however often it is asked for.
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
    Ok(Answer::serialized(&render(&number)))
}

/// `releaseNumber`: gives a number up at once; where the carrier does not answer, it is told later.
pub async fn release(call: Call) -> Outcome<Answer> {
    let (id, by): (NumberId, _) = (call.id("id")?, call.by().await?);
    numbers(&call).release(call.organization()?, call.environment()?, id, &by).await?;
    Ok(Answer::nothing())
}
