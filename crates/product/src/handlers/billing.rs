//! Billing: wallet, payments into it, plan, and what was used.

use crate::Call;
use crate::billing::{AutoReload, Billing, Item, NotToppedUp, PLANS, Plan, TopUp, TopUpStatus, Wallet};
use crate::payment::{Intent, PaymentError};
use flowyte_core::id::Id;
use flowyte_core::time::{DAY, InvalidTimestamp};
use flowyte_core::{Environment, Timestamp};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Code, Outcome, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Credits as US dollars.
pub(super) fn usd(credits: i64) -> Value {
    json!(credits as f64 / 100.0)
}

/// US dollars as credits, which are whole cents.
fn credits(pointer: &str, usd: f64) -> Outcome<i64> {
    let cents = (usd * 100.0).round();
    match (usd * 100.0 - cents).abs() < 1e-6 {
        true => Ok(cents as i64), // The contract bounds it far below what would not fit.
        false => Err(Problem::body(pointer, "must have at most two decimals")),
    }
}

fn billing(call: &Call) -> Billing<'_> {
    Billing { store: call.store(), payments: &call.state.payments }
}

fn render(call: &Call, environment: Environment, wallet: &Wallet) -> Value {
    let reload = wallet.auto_reload;
    json!({
        "balanceUsd": usd(wallet.balance),
        "autoReloadEnabled": reload.is_some_and(|it| it.enabled),
        "autoReloadThresholdUsd": reload.map(|it| usd(it.threshold)),
        "autoReloadAmountUsd": reload.map(|it| usd(it.amount)),
        "planId": wallet.plan.id,
        "nextPlanId": wallet.next_plan.map(|it| it.id),
        "periodStartsAt": instant(wallet.period_from),
        "periodEndsAt": instant(wallet.period_until),
        "paymentProvider": call.state.payments.of(environment).name(),
        "env": environment.as_str(),
    })
}

/// Balance and auto-reload.
pub async fn wallet(call: Call) -> Outcome<Answer> {
    let environment = call.environment()?;
    let wallet = billing(&call).wallet(call.organization()?, environment, call.now).await?;
    Ok(Answer::data(render(&call, environment, &wallet)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartTopUp {
    amount_usd: f64,
}

/// Starts a payment.
pub async fn top_up(call: Call) -> Outcome<Answer> {
    let body: StartTopUp = call.read()?;
    let credits = credits("/amountUsd", body.amount_usd)?;
    let (environment, id, by) = (call.environment()?, call.verifier.id(call.now)?, call.by().await?);
    let provider = call.state.payments.of(environment).name();
    let render = |(top_up, intent): &(TopUp, Intent)| {
        let status = match top_up.status {
            TopUpStatus::Open | TopUpStatus::Pending => TopUpStatus::Pending,
            over => over,
        };
        json!({
            "id": top_up.id.to_string(),
            "amountUsd": usd(top_up.credits),
            "status": status.as_str(),
            "clientSecret": intent.client_secret,
            "paymentProvider": provider,
            "env": environment.as_str(),
            "createdAt": instant(top_up.created_at),
        })
    };
    let seal = |done: &(TopUp, Intent)| call.seal(&render(done));
    let done = billing(&call)
        .top_up(call.organization()?, environment, id, credits, call.claim(), &by, &seal)
        .await?;
    call.once(done, render)
}

impl From<NotToppedUp> for Problem {
    fn from(error: NotToppedUp) -> Self {
        match error {
            NotToppedUp::Store(error) => error.into(),
            NotToppedUp::Payment(error) => {
                tracing::warn!(%error, "a payment could not be started");
                match error {
                    PaymentError::Refused(_) => {
                        Self::new(Code::Conflict, "The payment provider does not take this payment.")
                    }
                    PaymentError::Away(_) => Self::new(
                        Code::DependencyUnavailable,
                        "The payment provider does not answer; nothing was paid.",
                    ),
                }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetAutoReload {
    auto_reload_enabled: bool,
    auto_reload_threshold_usd: f64,
    auto_reload_amount_usd: f64,
}

/// Sets auto-reload.
pub async fn set_auto_reload(call: Call) -> Outcome<Answer> {
    let body: SetAutoReload = call.read()?;
    let wanted = AutoReload {
        enabled: body.auto_reload_enabled,
        threshold: credits("/autoReloadThresholdUsd", body.auto_reload_threshold_usd)?,
        amount: credits("/autoReloadAmountUsd", body.auto_reload_amount_usd)?,
    };
    let (environment, by) = (call.environment()?, call.by().await?);
    let wallet = billing(&call).set_auto_reload(call.organization()?, environment, wanted, &by).await?;
    Ok(Answer::data(render(&call, environment, &wallet)))
}

/// Every plan.
pub async fn plans(_: Call) -> Outcome<Answer> {
    let plans: Vec<Value> = PLANS
        .iter()
        .map(|plan| {
            json!({
                "id": plan.id,
                "name": plan.name,
                "monthlyPriceUsd": usd(plan.price),
                "includedMessages": plan.included_messages,
                "overageRate": usd(plan.overage),
            })
        })
        .collect();
    Ok(Answer::data(plans.into()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeSubscription {
    plan_id: String,
}

/// Changes the plan.
pub async fn change_subscription(call: Call) -> Outcome<Answer> {
    let body: ChangeSubscription = call.read()?;
    let plan = Plan::find(&body.plan_id).ok_or_else(|| Problem::body("/planId", "is not a plan"))?;
    let (environment, by) = (call.environment()?, call.by().await?);
    let seal = |wallet: &Wallet| call.seal(&render(&call, environment, wallet));
    let done =
        billing(&call).change_plan(call.organization()?, environment, plan, call.claim(), &by, &seal).await?;
    call.once(done, |wallet| render(&call, environment, wallet))
}

/// What was used per day and channel.
pub async fn usage(call: Call) -> Outcome<Answer> {
    let day = |name: &str, default: Timestamp| -> Outcome<Timestamp> {
        let day = call.query.get(name).map_or_else(|| default.day(), |it| it.chars().take(10).collect());
        format!("{day}T00:00:00Z")
            .parse()
            .map_err(|error: InvalidTimestamp| Problem::query(name, error.to_string()))
    };
    let (from, to) = (day("from", call.now.plus(-29 * DAY))?, day("to", call.now)?);
    let rows = billing(&call).usage(call.organization()?, call.environment()?, from, to.plus(DAY)).await?;
    let mut days: BTreeMap<String, BTreeMap<&str, (i64, i64)>> = BTreeMap::new();
    let mut total = 0;
    for row in rows {
        let (quantity, credits) = days.entry(row.date).or_default().entry(row.kind.channel()).or_default();
        *quantity += row.quantity;
        *credits += row.credits;
        total += row.credits;
    }
    let days: Vec<Value> = days
        .into_iter()
        .map(|(date, channels)| {
            let channels: Vec<Value> = channels
                .into_iter()
                .map(|(channel, (quantity, credits))| {
                    json!({"channel": channel, "quantity": quantity, "costUsd": usd(credits)})
                })
                .collect();
            json!({"date": date, "channels": channels})
        })
        .collect();
    Ok(Answer::data(json!({"days": days, "totalUsd": usd(total)})))
}

/// Charges one by one, newest first.
pub async fn items(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let rows = billing(&call).items(call.organization()?, call.environment()?, page).await?;
    call.list(page, rows, |item| *item.id.as_bytes(), render_item)
}

fn render_item(item: &Item) -> Value {
    json!({
        "id": item.id.to_string(),
        "time": instant(item.at),
        "type": item.kind.as_str(),
        "channel": item.kind.channel(),
        "quantity": item.quantity,
        "credits": item.credits,
        "description": item.description,
        "agentId": item.agent.map(|it| it.to_string()),
    })
}
