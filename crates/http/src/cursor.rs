//! Where a list goes on: a position that only its own organization and query can use.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flowyte_core::Pepper;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_verifier::seal::keyed;
use subtle::ConstantTimeEq;

const TAG: usize = 12;

/// What a cursor is bound to: the organization, the operation and every other query parameter.
pub struct Scope<'a> {
    /// The organization that the list belongs to.
    pub organization: OrganizationId,
    /// The `operationId` of the list.
    pub list: &'a str,
    /// The path and its query, without `cursor`, `limit` and `page`.
    pub filter: &'a str,
}

fn tag(pepper: &Pepper, scope: &Scope<'_>, position: &[u8]) -> [u8; TAG] {
    let mut message = scope.organization.as_bytes().to_vec();
    for part in [scope.list.as_bytes(), scope.filter.as_bytes(), position] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    let mut short = [0; TAG];
    short.copy_from_slice(&keyed(pepper, "cursor", &message)[..TAG]);
    short
}

/// The text of a position.
pub fn write(pepper: &Pepper, scope: &Scope<'_>, position: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([position, &tag(pepper, scope, position)].concat())
}

/// The position in a text, if it was written for this scope.
pub fn read<const N: usize>(pepper: &Pepper, scope: &Scope<'_>, text: &str) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (position, sent) = bytes.split_at_checked(N)?;
    let position: [u8; N] = position.try_into().ok()?;
    bool::from(tag(pepper, scope, &position)[..].ct_eq(sent)).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bound_to_organization_list_and_filter() {
        let pepper = Pepper::new([1; 32]);
        let scope = |organization, list, filter| Scope {
            organization: OrganizationId::from_bytes([organization; 16]),
            list,
            filter,
        };
        let text = write(&pepper, &scope(1, "listAgents", "x=1"), &[9; 16]);
        assert_eq!(read(&pepper, &scope(1, "listAgents", "x=1"), &text), Some([9; 16]));
        for other in
            [scope(2, "listAgents", "x=1"), scope(1, "listKeys", "x=1"), scope(1, "listAgents", "x=2")]
        {
            assert_eq!(read::<16>(&pepper, &other, &text), None);
        }
        for text in ["", "AAAA", "!!", &text[1..]] {
            assert_eq!(read::<16>(&pepper, &scope(1, "listAgents", "x=1"), text), None);
        }
    }
}
