//! Reads a source in the background: what it says is cut into passages, which are written beside those that are served and
//! take their place in one transaction. A process that ends half-way leaves a lease behind and nothing that is served.

use crate::id::PassageId;
use crate::knowledge::analysis::language;
use crate::knowledge::cut::{Extracted, Piece, cut, pairs};
use crate::knowledge::extract::{Format, NoFormat};
use crate::knowledge::{Failure, Job, Kind, Knowledge, MOST_PASSAGES};
use crate::outbound::{Limits, Outbound};
use crate::uploads::Uploads;
use async_trait::async_trait;
use bytes::Bytes;
use flowyte_core::Timestamp;
use flowyte_core::id::Id;
use flowyte_core::time::{MINUTE, SECOND};
use flowyte_store::labour::labour;
use flowyte_store::{Store, StoreError};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long a source may be worked on between two signs of life.
pub const LEASE: i64 = 5 * MINUTE;
/// Passages that are written at once: long enough to be quick, short enough to let other writers in between.
const BATCH: usize = 100;
/// What a page may take.
const PAGE: Limits = Limits { bytes: 10 << 20, time: Duration::from_secs(20) };
/// Tries before a source is given up.
const MOST_ATTEMPTS: i64 = 3;
/// Times that the server may end in the middle of a source before the source is taken for the cause. More than the tries above, as
/// a server ends for many other reasons.
const MOST_CUT_SHORT: i64 = 10;
/// Characters by which the language of a whole text is told.
const SAMPLE: usize = 4_000;

/// Why a source was not read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unread {
    /// For the people who added it.
    pub message: String,
    /// Whether it may go better another time.
    pub again: bool,
}

impl Unread {
    /// It failed, and trying again would change nothing.
    pub fn never(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: false }
    }
}

/// Reads files in foreign formats, in a way that survives a hostile one.
#[async_trait]
pub trait Extractor: Send + Sync {
    /// What a file says, or why nobody can tell, in words for the people who uploaded it.
    async fn extract(&self, format: Format, content: Bytes) -> Result<Extracted, Unread>;
}

/// What a reading needs besides the database.
pub struct Tools<'t> {
    /// Turns files and pages into text.
    pub extractor: &'t dyn Extractor,
    /// Fetches pages from public addresses only.
    pub outbound: &'t Outbound,
}

/// Reads one source. `now`: the clock.
pub async fn run(
    store: &dyn Store,
    tools: &Tools<'_>,
    job: &Job,
    now: impl Fn() -> Timestamp,
) -> Result<(), StoreError> {
    let knowledge = Knowledge(store);
    let read = match job.attempts > MOST_CUT_SHORT {
        true => Err(Unread::never(
            "It could not be read to its end, in several attempts; it may be too large or broken.",
        )),
        false => read(store, tools, job).await?,
    };
    let outcome = match read {
        Err(unread) => Err(unread),
        Ok(extracted) => index(&knowledge, job, extracted, &now).await?,
    };
    if let Err(unread) = outcome {
        let again = unread.again && job.attempts < MOST_ATTEMPTS;
        let retry_at = again.then(|| now().plus(30 * SECOND * job.attempts));
        tracing::info!(source = %job.source.id, again, "a knowledge source was not read");
        knowledge.fail(job, &Failure { message: &unread.message, retry_at }, now()).await?;
    }
    Ok(())
}

async fn read(
    store: &dyn Store,
    tools: &Tools<'_>,
    job: &Job,
) -> Result<Result<Extracted, Unread>, StoreError> {
    let source = &job.source;
    let text = source.text.clone().unwrap_or_default();
    Ok(match (source.kind, source.upload) {
        (Kind::Text, _) => Ok(Extracted::Text(text)),
        (Kind::Faq, _) => pairs(&text)
            .map(Extracted::Pairs)
            .ok_or_else(|| Unread::never("There are no questions with answers in it.")),
        (Kind::File, Some(upload)) => {
            let file = Uploads(store).read(source.organization, upload).await?;
            match Format::of_media_type(&file.content_type) {
                Some(format) => tools.extractor.extract(format, file.content.into()).await,
                None => Err(Unread::never(format!("The file {}.", NoFormat::NotTaken))),
            }
        }
        (Kind::File, None) => Err(Unread::never("The file is no longer stored; upload it again.")),
        (Kind::Url, _) => fetch(tools, source.url.as_deref().unwrap_or_default()).await,
    })
}

async fn fetch(tools: &Tools<'_>, url: &str) -> Result<Extracted, Unread> {
    let page = tools
        .outbound
        .get(url, PAGE)
        .await
        .map_err(|refusal| Unread { message: refusal.to_string(), again: refusal.may_pass() })?;
    let name = page.url.path().rsplit('/').next().unwrap_or_default();
    let format = Format::of(&page.content_type, name, &page.body)
        .map_err(|why| Unread::never(format!("What the host sends {why}.")))?;
    tools.extractor.extract(format, page.body).await
}

/// What was read, ready to be written.
struct Prepared {
    digest: [u8; 32],
    /// With the language of each.
    pieces: Vec<(Piece, String)>,
}

/// Cuts what was read. `known`: the digest of what is served, which is not cut again.
fn prepare(extracted: &Extracted, known: Option<&[u8]>, language_of_agent: &str) -> Prepared {
    let digest: [u8; 32] = Sha256::digest(format!("{extracted:?}")).into();
    if known == Some(&digest[..]) {
        return Prepared { digest, pieces: Vec::new() };
    }
    let pieces = cut(extracted, MOST_PASSAGES as usize);
    let whole = language(&sample(&pieces), language_of_agent);
    let with_language = |it: Piece| {
        let own = language(&it.text, &whole);
        (it, own)
    };
    Prepared { digest, pieces: pieces.into_iter().map(with_language).collect() }
}

/// Puts what was read in the place of what was there.
async fn index(
    knowledge: &Knowledge<'_>,
    job: &Job,
    extracted: Extracted,
    now: &impl Fn() -> Timestamp,
) -> Result<Result<(), Unread>, StoreError> {
    let source = &job.source;
    let known = source.digest.clone().filter(|_| source.version > 0);
    let (before, language) = (known.clone(), job.language.clone());
    // A long text takes a core for a while; requests go on beside it.
    let prepared = labour(move || prepare(&extracted, before.as_deref(), &language)).await;
    let Prepared { digest, pieces } =
        prepared.map_err(|error| StoreError::Inconsistent(format!("a source can't be cut: {error}")))?;
    if known.as_deref() == Some(&digest[..]) {
        knowledge.unchanged(job, now()).await?;
        return Ok(Ok(()));
    }
    let total = pieces.len() as i64;
    if total == 0 {
        return Ok(Err(Unread::never("There is no text in it.")));
    }
    if total > MOST_PASSAGES {
        return Ok(Err(Unread::never(format!(
            "It would make more than {MOST_PASSAGES} passages, which is the most."
        ))));
    }
    for (batch, part) in pieces.chunks(BATCH).enumerate() {
        let rows: Vec<(PassageId, i64, &Piece, &str)> = part
            .iter()
            .enumerate()
            .map(|(n, (piece, language))| {
                let position = (batch * BATCH + n) as i64;
                (passage_id(job, position, now()), position, piece, language.as_str())
            })
            .collect();
        if !knowledge.write(job, &rows, total, now().plus(LEASE), now()).await? {
            return Ok(Ok(())); // Removed, or taken by another.
        }
    }
    knowledge.serve(job, total, digest, now()).await?;
    Ok(Ok(()))
}

fn sample(pieces: &[Piece]) -> String {
    let texts = pieces.iter().flat_map(|it| [it.question.as_deref().unwrap_or_default(), &it.text]);
    texts.flat_map(|it| it.chars().chain(['\n'])).take(SAMPLE).collect()
}

/// No randomness is needed: source, lease and position are one passage.
fn passage_id(job: &Job, position: i64, now: Timestamp) -> PassageId {
    let digest = Sha256::new()
        .chain_update(job.source.id.as_bytes())
        .chain_update(job.lease.to_be_bytes())
        .chain_update(position.to_be_bytes())
        .finalize();
    let mut unique = [0; 10];
    unique.copy_from_slice(&digest[..10]);
    PassageId::generate(now, unique)
}
