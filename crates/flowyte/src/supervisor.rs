//! Background tasks under supervision: one that ends while the server runs ends the server, with a line that says so. A server that quietly
//! no longer counts, follows changes or forgets what is over would be worse than one that a service manager starts again.

use std::collections::HashMap;
use std::future::pending;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

/// Tasks that go on until the server stops.
pub struct Supervisor {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    stop: watch::Sender<bool>,
}

impl Supervisor {
    /// A supervisor without a task.
    pub fn new() -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new(), stop: watch::channel(false).0 }
    }

    /// A stop, for a task that is to be spawned.
    pub fn stop_signal(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Starts a task, which ends after the stop and not before.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        #[cfg(debug_assertions)]
        let task = async move {
            fail_on_demand(name).await;
            task.await;
        };
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Returns when a task has ended before the stop: its name, and how it ended.
    pub async fn first_end(&mut self) -> String {
        let ended = self.tasks.join_next_with_id().await;
        let (id, how) = match ended {
            None => return pending().await,
            Some(Ok((id, ()))) => (id, "returned"),
            Some(Err(error)) if error.is_panic() => (error.id(), "panicked"),
            Some(Err(error)) => (error.id(), "was cancelled"),
        };
        let name = self.names.get(&id).copied().unwrap_or("unknown");
        format!("the background task {name} {how}, without which the server can't go on")
    }

    /// Tells every task to stop, and waits until all have.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Panics in the task that a test names, a little later. Only in builds that tests run.
#[cfg(debug_assertions)]
async fn fail_on_demand(name: &str) {
    if std::env::var("PANICKING_TASK").is_ok_and(|it| it == name) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        panic!("a test asked for it");
    }
}

/// Returns when the server stops.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _ = stop.wait_for(|it| *it).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_is_named_with_how_it_ended() {
        let mut tasks = Supervisor::new();
        tasks.spawn("steady", stopped(tasks.stop_signal()));
        tasks.spawn("usage", async { panic!("for the test") });
        assert!(tasks.first_end().await.contains("task usage panicked"));
        tasks.spawn("time", async {});
        assert!(tasks.first_end().await.contains("task time returned"));
        tasks.stop().await; // The steady one heard of it.
    }
}
