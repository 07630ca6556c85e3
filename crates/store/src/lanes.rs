//! Whose turn at the database is next. What narrows rights goes first; then everybody gets a fair share: one turn for each
//! lane in a round, and no more than half of all turns at a time, so that a flood never has everything in use when somebody else comes.
//! What the credentials open has no more turns than half of the processor's cores either: on a machine that is busy with one
//! organization's chats, another's keys still find a core.

use crate::labour::cores;
use flowyte_core::id::OrganizationId;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Transactions of one lane that may wait to write. Whoever comes on top of these is told so at once, and nobody else notices.
pub(crate) const WRITES: usize = 256;
/// The same for those that read, which is done sooner.
pub(crate) const READS: usize = 4_096;
/// How long one waits for a turn at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns that narrow rights in a row at most, while others wait, and one for each lane of them: a flood of one organization's
/// delays the others by one turn, too.
const MOST_AHEAD: usize = 8;

/// What a transaction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Takes rights away: revocations, removals, sign-outs, narrower keys. Goes first.
    Narrowing,
    /// Other work on credentials, people and organizations.
    Credentials,
    /// All other work: what the credentials give access to, and what the server does for itself.
    Product,
    /// Whatever looks through much and takes long, beside the other work of the same organization and not before it.
    Reports,
}

/// Those who wait behind one another: one class of work of one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The kind of work; an organization has one lane for each kind.
    pub class: Class,
    /// The organization; `None` for the server's own work and for callers that belong to no organization yet.
    pub organization: Option<OrganizationId>,
}

impl Lane {
    /// The lane of the server's own work, in which any number may wait.
    pub const HOUSE: Self = Self { class: Class::Product, organization: None };
    /// What the server asks of credentials for itself. The product may hang, and this does not.
    pub const PROBE: Self = Self { class: Class::Credentials, organization: None };

    /// Product work of an organization.
    pub const fn product(organization: OrganizationId) -> Self {
        Self { class: Class::Product, organization: Some(organization) }
    }
}

/// How many turns a lane may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    /// Of work on credentials, and of the server's own.
    most: usize,
    /// Of an organization's product work, and of its reports.
    product: usize,
}

impl Shares {
    fn of(turns: usize, cores: usize) -> Self {
        let most = turns.div_ceil(2);
        Self { most, product: most.min((cores / 2).max(1)) }
    }

    fn of_lane(self, lane: &Lane) -> usize {
        match (lane.class, lane.organization) {
            (Class::Product | Class::Reports, Some(_)) => self.product,
            _ => self.most,
        }
    }
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// So many of the same lane wait already that no more may.
    Full,
    /// No turn came in the time that one waits at most.
    TooLong,
}

/// Hands out turns to write or to read, so many at once.
pub struct Queue {
    /// Those of one lane that may wait.
    most: usize,
    /// How many turns a lane may have at a time.
    shares: Shares,
    state: Mutex<State>,
}

struct State {
    /// Turns that nobody has. Above zero only while nobody waits but lanes that have their share.
    free: usize,
    /// How many turns each lane has now; lanes that have none are not in it.
    taken: HashMap<Lane, usize>,
    ahead: Ring,
    others: Ring,
    /// Turns that [`State::ahead`] got in a row while others waited.
    run: usize,
}

/// The lanes that wait, in the order in which they are served, and those who wait in each.
#[derive(Default)]
struct Ring {
    order: VecDeque<Lane>,
    waiting: HashMap<Lane, VecDeque<oneshot::Sender<Slot>>>,
}

impl Ring {
    /// The next one of the first lane that may have a turn now.
    fn next(&mut self, may: impl Fn(&Lane) -> bool) -> Option<(Lane, oneshot::Sender<Slot>)> {
        let at = self.order.iter().position(may)?;
        let lane = self.order.remove(at)?;
        let line = self.waiting.get_mut(&lane)?;
        let next = line.pop_front();
        match line.is_empty() {
            true => drop(self.waiting.remove(&lane)),
            false => self.order.push_back(lane),
        }
        next.map(|next| (lane, next))
    }

    /// Lets all others that wait be before a lane, where it waits at all.
    fn put_last(&mut self, lane: Lane) {
        if let Some(at) = self.order.iter().position(|it| *it == lane) {
            self.order.remove(at);
            self.order.push_back(lane);
        }
    }
}

/// Whether a lane has less than its share.
fn may(taken: &HashMap<Lane, usize>, lane: &Lane, shares: Shares) -> bool {
    taken.get(lane).is_none_or(|taken| *taken < shares.of_lane(lane))
}

impl State {
    fn may(&self, lane: &Lane, shares: Shares) -> bool {
        may(&self.taken, lane, shares)
    }

    fn next(&mut self, shares: Shares) -> Option<(Lane, oneshot::Sender<Slot>)> {
        let Self { ahead, others, taken, run, .. } = self;
        let may = |lane: &Lane| may(taken, lane, shares);
        if !others.order.iter().any(may) {
            *run = 0;
            return ahead.next(may);
        }
        if *run < MOST_AHEAD.min(ahead.order.len()) && ahead.order.iter().any(may) {
            *run += 1;
            return ahead.next(may);
        }
        *run = 0;
        others.next(may)
    }

    /// Gives free turns to those who may have them.
    fn give(&mut self, queue: &Arc<Queue>) {
        while self.free > 0 {
            let Some((lane, next)) = self.next(queue.shares) else { return };
            match next.send(Slot(Some((queue.clone(), lane)))) {
                Ok(()) => self.take(lane),
                // Gone; what it would have got is not a turn to give back.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }

    fn take(&mut self, lane: Lane) {
        self.free -= 1;
        *self.taken.entry(lane).or_default() += 1;
    }

    fn give_back(&mut self, lane: Lane) {
        self.free += 1;
        // Whoever came while it had its turn is before it.
        self.ahead.put_last(lane);
        self.others.put_last(lane);
        if let Entry::Occupied(mut taken) = self.taken.entry(lane) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// Leave to write or to read. Given to the next one when it is dropped.
pub struct Slot(Option<(Arc<Queue>, Lane)>);

impl Queue {
    /// A queue that gives `turns` at once, and lets `most` of one lane wait.
    pub fn new(turns: usize, most: usize) -> Arc<Self> {
        let (taken, ahead, others) = Default::default();
        let state = Mutex::new(State { free: turns, taken, ahead, others, run: 0 });
        Arc::new(Self { most, shares: Shares::of(turns, cores()), state })
    }

    /// Waits for a turn. Whoever stops waiting leaves the queue.
    pub async fn enter(self: &Arc<Self>, lane: Lane) -> Result<Slot, NoSlot> {
        let turn = match self.stand(lane)? {
            Ok(turn) => return Ok(turn),
            Err(turn) => turn,
        };
        match timeout(PATIENCE, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            // The sender lives as long as it stands in line.
            Ok(Err(_)) | Err(_) => Err(NoSlot::TooLong),
        }
    }

    /// How many wait for a turn now, in all lanes.
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        [&state.ahead, &state.others]
            .into_iter()
            .flat_map(|ring| ring.waiting.values())
            .map(VecDeque::len)
            .sum()
    }

    /// A turn now, or where it will come from.
    #[allow(clippy::type_complexity)]
    fn stand(self: &Arc<Self>, lane: Lane) -> Result<Result<Slot, oneshot::Receiver<Slot>>, NoSlot> {
        let mut state = self.lock();
        if state.free > 0 && state.may(&lane, self.shares) {
            state.take(lane);
            return Ok(Ok(Slot(Some((self.clone(), lane)))));
        }
        let ring = if lane.class == Class::Narrowing { &mut state.ahead } else { &mut state.others };
        let line = ring.waiting.entry(lane).or_default();
        if line.is_empty() {
            ring.order.push_back(lane);
        } else if line.len() >= self.most {
            line.retain(|it| !it.is_closed());
            // The line of the server's own work has no bound of its own: it is as long as what the server does at once.
            if line.len() >= self.most && lane != Lane::HOUSE {
                return Err(NoSlot::Full);
            }
        }
        let (give, take) = oneshot::channel();
        line.push_back(give);
        Ok(Err(take))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((queue, lane)) = self.0.take() else { return };
        let mut state = queue.lock();
        state.give_back(lane);
        state.give(&queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::id::Id;

    fn lane(class: Class, organization: u8) -> Lane {
        Lane { class, organization: Some(OrganizationId::from_bytes([organization; 16])) }
    }

    /// Lets everybody who stands in `lanes` in this order have a turn; answers the order of the turns.
    async fn served(queue: &Arc<Queue>, lanes: &[Lane]) -> Vec<usize> {
        let held = queue.enter(Lane::HOUSE).await.unwrap();
        let mut waiting: Vec<_> = lanes.iter().map(|lane| queue.stand(*lane).unwrap().err()).collect();
        drop(held);
        let mut order = Vec::new();
        for _ in lanes {
            let mut turn = None;
            for (index, slot) in waiting.iter_mut().enumerate() {
                if let Some(receiver) = slot
                    && let Ok(got) = receiver.try_recv()
                {
                    (turn, *slot) = (Some(got), None);
                    order.push(index);
                    break;
                }
            }
            drop(turn.expect("one of those who wait has the turn"));
        }
        order
    }

    #[tokio::test]
    async fn a_flood_delays_another_organization_by_one_turn() {
        let queue = Queue::new(1, WRITES);
        let (flood, other) = (lane(Class::Product, 1), lane(Class::Credentials, 2));
        let mut lanes = vec![flood; 100];
        lanes.extend([other, other]);
        let order = served(&queue, &lanes).await;
        let place = |who: usize| order.iter().position(|it| *it == who).unwrap();
        assert!(place(100) <= 1 && place(101) <= 3, "{order:?}");
        // And those of one lane keep their order.
        assert!(order.iter().filter(|it| **it < 100).is_sorted());
        assert_eq!(queue.waiting(), 0);
        drop(queue.enter(other).await.unwrap());
    }

    #[tokio::test]
    async fn who_comes_during_a_turn_of_a_flood_has_the_next() {
        let queue = Queue::new(1, WRITES);
        let (flood, other) = (lane(Class::Product, 1), lane(Class::Credentials, 2));
        let running = queue.stand(flood).unwrap().ok().unwrap();
        let mut more = queue.stand(flood).unwrap().err().unwrap();
        let mut theirs = queue.stand(other).unwrap().err().unwrap();
        drop(running);
        assert!(more.try_recv().is_err());
        drop(theirs.try_recv().expect("the other came while the flood had its turn"));
        assert!(more.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_lane_has_half_of_the_turns_at_most() {
        let queue = Queue::new(4, WRITES);
        let (flood, other) = (lane(Class::Credentials, 1), lane(Class::Credentials, 2));
        let first = queue.stand(flood).unwrap().ok().unwrap();
        let second = queue.stand(flood).unwrap().ok().unwrap();
        let mut third = queue.stand(flood).unwrap().err().unwrap();
        let theirs = queue.stand(other).unwrap().ok().expect("the flood has left a turn");
        // What the other gives back is not for the flood, which has its share.
        drop(theirs);
        assert!(third.try_recv().is_err());
        drop(first);
        let third = third.try_recv().expect("the flood has given one back");
        drop((second, third));
        assert!(queue.lock().free == 4 && queue.lock().taken.is_empty());
    }

    #[test]
    fn product_work_has_half_of_the_cores_at_most() {
        let (product, keys) = (lane(Class::Product, 1), lane(Class::Credentials, 1));
        for (turns, cores, of_product, of_keys) in
            [(4, 1, 1, 2), (4, 2, 1, 2), (4, 4, 2, 2), (4, 64, 2, 2), (1, 8, 1, 1)]
        {
            let shares = Shares::of(turns, cores);
            assert_eq!([shares.of_lane(&product), shares.of_lane(&keys)], [of_product, of_keys]);
            assert_eq!(shares.of_lane(&Lane::HOUSE), of_keys);
        }
    }

    #[tokio::test]
    async fn a_report_waits_beside_the_other_work_of_its_organization() {
        let queue = Queue { shares: Shares::of(4, 2), ..Arc::into_inner(Queue::new(4, READS)).unwrap() };
        let queue = Arc::new(queue);
        let _report = queue.stand(lane(Class::Reports, 1)).unwrap().ok().unwrap();
        let _chat = queue.stand(lane(Class::Product, 1)).unwrap().ok().expect("a report holds up no chat");
        assert!(queue.stand(lane(Class::Reports, 1)).unwrap().is_err());
    }

    #[tokio::test]
    async fn what_narrows_goes_first_and_keeps_nobody_out() {
        let queue = Queue::new(1, WRITES);
        let mut lanes = vec![lane(Class::Product, 1)];
        lanes.extend([lane(Class::Narrowing, 2); 30]);
        lanes.push(lane(Class::Narrowing, 3));
        let order = served(&queue, &lanes).await;
        let place = |who: usize| order.iter().position(|it| *it == who).unwrap();
        assert!(place(31) <= 1, "{order:?}");
        assert_eq!(place(0), 2, "{order:?}");
        // Of many organizations at once, so many.
        let mut lanes = vec![lane(Class::Product, 1)];
        lanes.extend((2..40).map(|organization| lane(Class::Narrowing, organization)));
        let order = served(&queue, &lanes).await;
        assert_eq!(order.iter().position(|it| *it == 0), Some(MOST_AHEAD), "{order:?}");
    }

    #[tokio::test]
    async fn a_full_lane_refuses_its_own_and_whoever_leaves_makes_room() {
        let queue = Queue::new(1, WRITES);
        let held = queue.enter(Lane::HOUSE).await.unwrap();
        let (flood, other) = (lane(Class::Product, 1), lane(Class::Product, 2));
        let mut waiting: Vec<_> = (0..WRITES).map(|_| queue.stand(flood).unwrap().err().unwrap()).collect();
        assert_eq!(queue.stand(flood).err(), Some(NoSlot::Full));
        assert!(queue.stand(other).is_ok() && queue.stand(Lane::HOUSE).is_ok());
        waiting.truncate(10);
        assert!(queue.stand(flood).is_ok());
        drop((held, waiting));
        // Everybody who waited is gone, so the turn is there again.
        drop(queue.enter(flood).await.unwrap());
        assert_eq!(queue.lock().free, 1);
    }
}
