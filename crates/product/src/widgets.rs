//! How an agent's widget looks and speaks.

use crate::agents::AgentIsThere;
use crate::id::AgentId;
use flowyte_core::id::OrganizationId;
use flowyte_store::audit::AuditAction;
use flowyte_store::db::id;
use flowyte_store::{AuditContext, Store, StoreError};
use serde_json::{Value, json};

/// The settings of an agent's widget, as three JSON objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Widget {
    /// Colours and sizes, as the contract has them.
    pub theme: Value,
    /// The texts that it shows.
    pub copy: Value,
    /// What it does by itself.
    pub behavior: Value,
}

/// The widgets of a store.
pub struct Widgets<'s>(pub &'s dyn Store);

impl Widgets<'_> {
    /// The widget of an agent; empty settings where nobody set any.
    pub async fn find(&self, organization: OrganizationId, agent: AgentId) -> Result<Widget, StoreError> {
        let mut tx = self.0.read().await?;
        tx.agent_is_there(organization, agent).await?;
        let row = tx
            .opt(
                "SELECT theme, copy, behavior FROM widgets WHERE organization_id = $1 AND agent_id = $2",
                vec![id(organization), id(agent)],
            )
            .await?;
        let Some(row) = row else {
            return Ok(Widget { theme: json!({}), copy: json!({}), behavior: json!({}) });
        };
        let object = |column: &str| -> Result<Value, StoreError> {
            serde_json::from_str(&row.get::<String>(column)?)
                .map_err(|error| StoreError::Inconsistent(format!("column {column}: {error}")))
        };
        Ok(Widget { theme: object("theme")?, copy: object("copy")?, behavior: object("behavior")? })
    }

    /// Sets the whole of it.
    pub async fn replace(
        &self,
        organization: OrganizationId,
        agent: AgentId,
        new: &Widget,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.product().await?;
        tx.agent_is_there(organization, agent).await?;
        tx.queue(
            "INSERT INTO widgets (agent_id, organization_id, theme, copy, behavior) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (agent_id) DO UPDATE SET theme = excluded.theme, copy = excluded.copy, behavior = excluded.behavior",
            vec![
                id(agent),
                id(organization),
                new.theme.to_string().into(),
                new.copy.to_string().into(),
                new.behavior.to_string().into(),
            ],
        )
        .await?;
        let deed = AuditAction {
            action: "widget.changed",
            kind: "agent",
            id: agent.to_string(),
            name: "",
            details: json!({}),
        };
        tx.audit(organization, by, deed).await?;
        tx.commit().await
    }
}
