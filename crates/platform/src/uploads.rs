//! Files on their way into a knowledge source.

use flowyte_core::Timestamp;
use flowyte_core::id::{OrganizationId, UploadId};
use flowyte_core::time::DAY;
use flowyte_store::db::id;
use flowyte_store::{Mode, Store, StoreError, Tx};

/// How long a file is kept that no source takes.
pub const KEPT: i64 = DAY;
/// Files of an organization that are kept at once, and their bytes: the disk is everybody's.
const MOST_FILES: i64 = 200;
const MOST_BYTES: i64 = 1 << 30;

/// A file.
#[derive(Clone, Debug)]
pub struct Upload {
    /// What its owner calls it.
    pub filename: String,
    /// What it is, as its bytes say.
    pub content_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Takes a file for a source. One that is past its time, elsewhere or nowhere is not found.
pub(crate) async fn attach(
    tx: &mut Tx,
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

/// The uploads of a store.
pub struct Uploads<'s>(pub &'s dyn Store);

impl Uploads<'_> {
    /// Keeps a file.
    pub async fn keep(
        &self,
        organization: OrganizationId,
        new: UploadId,
        file: Upload,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin(Mode::Batch).await?;
        let waiting = tx
            .one(
                "SELECT COUNT(*) AS files, CAST(COALESCE(SUM(LENGTH(content)), 0) AS BIGINT) AS bytes FROM uploads WHERE organization_id = $1",
                vec![id(organization)],
            )
            .await?;
        if waiting.get::<i64>("files")? >= MOST_FILES
            || waiting.get::<i64>("bytes")? + file.content.len() as i64 > MOST_BYTES
        {
            return Err(StoreError::Conflict(
                "200 files or 1 GiB wait to be read already; attach them to sources, or wait until they are a day old.",
            ));
        }
        tx.exec(
            "INSERT INTO uploads (id, organization_id, filename, content_type, content, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
            vec![
                id(new),
                id(organization),
                file.filename.into(),
                file.content_type.into(),
                file.content.into(),
                now.into(),
            ],
        )
        .await?;
        tx.commit().await
    }

    /// A file that a source took.
    pub async fn read(&self, organization: OrganizationId, which: UploadId) -> Result<Upload, StoreError> {
        let mut tx = self.0.begin(Mode::Read).await?;
        let row = tx
            .one(
                "SELECT filename, content_type, content FROM uploads WHERE organization_id = $1 AND id = $2",
                vec![id(organization), id(which)],
            )
            .await?;
        Ok(Upload {
            filename: row.get("filename")?,
            content_type: row.get("content_type")?,
            content: row.get("content")?,
        })
    }

    /// Forgets files that no source took in time; answers how many.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.0.begin(Mode::Batch).await?;
        let gone = tx
            .exec("DELETE FROM uploads WHERE attached = 0 AND created_at <= $1", vec![now.plus(-KEPT).into()])
            .await?;
        tx.commit().await?;
        Ok(gone)
    }
}
