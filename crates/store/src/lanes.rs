//! Whose turn at the database is next. What narrows rights goes first; then everybody gets a fair share: one turn for each
//! lane in a round.

use flowyte_core::id::OrganizationId;
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
    /// What the credentials open.
    Product,
}

/// Those who wait behind one another: one class of work of one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// What it is about.
    pub class: Class,
    /// The organization; `None` for the server's own work and for callers that belong to no organization yet.
    pub organization: Option<OrganizationId>,
}

impl Lane {
    /// The server's own work.
    pub const HOUSE: Self = Self { class: Class::Product, organization: None };
    /// What the server asks of credentials for itself. The product may hang, and this does not.
    pub const PROBE: Self = Self { class: Class::Credentials, organization: None };

    /// Product work of an organization.
    pub const fn product(organization: OrganizationId) -> Self {
        Self { class: Class::Product, organization: Some(organization) }
    }
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// The lane is full.
    Full,
    /// It took too long.
    TooLong,
}

/// Hands out turns to write or to read, so many at once.
pub struct Queue {
    /// Those of one lane that may wait.
    most: usize,
    state: Mutex<State>,
}

struct State {
    /// Turns that nobody has. Above zero only while nobody waits.
    free: usize,
    ahead: Ring,
    others: Ring,
    /// Turns that [`State::ahead`] got in a row while others waited.
    run: usize,
}

/// Lanes that take turns.
#[derive(Default)]
struct Ring {
    order: VecDeque<Lane>,
    waiting: HashMap<Lane, VecDeque<oneshot::Sender<Turn>>>,
}

impl Ring {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let lane = self.order.pop_front()?;
        let line = self.waiting.get_mut(&lane)?;
        let next = line.pop_front();
        match line.is_empty() {
            true => drop(self.waiting.remove(&lane)),
            false => self.order.push_back(lane),
        }
        next
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.others.order.is_empty() {
            self.run = 0;
        } else if self.run >= MOST_AHEAD.min(self.ahead.order.len()) {
            self.run = 0;
            return self.others.next();
        } else {
            self.run += 1;
        }
        self.ahead.next()
    }
}

/// Leave to write or to read. Given to the next one when it is dropped.
pub struct Turn(Option<Arc<Queue>>);

impl Queue {
    /// A queue that gives `turns` at once, and lets `most` of one lane wait.
    pub fn new(turns: usize, most: usize) -> Arc<Self> {
        let (ahead, others) = Default::default();
        Arc::new(Self { most, state: Mutex::new(State { free: turns, ahead, others, run: 0 }) })
    }

    /// Waits for a turn. Whoever stops waiting leaves the queue.
    pub async fn enter(self: &Arc<Self>, lane: Lane) -> Result<Turn, NoTurn> {
        let turn = match self.stand(lane)? {
            Ok(turn) => return Ok(turn),
            Err(turn) => turn,
        };
        match timeout(PATIENCE, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            // The sender lives as long as it stands in line.
            Ok(Err(_)) | Err(_) => Err(NoTurn::TooLong),
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
    fn stand(self: &Arc<Self>, lane: Lane) -> Result<Result<Turn, oneshot::Receiver<Turn>>, NoTurn> {
        let mut state = self.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Ok(Turn(Some(self.clone()))));
        }
        let ring = if lane.class == Class::Narrowing { &mut state.ahead } else { &mut state.others };
        let line = ring.waiting.entry(lane).or_default();
        if line.is_empty() {
            ring.order.push_back(lane);
        } else if line.len() >= self.most {
            line.retain(|it| !it.is_closed());
            // The line of the server's own work has no bound of its own: it is as long as what the server does at once.
            if line.len() >= self.most && lane != Lane::HOUSE {
                return Err(NoTurn::Full);
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

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(queue) = self.0.take() else { return };
        let mut state = queue.lock();
        while let Some(next) = state.next() {
            match next.send(Turn(Some(queue.clone()))) {
                Ok(()) => return,
                // Gone; what it would have got is not a turn to pass on by itself.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
        state.free += 1;
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
        assert_eq!(queue.stand(flood).err(), Some(NoTurn::Full));
        assert!(queue.stand(other).is_ok() && queue.stand(Lane::HOUSE).is_ok());
        waiting.truncate(10);
        assert!(queue.stand(flood).is_ok());
        drop((held, waiting));
        // Everybody who waited is gone, so the turn is there again.
        drop(queue.enter(flood).await.unwrap());
        assert_eq!(queue.lock().free, 1);
    }
}
