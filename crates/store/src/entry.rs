//! Ways in: what a password under an address opens, and links for those who lost theirs.
//!
//! An address may have several accounts, each with a password of its own. All of them share one salt, so that one hash tells
//! which of them a password belongs to, and an address without an account costs as much as one with many.

use crate::accounts::{MembershipRow, NewSession, UserRow, user};
use crate::audit::{AuditAction, AuditContext};
use crate::db::{ProductTx, ReadTx, SecurityTx, Store, id};
use crate::keys::NewSecret;
use crate::{StoreError, args};
use flowyte_core::id::{Id, MemberId, OrganizationId, UserId};
use flowyte_core::time::MINUTE;
use flowyte_core::{Digest, Role, Timestamp};
use serde_json::json;

/// How long a recovery link works.
pub const RECOVERY_LIFE: i64 = 30 * MINUTE;
/// Accounts of one address that are told apart for people.
const SHOWN: i64 = 20;

/// Parameters and salt of a password's hash, a PHC string: all of it but the hash itself.
pub(crate) fn salted(password_hash: &str) -> &str {
    password_hash.rsplit_once('$').map_or(password_hash, |(before, _)| before)
}

impl dyn Store + '_ {
    /// A password's hash of some account with this address, for its salt.
    pub async fn hash_under(&self, email: &str) -> Result<Option<String>, StoreError> {
        let mut tx = self.read().await?;
        let row = tx.opt("SELECT password_hash FROM users WHERE email = $1 LIMIT 1", args![email]).await?;
        row.map(|row| row.get("password_hash")).transpose()
    }

    /// The account with this address and the password of this hash; the oldest, should there be several.
    pub async fn user_by_password(
        &self,
        email: &str,
        password_hash: &str,
    ) -> Result<Option<UserRow>, StoreError> {
        let mut tx = self.read().await?;
        let row = tx
            .opt(
                "SELECT * FROM users WHERE email = $1 AND password_hash = $2 AND disabled = 0 ORDER BY id LIMIT 1",
                args![email, password_hash],
            )
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Whether another account has this one's address.
    pub async fn has_namesake(&self, who: &UserRow) -> Result<bool, StoreError> {
        let mut tx = self.read().await?;
        let sql = "SELECT id FROM users WHERE email = $1 AND id <> $2 LIMIT 1";
        Ok(tx.opt(sql, vec![who.email.as_str().into(), id(who.id)]).await?.is_some())
    }

    /// The accounts with this address, oldest first, each with its organizations.
    pub async fn accounts_of(&self, email: &str) -> Result<Vec<(UserRow, Vec<MembershipRow>)>, StoreError> {
        let mut tx = self.read().await?;
        let rows =
            tx.all("SELECT * FROM users WHERE email = $1 ORDER BY id LIMIT $2", args![email, SHOWN]).await?;
        let mut accounts = Vec::with_capacity(rows.len());
        for row in &rows {
            let user = user(row)?;
            let memberships = tx.memberships(user.id).await?;
            accounts.push((user, memberships));
        }
        Ok(accounts)
    }

    /// A link with which an account gets a new password, made by the operator.
    pub async fn offer_recovery(
        &self,
        who: UserId,
        secret: &NewSecret,
        by: &AuditContext,
    ) -> Result<Timestamp, StoreError> {
        let mut tx = self.security().await?;
        let row = tx.one("SELECT * FROM users WHERE id = $1", vec![id(who)]).await?;
        let expires_at = tx.put_recovery(who, secret, None, by.now).await?;
        tx.tell_everywhere(&user(&row)?, "user.recovery_link_made", by).await?;
        tx.commit().await?;
        Ok(expires_at)
    }

    /// The same, made by an owner for a member. Only for an account that acts in this organization alone: whoever uses the
    /// link acts as that account wherever it is a member. `maker`: who asks, and in which role.
    pub async fn offer_recovery_to(
        &self,
        organization: OrganizationId,
        member: MemberId,
        secret: &NewSecret,
        maker: (UserId, Role),
        by: &AuditContext,
    ) -> Result<Timestamp, StoreError> {
        let mut tx = self.security().await?;
        let (who, _, name) = tx.member(organization, member).await?;
        if maker.1 != Role::Owner {
            return Err(StoreError::NotHeld(
                "Only an owner makes a recovery link: whoever uses it acts as the member.".into(),
            ));
        }
        if who == maker.0 {
            return Err(StoreError::Conflict("You are signed in; change your own password under Sessions."));
        }
        if tx.memberships(who).await?.len() > 1 {
            return Err(StoreError::Conflict(
                "This person is a member of another organization too, so no single one may reset their password. \
                 Ask the operator of this server for a recovery link.",
            ));
        }
        let expires_at = tx.put_recovery(who, secret, Some((organization, maker.0)), by.now).await?;
        let deed = AuditAction {
            action: "member.recovery_link_made",
            kind: "member",
            id: member.to_string(),
            name: &name,
            details: json!({}),
        };
        tx.audit(organization, by, deed).await?;
        tx.commit().await?;
        Ok(expires_at)
    }

    /// The account that the recovery link with one of these digests belongs to, if it works now.
    pub async fn find_recovery(&self, digests: &[Digest], now: Timestamp) -> Result<UserRow, StoreError> {
        self.read().await?.standing_recovery(digests, now).await
    }

    /// Uses a recovery link up: a new password, every session of the person ends, and one opens. Where.
    pub async fn recover(
        &self,
        digests: &[Digest],
        password_hash: &str,
        session: &NewSession,
        by: &AuditContext,
    ) -> Result<OrganizationId, StoreError> {
        let mut tx = self.security().await?;
        let who = tx.standing_recovery(digests, by.now).await?;
        tx.queue("DELETE FROM recoveries WHERE user_id = $1", vec![id(who.id)]).await?;
        let organization = tx.memberships(who.id).await?.first().map(|it| it.organization);
        let organization = organization.ok_or(StoreError::Conflict(
            "You belong to no organization any more; ask a member for an invite.",
        ))?;
        tx.set_password(&who, password_hash, by.now).await?;
        tx.tell_everywhere(&who, "user.password_recovered", by).await?;
        tx.insert_session(organization, who.id, session, by).await?;
        tx.commit().await?;
        Ok(organization)
    }

    /// Forgets recovery links that are over.
    pub async fn forget_recoveries(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.batch().await?;
        tx.queue("DELETE FROM recoveries WHERE expires_at <= $1", args![now]).await?;
        tx.commit().await
    }
}

impl ReadTx {
    /// Like an invite, a link that an owner made stands only while they could make it.
    async fn standing_recovery(&mut self, digests: &[Digest], now: Timestamp) -> Result<UserRow, StoreError> {
        for digest in digests {
            let row = self
                .opt(
                    "SELECT u.*, r.organization_id, r.made_by FROM recoveries r JOIN users u ON u.id = r.user_id \
                     WHERE r.digest = $1 AND r.expires_at > $2 AND u.disabled = 0",
                    args![*digest, now],
                )
                .await?;
            let Some(row) = row else { continue };
            let who = user(&row)?;
            let stands = match (row.maybe_id("organization_id")?, row.maybe_id("made_by")?) {
                (Some(organization), Some(maker)) => {
                    self.recovery_stands(organization, maker, who.id).await?
                }
                _ => true,
            };
            return if stands { Ok(who) } else { Err(StoreError::NotFound) };
        }
        Err(StoreError::NotFound)
    }

    async fn recovery_stands(
        &mut self,
        organization: OrganizationId,
        maker: UserId,
        who: UserId,
    ) -> Result<bool, StoreError> {
        let owner = self
            .opt(
                "SELECT m.id FROM members m JOIN users u ON u.id = m.user_id AND u.disabled = 0 \
                 WHERE m.organization_id = $1 AND m.user_id = $2 AND m.role = 'owner'",
                vec![id(organization), id(maker)],
            )
            .await?;
        let memberships = self.memberships(who).await?;
        Ok(owner.is_some() && matches!(&memberships[..], [only] if only.organization == organization))
    }

    /// What makes one hash enough: the salt is the address's, and no other account of it has this password.
    pub(crate) async fn fits_address(
        &mut self,
        email: &str,
        password_hash: &str,
        who: Option<UserId>,
    ) -> Result<(), StoreError> {
        const TAKEN: StoreError =
            StoreError::Conflict("This password can't be used here; choose another one.");
        let sql = "SELECT id FROM users WHERE email = $1 AND password_hash = $2 LIMIT 1";
        let same = self.opt(sql, args![email, password_hash]).await?;
        if let Some(row) = same {
            return if who == Some(row.id("id")?) { Ok(()) } else { Err(TAKEN) };
        }
        let sql = "SELECT password_hash FROM users WHERE email = $1 LIMIT 1";
        match self.opt(sql, args![email]).await? {
            Some(row) if salted(&row.get::<String>("password_hash")?) != salted(password_hash) => {
                Err(StoreError::Conflict("Somebody else used this address at the same moment; try again."))
            }
            _ => Ok(()),
        }
    }
}

impl ProductTx {
    /// Writes something about a person into the audit log of each of their organizations.
    async fn tell_everywhere(
        &mut self,
        who: &UserRow,
        action: &str,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        for it in self.memberships(who.id).await? {
            let deed = AuditAction {
                action,
                kind: "user",
                id: who.id.to_string(),
                name: &who.name,
                details: json!({}),
            };
            self.audit(it.organization, by, deed).await?;
        }
        Ok(())
    }
}

impl SecurityTx {
    async fn put_recovery(
        &mut self,
        who: UserId,
        secret: &NewSecret,
        made: Option<(OrganizationId, UserId)>,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let expires_at = now.plus(RECOVERY_LIFE);
        self.queue("DELETE FROM recoveries WHERE user_id = $1", vec![id(who)]).await?;
        self.queue(
            "INSERT INTO recoveries (user_id, digest, pepper_id, organization_id, made_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            vec![
                id(who),
                secret.digest.into(),
                secret.pepper.into(),
                made.map(|it| *it.0.as_bytes()).into(),
                made.map(|it| *it.1.as_bytes()).into(),
                expires_at.into(),
            ],
        )
        .await?;
        Ok(expires_at)
    }

    /// A new password; every session of the person ends.
    pub(crate) async fn set_password(
        &mut self,
        who: &UserRow,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.fits_address(&who.email, password_hash, Some(who.id)).await?;
        self.queue(
            "UPDATE users SET password_hash = $2 WHERE id = $1",
            vec![id(who.id), password_hash.into()],
        )
        .await?;
        let open = self
            .all(
                "SELECT id, organization_id FROM sessions WHERE user_id = $1 AND ended_at IS NULL",
                vec![id(who.id)],
            )
            .await?;
        for row in open {
            self.end(row.id("organization_id")?, row.id("id")?, now).await?;
        }
        Ok(())
    }
}
