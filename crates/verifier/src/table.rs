//! Every secret this node knows, in one flat array: a look-up takes no lock, allocates nothing and misses the cache once.
//!
//! One line of 64 bytes holds what a decision needs of a plain key. A line is eight atomic words; the single writer marks
//! it as being written, changes it, and marks it as whole again, and a reader who saw a change in between reads again (a
//! sequence lock: Boehm, "Can seqlocks get along with programming language memory models?", 2012).

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use flowyte_core::{
    CredentialKind, Digest, Environment, Lookup, Organization, Record, Restrictions, ScopeSet, Timestamp,
};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// Lines of the first array.
const FEWEST: usize = 64;
/// A fuller array than this, in percent, is replaced by a larger one.
const FULLEST: usize = 65;
/// An emptier one is replaced by a smaller one, if it has more lines than [`FEW`].
const EMPTIEST: usize = 10;
const FEW: usize = 4_096;
/// How full the new one is then, in percent.
const AFTER_RESIZE: usize = 45;

/// The number of an organization in its table.
pub type OrganizationNumber = u32;

/// What is known of one secret, as the writer gives it.
pub struct Entry {
    /// The number of its organization, as [`Table::add_organization`] gave it.
    pub organization: OrganizationNumber,
    /// The scopes that it grants.
    pub scopes: ScopeSet,
    /// The id of its key or session, without the prefix.
    pub id: [u8; 16],
    /// First instant at which it no longer works.
    pub expires_at: Timestamp,
    /// The kind of credential that it is a secret of.
    pub kind: CredentialKind,
    /// Whether it acts on the real world or on sandboxes.
    pub environment: Environment,
    /// Whether it was revoked or ended, which can't be undone.
    pub revoked: bool,
    /// Lives through the grace of a rotation.
    pub superseded: bool,
    /// Restrictions and ties that plain secret keys don't have; `None`: it has none.
    pub restrictions: Option<Restrictions>,
}

/// The array with what its lines refer to.
pub struct Table {
    lines: ArcSwap<Box<[Line]>>,
    organizations: Places<Organization>,
    restrictions: Places<ArcSwapOption<Restrictions>>,
    live: AtomicUsize,
    writer: Mutex<Writer>,
}

/// What only the one writer needs.
#[derive(Default)]
struct Writer {
    /// Lines in use, emptied ones among them.
    used: usize,
    organizations: u32,
    restrictions: u32,
    /// Places on the list of restrictions that are free again.
    free: Vec<u32>,
}

/// Words: digest (64 bits); digest (32 bits) and version; scopes (2); expiry; what [`Facts`] packs; id (2).
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// The parts of the sixth word, from the lowest bit: organization (32), restrictions (25), superseded, kind (3), test, revoked,
/// vacant.
#[derive(Clone, Copy)]
struct Facts {
    organization: OrganizationNumber,
    /// The place of its restrictions on their list, counted from 1; 0: it has none.
    restrictions: u32,
    kind: CredentialKind,
    environment: Environment,
    revoked: bool,
    superseded: bool,
    /// Nothing is here any more; the search goes on behind it.
    vacant: bool,
}

const RESTRICTIONS_BITS: u32 = 25;

impl Facts {
    fn pack(self) -> u64 {
        u64::from(self.organization)
            | u64::from(self.restrictions) << 32
            | u64::from(self.superseded) << 57
            | (self.kind as u64) << 58
            | u64::from(self.environment == Environment::Test) << 61
            | u64::from(self.revoked) << 62
            | u64::from(self.vacant) << 63
    }

    fn unpack(word: u64) -> Self {
        let bit = |at: u32| word >> at & 1 == 1;
        Self {
            organization: word as u32,
            restrictions: (word >> 32) as u32 & ((1 << RESTRICTIONS_BITS) - 1),
            kind: CredentialKind::ALL[(word >> 58 & 7) as usize % CredentialKind::ALL.len()],
            environment: if bit(61) { Environment::Test } else { Environment::Live },
            revoked: bit(62),
            superseded: bit(57),
            vacant: bit(63),
        }
    }
}

/// The 96 bits of a digest that a line holds. Nobody without the pepper can steer them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(u64, u32);

impl Tag {
    fn of(digest: &Digest) -> Self {
        let key = digest.key();
        Self((key >> 64) as u64, (key >> 32) as u32)
    }
}

impl Line {
    /// The line's words from the third on, if they are those of `version`; `None` when they are being written.
    fn read(&self, version: u64) -> Option<[u64; 6]> {
        let mut words = [0; 6];
        for (word, from) in words.iter_mut().zip(&self.0[2..]) {
            *word = from.load(Relaxed);
        }
        fence(Acquire);
        let whole = version & 1 == 0 && self.0[1].load(Relaxed) == version;
        whole.then_some(words)
    }

    fn write(&self, tag: Tag, words: [u64; 6]) {
        let old = self.0[1].load(Relaxed) as u32;
        let high = u64::from(tag.1) << 32;
        self.0[1].store(high | u64::from(old.wrapping_add(1) | 1), Relaxed);
        fence(Release);
        self.0[0].store(tag.0, Relaxed);
        for (to, word) in self.0[2..].iter().zip(words) {
            to.store(word, Relaxed);
        }
        // Version 0 says that a line was never used.
        self.0[1].store(high | u64::from((old.wrapping_add(2) & !1).max(2)), Release);
    }

    fn tag_and_version(&self) -> (Tag, u64) {
        let version = self.0[1].load(Acquire);
        (Tag(self.0[0].load(Relaxed), (version >> 32) as u32), version)
    }
}

/// What a reader found in an array.
enum Read {
    /// The tag is not there.
    Nothing,
    /// It was written to meanwhile.
    Again,
    /// A line as it was at one moment, with what restricts it.
    Line([u64; 6], Facts, Option<Guard<Option<Arc<Restrictions>>>>),
}

fn lines(count: usize) -> Box<[Line]> {
    (0..count).map(|_| Line::default()).collect()
}

/// Where the search for a tag begins: its first bits as a fraction of the array.
fn begin(tag: Tag, count: usize) -> usize {
    ((u128::from(tag.0) * count as u128) >> 64) as usize
}

/// The line that holds a tag, or the first that was never used.
fn search(lines: &[Line], tag: Tag) -> Result<usize, usize> {
    let mut at = begin(tag, lines.len());
    loop {
        match lines[at].tag_and_version() {
            (_, version) if version as u32 == 0 => return Err(at),
            (found, _) if found == tag => return Ok(at),
            _ => at = if at + 1 == lines.len() { 0 } else { at + 1 },
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            lines: ArcSwap::from_pointee(lines(FEWEST)),
            organizations: Places::default(),
            restrictions: Places::default(),
            live: AtomicUsize::new(0),
            writer: Mutex::default(),
        }
    }
}

impl Table {
    /// Answers with what is known of a digest. The record is borrowed for the call only.
    pub fn with<T>(&self, digest: &Digest, decide: impl FnOnce(Lookup<'_>) -> T) -> T {
        let tag = Tag::of(digest);
        let (words, facts, guard) = loop {
            match self.read(&self.lines.load(), tag) {
                Read::Again => std::hint::spin_loop(),
                Read::Nothing => return decide(Lookup::Unknown),
                Read::Line(words, facts, guard) => break (words, facts, guard),
            }
        };
        let restrictions = guard.as_ref().and_then(|it| it.as_deref());
        let organization = self.organizations.get(facts.organization);
        let (Some(organization), true) = (organization, restrictions.is_some() == (facts.restrictions != 0))
        else {
            return decide(Lookup::Unavailable); // Can't be; if it is, nothing is granted.
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&words[4].to_be_bytes());
        id[8..].copy_from_slice(&words[5].to_be_bytes());
        decide(Lookup::Found(&Record {
            organization,
            scopes: ScopeSet::from_bits(u128::from(words[0]) << 64 | u128::from(words[1])),
            id,
            expires_at: Timestamp::from_micros(words[2] as i64),
            kind: facts.kind,
            environment: facts.environment,
            revoked: facts.revoked,
            superseded: facts.superseded,
            restrictions,
        }))
    }

    /// What one of the arrays has of a tag.
    fn read(&self, lines: &Arc<Box<[Line]>>, tag: Tag) -> Read {
        let Ok(at) = search(lines, tag) else { return Read::Nothing };
        let line = &lines[at];
        let (found, version) = line.tag_and_version();
        if found != tag {
            return Read::Nothing; // Emptied and given to another since.
        }
        let Some(words) = line.read(version) else { return Read::Again };
        let facts = Facts::unpack(words[3]);
        if facts.vacant {
            return Read::Nothing;
        }
        if facts.restrictions == 0 {
            return Read::Line(words, facts, None);
        }
        let guard = self.restrictions.get(facts.restrictions).map(ArcSwapOption::load);
        // A place in the list is given to another only after the line has left it. That shows in the line's version; or in the
        // array, where another has taken its place: nothing is written to the old one any more.
        match line.tag_and_version() == (tag, version) && Arc::ptr_eq(lines, &self.lines.load()) {
            true => Read::Line(words, facts, guard),
            false => Read::Again,
        }
    }

    /// How many secrets it knows.
    pub fn len(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Whether it knows no secret.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an organization; its number is for [`Entry::organization`].
    pub fn add_organization(&self, organization: Organization) -> OrganizationNumber {
        let mut writer = self.writer();
        let number = writer.organizations;
        self.organizations.put(number, organization);
        writer.organizations += 1;
        number
    }

    /// An organization by its number.
    pub fn organization(&self, number: OrganizationNumber) -> Option<&Organization> {
        self.organizations.get(number)
    }

    /// Replaces what was known of a secret.
    pub fn insert(&self, digest: &Digest, entry: Entry) {
        let mut writer = self.writer();
        let mut all = self.lines.load_full();
        let tag = Tag::of(digest);
        let found = search(&all, tag);
        let old = found.ok().and_then(|at| facts(&all[at]));
        if found.is_err() && (writer.used + 1) * 100 > all.len() * FULLEST {
            all = self.resize(&mut writer, &all);
        }
        let known = old.map_or(0, |it| it.restrictions);
        // A place of its own for what is new: a reader meets the old line with the old restrictions or both new.
        let restrictions = entry.restrictions.map_or(0, |restrictions| self.place(&mut writer, restrictions));
        let facts = Facts {
            organization: entry.organization,
            restrictions,
            kind: entry.kind,
            environment: entry.environment,
            revoked: entry.revoked,
            superseded: entry.superseded,
            vacant: false,
        };
        let scopes = entry.scopes.bits();
        let half = |at: usize| u64::from_be_bytes(std::array::from_fn(|index| entry.id[at + index]));
        let words = [
            (scopes >> 64) as u64,
            scopes as u64,
            entry.expires_at.as_micros() as u64,
            facts.pack(),
            half(0),
            half(8),
        ];
        match search(&all, tag) {
            Ok(at) => all[at].write(tag, words),
            Err(at) => {
                all[at].write(tag, words);
                writer.used += 1;
            }
        }
        self.vacate(&mut writer, known);
        if old.is_none() {
            self.live.fetch_add(1, Relaxed);
        }
    }

    /// Takes away what restricts a secret that ended before `over`, and all that it granted with it: should the clock be wrong, it
    /// opens nothing.
    pub fn disarm(&self, digest: &Digest, over: Timestamp) {
        let mut writer = self.writer();
        let all = self.lines.load_full();
        let tag = Tag::of(digest);
        let Ok(at) = search(&all, tag) else { return };
        let Some(words) = all[at].read(all[at].tag_and_version().1) else { return };
        let old = Facts::unpack(words[3]);
        if old.vacant || old.restrictions == 0 || words[2] as i64 > over.as_micros() {
            return;
        }
        let facts = Facts { restrictions: 0, ..old };
        all[at].write(tag, [0, 0, words[2], facts.pack(), words[4], words[5]]);
        self.vacate(&mut writer, old.restrictions);
    }

    /// Forgets a secret, so that it is unknown from then on; nothing happens where it is not there.
    pub fn remove(&self, digest: &Digest) {
        let mut writer = self.writer();
        let all = self.lines.load_full();
        let tag = Tag::of(digest);
        let Ok(at) = search(&all, tag) else { return };
        let Some(old) = facts(&all[at]) else { return };
        let mut words = [0; 6];
        words[3] = Facts { vacant: true, restrictions: 0, ..old }.pack();
        all[at].write(tag, words);
        self.vacate(&mut writer, old.restrictions);
        self.live.fetch_sub(1, Relaxed);
        if all.len() > FEW && self.live.load(Relaxed) * 100 < all.len() * EMPTIEST {
            self.resize(&mut writer, &all);
        }
    }

    /// An array that fits, with the same lines. Readers go on in the old one until it is swapped.
    fn resize(&self, writer: &mut Writer, old: &[Line]) -> Arc<Box<[Line]>> {
        let live = self.live.load(Relaxed) + 1;
        let fitting = lines((live * 100 / AFTER_RESIZE).max(FEWEST));
        writer.used = 0;
        for line in old {
            let (tag, version) = line.tag_and_version();
            let Some(words) = line.read(version) else { continue }; // The writer is here, so nothing is half-written.
            if version as u32 == 0 || Facts::unpack(words[3]).vacant {
                continue;
            }
            if let Err(at) = search(&fitting, tag) {
                fitting[at].write(tag, words);
                writer.used += 1;
            }
        }
        let fitting = Arc::new(fitting);
        self.lines.store(fitting.clone());
        fitting
    }

    fn place(&self, writer: &mut Writer, restrictions: Restrictions) -> u32 {
        let restrictions = Some(Arc::new(restrictions));
        if let Some(number) = writer.free.pop() {
            if let Some(place) = self.restrictions.get(number) {
                place.store(restrictions);
            }
            return number;
        }
        writer.restrictions += 1;
        assert!(
            writer.restrictions < 1 << RESTRICTIONS_BITS,
            "67 million restricted credentials are more than one node can hold"
        );
        self.restrictions.put(writer.restrictions, ArcSwapOption::from(restrictions));
        writer.restrictions
    }

    fn vacate(&self, writer: &mut Writer, number: u32) {
        if number != 0 {
            if let Some(place) = self.restrictions.get(number) {
                place.store(None);
            }
            writer.free.push(number);
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while it was held left the lines whole: each is written in one go.
        self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What a line in use holds; `None` where it is vacant.
fn facts(line: &Line) -> Option<Facts> {
    let words = line.read(line.tag_and_version().1)?;
    Some(Facts::unpack(words[3])).filter(|it| !it.vacant)
}

/// A list that only grows, read without a lock: boxes of 1, 2, 4, … places, so that nothing ever moves.
struct Places<T>([OnceLock<Box<[OnceLock<T>]>>; 32]);

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<T> Places<T> {
    fn place(number: u32) -> (usize, usize) {
        let counted = u64::from(number) + 1;
        let bucket = counted.ilog2() as usize;
        (bucket, (counted - (1 << bucket)) as usize)
    }

    fn get(&self, number: u32) -> Option<&T> {
        let (bucket, at) = Self::place(number);
        self.0.get(bucket)?.get()?.get(at)?.get()
    }

    fn put(&self, number: u32, value: T) {
        let (bucket, at) = Self::place(number);
        let places = self.0[bucket].get_or_init(|| (0..1_usize << bucket).map(|_| OnceLock::new()).collect());
        // The writer counts, so each place is taken once.
        let _ = places[at].set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowyte_core::id::{Id, OrganizationId};
    use flowyte_core::limit::RateLimit;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    fn digest(number: u64) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        bytes[8..16].copy_from_slice(&number.to_be_bytes());
        bytes[11] = 1;
        Digest::from_bytes(bytes)
    }

    fn table() -> (Table, OrganizationNumber) {
        let table = Table::default();
        let organization = Organization {
            id: OrganizationId::from_bytes([1; 16]),
            suspended: AtomicBool::new(false),
            limit: RateLimit::per_minute(1),
        };
        let number = table.add_organization(organization);
        (table, number)
    }

    fn entry(organization: OrganizationNumber, value: u64, fenced: bool) -> Entry {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&value.to_be_bytes());
        Entry {
            organization,
            scopes: ScopeSet::from_bits(u128::from(value) << 64 | u128::from(value)),
            id,
            expires_at: Timestamp::from_micros(value as i64),
            kind: CredentialKind::ALL[(value % 5) as usize],
            environment: if value.is_multiple_of(2) { Environment::Live } else { Environment::Test },
            revoked: value.is_multiple_of(3),
            superseded: value.is_multiple_of(5),
            restrictions: fenced.then(|| Restrictions {
                signed_in_at: Some(Timestamp::from_micros(value as i64)),
                ..Default::default()
            }),
        }
    }

    /// The value an entry was made of, if every part of it still agrees.
    fn value(lookup: Lookup<'_>) -> Option<u64> {
        let Lookup::Found(record) = lookup else { return None };
        let value = record.expires_at.as_micros() as u64;
        assert_eq!(record.scopes, ScopeSet::from_bits(u128::from(value) << 64 | u128::from(value)));
        assert_eq!(record.id[8..], value.to_be_bytes());
        assert_eq!(record.kind, CredentialKind::ALL[(value % 5) as usize]);
        assert_eq!(record.environment == Environment::Live, value.is_multiple_of(2));
        assert_eq!(record.revoked, value.is_multiple_of(3));
        assert_eq!(record.superseded, value.is_multiple_of(5));
        if let Some(restrictions) = record.restrictions {
            assert_eq!(restrictions.signed_in_at, Some(record.expires_at));
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn does_what_a_map_does(steps in prop::collection::vec((0..300_u64, 0..1_000_000_u64, any::<bool>(), 0..4_u8), 0..1_500)) {
            let (table, organization) = table();
            let mut model = HashMap::new();
            for (key, new, fenced, what) in steps {
                match what {
                    0 => {
                        table.remove(&digest(key));
                        model.remove(&key);
                    }
                    _ => {
                        table.insert(&digest(key), entry(organization, new, fenced));
                        model.insert(key, (new, fenced));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for key in 0..300 {
                let found = table.with(&digest(key), |lookup| (value(lookup), matches!(lookup, Lookup::Found(it) if it.restrictions.is_some())));
                let known = model.get(&key).copied();
                prop_assert_eq!(found, (known.map(|it| it.0), known.is_some_and(|it| it.1)));
            }
        }
    }

    /// A reader may be slow enough to find an array in its hands that has been replaced, and a place in the list that another
    /// secret has been given since.
    #[test]
    fn whoever_reads_an_old_array_meets_nobody_elses_restrictions() {
        let (table, organization) = table();
        table.insert(&digest(0), entry(organization, 0, true));
        let (old, tag) = (table.lines.load_full(), Tag::of(&digest(0)));
        assert!(matches!(table.read(&old, tag), Read::Line(..)));
        for key in 1..100 {
            table.insert(&digest(key), entry(organization, key, false));
        }
        assert!(!Arc::ptr_eq(&old, &table.lines.load()), "it has grown");
        table.insert(&digest(0), entry(organization, 1_000, true));
        assert!(matches!(table.read(&old, tag), Read::Again), "its place is empty");
        table.insert(&digest(1), entry(organization, 2_000, true));
        assert!(matches!(table.read(&old, tag), Read::Again), "its place is another's");
        assert_eq!(table.with(&digest(0), value), Some(1_000));
    }

    #[test]
    fn readers_never_meet_a_half_written_line() {
        let (table, organization) = table();
        for key in 0..64 {
            table.insert(&digest(key), entry(organization, key, key % 2 == 0));
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut key = 0;
                    while !done.load(Relaxed) {
                        key = (key + 1) % 64;
                        // `value` asserts that every part belongs to one write.
                        assert!(table.with(&digest(key), value).is_some());
                    }
                });
            }
            for round in 0..200_000_u64 {
                table.insert(&digest(round % 64), entry(organization, round, round % 2 == 0));
                if round % 1_000 == 0 {
                    table.insert(&digest(1_000 + round), entry(organization, round, false)); // Grows it now and then.
                }
            }
            done.store(true, Relaxed);
        });
    }
}
