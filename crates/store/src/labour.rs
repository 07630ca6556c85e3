//! Work that takes a core for a while: bounded in all and for each caller, shared in turns, and done by threads that give
//! way to those that answer requests.

use crate::measure;
use prometheus::IntGauge;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How much less of a core a thread here gets than one that answers requests: a tenth (setpriority(2)).
const GIVES_WAY: i32 = 10;

static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .max_blocking_threads(64)
        .thread_name("flowyte-labour")
        .on_thread_start(|| {
            // Where the system does not allow it, the thread competes as an equal.
            let _ = rustix::process::setpriority_process(None, GIVES_WAY);
        })
        .build()
        .expect("a runtime without a driver needs nothing that could be missing")
});

/// The work panicked. What it said is not repeated, which may hold anything that was worked on: a password, a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work panicked")]
pub struct Panicked;

/// Does something dear beside the requests.
pub async fn labour<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    THREADS.spawn_blocking(work).await.map_err(|_| Panicked)
}

/// How many threads can run at the same time, as the operating system says; 1 where it does not.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How much there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many turns all callers together may have at a time.
    pub at_once: usize,
    /// Of them, by one caller.
    pub each: usize,
    /// How many may wait in all; more are refused.
    pub waiting: usize,
    /// How many of those who wait may be of one caller; more are refused.
    pub waiting_each: usize,
    /// How long a caller waits for a turn before it is refused.
    pub patience: Duration,
}

/// There is no turn to be had: too many wait, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// Why something dear was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// Its caller got no slot.
    Crowded,
    /// The work panicked.
    Panicked,
}

/// Slots for something dear. Callers who wait are served in turns, so that one who asks a thousand times delays the others
/// by one piece of work, not by a thousand.
pub struct Slots<K: Caller>(Arc<Inner<K>>);

/// What callers are told apart by.
pub trait Caller: Clone + Eq + Hash + Send + 'static {}
impl<K: Clone + Eq + Hash + Send + 'static> Caller for K {}

struct Inner<K: Caller> {
    bounds: Bounds,
    /// How many wait, for `/metrics`.
    queue: IntGauge,
    state: Mutex<State<K>>,
}

struct State<K: Caller> {
    taken: usize,
    takers: HashMap<K, usize>,
    waiting: usize,
    /// By caller, in the order in which they came.
    queues: HashMap<K, VecDeque<oneshot::Sender<Slot<K>>>>,
    /// The callers who wait; whoever was served goes to the end.
    order: VecDeque<K>,
}

impl<K: Caller> Slots<K> {
    /// Slots that nobody has taken. `work`: what they are for, as `/metrics` names it.
    pub fn new(work: &str, bounds: Bounds) -> Self {
        let state = State {
            taken: 0,
            takers: HashMap::new(),
            waiting: 0,
            queues: HashMap::new(),
            order: VecDeque::new(),
        };
        let queue = measure::turns_waiting(work);
        Self(Arc::new(Inner { bounds, queue, state: Mutex::new(state) }))
    }

    /// A turn of `caller`, given back when it is dropped.
    pub async fn take(&self, caller: K) -> Result<Slot<K>, Crowded> {
        let mut place = {
            let mut state = self.0.lock();
            if self.0.may(&state, &caller) {
                return Ok(self.0.grant(&mut state, caller));
            }
            let queued = state.queues.get(&caller).map_or(0, VecDeque::len);
            if state.waiting >= self.0.bounds.waiting || queued >= self.0.bounds.waiting_each {
                return Err(Crowded);
            }
            let (sender, turn) = oneshot::channel();
            if queued == 0 {
                state.order.push_back(caller.clone());
            }
            state.queues.entry(caller.clone()).or_default().push_back(sender);
            state.waiting += 1;
            self.0.queue.inc();
            Place { turns: self.0.clone(), caller, turn }
        };
        timeout(self.0.bounds.patience, &mut place.turn).await.ok().and_then(Result::ok).ok_or(Crowded)
    }

    /// Does something dear beside the requests. The work has a slot of `caller` until it is done, also where nobody waits for it any more.
    pub async fn labour<T: Send + 'static>(
        &self,
        caller: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let slot = self.take(caller).await.map_err(|Crowded| Undone::Crowded)?;
        let work = move || {
            let _until_it_is_done = slot;
            work()
        };
        labour(work).await.map_err(|Panicked| Undone::Panicked)
    }
}

impl<K: Caller> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may(&self, state: &State<K>, caller: &K) -> bool {
        state.taken < self.bounds.at_once && state.takers.get(caller).copied().unwrap_or(0) < self.bounds.each
    }

    fn grant(self: &Arc<Self>, state: &mut State<K>, caller: K) -> Slot<K> {
        state.taken += 1;
        *state.takers.entry(caller.clone()).or_default() += 1;
        Slot { turns: self.clone(), caller }
    }

    /// Gives free turns to those who wait. What is answered went to somebody who left meanwhile; it is to be dropped without
    /// the lock.
    fn serve(self: &Arc<Self>, state: &mut State<K>) -> Vec<Slot<K>> {
        let mut left = Vec::new();
        while let Some(next) = state.order.iter().position(|caller| self.may(state, caller)) {
            let Some(caller) = state.order.remove(next) else { break };
            let Some(queue) = state.queues.get_mut(&caller) else { continue };
            let sender = queue.pop_front();
            match queue.is_empty() {
                true => drop(state.queues.remove(&caller)),
                false => state.order.push_back(caller.clone()),
            }
            let Some(sender) = sender else { continue };
            state.waiting -= 1;
            self.queue.dec();
            let turn = self.grant(state, caller);
            left.extend(sender.send(turn).err());
        }
        left
    }
}

/// A place in a queue. Whoever leaves it makes room.
struct Place<K: Caller> {
    turns: Arc<Inner<K>>,
    caller: K,
    turn: oneshot::Receiver<Slot<K>>,
}

impl<K: Caller> Drop for Place<K> {
    fn drop(&mut self) {
        self.turn.close();
        let mut state = self.turns.lock();
        let State { queues, order, waiting, .. } = &mut *state;
        let Some(queue) = queues.get_mut(&self.caller) else { return };
        let before = queue.len();
        queue.retain(|sender| !sender.is_closed());
        let left = before - queue.len();
        *waiting -= left;
        self.turns.queue.sub(left as i64);
        if queue.is_empty() {
            queues.remove(&self.caller);
            order.retain(|caller| *caller != self.caller);
        }
    }
}

/// Leave to do one dear thing.
pub struct Slot<K: Caller> {
    turns: Arc<Inner<K>>,
    caller: K,
}

impl<K: Caller> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.taken -= 1;
        if let Some(own) = state.takers.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                state.takers.remove(&self.caller);
            }
        }
        let left = self.turns.serve(&mut state);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    const BOUNDS: Bounds =
        Bounds { at_once: 2, each: 1, waiting: 8, waiting_each: 4, patience: Duration::from_secs(60) };

    #[tokio::test]
    async fn work_keeps_its_slot_until_it_is_done_though_nobody_waits() {
        let slots = Arc::new(Slots::new("test", Bounds { at_once: 1, each: 1, ..BOUNDS }));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (begun, started) = oneshot::channel();
        let first = tokio::spawn({
            let slots = slots.clone();
            async move {
                let work = move || {
                    let _ = begun.send(());
                    let _ = wait.recv();
                };
                slots.labour('a', work).await
            }
        });
        started.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = tokio::spawn(async move { slots.labour('b', || 1).await });
        yield_now().await;
        assert!(!second.is_finished());
        drop(go);
        assert_eq!(second.await.unwrap(), Ok(1));
    }

    #[tokio::test]
    async fn a_crowd_delays_another_by_one_turn() {
        let turns = Arc::new(Slots::new("test", BOUNDS));
        let first = turns.take("crowd").await.unwrap();
        let other = turns.take("other").await.unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        for who in ["crowd", "crowd", "crowd", "crowd", "late"] {
            let (turns, served) = (turns.clone(), served.clone());
            tokio::spawn(async move {
                let turn = turns.take(who).await.unwrap();
                served.lock().unwrap().push(who);
                yield_now().await;
                drop(turn);
            });
            yield_now().await;
        }
        assert!(turns.take("crowd").await.is_err(), "four wait already");
        drop(other);
        yield_now().await;
        assert_eq!(*served.lock().unwrap(), ["late"], "the crowd has its one turn");
        drop(first);
        for _ in 0..20 {
            yield_now().await;
        }
        assert_eq!(*served.lock().unwrap(), ["late", "crowd", "crowd", "crowd", "crowd"]);
        let state = turns.0.lock();
        assert!(state.taken == 0 && state.waiting == 0 && state.takers.is_empty());
        assert!(state.queues.is_empty() && state.order.is_empty());
    }

    #[tokio::test]
    async fn whoever_leaves_a_queue_makes_room_and_takes_nothing_along() {
        let turns = Arc::new(Slots::new("test", Bounds { at_once: 1, ..BOUNDS }));
        let first = turns.take(1).await.unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { drop(turns.take(3).await) })
            })
            .collect();
        yield_now().await;
        assert_eq!(turns.0.lock().waiting, 3);
        for it in &waiting[..2] {
            it.abort();
        }
        yield_now().await;
        assert_eq!(turns.0.lock().waiting, 1);
        drop(first);
        yield_now().await;
        assert!(turns.take(4).await.is_ok());
    }

    #[tokio::test]
    async fn patience_ends() {
        let turns = Slots::new("test", Bounds { patience: Duration::from_millis(1), ..BOUNDS });
        let _first = turns.take(1).await.unwrap();
        assert!(turns.take(1).await.is_err());
        assert!(turns.0.lock().queues.is_empty());
    }

    #[tokio::test]
    async fn labour_runs_elsewhere_and_says_that_it_panicked_but_not_with_what() {
        let here = std::thread::current().id();
        assert_ne!(labour(|| std::thread::current().id()).await.unwrap(), here);
        let broken = labour(|| -> u8 { panic!("canary") }).await.unwrap_err();
        assert_eq!(format!("{broken} {broken:?}"), "the work panicked Panicked");
    }
}
