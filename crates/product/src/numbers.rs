//! Telephone numbers: held, bought, imported, assigned, released, and paid for each month.
//!
//! Buying takes three steps: a row that says so and the money held, in one transaction; the carrier; the row active and the money spent, in
//! another. What a crash or a silent carrier leaves between them, [`Numbers::run_due`] finishes or undoes.

use crate::billing::{self, Charge, InsufficientBalance, Kind, months_after};
use crate::carrier::{Carrier, CarrierError, Carriers, E164, Offer, Price, Search};
use crate::id::{AgentId, NumberHoldId, NumberId};
use crate::words::words;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::time::{DAY, MINUTE, SECOND};
use flowyte_core::{Environment, Timestamp};
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::idempotency::Seal;
use flowyte_store::{AuditContext, BatchTx, Claim, Once, Page, ReadTx, Row, Store, StoreError};
use serde_json::json;

/// How long a number is held for whoever thinks about buying it.
pub const HOLD: i64 = 30 * MINUTE;
/// When a carrier that did not answer is asked again.
const RETRY: i64 = 30 * SECOND;
/// Numbers that an organization holds at once: what costs nothing is not kept from everybody else.
const MOST_HELD: i64 = 20;
/// When the rent of a number that the wallet does not cover is tried again.
const RENT_RETRY: i64 = 60 * MINUTE;
/// How long a number stays that is not paid for.
const RENT_GRACE: i64 = 30 * DAY;
/// Numbers that one pass looks after.
const BATCH: i64 = 100;

words! {
    /// How far a number is.
    Status {
        /// The carrier is being asked for it.
        Buying = "buying",
        /// Bought or brought, and the organization's.
        Active = "active",
        /// Given up; the carrier is being told.
        Releasing = "releasing",
        /// Given back to the carrier, or lost for want of rent.
        Released = "released",
        /// The carrier did not sell it.
        Failed = "failed",
    }
}

/// A number of an organization.
#[derive(Clone, Debug)]
pub struct Number {
    /// `num_…`; the carrier is asked under it, so that a purchase is made once.
    pub id: NumberId,
    /// The organization that it belongs to.
    pub organization: OrganizationId,
    /// The environment: live or test.
    pub environment: Environment,
    /// The telephone number itself, by which carriers and people know it.
    pub e164: E164,
    /// The carrier's name, such as `twilio` or `sandbox`.
    pub provider: String,
    /// What the carrier calls it.
    carrier_id: Option<String>,
    /// Whether the organization brought it.
    pub imported: bool,
    /// How far the number is between its purchase or import and its return to the carrier.
    pub status: Status,
    /// The agent that answers it; none while it is not assigned.
    pub agent: Option<AgentId>,
    /// What it cost and costs.
    pub price: Price,
    /// How many months have been paid, the first at the purchase.
    months: i64,
    /// The time at which it was made.
    pub created_at: Timestamp,
}

/// A hold on a number.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The id of the hold (`hold_…`).
    pub id: NumberHoldId,
    /// The number with its price, as it was offered.
    pub offer: Offer,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum NumberError {
    /// The carrier is away; what was begun is finished or undone later.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// The store refused it, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const NOT_FOR_SALE: StoreError = StoreError::Conflict("The number is not for sale.");
const TAKEN: StoreError =
    StoreError::Conflict("The number is no longer available: somebody has bought it or holds it.");

fn number(row: &Row) -> Result<Number, StoreError> {
    let e164: String = row.get("e164")?;
    let wrong = |what: &str| StoreError::Inconsistent(format!("the {what} of a number"));
    Ok(Number {
        id: row.id("id")?,
        organization: row.id("organization_id")?,
        environment: row.environment()?,
        e164: E164::parse(&e164).ok_or_else(|| wrong("digits"))?,
        provider: row.get("provider")?,
        carrier_id: row.get("carrier_id")?,
        imported: row.flag("imported")?,
        status: Status::of(row, "status")?,
        agent: row.maybe_id("agent_id")?,
        price: Price { setup: row.get("setup_cost")?, monthly: row.get("monthly_cost")? },
        months: row.get("months")?,
        created_at: row.time("created_at")?,
    })
}

fn deed<'a>(action: &'a str, number: &'a Number, details: serde_json::Value) -> AuditAction<'a> {
    AuditAction { action, kind: "number", id: number.id.to_string(), name: number.e164.as_str(), details }
}

/// The number, where the environment of the caller has it.
async fn load(
    tx: &mut ReadTx,
    organization: OrganizationId,
    environment: Environment,
    which: NumberId,
) -> Result<Number, StoreError> {
    let row = tx
        .one(
            "SELECT * FROM numbers WHERE organization_id = $1 AND environment = $2 AND id = $3 AND ended_at IS NULL",
            vec![id(organization), environment.as_str().into(), id(which)],
        )
        .await?;
    number(&row)
}

/// Whether somebody has the number.
async fn is_taken(tx: &mut ReadTx, environment: Environment, e164: &E164) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM numbers WHERE environment = $1 AND e164 = $2 AND ended_at IS NULL";
    Ok(tx.opt(sql, vec![environment.as_str().into(), e164.as_str().into()]).await?.is_some())
}

/// The organization that holds the number at `now`, if one does.
async fn holder(
    tx: &mut ReadTx,
    environment: Environment,
    e164: &E164,
    now: Timestamp,
) -> Result<Option<OrganizationId>, StoreError> {
    let sql =
        "SELECT organization_id FROM number_holds WHERE environment = $1 AND e164 = $2 AND expires_at > $3";
    let row = tx.opt(sql, vec![environment.as_str().into(), e164.as_str().into(), now.into()]).await?;
    row.map(|row| row.id("organization_id")).transpose()
}

async fn drop_holds(tx: &mut BatchTx, environment: Environment, e164: &E164) -> Result<(), StoreError> {
    let sql = "DELETE FROM number_holds WHERE environment = $1 AND e164 = $2";
    tx.exec(sql, vec![environment.as_str().into(), e164.as_str().into()]).await.map(drop)
}

/// Adds a row. A number that came up meanwhile is taken.
async fn insert(
    tx: &mut BatchTx,
    new: &Number,
    claim: Option<&Claim>,
    try_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    tx.exec(
        "INSERT INTO numbers (id, organization_id, environment, e164, provider, carrier_id, imported, status, setup_cost, \
         monthly_cost, claim_actor, claim_digest, claim_request, claim_expires_at, months, try_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        vec![
            id(new.id),
            id(new.organization),
            new.environment.as_str().into(),
            new.e164.as_str().into(),
            new.provider.as_str().into(),
            new.carrier_id.clone().into(),
            new.imported.into(),
            new.status.as_str().into(),
            new.price.setup.into(),
            new.price.monthly.into(),
            claim.map(|it| it.actor.clone()).into(),
            claim.map(|it| it.digest).into(),
            claim.map(|it| it.request).into(),
            claim.map(|it| it.expires_at).into(),
            new.months.into(),
            try_at.into(),
            new.created_at.into(),
        ],
    )
    .await
    .map(drop)
    .map_err(|error| if error.is_duplicate() { TAKEN } else { error })
}

/// The purchase that an earlier request under the same Idempotency-Key began, whether or not it got its answer.
async fn begun(
    tx: &mut ReadTx,
    organization: OrganizationId,
    claim: Option<&Claim>,
    now: Timestamp,
) -> Result<Option<Number>, StoreError> {
    let Some(claim) = claim else { return Ok(None) };
    let found = tx
        .opt(
            "SELECT * FROM numbers WHERE organization_id = $1 AND claim_actor = $2 AND claim_digest = $3 \
             AND claim_expires_at > $4 AND status IN ('buying', 'active')",
            vec![id(organization), claim.actor.clone().into(), claim.digest.into(), now.into()],
        )
        .await?;
    let Some(row) = found else { return Ok(None) };
    if row.bytes::<32>("claim_request")? != claim.request {
        return Err(StoreError::IdempotencyKeyReused);
    }
    number(&row).map(Some)
}

/// The numbers of a store.
pub struct Numbers<'s> {
    /// Where numbers and holds are.
    pub store: &'s dyn Store,
    /// The carriers that numbers are bought from, one for each environment.
    pub carriers: &'s Carriers,
}

impl Numbers<'_> {
    /// Numbers, newest first. One that is being given back is no longer the organization's.
    pub async fn list(
        &self,
        organization: OrganizationId,
        environment: Environment,
        page: Page,
    ) -> Result<Vec<Number>, StoreError> {
        let mut tx = self.store.read().await?;
        let rows = tx
            .all(
                "SELECT * FROM numbers WHERE organization_id = $1 AND environment = $2 AND id < $3 \
                 AND status IN ('buying', 'active') ORDER BY id DESC LIMIT $4",
                vec![id(organization), environment.as_str().into(), page.before_bytes(), page.probe().into()],
            )
            .await?;
        rows.iter().map(number).collect()
    }

    /// Numbers that can be bought and that nobody has or holds.
    pub async fn search(
        &self,
        environment: Environment,
        wanted: &Search,
        now: Timestamp,
    ) -> Result<Vec<Offer>, NumberError> {
        let offers =
            or_none(self.carriers.of(environment).search(wanted).await.map(Some))?.unwrap_or_default();
        let mut tx = self.store.read().await?;
        let mut free = Vec::new();
        for offer in offers {
            if free.len() == wanted.limit as usize {
                break;
            }
            if is_free(&mut tx, environment, &offer.e164, now).await? {
                free.push(offer);
            }
        }
        Ok(free)
    }

    /// One number that can be bought.
    pub async fn offer(
        &self,
        environment: Environment,
        e164: &E164,
        now: Timestamp,
    ) -> Result<Offer, NumberError> {
        let offer = or_none(self.carriers.of(environment).offer(e164).await)?.ok_or(StoreError::NotFound)?;
        let mut tx = self.store.read().await?;
        match is_free(&mut tx, environment, e164, now).await? {
            true => Ok(offer),
            false => Err(StoreError::NotFound.into()),
        }
    }

    /// Holds a number for [`HOLD`]. Of those who ask at once one gets it.
    #[allow(clippy::too_many_arguments)]
    pub async fn reserve(
        &self,
        organization: OrganizationId,
        environment: Environment,
        new: NumberHoldId,
        e164: &E164,
        claim: Option<&Claim>,
        now: Timestamp,
        seal: Seal<'_, Hold>,
    ) -> Result<Once<Hold>, NumberError> {
        let offer = or_none(self.carriers.of(environment).offer(e164).await)?;
        let mut tx = self.store.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, now).await? {
            return Ok(Once::Replay(answer));
        }
        let offer = offer.ok_or(NOT_FOR_SALE)?;
        tx.queue("DELETE FROM number_holds WHERE expires_at <= $1", vec![now.into()]).await?;
        let held = tx
            .one(
                "SELECT COUNT(*) AS n FROM number_holds WHERE organization_id = $1 AND environment = $2",
                vec![id(organization), environment.as_str().into()],
            )
            .await?;
        if held.get::<i64>("n")? >= MOST_HELD {
            return Err(
                StoreError::Conflict("You hold twenty numbers already; buy or release one first.").into()
            );
        }
        if !is_free(&mut tx, environment, e164, now).await? {
            return Err(TAKEN.into());
        }
        let hold = Hold { id: new, offer, expires_at: now.plus(HOLD) };
        tx.queue(
            "INSERT INTO number_holds (id, organization_id, environment, e164, expires_at) VALUES ($1, $2, $3, $4, $5)",
            vec![
                id(new),
                id(organization),
                environment.as_str().into(),
                e164.as_str().into(),
                hold.expires_at.into(),
            ],
        )
        .await?;
        tx.remember(organization, claim, || seal(&hold)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(hold))
    }

    /// Lets go of a hold. One that ended by itself is there no more.
    pub async fn let_go(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: NumberHoldId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.product().await?;
        let gone = tx
            .exec(
                "DELETE FROM number_holds WHERE organization_id = $1 AND environment = $2 AND id = $3 AND expires_at > $4",
                vec![id(organization), environment.as_str().into(), id(which), now.into()],
            )
            .await?;
        if gone == 0 {
            return Err(StoreError::NotFound);
        }
        tx.commit().await
    }

    /// Buys a number: its set-up and its first month are taken from the wallet, once.
    #[allow(clippy::too_many_arguments)]
    pub async fn purchase(
        &self,
        organization: OrganizationId,
        environment: Environment,
        new: NumberId,
        e164: &E164,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: Seal<'_, Number>,
    ) -> Result<Once<Number>, NumberError> {
        let carrier = self.carriers.of(environment);
        let earlier = {
            let mut tx = self.store.product().await?;
            if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
                return Ok(Once::Replay(answer));
            }
            begun(&mut tx, organization, claim, by.now).await?
        };
        let bought = match earlier {
            Some(earlier) => earlier.id,
            None => {
                let offer = or_none(carrier.offer(e164).await)?;
                self.begin(organization, environment, new, e164, offer, carrier, claim, by).await?
            }
        };
        let desk = self.carriers.desk(bought.as_bytes()).await;
        self.finish(organization, environment, bought, by).await?;
        drop(desk);
        let mut tx = self.store.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer)); // The same request, sent twice at once.
        }
        let number = load(&mut tx, organization, environment, bought).await?;
        tx.remember(organization, claim, || seal(&number)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(number))
    }

    /// The row that says that a number is being bought, and what it costs held: from here on a crash loses nothing.
    #[allow(clippy::too_many_arguments)]
    async fn begin(
        &self,
        organization: OrganizationId,
        environment: Environment,
        new: NumberId,
        e164: &E164,
        offer: Option<Offer>,
        carrier: &dyn Carrier,
        claim: Option<&Claim>,
        by: &AuditContext,
    ) -> Result<NumberId, StoreError> {
        let mut tx = self.store.product().await?;
        if let Some(earlier) = begun(&mut tx, organization, claim, by.now).await? {
            return Ok(earlier.id);
        }
        let held_elsewhere =
            holder(&mut tx, environment, e164, by.now).await?.is_some_and(|it| it != organization);
        if held_elsewhere || is_taken(&mut tx, environment, e164).await? {
            return Err(TAKEN);
        }
        let price = offer.ok_or(NOT_FOR_SALE)?.price;
        let number = Number {
            id: new,
            organization,
            environment,
            e164: e164.clone(),
            provider: carrier.name().to_owned(),
            carrier_id: None,
            imported: false,
            status: Status::Buying,
            agent: None,
            price,
            months: 0,
            created_at: by.now,
        };
        insert(&mut tx, &number, claim, Some(by.now)).await?;
        let (reference, description) = (format!("{new}:held"), number.description());
        billing::hold_in(&mut tx, organization, environment, &number.cost(&reference, &description), by.now)
            .await?;
        tx.commit().await?;
        Ok(new)
    }

    /// Asks the carrier, and makes of the purchase what it answers. The caller has the number's desk.
    async fn finish(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: NumberId,
        by: &AuditContext,
    ) -> Result<(), NumberError> {
        let number = {
            let mut tx = self.store.read().await?;
            match load(&mut tx, organization, environment, which).await {
                Err(StoreError::NotFound) => return Err(NOT_FOR_SALE.into()), // Undone by whoever was at the desk before.
                found => found?,
            }
        };
        if number.status != Status::Buying {
            return Ok(());
        }
        let carrier = self.carriers.of(environment);
        let answer = match number.provider == carrier.name() {
            true => carrier.buy(&number.e164, &number.id.to_string()).await,
            false => {
                Err(CarrierError::Refused("the number belongs to another carrier than the one in use".into()))
            }
        };
        match answer {
            Ok(carrier_id) => Ok(self.bought(&number, carrier_id, by).await?),
            Err(CarrierError::Refused(why)) => {
                tracing::info!(why, number = %number.id, "the carrier does not sell a number");
                self.not_bought(&number, by.now).await?;
                Err(NOT_FOR_SALE.into())
            }
            Err(away) => {
                let mut tx = self.store.product().await?;
                self.try_later(&mut tx, &number, by.now.plus(RETRY)).await?;
                tx.commit().await?;
                Err(away.into())
            }
        }
    }

    /// The carrier has sold a number: what was held is taken.
    async fn bought(&self, number: &Number, carrier_id: String, by: &AuditContext) -> Result<(), StoreError> {
        let (organization, environment) = (number.organization, number.environment);
        let mut tx = self.store.product().await?;
        let (reference, description) = (number.id.to_string(), number.description());
        let cost = number.cost(&reference, &description);
        billing::take_held(&mut tx, organization, environment, &cost, by.now).await?;
        let rent_at = months_after(number.created_at, 1)?;
        tx.queue(
            "UPDATE numbers SET status = 'active', carrier_id = $3, months = 1, rent_at = $4, try_at = NULL \
             WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(number.id), carrier_id.into(), rent_at.into()],
        )
        .await?;
        drop_holds(&mut tx, environment, &number.e164).await?;
        let details = json!({"environment": environment.as_str(), "provider": number.provider});
        tx.audit(organization, by, deed("number.purchased", number, details)).await?;
        tx.commit().await
    }

    /// The carrier does not sell a number: what was held is given back.
    async fn not_bought(&self, number: &Number, now: Timestamp) -> Result<(), StoreError> {
        let (organization, environment) = (number.organization, number.environment);
        let mut tx = self.store.product().await?;
        let (reference, description) = (format!("{}:returned", number.id), number.description());
        let cost = number.cost(&reference, &description);
        billing::return_held(&mut tx, organization, environment, &cost, now).await?;
        tx.queue(
            "UPDATE numbers SET status = 'failed', try_at = NULL, ended_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(number.id), now.into()],
        )
        .await?;
        tx.commit().await
    }

    async fn try_later(&self, tx: &mut BatchTx, number: &Number, at: Timestamp) -> Result<(), StoreError> {
        tx.exec(
            "UPDATE numbers SET try_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(number.organization), id(number.id), at.into()],
        )
        .await
        .map(drop)
    }

    /// Takes over a number that is in the carrier's account already, labelled with the organization's id. It costs nothing here.
    #[allow(clippy::too_many_arguments)]
    pub async fn import(
        &self,
        organization: OrganizationId,
        environment: Environment,
        new: NumberId,
        e164: &E164,
        claim: Option<&Claim>,
        by: &AuditContext,
        seal: Seal<'_, Number>,
    ) -> Result<Once<Number>, NumberError> {
        let carrier = self.carriers.of(environment);
        let owned = or_none(carrier.owned(e164, &organization.to_string()).await)?;
        let mut tx = self.store.product().await?;
        if let Some(answer) = tx.claimed(organization, claim, by.now).await? {
            return Ok(Once::Replay(answer));
        }
        let carrier_id = owned.ok_or(StoreError::Conflict(
            "The carrier has no such number that is named with the id of this organization.",
        ))?;
        let held_elsewhere =
            holder(&mut tx, environment, e164, by.now).await?.is_some_and(|it| it != organization);
        if held_elsewhere || is_taken(&mut tx, environment, e164).await? {
            return Err(TAKEN.into());
        }
        let number = Number {
            id: new,
            organization,
            environment,
            e164: e164.clone(),
            provider: carrier.name().to_owned(),
            carrier_id: Some(carrier_id),
            imported: true,
            status: Status::Active,
            agent: None,
            price: Price { setup: 0, monthly: 0 },
            months: 0,
            created_at: by.now,
        };
        insert(&mut tx, &number, None, None).await?;
        drop_holds(&mut tx, environment, e164).await?;
        let details = json!({"environment": environment.as_str(), "provider": number.provider});
        tx.audit(organization, by, deed("number.imported", &number, details)).await?;
        tx.remember(organization, claim, || seal(&number)).await?;
        tx.commit().await?;
        Ok(Once::Fresh(number))
    }

    /// Sets or takes away the agent that answers.
    pub async fn assign(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: NumberId,
        agent: Option<AgentId>,
        by: &AuditContext,
    ) -> Result<Number, StoreError> {
        let mut tx = self.store.product().await?;
        let number = load(&mut tx, organization, environment, which).await?;
        if number.status == Status::Releasing {
            return Err(StoreError::NotFound);
        }
        if let Some(agent) = agent {
            tx.one(
                "SELECT id FROM agents WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL",
                vec![id(organization), id(agent)],
            )
            .await?;
        }
        if number.status == Status::Buying {
            return Err(StoreError::Conflict("The number is being bought; assign it when it is."));
        }
        tx.queue(
            "UPDATE numbers SET agent_id = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(which), agent.map(|it| *it.as_bytes()).into()],
        )
        .await?;
        let action = if agent.is_some() { "number.assigned" } else { "number.unassigned" };
        let details = json!({"agentId": agent.or(number.agent).map(|it| it.to_string())});
        tx.audit(organization, by, deed(action, &number, details)).await?;
        let number = load(&mut tx, organization, environment, which).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Gives a number up. From here on it costs nothing; the carrier is told now, or as soon as it answers.
    pub async fn release(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: NumberId,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let number = self.give_up(organization, environment, which, "asked for", by).await?;
        let _desk = self.carriers.desk(which.as_bytes()).await;
        match self.tell(&number, by.now).await {
            Err(NumberError::Store(error)) => Err(error),
            // It is given up in any case, and the next pass tells the carrier.
            Err(NumberError::Carrier(_)) | Ok(()) => Ok(()),
        }
    }

    async fn give_up(
        &self,
        organization: OrganizationId,
        environment: Environment,
        which: NumberId,
        why: &str,
        by: &AuditContext,
    ) -> Result<Number, StoreError> {
        let mut tx = self.store.product().await?;
        let number = load(&mut tx, organization, environment, which).await?;
        match number.status {
            Status::Active => {}
            Status::Buying => {
                return Err(StoreError::Conflict("The number is being bought; release it when it is."));
            }
            Status::Releasing | Status::Released | Status::Failed => return Err(StoreError::NotFound),
        }
        tx.queue(
            "UPDATE numbers SET status = 'releasing', agent_id = NULL, rent_at = NULL, try_at = $3 \
             WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(which), by.now.into()],
        )
        .await?;
        let details = json!({"environment": environment.as_str(), "reason": why});
        tx.audit(organization, by, deed("number.released", &number, details)).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Tells the carrier that a number is given back. The caller has the number's desk.
    async fn tell(&self, number: &Number, now: Timestamp) -> Result<(), NumberError> {
        let carrier = self.carriers.of(number.environment);
        let answer = match &number.carrier_id {
            // What an organization brought stays in the account; what another carrier sold can't be given to this one.
            Some(carrier_id) if !number.imported && number.provider == carrier.name() => {
                carrier.release(carrier_id).await
            }
            _ => Ok(()),
        };
        let mut tx = self.store.product().await?;
        if let Err(error) = answer {
            tracing::warn!(%error, number = %number.id, "a number can't be given back yet; it is tried again");
            self.try_later(&mut tx, number, now.plus(RETRY)).await?;
            tx.commit().await?;
            return Err(error.into());
        }
        tx.queue(
            "UPDATE numbers SET status = 'released', try_at = NULL, ended_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(number.organization), id(number.id), now.into()],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// What is due by `now`: purchases and releases that were cut short, and rent. Safe to run again at any point.
    pub async fn run_due(&self, now: Timestamp) -> Result<(), StoreError> {
        for open in self.due("SELECT * FROM numbers WHERE try_at <= $1 ORDER BY try_at LIMIT $2", now).await?
        {
            // Whoever is at the desk is finishing it.
            let Some(_desk) = self.carriers.free_desk(open.id.as_bytes()) else { continue };
            let done = match open.status {
                Status::Buying => {
                    self.finish(open.organization, open.environment, open.id, &billing::system(now)).await
                }
                Status::Releasing => self.tell(&open, now).await,
                Status::Active | Status::Released | Status::Failed => Ok(()),
            };
            match done {
                // Nor would it answer about the others now, each of which would wait for that.
                Err(NumberError::Carrier(error @ CarrierError::Away(_))) => {
                    tracing::info!(%error, number = %open.id, "numbers wait for their carrier");
                    break;
                }
                // One that can't be finished does not keep the others from it.
                Err(error) => {
                    tracing::info!(%error, number = %open.id, "the purchase or release of a number is not finished; the next pass goes on")
                }
                Ok(()) => {}
            }
        }
        let sql = "SELECT * FROM numbers WHERE rent_at <= $1 AND status = 'active' ORDER BY rent_at LIMIT $2";
        for unpaid in self.due(sql, now).await? {
            if let Err(error) = self.rent(&unpaid, now).await {
                tracing::warn!(%error, number = %unpaid.id, "the rent of a number could not be booked");
            }
        }
        Ok(())
    }

    async fn due(&self, sql: &'static str, now: Timestamp) -> Result<Vec<Number>, StoreError> {
        let mut tx = self.store.read().await?;
        tx.all(sql, vec![now.into(), BATCH.into()]).await?.iter().map(number).collect()
    }

    /// Books the next month of a number, or gives it up when it was not paid for too long.
    async fn rent(&self, due: &Number, now: Timestamp) -> Result<(), StoreError> {
        let done = self.pay(due, now).await;
        match done.as_ref().err().and_then(InsufficientBalance::of) {
            Some(InsufficientBalance { balance, .. }) => {
                let overdue_since = months_after(due.created_at, due.months)?;
                if now.since(overdue_since) >= RENT_GRACE {
                    let by = billing::system(now);
                    return self
                        .give_up(due.organization, due.environment, due.id, "not paid", &by)
                        .await
                        .map(drop);
                }
                let mut tx = self.store.product().await?;
                billing::reload_after_shortage(&mut tx, due.organization, due.environment, balance, now)
                    .await?;
                self.set_rent(&mut tx, due, due.months, now.plus(RENT_RETRY)).await?;
                tx.commit().await
            }
            None => done,
        }
    }

    async fn pay(&self, due: &Number, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.product().await?;
        let number = load(&mut tx, due.organization, due.environment, due.id).await?;
        if number.status != Status::Active || number.months != due.months {
            return Ok(()); // Somebody was faster.
        }
        let charge = Charge {
            reference: &format!("{}:month:{}", number.id, number.months + 1),
            kind: Kind::NumberRental,
            quantity: 1,
            credits: number.price.monthly,
            agent: number.agent,
            description: &format!("{}, one month", number.e164),
        };
        billing::charge_in(&mut tx, number.organization, number.environment, &charge, now).await?;
        let months = number.months + 1;
        self.set_rent(&mut tx, &number, months, months_after(number.created_at, months)?).await?;
        tx.commit().await
    }

    async fn set_rent(
        &self,
        tx: &mut BatchTx,
        number: &Number,
        months: i64,
        rent_at: Timestamp,
    ) -> Result<(), StoreError> {
        tx.exec(
            "UPDATE numbers SET months = $3, rent_at = $4 WHERE organization_id = $1 AND id = $2 AND status = 'active'",
            vec![id(number.organization), id(number.id), months.into(), rent_at.into()],
        )
        .await
        .map(drop)
    }
}

impl Number {
    /// Until when it is paid; `None` for one that costs nothing or is not the organization's yet.
    pub fn paid_until(&self) -> Result<Option<Timestamp>, StoreError> {
        (self.months > 0).then(|| months_after(self.created_at, self.months)).transpose()
    }

    fn description(&self) -> String {
        format!("{}, set-up and first month", self.e164)
    }

    /// The charge for buying it: the set-up and the first month.
    fn cost<'a>(&self, reference: &'a str, description: &'a str) -> Charge<'a> {
        Charge {
            reference,
            kind: Kind::NumberPurchase,
            quantity: 1,
            credits: self.price.setup + self.price.monthly,
            agent: None,
            description,
        }
    }
}

/// A carrier that will not look for something has nothing of the kind.
fn or_none<T>(found: Result<Option<T>, CarrierError>) -> Result<Option<T>, CarrierError> {
    match found {
        Err(CarrierError::Refused(why)) => {
            tracing::info!(why, "the carrier does not look for a number");
            Ok(None)
        }
        found => found,
    }
}

/// Whether nobody has or holds a number.
async fn is_free(
    tx: &mut ReadTx,
    environment: Environment,
    e164: &E164,
    now: Timestamp,
) -> Result<bool, StoreError> {
    Ok(!is_taken(tx, environment, e164).await? && holder(tx, environment, e164, now).await?.is_none())
}
