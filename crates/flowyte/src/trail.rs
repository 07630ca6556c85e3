//! What operators do about the audit trail: verify it, and take it as it is after a loss that is known.

use crate::config::Config;
use crate::serve::{open_folder, open_store};
use crate::upkeep::open_beside;
use anyhow::{Context, bail};
use flowyte_core::Timestamp;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_management::heads::{Behind, HeadState, Heads, Signer, Verification};
use flowyte_store::{Actor, AuditContext, Link, Store};
use flowyte_verifier::clock::{Clock, System};
use flowyte_verifier::pepper::Peppers;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The end of one organization's audit chain, signed: kept elsewhere, it shows later that nothing was cut off.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Head {
    organization_id: String,
    sequence: i64,
    hash: String,
    /// Ed25519 (RFC 8032) over the three members before it, divided by line feeds.
    signature: String,
}

impl Head {
    fn new(organization: OrganizationId, link: Link, signer: &Signer) -> Self {
        let (sequence, hash) = (link.sequence, hex::encode(link.hash));
        let mut head =
            Self { organization_id: organization.to_string(), sequence, hash, signature: String::new() };
        head.signature = signer.sign(&head.message());
        head
    }

    fn message(&self) -> String {
        format!("{}\n{}\n{}", self.organization_id, self.sequence, self.hash)
    }
}

/// What a verification of all chains has to say.
#[derive(Default)]
struct Report {
    said: String,
    broken: usize,
    heads: String,
}

impl Report {
    fn wrong(&mut self, line: std::fmt::Arguments<'_>) {
        self.broken += 1;
        self.said.push_str(&format!("{line}\n"));
    }
}

/// Recomputes every chain, and holds it against the heads that are kept. `against`: heads that were written earlier. `write`: where to
/// write the present ones.
pub async fn audit_verify(
    config: &Config,
    against: Option<&Path>,
    write: Option<&Path>,
) -> anyhow::Result<String> {
    let peppers = Peppers::read(&config.pepper_file)?;
    // Before the database: a server that runs goes on writing both.
    let heads = Heads::open(&config.audit_heads_file, &peppers);
    let store = open_beside(config).await?;
    let mut report = Report::default();
    verify_all(&*store, &heads, &mut report).await?;
    if let Some(file) = against {
        hold_against(&*store, &peppers, file, &mut report).await?;
    }
    store.close().await;
    let Report { mut said, broken, heads: ends } = report;
    if broken > 0 {
        bail!("audit chains that are broken, or do not have their kept head: {broken}\n{said}");
    }
    if let Some(file) = write {
        fs::write(file, ends).with_context(|| format!("{} can't be written", file.display()))?;
        let name = file.display();
        writeln!(said, "heads written to {name}; keep them where this machine can't change them")?;
    }
    let kept = config.audit_heads_file.display();
    match heads.digest() {
        Some(digest) => writeln!(said, "digest of the kept heads in {kept}: {digest}")?,
        None => writeln!(said, "no heads are kept in {kept} yet, so a cut end can't be seen")?,
    }
    writeln!(said, "public key of the heads: {}", heads.signer().public_key())?;
    Ok(said.trim_end().to_owned())
}

async fn verify_all(store: &dyn Store, heads: &Heads, report: &mut Report) -> anyhow::Result<()> {
    if let Some(why) = heads.refused() {
        let file = heads.path().display();
        report.wrong(format_args!("the kept heads in {file} are refused: {why}"));
    }
    let organizations = store.organizations().await?;
    for organization in &organizations {
        let found = heads.verify(store, *organization, true, System.now()).await?;
        let Verification { report: chain, head } = found;
        let events = chain.events;
        let kept = if head == HeadState::Differs { "; it does not have its kept head" } else { "" };
        match chain.broken_at {
            None => writeln!(report.said, "{organization}: {events} events, intact")?,
            Some(at) => report.wrong(format_args!("{organization}: {events} events, BROKEN at {at}{kept}")),
        }
        if let Some(end) = chain.head {
            let head = Head::new(*organization, end, heads.signer());
            writeln!(report.heads, "{}", serde_json::to_string(&head)?)?;
        }
    }
    let known = |it: &OrganizationId| organizations.binary_search(it).is_ok();
    for organization in heads.organizations().iter().filter(|it| !known(it)) {
        report.wrong(format_args!("{organization}: a head is kept of it, and it is gone"));
    }
    Ok(())
}

/// Heads that an earlier run wrote, or a copy of those that the server keeps.
async fn hold_against(
    store: &dyn Store,
    peppers: &Peppers,
    file: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).context("the earlier heads can't be read")?;
    if text.starts_with("{\"auditHeads\"") {
        let earlier = Heads::open(file, peppers);
        if let Some(why) = earlier.refused() {
            report.wrong(format_args!("the earlier heads are refused: {why}"));
        }
        for Behind { organization, from, head } in earlier.behind(store).await? {
            report.wrong(format_args!("{organization}: {}", lost(store, organization, from, head).await?));
        }
        return Ok(());
    }
    let signer = Signer::new(peppers);
    for line in text.lines() {
        let head: Head =
            serde_json::from_str(line).context("a line of the earlier heads is not a signed head")?;
        if let Some(wrong) = missing(store, &signer, &head).await? {
            report.wrong(format_args!("{}: {wrong}", head.organization_id));
        }
    }
    Ok(())
}

/// What is wrong with a head that was written earlier.
async fn missing(store: &dyn Store, signer: &Signer, head: &Head) -> anyhow::Result<Option<String>> {
    let signed = signer.signed_by(&head.message(), &head.signature).is_some();
    let organization = OrganizationId::parse(&head.organization_id).filter(|_| signed);
    let mut hash = [0; 32];
    let (Some(organization), Ok(())) = (organization, hex::decode_to_slice(&head.hash, &mut hash)) else {
        return Ok(Some("the earlier head is not signed by this installation".into()));
    };
    let link = Link { sequence: head.sequence, hash };
    match store.audit_differs(organization, link).await? {
        None => Ok(None),
        Some(from) => lost(store, organization, from, link).await.map(Some),
    }
}

async fn lost(
    store: &dyn Store,
    organization: OrganizationId,
    from: i64,
    head: Link,
) -> anyhow::Result<String> {
    let sequence = head.sequence;
    Ok(match store.audit_hash(organization, sequence).await? {
        Some(_) => format!("event {sequence} was changed"),
        None => format!(
            "event {sequence} was there and is gone: the end of the chain was cut; the first that is missing is {from}"
        ),
    })
}

/// Puts the kept heads aside and tells each chain that lost events what it lost.
pub async fn audit_accept(config: &Config) -> anyhow::Result<String> {
    let _lock = open_folder(&config.data)?;
    let store = open_store(config).await?;
    let peppers = Peppers::read(&config.pepper_file)?;
    let now = System.now().max(store.seen_at().await?);
    let heads = Heads::open(&config.audit_heads_file, &peppers);
    let behind = heads.behind(&*store).await?;
    let actor = Actor { kind: "system", id: String::new(), name: "operator".into() };
    let by = AuditContext { actor, address: String::new(), now };
    let mut said = tell(&*store, &behind, "an operator accepted it", &by).await?;
    store.close().await;
    said.push_str(&put_aside(config, Some(&heads), now)?.unwrap_or_else(|| "no heads were kept\n".into()));
    said.push_str("the server keeps the heads of the chains as they are now from the next start on");
    Ok(said)
}

/// Tells each chain that does not have its kept head what it lost; what was told, in lines.
pub async fn tell(
    store: &dyn Store,
    behind: &[Behind],
    why: &str,
    by: &AuditContext,
) -> anyhow::Result<String> {
    let mut said = String::new();
    for Behind { organization, from, head } in behind {
        let to = head.sequence;
        let told = match store.tell_rewound(*organization, *from, *head, why, by).await? {
            true => "and its audit log says so",
            false => "and there is no such organization any more",
        };
        writeln!(said, "{organization}: the events {from} to {to} of its audit log are gone, {told}")?;
    }
    Ok(said)
}

/// Keeps the heads that were kept under another name; what was done, as a line.
pub fn put_aside(config: &Config, heads: Option<&Heads>, now: Timestamp) -> anyhow::Result<Option<String>> {
    let file = &config.audit_heads_file;
    let aside = aside(file, now);
    match fs::rename(file, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        done => done.with_context(|| format!("{} can't be put aside", file.display()))?,
    }
    let refused = heads.and_then(Heads::refused).map(|why| format!("; they were refused: {why}"));
    let refused = refused.unwrap_or_default();
    Ok(Some(format!("the heads of audit chains that were kept are {} now{refused}\n", aside.display())))
}

fn aside(file: &Path, now: Timestamp) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!("-before-{}", now.as_millis()));
    name.into()
}
