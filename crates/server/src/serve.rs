//! `flowyte serve`: from a configuration to a server that answers, and back down again.

use crate::app::App;
use crate::clock::{Clock, Entropy, Steady, System};
use crate::config::{Carrier, Config, Database, Payment};
use crate::pepper::Peppers;
use crate::reading::Apart;
use crate::replica::Replica;
use crate::wire::Limits;
use crate::{accept, gate, ops, upkeep};
use anyhow::{Context, bail};
use flowyte_contract::Api;
use flowyte_core::{CredentialKind, Environment};
use flowyte_platform::answerer::{Answerers, Embedded};
use flowyte_platform::billing::Billing;
use flowyte_platform::carrier::{self, Carriers, Twilio, TwilioSettings};
use flowyte_platform::conversations::Conversations;
use flowyte_platform::knowledge::Knowledge;
use flowyte_platform::knowledge::ingest::{self, Tools};
use flowyte_platform::model::{self, Model};
use flowyte_platform::numbers::Numbers;
use flowyte_platform::payment::{self, Payments, Stripe, StripeSettings};
use flowyte_platform::uploads::Uploads;
use flowyte_store::{Postgres, Sqlite, Store, StoreError};
use hyper::service::service_fn;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use zeroize::Zeroizing;

/// Our own API.
const CONTRACT: &str = include_str!("../../../contracts/flowyte.yaml");
/// How often counters are written. A crash loses at most these.
const FLUSH: Duration = Duration::from_secs(1);
/// How often it is written down how late it is.
const KEEP_TIME: Duration = Duration::from_secs(10);
/// Knowledge sources that are read at once.
const READERS: usize = 2;
/// How often somebody looks for sources that are due without having been woken.
const LOOK: Duration = Duration::from_secs(5);
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(600);
/// The same for sessions, visitors' above all.
const VISITS: Duration = Duration::from_secs(30);
/// Rows that one transaction of a sweep writes, how many such transactions one sweep makes, and how long it leaves others alone.
const CHUNK: u32 = 500;
/// The same for parts of files, which are long.
const FILE_PARTS: u32 = 20;
const MOST_CHUNKS: u32 = 100;
const CHUNK_PAUSE: Duration = Duration::from_millis(20);
/// Descriptors that are not connections: database, files, listeners.
const SPARE_DESCRIPTORS: u64 = 200;

/// Our own API, compiled; or everything that is wrong with it.
pub fn contract() -> anyhow::Result<Api> {
    flowyte_contract::compile(CONTRACT).map_err(|wrong| {
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
            Sqlite::open(&file)
                .await
                .with_context(|| format!("the database {} can't be opened", file.display()))?
        }
        Database::Postgres(url) => {
            Postgres::connect(url).await.context("the PostgreSQL database can't be used")?
        }
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

/// What one file holds: a secret on one line, for this user's eyes alone.
fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let name = path.display();
    let mode = fs::metadata(path).with_context(|| format!("{name} can't be read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{name} can be read by others; run: chmod 600 {name}");
    }
    let text = Zeroizing::new(fs::read_to_string(path).with_context(|| format!("{name} can't be read"))?);
    let secret = Zeroizing::new(text.trim().to_owned());
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{name} must hold one secret, without spaces");
    }
    Ok(secret)
}

/// Who takes payments.
fn open_payments(config: &Config) -> anyhow::Result<Payments> {
    Ok(match &config.payment {
        Payment::Sandbox => Payments::new(Box::new(payment::Sandbox)),
        Payment::Stripe { url, key_file, webhook_secret_file } => {
            let settings = StripeSettings {
                url: url.clone(),
                key: read_secret(key_file)?,
                webhook_secret: read_secret(webhook_secret_file)?,
            };
            Payments::new(Box::new(Stripe::new(settings).context("the payment service can't be used")?))
        }
    })
}

/// Who sells telephone numbers.
fn open_carriers(config: &Config) -> anyhow::Result<Carriers> {
    Ok(match &config.carrier {
        Carrier::Sandbox => Carriers::new(Box::new(carrier::Sandbox)),
        Carrier::Twilio { url, account, token_file } => {
            if config.payment == Payment::Sandbox {
                tracing::warn!(
                    "payments are a sandbox and the carrier is real: numbers that cost real money are paid with invented money"
                );
            }
            let token = read_secret(token_file)?;
            let settings = TwilioSettings { url: url.clone(), account: account.clone(), token };
            Carriers::new(Box::new(Twilio::new(settings).context("the carrier can't be used")?))
        }
    })
}

/// Who answers.
fn open_answerers(config: &Config) -> anyhow::Result<Answerers> {
    let Some(model) = &config.model else { return Ok(Answerers::new(Box::new(Embedded))) };
    let settings = model::Settings {
        url: model.url.clone(),
        name: model.name.clone(),
        key: model.key_file.as_deref().map(read_secret).transpose()?,
        overall: Duration::from_secs(model.timeout_seconds.into()),
        idle: Duration::from_secs(model.idle_seconds.into()),
    };
    Ok(Answerers::new(Box::new(Model::new(settings).context("the model can't be used")?)))
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
    let max_connections = raise_descriptors(config.max_connections)?;
    let _lock = open_folder(&config.data)?;
    let store = open_store(&config).await?;
    upkeep::refuse_unseen(&*store).await?;
    let peppers = open_peppers(&config, &*store, &System).await?;
    let payments = open_payments(&config)?;
    let carriers = open_carriers(&config)?;
    let answerers = open_answerers(&config)?;
    let api = contract()?;
    let clock = Steady::new(System, store.seen_at().await?)?;
    let now = clock.now();
    let shared = matches!(config.database, Database::Postgres(_));
    let scopes = api.contract().scopes().clone();
    let replica = Replica::load(store.clone(), scopes, config.organization_rpm, shared, now).await?;
    if shared {
        replica.renew().await;
    }
    let app = App::new(
        config,
        api,
        store.clone(),
        replica,
        peppers,
        answerers,
        payments,
        carriers,
        Box::new(clock),
        Box::new(System),
    )
    .map_err(|wrong| anyhow::anyhow!("handlers and contract do not agree:\n  {}", wrong.join("\n  ")))?;
    // Both addresses are taken before the set-up link is printed, and opened when its token is there.
    let public = Address::take(app.config.listen)?;
    let operations = Address::take(app.config.ops_listen)?;
    announce(&app).await?;
    // Before anybody can see that it is ready: who stops it then is heard.
    let stops = Stops::new()?;
    let (public, operations) = (public.open()?, operations.open()?);
    let (stop, stopping) = watch::channel(false);
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is a stop too.
        let _ = stopping.wait_for(|it| *it).await;
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(ops::serve(app.clone(), operations, stopped(stopping.clone())));
    tasks.spawn(write_usage(app.clone(), stopped(stopping.clone())));
    tasks.spawn(keep_time(app.clone(), stopped(stopping.clone())));
    if shared {
        tasks.spawn(follow(app.clone(), stopped(stopping.clone())));
    }
    tasks.spawn(keep_house(app.clone(), stopped(stopping.clone())));
    tasks.spawn(passes(app.clone(), look_after_billing, stopped(stopping.clone())));
    tasks.spawn(passes(app.clone(), look_after_numbers, stopped(stopping.clone())));
    Knowledge(&*store).release().await?;
    for _ in 0..READERS {
        tasks.spawn(read_sources(app.clone(), stopped(stopping.clone())));
    }

    tracing::info!(
        listen = %public.local_addr()?,
        public_url = app.config.public_url,
        secrets = app.replica.len(),
        millis = begun.elapsed().as_millis() as u64,
        "ready"
    );
    let limits = Limits {
        authority: app.config.authority().to_owned(),
        max_connections,
        connections_per_address: app
            .config
            .max_connections_per_address
            .unwrap_or((max_connections / 4).max(1)),
        proxies: app.config.trusted_proxies.clone(),
        drain: Duration::from_secs(app.config.drain_seconds.into()),
        ..Limits::default()
    };
    let refusing = app.clone();
    let refuse: accept::Refuse = Arc::new(move |refusal, peer| gate::refuse(&refusing, refusal, peer));
    let serving = app.clone();
    let service_for = move |peer| {
        let app = serving.clone();
        service_fn(move |request| gate::serve(app.clone(), request, peer))
    };
    accept::serve(public, limits, refuse, service_for, told_to_stop(&app, stops)).await;
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    flush(&app).await;
    note_time(&app).await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
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

    /// Which of them came.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Returns when the listener is to close. From the signal on it is not ready, and whoever sends requests here has the drain delay to
/// notice; a person at a terminal, and whoever signals again, does not wait for that.
async fn told_to_stop(app: &App, mut stops: Stops) {
    let signal = stops.next().await;
    app.draining.store(true, Ordering::Release);
    let seconds = app.config.drain_delay;
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
async fn announce(app: &App) -> anyhow::Result<()> {
    let file = app.config.data.join("setup-token");
    // Also after the set-up: a crash may have come between the token's use and its removal.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("the old set-up token can't be removed");
        }
        _ => {}
    }
    if !app.store.is_empty().await? {
        return Ok(());
    }
    let (secret, stored) = app.secret(CredentialKind::OneTime, Environment::Live)?;
    app.store.offer_setup(stored.digest).await?;
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    writeln!(out, "{}", secret.expose())?;
    let line = format!("Set up at {}/setup#token={}\n", app.config.public_url, secret.expose());
    // To standard output alone: it is for the person who started it, not for the log.
    std::io::stdout().write_all(line.as_bytes()).context("the set-up link can't be printed")
}

/// Writes down how late it is, so that time does not go back over a start. Each change of credentials does so too.
async fn keep_time(app: Arc<App>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut ticks = interval(KEEP_TIME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => note_time(&app).await,
        }
    }
}

async fn note_time(app: &App) {
    let now = app.now();
    if let Err(error) = app.store.note_time(now).await {
        tracing::warn!(%error, "the time could not be stored; it is tried again in ten seconds");
    }
}

async fn write_usage(app: Arc<App>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => flush(&app).await,
            () = app.usage.filling() => flush(&app).await,
        }
    }
}

/// Does what is due without anybody asking: payments, plans, numbers.
async fn look_after_billing(app: Arc<App>) {
    let billing = Billing { store: &*app.store, payments: &app.payments };
    if let Err(error) = billing.look_after(app.now()).await {
        tracing::warn!(%error, "payments and plans that are due could not be processed; the next pass tries again");
    }
}

async fn look_after_numbers(app: Arc<App>) {
    let numbers = Numbers { store: &*app.store, carriers: &app.carriers };
    if let Err(error) = numbers.look_after(app.now()).await {
        tracing::warn!(%error, "purchases and rents of numbers that are due could not be processed; the next pass tries again");
    }
}

/// Passes one after the other, each in a task of its own: a stop does not wait for a service that does not answer, and what a pass
/// leaves is found by the next one, as after a crash.
async fn passes<F: Future<Output = ()> + Send + 'static>(
    app: Arc<App>,
    pass: fn(Arc<App>) -> F,
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = std::pin::pin!(stopped);
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = ticks.tick() => {
                let mut running = tokio::spawn(pass(app.clone()));
                tokio::select! {
                    () = &mut stopped => return,
                    _ = &mut running => {}
                }
            }
        }
    }
}

async fn flush(app: &App) {
    let name = |index: usize| app.api.contract().operations()[index].id.clone();
    if let Err(error) = app.usage.flush(&*app.store, name).await {
        tracing::warn!(%error, "usage could not be written; it is kept for the next time");
    }
}

/// Reads knowledge sources, one after the other, as they are due.
async fn read_sources(app: Arc<App>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let knowledge = Knowledge(&*app.store);
    loop {
        let now = app.now();
        let job = match knowledge.take(now, now.plus(ingest::LEASE)).await {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(%error, "the list of knowledge sources to read could not be read; it is tried again");
                None
            }
        };
        let Some(job) = job else {
            tokio::select! {
                () = &mut stopped => return,
                () = app.due.notified() => continue,
                () = tokio::time::sleep(LOOK) => continue,
            }
        };
        // Another reader may have something to do as well.
        app.due.notify_one();
        // In a task of its own: a stop does not wait for a page that is being fetched, and what is written is never cut
        // short. A source that was not finished is still due, and the next start begins it anew.
        let (reading, source) = (app.clone(), job.source.id);
        let work = tokio::spawn(async move {
            let tools = Tools { extractor: &Apart, outbound: &reading.outbound };
            ingest::run(&*reading.store, &tools, &job, || reading.now()).await
        });
        tokio::select! {
            () = &mut stopped => return,
            done = work => match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, %source, "a knowledge source could not be written; it stays due"),
                // What a panic says may hold what was read.
                Err(_) => tracing::error!(%source, "reading a knowledge source ended unexpectedly"),
            },
        }
    }
}

/// Keeps the replica provably fresh where another process may write: a poll is the truth, a notification shortens it. Does nothing
/// else, so that no other work holds up the lease.
async fn follow(app: Arc<App>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    loop {
        app.replica.renew().await;
        tokio::select! {
            () = &mut stopped => return,
            _ = timeout(crate::replica::POLL, app.store.woken()) => {}
        }
    }
}

/// Forgets what is over.
async fn keep_house(app: Arc<App>, stopped: impl Future<Output = ()>) {
    let mut stopped = std::pin::pin!(stopped);
    let mut sweeps = interval(SWEEP);
    let mut visits = interval(VISITS);
    for ticks in [&mut sweeps, &mut visits] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = visits.tick() => sweep_visitors(&app).await,
            _ = sweeps.tick() => sweep(&app).await,
        }
    }
}

async fn sweep_visitors(app: &App) {
    app.replica.sweep(app.now()).await;
    let what = "ended sessions of visitors could not be deleted";
    in_parts(what, CHUNK, || app.store.sweep_visitors(app.now(), CHUNK)).await;
}

/// Some at a time, so that nobody waits long to write. `part` does `size` of them, or those that are left.
async fn in_parts<F>(what: &str, size: u32, part: impl Fn() -> F)
where
    F: Future<Output = Result<u64, StoreError>>,
{
    for _ in 0..MOST_CHUNKS {
        match part().await {
            Ok(done) if done == u64::from(size) => tokio::time::sleep(CHUNK_PAUSE).await,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "{what}; the next sweep tries again");
                return;
            }
        }
    }
}

async fn sweep(app: &App) {
    if let Err(error) = app.store.forget_superseded_usage(app.now()).await {
        tracing::warn!(%error, "usage of ended secrets could not be deleted; the next sweep tries again");
    }
    if let Err(error) = app.store.forget_recoveries(app.now()).await {
        tracing::warn!(%error, "old recovery links could not be deleted; the next sweep tries again");
    }
    let conversations = Conversations(&*app.store);
    let what = "idle conversations could not be closed";
    in_parts(what, CHUNK, || conversations.close_idle(app.now(), CHUNK)).await;
    let uploads = Uploads(&*app.store);
    let what = "old uploads could not be deleted";
    in_parts(what, CHUNK, || uploads.sweep(app.now(), CHUNK)).await;
    in_parts(what, FILE_PARTS, || uploads.sweep_parts(app.now(), FILE_PARTS)).await;
}
