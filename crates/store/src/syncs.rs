//! Who waits for a sync of a disk: one is for all who came before it began.

use tokio::sync::oneshot;

/// A line of commits, and whether somebody syncs for it.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Vec<oneshot::Sender<()>>,
    syncing: bool,
}

/// Commits that one sync is for. Dropped, it tells them that there was none.
pub(crate) struct Group(Vec<oneshot::Sender<()>>);

impl Waiters {
    /// Stands in line; whether whoever does so must see to it that somebody syncs, until [`Waiters::next`] has nobody.
    pub(crate) fn stand(&mut self) -> (oneshot::Receiver<()>, bool) {
        let (done, wait) = oneshot::channel();
        self.waiting.push(done);
        (wait, !std::mem::replace(&mut self.syncing, true))
    }

    /// Those whom a sync is for that begins now; nobody where syncing ends.
    pub(crate) fn next(&mut self) -> Option<Group> {
        self.syncing = !self.waiting.is_empty();
        self.syncing.then(|| Group(std::mem::take(&mut self.waiting)))
    }

    /// Sends away everybody who waits.
    pub(crate) fn give_up(&mut self) {
        self.waiting.clear();
    }
}

impl Group {
    /// Tells the commits that they are durable.
    pub(crate) fn done(self) {
        for commit in self.0 {
            let _ = commit.send(()); // Whoever gave up needs no answer.
        }
    }
}
