//! Keeps the heads of audit chains outside of the database, signed: a chain alone can't show that its end was cut off, or that it was
//! recomputed as a whole. Beside the head stands how far a chain has been verified, so that the next verification goes on from there.
//!
//! What this process appends is noted at the commit ([`Grown`](flowyte_store::Grown)), so a round costs what has changed. What was
//! appended when nobody noted, before a crash or by a command beside the server, is found by going over all chains once after the start.
//! A head never moves to a chain that does not have the head before it.

mod file;

use file::{All, File};
pub use file::{Kept, Signer};
use flowyte_core::Timestamp;
use flowyte_core::id::OrganizationId;
use flowyte_store::audit::ChainReport;
use flowyte_store::labour::labour;
use flowyte_store::{Growth, Link, Store, StoreError};
use flowyte_verifier::pepper::Peppers;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Chains that are looked at, and heads that are written, at once.
const CHUNK: u32 = 500;
/// How long the database is left to others after each of them.
const PAUSE: Duration = Duration::from_millis(20);

/// Chains that a start names as not being what they were.
const MOST_NAMED: usize = 20;
const NOT_WHAT_IT_WAS: &str = "the audit chain is not what it was: somebody changed the database, or put an older one in its place; \
                               flowyte audit verify says more, and flowyte audit accept is for a loss that is known";
const REFUSED: &str = "put the file back that belongs here, or put it aside with flowyte audit accept";

/// Why heads could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The database did not say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file can't be written.
    #[error("{0}")]
    File(#[from] io::Error),
}

/// The heads of all chains.
pub struct Heads {
    path: PathBuf,
    signer: Signer,
    /// Taken before `state` where both are.
    file: Mutex<File>,
    state: Mutex<State>,
}

struct State {
    all: All,
    /// Of these the file does not know yet.
    changed: BTreeSet<OrganizationId>,
    /// The file's digest, where there is one.
    digest: Option<String>,
    /// Heads that were written and the log has not been told of.
    untold: usize,
    /// Something followed its last seal.
    unfinished: bool,
    /// Why nothing that it says counts.
    refused: Option<String>,
}

impl State {
    /// Some of what the file does not know yet.
    fn take_changed(&mut self) -> Vec<(OrganizationId, Kept)> {
        let mut some = Vec::new();
        while some.len() < CHUNK as usize
            && let Some(organization) = self.changed.pop_first()
        {
            some.extend(self.all.get(&organization).map(|it| (organization, it.clone())));
        }
        some
    }
}

/// What was found when a chain was verified and held against the head that is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Of the chain, with what its kept head says.
    pub report: ChainReport,
    /// What its kept head says.
    pub head: HeadState,
}

impl Verification {
    /// Nothing speaks against the chain.
    pub fn is_intact(&self) -> bool {
        self.report.broken_at.is_none() && self.head != HeadState::Unsigned
    }
}

/// How a chain and its kept head agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadState {
    /// No head of this chain is kept yet, so nothing can be said of its end.
    None,
    /// The chain has the event that the kept head names, with the same hash.
    Holds,
    /// The chain does not have it.
    Differs,
    /// The file is not this installation's: it was changed or damaged, or belongs to another.
    Unsigned,
}

impl HeadState {
    /// As the API names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Holds => "holds",
            Self::Differs => "differs",
            Self::Unsigned => "unsigned",
        }
    }
}

/// A chain that does not have its kept head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The organization whose chain it is.
    pub organization: OrganizationId,
    /// The first event that is missing or another.
    pub from: i64,
    /// The head that was kept.
    pub head: Link,
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

impl Heads {
    /// What the file at `path` keeps. Where that does not count, see [`Heads::refused`], nothing is kept.
    pub fn open(path: &Path, peppers: &Peppers) -> Arc<Self> {
        let signer = Signer::new(peppers);
        let (file, contents) = File::open(path, &signer);
        let mut state = State {
            all: All::new(),
            changed: BTreeSet::new(),
            digest: None,
            untold: 0,
            unfinished: false,
            refused: None,
        };
        match contents {
            Ok(Some(contents)) => {
                state.all = contents.all;
                state.digest = Some(contents.digest);
                state.unfinished = contents.unfinished;
            }
            Ok(None) => {}
            Err(why) => state.refused = Some(why),
        }
        Arc::new(Self { path: path.to_owned(), signer, file: Mutex::new(file), state: Mutex::new(state) })
    }

    /// The path of the file that the heads are kept in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What signs the file; also used for heads that are written elsewhere.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Why nothing that the file says counts.
    pub fn refused(&self) -> Option<String> {
        self.lock().refused.clone()
    }

    /// What names the present file in full; `None` where there is none that counts.
    pub fn digest(&self) -> Option<String> {
        self.lock().digest.clone()
    }

    /// The organizations of which a head is kept.
    pub fn organizations(&self) -> Vec<OrganizationId> {
        self.lock().all.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, organization: OrganizationId) -> Option<Kept> {
        self.lock().all.get(&organization).cloned()
    }

    /// The first event by which a chain differs from its kept head, if it does; `None` besides where no head is kept.
    pub async fn differs(
        &self,
        store: &dyn Store,
        organization: OrganizationId,
    ) -> Result<Option<Behind>, StoreError> {
        let Some(kept) = self.kept(organization) else { return Ok(None) };
        let differs = store.audit_differs(organization, kept.head).await?;
        let from = differs.map(|at| kept.broken.map_or(at, |known| known.min(at)));
        Ok(from.map(|from| Behind { organization, from, head: kept.head }))
    }

    /// The chains that do not have their kept heads, in the order of their organizations.
    pub async fn behind(&self, store: &dyn Store) -> Result<Vec<Behind>, StoreError> {
        let (mut all, mut behind) = (self.organizations(), Vec::new());
        all.sort_unstable();
        for organization in all {
            behind.extend(self.differs(store, organization).await?);
        }
        Ok(behind)
    }

    /// Verifies a chain and holds it against its kept head. `full`: from its beginning, and not from where the last verification came to.
    pub async fn verify(
        &self,
        store: &dyn Store,
        organization: OrganizationId,
        full: bool,
        now: Timestamp,
    ) -> Result<Verification, StoreError> {
        if self.refused().is_some() {
            let report = store.audit_verify(organization).await?;
            return Ok(Verification { report, head: HeadState::Unsigned });
        }
        if let Some(growth) = store.grown().take(organization) {
            self.follow(store, organization, growth, now).await?;
        }
        let kept = self.kept(organization);
        let verified = kept.as_ref().and_then(|it| it.verified.as_deref()).filter(|_| !full);
        let mut report = match verified {
            Some(link) => store.audit_verify_after(organization, *link).await?,
            None => store.audit_verify(organization).await?,
        };
        let behind = self.differs(store, organization).await?;
        // The heads are written down apart from the database, so they may say only what it can't lose any more.
        store.settled().await?;
        match behind {
            Some(behind) => self.note_broken(organization, behind.from),
            None if report.broken_at.is_none() => self.note_verified(organization, report.head, now),
            None => {}
        }
        self.doubt(organization, report.broken_at);
        report.broken_at = earliest(report.broken_at, behind.map(|it| it.from));
        let head = match (kept, behind) {
            (_, Some(_)) => HeadState::Differs,
            (Some(_), None) => HeadState::Holds,
            (None, None) => HeadState::None,
        };
        Ok(Verification { report, head })
    }

    /// What this process appended to a chain, which must have ended in its kept head before. It is noted again where that can't be known.
    async fn follow(
        &self,
        store: &dyn Store,
        organization: OrganizationId,
        growth: Growth,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let followed = match self.kept(organization) {
            Some(kept) if kept.head != growth.before => self.differs(store, organization).await,
            _ => Ok(None),
        };
        match followed {
            // Whatever else is missing, what stood behind the end that was appended to is.
            Ok(Some(behind)) => {
                self.note_broken(organization, behind.from.min(growth.before.sequence + 1));
            }
            Ok(None) => self.note_head(organization, growth.last, now),
            Err(error) => {
                store.grown().note([(organization, growth)]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Changes what is kept of a chain, which the file learns of where that is something new. `new`: where nothing is kept yet.
    fn change(&self, organization: OrganizationId, new: Option<Kept>, change: impl FnOnce(&mut Kept)) {
        let mut state = self.lock();
        let before = state.all.get(&organization).cloned();
        let Some(mut kept) = before.clone().or(new) else { return };
        change(&mut kept);
        if before.as_ref() != Some(&kept) {
            state.all.insert(organization, kept);
            state.changed.insert(organization);
        }
    }

    /// The chain has its kept head and ends here.
    fn note_head(&self, organization: OrganizationId, end: Link, now: Timestamp) {
        let new = Kept { head: end, at: now, verified: None, broken: None };
        self.change(organization, Some(new), |kept| {
            if kept.broken.take().is_some() {
                tracing::warn!(%organization, "the audit chain is again what it was");
            }
            if end.sequence > kept.head.sequence {
                (kept.head, kept.at) = (end, now);
            }
        });
    }

    fn note_verified(&self, organization: OrganizationId, head: Option<Link>, now: Timestamp) {
        let Some(head) = head else { return };
        self.note_head(organization, head, now);
        self.change(organization, None, |kept| kept.verified = Some(Box::new(head)));
    }

    fn note_broken(&self, organization: OrganizationId, at: i64) {
        self.change(organization, None, |kept| {
            let broken = earliest(kept.broken, Some(at));
            if kept.broken != broken {
                kept.broken = broken;
                tracing::error!(%organization, event = at, head = kept.head.sequence, "{NOT_WHAT_IT_WAS}");
            }
        });
    }

    /// What is broken at or before the place that a verification came to is not to be passed over by the next one.
    fn doubt(&self, organization: OrganizationId, broken_at: Option<i64>) {
        let Some(at) = broken_at else { return };
        self.change(organization, None, |kept| {
            kept.verified = kept.verified.take().filter(|it| it.sequence < at);
        });
    }

    /// Says in the log what the file was found to be. `empty`: so is the database.
    pub fn announce(&self, empty: bool) {
        let state = self.lock();
        let file = self.path.display();
        if let Some(why) = &state.refused {
            tracing::error!(%file, why, "the kept heads of audit chains are refused, and none are kept: {REFUSED}");
        } else if state.digest.is_none() && !empty {
            tracing::warn!(
                %file,
                "no heads of audit chains were kept: they are taken from the database as it is, and can't show what was changed before"
            );
        }
        if state.unfinished {
            tracing::warn!(%file, "the last heads of audit chains were not written in full; they are taken from the database");
        }
        for (organization, kept) in state.all.iter().filter(|it| it.1.broken.is_some()).take(MOST_NAMED) {
            let (event, head) = (kept.broken, kept.head.sequence);
            tracing::error!(%organization, event, head, "{NOT_WHAT_IT_WAS}");
        }
    }

    /// Goes over the chains of some organizations after `after`: finds those that have grown when nobody noted it, and those that are no
    /// longer what they were. Answers where to go on; `None` at the end.
    pub async fn catch_up(
        self: &Arc<Self>,
        store: &dyn Store,
        after: OrganizationId,
        now: Timestamp,
    ) -> Result<Option<OrganizationId>, KeepError> {
        let ends = store.audit_ends(after, CHUNK).await?;
        store.settled().await?;
        for (organization, end) in &ends {
            let (kept, end) = (self.kept(*organization), *end);
            if kept.as_ref().is_some_and(|it| it.broken.is_none() && Some(it.head) == end) {
                continue;
            }
            match (self.differs(store, *organization).await?, end) {
                (Some(behind), _) => self.note_broken(*organization, behind.from),
                (None, Some(end)) => self.note_head(*organization, end, now),
                (None, None) => {}
            }
        }
        self.write_all(now).await?;
        if ends.len() < CHUNK as usize {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
        Ok(ends.last().map(|it| it.0))
    }

    /// Follows what was appended since the last time, writes down what has changed, and says so in the log, which is kept elsewhere.
    pub async fn keep(self: &Arc<Self>, store: &dyn Store, now: Timestamp) -> Result<(), KeepError> {
        let mut grown = store.grown().take_all().into_iter();
        if self.refused().is_some() {
            return Ok(());
        }
        while let Some((organization, growth)) = grown.next() {
            if let Err(error) = self.follow(store, organization, growth, now).await {
                store.grown().note(grown);
                return Err(error.into());
            }
        }
        self.write_all(now).await?;
        let (heads, digest) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.untold), state.digest.clone())
        };
        if heads > 0 {
            tracing::info!(heads, digest, "the heads of audit chains were kept");
        }
        Ok(())
    }

    async fn write_all(self: &Arc<Self>, now: Timestamp) -> Result<(), KeepError> {
        loop {
            let this = Arc::clone(self);
            if labour(move || this.write(now)).await.map_err(io::Error::other)?? == 0 {
                return Ok(());
            }
        }
    }

    /// Writes down some of what has changed; how many heads that were.
    pub fn write(&self, now: Timestamp) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (some, due) = {
            let mut state = self.lock();
            let due = state.refused.is_none() && !state.all.is_empty() && file.is_due(state.all.len());
            (state.take_changed(), due)
        };
        if some.is_empty() && !due {
            return Ok(0);
        }
        let mut written = Err(io::ErrorKind::NotFound.into());
        if !due {
            written = file.append(&some, &self.signer, now).map(|digest| (some.len(), digest));
            if let Err(error) = &written {
                tracing::warn!(%error, "heads of audit chains can't be added to the file, which is written anew");
            }
        }
        if written.is_err() {
            let all: Vec<_> = self.lock().all.clone().into_iter().collect();
            written = file.rewrite(&all, &self.signer, now).map(|digest| (all.len(), digest));
        }
        let mut state = self.lock();
        match written {
            Ok((heads, digest)) => {
                state.digest = Some(digest);
                state.untold += heads;
                Ok(heads)
            }
            Err(error) => {
                state.changed.extend(some.into_iter().map(|it| it.0));
                Err(error)
            }
        }
    }
}
