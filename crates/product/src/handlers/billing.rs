//! Billing: wallet, payments into it, plan, and what was used.

use crate::Call;
use crate::billing::{AutoReload, Billing, Item, NotToppedUp, PLANS, Plan, TopUp, TopUpStatus, Wallet};
use crate::money::Usd;
use crate::payment::{Intent, PaymentError};
use flowyte_core::id::Id;
use flowyte_core::time::{DAY, InvalidTimestamp};
use flowyte_core::{Environment, Timestamp};
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Code, Outcome, Problem};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A body with amounts of money, which are read from its text: [`Call::read`] has doubles only.
fn read<'c, T: Deserialize<'c>>(call: &'c Call) -> Outcome<T> {
    serde_json::from_slice(&call.sent).map_err(|error| Problem::body("", error.to_string()))
}

/// US dollars as credits, which are whole cents.
fn credits(pointer: &str, usd: &RawValue) -> Outcome<i64> {
    Usd::read(usd).map(|it| it.0).map_err(|why| Problem::body(pointer, why.to_string()))
}

fn billing(call: &Call) -> Billing<'_> {
    Billing { store: call.store(), payments: &call.state.payments }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownWallet {
    balance_usd: Usd,
    auto_reload_enabled: bool,
    auto_reload_threshold_usd: Option<Usd>,
    auto_reload_amount_usd: Option<Usd>,
    plan_id: &'static str,
    next_plan_id: Option<&'static str>,
    period_starts_at: Value,
    period_ends_at: Value,
    payment_provider: &'static str,
    env: &'static str,
}

fn render(call: &Call, environment: Environment, wallet: &Wallet) -> ShownWallet {
    let reload = wallet.auto_reload;
    ShownWallet {
        balance_usd: Usd(wallet.balance),
        auto_reload_enabled: reload.is_some_and(|it| it.enabled),
        auto_reload_threshold_usd: reload.map(|it| Usd(it.threshold)),
        auto_reload_amount_usd: reload.map(|it| Usd(it.amount)),
        plan_id: wallet.plan.id,
        next_plan_id: wallet.next_plan.map(|it| it.id),
        period_starts_at: instant(wallet.period_from),
        period_ends_at: instant(wallet.period_until),
        payment_provider: call.state.payments.of(environment).name(),
        env: environment.as_str(),
    }
}

/// `getWallet`: balance, auto-reload and plan.
pub async fn wallet(call: Call) -> Outcome<Answer> {
    let environment = call.environment()?;
    let wallet = billing(&call).wallet(call.organization()?, environment, call.now).await?;
    Ok(Answer::serialized(&render(&call, environment, &wallet)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartTopUp<'b> {
    #[serde(borrow)]
    amount_usd: &'b RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownTopUp {
    id: String,
    amount_usd: Usd,
    status: &'static str,
    client_secret: Option<String>,
    payment_provider: &'static str,
    env: &'static str,
    created_at: Value,
}

fn render_top_up(call: &Call, environment: Environment, (top_up, intent): &(TopUp, Intent)) -> ShownTopUp {
    let status = match top_up.status {
        TopUpStatus::Open | TopUpStatus::Pending => TopUpStatus::Pending,
        over => over,
    };
    ShownTopUp {
        id: top_up.id.to_string(),
        amount_usd: Usd(top_up.credits),
        status: status.as_str(),
        client_secret: intent.client_secret.clone(),
        payment_provider: call.state.payments.of(environment).name(),
        env: environment.as_str(),
        created_at: instant(top_up.created_at),
    }
}

/// `topUpWallet`: starts a payment; the wallet is filled when its money comes.
pub async fn top_up(call: Call) -> Outcome<Answer> {
    let body: StartTopUp<'_> = read(&call)?;
    let credits = credits("/amountUsd", body.amount_usd)?;
    let (environment, id, by) = (call.environment()?, call.verifier.id(call.now)?, call.by().await?);
    let seal = |done: &(TopUp, Intent)| call.seal(&render_top_up(&call, environment, done));
    let done = billing(&call)
        .top_up(call.organization()?, environment, id, credits, call.claim(), &by, &seal)
        .await?;
    call.once(done, |done| render_top_up(&call, environment, done))
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
struct SetAutoReload<'b> {
    auto_reload_enabled: bool,
    #[serde(borrow)]
    auto_reload_threshold_usd: &'b RawValue,
    #[serde(borrow)]
    auto_reload_amount_usd: &'b RawValue,
}

/// `setWalletAutoReload`: below which balance how much is paid in.
pub async fn set_auto_reload(call: Call) -> Outcome<Answer> {
    let body: SetAutoReload<'_> = read(&call)?;
    let wanted = AutoReload {
        enabled: body.auto_reload_enabled,
        threshold: credits("/autoReloadThresholdUsd", body.auto_reload_threshold_usd)?,
        amount: credits("/autoReloadAmountUsd", body.auto_reload_amount_usd)?,
    };
    let (environment, by) = (call.environment()?, call.by().await?);
    let wallet = billing(&call).set_auto_reload(call.organization()?, environment, wanted, &by).await?;
    Ok(Answer::serialized(&render(&call, environment, &wallet)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownPlan {
    id: &'static str,
    name: &'static str,
    monthly_price_usd: Usd,
    included_messages: i64,
    overage_rate: Usd,
}

/// `listPlans`: all that may be chosen, cheapest first.
pub async fn plans(_: Call) -> Outcome<Answer> {
    let plans = PLANS.each_ref().map(|plan| ShownPlan {
        id: plan.id,
        name: plan.name,
        monthly_price_usd: Usd(plan.price),
        included_messages: plan.included_messages,
        overage_rate: Usd(plan.overage),
    });
    Ok(Answer::serialized(&plans))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeSubscription {
    plan_id: String,
}

/// `changeSubscription`: a dearer plan begins now, a cheaper one when the period ends.
pub async fn change_subscription(call: Call) -> Outcome<Answer> {
    let body: ChangeSubscription = call.read()?;
    let plan = Plan::find(&body.plan_id).ok_or_else(|| Problem::body("/planId", "is not a plan"))?;
    let (environment, by) = (call.environment()?, call.by().await?);
    let seal = |wallet: &Wallet| call.seal(&render(&call, environment, wallet));
    let done =
        billing(&call).change_plan(call.organization()?, environment, plan, call.claim(), &by, &seal).await?;
    call.once(done, |wallet| render(&call, environment, wallet))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownUsage {
    days: Vec<UsedInADay>,
    total_usd: Usd,
}

#[derive(Serialize)]
struct UsedInADay {
    date: String,
    channels: Vec<UsedInAChannel>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsedInAChannel {
    channel: &'static str,
    quantity: i64,
    cost_usd: Usd,
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
    let total_usd = Usd(rows.iter().map(|row| row.credits).sum());
    let mut days: BTreeMap<String, BTreeMap<&str, (i64, i64)>> = BTreeMap::new();
    for row in rows {
        let (quantity, credits) = days.entry(row.date).or_default().entry(row.kind.channel()).or_default();
        *quantity += row.quantity;
        *credits += row.credits;
    }
    let in_a_channel =
        |(channel, (quantity, credits))| UsedInAChannel { channel, quantity, cost_usd: Usd(credits) };
    let days = days
        .into_iter()
        .map(|(date, all)| UsedInADay { date, channels: all.into_iter().map(in_a_channel).collect() })
        .collect();
    Ok(Answer::serialized(&ShownUsage { days, total_usd }))
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
