//! Files that somebody uploaded are read in a process of their own: a file made to harm its reader ends that process, or meets its
//! limits, and nothing else.

use async_trait::async_trait;
use bytes::Bytes;
use flowyte_platform::knowledge::cut::Extracted;
use flowyte_platform::knowledge::extract::{self, Format};
use flowyte_platform::knowledge::ingest::Extractor;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The subcommand that reads one file from standard input.
pub const SUBCOMMAND: &str = "read-file";

/// How long one file may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// CPU time, which a process that hangs in a loop can't exceed.
const CPU_SECONDS: u64 = 30;
/// Memory of that process.
const MEMORY: u64 = 1 << 30;
/// Longer than any text that is taken, as JSON.
const LONGEST_ANSWER: u64 = 32 << 20;

/// Reads each file in a process of its own.
pub struct Apart;

#[async_trait]
impl Extractor for Apart {
    async fn extract(&self, format: Format, content: Bytes) -> Result<Extracted, String> {
        match tokio::time::timeout(DEADLINE, read_apart(format, content)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a file's reader did not answer");
                Err("Reading it failed: it may be broken, or need more memory than one file gets.".into())
            }
            Err(_) => Err("Reading it took too long.".into()),
        }
    }
}

async fn read_apart(format: Format, content: Bytes) -> std::io::Result<Result<Extracted, String>> {
    let mut child = Command::new(this_program()?)
        .args([SUBCOMMAND, format.media_type()])
        // It gets the file and nothing else: no settings, no folder, no log.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let broken = || std::io::Error::other("a pipe is missing");
    let (mut input, output) =
        (child.stdin.take().ok_or_else(broken)?, child.stdout.take().ok_or_else(broken)?);
    // A reader that gives up early closes its end; its answer says why.
    let _ = input.write_all(&content).await;
    drop(input);
    let mut answer = Vec::new();
    output.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    let status = child.wait().await?;
    match status.success() {
        true => serde_json::from_slice(&answer).map_err(std::io::Error::other),
        false => Err(std::io::Error::other(status.to_string())),
    }
}

/// This program, also when its file was replaced by a newer release since it started.
fn this_program() -> std::io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// What the subcommand does: limits itself, reads standard input, writes what it says as JSON.
pub fn read_standard_input(media_type: &str) -> Result<String, String> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let format = Format::of_media_type(media_type).ok_or("not a format that can be read")?;
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 3),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| format!("a limit can't be set: {error}"))?;
    }
    let mut content = Vec::new();
    std::io::stdin().read_to_end(&mut content).map_err(|error| error.to_string())?;
    let answer =
        serde_json::to_vec(&extract::extract(format, &content)).map_err(|error| error.to_string())?;
    std::io::stdout().write_all(&answer).map_err(|error| error.to_string())?;
    Ok(String::new())
}
