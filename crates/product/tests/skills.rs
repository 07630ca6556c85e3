//! Skills, on both databases.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

mod common;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;

use common::{NOW, by, found, fresh, on_both};
use flowyte_product::agents::Agents;
use flowyte_product::skills::{Config, Parameters, Skill, Skills};
use flowyte_store::{Once, StoreError};
use serde_json::Map;

/// A change is made and checked before its transaction, from a skill that somebody else may have changed since.
#[tokio::test]
async fn a_change_of_a_skill_that_was_changed_meanwhile_is_refused() {
    on_both(|store| async move {
        let (organization, agent) = (found(&store).await, fresh());
        let seal = |_: &_| Vec::new();
        let made = Agents(&*store)
            .create(organization, agent, "Desk", Map::new(), None, &by(NOW), &seal)
            .await
            .unwrap();
        assert!(matches!(made, Once::Fresh(_)));
        let (skills, by) = (Skills(&*store), by(NOW));
        let new = Skill {
            id: fresh(),
            organization,
            agent,
            name: "Look up".into(),
            description: "Looks something up.".into(),
            config: Config::Knowledge,
            headers: None,
            parameters: Parameters::of(&Config::Knowledge),
            requires_confirmation: false,
            is_enabled: true,
            created_at: NOW,
            updated_at: NOW,
        };
        skills.create(&new, None, &by, &|_| Vec::new()).await.unwrap();
        let before = skills.find(organization, agent, new.id).await.unwrap();
        let renamed = Skill { name: "Find".into(), ..before.clone() };
        let off = Skill { is_enabled: false, ..before.clone() };
        skills.change(&before, &renamed, &by).await.unwrap();
        assert!(matches!(skills.change(&before, &off, &by).await, Err(StoreError::Conflict(_))));
        let now = skills.find(organization, agent, new.id).await.unwrap();
        assert_eq!((now.name.as_str(), now.is_enabled), ("Find", true));
        let off = Skill { is_enabled: false, ..now.clone() };
        assert!(!skills.change(&now, &off, &by).await.unwrap().is_enabled);
    })
    .await;
}
