//! Putting a backup back without bringing revoked credentials back to life.

use crate::audit::{By, Deed};
use crate::db::{Mode, Sqlite, Store, Tx, id};
use crate::{Entity, Revision, StoreError, args};
use flowyte_core::id::{Id, OrganizationId, PublishableKeyId, SecretKeyId, SessionId};
use flowyte_core::{Digest, Timestamp};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::path::Path;

/// What had ended when a database was put aside.
#[derive(Default)]
pub struct Ended {
    /// Its position in the change log.
    pub revision: Revision,
    secret_keys: Vec<(OrganizationId, SecretKeyId)>,
    publishable_keys: Vec<(OrganizationId, PublishableKeyId)>,
    secrets: Vec<(Digest, Timestamp)>,
}

impl Sqlite {
    /// Writes a copy of the file at `from` to `into`, which may not be there yet. A server that runs is not disturbed.
    pub async fn backup(from: &Path, into: &Path) -> Result<(), StoreError> {
        let options = SqliteConnectOptions::new().filename(from).create_if_missing(false);
        let mut connection = options.connect().await?;
        let into =
            into.to_str().ok_or_else(|| StoreError::Unusable("the backup's path is not UTF-8".into()))?;
        sqlx::query("VACUUM INTO $1").bind(into).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

impl dyn Store + '_ {
    /// Everything that has ended here for good.
    pub async fn ended(&self) -> Result<Ended, StoreError> {
        let mut tx = self.begin(Mode::Read).await?;
        let mut ended = Ended {
            revision: tx.one("SELECT revision FROM head WHERE id = 1", vec![]).await?.get("revision")?,
            ..Ended::default()
        };
        for row in
            tx.all("SELECT organization_id, id FROM secret_keys WHERE revoked_at IS NOT NULL", vec![]).await?
        {
            ended.secret_keys.push((row.id("organization_id")?, row.id("id")?));
        }
        for row in tx
            .all("SELECT organization_id, id FROM publishable_keys WHERE revoked_at IS NOT NULL", vec![])
            .await?
        {
            ended.publishable_keys.push((row.id("organization_id")?, row.id("id")?));
        }
        let rows = tx
            .all("SELECT digest, expires_at FROM secrets WHERE expires_at < $1", args![Timestamp::NEVER])
            .await?;
        for row in rows {
            ended.secrets.push((Digest::from_bytes(row.bytes("digest")?), row.time("expires_at")?));
        }
        Ok(ended)
    }

    /// Ends here what had ended there, and every session; answers the ids of the keys that would have come back to life.
    pub async fn end_again(&self, ended: &Ended, by: &By) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin(Mode::Write).await?;
        // No revision is given out twice, whatever the backup had reached.
        tx.exec("UPDATE head SET revision = $1 WHERE revision < $1", args![ended.revision]).await?;
        let mut revived = Vec::new();
        for (organization, key) in &ended.secret_keys {
            let sql = "UPDATE secret_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2 AND revoked_at IS NULL";
            if tx.exec(sql, vec![id(*organization), id(*key), by.now.into()]).await? > 0 {
                revived.push(key.to_string());
                tx.tell_revoked(*organization, Entity::SecretKey, ("api_key.revoked", "api_key"), *key, by)
                    .await?;
            }
        }
        for (organization, key) in &ended.publishable_keys {
            let sql = "UPDATE publishable_keys SET revoked_at = $3 WHERE organization_id = $1 AND id = $2 AND revoked_at IS NULL";
            if tx.exec(sql, vec![id(*organization), id(*key), by.now.into()]).await? > 0 {
                revived.push(key.to_string());
                let named = ("publishable_key.revoked", "publishable_key");
                tx.tell_revoked(*organization, Entity::PublishableKey, named, *key, by).await?;
            }
        }
        for (digest, at) in &ended.secrets {
            tx.exec(
                "UPDATE secrets SET expires_at = $2 WHERE digest = $1 AND expires_at > $2",
                args![*digest, *at],
            )
            .await?;
        }
        let sessions =
            tx.all("SELECT id, organization_id FROM sessions WHERE ended_at IS NULL", vec![]).await?;
        for row in sessions {
            let session: SessionId = row.id("id")?;
            tx.exec("UPDATE sessions SET ended_at = $2 WHERE id = $1", vec![id(session), by.now.into()])
                .await?;
            tx.change(row.id("organization_id")?, Entity::Session, session, by.now).await?;
        }
        tx.commit().await?;
        Ok(revived)
    }
}

impl Tx {
    async fn tell_revoked<I: Id>(
        &mut self,
        organization: OrganizationId,
        entity: Entity,
        (action, kind): (&str, &str),
        key: I,
        by: &By,
    ) -> Result<(), StoreError> {
        let details = json!({"why": "a backup from before its revocation was restored"});
        self.audit(organization, by, Deed { action, kind, id: key.to_string(), name: "", details }).await?;
        self.change(organization, entity, key, by.now).await.map(drop)
    }
}
