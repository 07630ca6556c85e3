//! `flowyte serve`: from a configuration to a server that answers, and back down again.

use crate::config::{Config, Database};
use crate::server::{Parts, Server};
use crate::supervisor::{Supervisor, stopped};
use crate::{GUESTS, ops, upkeep};
use anyhow::{Context, bail};
use flowyte_contract::Api;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_core::{CredentialKind, Environment};
use flowyte_doors::api;
use flowyte_http::accept;
use flowyte_http::wire::Limits;
use flowyte_management::heads::Heads;
use flowyte_store::sweep::{Old, in_parts};
use flowyte_store::{Sqlite, Store};
use flowyte_verifier::Verifier;
use flowyte_verifier::clock::{Clock, Entropy, Steady, System};
use flowyte_verifier::pepper::Peppers;
use flowyte_verifier::replica::Replica;
use hyper::service::service_fn;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, timeout};

#[cfg(feature = "product")]
mod services;

/// How often counters are written. A crash loses at most these.
const FLUSH: Duration = Duration::from_secs(1);
/// How often it is written down how late it is.
const KEEP_TIME: Duration = Duration::from_secs(10);
/// How often the heads of audit chains that have grown are kept.
const KEEP_HEADS: Duration = Duration::from_secs(60);
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(600);
/// The same for sessions, visitors' above all.
const VISITS: Duration = Duration::from_secs(30);
/// Rows that one transaction of a sweep writes.
const CHUNK: u32 = 500;
/// Descriptors that are not connections: database, files, listeners.
const SPARE_DESCRIPTORS: u64 = 200;

/// The documents of our own API: the plane's, and those of its guests.
pub const CONTRACTS: &[&str] = &[
    include_str!("../../../contracts/plane.yaml"),
    #[cfg(feature = "product")]
    include_str!("../../../contracts/product.yaml"),
];

/// Our own API, compiled; or everything that is wrong with it.
pub fn contract() -> anyhow::Result<Api> {
    flowyte_contract::compile_all(CONTRACTS).map_err(|wrong| {
        let lines: Vec<String> = wrong.iter().map(|it| format!("\n  {it}")).collect();
        anyhow::anyhow!("the contract can't be served:{}", lines.concat())
    })
}

/// The data folder, held by this process alone until the file is dropped.
pub fn open_folder(folder: &Path) -> anyhow::Result<File> {
    let name = folder.display();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("the data folder {name} can't be made; choose another with --data"))?;
    let lock = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join("lock"))
        .with_context(|| {
            format!("the data folder {name} can't be written; it must belong to the user who runs flowyte")
        })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => {
            bail!(
                "another flowyte uses the data folder {name}; stop it first, or choose another folder with --data"
            )
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("the data folder {name} can't be locked"))
        }
    }
}

/// The database of a configuration, brought up to date.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let store = match &config.database {
        Database::Sqlite => {
            let file = config.data.join("flowyte.db");
            Sqlite::open(&file, GUESTS)
                .await
                .with_context(|| format!("the database {} can't be opened", file.display()))?
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => flowyte_store::Postgres::connect(url, GUESTS)
            .await
            .context("the PostgreSQL database can't be used")?,
    };
    store.claim().await?;
    Ok(store)
}

/// The peppers of a configuration. A new installation gets its first one; an old one may not lose any.
pub async fn open_peppers(
    config: &Config,
    store: &dyn Store,
    entropy: &dyn Entropy,
) -> anyhow::Result<Peppers> {
    let used = store.pepper_ids().await?;
    let file = &config.pepper_file;
    if !file.exists() {
        if !used.is_empty() {
            bail!(
                "the pepper file {} is missing, and without it no stored credential can be verified; restore it from your \
                 backup. Starting with a new one would lock every key out",
                file.display()
            );
        }
        Peppers::add(file, entropy)?;
    }
    let peppers = Peppers::read(file)?;
    let missing: Vec<String> =
        used.iter().filter(|id| !peppers.iter().any(|it| it.id() == **id)).map(hex::encode).collect();
    if !missing.is_empty() {
        bail!(
            "the pepper file {} belongs to another installation or has lost a pepper: the database has credentials under {}; \
             restore the file that belongs to this database",
            file.display(),
            missing.join(", ")
        );
    }
    Ok(peppers)
}

/// Runs the server until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    keep_to_itself()?;
    outlive_signals()?;
    if !config.passed_over.is_empty() {
        let variables = config.passed_over.join(", ");
        tracing::info!(
            variables,
            "ignored variables that Kubernetes sets for Services; they are not settings"
        );
    }
    let max_connections = raise_descriptors(config.http.max_connections)?;
    let _lock = open_folder(&config.data)?;
    let server = assemble(config).await?;
    // Both addresses are taken before the set-up link is printed, and opened when its token is there.
    let public = Address::take(server.config.listen)?;
    let operations = Address::take(server.config.ops_listen)?;
    announce(&server).await?;
    // Before anybody can see that it is ready: who stops it then is heard.
    let stops = Stops::new()?;
    let (public, operations) = (public.open()?, operations.open()?);
    let mut tasks = start_tasks(&server, operations).await?;
    tracing::info!(
        listen = %public.local_addr()?,
        public_url = server.config.public_url,
        secrets = server.verifier.replica.len(),
        millis = begun.elapsed().as_millis() as u64,
        "ready"
    );
    tokio::select! {
        () = listen(&server, public, max_connections, stops) => {}
        ended = tasks.first_end() => {
            tracing::error!(ended, "stopping at once");
            bail!(ended)
        }
    }
    tasks.stop().await;
    flush(&server.verifier).await;
    note_time(&server.verifier).await;
    note_heads(&server.heads, &server.verifier).await;
    server.verifier.store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Opens what a configuration names, and puts the server together.
async fn assemble(config: Config) -> anyhow::Result<Arc<Server>> {
    let store = open_store(&config).await?;
    upkeep::refuse_unseen(&*store).await?;
    let peppers = open_peppers(&config, &*store, &System).await?;
    #[cfg(feature = "product")]
    let services = services::open(&config.product)?;
    let api = contract()?;
    let clock = Steady::new(System, store.seen_at().await?)?;
    let shared = config.database != Database::Sqlite;
    let scopes = api.contract.scopes().clone();
    let replica = Replica::load(store, scopes, config.verifier.organization_rpm, shared, clock.now()).await?;
    if shared {
        replica.renew().await?;
    }
    let parts = Parts {
        api,
        replica,
        peppers,
        clock: Box::new(clock),
        entropy: Box::new(System),
        #[cfg(feature = "product")]
        services,
    };
    Server::new(config, parts)
        .map_err(|wrong| anyhow::anyhow!("handlers and contract do not agree:\n  {}", wrong.join("\n  ")))
}

/// Everything that goes on beside the requests. Each has a task of its own, so that none waits for another.
async fn start_tasks(server: &Arc<Server>, operations: TcpListener) -> anyhow::Result<Supervisor> {
    let mut tasks = Supervisor::new();
    let verifier = &server.verifier;
    let stop = |tasks: &Supervisor| stopped(tasks.stop_signal());
    tasks.spawn("operations", ops::serve(server.clone(), operations, stop(&tasks)));
    tasks.spawn("usage", write_usage(verifier.clone(), stop(&tasks)));
    tasks.spawn("disk", watch_disk(verifier.clone(), stop(&tasks)));
    tasks.spawn("time", keep_time(verifier.clone(), stop(&tasks)));
    if server.config.database != Database::Sqlite {
        tasks.spawn("feed", follow(verifier.clone(), stop(&tasks)));
    }
    server.heads.announce(verifier.store.is_empty().await?);
    tasks.spawn("audit heads", keep_heads(server.heads.clone(), verifier.clone(), stop(&tasks)));
    tasks.spawn("housekeeping", keep_house(verifier.clone(), stop(&tasks)));
    #[cfg(feature = "product")]
    for (name, task) in server.product.tasks(&tasks.stop_signal()).await? {
        tasks.spawn(name, task);
    }
    Ok(tasks)
}

/// Serves the public listener until the process is told to stop.
async fn listen(server: &Arc<Server>, public: TcpListener, max_connections: usize, stops: Stops) {
    let config = &server.config;
    let limits = Limits {
        authority: config.authority().to_owned(),
        max_connections,
        connections_per_address: config
            .http
            .max_connections_per_address
            .unwrap_or((max_connections / 4).max(1)),
        proxies: config.http.trusted_proxies.clone(),
        drain: Duration::from_secs(config.http.drain_seconds.into()),
        ..Limits::default()
    };
    let refusing = server.door.clone();
    let refuse: accept::Refuse = Arc::new(move |refusal, peer| api::refuse(&refusing, refusal, peer));
    let door = server.door.clone();
    let service_for = move |peer| {
        let door = door.clone();
        service_fn(move |request| api::serve(door.clone(), request, peer))
    };
    accept::serve(public, limits, refuse, service_for, told_to_stop(server, stops)).await;
}

/// What the process writes is for its user alone, and its memory, which holds peppers, never becomes a core file.
fn keep_to_itself() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit, umask};
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("core files can't be switched off")
}

/// Signals that would end the process, with every answer under way, and that it only has to handle for that not to happen. A file
/// that may not grow (`ulimit -f`) is to fail the write as a full disk does. A terminal that closes, or somebody who takes SIGHUP
/// for "read the settings again", stops nothing; settings are read at the start alone.
fn outlive_signals() -> anyhow::Result<()> {
    for ignored in [rustix::process::Signal::XFSZ, rustix::process::Signal::HUP] {
        signal(SignalKind::from_raw(ignored.as_raw()))
            .map(drop)
            .with_context(|| format!("signal {} can't be handled", ignored.as_raw()))?;
    }
    Ok(())
}

/// An address that is this process's own, but not open yet: whoever connects is refused.
struct Address(SocketAddr, TcpSocket);

impl Address {
    fn take(address: SocketAddr) -> anyhow::Result<Self> {
        let take = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?; // A restart does not wait for connections of the process before.
            socket.bind(address)?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Self(address, take().with_context(|| Self::refused(address))?))
    }

    fn open(self) -> anyhow::Result<TcpListener> {
        self.1.listen(accept::BACKLOG).with_context(|| Self::refused(self.0))
    }

    fn refused(address: SocketAddr) -> String {
        format!("can't listen on {address}; choose another address with --listen or --ops-listen")
    }
}

/// What tells the process to stop.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either signal; the one that came.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Returns when the listener is to close. From the signal on it is not ready, and whoever sends requests here has the drain delay to
/// notice; a person at a terminal, and whoever signals again, does not wait for that.
async fn told_to_stop(server: &Server, mut stops: Stops) {
    let signal = stops.next().await;
    server.draining.store(true, Ordering::Release);
    let seconds = server.config.drain_delay;
    if signal == SignalKind::terminate() && seconds > 0 {
        tracing::info!(
            seconds,
            "stopping: no longer ready; new connections are accepted until drain_delay is over"
        );
        let _ = timeout(Duration::from_secs(seconds.into()), stops.next()).await;
    }
    tracing::info!("stopping: no new connections; answers in progress are finished");
}

/// Connections need descriptors; the soft limit is raised as far as the hard one allows.
fn raise_descriptors(wanted: usize) -> anyhow::Result<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + SPARE_DESCRIPTORS;
    let allowed = limit.maximum.unwrap_or(u64::MAX).min(needed.max(limit.current.unwrap_or(0)));
    setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum })
        .context("the limit on open files can't be set")?;
    if allowed < needed {
        let fits = allowed.saturating_sub(SPARE_DESCRIPTORS).max(1) as usize;
        tracing::warn!(
            wanted,
            fits,
            "the limit on open files allows fewer connections; raise it with ulimit -Hn"
        );
        return Ok(fits);
    }
    Ok(wanted)
}

/// The first start prints where to go; every start until then makes a new token, so that an old one can't lie around.
async fn announce(server: &Server) -> anyhow::Result<()> {
    let (file, verifier) = (server.config.setup_token_file(), &server.verifier);
    // Also after the set-up: a crash may have come between the token's use and its removal.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("the old set-up token can't be removed");
        }
        _ => {}
    }
    if !verifier.store.is_empty().await? {
        return Ok(());
    }
    let (secret, stored) = verifier.secret(CredentialKind::OneTime, Environment::Live)?;
    verifier.store.offer_setup(stored.digest).await?;
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    writeln!(out, "{}", secret.expose())?;
    let line = format!("Set up at {}/setup#token={}\n", verifier.public_url, secret.expose());
    // To standard output alone: it is for the person who started it, not for the log.
    std::io::stdout().write_all(line.as_bytes()).context("the set-up link can't be printed")
}

/// Writes down how late it is, so that time does not go back over a start. Each change of credentials does so too.
async fn keep_time(verifier: Arc<Verifier>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut ticks = interval(KEEP_TIME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => note_time(&verifier).await,
        }
    }
}

async fn note_time(verifier: &Verifier) {
    let now = verifier.now();
    if let Err(error) = verifier.store.note_time(now).await {
        tracing::warn!(%error, "the time could not be stored; it is tried again in ten seconds");
    }
}

/// Keeps the heads of audit chains apart from the database. Goes over all of them once, and then looks at those that have grown.
async fn keep_heads(heads: Arc<Heads>, verifier: Arc<Verifier>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut ticks = interval(KEEP_HEADS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unseen = Some(OrganizationId::from_bytes([0; 16])).filter(|_| heads.refused().is_none());
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => note_heads(&heads, &verifier).await,
            next = see_heads(&heads, &verifier, unseen), if unseen.is_some() => {
                unseen = next;
                if unseen.is_none() {
                    note_heads(&heads, &verifier).await;
                }
            }
        }
    }
}

/// Some of the chains that nobody has looked at since the start; where to go on. After an error it goes on with the next tick.
async fn see_heads(
    heads: &Arc<Heads>,
    verifier: &Verifier,
    after: Option<OrganizationId>,
) -> Option<OrganizationId> {
    match heads.catch_up(&*verifier.store, after?, verifier.now()).await {
        Ok(next) => next,
        Err(error) => {
            tracing::warn!(%error, "audit chains could not be looked at; it is tried again within a minute");
            std::future::pending().await
        }
    }
}

async fn note_heads(heads: &Arc<Heads>, verifier: &Verifier) {
    if let Err(error) = heads.keep(&*verifier.store, verifier.now()).await {
        let file = heads.path().display();
        tracing::warn!(%error, %file, "the heads of audit chains could not be kept; it is tried again in a minute");
    }
}

/// Ends when the disk can't be synced: what is in memory may then be more than a start would find.
async fn watch_disk(verifier: Arc<Verifier>, stopped: impl Future<Output = ()>) {
    tokio::select! {
        () = stopped => {}
        why = verifier.store.broken() => {
            tracing::error!(why, "the disk can't be synced, so nothing that is written from now on would be safe");
        }
    }
}

async fn write_usage(verifier: Arc<Verifier>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => flush(&verifier).await,
            () = verifier.usage.filling() => flush(&verifier).await,
        }
    }
}

async fn flush(verifier: &Verifier) {
    let name = |index: usize| verifier.contract.operations()[index].id.clone();
    if let Err(error) = verifier.usage.flush(&*verifier.store, name).await {
        tracing::warn!(%error, "usage could not be written; it is kept for the next time");
    }
}

/// Keeps the replica provably fresh where another process may write: a poll is the truth, a notification shortens it. Does nothing
/// else, so that no other work holds up the lease.
async fn follow(verifier: Arc<Verifier>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    loop {
        if let Err(error) = verifier.replica.renew().await {
            tracing::error!(%error, "this replica can't be brought up to date");
            return;
        }
        tokio::select! {
            () = &mut stopped => return,
            _ = timeout(flowyte_verifier::replica::POLL, verifier.store.woken()) => {}
        }
    }
}

/// Deletes rows that are over, again and again, until `stopped` completes.
async fn keep_house(verifier: Arc<Verifier>, stopped: impl Future<Output = ()>) {
    let mut sweeps = interval(SWEEP);
    let mut visits = interval(VISITS);
    for ticks in [&mut sweeps, &mut visits] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let work = async {
        loop {
            tokio::select! {
                _ = visits.tick() => sweep_visitors(&verifier).await,
                _ = sweeps.tick() => sweep(&verifier).await,
            }
        }
    };
    // A stop does not wait for a sweep: a transaction that is dropped never was.
    tokio::select! {
        () = stopped => {}
        () = work => {}
    }
}

async fn sweep_visitors(verifier: &Verifier) {
    verifier.replica.sweep(verifier.now()).await;
    let what = "ended sessions of visitors could not be deleted";
    in_parts(what, CHUNK, || verifier.store.sweep_visitors(verifier.now(), CHUNK)).await;
}

async fn sweep(verifier: &Verifier) {
    if let Err(error) = verifier.store.forget_superseded_usage(verifier.now()).await {
        tracing::warn!(%error, "usage of ended secrets could not be deleted; the next sweep tries again");
    }
    for old in Old::ALL {
        let what = "rows that are over could not be deleted";
        in_parts(what, CHUNK, || verifier.store.forget(old, verifier.now(), CHUNK)).await;
    }
    if let Err(error) = verifier.store.forget_recoveries(verifier.now()).await {
        tracing::warn!(%error, "old recovery links could not be deleted; the next sweep tries again");
    }
}
