//! What is seen of conversations afterwards: each of them, how agents do, and what they could not answer.

use crate::Call;
use crate::agents::Agents;
use crate::analytics::{Analytics, Counts, Figures, Window};
use crate::conversations::{
    Conversation, Conversations, Happening, Outcome as CameTo, Search, Speaker, sentiment,
};
use crate::gaps::{Gap, Gaps, Status};
use crate::id::{AgentId, ConversationId, KnowledgeGapId};
use crate::money::Usd;
use crate::mood::Sentiment;
use flowyte_core::Environment;
use flowyte_core::id::Id;
use flowyte_core::time::DAY;
use flowyte_http::answer::Answer;
use flowyte_http::call::instant;
use flowyte_http::problem::{Outcome, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Days that are counted where nobody says since when.
const DEFAULT_DAYS: i64 = 30;
/// Days that may be counted at once.
const MOST_DAYS: i64 = 366;

/// A conversation; what is not known of it is not there.
fn render(it: &Conversation) -> Value {
    let mut row = json!({
        "id": it.id.to_string(),
        "agentId": it.agent.to_string(),
        "environment": it.environment.as_str(),
        "channel": it.channel,
        "startedAt": instant(it.started_at),
        "durationS": it.last_at.since(it.started_at) / 1_000_000,
        "outcome": it.outcome.map(CameTo::as_str),
        "userTurnCount": it.user_turns,
        "unansweredCount": it.unanswered,
    });
    let mood = sentiment(it);
    let known = [
        ("language", it.language.clone().map(Value::from)),
        ("summary", it.summary.clone().map(Value::from)),
        ("primaryTopic", it.topic.clone().map(Value::from)),
        ("sentimentScore", mood.map(|(score, _)| score.into())),
        ("sentimentLabel", mood.map(|(_, label)| label.as_str().into())),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            row[name] = value;
        }
    }
    row
}

fn environment(call: &Call) -> Option<Environment> {
    call.query.get("environment").and_then(Environment::parse)
}

/// `listConversations`: newest first, those that fit the search.
pub async fn list(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let skip = match (call.query.get_u32("page"), page.before) {
        (None, _) => 0,
        (Some(number), None) => (i64::from(number) - 1) * i64::from(page.limit),
        (Some(_), Some(_)) => {
            return Err(Problem::query("page", "must not be sent together with a cursor"));
        }
    };
    let agent = match call.query.get("agentId") {
        None => None,
        Some(text) => {
            Some(AgentId::parse(text).ok_or_else(|| Problem::query("agentId", "is not an agent's id"))?)
        }
    };
    let search = Search {
        agent,
        from: call.query_instant("from")?,
        to: call.query_instant("to")?,
        channel: call.query.get("channel").map(str::to_owned),
        outcome: call.query.get("outcome").and_then(CameTo::parse),
        environment: environment(&call),
        text: call.query.get("q").map(str::to_owned),
        skip,
    };
    let rows = Conversations(call.store()).search(call.organization()?, &search, page).await?;
    call.list(page, rows, |it| *it.id.as_bytes(), render)
}

async fn conversation(call: &Call) -> Outcome<Conversation> {
    Ok(Conversations(call.store()).find(call.organization()?, call.id("id")?).await?)
}

/// `getConversation`: one without what was said in it.
pub async fn get(call: Call) -> Outcome<Answer> {
    Ok(Answer::data(render(&conversation(&call).await?)))
}

/// What was said, oldest first.
pub async fn transcript(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let of = conversation(&call).await?;
    let rows = Conversations(call.store()).messages(call.organization()?, of.id, page).await?;
    call.list(
        page,
        rows,
        |it| *it.id.as_bytes(),
        |it| {
            let mut turn = json!({
                "role": if it.speaker == Speaker::User { "user" } else { "assistant" },
                "text": it.text,
                "tsMs": it.at.since(of.started_at) / 1_000,
            });
            if !it.language.is_empty() {
                turn["language"] = it.language.clone().into();
            }
            turn
        },
    )
}

/// A place in a receipt as a cursor carries it.
fn position(sequence: i64) -> [u8; 16] {
    i128::from(sequence).to_be_bytes()
}

/// `getConversationReceipt`: a page of what happened in a conversation, in order.
pub async fn receipt(call: Call) -> Outcome<Answer> {
    let page = call.page()?;
    let id: ConversationId = call.id("id")?;
    let after = page.before.map_or(0, |it| i128::from_be_bytes(it) as i64);
    let rows = Conversations(call.store()).receipt(call.organization()?, id, after, page).await?;
    let happening = |it: &Happening| json!({"sequence": it.sequence, "eventType": it.kind, "at": instant(it.at), "data": it.data});
    call.list(page, rows, |it| position(it.sequence), happening)
}

/// The window that the query asks for: 30 days until now, unless it says otherwise.
fn window(call: &Call, agent: Option<AgentId>) -> Outcome<Window> {
    let to = call.query_instant("to")?.unwrap_or(call.now);
    let from = call.query_instant("from")?.unwrap_or(to.plus(-DEFAULT_DAYS * DAY));
    if from >= to {
        return Err(Problem::query("from", "must be before the end"));
    }
    if to.since(from) > MOST_DAYS * DAY {
        return Err(Problem::query("from", format!("may be {MOST_DAYS} days before the end at most")));
    }
    Ok(Window {
        agent,
        from,
        to,
        channel: call.query.get("channel").map(str::to_owned),
        environment: environment(call).unwrap_or(Environment::Live),
    })
}

/// A share with three decimals; nothing of nothing.
fn share(part: i64, whole: i64) -> Option<Value> {
    (whole > 0).then(|| ((part as f64 / whole as f64 * 1_000.0).round() / 1_000.0).into())
}

/// An object of what is known.
fn known<const N: usize>(members: [(&str, Option<Value>); N]) -> Map<String, Value> {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn stats(it: &Counts) -> Value {
    let rates = known([
        ("containmentRate", share(it.came_to(CameTo::Completed), it.ended)),
        ("transferRate", share(it.came_to(CameTo::Transferred), it.ended)),
        ("answerRate", share(it.answered, it.total)),
    ]);
    let mut stats = json!({
        "totalCalls": it.total,
        "answeredCalls": it.answered,
        "missedCalls": it.total - it.answered,
        "completedCalls": it.came_to(CameTo::Completed),
        "transferredCalls": it.came_to(CameTo::Transferred),
        "abandonedCalls": it.came_to(CameTo::Abandoned),
        "failedCalls": it.came_to(CameTo::Error),
        "questions": it.questions,
        "unansweredQuestions": it.unanswered,
    });
    for (name, value) in rates {
        stats[name] = value;
    }
    stats
}

/// What the card of an agent and the overview have in common.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Card {
    from: Value,
    to: Value,
    environment: &'static str,
    answer_stats: Value,
    by_channel: Map<String, Value>,
    sentiment_triage: Map<String, Value>,
    top_topics: Vec<Value>,
    cost_breakdown: CostBreakdown,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CostBreakdown {
    total_usd: Usd,
    by_type: Vec<Cost>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    #[serde(rename = "type")]
    kind: String,
    cost_usd: Usd,
}

fn card(window: &Window, figures: &Figures) -> Card {
    let by_type =
        figures.spent_on.iter().map(|(kind, credits)| Cost { kind: kind.clone(), cost_usd: Usd(*credits) });
    Card {
        from: instant(window.from),
        to: instant(window.to),
        environment: window.environment.as_str(),
        answer_stats: stats(&figures.all),
        by_channel: figures.by_channel.iter().map(|(it, counts)| (it.clone(), stats(counts))).collect(),
        sentiment_triage: Sentiment::ALL
            .iter()
            .zip(figures.all.sentiments)
            .map(|(it, many)| (it.as_str().to_owned(), many.into()))
            .collect(),
        top_topics: figures.topics.iter().map(|(it, many)| json!({"topic": it, "count": many})).collect(),
        cost_breakdown: CostBreakdown { total_usd: Usd(figures.all.spent), by_type: by_type.collect() },
    }
}

/// The card of an agent. Rates of nothing are not there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentCard {
    #[serde(flatten)]
    card: Card,
    agent_id: String,
    #[serde(flatten)]
    rates: Map<String, Value>,
    #[serde(rename = "p50ByLang")]
    p50_by_lang: Map<String, Value>,
    #[serde(rename = "p95ByLang")]
    p95_by_lang: Map<String, Value>,
    knowledge_gaps_summary: Value,
}

/// `getAgentAnalytics`: how an agent did in a window of time.
pub async fn agent(call: Call) -> Outcome<Answer> {
    let (organization, agent): (_, AgentId) = (call.organization()?, call.id("agentId")?);
    let window = window(&call, Some(agent))?;
    let figures = Analytics(call.store()).figures(organization, &window).await?;
    let answers = Analytics(call.store()).answers(organization, agent, &window).await?;
    let all = &figures.all;
    let latency = |of: fn(&(i64, i64)) -> i64| -> Map<String, Value> {
        answers.latency.iter().map(|(language, both)| (language.clone(), of(both).into())).collect()
    };
    Ok(Answer::serialized(&AgentCard {
        card: card(&window, &figures),
        agent_id: agent.to_string(),
        rates: known([
            ("containment", share(all.came_to(CameTo::Completed), all.ended)),
            ("transferRate", share(all.came_to(CameTo::Transferred), all.ended)),
        ]),
        p50_by_lang: latency(|it| it.0),
        p95_by_lang: latency(|it| it.1),
        knowledge_gaps_summary: json!({"open": answers.open_gaps, "unansweredQuestions": all.unanswered}),
    }))
}

/// `getAnalyticsOverview`: how all agents of the organization did in a window of time.
pub async fn overview(call: Call) -> Outcome<Answer> {
    let window = window(&call, None)?;
    let figures = Analytics(call.store()).figures(call.organization()?, &window).await?;
    Ok(Answer::serialized(&card(&window, &figures)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentRow {
    agent_id: String,
    name: String,
    answer_stats: Value,
    spend_usd: Usd,
}

/// Agents, newest first, with how each does.
pub async fn by_agent(call: Call) -> Outcome<Answer> {
    let (page, window) = (call.page()?, window(&call, None)?);
    let figures = Analytics(call.store()).figures(call.organization()?, &window).await?;
    let rows = Agents(call.store()).list(call.organization()?, page).await?;
    call.list(
        page,
        rows,
        |agent| *agent.id.as_bytes(),
        |agent| {
            let counts = figures.by_agent.get(agent.id.as_bytes()).cloned().unwrap_or_default();
            AgentRow {
                agent_id: agent.id.to_string(),
                name: agent.name.clone(),
                answer_stats: stats(&counts),
                spend_usd: Usd(counts.spent),
            }
        },
    )
}

#[derive(Serialize)]
struct Timeseries {
    days: Vec<DayRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DayRow {
    date: String,
    calls: i64,
    answered_calls: i64,
    questions: i64,
    unanswered_questions: i64,
    spend_usd: Usd,
}

async fn days(call: &Call, agent: Option<AgentId>) -> Outcome<Answer> {
    let window = window(call, agent)?;
    let figures = Analytics(call.store()).figures(call.organization()?, &window).await?;
    let row = |(date, it): (String, Counts)| DayRow {
        date,
        calls: it.total,
        answered_calls: it.answered,
        questions: it.questions,
        unanswered_questions: it.unanswered,
        spend_usd: Usd(it.spent),
    };
    Ok(Answer::serialized(&Timeseries { days: figures.by_day.into_iter().map(row).collect() }))
}

/// `getAgentAnalyticsTimeseries`: the figures of an agent for each day of a window.
pub async fn agent_timeseries(call: Call) -> Outcome<Answer> {
    days(&call, Some(call.id("agentId")?)).await
}

/// `getAnalyticsTimeseries`: the figures of the organization for each day of a window.
pub async fn timeseries(call: Call) -> Outcome<Answer> {
    days(&call, None).await
}

fn render_gap(gap: &Gap, total: i64) -> Value {
    let mut signals = vec![if gap.top_score.is_some() { "low_similarity" } else { "nothing_found" }];
    if gap.count > 1 {
        signals.push("asked_again");
    }
    json!({
        "gapId": gap.id.to_string(),
        "queryText": gap.text,
        "count": gap.count,
        "distinctCalls": gap.conversations,
        "lastSeen": instant(gap.last_at),
        "signals": signals,
        "rankScore": share(gap.count, total),
        "classification": if gap.is_miss() { "RETRIEVAL_MISS" } else { "TRUE_GAP" },
        "status": gap.status.as_str(),
    })
}

/// What an agent could not answer, the most frequent first.
pub async fn gaps(call: Call) -> Outcome<Answer> {
    let status = call.query.get("status").and_then(Status::parse);
    let limit = call.query.get_u32("limit").unwrap_or(20);
    let environment = environment(&call).unwrap_or(Environment::Live);
    let found = Gaps(call.store())
        .list(call.organization()?, call.id("agentId")?, environment, status, limit)
        .await?;
    let gaps: Vec<Value> = found.gaps.iter().map(|gap| render_gap(gap, found.total)).collect();
    let state = if found.ready { "ready" } else { "collecting" };
    Ok(Answer::data(json!({"dataState": state, "ranked": true, "gaps": gaps})))
}

#[derive(Deserialize)]
struct Curate {
    status: String,
}

/// Says what becomes of a gap.
pub async fn curate(call: Call) -> Outcome<Answer> {
    let (agent, gap): (AgentId, KnowledgeGapId) = (call.id("agentId")?, call.id("gapId")?);
    let body: Curate = call.read()?;
    let status = Status::parse(&body.status)
        .ok_or_else(|| Problem::body("/status", "is not a status of a knowledge gap"))?;
    let (gap, total) =
        Gaps(call.store()).curate(call.organization()?, agent, gap, status, &call.by().await?).await?;
    Ok(Answer::data(render_gap(&gap, total)))
}
