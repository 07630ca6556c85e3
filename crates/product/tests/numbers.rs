//! Numbers and the carrier behind them, on both databases.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod common;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;
mod services;

use common::{LIVE, NOW, by, found, fresh, on_both};
use flowyte_core::id::OrganizationId;
use flowyte_core::time::{DAY, HOUR, MINUTE};
use flowyte_core::{Environment, Timestamp};
use flowyte_product::agents::Agents;
use flowyte_product::billing::{self, Billing, InsufficientBalance, months_after};
use flowyte_product::carrier::{
    Carriers, Country, E164, NumberType, Sandbox, Search, Twilio, TwilioSettings,
};
use flowyte_product::id::AgentId;
use flowyte_product::numbers::{HOLD, Hold, Number, NumberError, Numbers, Status};
use flowyte_product::payment::{self, Payments};
use flowyte_store::{Claim, Once, Page, Store, StoreError};
use services::twilio::{self, Mood};
use std::sync::Arc;

fn client(url: &str) -> Carriers {
    let settings = TwilioSettings {
        url: url.into(),
        account: twilio::ACCOUNT.into(),
        token: twilio::TOKEN.to_owned().into(),
    };
    Carriers::new(Box::new(Twilio::new(settings).unwrap()))
}

fn e164(text: &str) -> E164 {
    E164::parse(text).unwrap()
}

fn search() -> Search {
    Search {
        country: Country::UnitedStates,
        kind: NumberType::Local,
        area_code: None,
        contains: None,
        starts_with: None,
        ends_with: None,
        locality: None,
        administrative_area: None,
        features: vec![],
        limit: 20,
    }
}

fn claim(digest: u8, request: u8) -> Claim {
    Claim {
        actor: "user_1".into(),
        digest: [digest; 32],
        operation: "purchaseNumber".into(),
        request: [request; 32],
        expires_at: NOW.plus(10 * MINUTE),
    }
}

fn seal(number: &Number) -> Vec<u8> {
    number.id.to_string().into_bytes()
}

async fn fill(store: &Arc<dyn Store>, organization: OrganizationId, credits: i64) {
    let payments = Payments::new(Box::new(payment::Sandbox));
    let billing = Billing { store: &**store, payments: &payments };
    assert!(billing.top_up(organization, LIVE, fresh(), credits, None, &by(NOW), &|_| vec![]).await.is_ok());
}

/// Wallet, held and spent.
async fn books(store: &Arc<dyn Store>, organization: OrganizationId) -> (i64, i64, i64) {
    let accounts = billing::accounts(&**store, organization, LIVE).await.unwrap();
    assert_eq!(accounts.iter().map(|(_, held)| held).sum::<i64>(), 0, "{accounts:?}");
    let of = |name: &str| accounts.iter().find(|(it, _)| it == name).map_or(0, |(_, held)| *held);
    (of("wallet"), of("held"), of("revenue"))
}

async fn buy(
    numbers: &Numbers<'_>,
    organization: OrganizationId,
    number: &str,
    claim: Option<&Claim>,
    now: Timestamp,
) -> Result<String, NumberError> {
    let done = numbers.purchase(organization, LIVE, fresh(), &e164(number), claim, &by(now), &seal).await?;
    Ok(match done {
        Once::Fresh(number) => number.id.to_string(),
        Once::Replay(answer) => String::from_utf8(answer).unwrap(),
    })
}

async fn list(numbers: &Numbers<'_>, organization: OrganizationId) -> Vec<Number> {
    numbers.list(organization, LIVE, Page { limit: 100, before: None }).await.unwrap()
}

fn is_conflict<T>(done: Result<T, NumberError>) -> bool {
    matches!(done, Err(NumberError::Store(StoreError::Conflict(_))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_others_away_until_it_ends() {
    on_both(|store| async move {
        let carriers = Arc::new(Carriers::new(Box::new(Sandbox)));
        let (one, other) = (found(&store).await, found(&store).await);
        // Twelve ask at once, of two organizations.
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..12 {
            let (store, carriers) = (store.clone(), carriers.clone());
            tasks.spawn(async move {
                let numbers = Numbers { store: &*store, carriers: &carriers };
                let organization = if n % 2 == 0 { one } else { other };
                let wanted = e164("+12025550123");
                match numbers.reserve(organization, LIVE, fresh(), &wanted, None, NOW, &|_| vec![]).await {
                    Ok(Once::Fresh(hold)) => Some((organization, hold)),
                    refused => {
                        assert!(is_conflict(refused));
                        None
                    }
                }
            });
        }
        let winners: Vec<(OrganizationId, Hold)> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        let (winner, hold) = &winners[0];
        let loser = if *winner == one { other } else { one };
        let numbers = Numbers { store: &*store, carriers: &carriers };
        let wanted = e164("+12025550123");
        assert!(matches!(
            numbers.offer(LIVE, &wanted, NOW).await,
            Err(NumberError::Store(StoreError::NotFound))
        ));
        let found = numbers
            .search(LIVE, &Search { area_code: Some("202".into()), limit: 100, ..search() }, NOW)
            .await;
        assert_eq!(found.unwrap().len(), 99);
        // A test credential has numbers of its own.
        assert!(numbers.offer(Environment::Test, &wanted, NOW).await.is_ok());
        fill(&store, loser, 1_000).await;
        assert!(is_conflict(buy(&numbers, loser, "+12025550123", None, NOW).await));
        assert!(is_conflict(numbers.import(loser, LIVE, fresh(), &wanted, None, &by(NOW), &seal).await));
        assert_eq!(books(&store, loser).await, (1_000, 0, 0));
        // Nobody else lets it go; it ends by itself, and then blocks nobody.
        assert!(matches!(numbers.let_go(loser, LIVE, hold.id, NOW).await, Err(StoreError::NotFound)));
        let later = NOW.plus(HOLD);
        assert!(matches!(numbers.let_go(*winner, LIVE, hold.id, later).await, Err(StoreError::NotFound)));
        assert!(numbers.offer(LIVE, &wanted, later).await.is_ok());
        let again = numbers.reserve(loser, LIVE, fresh(), &wanted, None, later, &|_| vec![]).await;
        let Ok(Once::Fresh(again)) = again else { panic!("an expired hold blocks") };
        numbers.let_go(loser, LIVE, again.id, later).await.unwrap();
        assert!(numbers.offer(LIVE, &wanted, later).await.is_ok());
        // Who holds it may buy it, and with that the hold is over.
        assert!(numbers.reserve(loser, LIVE, fresh(), &wanted, None, later, &|_| vec![]).await.is_ok());
        buy(&numbers, loser, "+12025550123", None, later).await.unwrap();
        assert!(is_conflict(
            numbers.reserve(*winner, LIVE, fresh(), &wanted, None, later.plus(HOUR), &|_| vec![]).await
        ));
        // What is not fictional is not for sale here.
        let real = numbers.reserve(one, LIVE, fresh(), &e164("+12025551234"), None, NOW, &|_| vec![]).await;
        assert!(is_conflict(real));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raced_and_repeated_purchase_buys_and_charges_once() {
    on_both(|store| async move {
        let twilio = twilio::Twilio::start();
        let carriers = Arc::new(client(&twilio.url));
        let (one, other) = (found(&store).await, found(&store).await);
        fill(&store, one, 300).await;
        fill(&store, other, 300).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..12 {
            let (store, carriers) = (store.clone(), carriers.clone());
            tasks.spawn(async move {
                let numbers = Numbers { store: &*store, carriers: &carriers };
                // Each organization sends one request several times.
                let (organization, claim) =
                    if n % 2 == 0 { (one, claim(1, 1)) } else { (other, claim(2, 2)) };
                buy(&numbers, organization, "+15105550123", Some(&claim), NOW).await.ok()
            });
        }
        let answers: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
        assert!(
            (1..=6).contains(&answers.len()) && answers.iter().all(|it| *it == answers[0]),
            "{answers:?}"
        );
        assert_eq!(twilio.state.lock().unwrap().sold, ["+15105550123"]);
        let spent = [books(&store, one).await, books(&store, other).await];
        assert!(spent == [(50, 0, 250), (300, 0, 0)] || spent == [(300, 0, 0), (50, 0, 250)], "{spent:?}");
        // Short: the money of two purchases is not there for either of two more.
        let numbers = Numbers { store: &*store, carriers: &carriers };
        let rich = if spent[0].0 == 300 { one } else { other };
        let (first, second) = tokio::join!(
            buy(&numbers, rich, "+15105550150", None, NOW),
            buy(&numbers, rich, "+15105550151", None, NOW)
        );
        assert!(first.is_ok() != second.is_ok());
        let short = first.err().or(second.err()).unwrap();
        let NumberError::Store(short) = short else { panic!("{short:?}") };
        assert_eq!(InsufficientBalance::of(&short), Some(InsufficientBalance { balance: 50, needed: 250 }));
        assert_eq!((books(&store, rich).await, twilio.state.lock().unwrap().sold.len()), ((50, 0, 250), 2));
        // The same key with another request is refused.
        let (winner, digest) = if rich == one { (other, 2) } else { (one, 1) };
        let reused = buy(&numbers, winner, "+15105550199", Some(&claim(digest, 9)), NOW).await;
        assert!(matches!(reused, Err(NumberError::Store(StoreError::IdempotencyKeyReused))), "{reused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_silent_carrier_leaves_open_is_finished_or_undone() {
    on_both(|store| async move {
        let twilio = twilio::Twilio::start();
        let carriers = client(&twilio.url);
        let organization = found(&store).await;
        let numbers = Numbers { store: &*store, carriers: &carriers };
        fill(&store, organization, 1_000).await;
        // It sells, and its answer does not come: pending, and the money held.
        twilio.mood(Mood::TakesAndFails);
        let key = claim(1, 1);
        let lost = buy(&numbers, organization, "+15105550101", Some(&key), NOW).await;
        assert!(matches!(lost, Err(NumberError::Carrier(_))), "{lost:?}");
        let pending = list(&numbers, organization).await;
        assert_eq!((pending.len(), pending[0].status), (1, Status::Buying));
        assert_eq!(books(&store, organization).await, (750, 250, 0));
        let id = pending[0].id;
        assert!(matches!(
            numbers.assign(organization, LIVE, id, None, &by(NOW)).await,
            Err(StoreError::Conflict(_))
        ));
        assert!(matches!(
            numbers.release(organization, LIVE, id, &by(NOW)).await,
            Err(StoreError::Conflict(_))
        ));
        // The client's repetition finishes it, and so would the next pass.
        twilio.mood(Mood::Well);
        let bought = buy(&numbers, organization, "+15105550101", Some(&key), NOW.plus(MINUTE)).await.unwrap();
        assert_eq!(bought, id.to_string());
        assert_eq!(books(&store, organization).await, (750, 0, 250));

        twilio.mood(Mood::TakesAndFails);
        let key = claim(2, 2);
        assert!(buy(&numbers, organization, "+15105550102", Some(&key), NOW).await.is_err());
        twilio.mood(Mood::Away);
        numbers.run_due(NOW.plus(MINUTE)).await.unwrap();
        assert_eq!(books(&store, organization).await, (500, 250, 250));
        twilio.mood(Mood::Well);
        for minute in 2..5 {
            numbers.run_due(NOW.plus(minute * MINUTE)).await.unwrap();
        }
        assert_eq!(books(&store, organization).await, (500, 0, 500));
        assert_eq!(twilio.state.lock().unwrap().sold, ["+15105550101", "+15105550102"]);
        // Its client comes back after that, under the same key.
        let finished =
            buy(&numbers, organization, "+15105550102", Some(&key), NOW.plus(5 * MINUTE)).await.unwrap();
        assert!(list(&numbers, organization).await.iter().any(|it| it.id.to_string() == finished));

        // What it sold shows only after it was asked again and refused.
        twilio.mood(Mood::TakesAndFails);
        assert!(buy(&numbers, organization, "+15105550105", None, NOW).await.is_err());
        twilio.mood(Mood::Well);
        twilio.state.lock().unwrap().blind = 1;
        numbers.run_due(NOW.plus(MINUTE)).await.unwrap();
        assert_eq!(books(&store, organization).await, (250, 0, 750));
        let id = list(&numbers, organization).await[0].id;
        numbers.release(organization, LIVE, id, &by(NOW)).await.unwrap();
        fill(&store, organization, 250).await;

        // It does not sell: undone, and the number may be bought again.
        twilio.mood(Mood::SoldOut);
        assert!(is_conflict(buy(&numbers, organization, "+15105550103", None, NOW).await));
        assert_eq!(
            (books(&store, organization).await, list(&numbers, organization).await.len()),
            ((500, 0, 750), 2)
        );
        twilio.mood(Mood::Well);
        buy(&numbers, organization, "+15105550103", None, NOW).await.unwrap();
        // What somebody else has in the operator's account is not sold, whatever the carrier lists.
        twilio.state.lock().unwrap().owned.insert("+15105550104".into(), ("PNx".into(), "front door".into()));
        assert!(is_conflict(buy(&numbers, organization, "+15105550104", None, NOW).await));
        assert_eq!(books(&store, organization).await, (250, 0, 1_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_paid_each_month_once_and_given_up_when_it_is_not() {
    on_both(|store| async move {
        let twilio = twilio::Twilio::start();
        let carriers = client(&twilio.url);
        let organization = found(&store).await;
        let numbers = Numbers { store: &*store, carriers: &carriers };
        fill(&store, organization, 250 + 2 * 150).await;
        buy(&numbers, organization, "+15105550101", None, NOW).await.unwrap();
        let due = |months| months_after(NOW, months).unwrap();
        numbers.run_due(due(1).plus(-1)).await.unwrap();
        assert_eq!(books(&store, organization).await, (300, 0, 250));
        for _ in 0..3 {
            numbers.run_due(due(1)).await.unwrap();
        }
        assert_eq!(books(&store, organization).await, (150, 0, 400));
        assert_eq!(list(&numbers, organization).await[0].paid_until().unwrap(), Some(due(2)));
        numbers.run_due(due(2)).await.unwrap();
        // Nothing is left: it stays for a month, and what is paid in then pays it.
        numbers.run_due(due(3)).await.unwrap();
        assert_eq!(books(&store, organization).await, (0, 0, 550));
        fill(&store, organization, 150).await;
        numbers.run_due(due(3).plus(2 * HOUR)).await.unwrap();
        assert_eq!(books(&store, organization).await, (0, 0, 700));
        for day in 0..32 {
            numbers.run_due(due(4).plus(day * DAY)).await.unwrap();
        }
        assert!(list(&numbers, organization).await.is_empty());
        assert_eq!(
            (books(&store, organization).await, twilio.state.lock().unwrap().deleted),
            ((0, 0, 700), 1)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_through_its_life() {
    on_both(|store| async move {
        let twilio = twilio::Twilio::start();
        let carriers = client(&twilio.url);
        let (organization, other) = (found(&store).await, found(&store).await);
        let numbers = Numbers { store: &*store, carriers: &carriers };
        let wanted = Search {
            area_code: Some("510".into()),
            ends_with: Some("7".into()),
            features: vec!["sms".into()],
            ..search()
        };
        let offers = numbers.search(LIVE, &wanted, NOW).await.unwrap();
        assert_eq!(offers.len(), 10, "of those with a 7 somewhere, those that end with it");
        assert_eq!(
            (offers[0].formatted.as_str(), offers[0].locality.as_deref()),
            ("(510) 555-0107", Some("Oakland"))
        );
        assert!(
            numbers
                .search(LIVE, &Search { features: vec!["mms".into()], ..wanted.clone() }, NOW)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            numbers
                .search(LIVE, &Search { kind: NumberType::TollFree, ..wanted }, NOW)
                .await
                .unwrap()
                .is_empty()
        );
        let toll_free = Search { country: Country::Canada, kind: NumberType::TollFree, ..search() };
        let offers = numbers.search(LIVE, &toll_free, NOW).await.unwrap();
        assert_eq!(offers.iter().map(|it| it.e164.as_str()).collect::<Vec<_>>(), ["+18335550142"]);

        fill(&store, organization, 250).await;
        buy(&numbers, organization, "+15105550107", None, NOW).await.unwrap();
        let id = list(&numbers, organization).await[0].id;
        let (agent, theirs): (AgentId, AgentId) = (fresh(), fresh());
        for (owner, agent) in [(organization, agent), (other, theirs)] {
            let fields = serde_json::Map::new();
            let made =
                Agents(&*store).create(owner, agent, "Front desk", fields, None, &by(NOW), &|_| vec![]).await;
            assert!(made.is_ok());
        }
        let number = numbers.assign(organization, LIVE, id, Some(agent), &by(NOW)).await.unwrap();
        assert_eq!(number.agent, Some(agent));
        // Neither another's agent nor another's number, nor one of another environment.
        for (owner, environment, agent) in
            [(organization, LIVE, theirs), (other, LIVE, theirs), (organization, Environment::Test, agent)]
        {
            let refused = numbers.assign(owner, environment, id, Some(agent), &by(NOW)).await;
            assert!(matches!(refused, Err(StoreError::NotFound)));
        }
        assert!(matches!(numbers.release(other, LIVE, id, &by(NOW)).await, Err(StoreError::NotFound)));
        assert!(matches!(
            numbers.release(organization, Environment::Test, id, &by(NOW)).await,
            Err(StoreError::NotFound)
        ));
        Agents(&*store).delete(organization, agent, &by(NOW)).await.unwrap();
        assert_eq!(list(&numbers, organization).await[0].agent, None);

        // The carrier is away: given up nevertheless, and the carrier told when it is back.
        twilio.mood(Mood::Away);
        numbers.release(organization, LIVE, id, &by(NOW)).await.unwrap();
        assert!(list(&numbers, organization).await.is_empty());
        assert!(matches!(numbers.release(organization, LIVE, id, &by(NOW)).await, Err(StoreError::NotFound)));
        twilio.mood(Mood::Well);
        for minute in 1..4 {
            numbers.run_due(NOW.plus(minute * MINUTE)).await.unwrap();
        }
        assert_eq!(twilio.state.lock().unwrap().deleted, 1);
        assert!(twilio.state.lock().unwrap().owned.is_empty());

        // What the operator labelled with an organization's id is that organization's to bring, once, and stays in the account.
        let brought = e164("+15105550160");
        twilio
            .state
            .lock()
            .unwrap()
            .owned
            .insert(brought.to_string(), ("PNa".into(), organization.to_string()));
        assert!(is_conflict(numbers.import(other, LIVE, fresh(), &brought, None, &by(NOW), &seal).await));
        let import = async |digest| {
            numbers
                .import(organization, LIVE, fresh(), &brought, Some(&claim(digest, 7)), &by(NOW), &seal)
                .await
        };
        assert!(matches!(import(7).await, Ok(Once::Fresh(number)) if number.imported));
        assert!(matches!(import(7).await, Ok(Once::Replay(_))));
        assert!(is_conflict(import(8).await));
        let id = list(&numbers, organization).await[0].id;
        numbers.run_due(months_after(NOW, 3).unwrap()).await.unwrap();
        numbers.release(organization, LIVE, id, &by(NOW)).await.unwrap();
        assert_eq!(twilio.state.lock().unwrap().deleted, 1);
        assert_eq!(books(&store, organization).await, (0, 0, 250));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_credential_buys_fiction_for_nothing() {
    on_both(|store| async move {
        let twilio = twilio::Twilio::start();
        let carriers = client(&twilio.url);
        let organization = found(&store).await;
        let numbers = Numbers { store: &*store, carriers: &carriers };
        let test = Environment::Test;
        let number = e164("+442079460000");
        let done = numbers.purchase(organization, test, fresh(), &number, None, &by(NOW), &seal).await;
        assert!(matches!(done, Ok(Once::Fresh(number)) if number.provider == "sandbox"));
        let real =
            numbers.purchase(organization, test, fresh(), &e164("+15105551234"), None, &by(NOW), &seal).await;
        assert!(is_conflict(real));
        for months in 1..4 {
            numbers.run_due(months_after(NOW, months).unwrap()).await.unwrap();
        }
        assert!(billing::accounts(&*store, organization, test).await.unwrap().is_empty());
        assert_eq!(books(&store, organization).await, (0, 0, 0));
        assert!(list(&numbers, organization).await.is_empty());
        assert!(twilio.state.lock().unwrap().sold.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_holds_every_number() {
    on_both(|store| async move {
        let (one, other) = (found(&store).await, found(&store).await);
        let carriers = Carriers::new(Box::new(Sandbox));
        let numbers = Numbers { store: &*store, carriers: &carriers };
        let hold = async |organization, n: usize, now| {
            let wanted = e164(&format!("+1202555{:04}", 100 + n));
            numbers.reserve(organization, LIVE, fresh(), &wanted, None, now, &|_| vec![]).await
        };
        for n in 0..20 {
            assert!(hold(one, n, NOW).await.is_ok(), "{n}");
        }
        assert!(is_conflict(hold(one, 20, NOW).await));
        assert!(hold(other, 20, NOW).await.is_ok());
        assert!(hold(one, 21, NOW.plus(HOUR)).await.is_ok(), "the others have ended");
    })
    .await;
}
