//! A model of how several nodes are to agree that a credential is revoked, checked in every state that it can reach (stateright).
//!
//! Each node follows the change log and answers only while it holds a lease. A call that revokes commits, and returns when every node that is
//! registered has said that it applied the change, or when no node that has not can hold a lease any more:
//!
//! - A read of changes first renews the node's own row, in the same transaction: so the row shows that the node may hold a lease. The lease ends
//!   [`LEASE`] after the read began, by the node's clock.
//! - A row may be removed when it was not renewed for longer than a lease can last. A node whose row is gone registers again, and reads before it
//!   answers.
//! - The call waits for [`WAIT`] by its own node's clock at most, which allows for one clock that is slow and one that is fast.
//!
//! Anything may happen late or never: a read may get lost on its way there or back, nodes stop, stand still and start again, clocks run
//! apart. Each of seeded mistakes must be found, or the model proves nothing.
#![allow(clippy::unwrap_used)] // A test says what went wrong by panicking.

use stateright::{Checker, Model, Property};

/// Ticks that a lease lasts after the beginning of the read that it was got by, on the node's clock.
const LEASE: u8 = 2;
/// How far a clock may be ahead of the time: so much may two spans of time, measured by two clocks, differ from it each.
const DRIFT: u8 = 1;
/// Ticks that a call waits at most for a node that says nothing, on its own node's clock.
const WAIT: u8 = LEASE + 2 * DRIFT;
/// Ticks after which a row that was not renewed may be removed, by the database's clock.
const GONE: u8 = LEASE + DRIFT;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// Nodes answer without a lease.
    NoLease,
    /// A node says that it applied a change before it does.
    AppliedTooSoon,
    /// Revisions come from a sequence, so that the later one may be committed first.
    Sequence,
    /// The call takes all clocks for exact.
    NoDrift,
    /// Rows of nodes that may hold a lease are removed.
    GoneTooSoon,
    /// A read of changes does not renew the row.
    RowNotRenewed,
    /// A node answers as soon as it is registered, by what it knew before.
    ServesBeforeReading,
}

/// The nodes, and whether anything may go wrong.
struct Nodes {
    count: usize,
    mistake: Mistake,
    faults: bool,
}

/// All times are spans up to now, cut off where longer ones make no difference, so there are finitely many states however long it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    nodes: Vec<Node>,
    rows: Vec<Option<Row>>,
    /// The revocation, and another change at the same time where that makes a difference.
    writers: Vec<Writer>,
    /// The last revision that was given out.
    last: u8,
}

/// What a node knows by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    alive: bool,
    /// How far its clock is ahead.
    ahead: u8,
    /// How long it may still answer, by its clock.
    lease: u8,
    /// Whether it could answer at some time, where nothing goes wrong.
    served: bool,
    /// The revision up to which it has applied changes.
    applied: u8,
    /// Whether it knows of the revocation.
    knows: bool,
    /// Whether it believes that its row is there.
    registered: bool,
    read: Option<Read>,
}

/// A read of changes on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Read {
    /// How long ago it began, by the node's clock.
    age: u8,
    found: Option<Found>,
}

/// What the database answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Found {
    Changes { upto: u8, revocation: bool },
    NoRow,
}

/// A node's row in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    applied: u8,
    /// How long ago it was renewed.
    age: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// It has its revision, and others can't see it yet.
    Open(u8),
    /// With how long ago that was, by the clock of the first node, on which it runs.
    Committed(u8, u8),
    Returned(u8),
}

impl Writer {
    fn committed(self) -> Option<u8> {
        match self {
            Self::Committed(revision, _) | Self::Returned(revision) => Some(revision),
            Self::Idle | Self::Open(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Time goes on, and with it the clocks, but for those of these nodes (bits), which were ahead.
    Tick(u8),
    /// A clock gets ahead.
    Drift(usize),
    Register(usize),
    Begin(usize),
    /// The database answers a read.
    Execute(usize),
    Deliver(usize),
    Lose(usize),
    /// A node says what it applied, between two reads.
    Report(usize),
    Stop(usize),
    Start(usize),
    Remove(usize),
    Open(usize),
    Commit(usize),
    Return,
}

impl State {
    /// A node's clock goes on by a tick.
    fn advance(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.lease = it.lease.saturating_sub(1);
        if let Some(read) = &mut it.read {
            read.age = (read.age + 1).min(LEASE);
        }
        if let (0, Some(Writer::Committed(_, age))) = (node, self.writers.first_mut()) {
            *age = (*age + 1).min(WAIT);
        }
    }

    fn tick(&mut self, late: u8) {
        for row in self.rows.iter_mut().flatten() {
            row.age = (row.age + 1).min(GONE + 1);
        }
        for node in 0..self.nodes.len() {
            match late >> node & 1 {
                0 => self.advance(node),
                _ => self.nodes[node].ahead = 0,
            }
        }
    }

    fn returned(&self) -> bool {
        matches!(self.writers[0], Writer::Returned(_))
    }
}

impl Nodes {
    fn serves(&self, it: &Node) -> bool {
        it.alive && (it.lease > 0 || self.mistake == Mistake::NoLease && it.registered)
    }

    fn may_return(&self, state: &State, revision: u8, age: u8) -> bool {
        let wait = if self.mistake == Mistake::NoDrift { LEASE } else { WAIT };
        age >= wait || state.rows.iter().flatten().all(|row| row.applied >= revision)
    }

    fn execute(&self, state: &mut State, node: usize) {
        let it = &state.nodes[node];
        let upto = state.writers.iter().filter_map(|it| it.committed()).max().unwrap_or(0).max(it.applied);
        // Changes up to the last one that was read are not looked for again.
        let revocation = state.writers[0].committed().is_some_and(|revision| revision > it.applied);
        let mut found = Found::Changes { upto, revocation };
        match &mut state.rows[node] {
            Some(row) => {
                if self.mistake != Mistake::RowNotRenewed {
                    row.age = 0;
                }
                let applied = if self.mistake == Mistake::AppliedTooSoon { upto } else { it.applied };
                row.applied = row.applied.max(applied);
            }
            None if self.mistake == Mistake::RowNotRenewed => {}
            None => found = Found::NoRow,
        }
        if let Some(read) = &mut state.nodes[node].read {
            read.found = Some(found);
        }
    }

    fn deliver(&self, it: &mut Node) {
        match it.read.take() {
            Some(Read { age, found: Some(Found::Changes { upto, revocation }) }) => {
                it.applied = it.applied.max(upto);
                it.knows |= revocation;
                it.lease = it.lease.max(LEASE - age);
                it.served = !self.faults;
            }
            // Somebody took it for gone: what it knows may be old, and nobody waits for it.
            _ => (it.registered, it.lease) = (false, 0),
        }
    }

    /// Whether something must happen before time goes on, where nothing goes wrong.
    fn is_due(it: &Node) -> bool {
        it.alive && (!it.registered || it.read.is_some() || it.lease < LEASE)
    }
}

impl Model for Nodes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = Node { alive: true, ..Node::default() };
        let writers = if self.mistake == Mistake::Sequence { 2 } else { 1 };
        vec![State {
            nodes: vec![node; self.count],
            rows: vec![None; self.count],
            writers: vec![Writer::Idle; writers],
            last: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.faults || !state.nodes.iter().any(Self::is_due) {
            let ahead: u8 = (0..self.count).filter(|at| state.nodes[*at].ahead > 0).map(|at| 1 << at).sum();
            actions.extend((0..1 << self.count).filter(|late| late & ahead == *late).map(Action::Tick));
        }
        for (at, it) in state.nodes.iter().enumerate() {
            if !it.alive {
                actions.push(Action::Start(at));
                continue;
            }
            match &it.read {
                _ if !it.registered => actions.push(Action::Register(at)),
                None => actions.push(Action::Begin(at)),
                Some(Read { found: None, .. }) => actions.push(Action::Execute(at)),
                Some(_) => actions.push(Action::Deliver(at)),
            }
            if state.rows[at].as_ref().is_some_and(|row| row.applied < it.applied) {
                actions.push(Action::Report(at));
            }
            if self.faults {
                actions.extend((it.ahead < DRIFT).then_some(Action::Drift(at)));
                actions.extend(it.read.is_some().then_some(Action::Lose(at)));
                // The first one runs the call that is watched.
                actions.extend((at > 0).then_some(Action::Stop(at)));
            }
        }
        let gone = if self.mistake == Mistake::GoneTooSoon { 0 } else { GONE };
        let rows = state.rows.iter().enumerate();
        actions.extend(
            rows.filter(|(_, row)| row.as_ref().is_some_and(|row| row.age > gone))
                .map(|(at, _)| Action::Remove(at)),
        );
        for (at, writer) in state.writers.iter().enumerate() {
            match writer {
                Writer::Idle => actions.push(Action::Open(at)),
                Writer::Open(_) => actions.push(Action::Commit(at)),
                Writer::Committed(..) if at == 0 => actions.push(Action::Return),
                Writer::Committed(..) | Writer::Returned(_) => {}
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick(late) => state.tick(late),
            Action::Drift(at) => {
                state.advance(at);
                state.nodes[at].ahead = DRIFT;
            }
            Action::Register(at) => {
                state.rows[at] = Some(Row { applied: 0, age: 0 });
                state.nodes[at].registered = true;
                if self.mistake == Mistake::ServesBeforeReading {
                    state.nodes[at].lease = LEASE;
                }
            }
            Action::Begin(at) => state.nodes[at].read = Some(Read { age: 0, found: None }),
            Action::Execute(at) => self.execute(&mut state, at),
            Action::Deliver(at) => self.deliver(&mut state.nodes[at]),
            Action::Lose(at) => state.nodes[at].read = None,
            Action::Report(at) => {
                let applied = state.nodes[at].applied;
                state.rows[at].as_mut()?.applied = applied;
            }
            Action::Stop(at) => state.nodes[at] = Node { ahead: state.nodes[at].ahead, ..Node::default() },
            Action::Start(at) => state.nodes[at].alive = true,
            Action::Remove(at) => state.rows[at] = None,
            Action::Open(at) => {
                // The counter is a row, which whoever has it holds until they commit.
                let held = state.writers.iter().any(|it| matches!(it, Writer::Open(_)));
                if held && self.mistake != Mistake::Sequence {
                    return None;
                }
                state.last += 1;
                state.writers[at] = Writer::Open(state.last);
            }
            Action::Commit(at) => {
                let Writer::Open(revision) = state.writers[at] else { return None };
                state.writers[at] = Writer::Committed(revision, 0);
            }
            Action::Return => {
                let Writer::Committed(revision, age) = state.writers[0] else { return None };
                if !self.may_return(&state, revision, age) {
                    return None;
                }
                state.writers[0] = Writer::Returned(revision);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(SAFE, |model: &Self, state: &State| {
                !state.returned() || state.nodes.iter().all(|it| it.knows || !model.serves(it))
            }),
            Property::sometimes(
                "the call returns when all have applied it",
                |model: &Self, state: &State| {
                    state.returned() && state.nodes.iter().all(|it| it.knows && model.serves(it))
                },
            ),
        ];
        if self.faults {
            properties.push(Property::sometimes(
                "it returns although a node is cut off",
                |_: &Self, state: &State| {
                    let behind =
                        |(node, row): (&Node, &Option<Row>)| node.alive && !node.knows && row.is_some();
                    state.returned() && state.nodes.iter().zip(&state.rows).any(behind)
                },
            ));
        } else {
            properties
                .push(Property::always("a healthy node is not locked out", |model: &Self, state: &State| {
                    state.nodes.iter().all(|it| !it.served || model.serves(it))
                }));
        }
        properties
    }
}

const SAFE: &str = "no node accepts after the return";

/// Holds every property in every state, of which there must be so many.
fn checked(count: usize, faults: bool, states: usize) {
    let nodes = Nodes { count, mistake: Mistake::None, faults };
    let checker = nodes.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), states);
}

#[test]
fn after_the_return_no_node_accepts() {
    checked(2, true, 342_049);
}

#[test]
fn a_healthy_node_is_not_locked_out() {
    checked(3, false, 9_631);
}

#[test]
fn each_mistake_is_found() {
    for mistake in [
        Mistake::NoLease,
        Mistake::AppliedTooSoon,
        Mistake::Sequence,
        Mistake::NoDrift,
        Mistake::GoneTooSoon,
        Mistake::RowNotRenewed,
        Mistake::ServesBeforeReading,
    ] {
        let nodes = Nodes { count: 2, mistake, faults: true };
        let checker = nodes.checker().threads(2).spawn_bfs().join();
        assert!(checker.discovery(SAFE).is_some(), "{mistake:?} is not found");
    }
}
