//! Organizations, people, members, invites and sessions.

use crate::audit::{AuditAction, AuditContext};
use crate::db::{BatchTx, ReadTx, Row, SecurityTx, Store, id};
use crate::keys::NewSecret;
use crate::walk::{Found, Search, Walk, Window};
use crate::{Entity, Page, Revision, StoreError, args, tag, unchanged, walk_sql};
use flowyte_core::id::{Id, InviteId, MemberId, OrganizationId, SessionId, UserId};
use flowyte_core::time::DAY;
use flowyte_core::{Digest, Role, Timestamp};
use serde_json::json;

/// How long a session lives, used or not.
pub const SESSION_LIFE: i64 = 30 * DAY;
/// How long a session lives without use.
pub const SESSION_IDLE: i64 = DAY;
/// How long an invite can be accepted.
pub const INVITE_LIFE: i64 = 7 * DAY;
/// Sessions of one user that live at once; the oldest ends when another begins.
pub const SESSIONS_PER_USER: i64 = 50;

/// A person with a first organization.
#[derive(Clone)]
pub struct NewOwner {
    /// `org_…` of the organization that is made.
    pub organization: OrganizationId,
    /// What the organization is called.
    pub organization_name: String,
    /// `user_…` of the person, who is the same in all of their organizations.
    pub user: UserId,
    /// `mem_…` of their membership, as an owner.
    pub member: MemberId,
    /// The name that the person gave, which other members see.
    pub name: String,
    /// The e-mail address in lower case; several accounts may have the same one, each with a password of its own.
    pub email: String,
    /// Argon2id as a PHC string; the password itself is kept nowhere.
    pub password_hash: String,
}

/// A session that is about to be opened for somebody who has proved who they are.
#[derive(Clone)]
pub struct NewSession {
    /// `sess_…`, made at the sign-in.
    pub id: SessionId,
    /// What its cookie is found by.
    pub secret: NewSecret,
    /// When the person gave their password, from which its longest life counts.
    pub signed_in_at: Timestamp,
    /// The browser's `User-Agent`, shortened, so that people know their sessions apart.
    pub user_agent: String,
}

/// What a session of somebody who is known is opened on.
#[derive(Clone, Copy)]
pub enum Proof<'p> {
    /// Their password; this is its hash, which must still be theirs.
    Password(&'p str),
    /// A session of theirs that the new one takes the place of.
    Session(SessionId),
}

/// A person, as sign-in needs them.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// The id of the user.
    pub id: UserId,
    /// The e-mail address in lower case; several accounts may have the same one, each with a password of its own.
    pub email: String,
    /// The name that the person gave, which other members see.
    pub name: String,
    /// Argon2id as a PHC string; the password itself is kept nowhere.
    pub password_hash: String,
    /// Whether the account is disabled: it can't sign in, and its sessions are refused.
    pub disabled: bool,
}

/// A membership with the organization's name.
#[derive(Clone, Debug)]
pub struct MembershipRow {
    /// The organization that they are in.
    pub organization: OrganizationId,
    /// What its members call it.
    pub name: String,
    /// What the person may do there.
    pub role: Role,
}

/// An organization as its row has it.
#[derive(Clone, Debug)]
pub struct OrganizationRow {
    /// The id of the organization (`org_…`).
    pub id: OrganizationId,
    /// What its members call it.
    pub name: String,
    /// Longest life of a new key, days.
    pub max_ttl_days: Option<u32>,
    /// Whether a new secret key must have an expiry.
    pub require_expiry: bool,
    /// When the organization was made.
    pub created_at: Timestamp,
}

/// A session, as its owner sees it.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// `sess_…`, made at the sign-in.
    pub id: SessionId,
    /// When the session was opened. The password may have been given earlier, where it took the place of another session.
    pub created_at: Timestamp,
    /// When it was last used, as far as that was written down.
    pub last_seen_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// From where it was opened.
    pub address: String,
    /// The browser's `User-Agent`, shortened, so that people know their sessions apart.
    pub user_agent: String,
}

impl OrganizationRow {
    /// Which state the organization is in.
    pub fn tag(&self) -> String {
        tag(&json!([self.id.to_string(), self.name, self.max_ttl_days, self.require_expiry]))
    }
}

/// A member, as the organization sees them.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// `mem_…`, of this person in this organization.
    pub id: MemberId,
    /// The person who is the member; they are the same user in all of their organizations.
    pub user: UserId,
    /// The name that the person gave.
    pub name: String,
    /// The e-mail address in lower case.
    pub email: String,
    /// The role that decides which scopes the member's sessions have here.
    pub role: Role,
    /// The time at which they joined.
    pub joined_at: Timestamp,
    /// Last use of a session here.
    pub last_seen_at: Option<Timestamp>,
}

impl MemberRow {
    /// Which state the membership is in.
    pub fn tag(&self) -> String {
        member_tag(self.id, self.role)
    }
}

fn member_tag(member: MemberId, role: Role) -> String {
    tag(&json!([member.to_string(), role.as_str()]))
}

/// An invite that nobody used yet.
#[derive(Clone, Debug)]
pub struct InviteRow {
    /// The id of the invite (`inv_…`), which is not the secret in its link.
    pub id: InviteId,
    /// Where they are invited to.
    pub organization: OrganizationId,
    /// Lower-case address of whoever is invited.
    pub email: String,
    /// What they may do once they have accepted.
    pub role: Role,
    /// Who invites: id and name.
    pub invited_by: (UserId, String),
    /// When the invite was made.
    pub created_at: Timestamp,
    /// First instant at which it no longer works.
    pub expires_at: Timestamp,
}

/// Which roles may invite somebody; of these, only owners invite owners.
#[derive(Clone, Debug)]
pub struct Inviters(pub Vec<Role>);

impl Inviters {
    /// Whether a member in the role `maker` may invite somebody as `invited`.
    pub fn may(&self, maker: Role, invited: Role) -> bool {
        self.0.contains(&maker) && owners_make_owners(maker, [invited, invited]).is_ok()
    }
}

/// What to change of an organization; absent stays.
#[derive(Clone, Debug, Default)]
pub struct OrganizationChange {
    /// The name from now on; `None` leaves it.
    pub name: Option<String>,
    /// New longest life of a new key; `Some(None)` lifts it.
    pub max_ttl_days: Option<Option<u32>>,
    /// Whether new keys must expire.
    pub require_expiry: Option<bool>,
    /// Only if the organization still has this tag.
    pub expected: Option<String>,
}

/// The account with which somebody accepts an invite.
#[derive(Clone)]
pub enum Joining {
    /// Somebody who signs in already and has proved it.
    Known {
        /// The account (`user_…`) that becomes a member.
        user: UserId,
        /// The hash of the password that they gave, which must still be theirs.
        password_hash: String,
    },
    /// Somebody who has no account yet.
    New {
        /// The id (`user_…`) that the new account gets.
        user: UserId,
        /// The name that the person gave, which other members see.
        name: String,
        /// Argon2id as a PHC string.
        password_hash: String,
    },
}

fn role(row: &Row) -> Result<Role, StoreError> {
    let name: String = row.get("role")?;
    Role::parse(&name).ok_or_else(|| StoreError::Inconsistent(format!("role {name}")))
}

pub(crate) fn user(row: &Row) -> Result<UserRow, StoreError> {
    Ok(UserRow {
        id: row.id("id")?,
        email: row.get("email")?,
        name: row.get("name")?,
        password_hash: row.get("password_hash")?,
        disabled: row.flag("disabled")?,
    })
}

fn member_row(row: &Row) -> Result<MemberRow, StoreError> {
    Ok(MemberRow {
        id: row.id("id")?,
        user: row.id("user_id")?,
        name: row.get("name")?,
        email: row.get("email")?,
        role: role(row)?,
        joined_at: row.time("joined_at")?,
        last_seen_at: row.maybe_time("last_seen_at")?,
    })
}

fn invite_row(row: &Row) -> Result<InviteRow, StoreError> {
    Ok(InviteRow {
        id: row.id("id")?,
        organization: row.id("organization_id")?,
        email: row.get("email")?,
        role: role(row)?,
        invited_by: (row.id("invited_by")?, row.get("invited_by_name")?),
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

impl ReadTx {
    /// The open invite with one of these digests, if whoever made it could make it now: a maker who was removed, lowered or
    /// disabled invites nobody any more.
    async fn standing_invite(
        &mut self,
        digests: &[Digest],
        inviters: &Inviters,
        now: Timestamp,
    ) -> Result<InviteRow, StoreError> {
        for digest in digests {
            let row = self
                .opt(
                    "SELECT i.*, u.name AS invited_by_name, m.role AS maker_role FROM invites i \
                     JOIN users u ON u.id = i.invited_by AND u.disabled = 0 \
                     JOIN members m ON m.organization_id = i.organization_id AND m.user_id = i.invited_by \
                     WHERE i.digest = $1 AND i.closed_at IS NULL AND i.expires_at > $2",
                    args![*digest, now],
                )
                .await?;
            if let Some(row) = row {
                let (invite, maker) = (invite_row(&row)?, Role::parse(&row.get::<String>("maker_role")?));
                let stands = maker.is_some_and(|maker| inviters.may(maker, invite.role));
                return if stands { Ok(invite) } else { Err(StoreError::NotFound) };
            }
        }
        Err(StoreError::NotFound)
    }

    pub(crate) async fn organization(
        &mut self,
        organization: OrganizationId,
    ) -> Result<OrganizationRow, StoreError> {
        let row = self.one("SELECT * FROM organizations WHERE id = $1", vec![id(organization)]).await?;
        Ok(OrganizationRow {
            id: row.id("id")?,
            name: row.get("name")?,
            max_ttl_days: row.get::<Option<i64>>("max_ttl_days")?.map(|days| days as u32),
            require_expiry: row.flag("require_expiry")?,
            created_at: row.time("created_at")?,
        })
    }

    /// The organizations of a person, oldest membership first.
    pub(crate) async fn memberships(&mut self, who: UserId) -> Result<Vec<MembershipRow>, StoreError> {
        let rows = self
            .all(
                "SELECT o.id, o.name, m.role FROM members m JOIN organizations o ON o.id = m.organization_id \
                 WHERE m.user_id = $1 ORDER BY m.joined_at, m.id",
                vec![id(who)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(MembershipRow { organization: row.id("id")?, name: row.get("name")?, role: role(row)? })
            })
            .collect()
    }
}

impl BatchTx {
    /// Withdraws the open invites of a member that they can't make any more; `role`: their new one, if they stay. How many.
    async fn withdraw_invites_of(
        &mut self,
        organization: OrganizationId,
        maker: UserId,
        role: Option<Role>,
        inviters: &Inviters,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut withdrawn = 0;
        for invited in Role::ALL {
            if role.is_none_or(|role| !inviters.may(role, invited)) {
                withdrawn += self
                    .exec(
                        "UPDATE invites SET closed_at = $4 WHERE organization_id = $1 AND invited_by = $2 AND role = $3 \
                         AND closed_at IS NULL AND expires_at > $4",
                        vec![id(organization), id(maker), invited.as_str().into(), now.into()],
                    )
                    .await?;
            }
        }
        Ok(withdrawn)
    }
}

impl SecurityTx {
    async fn insert_user(
        &mut self,
        user: UserId,
        email: &str,
        name: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.fits_address(email, password_hash, None).await?;
        self.queue(
            "INSERT INTO users (id, handle, email, name, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
            vec![
                id(user),
                user.to_string().into(),
                email.into(),
                name.into(),
                password_hash.into(),
                now.into(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Hashing takes a while, and the password may have been changed since, which ended every session that it had opened.
    async fn still_has(&mut self, who: UserId, password_hash: &str) -> Result<(), StoreError> {
        let sql = "SELECT id FROM users WHERE id = $1 AND password_hash = $2 AND disabled = 0";
        match self.opt(sql, vec![id(who), password_hash.into()]).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Conflict(
                "The password of this account was changed while you signed in; sign in again with the new one.",
            )),
        }
    }

    async fn insert_organization(
        &mut self,
        organization: OrganizationId,
        name: &str,
        founder: UserId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.queue(
            "INSERT INTO organizations (id, name, created_at, founded_by) VALUES ($1, $2, $3, $4)",
            vec![id(organization), name.into(), now.into(), id(founder)],
        )
        .await?;
        self.change(organization, Entity::Organization, organization, now).await?;
        Ok(())
    }

    async fn insert_member(
        &mut self,
        organization: OrganizationId,
        member: MemberId,
        user: UserId,
        role: Role,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.queue(
            "INSERT INTO members (id, organization_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4, $5)",
            vec![id(member), id(organization), id(user), role.as_str().into(), now.into()],
        )
        .await?;
        self.change(organization, Entity::Member, user, now).await?;
        Ok(())
    }

    pub(crate) async fn insert_session(
        &mut self,
        organization: OrganizationId,
        user: UserId,
        new: &NewSession,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let oldest = self
            .all(
                "SELECT id, organization_id FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 \
                 ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET $3",
                args![*user.as_bytes(), by.now, SESSIONS_PER_USER - 1],
            )
            .await?;
        for row in oldest {
            self.end(row.id("organization_id")?, row.id("id")?, by.now).await?;
        }
        self.queue(
            "INSERT INTO sessions (id, organization_id, user_id, digest, pepper_id, created_at, signed_in_at, last_seen_at, \
             expires_at, address, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $6, $8, $9, $10)",
            vec![
                id(new.id),
                id(organization),
                id(user),
                new.secret.digest.into(),
                new.secret.pepper.into(),
                by.now.into(),
                new.signed_in_at.into(),
                new.signed_in_at.plus(SESSION_LIFE).into(),
                by.address.clone().into(),
                new.user_agent.clone().into(),
            ],
        )
        .await?;
        let deed = AuditAction {
            action: "session.started",
            kind: "session",
            id: new.id.to_string(),
            name: "",
            details: json!({"userAgent": new.user_agent}),
        };
        self.audit(organization, by, deed).await?;
        self.change(organization, Entity::Session, new.id, by.now).await?;
        Ok(())
    }

    pub(crate) async fn end(
        &mut self,
        organization: OrganizationId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        self.queue(
            "UPDATE sessions SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL",
            vec![id(session), now.into()],
        )
        .await?;
        self.change(organization, Entity::Session, session, now).await
    }
}

impl dyn Store + '_ {
    /// Whether nobody has set this installation up yet.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.glance().await?.opt("SELECT id FROM users LIMIT 1", vec![]).await?.is_none())
    }

    /// Keeps the digest of the set-up token; a later one replaces it.
    pub async fn offer_setup(&self, digest: Digest) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        tx.queue(
            "INSERT INTO settings (name, value) VALUES ('setup_token', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            args![hex::encode(digest.as_bytes())],
        )
        .await?;
        tx.commit().await
    }

    /// Whether this is the digest of the set-up token, and nobody has used it.
    pub async fn setup_stands(&self, digest: Digest) -> Result<bool, StoreError> {
        let mut tx = self.glance().await?;
        let sql = "SELECT value FROM settings WHERE name = 'setup_token' AND value = $1";
        Ok(tx.opt(sql, args![hex::encode(digest.as_bytes())]).await?.is_some())
    }

    /// Makes an organization with its owner and opens a session. With `setup`, the one-time token's digest must be the
    /// offered one, nobody may have come before, and the offer is gone.
    pub async fn found_organization(
        &self,
        new: &NewOwner,
        session: &NewSession,
        setup: Option<Digest>,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        if let Some(digest) = setup {
            let used = tx
                .exec(
                    "DELETE FROM settings WHERE name = 'setup_token' AND value = $1",
                    args![hex::encode(digest.as_bytes())],
                )
                .await?;
            let people: i64 = tx.one("SELECT COUNT(*) AS n FROM users", vec![]).await?.get("n")?;
            if used == 0 || people > 0 {
                return Err(StoreError::NotFound);
            }
        }
        tx.insert_user(new.user, &new.email, &new.name, &new.password_hash, by.now).await?;
        tx.insert_organization(new.organization, &new.organization_name, new.user, by.now).await?;
        tx.insert_member(new.organization, new.member, new.user, Role::Owner, by.now).await?;
        let action = if setup.is_some() { "setup.completed" } else { "organization.created" };
        let deed = AuditAction {
            action,
            kind: "organization",
            id: new.organization.to_string(),
            name: &new.organization_name,
            details: json!({}),
        };
        tx.audit(new.organization, by, deed).await?;
        tx.insert_session(new.organization, new.user, session, by).await?;
        tx.commit().await
    }

    /// A person by their id, in whichever organization.
    pub async fn user(&self, who: UserId) -> Result<UserRow, StoreError> {
        let row = self.glance().await?.one("SELECT * FROM users WHERE id = $1", vec![id(who)]).await?;
        user(&row)
    }

    /// The organizations of a person, oldest membership first.
    pub async fn memberships(&self, who: UserId) -> Result<Vec<MembershipRow>, StoreError> {
        self.glance().await?.memberships(who).await
    }

    /// The row of an organization; [`StoreError::NotFound`] where there is none.
    pub async fn organization(&self, organization: OrganizationId) -> Result<OrganizationRow, StoreError> {
        self.glance().await?.organization(organization).await
    }

    /// Renames an organization or sets its key policy. Keys that are there stay as they are.
    pub async fn change_organization(
        &self,
        organization: OrganizationId,
        change: &OrganizationChange,
        by: &AuditContext,
    ) -> Result<OrganizationRow, StoreError> {
        let mut tx = self.security().await?;
        let old = tx.organization(organization).await?;
        unchanged(change.expected.as_deref(), &old.tag())?;
        tx.queue(
            "UPDATE organizations SET name = $2, max_ttl_days = $3, require_expiry = $4 WHERE id = $1",
            vec![
                id(organization),
                change.name.clone().unwrap_or_else(|| old.name.clone()).into(),
                change.max_ttl_days.unwrap_or(old.max_ttl_days).into(),
                change.require_expiry.unwrap_or(old.require_expiry).into(),
            ],
        )
        .await?;
        let new = tx.organization(organization).await?;
        let details = json!({
            "renamedFrom": (old.name != new.name).then_some(&old.name),
            "maxTtlDays": new.max_ttl_days,
            "requireExpiry": new.require_expiry,
        });
        let deed = AuditAction {
            action: "organization.changed",
            kind: "organization",
            id: organization.to_string(),
            name: &new.name,
            details,
        };
        tx.audit(organization, by, deed).await?;
        tx.commit().await?;
        Ok(new)
    }

    /// Makes another organization of somebody who is known already, with them as its owner. `most`: how many a person may
    /// found, whether or not they are still a member: each begins with a free allowance. `password_hash`: of the password that
    /// they gave, where they have no session.
    #[allow(clippy::too_many_arguments)]
    pub async fn create_organization(
        &self,
        organization: OrganizationId,
        name: &str,
        owner: UserId,
        member: MemberId,
        password_hash: Option<&str>,
        most: u32,
        by: &AuditContext,
    ) -> Result<OrganizationRow, StoreError> {
        let mut tx = self.security().await?;
        if let Some(hash) = password_hash {
            tx.still_has(owner, hash).await?;
        }
        let row =
            tx.one("SELECT COUNT(*) AS n FROM organizations WHERE founded_by = $1", vec![id(owner)]).await?;
        if row.get::<i64>("n")? >= i64::from(most) {
            return Err(StoreError::Conflict(
                "You have created as many organizations as this server allows one person; the operator can raise the number.",
            ));
        }
        tx.insert_organization(organization, name, owner, by.now).await?;
        tx.insert_member(organization, member, owner, Role::Owner, by.now).await?;
        let deed = AuditAction {
            action: "organization.created",
            kind: "organization",
            id: organization.to_string(),
            name,
            details: json!({}),
        };
        tx.audit(organization, by, deed).await?;
        let row = tx.organization(organization).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Members who fit, newest first. `search`: part of the name or of the e-mail address, or the whole id of the membership.
    pub async fn members(
        &self,
        organization: OrganizationId,
        search: &Search,
        as_role: Option<Role>,
        window: Window,
    ) -> Result<Found<MemberRow>, StoreError> {
        let mut tx = self.read().await?;
        let sql = walk_sql!(
            window.order,
            from "members WHERE organization_id = $1",
            select "SELECT m.id, m.user_id, m.role, m.joined_at, u.name, u.email, (SELECT MAX(s.last_seen_at) FROM sessions s \
                 WHERE s.organization_id = m.organization_id AND s.user_id = m.user_id) AS last_seen_at \
                 FROM members m JOIN users u ON u.id = m.user_id WHERE m.organization_id = $1",
            id "m.id",
            filter "AND (CAST($5 AS TEXT) IS NULL OR m.role = $5) \
                 AND (CAST($6 AS TEXT) IS NULL OR m.id = $7 OR LOWER(u.name) LIKE $6 ESCAPE '\\' OR u.name LIKE $8 ESCAPE '\\' \
                 OR u.email LIKE $6 ESCAPE '\\')"
        );
        let searched = search.is_some() || as_role.is_some();
        let mut args = args![as_role.map(Role::as_str)];
        args.append(&mut search.args::<MemberId>());
        tx.walk(organization, &window, Walk { sql, list: vec![], filter: args, searched }, member_row).await
    }

    /// One membership of the organization.
    pub async fn member(
        &self,
        organization: OrganizationId,
        member: MemberId,
    ) -> Result<MemberRow, StoreError> {
        let mut tx = self.read().await?;
        let row = tx
            .one(
                "SELECT m.id, m.user_id, m.role, m.joined_at, u.name, u.email, (SELECT MAX(s.last_seen_at) FROM sessions s \
                 WHERE s.organization_id = m.organization_id AND s.user_id = m.user_id) AS last_seen_at \
                 FROM members m JOIN users u ON u.id = m.user_id WHERE m.organization_id = $1 AND m.id = $2",
                vec![id(organization), id(member)],
            )
            .await?;
        member_row(&row)
    }

    /// Invites that can be accepted, newest first.
    pub async fn invites(
        &self,
        organization: OrganizationId,
        page: Page,
        now: Timestamp,
    ) -> Result<Vec<InviteRow>, StoreError> {
        let rows = self
            .read()
            .await?
            .all(
                "SELECT i.*, u.name AS invited_by_name FROM invites i JOIN users u ON u.id = i.invited_by \
                 WHERE i.organization_id = $1 AND i.id < $2 AND i.closed_at IS NULL AND i.expires_at > $4 \
                 ORDER BY i.id DESC LIMIT $3",
                vec![id(organization), page.before_bytes(), page.probe().into(), now.into()],
            )
            .await?;
        rows.iter().map(invite_row).collect()
    }

    /// Withdraws an invite that nobody used.
    pub async fn withdraw_invite(
        &self,
        organization: OrganizationId,
        invite: InviteId,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        let row = tx
            .one(
                "SELECT email FROM invites WHERE organization_id = $1 AND id = $2 AND closed_at IS NULL",
                vec![id(organization), id(invite)],
            )
            .await?;
        tx.queue(
            "UPDATE invites SET closed_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(invite), by.now.into()],
        )
        .await?;
        let email: String = row.get("email")?;
        let deed = AuditAction {
            action: "member.invite_withdrawn",
            kind: "invite",
            id: invite.to_string(),
            name: &email,
            details: json!({}),
        };
        tx.audit(organization, by, deed).await?;
        tx.commit().await
    }

    /// The invite with one of these digests (the same token under each active pepper) that can be accepted now.
    pub async fn find_invite(
        &self,
        digests: &[Digest],
        inviters: &Inviters,
        now: Timestamp,
    ) -> Result<InviteRow, StoreError> {
        self.read().await?.standing_invite(digests, inviters, now).await
    }

    /// Uses an invite up: the person becomes a member, and a session opens.
    pub async fn accept_invite(
        &self,
        digests: &[Digest],
        inviters: &Inviters,
        joining: &Joining,
        member: MemberId,
        session: &NewSession,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        let invite = tx.standing_invite(digests, inviters, by.now).await?;
        tx.queue(
            "UPDATE invites SET closed_at = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(invite.organization), id(invite.id), by.now.into()],
        )
        .await?;
        let there = tx
            .opt(
                "SELECT m.id FROM members m JOIN users u ON u.id = m.user_id WHERE m.organization_id = $1 AND u.email = $2",
                vec![id(invite.organization), invite.email.clone().into()],
            )
            .await?;
        if there.is_some() {
            return Err(StoreError::Conflict("This person is a member already; sign in instead."));
        }
        let (who, name) = match joining {
            Joining::Known { user, password_hash } => {
                let row = tx
                    .one(
                        "SELECT name FROM users WHERE id = $1 AND email = $2 AND disabled = 0",
                        vec![id(*user), invite.email.clone().into()],
                    )
                    .await?;
                tx.still_has(*user, password_hash).await?;
                (*user, row.get("name")?)
            }
            Joining::New { user, name, password_hash } => {
                tx.insert_user(*user, &invite.email, name, password_hash, by.now).await?;
                (*user, name.clone())
            }
        };
        tx.insert_member(invite.organization, member, who, invite.role, by.now).await?;
        let deed = AuditAction {
            action: "member.joined",
            kind: "member",
            id: member.to_string(),
            name: &name,
            details: json!({"role": invite.role.as_str(), "invite": invite.id.to_string()}),
        };
        tx.audit(invite.organization, by, deed).await?;
        tx.insert_session(invite.organization, who, session, by).await?;
        tx.commit().await
    }

    /// Stores a new password, ends every session of the person and opens a new one where they are.
    pub async fn change_password(
        &self,
        organization: OrganizationId,
        who: UserId,
        password_hash: &str,
        session: &NewSession,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        let row = tx.one("SELECT * FROM users WHERE id = $1", vec![id(who)]).await?;
        tx.set_password(&user(&row)?, password_hash, by.now).await?;
        let deed = AuditAction {
            action: "user.password_changed",
            kind: "user",
            id: who.to_string(),
            name: &by.actor.name,
            details: json!({}),
        };
        tx.audit(organization, by, deed).await?;
        tx.insert_session(organization, who, session, by).await?;
        tx.commit().await
    }

    /// Opens a session of a member, on what they have proved; a session that it replaces ends in the same transaction. Not a
    /// member: not found.
    pub async fn open_session(
        &self,
        organization: OrganizationId,
        who: UserId,
        new: &NewSession,
        proof: Proof<'_>,
        by: &AuditContext,
    ) -> Result<(), StoreError> {
        let mut tx = self.security().await?;
        tx.one(
            "SELECT m.id FROM members m JOIN users u ON u.id = m.user_id \
             WHERE m.organization_id = $1 AND m.user_id = $2 AND u.disabled = 0",
            vec![id(organization), id(who)],
        )
        .await?;
        match proof {
            Proof::Password(hash) => tx.still_has(who, hash).await?,
            Proof::Session(old) => {
                let row = tx
                    .one(
                        "SELECT organization_id FROM sessions WHERE id = $1 AND user_id = $2",
                        vec![id(old), id(who)],
                    )
                    .await?;
                tx.end(row.id("organization_id")?, old, by.now).await?;
            }
        }
        tx.insert_session(organization, who, new, by).await?;
        tx.commit().await
    }

    /// The open sessions of a person, newest first.
    pub async fn sessions(&self, who: UserId, now: Timestamp) -> Result<Vec<SessionRow>, StoreError> {
        let rows = self
            .read()
            .await?
            .all(
                "SELECT * FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3 \
                 ORDER BY created_at DESC, id DESC",
                args![*who.as_bytes(), now, now.plus(-SESSION_IDLE)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(SessionRow {
                    id: row.id("id")?,
                    created_at: row.time("created_at")?,
                    last_seen_at: row.time("last_seen_at")?,
                    expires_at: row.time("expires_at")?,
                    address: row.get("address")?,
                    user_agent: row.get("user_agent")?,
                })
            })
            .collect()
    }

    /// Ends one of a person's sessions.
    pub async fn end_session(
        &self,
        who: UserId,
        session: SessionId,
        by: &AuditContext,
    ) -> Result<Revision, StoreError> {
        let mut tx = self.security().await?;
        let row = tx
            .one(
                "SELECT organization_id FROM sessions WHERE id = $1 AND user_id = $2 AND ended_at IS NULL",
                vec![id(session), id(who)],
            )
            .await?;
        let organization = row.id("organization_id")?;
        let deed = AuditAction {
            action: "session.ended",
            kind: "session",
            id: session.to_string(),
            name: "",
            details: json!({}),
        };
        tx.audit(organization, by, deed).await?;
        let revision = tx.end(organization, session, by.now).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// A member's role changes, and with it every session they have here and every invite that they made. The last owner
    /// stays one. `from`: the role of whoever asks for it. `expected`: only if the membership still has this tag.
    #[allow(clippy::too_many_arguments)]
    pub async fn change_role(
        &self,
        organization: OrganizationId,
        member: MemberId,
        new: Role,
        from: Role,
        expected: Option<&str>,
        inviters: &Inviters,
        by: &AuditContext,
    ) -> Result<Revision, StoreError> {
        let mut tx = self.security().await?;
        let (who, old, name) = tx.member(organization, member).await?;
        unchanged(expected, &member_tag(member, old))?;
        owners_make_owners(from, [old, new])?;
        if old == Role::Owner && new != Role::Owner {
            tx.another_owner(organization).await?;
        }
        tx.queue(
            "UPDATE members SET role = $3 WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(member), new.as_str().into()],
        )
        .await?;
        let withdrawn = tx.withdraw_invites_of(organization, who, Some(new), inviters, by.now).await?;
        let details = json!({"from": old.as_str(), "to": new.as_str(), "invitesWithdrawn": withdrawn});
        tx.audit(
            organization,
            by,
            AuditAction {
                action: "member.role_changed",
                kind: "member",
                id: member.to_string(),
                name: &name,
                details,
            },
        )
        .await?;
        let revision = tx.change(organization, Entity::Member, who, by.now).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// Removes a member, ends their sessions here and withdraws their invites. The last owner stays. `from`: the role of
    /// whoever asks for it.
    pub async fn remove_member(
        &self,
        organization: OrganizationId,
        member: MemberId,
        from: Role,
        inviters: &Inviters,
        by: &AuditContext,
    ) -> Result<Revision, StoreError> {
        let mut tx = self.security().await?;
        let (who, old, name) = tx.member(organization, member).await?;
        owners_make_owners(from, [old, old])?;
        if old == Role::Owner {
            tx.another_owner(organization).await?;
        }
        let sessions = tx
            .all(
                "SELECT id FROM sessions WHERE organization_id = $1 AND user_id = $2 AND ended_at IS NULL",
                vec![id(organization), id(who)],
            )
            .await?;
        for row in sessions {
            tx.end(organization, row.id("id")?, by.now).await?;
        }
        tx.queue(
            "DELETE FROM members WHERE organization_id = $1 AND id = $2",
            vec![id(organization), id(member)],
        )
        .await?;
        let withdrawn = tx.withdraw_invites_of(organization, who, None, inviters, by.now).await?;
        let deed = AuditAction {
            action: "member.removed",
            kind: "member",
            id: member.to_string(),
            name: &name,
            details: json!({"invitesWithdrawn": withdrawn}),
        };
        tx.audit(organization, by, deed).await?;
        let revision = tx.change(organization, Entity::Member, who, by.now).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// Invites somebody by e-mail; the token's digest is all that is kept of it.
    #[allow(clippy::too_many_arguments)]
    pub async fn invite(
        &self,
        organization: OrganizationId,
        invite: InviteId,
        email: &str,
        new: Role,
        secret: &NewSecret,
        (maker, from): (UserId, Role),
        by: &AuditContext,
    ) -> Result<Timestamp, StoreError> {
        owners_make_owners(from, [new, new])?;
        let mut tx = self.security().await?;
        let there = tx
            .opt(
                "SELECT m.id FROM members m JOIN users u ON u.id = m.user_id WHERE m.organization_id = $1 AND u.email = $2",
                vec![id(organization), email.into()],
            )
            .await?;
        if there.is_some() {
            return Err(StoreError::Conflict("This person is a member already."));
        }
        let expires_at = by.now.plus(INVITE_LIFE);
        tx.queue(
            "INSERT INTO invites (id, organization_id, email, role, digest, pepper_id, created_at, expires_at, invited_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            vec![
                id(invite),
                id(organization),
                email.into(),
                new.as_str().into(),
                secret.digest.into(),
                secret.pepper.into(),
                by.now.into(),
                expires_at.into(),
                id(maker),
            ],
        )
        .await?;
        let details = json!({"role": new.as_str()});
        tx.audit(
            organization,
            by,
            AuditAction {
                action: "member.invited",
                kind: "invite",
                id: invite.to_string(),
                name: email,
                details,
            },
        )
        .await?;
        tx.commit().await?;
        Ok(expires_at)
    }
}

impl ReadTx {
    pub(crate) async fn member(
        &mut self,
        organization: OrganizationId,
        member: MemberId,
    ) -> Result<(UserId, Role, String), StoreError> {
        let row = self
            .one(
                "SELECT m.user_id, m.role, u.name FROM members m JOIN users u ON u.id = m.user_id \
                 WHERE m.organization_id = $1 AND m.id = $2",
                vec![id(organization), id(member)],
            )
            .await?;
        Ok((row.id("user_id")?, role(&row)?, row.get("name")?))
    }

    async fn another_owner(&mut self, organization: OrganizationId) -> Result<(), StoreError> {
        let row = self
            .one(
                "SELECT COUNT(*) AS n FROM members WHERE organization_id = $1 AND role = 'owner'",
                vec![id(organization)],
            )
            .await?;
        match row.get::<i64>("n")? {
            0 | 1 => Err(StoreError::Conflict(
                "An organization needs an owner; make somebody else an owner first.",
            )),
            _ => Ok(()),
        }
    }
}

fn owners_make_owners(from: Role, roles: [Role; 2]) -> Result<(), StoreError> {
    if from != Role::Owner && roles.contains(&Role::Owner) { Err(StoreError::OwnersOnly) } else { Ok(()) }
}
