//! Scopes as bits: a grant is one `u128`, and "does it cover?" is two machine instructions.
//!
//! The names come from the contract; storage keeps names, so a bit number never outlives the process.

use std::fmt;

/// The number of one scope in its [`ScopeTable`], 0 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(u8);

impl Scope {
    /// The scope's position in its [`ScopeTable`], which is also its bit in a [`ScopeSet`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of scopes of one contract. Empty means none, never all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(u128);

impl ScopeSet {
    /// The set without any scope, which grants nothing.
    pub const EMPTY: Self = Self(0);

    /// The set as bits, by [`Scope::index`]; for tables.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The set with these bits, as [`ScopeSet::bits`] gave them.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// This set and one more.
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope.0)
    }

    /// Whether every scope of `required` is in this set.
    pub const fn covers(self, required: Self) -> bool {
        required.0 & !self.0 == 0
    }

    /// What `self` has and `other` lacks.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The scopes that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes that are in either set or in both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set has no scope.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `scope` is in the set.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 >> scope.0 & 1 == 1
    }

    /// How many scopes are in the set.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The scopes in table order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| Scope(left.trailing_zeros() as u8));
            left &= left.saturating_sub(1);
            next
        })
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|scope| scope.0)).finish()
    }
}

/// Who may ever hold a scope, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeInfo {
    /// The name that the contract and clients use, in the form `resource:action`.
    pub name: String,
    /// One sentence that tells people what the scope grants.
    pub description: String,
    /// A secret key may hold it.
    pub for_secret_keys: bool,
    /// A publishable key holds it.
    pub for_publishable_keys: bool,
    /// The roles that hold it; empty: no member has it.
    pub roles: Vec<crate::Role>,
}

/// The scopes of one contract, in its order. At most [`ScopeTable::MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeTable {
    scopes: Vec<ScopeInfo>,
    secret_keys: ScopeSet,
    publishable_keys: ScopeSet,
    roles: [ScopeSet; 4],
}

/// Why a list of scopes is not a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeTableError {
    /// A grant is one 128-bit word.
    TooMany,
    /// Two scopes have this name.
    Duplicate(String),
    /// Not `resource:action` in lower-case letters, digits and underscores.
    BadName(String),
}

impl fmt::Display for ScopeTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "more than {} scopes", ScopeTable::MAX),
            Self::Duplicate(name) => write!(f, "scope {name} is declared twice"),
            Self::BadName(name) => write!(f, "scope {name:?} is not resource:action"),
        }
    }
}

impl std::error::Error for ScopeTableError {}

impl ScopeTable {
    /// How many scopes a contract can have.
    pub const MAX: usize = 128;

    /// Builds the table; the order gives the bits.
    pub fn new(scopes: Vec<ScopeInfo>) -> Result<Self, ScopeTableError> {
        if scopes.len() > Self::MAX {
            return Err(ScopeTableError::TooMany);
        }
        let mut table = Self::default();
        for (index, info) in scopes.iter().enumerate() {
            if !is_scope_name(&info.name) {
                return Err(ScopeTableError::BadName(info.name.clone()));
            }
            if scopes[..index].iter().any(|earlier| earlier.name == info.name) {
                return Err(ScopeTableError::Duplicate(info.name.clone()));
            }
            let scope = Scope(index as u8);
            if info.for_secret_keys {
                table.secret_keys = table.secret_keys.with(scope);
            }
            if info.for_publishable_keys {
                table.publishable_keys = table.publishable_keys.with(scope);
            }
            for role in &info.roles {
                let set = &mut table.roles[*role as usize];
                *set = set.with(scope);
            }
        }
        table.scopes = scopes;
        Ok(table)
    }

    /// The scope with exactly this name.
    pub fn find(&self, name: &str) -> Option<Scope> {
        self.scopes.iter().position(|info| info.name == name).map(|index| Scope(index as u8))
    }

    /// The name of a scope; empty for a scope of another table.
    pub fn name(&self, scope: Scope) -> &str {
        self.scopes.get(scope.index()).map_or("", |info| &info.name)
    }

    /// The names in a set, in table order.
    pub fn names(&self, set: ScopeSet) -> Vec<&str> {
        set.iter().map(|scope| self.name(scope)).collect()
    }

    /// All scopes with what is known of them.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, &ScopeInfo)> {
        self.scopes.iter().enumerate().map(|(index, info)| (Scope(index as u8), info))
    }

    /// What a list of stored names grants. A name this contract does not know grants nothing.
    pub fn grant<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> ScopeSet {
        names.into_iter().filter_map(|name| self.find(name)).collect()
    }

    /// What a secret key may ever hold.
    pub fn secret_keys(&self) -> ScopeSet {
        self.secret_keys
    }

    /// What every publishable key holds.
    pub fn publishable_keys(&self) -> ScopeSet {
        self.publishable_keys
    }

    /// The scopes that a member with this role holds.
    pub fn role(&self, role: crate::Role) -> ScopeSet {
        self.roles[role as usize]
    }
}

/// `resource:action`: one colon, lower-case letters, digits, `_`, `-` and `.` on both sides.
fn is_scope_name(name: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.'))
    };
    name.split_once(':').is_some_and(|(resource, action)| word(resource) && word(action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn info(name: &str) -> ScopeInfo {
        ScopeInfo {
            name: name.into(),
            description: String::new(),
            for_secret_keys: true,
            for_publishable_keys: false,
            roles: vec![crate::Role::Owner],
        }
    }

    #[test]
    fn names_match_exactly() {
        let table = ScopeTable::new(vec![info("agents:read"), info("agents:readonly")]).unwrap();
        assert_eq!(table.find("agents:read").map(Scope::index), Some(0));
        for near in [
            "agents",
            "agents:",
            "agents:rea",
            "Agents:read",
            " agents:read",
            "agents:read:own",
            "*",
            "agents:*",
        ] {
            assert_eq!(table.find(near), None, "{near}");
        }
        assert_eq!(table.grant(["agents:read", "gone:read", "*"]).len(), 1);
    }

    #[test]
    fn bad_tables_are_refused() {
        assert!(matches!(ScopeTable::new(vec![info("*")]), Err(ScopeTableError::BadName(_))));
        assert!(matches!(
            ScopeTable::new(vec![info("a:b"), info("a:b")]),
            Err(ScopeTableError::Duplicate(_))
        ));
        let many = (0..129).map(|n| info(&format!("r{n}:read"))).collect();
        assert_eq!(ScopeTable::new(many), Err(ScopeTableError::TooMany));
    }

    proptest! {
        #[test]
        fn sets_agree_with_a_tree(a: BTreeSet<u8>, b: BTreeSet<u8>) {
            let fold = |s: &BTreeSet<u8>| s.iter().map(|n| Scope(n % 128)).collect::<ScopeSet>();
            let model = |s: &BTreeSet<u8>| s.iter().map(|n| n % 128).collect::<BTreeSet<u8>>();
            let (x, y, mx, my) = (fold(&a), fold(&b), model(&a), model(&b));
            prop_assert_eq!(x.covers(y), my.is_subset(&mx));
            prop_assert_eq!(x.len() as usize, mx.len());
            prop_assert_eq!(x.minus(y).iter().map(|s| s.0).collect::<Vec<_>>(), mx.difference(&my).copied().collect::<Vec<_>>());
            prop_assert_eq!(x.union(y).intersection(x), x);
        }
    }
}
