//! Roles: named sets of scopes, expanded by the contract's scope table before anything is decided.

use std::fmt;

/// A member's role in one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, and makes or unmakes owners.
    Owner = 0,
    /// Has the same scopes as an owner, but can't make or unmake owners.
    Admin = 1,
    /// Resources, keys and the audit log.
    Developer = 2,
    /// May read everything (every scope that ends in `:read`) and change nothing.
    Viewer = 3,
}

impl Role {
    /// All four roles, the one with the most rights first.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Developer, Self::Viewer];

    /// The name in JSON and storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }

    /// The role with exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
