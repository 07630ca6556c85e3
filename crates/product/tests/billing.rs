//! The ledger, payments and plans, on both databases.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod common;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
mod services;

use common::{LIVE, NOW, by, found, fresh, on_both};
use flowyte_core::id::OrganizationId;
use flowyte_core::time::{DAY, HOUR, MINUTE, SECOND};
use flowyte_core::{Environment, Timestamp};
use flowyte_product::billing::{
    self, AutoReload, Billing, Charge, Charged, InsufficientBalance, Kind, PLANS, Plan, TopUp, TopUpStatus,
    charge_in, charge_message_in, months_after, return_message_in,
};
use flowyte_product::id::{MessageId, TopUpId};
use flowyte_product::payment::{Intent, NoticeRefused, Payments, Progress, Sandbox, Stripe, StripeSettings};
use flowyte_store::{Claim, Once, Page, Store, StoreError};
use services::stripe::{self, Mood};
use std::sync::Arc;

fn sandbox() -> Payments {
    Payments::new(Box::new(Sandbox))
}

fn no_seal(_: &(TopUp, Intent)) -> Vec<u8> {
    Vec::new()
}

async fn fill(
    billing: &Billing<'_>,
    organization: OrganizationId,
    environment: Environment,
    credits: i64,
) -> TopUpId {
    let id = fresh();
    let Ok(Once::Fresh((top_up, _))) =
        billing.top_up(organization, environment, id, credits, None, &by(NOW), &no_seal).await
    else {
        panic!("no top-up")
    };
    assert_eq!(top_up.status, TopUpStatus::Succeeded);
    id
}

fn message(reference: &str, credits: i64) -> Charge<'_> {
    Charge {
        reference,
        kind: Kind::ChatMessage,
        quantity: 1,
        credits,
        agent: None,
        description: "Chat message",
    }
}

async fn balance(billing: &Billing<'_>, organization: OrganizationId) -> i64 {
    billing.wallet(organization, LIVE, NOW).await.unwrap().balance
}

/// The books add up, whatever happened.
async fn assert_books(store: &Arc<dyn Store>, organization: OrganizationId) {
    for environment in [Environment::Live, Environment::Test] {
        let accounts = billing::accounts(&**store, organization, environment).await.unwrap();
        assert_eq!(accounts.iter().map(|(_, held)| held).sum::<i64>(), 0, "{accounts:?}");
        assert!(accounts.iter().all(|(name, held)| name == "payments" || *held >= 0), "{accounts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_is_booked_once_and_never_overdraws() {
    on_both(|store| async move {
        let (one, other) = (found(&store).await, found(&store).await);
        let payments = sandbox();
        let billing = Billing { store: &*store, payments: &payments };
        let short = billing.charge(one, LIVE, &message("a", 5), NOW).await.unwrap_err();
        assert!(
            InsufficientBalance::of(&short) == Some(InsufficientBalance { balance: 0, needed: 5 }),
            "{short}"
        );
        fill(&billing, one, LIVE, 12).await;
        assert_eq!(billing.charge(one, LIVE, &message("a", 5), NOW).await.unwrap(), Charged::Booked);
        assert_eq!(billing.charge(one, LIVE, &message("a", 5), NOW).await.unwrap(), Charged::Already);
        assert_eq!(balance(&billing, one).await, 7);
        // A reference is one organization's own.
        fill(&billing, other, LIVE, 5).await;
        assert_eq!(billing.charge(other, LIVE, &message("a", 5), NOW).await.unwrap(), Charged::Booked);
        let short = billing.charge(one, LIVE, &message("b", 8), NOW).await.unwrap_err();
        assert!(
            InsufficientBalance::of(&short) == Some(InsufficientBalance { balance: 7, needed: 8 }),
            "{short}"
        );
        // Nothing of a transaction that is not committed is there.
        let mut tx = store.product().await.unwrap();
        assert_eq!(charge_in(&mut tx, one, LIVE, &message("b", 7), NOW).await.unwrap(), Charged::Booked);
        drop(tx);
        assert_eq!((balance(&billing, one).await, balance(&billing, other).await), (7, 0));
        let items = billing.items(one, LIVE, Page { limit: 10, before: None }).await.unwrap();
        assert_eq!(items.iter().map(|it| it.credits).collect::<Vec<_>>(), [5]);
        assert_books(&store, one).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raced_charges_spend_what_is_there_and_no_more() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let payments = Arc::new(sandbox());
        let billing = Billing { store: &*store, payments: &payments };
        fill(&billing, organization, LIVE, 100).await;
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let (store, payments) = (store.clone(), payments.clone());
            tasks.spawn(async move {
                let billing = Billing { store: &*store, payments: &payments };
                let mut booked = 0;
                for n in 0..10 {
                    // Two workers report each act.
                    let reference = format!("act-{}-{n}", worker / 2);
                    match billing.charge(organization, LIVE, &message(&reference, 3), NOW).await {
                        Ok(Charged::Booked) => booked += 1,
                        Ok(Charged::Already) => {}
                        Err(short) if InsufficientBalance::of(&short).is_some() => {}
                        other => panic!("{other:?}"),
                    }
                }
                booked
            });
        }
        let booked: i64 = tasks.join_all().await.into_iter().sum();
        // Forty acts at three credits; a hundred credits pay for thirty-three.
        assert_eq!((booked, balance(&billing, organization).await), (33, 1));
        assert_books(&store, organization).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn test_credentials_meter_nothing_and_reach_no_provider() {
    let stripe = stripe::Stripe::start();
    let url = stripe.url.clone();
    on_both(|store| {
        let url = url.clone();
        async move {
            let organization = found(&store).await;
            let payments = Payments::new(Box::new(client(&url)));
            let billing = Billing { store: &*store, payments: &payments };
            let charged = billing.charge(organization, Environment::Test, &message("a", 5), NOW).await;
            assert_eq!(charged.unwrap(), Charged::Unmetered);
            fill(&billing, organization, Environment::Test, 500).await;
            let test = billing.wallet(organization, Environment::Test, NOW).await.unwrap();
            assert_eq!((test.balance, balance(&billing, organization).await), (500, 0));
            let starter = Plan::find("starter").unwrap();
            let done = billing
                .change_plan(organization, Environment::Test, starter, None, &by(NOW), &|_| vec![])
                .await;
            assert!(
                matches!(done, Ok(Once::Fresh(wallet)) if wallet.balance == 500 && wallet.plan == starter)
            );
            assert_eq!(billing.wallet(organization, LIVE, NOW).await.unwrap().plan, PLANS[0]);
            assert_books(&store, organization).await;
        }
    })
    .await;
    assert!(stripe.state.lock().unwrap().intents.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_includes_messages_and_then_each_costs() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let payments = sandbox();
        let billing = Billing { store: &*store, payments: &payments };
        let included = PLANS[0].included_messages;
        // As if all but one of the month's messages had been sent.
        let mut tx = store.product().await.unwrap();
        for n in 0..included - 1 {
            let charge = Charge { credits: 0, ..message("", 0) };
            let reference = format!("msg-{n}");
            charge_in(&mut tx, organization, LIVE, &Charge { reference: &reference, ..charge }, NOW)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        let agent = fresh();
        let say = async |message: MessageId, now| {
            let mut tx = store.batch().await.unwrap();
            let charged = charge_message_in(&mut tx, organization, LIVE, agent, message, now).await?;
            tx.commit().await.unwrap();
            Ok::<_, StoreError>(charged)
        };
        let last: MessageId = fresh();
        assert_eq!(say(last, NOW).await.unwrap(), Charged::Booked);
        assert_eq!(say(last, NOW).await.unwrap(), Charged::Already);
        let over: MessageId = fresh();
        let short = say(over, NOW).await.unwrap_err();
        assert_eq!(InsufficientBalance::of(&short).map(|it| it.needed), Some(2));
        fill(&billing, organization, LIVE, 10).await;
        assert_eq!(say(over, NOW.plus(SECOND)).await.unwrap(), Charged::Booked);
        assert_eq!(balance(&billing, organization).await, 8);
        // A new month counts anew.
        let later = months_after(NOW, 1).unwrap();
        assert_eq!(say(fresh(), later).await.unwrap(), Charged::Booked);
        assert_eq!(balance(&billing, organization).await, 8);
        let usage = billing.usage(organization, LIVE, NOW.plus(-DAY), NOW.plus(DAY)).await.unwrap();
        assert_eq!(usage.len(), 1);
        assert_eq!(
            (usage[0].quantity, usage[0].credits, usage[0].date.as_str()),
            (included + 1, 2, "2026-09-21")
        );
        let items = billing.items(organization, LIVE, Page { limit: 2, before: None }).await.unwrap();
        assert_eq!(items.len(), 3, "one more than the page says that there is another");
        assert_eq!((items[0].credits, items[0].at, items[0].agent), (0, later, Some(agent)));
        assert_eq!(items[1].credits, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_cost_that_got_no_answer_is_given_back_once() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let payments = sandbox();
        let billing = Billing { store: &*store, payments: &payments };
        let included = PLANS[0].included_messages;
        let mut tx = store.product().await.unwrap();
        for n in 0..included - 1 {
            let charge = Charge { reference: &format!("msg-{n}"), ..message("", 0) };
            charge_in(&mut tx, organization, LIVE, &charge, NOW).await.unwrap();
        }
        tx.commit().await.unwrap();
        fill(&billing, organization, LIVE, 10).await;
        let say = async |message: MessageId| {
            let mut tx = store.batch().await.unwrap();
            charge_message_in(&mut tx, organization, LIVE, fresh(), message, NOW).await.unwrap();
            tx.commit().await.unwrap();
        };
        let give_back = async |message: MessageId| {
            let mut tx = store.batch().await.unwrap();
            return_message_in(&mut tx, organization, LIVE, message, NOW.plus(SECOND)).await.unwrap();
            tx.commit().await.unwrap();
        };
        // The last included one is included again.
        let (last, next, over): (MessageId, MessageId, MessageId) = (fresh(), fresh(), fresh());
        say(last).await;
        give_back(last).await;
        say(next).await;
        assert_eq!(balance(&billing, organization).await, 10);
        say(over).await;
        assert_eq!(balance(&billing, organization).await, 8);
        for _ in 0..2 {
            give_back(over).await;
            assert_eq!(balance(&billing, organization).await, 10);
        }
        give_back(fresh()).await; // Never charged.
        assert_eq!(balance(&billing, organization).await, 10);
        let usage = billing.usage(organization, LIVE, NOW.plus(-DAY), NOW.plus(DAY)).await.unwrap();
        assert_eq!((usage[0].quantity, usage[0].credits), (included, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_paid_each_month_once_and_ends_when_it_is_not() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let payments = sandbox();
        let billing = Billing { store: &*store, payments: &payments };
        let (starter, growth) = (Plan::find("starter").unwrap(), Plan::find("growth").unwrap());
        let change = async |plan, now| match billing
            .change_plan(organization, LIVE, plan, None, &by(now), &|_| vec![])
            .await?
        {
            Once::Fresh(wallet) => Ok::<_, StoreError>(wallet),
            Once::Replay(_) => panic!("a replay"),
        };
        assert!(InsufficientBalance::of(&change(starter, NOW).await.unwrap_err()).is_some());
        fill(&billing, organization, LIVE, 3 * starter.price + growth.price).await;
        let wallet = change(starter, NOW).await.unwrap();
        assert_eq!((wallet.plan, wallet.balance), (starter, 2 * starter.price + growth.price));
        assert_eq!(wallet.period_until, months_after(NOW, 1).unwrap());
        // The same plan again costs nothing.
        assert_eq!(change(starter, NOW.plus(HOUR)).await.unwrap().balance, wallet.balance);
        // Passes before the month is over do nothing; many after it book one month.
        billing.run_due(NOW.plus(20 * DAY)).await.unwrap();
        let due = months_after(NOW, 1).unwrap();
        for _ in 0..3 {
            billing.run_due(due).await.unwrap();
        }
        let wallet = billing.wallet(organization, LIVE, due).await.unwrap();
        assert_eq!(wallet.balance, starter.price + growth.price);
        assert_eq!(wallet.period_until, months_after(NOW, 2).unwrap());
        // A more expensive plan begins now, a cheaper one when the month is over.
        let wallet = change(growth, due.plus(DAY)).await.unwrap();
        assert_eq!((wallet.plan, wallet.balance), (growth, starter.price));
        let wallet = change(starter, due.plus(2 * DAY)).await.unwrap();
        assert_eq!((wallet.plan, wallet.next_plan, wallet.balance), (growth, Some(starter), starter.price));
        let over = months_after(due.plus(DAY), 1).unwrap();
        billing.run_due(over).await.unwrap();
        let wallet = billing.wallet(organization, LIVE, over).await.unwrap();
        assert_eq!((wallet.plan, wallet.next_plan, wallet.balance), (starter, None, 0));
        // Nothing is left for the next month: it goes on through the grace, and then the free plan takes its place.
        let unpaid = months_after(over, 1).unwrap();
        billing.run_due(unpaid).await.unwrap();
        assert_eq!(billing.wallet(organization, LIVE, unpaid).await.unwrap().plan, starter);
        // Tried again in an hour, or as soon as money comes; not every second.
        let try_at = async || {
            let mut tx = store.read().await.unwrap();
            let rows = tx.all("SELECT plan_try_at FROM wallets WHERE plan_try_at IS NOT NULL", vec![]).await;
            rows.unwrap()[0].time("plan_try_at").unwrap()
        };
        assert_eq!(try_at().await, unpaid.plus(HOUR));
        fill(&billing, organization, LIVE, starter.price).await;
        assert_eq!(try_at().await, unpaid);
        billing.run_due(unpaid.plus(SECOND)).await.unwrap();
        let wallet = billing.wallet(organization, LIVE, unpaid.plus(SECOND)).await.unwrap();
        assert_eq!((wallet.plan, wallet.balance), (starter, 0));
        assert_eq!(wallet.period_until, months_after(over, 2).unwrap());
        let unpaid = wallet.period_until;
        billing.run_due(unpaid).await.unwrap();
        billing.run_due(unpaid.plus(3 * DAY)).await.unwrap();
        assert_eq!(billing.wallet(organization, LIVE, unpaid.plus(3 * DAY)).await.unwrap().plan, PLANS[0]);
        assert_books(&store, organization).await;
    })
    .await;
}

fn client(url: &str) -> Stripe {
    Stripe::new(StripeSettings {
        url: url.into(),
        key: stripe::KEY.to_owned().into(),
        webhook_secret: stripe::WEBHOOK_SECRET.to_owned().into(),
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_booked_when_the_provider_says_so_and_once() {
    on_both(|store| async move {
        let stripe = stripe::Stripe::start();
        let organization = found(&store).await;
        let payments = Payments::new(Box::new(client(&stripe.url)));
        let billing = Billing { store: &*store, payments: &payments };
        let reload = AutoReload { enabled: true, threshold: 500, amount: 2_000 };
        let early = billing.set_auto_reload(organization, LIVE, reload, &by(NOW)).await;
        assert!(matches!(early, Err(StoreError::Conflict(_))), "nothing to pay with is known yet");

        let id = fresh();
        let Ok(Once::Fresh((top_up, intent))) =
            billing.top_up(organization, LIVE, id, 1_000, None, &by(NOW), &no_seal).await
        else {
            panic!("no top-up")
        };
        assert_eq!((top_up.status, intent.progress), (TopUpStatus::Pending, Progress::Pending));
        assert_eq!(intent.client_secret.as_deref(), Some("pi_1_secret_x"));
        assert_eq!(balance(&billing, organization).await, 0);

        let at = NOW.as_micros() / SECOND;
        let (body, signature) = stripe.complete(&intent.id, at);
        let provider = payments.of(LIVE);
        assert_eq!(provider.notice(None, body.as_bytes(), NOW), Err(NoticeRefused::Signature));
        let forged = stripe::sign("whsec_other", &body, at);
        assert_eq!(provider.notice(Some(&forged), body.as_bytes(), NOW), Err(NoticeRefused::Signature));
        let later = NOW.plus(6 * MINUTE);
        assert_eq!(provider.notice(Some(&signature), body.as_bytes(), later), Err(NoticeRefused::Stale));
        let notice = provider.notice(Some(&signature), body.as_bytes(), NOW).unwrap().unwrap();
        for _ in 0..3 {
            billing.hear(&notice, NOW).await.unwrap();
        }
        assert_eq!(balance(&billing, organization).await, 1_000);
        // A notice about somebody else's organization, or a payment that is not there, books nothing.
        let elsewhere = flowyte_product::payment::Notice { organization: fresh(), ..notice.clone() };
        billing.hear(&elsewhere, NOW).await.unwrap();
        let other = found(&store).await;
        billing
            .hear(&flowyte_product::payment::Notice { organization: other, ..notice.clone() }, NOW)
            .await
            .unwrap();
        assert_eq!((balance(&billing, organization).await, balance(&billing, other).await), (1_000, 0));

        // Auto-reload: the charge that goes below the threshold asks once, whatever the provider's answers are like.
        billing.set_auto_reload(organization, LIVE, reload, &by(NOW)).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        assert_eq!(stripe.state.lock().unwrap().intents.len(), 1, "the balance is above the threshold");
        for n in 0..3 {
            billing.charge(organization, LIVE, &message(&format!("m{n}"), 200), NOW).await.unwrap();
        }
        billing.charge(organization, LIVE, &message("m3", 10), NOW).await.unwrap();
        stripe.mood(Mood::Away);
        billing.run_due(NOW).await.unwrap();
        stripe.mood(Mood::TakesAndFails);
        billing.run_due(NOW.plus(MINUTE)).await.unwrap();
        assert_eq!(balance(&billing, organization).await, 390);
        stripe.mood(Mood::Well);
        for minute in 2..5 {
            billing.run_due(NOW.plus(minute * MINUTE)).await.unwrap();
        }
        assert_eq!(balance(&billing, organization).await, 2_390);
        assert_eq!(stripe.state.lock().unwrap().intents.len(), 2, "one automatic payment");
        // The provider's notice of the same payment changes nothing.
        let (body, signature) = stripe.complete("pi_2", at);
        let notice = provider.notice(Some(&signature), body.as_bytes(), NOW).unwrap().unwrap();
        billing.hear(&notice, NOW).await.unwrap();
        assert_eq!(balance(&billing, organization).await, 2_390);

        // A card that is declined switches auto-reload off instead of being tried at every charge.
        stripe.mood(Mood::Declines);
        billing.charge(organization, LIVE, &message("m4", 2_000), NOW.plus(HOUR)).await.unwrap();
        billing.run_due(NOW.plus(HOUR)).await.unwrap();
        let wallet = billing.wallet(organization, LIVE, NOW).await.unwrap();
        assert_eq!((wallet.balance, wallet.auto_reload.map(|it| it.enabled)), (390, Some(false)));
        billing.charge(organization, LIVE, &message("m5", 10), NOW.plus(HOUR)).await.unwrap();
        billing.run_due(NOW.plus(2 * HOUR)).await.unwrap();
        assert_eq!(stripe.state.lock().unwrap().intents.len(), 2);
        assert_books(&store, organization).await;
    })
    .await;
}

/// A wallet with something to pay with and auto-reload on, at a balance that the next charge takes below the threshold.
async fn reloading(
    stripe: &stripe::Stripe,
    billing: &Billing<'_>,
    organization: OrganizationId,
) -> AutoReload {
    let top_up = billing.top_up(organization, LIVE, fresh(), 1_000, None, &by(NOW), &no_seal).await;
    let Ok(Once::Fresh((_, intent))) = top_up else { panic!("no top-up") };
    let (body, signature) = stripe.complete(&intent.id, NOW.as_micros() / SECOND);
    let notice = billing.payments.of(LIVE).notice(Some(&signature), body.as_bytes(), NOW).unwrap().unwrap();
    billing.hear(&notice, NOW).await.unwrap();
    let reload = AutoReload { enabled: true, threshold: 500, amount: 2_000 };
    billing.set_auto_reload(organization, LIVE, reload, &by(NOW)).await.unwrap();
    reload
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_payment_comes_to_an_end_whatever_the_bank_does() {
    on_both(|store| async move {
        let stripe = stripe::Stripe::start();
        let payments = Payments::new(Box::new(client(&stripe.url)));
        let billing = Billing { store: &*store, payments: &payments };
        let on = async |organization| {
            billing.wallet(organization, LIVE, NOW).await.unwrap().auto_reload.map(|it| it.enabled)
        };
        let tell = async |kind: &str, intent: &str| {
            let object = stripe.state.lock().unwrap().intents[intent].clone();
            let (body, signature) = stripe::notice(kind, &object, NOW.as_micros() / SECOND);
            let notice = payments.of(LIVE).notice(Some(&signature), body.as_bytes(), NOW).unwrap().unwrap();
            billing.hear(&notice, NOW).await.unwrap();
        };

        // The bank wants something of a payer who is not there.
        let asked = found(&store).await;
        let reload = reloading(&stripe, &billing, asked).await;
        stripe.mood(Mood::Asks);
        billing.charge(asked, LIVE, &message("asked", 600), NOW).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        assert_eq!((balance(&billing, asked).await, on(asked).await), (400, Some(false)));

        // It says no after days, and says so again when everything is mended.
        stripe.mood(Mood::Waits);
        billing.set_auto_reload(asked, LIVE, reload, &by(NOW)).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        let intent = format!("pi_{}", stripe.state.lock().unwrap().intents.len());
        assert_eq!(on(asked).await, Some(true), "the bank takes its time");
        tell("payment_intent.payment_failed", &intent).await;
        assert_eq!(on(asked).await, Some(false));
        billing
            .set_auto_reload(asked, LIVE, AutoReload { threshold: 300, ..reload }, &by(NOW))
            .await
            .unwrap();
        tell("payment_intent.payment_failed", &intent).await;
        tell("payment_intent.canceled", &intent).await;
        assert_eq!(on(asked).await, Some(true), "what is over already switches nothing off");

        // It says nothing at all: the next payment may be asked for after two weeks, and money that comes later is booked.
        let silent = found(&store).await;
        stripe.mood(Mood::Well);
        reloading(&stripe, &billing, silent).await;
        stripe.mood(Mood::Waits);
        billing.charge(silent, LIVE, &message("silent", 600), NOW).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        let intent = format!("pi_{}", stripe.state.lock().unwrap().intents.len());
        billing.run_due(NOW.plus(13 * DAY)).await.unwrap();
        assert_eq!(on(silent).await, Some(true));
        billing.run_due(NOW.plus(15 * DAY)).await.unwrap();
        assert_eq!(on(silent).await, Some(false));
        stripe.complete(&intent, NOW.as_micros() / SECOND);
        tell("payment_intent.succeeded", &intent).await;
        assert_eq!(balance(&billing, silent).await, 2_400);
        for organization in [asked, silent] {
            assert_books(&store, organization).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_top_up_pays_once() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let payments = Arc::new(sandbox());
        let claim = Claim {
            actor: "user_1".into(),
            digest: [1; 32],
            operation: "topUpWallet".into(),
            request: [2; 32],
            expires_at: NOW.plus(10 * MINUTE),
        };
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (store, payments, claim) = (store.clone(), payments.clone(), claim.clone());
            tasks.spawn(async move {
                let billing = Billing { store: &*store, payments: &payments };
                let seal = |(top_up, _): &(TopUp, Intent)| top_up.id.to_string().into_bytes();
                match billing.top_up(organization, LIVE, fresh(), 700, Some(&claim), &by(NOW), &seal).await {
                    Ok(Once::Fresh((top_up, _))) => top_up.id.to_string().into_bytes(),
                    Ok(Once::Replay(answer)) => answer,
                    Err(error) => panic!("{error}"),
                }
            });
        }
        let answers = tasks.join_all().await;
        assert!(answers.iter().all(|it| *it == answers[0]), "one answer for all");
        let billing = Billing { store: &*store, payments: &payments };
        assert_eq!(balance(&billing, organization).await, 700);
        // What was opened and not paid is put away.
        billing.run_due(NOW.plus(HOUR)).await.unwrap();
        assert_eq!(balance(&billing, organization).await, 700);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_reloads_the_wallet_by_itself() {
    on_both(|store| async move {
        let organization = found(&store).await;
        let payments = sandbox();
        let billing = Billing { store: &*store, payments: &payments };
        let reload = AutoReload { enabled: true, threshold: 500, amount: 1_000 };
        // Below the threshold already, so it acts at once.
        billing.set_auto_reload(organization, LIVE, reload, &by(NOW)).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        assert_eq!(balance(&billing, organization).await, 1_000);
        let off = AutoReload { enabled: false, ..reload };
        billing.set_auto_reload(organization, LIVE, off, &by(NOW)).await.unwrap();
        billing.charge(organization, LIVE, &message("a", 900), NOW).await.unwrap();
        billing.run_due(NOW).await.unwrap();
        assert_eq!(balance(&billing, organization).await, 100);
    })
    .await;
}

#[test]
fn a_month_after_the_last_day_stays_within_its_month() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for (months, day) in [(1, "2027-02-28"), (2, "2027-03-31"), (13, "2028-02-29")] {
        assert_eq!(months_after(at("2027-01-31T10:00:00Z"), months).unwrap().day(), day);
    }
}
