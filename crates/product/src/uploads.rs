//! Files on their way into a knowledge source.

use crate::id::UploadId;
use flowyte_core::Timestamp;
use flowyte_core::id::OrganizationId;
use flowyte_core::time::{DAY, MINUTE};
use flowyte_store::db::id;
use flowyte_store::{BatchTx, ReadTx, Store, StoreError};

/// How long a file is kept that no source takes.
pub const KEPT: i64 = DAY;
/// Files of an organization that are kept at once, and their bytes: the disk is everybody's.
const MOST_FILES: i64 = 200;
const MOST_BYTES: i64 = 1 << 30;
/// The longest part of a file, which one transaction writes.
const PART: usize = 256 << 10;
/// How long parts may wait for the rest of their file.
const UNDER_WAY: i64 = 10 * MINUTE;

/// A file that waits to become a knowledge source.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What its owner calls it.
    pub filename: String,
    /// What it is, as its bytes say.
    pub content_type: String,
    /// Its bytes as they were sent.
    pub content: Vec<u8>,
}

/// Takes a file for a source. One that is past its time, elsewhere or nowhere is not found.
pub(crate) async fn attach(
    tx: &mut BatchTx,
    organization: OrganizationId,
    upload: UploadId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = tx
        .one(
            "SELECT attached FROM uploads WHERE organization_id = $1 AND id = $2 AND (attached = 1 OR created_at > $3)",
            vec![id(organization), id(upload), now.plus(-KEPT).into()],
        )
        .await?;
    // Of two sources that ask at once, the one that changes the row has it.
    let taken = row.flag("attached")?
        || tx
            .exec(
                "UPDATE uploads SET attached = 1 WHERE organization_id = $1 AND id = $2 AND attached = 0",
                vec![id(organization), id(upload)],
            )
            .await?
            == 0;
    match taken {
        true => Err(StoreError::Conflict("The file belongs to another source already; upload it again.")),
        false => Ok(()),
    }
}

/// Whether an organization may keep so many bytes more.
async fn has_room(tx: &mut ReadTx, organization: OrganizationId, size: i64) -> Result<(), StoreError> {
    let waiting = tx
        .one(
            "SELECT COUNT(*) AS files, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM uploads WHERE organization_id = $1",
            vec![id(organization)],
        )
        .await?;
    match waiting.get::<i64>("files")? >= MOST_FILES || waiting.get::<i64>("bytes")? + size > MOST_BYTES {
        true => Err(StoreError::Conflict(
            "200 files or 1 GiB wait to be read already; attach them to sources, or wait until they are a day old.",
        )),
        false => Ok(()),
    }
}

/// The uploads of a store.
pub struct Uploads<'s>(pub &'s dyn Store);

impl Uploads<'_> {
    /// Keeps a file until a knowledge source is made of it.
    pub async fn keep(
        &self,
        organization: OrganizationId,
        new: UploadId,
        file: Upload,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let size = file.content.len() as i64;
        has_room(&mut self.0.read().await?, organization, size).await?;
        for (position, part) in (0_i64..).zip(file.content.chunks(PART)) {
            let mut tx = self.0.batch().await?;
            tx.queue(
                "INSERT INTO upload_parts (organization_id, upload_id, position, content, created_at) VALUES ($1, $2, $3, $4, $5)",
                vec![id(organization), id(new), position.into(), part.to_vec().into(), now.into()],
            )
            .await?;
            tx.commit().await?;
        }
        let mut tx = self.0.batch().await?;
        has_room(&mut tx, organization, size).await?;
        tx.queue(
            "INSERT INTO uploads (id, organization_id, filename, content_type, content, size, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            vec![
                id(new),
                id(organization),
                file.filename.into(),
                file.content_type.into(),
                Vec::<u8>::new().into(),
                size.into(),
                now.into(),
            ],
        )
        .await?;
        tx.commit().await
    }

    /// A file that a source took.
    pub async fn read(&self, organization: OrganizationId, which: UploadId) -> Result<Upload, StoreError> {
        let mut tx = self.0.read().await?;
        let own = || vec![id(organization), id(which)];
        let row = tx
            .one(
                "SELECT filename, content_type, content, size FROM uploads WHERE organization_id = $1 AND id = $2",
                own(),
            )
            .await?;
        let mut content: Vec<u8> = row.get("content")?;
        let parts = tx
            .all(
                "SELECT content FROM upload_parts WHERE organization_id = $1 AND upload_id = $2 ORDER BY position",
                own(),
            )
            .await?;
        for part in &parts {
            content.extend_from_slice(&part.get::<Vec<u8>>("content")?);
        }
        if content.len() as i64 != row.get::<i64>("size")? {
            return Err(StoreError::Inconsistent(format!("the upload {which} is not complete")));
        }
        Ok(Upload { filename: row.get("filename")?, content_type: row.get("content_type")?, content })
    }

    /// Forgets some files that no source took in time; answers how many.
    pub async fn sweep(&self, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        let mut tx = self.0.batch().await?;
        let gone = tx
            .exec(
                "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE attached = 0 AND created_at <= $1 LIMIT $2)",
                vec![now.plus(-KEPT).into(), most.into()],
            )
            .await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// Forgets some parts of files that are gone, or that never became complete; answers how many.
    pub async fn sweep_parts(&self, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        let mut tx = self.0.batch().await?;
        let gone = tx
            .exec(
                "DELETE FROM upload_parts WHERE (organization_id, upload_id, position) IN \
                 (SELECT p.organization_id, p.upload_id, p.position FROM upload_parts p LEFT JOIN uploads u ON u.id = p.upload_id \
                 WHERE u.id IS NULL AND p.created_at <= $1 LIMIT $2)",
                vec![now.plus(-UNDER_WAY).into(), most.into()],
            )
            .await?;
        tx.commit().await?;
        Ok(gone)
    }
}
