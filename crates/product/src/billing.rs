//! Billing: a double-entry ledger in credits (one is one US cent), and what moves them: charges, payments, plans.
//!
//! What an account holds is the sum of its entries. Every movement has a reference that its organization books once, so
//! whoever is unsure whether something was charged charges it again.

use crate::id::{AgentId, LedgerTransactionId, MessageId, TopUpId};
use crate::money::Usd;
use crate::payment::{Intent, Notice, Payment, PaymentError, Payments, Progress};
use crate::words::words;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::time::{DAY, MINUTE, SECOND};
use flowyte_core::{Environment, Timestamp};
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::{
    Actor, AuditContext, BatchTx, Claim, Once, Page, ProductTx, ReadTx, Refusal, Row, Store, StoreError,
    Value,
};
use jiff::{Span, tz::TimeZone};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// How long a plan that can't be paid goes on before the free one takes its place.
const PLAN_GRACE: i64 = 3 * DAY;
/// When a payment that got no answer is asked for again.
const RETRY: i64 = 30 * SECOND;
/// Longer than any provider is given to answer; what a payer has not been sent by then never will be.
const ABANDONED: i64 = 10 * MINUTE;
/// How long an automatic payment is asked for. Providers remember the id that makes asking safe for a day.
const ASKED_FOR: i64 = 23 * 60 * MINUTE;
/// How long a bank may take with an automatic payment before the next one may be asked for. Money that comes later is booked.
const WITH_THE_BANK: i64 = 14 * DAY;
/// When a plan that could not be paid is tried again, if no money comes before.
const PLAN_RETRY: i64 = 60 * MINUTE;
/// Payments and plans that one pass looks after.
const BATCH: i64 = 100;

words! {
    /// Where credits are. The sum over all accounts is nought.
    Account {
        /// What the organization can spend.
        Wallet = "wallet",
        /// Taken from the wallet for something that is being bought.
        Held = "held",
        /// Where charges go; it holds what was spent.
        Revenue = "revenue",
        /// What was paid in; negative, since it came from outside.
        Payments = "payments",
    }
}

words! {
    /// What a transaction is about.
    Kind {
        /// A payment into the wallet.
        TopUp = "top_up",
        /// One message of an agent.
        ChatMessage = "chat_message",
        /// A month of a plan.
        Plan = "plan",
        /// A number and its first month.
        NumberPurchase = "number_purchase",
        /// A further month of a number.
        NumberRental = "number_rental",
    }
}

impl Kind {
    /// What part of the product a transaction is shown under: `wallet`, `chat`, `plan` or `number`.
    pub const fn channel(self) -> &'static str {
        match self {
            Self::TopUp => "wallet",
            Self::ChatMessage => "chat",
            Self::Plan => "plan",
            Self::NumberPurchase | Self::NumberRental => "number",
        }
    }
}

/// What an organization pays each month, and what it has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its name in JSON and rows.
    pub id: &'static str,
    /// The name that people are shown.
    pub name: &'static str,
    /// What a month costs, in credits.
    pub price: i64,
    /// Messages of agents that a month includes.
    pub included_messages: i64,
    /// What each message after them costs, in credits.
    pub overage: i64,
}

/// Every plan, cheapest first. The first is everybody's who chose no other.
pub const PLANS: [Plan; 3] = [
    Plan { id: "free", name: "Free", price: 0, included_messages: 1_000, overage: 2 },
    Plan { id: "starter", name: "Starter", price: 2_900, included_messages: 5_000, overage: 1 },
    Plan { id: "growth", name: "Growth", price: 9_900, included_messages: 25_000, overage: 1 },
];

impl Plan {
    /// The plan with this id.
    pub fn find(name: &str) -> Option<Self> {
        PLANS.into_iter().find(|it| it.id == name)
    }

    fn read(name: &str) -> Result<Self, StoreError> {
        Self::find(name).ok_or_else(|| StoreError::Inconsistent(format!("plan {name}")))
    }
}

/// When the wallet is filled by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoReload {
    /// Whether payments are asked for; the amounts are kept while they are not.
    pub enabled: bool,
    /// A payment is asked for when the balance falls below this, in credits.
    pub threshold: i64,
    /// How much is paid each time, in credits.
    pub amount: i64,
}

/// A wallet and what its organization chose.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// What it holds: the sum of its entries.
    pub balance: i64,
    /// `None` while nobody ever set it.
    pub auto_reload: Option<AutoReload>,
    /// The plan that this period is counted against.
    pub plan: Plan,
    /// The plan from the next period on, where it is another.
    pub next_plan: Option<Plan>,
    /// Since when messages are counted against the plan.
    pub period_from: Timestamp,
    /// When they are counted anew.
    pub period_until: Timestamp,
}

words! {
    /// How far a payment into the wallet is.
    TopUpStatus {
        /// The provider was not asked yet, or its answer did not come.
        Open = "open",
        /// The provider waits for the payer.
        Pending = "pending",
        /// Its money came, and is in the wallet.
        Succeeded = "succeeded",
        /// It ended without money. Should money come after all, it is booked.
        Failed = "failed",
    }
}

/// A payment into the wallet.
#[derive(Clone, Debug)]
pub struct TopUp {
    /// `topup_…`; the payment service is asked under it, so that asking again is safe.
    pub id: TopUpId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The environment: live or test.
    pub environment: Environment,
    /// How much is paid, in credits.
    pub credits: i64,
    /// Whether auto-reload asked for it.
    pub automatic: bool,
    /// How far the payment is.
    pub status: TopUpStatus,
    /// The payer at the provider, and what they pay with, of an automatic one: as they were when it began, since a provider takes
    /// another request under the same id for a mistake.
    pub payer: (Option<String>, Option<String>),
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl TopUp {
    const fn under_way(&self) -> bool {
        matches!(self.status, TopUpStatus::Open | TopUpStatus::Pending)
    }
}

/// Something that is taken from a wallet.
#[derive(Clone, Debug)]
pub struct Charge<'a> {
    /// Names the act; the organization is charged for it once.
    pub reference: &'a str,
    /// What is paid for, by which charges are told apart in lists and sums.
    pub kind: Kind,
    /// How many of them, such as messages.
    pub quantity: i64,
    /// What all of it costs, in credits.
    pub credits: i64,
    /// The agent that it is for.
    pub agent: Option<AgentId>,
    /// One line for people, in the list of charges.
    pub description: &'a str,
}

/// What became of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// The charge was booked by this call.
    Booked,
    /// The same reference was booked before, so nothing was taken this time.
    Already,
    /// Nothing was booked, since use in the test environment is free.
    Unmetered,
}

/// A charge as it was booked.
#[derive(Clone, Debug)]
pub struct Item {
    /// `txn_…`, of the movement in the ledger.
    pub id: LedgerTransactionId,
    /// When it was charged, which decides the day and the period of the plan that it counts for.
    pub at: Timestamp,
    /// What was paid for, by which charges are told apart in lists and sums.
    pub kind: Kind,
    /// How many of them, such as messages.
    pub quantity: i64,
    /// What was taken, in credits.
    pub credits: i64,
    /// One line for people, as it was booked.
    pub description: String,
    /// The agent that it is for.
    pub agent: Option<AgentId>,
}

/// What was used on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayUse {
    /// The UTC day, `YYYY-MM-DD`.
    pub date: String,
    /// What was paid for; a day has one row for each kind.
    pub kind: Kind,
    /// How many of them, such as messages.
    pub quantity: i64,
    /// What was taken, in credits.
    pub credits: i64,
}

/// A movement to book: what it is, and what it does to each account.
struct Movement<'a> {
    organization: OrganizationId,
    environment: Environment,
    reference: &'a str,
    kind: Kind,
    quantity: i64,
    description: &'a str,
    agent: Option<AgentId>,
    at: Timestamp,
    entries: &'a [(Account, i64)],
}

impl<'a> Movement<'a> {
    fn of(
        organization: OrganizationId,
        environment: Environment,
        charge: &Charge<'a>,
        at: Timestamp,
        entries: &'a [(Account, i64)],
    ) -> Self {
        let Charge { reference, kind, quantity, agent, description, .. } = *charge;
        Self { organization, environment, reference, kind, quantity, description, agent, at, entries }
    }
}

/// Books a movement; `false` where its reference was booked before.
async fn book(tx: &mut BatchTx, it: &Movement<'_>) -> Result<bool, StoreError> {
    if it.entries.len() < 2 || it.entries.iter().map(|(_, credits)| credits).sum::<i64>() != 0 {
        return Err(StoreError::Inconsistent(format!("the entries of {} do not add up", it.reference)));
    }
    // Organization and reference are unique, so a hash of them is as good as randomness.
    let hash = Sha256::new_with_prefix(it.organization.as_bytes()).chain_update(it.reference).finalize();
    let mut unique = [0; 10];
    unique.copy_from_slice(&hash[..10]);
    let new = LedgerTransactionId::generate(it.at, unique);
    let added = tx
        .exec(
            "INSERT INTO ledger_transactions (id, organization_id, environment, reference, kind, quantity, description, \
             agent_id, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (organization_id, reference) DO NOTHING",
            vec![
                id(new),
                id(it.organization),
                it.environment.as_str().into(),
                it.reference.into(),
                it.kind.as_str().into(),
                it.quantity.into(),
                it.description.into(),
                it.agent.map(|it| *it.as_bytes()).into(),
                it.at.into(),
            ],
        )
        .await?;
    if added == 0 {
        return Ok(false);
    }
    for (account, credits) in it.entries {
        tx.queue(
            "INSERT INTO ledger_entries (transaction_id, account, organization_id, environment, credits) \
             VALUES ($1, $2, $3, $4, $5)",
            vec![
                id(new),
                account.as_str().into(),
                id(it.organization),
                it.environment.as_str().into(),
                (*credits).into(),
            ],
        )
        .await?;
    }
    // In one order, so that two movements do not wait for each other.
    let mut moved = it.entries.to_vec();
    moved.sort_by_key(|(account, _)| account.as_str());
    for (account, credits) in moved {
        tx.queue(
            "INSERT INTO ledger_balances (organization_id, environment, account, credits) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (organization_id, environment, account) \
             DO UPDATE SET credits = ledger_balances.credits + excluded.credits",
            vec![
                id(it.organization),
                it.environment.as_str().into(),
                account.as_str().into(),
                credits.into(),
            ],
        )
        .await?;
    }
    Ok(true)
}

/// What an account of an organization holds, in credits; 0 where nothing was ever booked on it.
pub async fn balance(
    tx: &mut ReadTx,
    organization: OrganizationId,
    environment: Environment,
    account: Account,
) -> Result<i64, StoreError> {
    let row = tx
        .opt(
            "SELECT credits FROM ledger_balances WHERE organization_id = $1 AND environment = $2 AND account = $3",
            vec![id(organization), environment.as_str().into(), account.as_str().into()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.get("credits"))
}

/// Messages that a wallet's period has had, without those that were given back. Counted once, when the period is asked for first.
async fn messages_since(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    from: Timestamp,
) -> Result<i64, StoreError> {
    let period = || vec![id(organization), environment.as_str().into(), from.into()];
    let known = tx
        .opt(
            "SELECT messages FROM message_counts WHERE organization_id = $1 AND environment = $2 AND period_from = $3",
            period(),
        )
        .await?;
    if let Some(row) = known {
        return row.get("messages");
    }
    tx.one(
        "INSERT INTO message_counts (organization_id, environment, period_from, messages) \
         SELECT o.id, CAST($2 AS TEXT), CAST($3 AS BIGINT), (SELECT COUNT(*) FROM ledger_transactions t \
         WHERE t.organization_id = o.id AND t.environment = $2 AND t.kind = $4 AND t.at >= $3 AND t.quantity > 0 \
         AND NOT EXISTS (SELECT 1 FROM ledger_transactions r \
         WHERE r.organization_id = o.id AND r.reference = t.reference || CAST($5 AS TEXT))) FROM organizations o WHERE o.id = $1 \
         RETURNING messages",
        [period(), vec![Kind::ChatMessage.as_str().into(), RETURNED.into()]].concat(),
    )
    .await?
    .get("messages")
}

/// Holds the wallet's row until the transaction ends, so that nobody else debits it meanwhile: what is read of the ledger from
/// here on is what the debit is decided by, in a [`Mode::Batch`] transaction too.
async fn hold(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
) -> Result<Row, StoreError> {
    tx.one(
        "INSERT INTO wallets (organization_id, environment, movements, plan, plan_periods, auto_reload) \
         VALUES ($1, $2, 1, $3, 0, 0) ON CONFLICT (organization_id, environment) \
         DO UPDATE SET movements = wallets.movements + 1 RETURNING *",
        vec![id(organization), environment.as_str().into(), PLANS[0].id.into()],
    )
    .await
}

/// A charge that the wallet does not cover, in credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The wallet holds {} USD and the charge is {} USD.", Usd(*balance), Usd(*needed))]
pub struct InsufficientBalance {
    /// What the wallet holds, in credits.
    pub balance: i64,
    /// What was to be taken from it.
    pub needed: i64,
}

impl InsufficientBalance {
    /// The refusal behind `error`, where it is this one.
    pub fn of(error: &StoreError) -> Option<Self> {
        let StoreError::Refused(refusal) = error else { return None };
        let refusal: &dyn std::error::Error = &**refusal;
        refusal.downcast_ref().copied()
    }
}

impl Refusal for InsufficientBalance {
    fn code(&self) -> &'static str {
        "insufficient_balance"
    }
}

impl From<InsufficientBalance> for StoreError {
    fn from(short: InsufficientBalance) -> Self {
        Self::Refused(Box::new(short))
    }
}

/// Charges in the transaction of what is charged, which must be for writing. A wallet that does not cover it is
/// [`InsufficientBalance`], and nothing was booked. A charge that takes the balance below the threshold of
/// auto-reload asks for a payment in the same transaction.
pub async fn charge_in(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    charge: &Charge<'_>,
    now: Timestamp,
) -> Result<Charged, StoreError> {
    if environment == Environment::Test {
        return Ok(Charged::Unmetered);
    }
    let wallet = hold(tx, organization, environment).await?;
    debit(tx, &wallet, organization, environment, charge, Account::Revenue, now).await
}

/// Takes from the wallet what something costs that is still being bought. [`take_held`] makes it a charge, [`return_held`] undoes it.
pub(crate) async fn hold_in(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    charge: &Charge<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if environment == Environment::Test {
        return Ok(());
    }
    let wallet = hold(tx, organization, environment).await?;
    debit(tx, &wallet, organization, environment, charge, Account::Held, now).await.map(drop)
}

/// What was held is spent.
pub(crate) async fn take_held(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    charge: &Charge<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    move_held(tx, organization, environment, charge, Account::Revenue, now).await
}

/// What was held is back in the wallet.
pub(crate) async fn return_held(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    charge: &Charge<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    move_held(tx, organization, environment, charge, Account::Wallet, now).await
}

async fn move_held(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    charge: &Charge<'_>,
    into: Account,
    now: Timestamp,
) -> Result<(), StoreError> {
    if environment == Environment::Test {
        return Ok(());
    }
    let entries = [(Account::Held, -charge.credits), (into, charge.credits)];
    book(tx, &Movement::of(organization, environment, charge, now, &entries)).await.map(drop)
}

/// Charges one message of an agent: nothing while the plan includes it, else what the plan says.
pub async fn charge_message_in(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    agent: AgentId,
    message: MessageId,
    now: Timestamp,
) -> Result<Charged, StoreError> {
    if environment == Environment::Test {
        return Ok(Charged::Unmetered);
    }
    let wallet = hold(tx, organization, environment).await?;
    let plan = Plan::read(&wallet.get::<String>("plan")?)?;
    let (from, _) = period(&wallet, now)?;
    let used = messages_since(tx, organization, environment, from).await?;
    let included = used < plan.included_messages;
    let charge = Charge {
        reference: &message.to_string(),
        kind: Kind::ChatMessage,
        quantity: 1,
        credits: if included { 0 } else { plan.overage },
        agent: Some(agent),
        description: if included { "Chat message, included in the plan" } else { "Chat message" },
    };
    let charged = debit(tx, &wallet, organization, environment, &charge, Account::Revenue, now).await?;
    if !matches!(charged, Charged::Already) {
        tx.queue(
            "UPDATE message_counts SET messages = messages + 1 \
             WHERE organization_id = $1 AND environment = $2 AND period_from = $3",
            vec![id(organization), environment.as_str().into(), from.into()],
        )
        .await?;
    }
    Ok(charged)
}

/// Gives back what a message cost that got no answer, and takes it out of those that a plan includes.
pub async fn return_message_in(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    message: MessageId,
    now: Timestamp,
) -> Result<(), StoreError> {
    if environment == Environment::Test {
        return Ok(());
    }
    hold(tx, organization, environment).await?;
    let charged = tx
        .opt(
            "SELECT t.agent_id, t.at, CAST(-SUM(e.credits) AS BIGINT) AS credits FROM ledger_transactions t \
             JOIN ledger_entries e ON e.transaction_id = t.id AND e.account = $3 \
             WHERE t.organization_id = $1 AND t.reference = $2 GROUP BY t.agent_id, t.at",
            vec![id(organization), message.to_string().into(), Account::Wallet.as_str().into()],
        )
        .await?;
    let reference = format!("{message}{RETURNED}");
    let Some(charged) = charged else { return Ok(()) };
    if is_booked(tx, organization, &reference).await? {
        return Ok(());
    }
    let credits: i64 = charged.get("credits")?;
    let charge = Charge {
        reference: &reference,
        kind: Kind::ChatMessage,
        quantity: -1,
        credits: -credits,
        agent: Some(charged.id("agent_id")?),
        description: "Chat message that got no answer, given back",
    };
    let entries = [(Account::Wallet, credits), (Account::Revenue, -credits)];
    book(tx, &Movement::of(organization, environment, &charge, now, &entries)).await?;
    tx.exec(
        "UPDATE message_counts SET messages = messages - 1 WHERE organization_id = $1 AND environment = $2 \
         AND period_from = (SELECT MAX(c.period_from) FROM message_counts c \
         WHERE c.organization_id = $1 AND c.environment = $2 AND c.period_from <= $3)",
        vec![id(organization), environment.as_str().into(), charged.time("at")?.into()],
    )
    .await
    .map(drop)
}

/// What stands behind a message's id where what it cost is given back.
const RETURNED: &str = "/returned";

async fn is_booked(
    tx: &mut ReadTx,
    organization: OrganizationId,
    reference: &str,
) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM ledger_transactions WHERE organization_id = $1 AND reference = $2";
    Ok(tx.opt(sql, vec![id(organization), reference.into()]).await?.is_some())
}

/// Moves a charge out of a wallet whose row is held.
async fn debit(
    tx: &mut BatchTx,
    wallet: &Row,
    organization: OrganizationId,
    environment: Environment,
    charge: &Charge<'_>,
    into: Account,
    now: Timestamp,
) -> Result<Charged, StoreError> {
    if is_booked(tx, organization, charge.reference).await? {
        return Ok(Charged::Already);
    }
    if charge.credits < 0 {
        return Err(StoreError::Inconsistent(format!("the charge {} is negative", charge.reference)));
    }
    let entries = [(Account::Wallet, -charge.credits), (into, charge.credits)];
    let movement = Movement::of(organization, environment, charge, now, &entries);
    if charge.credits == 0 {
        // What costs nothing is not weighed against what there is.
        book(tx, &movement).await?;
        return Ok(Charged::Booked);
    }
    let before = balance(tx, organization, environment, Account::Wallet).await?;
    if before < charge.credits {
        return Err(InsufficientBalance { balance: before, needed: charge.credits }.into());
    }
    book(tx, &movement).await?;
    reload_below(tx, wallet, organization, environment, before - charge.credits, now).await?;
    Ok(Charged::Booked)
}

/// Asks for an automatic payment where the balance is below the threshold and none is under way.
async fn reload_below(
    tx: &mut BatchTx,
    wallet: &Row,
    organization: OrganizationId,
    environment: Environment,
    balance: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(reload) = auto_reload(wallet)?.filter(|it| it.enabled && balance < it.threshold) else {
        return Ok(());
    };
    let under_way = tx
        .opt(
            "SELECT id FROM top_ups WHERE organization_id = $1 AND environment = $2 AND automatic = 1 \
             AND status IN ('open', 'pending')",
            vec![id(organization), environment.as_str().into()],
        )
        .await?;
    if under_way.is_some() {
        return Ok(());
    }
    // The wallet's movements are counted, so the number of this one names the payment like randomness would.
    let movement: i64 = wallet.get("movements")?;
    let hash = Sha256::new_with_prefix(organization.as_bytes())
        .chain_update(environment.as_str())
        .chain_update(movement.to_be_bytes())
        .finalize();
    let mut unique = [0; 10];
    unique.copy_from_slice(&hash[..10]);
    let new = TopUp {
        id: TopUpId::generate(now, unique),
        organization,
        environment,
        credits: reload.amount,
        automatic: true,
        status: TopUpStatus::Open,
        payer: (wallet.get("customer")?, wallet.get("payment_method")?),
        created_at: now,
    };
    open(tx, &new, Some(now)).await
}

/// The same after a charge that the wallet did not cover, in a transaction of its own.
pub(crate) async fn reload_after_shortage(
    tx: &mut BatchTx,
    organization: OrganizationId,
    environment: Environment,
    balance: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let wallet = hold(tx, organization, environment).await?;
    reload_below(tx, &wallet, organization, environment, balance, now).await
}

async fn open(tx: &mut BatchTx, new: &TopUp, try_at: Option<Timestamp>) -> Result<(), StoreError> {
    tx.queue(
        "INSERT INTO top_ups (id, organization_id, environment, credits, automatic, status, customer, payment_method, try_at, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        vec![
            id(new.id),
            id(new.organization),
            new.environment.as_str().into(),
            new.credits.into(),
            new.automatic.into(),
            new.status.as_str().into(),
            new.payer.0.clone().into(),
            new.payer.1.clone().into(),
            try_at.into(),
            new.created_at.into(),
        ],
    )
    .await?;
    Ok(())
}

fn auto_reload(row: &Row) -> Result<Option<AutoReload>, StoreError> {
    let threshold: Option<i64> = row.get("auto_reload_threshold")?;
    let amount: Option<i64> = row.get("auto_reload_amount")?;
    let enabled = row.flag("auto_reload")?;
    Ok(threshold.zip(amount).map(|(threshold, amount)| AutoReload { enabled, threshold, amount }))
}

fn top_up(row: &Row) -> Result<TopUp, StoreError> {
    Ok(TopUp {
        id: row.id("id")?,
        organization: row.id("organization_id")?,
        environment: row.environment()?,
        credits: row.get("credits")?,
        automatic: row.flag("automatic")?,
        status: TopUpStatus::of(row, "status")?,
        payer: (row.get("customer")?, row.get("payment_method")?),
        created_at: row.time("created_at")?,
    })
}

/// `months` calendar months after an instant, in UTC; the last day of a month stays within it.
pub fn months_after(at: Timestamp, months: i64) -> Result<Timestamp, StoreError> {
    let moved = || -> Result<i64, jiff::Error> {
        let at = jiff::Timestamp::from_microsecond(at.as_micros())?.to_zoned_datetime(TimeZone::UTC);
        Ok(at.checked_add(Span::new().try_months(months)?)?.timestamp().as_microsecond())
    };
    moved()
        .map(Timestamp::from_micros)
        .map_err(|error| StoreError::Inconsistent(format!("{months} months after {at}: {error}")))
}

/// The first instant of the calendar month that `at` is in.
fn month_of(at: Timestamp) -> Result<Timestamp, StoreError> {
    let day: String = at.to_string().chars().take(7).collect();
    format!("{day}-01T00:00:00Z").parse().map_err(|_| StoreError::Inconsistent(format!("the month of {at}")))
}

/// The period that messages are counted in: of a paid plan, or the calendar month.
fn period(wallet: &Row, now: Timestamp) -> Result<(Timestamp, Timestamp), StoreError> {
    match wallet.maybe_time("plan_since")? {
        Some(since) => {
            let periods: i64 = wallet.get("plan_periods")?;
            Ok((months_after(since, periods - 1)?, months_after(since, periods)?))
        }
        None => {
            let from = month_of(now)?;
            Ok((from, months_after(from, 1)?))
        }
    }
}

async fn wallet_of(
    tx: &mut ReadTx,
    row: Option<&Row>,
    organization: OrganizationId,
    environment: Environment,
    now: Timestamp,
) -> Result<Wallet, StoreError> {
    let balance = balance(tx, organization, environment, Account::Wallet).await?;
    let Some(row) = row else {
        let from = month_of(now)?;
        let period_until = months_after(from, 1)?;
        return Ok(Wallet {
            balance,
            auto_reload: None,
            plan: PLANS[0],
            next_plan: None,
            period_from: from,
            period_until,
        });
    };
    let next: Option<String> = row.get("next_plan")?;
    let (period_from, period_until) = period(row, now)?;
    Ok(Wallet {
        balance,
        auto_reload: auto_reload(row)?,
        plan: Plan::read(&row.get::<String>("plan")?)?,
        next_plan: next.map(|name| Plan::read(&name)).transpose()?,
        period_from,
        period_until,
    })
}

/// Books the first month of a plan that begins now.
async fn begin_plan(
    tx: &mut BatchTx,
    wallet: &Row,
    organization: OrganizationId,
    environment: Environment,
    plan: Plan,
    since: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    if plan.price == 0 {
        tx.queue(
            "UPDATE wallets SET plan = $3, next_plan = NULL, plan_since = NULL, plan_periods = 0, plan_until = NULL, plan_try_at = NULL \
             WHERE organization_id = $1 AND environment = $2",
            vec![id(organization), environment.as_str().into(), plan.id.into()],
        )
        .await?;
        return Ok(());
    }
    pay_plan(tx, wallet, organization, environment, plan, since, 1, now).await
}

/// Books month `number` of a plan, counted from 1, and says until when it is paid.
#[allow(clippy::too_many_arguments)]
async fn pay_plan(
    tx: &mut BatchTx,
    wallet: &Row,
    organization: OrganizationId,
    environment: Environment,
    plan: Plan,
    since: Timestamp,
    number: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    if environment == Environment::Live {
        let charge = Charge {
            reference: &format!("plan:{}:{}:{number}", plan.id, since.as_micros()),
            kind: Kind::Plan,
            quantity: 1,
            credits: plan.price,
            agent: None,
            description: &format!("{} plan, one month", plan.name),
        };
        debit(tx, wallet, organization, environment, &charge, Account::Revenue, now).await?;
    }
    tx.queue(
        "UPDATE wallets SET plan = $3, next_plan = NULL, plan_since = $4, plan_periods = $5, plan_until = $6, \
         plan_try_at = $6 WHERE organization_id = $1 AND environment = $2",
        vec![
            id(organization),
            environment.as_str().into(),
            plan.id.into(),
            since.into(),
            number.into(),
            months_after(since, number)?.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Who acts when nobody asked.
pub(crate) fn system(now: Timestamp) -> AuditContext {
    let actor = Actor { kind: "system", id: String::new(), name: "billing".into() };
    AuditContext { actor, address: String::new(), now }
}

fn deed<'a>(action: &'a str, organization: OrganizationId, details: serde_json::Value) -> AuditAction<'a> {
    AuditAction { action, kind: "wallet", id: organization.to_string(), name: "", details }
}

/// Books a payment that succeeded, once, and records that its top-up is over.
async fn settle(
    tx: &mut ProductTx,
    top_up: &TopUp,
    intent: &str,
    credits: i64,
    by: &AuditContext,
) -> Result<(), StoreError> {
    let reference = top_up.id.to_string();
    let entries = [(Account::Payments, -credits), (Account::Wallet, credits)];
    let booked = book(
        tx,
        &Movement {
            organization: top_up.organization,
            environment: top_up.environment,
            reference: &reference,
            kind: Kind::TopUp,
            quantity: 1,
            description: if top_up.automatic { "Auto-reload" } else { "Payment into the wallet" },
            agent: None,
            at: by.now,
            entries: &entries,
        },
    )
    .await?;
    progress(tx, top_up, Some(intent), TopUpStatus::Succeeded, None).await?;
    // Now a plan that waits for money can be paid.
    tx.queue(
        "UPDATE wallets SET plan_try_at = plan_until WHERE organization_id = $1 AND environment = $2",
        vec![id(top_up.organization), top_up.environment.as_str().into()],
    )
    .await?;
    if booked {
        let details = json!({
            "topUpId": reference,
            "credits": credits,
            "automatic": top_up.automatic,
            "environment": top_up.environment.as_str(),
        });
        tx.audit(top_up.organization, by, deed("wallet.topped_up", top_up.organization, details)).await?;
    }
    Ok(())
}

async fn progress(
    tx: &mut BatchTx,
    top_up: &TopUp,
    intent: Option<&str>,
    status: TopUpStatus,
    try_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    tx.queue(
        "UPDATE top_ups SET status = $3, intent = COALESCE($4, intent), try_at = $5 WHERE organization_id = $1 AND id = $2",
        vec![
            id(top_up.organization),
            id(top_up.id),
            status.as_str().into(),
            intent.into(),
            try_at.into(),
        ],
    )
    .await?;
    Ok(())
}

async fn load_top_up(
    tx: &mut ReadTx,
    organization: OrganizationId,
    which: TopUpId,
) -> Result<TopUp, StoreError> {
    let sql = "SELECT * FROM top_ups WHERE organization_id = $1 AND id = $2";
    top_up(&tx.one(sql, vec![id(organization), id(which)]).await?)
}

/// Why a top-up did not begin.
#[derive(Debug, thiserror::Error)]
pub enum NotToppedUp {
    /// The provider says no or is away.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The store refused it, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The wallets of a store.
pub struct Billing<'s> {
    /// Where ledger and payments are.
    pub store: &'s dyn Store,
    /// The services that take payments, by environment.
    pub payments: &'s Payments,
}

impl Billing<'_> {
    /// What the wallet holds, with its plan; also of an organization that never used it.
    pub async fn wallet(
        &self,
        organization: OrganizationId,
        environment: Environment,
        now: Timestamp,
    ) -> Result<Wallet, StoreError> {
        let mut tx = self.store.read().await?;
        let row = tx
            .opt(
                "SELECT * FROM wallets WHERE organization_id = $1 AND environment = $2",
                vec![id(organization), environment.as_str().into()],
            )
            .await?;
        wallet_of(&mut tx, row.as_ref(), organization, environment, now).await
    }

    /// Charges in a transaction of its own.
    pub async fn charge(
        &self,
        organization: OrganizationId,
        environment: Environment,
        charge: &Charge<'_>,
        now: Timestamp,
    ) -> Result<Charged, StoreError> {
        let mut tx = self.store.batch().await?;
        let charged = charge_in(&mut tx, organization, environment, charge, now).await?;
        tx.commit().await?;
        Ok(charged)
    }

    /// Begins a payment into the wallet. It is booked when the provider says that the money is there, which the sandbox does
    /// at once.
    #[allow(clippy::too_many_arguments)]
    pub async fn top_up(
        &self,
        organization: OrganizationId,
        environment: Environment,
        new: TopUpId,
        credits: i64,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: &(dyn Fn(&(TopUp, Intent)) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<(TopUp, Intent)>, NotToppedUp> {
        let provider = self.payments.of(environment);
        let mut tx = self.store.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let wallet = hold(&mut tx, organization, environment).await?;
        let opened = TopUp {
            id: new,
            organization,
            environment,
            credits,
            automatic: false,
            status: TopUpStatus::Open,
            payer: (None, None),
            created_at: by.now,
        };
        open(&mut tx, &opened, Some(by.now.plus(ABANDONED))).await?;
        tx.commit().await?;

        let customer = self.customer(organization, environment, wallet.get("customer")?).await?;
        let payment = Payment { id: new, organization, credits, customer, method: None };
        let intent = provider.pay(&payment).await?;

        let mut tx = self.store.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer)); // The same request, sent twice at once.
        }
        let now = load_top_up(&mut tx, organization, new).await?;
        match intent.progress {
            Progress::Succeeded => settle(&mut tx, &now, &intent.id, credits, by).await?,
            // A notice may have come before this.
            Progress::Pending | Progress::Declined if now.status == TopUpStatus::Open => {
                progress(&mut tx, &now, Some(&intent.id), TopUpStatus::Pending, None).await?;
            }
            Progress::Failed if now.status == TopUpStatus::Open => {
                progress(&mut tx, &now, Some(&intent.id), TopUpStatus::Failed, None).await?;
            }
            Progress::Pending | Progress::Declined | Progress::Failed => {}
        }
        let done = (load_top_up(&mut tx, organization, new).await?, intent);
        tx.remember(organization, claim, || seal(&done)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(done))
    }

    /// The payer at the provider; the first payment makes them.
    async fn customer(
        &self,
        organization: OrganizationId,
        environment: Environment,
        known: Option<String>,
    ) -> Result<Option<String>, NotToppedUp> {
        if known.is_some() {
            return Ok(known);
        }
        let Some(customer) = self.payments.of(environment).customer(organization).await? else {
            return Ok(None);
        };
        let mut tx = self.store.batch().await?;
        tx.queue(
            "UPDATE wallets SET customer = $3 WHERE organization_id = $1 AND environment = $2",
            vec![id(organization), environment.as_str().into(), customer.as_str().into()],
        )
        .await?;
        tx.commit().await?;
        Ok(Some(customer))
    }

    /// Believes a notice whose signature was checked: books what was paid, once.
    pub async fn hear(&self, notice: &Notice, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.product().await?;
        let top_up = match load_top_up(&mut tx, notice.organization, notice.payment).await {
            // Not ours, or of a database that was since restored; the provider need not send it again.
            Err(StoreError::NotFound) => {
                tracing::warn!(payment = %notice.payment, "a payment notification names an unknown payment");
                return Ok(());
            }
            found => found?,
        };
        match notice.progress {
            Progress::Succeeded => {
                settle(&mut tx, &top_up, &notice.intent, notice.credits, &system(now)).await?;
                // What paid now can pay again while nobody is there.
                tx.queue(
                    "UPDATE wallets SET customer = COALESCE($3, customer), payment_method = COALESCE($4, payment_method) \
                     WHERE organization_id = $1 AND environment = $2",
                    vec![
                        id(top_up.organization),
                        top_up.environment.as_str().into(),
                        notice.customer.clone().into(),
                        notice.method.clone().into(),
                    ],
                )
                .await?;
            }
            // What is over already stays so: a notice that comes again or late switches nothing off.
            Progress::Failed if top_up.under_way() => self.fail(&mut tx, &top_up, "canceled", now).await?,
            // Nobody is there to try again.
            Progress::Declined if top_up.automatic && top_up.under_way() => {
                self.fail(&mut tx, &top_up, "declined", now).await?;
            }
            Progress::Pending | Progress::Declined | Progress::Failed => {}
        }
        tx.commit().await
    }

    /// Ends a payment without money. An automatic one is not tried at the next charge again: auto-reload goes off.
    async fn fail(
        &self,
        tx: &mut ProductTx,
        top_up: &TopUp,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        progress(tx, top_up, None, TopUpStatus::Failed, None).await?;
        if !top_up.automatic {
            return Ok(());
        }
        tx.queue(
            "UPDATE wallets SET auto_reload = 0 WHERE organization_id = $1 AND environment = $2",
            vec![id(top_up.organization), top_up.environment.as_str().into()],
        )
        .await?;
        let details = json!({"topUpId": top_up.id.to_string(), "reason": why});
        let deed = deed("wallet.auto_reload_failed", top_up.organization, details);
        tx.audit(top_up.organization, &system(now), deed).await
    }

    /// Sets auto-reload. It acts at once where the balance is below the threshold already.
    pub async fn set_auto_reload(
        &self,
        organization: OrganizationId,
        environment: Environment,
        wanted: AutoReload,
        by: &AuditContext,
    ) -> Result<Wallet, StoreError> {
        let mut tx = self.store.product().await?;
        let row = hold(&mut tx, organization, environment).await?;
        let method: Option<String> = row.get("payment_method")?;
        if wanted.enabled && method.is_none() && self.payments.of(environment).needs_method() {
            return Err(StoreError::Conflict(
                "There is no saved payment method yet; top the wallet up by hand once.",
            ));
        }
        let row = tx
            .one(
                "UPDATE wallets SET auto_reload = $3, auto_reload_threshold = $4, auto_reload_amount = $5 \
                 WHERE organization_id = $1 AND environment = $2 RETURNING *",
                vec![
                    id(organization),
                    environment.as_str().into(),
                    wanted.enabled.into(),
                    wanted.threshold.into(),
                    wanted.amount.into(),
                ],
            )
            .await?;
        let details = json!({
            "enabled": wanted.enabled,
            "thresholdCredits": wanted.threshold,
            "amountCredits": wanted.amount,
            "environment": environment.as_str(),
        });
        tx.audit(organization, by, deed("wallet.auto_reload_set", organization, details)).await?;
        let wallet = wallet_of(&mut tx, Some(&row), organization, environment, by.now).await?;
        reload_below(&mut tx, &row, organization, environment, wallet.balance, by.now).await?;
        tx.commit().await?;
        Ok(wallet)
    }

    /// Changes the plan. A dearer one begins now and is charged now; a cheaper one follows when the paid month is over.
    #[allow(clippy::too_many_arguments)]
    pub async fn change_plan(
        &self,
        organization: OrganizationId,
        environment: Environment,
        plan: Plan,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: &(dyn Fn(&Wallet) -> Vec<u8> + Send + Sync),
    ) -> Result<Once<Wallet>, StoreError> {
        let mut tx = self.store.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let row = hold(&mut tx, organization, environment).await?;
        let old = Plan::read(&row.get::<String>("plan")?)?;
        if plan.price > old.price {
            begin_plan(&mut tx, &row, organization, environment, plan, by.now, by.now).await?;
        } else {
            let next = (plan != old).then_some(plan.id);
            tx.queue(
                "UPDATE wallets SET next_plan = $3 WHERE organization_id = $1 AND environment = $2",
                vec![id(organization), environment.as_str().into(), next.into()],
            )
            .await?;
        }
        let row = hold(&mut tx, organization, environment).await?;
        let wallet = wallet_of(&mut tx, Some(&row), organization, environment, by.now).await?;
        let details = json!({"from": old.id, "to": plan.id, "environment": environment.as_str()});
        tx.audit(organization, by, deed("subscription.changed", organization, details)).await?;
        tx.remember(organization, claim, || seal(&wallet)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(wallet))
    }

    /// What was used per day and kind, from one day up to and including another.
    pub async fn usage(
        &self,
        organization: OrganizationId,
        environment: Environment,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<DayUse>, StoreError> {
        let mut tx = self.store.read().await?;
        let rows = tx
            .all(
                "SELECT t.at / 86400000000 AS day, t.kind, CAST(SUM(t.quantity) AS BIGINT) AS quantity, \
                 CAST(SUM(e.credits) AS BIGINT) AS credits FROM ledger_transactions t \
                 JOIN ledger_entries e ON e.transaction_id = t.id AND e.account = 'revenue' \
                 WHERE t.organization_id = $1 AND t.environment = $2 AND t.at >= $3 AND t.at < $4 \
                 AND t.kind IN ('chat_message', 'plan', 'number_purchase', 'number_rental') \
                 GROUP BY t.at / 86400000000, t.kind ORDER BY day, t.kind",
                vec![id(organization), environment.as_str().into(), from.into(), until.into()],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(DayUse {
                    date: Timestamp::from_micros(row.get::<i64>("day")? * DAY).day(),
                    kind: Kind::of(row, "kind")?,
                    quantity: row.get("quantity")?,
                    credits: row.get("credits")?,
                })
            })
            .collect()
    }

    /// A page of what was charged, booked on [`Account::Revenue`], the newest first.
    pub async fn items(
        &self,
        organization: OrganizationId,
        environment: Environment,
        page: Page,
    ) -> Result<Vec<Item>, StoreError> {
        let mut tx = self.store.read().await?;
        let rows = tx
            .all(
                "SELECT t.*, e.credits AS credits FROM ledger_transactions t \
                 JOIN ledger_entries e ON e.transaction_id = t.id AND e.account = 'revenue' \
                 WHERE t.organization_id = $1 AND t.environment = $2 AND t.id < $3 ORDER BY t.id DESC LIMIT $4",
                vec![
                    id(organization),
                    environment.as_str().into(),
                    page.before_bytes(),
                    page.probe().into(),
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Item {
                    id: row.id("id")?,
                    at: row.time("at")?,
                    kind: Kind::of(row, "kind")?,
                    quantity: row.get("quantity")?,
                    credits: row.get("credits")?,
                    description: row.get("description")?,
                    agent: row.maybe_id("agent_id")?,
                })
            })
            .collect()
    }

    /// What is due by `now`: payments that wait to be asked for, and plans whose month is over. Safe to run again at any point,
    /// also after a crash.
    pub async fn run_due(&self, now: Timestamp) -> Result<(), StoreError> {
        let due = {
            let mut tx = self.store.read().await?;
            let sql = "SELECT * FROM top_ups WHERE try_at <= $1 ORDER BY try_at LIMIT $2";
            tx.all(sql, vec![now.into(), BATCH.into()]).await?
        };
        for row in &due {
            let top_up = top_up(row)?;
            // One that can't be done does not keep the others from it.
            match self.try_payment(&top_up, now).await {
                Ok(Provider::There) => {}
                // Nor would it answer the others now, each of which would wait for that.
                Ok(Provider::Away) => break,
                Err(error) => {
                    tracing::warn!(%error, payment = %top_up.id, "the state of a payment could not be read; the next pass tries again");
                }
            }
        }
        let due = {
            let mut tx = self.store.read().await?;
            let sql = "SELECT organization_id, environment FROM wallets WHERE plan_until <= $1 AND plan_try_at <= $1 \
                       ORDER BY plan_try_at LIMIT $2";
            tx.all(sql, vec![now.into(), BATCH.into()]).await?
        };
        for row in &due {
            let environment = row.environment()?;
            let organization = row.id("organization_id")?;
            if let Err(error) = self.renew(organization, environment, now).await {
                tracing::warn!(%error, %organization, "a plan could not be renewed");
            }
        }
        Ok(())
    }

    /// Asks for an automatic payment, again where the answer did not come: its id makes the provider take it once.
    async fn try_payment(&self, due: &TopUp, now: Timestamp) -> Result<Provider, StoreError> {
        let mut tx = self.store.product().await?;
        let top_up = load_top_up(&mut tx, due.organization, due.id).await?;
        if !top_up.under_way() {
            return Ok(Provider::There);
        }
        // A payer who was never sent what completes a payment can't complete it. Should money come nevertheless, a notice books it.
        let over = now.since(top_up.created_at) > ASKED_FOR || top_up.status == TopUpStatus::Pending;
        if !top_up.automatic || over {
            self.fail(&mut tx, &top_up, "abandoned", now).await?;
            tx.commit().await?;
            return Ok(Provider::There);
        }
        let provider = self.payments.of(top_up.environment);
        // Another provider than the one that auto-reload was set up with, which knows nothing to pay with.
        if provider.needs_method() && top_up.payer.1.is_none() {
            self.fail(&mut tx, &top_up, "no payment method", now).await?;
            tx.commit().await?;
            return Ok(Provider::There);
        }
        progress(&mut tx, &top_up, None, TopUpStatus::Open, Some(now.plus(RETRY))).await?;
        tx.commit().await?;

        let payment = Payment {
            id: top_up.id,
            organization: top_up.organization,
            credits: top_up.credits,
            customer: top_up.payer.0,
            method: top_up.payer.1,
        };
        let answer = provider.pay(&payment).await;
        let mut tx = self.store.product().await?;
        let top_up = load_top_up(&mut tx, due.organization, due.id).await?;
        match answer {
            Err(error @ PaymentError::Away(_)) => {
                tracing::warn!(%error, payment = %top_up.id, "an automatic payment will be asked for again");
                return Ok(Provider::Away);
            }
            _ if top_up.status != TopUpStatus::Open => return Ok(Provider::There), // A notice was faster.
            Err(PaymentError::Refused(why)) => self.fail(&mut tx, &top_up, &why, now).await?,
            Ok(intent) => match intent.progress {
                Progress::Succeeded => {
                    settle(&mut tx, &top_up, &intent.id, top_up.credits, &system(now)).await?;
                }
                Progress::Pending => {
                    let until = now.plus(WITH_THE_BANK);
                    progress(&mut tx, &top_up, Some(&intent.id), TopUpStatus::Pending, Some(until)).await?;
                }
                Progress::Declined => self.fail(&mut tx, &top_up, "declined", now).await?,
                Progress::Failed => self.fail(&mut tx, &top_up, "canceled", now).await?,
            },
        }
        tx.commit().await?;
        Ok(Provider::There)
    }

    /// Books the next month of a plan, or lets the free one take its place.
    async fn renew(
        &self,
        organization: OrganizationId,
        environment: Environment,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = self.renew_paid(organization, environment, now).await;
        match done.as_ref().err().and_then(InsufficientBalance::of) {
            Some(InsufficientBalance { balance, .. }) => {
                let mut tx = self.store.product().await?;
                let row = hold(&mut tx, organization, environment).await?;
                reload_below(&mut tx, &row, organization, environment, balance, now).await?;
                let due = row.maybe_time("plan_until")?.unwrap_or(now);
                if now.since(due) >= PLAN_GRACE {
                    let old: String = row.get("plan")?;
                    begin_plan(&mut tx, &row, organization, environment, PLANS[0], now, now).await?;
                    let details = json!({"from": old, "to": PLANS[0].id, "reason": "insufficient_balance"});
                    let deed = deed("subscription.changed", organization, details);
                    tx.audit(organization, &system(now), deed).await?;
                } else {
                    tx.queue(
                        "UPDATE wallets SET plan_try_at = $3 WHERE organization_id = $1 AND environment = $2",
                        vec![
                            id(organization),
                            environment.as_str().into(),
                            now.plus(PLAN_RETRY).min(due.plus(PLAN_GRACE)).into(),
                        ],
                    )
                    .await?;
                }
                tx.commit().await
            }
            None => done,
        }
    }

    async fn renew_paid(
        &self,
        organization: OrganizationId,
        environment: Environment,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.product().await?;
        let row = hold(&mut tx, organization, environment).await?;
        let (Some(since), Some(until)) = (row.maybe_time("plan_since")?, row.maybe_time("plan_until")?)
        else {
            return Ok(());
        };
        if until > now {
            return Ok(()); // Somebody was faster.
        }
        let next: Option<String> = row.get("next_plan")?;
        match next {
            Some(next) => {
                let plan = Plan::read(&next)?;
                begin_plan(&mut tx, &row, organization, environment, plan, until, now).await?;
            }
            None => {
                let plan = Plan::read(&row.get::<String>("plan")?)?;
                let number = row.get::<i64>("plan_periods")? + 1;
                pay_plan(&mut tx, &row, organization, environment, plan, since, number, now).await?;
            }
        }
        tx.commit().await
    }
}

/// Whether a payment service answered.
enum Provider {
    There,
    Away,
}

/// Every account of an organization with what it holds, for checks: the sum is nought.
pub async fn accounts(
    store: &dyn Store,
    organization: OrganizationId,
    environment: Environment,
) -> Result<Vec<(String, i64)>, StoreError> {
    let mut tx = store.read().await?;
    let rows = tx
        .all(
            "SELECT e.account, CAST(SUM(e.credits) AS BIGINT) AS held, b.credits AS kept FROM ledger_entries e \
             LEFT JOIN ledger_balances b ON b.organization_id = e.organization_id AND b.environment = e.environment \
             AND b.account = e.account WHERE e.organization_id = $1 AND e.environment = $2 \
             GROUP BY e.account, b.credits ORDER BY e.account",
            vec![id(organization), Value::from(environment.as_str())],
        )
        .await?;
    let account = |row: &Row| {
        let (name, held) = (row.get::<String>("account")?, row.get::<i64>("held")?);
        match row.get::<Option<i64>>("kept")? {
            Some(kept) if kept == held => Ok((name, held)),
            kept => Err(StoreError::Inconsistent(format!("{name} holds {held}, and {kept:?} was kept"))),
        }
    };
    rows.iter().map(account).collect()
}
