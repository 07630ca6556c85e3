//! What operators do beside a running server or instead of one: back up, restore, rotate peppers.

use crate::GUESTS;
use crate::config::{Config, Database};
use crate::serve::{contract, open_folder, open_store};
use crate::trail;
use anyhow::{Context, bail};
use flowyte_core::{CredentialKind, Environment, Pepper, Timestamp};
use flowyte_management::heads::{Behind, Heads};
use flowyte_management::organization::recovery_page;
use flowyte_store::accounts::{MembershipRow, UserRow};
use flowyte_store::restore::Standing;
use flowyte_store::{Actor, AuditContext, Sqlite, Store};
use flowyte_verifier::clock::{Clock, System};
use flowyte_verifier::new_secret;
use flowyte_verifier::pepper::{Peppers, replace};
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DATABASE: &str = "flowyte.db";
const PEPPERS: &str = "pepper.key";
const HEADS: &str = "audit-heads";

/// The database, beside a server that may be running.
pub(crate) async fn open_beside(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    match &config.database {
        Database::Sqlite => {
            let file = config.data.join(DATABASE);
            Sqlite::open_beside(&file, GUESTS)
                .await
                .with_context(|| format!("the database {} can't be read", file.display()))
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => flowyte_store::Postgres::connect(url, GUESTS)
            .await
            .context("the PostgreSQL database can't be used"),
    }
}

/// Copies the database and the peppers to a new folder; a server that runs is not disturbed.
pub async fn backup(config: &Config, into: &Path) -> anyhow::Result<String> {
    if config.database != Database::Sqlite {
        bail!("a PostgreSQL database is backed up with pg_dump; copy {} too", config.pepper_file.display());
    }
    let name = into.display();
    fs::DirBuilder::new()
        .mode(0o700)
        .create(into)
        .with_context(|| format!("{name} can't be made; name a folder that is not there yet"))?;
    // Before the database, which goes on meanwhile: it has what they say.
    copy_heads(&config.audit_heads_file, &into.join(HEADS))?;
    let copy = into.join(DATABASE);
    Sqlite::backup(&config.data.join(DATABASE), &copy).await.context("the database can't be copied")?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
    fs::File::open(&copy)?.sync_all()?;
    let peppers = into.join(PEPPERS);
    fs::copy(&config.pepper_file, &peppers).context("the peppers can't be copied")?;
    fs::File::open(&peppers)?.sync_all()?;
    fs::File::open(into)?.sync_all()?;
    Ok(format!(
        "backed up to {name}. {PEPPERS} in it makes stolen digests searchable: keep the two files apart"
    ))
}

/// Copies an installation from SQLite to PostgreSQL, and says what is to be done next.
#[cfg(feature = "postgres")]
pub async fn migrate(from: &Path, to: &str) -> anyhow::Result<String> {
    let file = from.join(DATABASE);
    if !file.is_file() {
        bail!("{} is not the data folder of an installation on SQLite: it has no {DATABASE}", from.display());
    }
    let _lock = open_folder(from)?;
    let progress = |table: &str, rows: u64| {
        // Whoever closed standard error does not want to know.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{table}: {rows}\n"));
    };
    let moved = flowyte_store::moving::move_to_postgres(&file, to, GUESTS, &progress)
        .await
        .context("nothing was moved")?;
    let (tables, rows) = (moved.tables.len(), moved.tables.iter().map(|(_, rows)| rows).sum::<u64>());
    let folder = from.display();
    Ok(if moved.before {
        format!(
            "the PostgreSQL database has the same {rows} rows in {tables} tables already; nothing was written"
        )
    } else {
        format!(
            "copied {rows} rows in {tables} tables; number and digest of each table are the same there.\n\
             Start the server with the same data folder, which has the peppers, and the new database:\n  \
             FLOWYTE_DATABASE=postgres://… flowyte serve --data {folder}\n\
             {} is not used any more. Keep it until you are sure, and don't serve from both: what one revokes, the other accepts.",
            file.display()
        )
    })
}

/// Copies the heads of audit chains, where some are kept.
fn copy_heads(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::read(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        text => text
            .and_then(|it| replace(to, &it))
            .with_context(|| format!("the heads of audit chains can't be copied to {}", to.display())),
    }
}

/// What stands in the way of serving a database that was restored: said by `serve`, and by the restore itself.
const TO_ACKNOWLEDGE: &str = "look through what it grants with flowyte restore --list, take away what should not be there any more \
                              once it serves, and let it serve with flowyte restore --acknowledge";

/// Puts a backup in the place of the database, and takes away again what was taken away since it was made.
pub async fn restore(config: &Config, from: &Path) -> anyhow::Result<String> {
    if config.database != Database::Sqlite {
        bail!("a PostgreSQL database is restored with pg_restore");
    }
    let backup = from.join(DATABASE);
    if !backup.is_file() {
        bail!("{} is not a backup: it has no {DATABASE}", from.display());
    }
    let _lock = open_folder(&config.data)?;
    let present = config.data.join(DATABASE);
    let incoming = config.data.join("restoring.db");
    fs::copy(&backup, &incoming).context("the backup can't be copied into the data folder")?;
    let store = Sqlite::open(&incoming, GUESTS).await.context("the backup can't be opened")?;
    let before = match present.is_file() {
        false => None,
        true => Some(standing(&present, &*store).await?),
    };
    let actor = Actor { kind: "system", id: String::new(), name: "restore".into() };
    let by = AuditContext { actor, address: String::new(), now: System.now() };
    let api = contract()?;
    let holds = |role| api.contract.scopes().role(role);
    let (before, continues) = before.map_or((Standing::default(), None), |(it, goes_on)| (it, Some(goes_on)));
    let kept = KeptHeads::read(config, &*store).await?;
    let narrowed = store.narrow(&before, &holds, &by).await?;
    let rewound = trail::tell(&*store, &kept.behind, "a backup from before was restored", &by).await?;
    let why = match continues {
        Some(true) => None,
        Some(false) => Some("the database that it replaced does not continue its history"),
        None => Some("there was no database that it replaced"),
    };
    if let Some(why) = why {
        store.hold_restore(why).await?;
    }
    let grants = store.grants(by.now).await?;
    store.close().await;
    merge_peppers(config, &from.join(PEPPERS))?;
    let aside = config.data.join(format!("before-restore-{}.db", by.now.as_millis()));
    if continues.is_some() {
        fs::rename(&present, &aside)?;
    }
    for leftover in ["flowyte.db-wal", "flowyte.db-shm"] {
        // Closing the database removed them; what is there nevertheless belongs to the one put aside.
        let _ = fs::remove_file(config.data.join(leftover));
    }
    fs::rename(&incoming, &present)?;
    fs::File::open(&config.data)?.sync_all()?;
    let heads = kept.replace(config, &from.join(HEADS), by.now)?;
    let aside = continues.is_some().then_some(aside);
    Ok(Restored { narrowed, aside, rewound, heads, why, grants }.told(from)?)
}

/// What a restore has done.
struct Restored {
    /// What it took away again.
    narrowed: Vec<String>,
    /// Where the database is that it replaced.
    aside: Option<PathBuf>,
    /// What it did to audit chains and to their kept heads.
    rewound: String,
    heads: String,
    /// Why the database may not be served yet, and what it grants.
    why: Option<&'static str>,
    grants: Vec<String>,
}

impl Restored {
    /// The same for the operator. `from`: the backup.
    fn told(&self, from: &Path) -> Result<String, std::fmt::Error> {
        let mut said = format!("restored {}; every session was ended\n", from.display());
        match self.narrowed.len() {
            0 => said.push_str("nothing that the backup grants has been taken away since it was made\n"),
            n => writeln!(
                said,
                "{n} rights had been taken away since and were taken away again:\n  {}",
                self.narrowed.join("\n  ")
            )?,
        }
        if let Some(aside) = &self.aside {
            writeln!(said, "the replaced database is kept as {}", aside.display())?;
        }
        said.push_str(&self.rewound);
        said.push_str(&self.heads);
        if let Some(why) = self.why {
            writeln!(
                said,
                "{why}, so nobody can say what was taken away since the backup was made; the server does not serve until you have \
                 looked: {TO_ACKNOWLEDGE}. It grants:\n  {}",
                self.grants.join("\n  ")
            )?;
        }
        Ok(said.trim_end().to_owned())
    }
}

/// The heads of audit chains that were kept until a restore, which goes back behind them.
struct KeptHeads {
    /// `None` where the peppers that they are signed under are missing.
    heads: Option<Arc<Heads>>,
    behind: Vec<Behind>,
}

impl KeptHeads {
    /// `backup`: the database that is restored.
    async fn read(config: &Config, backup: &dyn Store) -> anyhow::Result<Self> {
        let peppers =
            if config.pepper_file.exists() { Some(Peppers::read(&config.pepper_file)?) } else { None };
        let heads = peppers.map(|it| Heads::open(&config.audit_heads_file, &it));
        let behind = match &heads {
            Some(heads) => heads.behind(backup).await?,
            None => Vec::new(),
        };
        Ok(Self { heads, behind })
    }

    /// Puts them aside, and those of the backup in their place; what was done, in lines.
    fn replace(&self, config: &Config, backup: &Path, now: Timestamp) -> anyhow::Result<String> {
        let aside = trail::put_aside(config, self.heads.as_deref(), now)?;
        copy_heads(backup, &config.audit_heads_file)?;
        Ok(aside.unwrap_or_default())
    }
}

/// What a database grants, and whether it continues the history of the backup that takes its place.
async fn standing(present: &Path, backup: &dyn Store) -> anyhow::Result<(Standing, bool)> {
    let store = Sqlite::open(present, GUESTS).await.context(
        "the present database can't be read; move it away to restore without it, and look through what the backup grants",
    )?;
    // Something that is held back says nothing of what it replaced.
    let continues = store.continues(backup).await? && store.restore_pending().await?.is_none();
    let standing = store.standing().await?;
    store.close().await;
    Ok((standing, continues))
}

/// What a restored database grants.
pub async fn restore_list(config: &Config) -> anyhow::Result<String> {
    let store = open_beside(config).await?;
    let mut lines = store.grants(System.now().max(store.seen_at().await?)).await?;
    lines.push(match store.restore_pending().await? {
        Some(why) => format!("not served yet: {why}; let it serve with flowyte restore --acknowledge"),
        None => "nothing waits to be acknowledged".to_owned(),
    });
    store.close().await;
    Ok(lines.join("\n"))
}

/// Lets a restored database be served.
pub async fn restore_acknowledge(config: &Config) -> anyhow::Result<String> {
    let _lock = open_folder(&config.data)?;
    let store = open_beside(config).await?;
    let pending = store.restore_pending().await?;
    store.acknowledge_restore().await?;
    store.close().await;
    Ok(match pending {
        Some(why) => format!("acknowledged ({why}); the server serves it from the next start on"),
        None => "nothing waited to be acknowledged".to_owned(),
    })
}

/// Refuses a database that its operator has not looked through yet.
pub async fn refuse_unseen(store: &dyn Store) -> anyhow::Result<()> {
    match store.restore_pending().await? {
        Some(why) => bail!("the database was restored from a backup, and {why}: {TO_ACKNOWLEDGE}"),
        None => Ok(()),
    }
}

/// Adds the backup's peppers that are not there behind those that are.
fn merge_peppers(config: &Config, from: &Path) -> anyhow::Result<()> {
    let file = &config.pepper_file;
    if !from.is_file() {
        return Ok(()); // Kept apart, as it should be.
    }
    if !file.exists() {
        fs::copy(from, file).with_context(|| format!("{} can't be written", file.display()))?;
        return Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?);
    }
    Ok(Peppers::merge(file, from)?)
}

/// Makes the clock's time count, where the database has seen a later one that was wrong.
pub async fn clock_reset(config: &Config) -> anyhow::Result<String> {
    let _lock = open_folder(&config.data)?;
    let store = open_store(config).await?;
    let (seen, now) = (store.seen_at().await?, System.now());
    store.reset_time(now).await?;
    store.close().await;
    Ok(match seen > now {
        true => format!(
            "time counts from {now}; the database had seen {seen}, and what expired only by that time works again"
        ),
        false => format!("the clock was not behind: it says {now}, and the database had seen {seen}"),
    })
}

/// A link with which somebody sets a new password. `account`: which one, where the address has several.
pub async fn recovery_link(config: &Config, email: &str, account: Option<&str>) -> anyhow::Result<String> {
    let store = open_beside(config).await?;
    let peppers = Peppers::read(&config.pepper_file)?;
    let accounts = store.accounts_of(&email.trim().to_lowercase()).await?;
    let said = |(user, all): &(UserRow, Vec<MembershipRow>)| {
        let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        let places = if names.is_empty() { "no organization".into() } else { names.join(", ") };
        format!("{}  {} in {places}", user.id, user.name)
    };
    let chosen: Vec<_> =
        accounts.iter().filter(|(user, _)| account.is_none_or(|it| it == user.id.to_string())).collect();
    let (user, memberships) = match &chosen[..] {
        [] => bail!(
            "no account signs in with {email}{}",
            account.map(|it| format!(" as {it}")).unwrap_or_default()
        ),
        [one] => one,
        several => {
            let lines: Vec<String> = several.iter().map(|it| format!("\n  {}", said(it))).collect();
            bail!("{email} has several accounts; name one with --account:{}", lines.concat())
        }
    };
    if memberships.is_empty() || user.disabled {
        bail!("the account is disabled or belongs to no organization, so it can't sign in");
    }
    let (secret, stored) = new_secret(
        &config.verifier.brand,
        peppers.current(),
        CredentialKind::OneTime,
        Environment::Live,
        &System,
    )?;
    let actor = Actor { kind: "system", id: String::new(), name: "operator".into() };
    // The server's time, which may be ahead of a clock that was set back.
    let now = System.now().max(store.seen_at().await?);
    let by = AuditContext { actor, address: String::new(), now };
    store.offer_recovery(user.id, &stored, &by).await?;
    store.close().await;
    let link = recovery_page(&config.public_url, &secret);
    Ok(format!(
        "{link}\nfor {}; works once, for 30 minutes. Hand it over in person or by a way that you trust",
        said(&(user.clone(), memberships.clone()))
    ))
}

/// Makes a new pepper the current one. The old ones go on finding what they made.
pub fn pepper_rotate(config: &Config) -> anyhow::Result<String> {
    let _lock = open_folder(&config.data)?;
    let new = Peppers::add(&config.pepper_file, &System)?;
    Ok(format!(
        "pepper {} is the current one from the next start on; credentials made before it go on working under the old ones",
        hex::encode(new.id())
    ))
}

/// The peppers, the current one first, and whether anything depends on each.
pub async fn pepper_list(config: &Config) -> anyhow::Result<String> {
    let used = open_beside(config).await?.pepper_ids().await?;
    let peppers = Peppers::read(&config.pepper_file)?;
    let line = |(index, pepper): (usize, &Pepper)| {
        let current = if index == 0 { ", current" } else { "" };
        let in_use = if used.contains(&pepper.id()) { "in use" } else { "unused" };
        format!("{} {in_use}{current}", hex::encode(pepper.id()))
    };
    Ok(peppers.iter().enumerate().map(line).collect::<Vec<_>>().join("\n"))
}

/// Takes a pepper away that nothing depends on.
pub async fn pepper_retire(config: &Config, id: &str) -> anyhow::Result<String> {
    let _lock = open_folder(&config.data)?;
    let store = open_beside(config).await?;
    let peppers = Peppers::read(&config.pepper_file)?;
    let Some(pepper) = peppers.iter().find(|it| hex::encode(it.id()) == id) else {
        bail!("there is no pepper {id}; see flowyte pepper list")
    };
    if pepper.id() == peppers.current().id() {
        bail!("{id} is the current pepper; rotate first");
    }
    if store.pepper_ids().await?.contains(&pepper.id()) {
        bail!("credentials still depend on {id}; rotate or revoke them, and let its sessions end, first");
    }
    // What it signed is signed anew while that can still be checked.
    Heads::open(&config.audit_heads_file, &peppers)
        .write(System.now())
        .context("the heads of audit chains can't be signed anew")?;
    Peppers::retire(&config.pepper_file, pepper.id())?;
    Ok(format!("pepper {id} is gone"))
}
