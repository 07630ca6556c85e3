//! What the product does without anybody asking: it reads knowledge in, books what is due, and forgets what is over. Each kind of work has a
//! task of its own, works in bounded steps, and goes on where it stopped after a crash.

use crate::Product;
use crate::billing::Billing;
use crate::conversations::Conversations;
use crate::knowledge::Knowledge;
use crate::knowledge::ingest::{self, Tools};
use crate::numbers::Numbers;
use crate::reading::SubprocessExtractor;
use crate::uploads::Uploads;
use flowyte_store::StoreError;
use flowyte_store::sweep::in_parts;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Knowledge sources that are read at once.
const READERS: usize = 2;
/// How often somebody looks for sources that are due without having been woken.
const LOOK: Duration = Duration::from_secs(5);
/// How often what is due is looked for.
const PASS: Duration = Duration::from_secs(1);
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(600);

/// Rows that one transaction of a sweep writes, and the same for parts of files, which are long.
const CHUNK: u32 = 500;
const FILE_PARTS: u32 = 20;

/// A stop, for whoever waits for it.
pub type Stop = watch::Receiver<bool>;
/// Work that goes on until the server stops, and its name.
pub type Task = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Returns when the server stops.
pub async fn stopped(stop: &mut Stop) {
    // An error means that the sender is gone, which is a stop too.
    let _ = stop.wait_for(|it| *it).await;
}

impl Product {
    /// Everything that goes on in the background. Sources that a crash left in somebody's hands are free again before.
    pub async fn tasks(self: &Arc<Self>, stop: &Stop) -> Result<Vec<Task>, StoreError> {
        Knowledge(&*self.verifier.store).release().await?;
        let mut tasks: Vec<Task> = vec![
            ("billing", Box::pin(passes(self.clone(), PASS, billing, stop.clone()))),
            ("numbers", Box::pin(passes(self.clone(), PASS, numbers, stop.clone()))),
            ("conversations", Box::pin(passes(self.clone(), SWEEP, close_conversations, stop.clone()))),
            ("uploads", Box::pin(passes(self.clone(), SWEEP, forget_uploads, stop.clone()))),
        ];
        for _ in 0..READERS {
            tasks.push(("knowledge", Box::pin(read_sources(self.clone(), stop.clone()))));
        }
        Ok(tasks)
    }

    /// Knowledge sources that wait to be read; 1000 stands for that many or more.
    pub async fn sources_waiting(&self) -> Result<i64, StoreError> {
        Knowledge(&*self.verifier.store).waiting(self.verifier.now()).await
    }
}

async fn billing(product: Arc<Product>) {
    let billing = Billing { store: &*product.verifier.store, payments: &product.payments };
    if let Err(error) = billing.run_due(product.verifier.now()).await {
        tracing::warn!(%error, "payments and plans that are due could not be processed; the next pass tries again");
    }
}

async fn numbers(product: Arc<Product>) {
    let numbers = Numbers { store: &*product.verifier.store, carriers: &product.carriers };
    if let Err(error) = numbers.run_due(product.verifier.now()).await {
        tracing::warn!(%error, "purchases and rents of numbers that are due could not be processed; the next pass tries again");
    }
}

async fn close_conversations(product: Arc<Product>) {
    let conversations = Conversations(&*product.verifier.store);
    let what = "idle conversations could not be closed";
    in_parts(what, CHUNK, || conversations.close_idle(product.verifier.now(), CHUNK)).await;
}

async fn forget_uploads(product: Arc<Product>) {
    let (uploads, now) = (Uploads(&*product.verifier.store), product.verifier.now());
    let what = "old uploads could not be deleted";
    in_parts(what, CHUNK, || uploads.sweep(now, CHUNK)).await;
    in_parts(what, FILE_PARTS, || uploads.sweep_parts(now, FILE_PARTS)).await;
}

/// Passes one after the other, each in a task of its own: a stop does not wait for a service that does not answer, and what a pass
/// leaves is found by the next one, as after a crash. A pass that panics ends the task, and so is seen.
async fn passes<F: Future<Output = ()> + Send + 'static>(
    product: Arc<Product>,
    every: Duration,
    pass: fn(Arc<Product>) -> F,
    mut stop: Stop,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => {
                let mut running = tokio::spawn(pass(product.clone()));
                tokio::select! {
                    () = stopped(&mut stop) => return,
                    done = &mut running => done.expect("a pass panicked"),
                }
            }
        }
    }
}

/// Reads knowledge sources, one after the other, as they are due.
async fn read_sources(product: Arc<Product>, mut stop: Stop) {
    let knowledge = Knowledge(&*product.verifier.store);
    loop {
        let now = product.verifier.now();
        let job = match knowledge.take(now, now.plus(ingest::LEASE)).await {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(%error, "the list of knowledge sources to read could not be read; it is tried again");
                None
            }
        };
        let Some(job) = job else {
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = product.due.notified() => continue,
                () = tokio::time::sleep(LOOK) => continue,
            }
        };
        // Another reader may have something to do as well.
        product.due.notify_one();
        // In a task of its own: a stop does not wait for a page that is being fetched, and what is written is never cut
        // short. A source that was not finished is still due, and the next start begins it anew.
        let (reading, source) = (product.clone(), job.source.id);
        let work = tokio::spawn(async move {
            let tools = Tools { extractor: &SubprocessExtractor, outbound: &reading.outbound };
            ingest::run(&*reading.verifier.store, &tools, &job, || reading.verifier.now()).await
        });
        tokio::select! {
            () = stopped(&mut stop) => return,
            done = work => match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, %source, "a knowledge source could not be written; it stays due"),
                // What a panic says may hold what was read.
                Err(_) => tracing::error!(%source, "reading a knowledge source ended unexpectedly"),
            },
        }
    }
}
