//! Files that somebody uploaded are read in a process of their own: a file made to harm its reader ends that process, or meets its
//! limits, and nothing else.

use crate::knowledge::cut::Extracted;
use crate::knowledge::extract::{self, Format};
use crate::knowledge::ingest::{Extractor, Unread};
use async_trait::async_trait;
use bytes::Bytes;
use std::io::{Read as _, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// The subcommand that reads one file from standard input.
pub const SUBCOMMAND: &str = "read-file";

/// How long one file may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// CPU time, which a process that hangs in a loop can't exceed.
const CPU_SECONDS: u64 = 30;
/// The address space that the process may have, in bytes.
const MEMORY: u64 = 1 << 30;
/// Longer than any text that is taken, as JSON.
const LONGEST_ANSWER: u64 = 32 << 20;

/// Reads each file in a process of its own.
pub struct SubprocessExtractor;

#[async_trait]
impl Extractor for SubprocessExtractor {
    async fn extract(&self, format: Format, content: Bytes) -> Result<Extracted, Unread> {
        // Its own limits end a reader for good; what ends it from outside, or keeps it from beginning, may pass.
        let passing = |message: &str| Unread { message: message.into(), again: true };
        match tokio::time::timeout(DEADLINE, read_apart(format, content)).await {
            Ok(Ok(Read::Answer(answer))) => answer.map_err(Unread::never),
            Ok(Ok(Read::Ended(status))) if stopped(status) => Err(passing("Reading it was stopped.")),
            Ok(Ok(Read::Ended(status))) => {
                tracing::warn!(%status, "a file's reader did not answer");
                Err(Unread::never(
                    "Reading it failed: it may be broken, or need more memory than one file gets.",
                ))
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a file's reader can't be run");
                Err(passing("Reading it failed: no reader could be started."))
            }
            Err(_) => Err(passing("Reading it took too long.")),
        }
    }
}

/// How a reader came to its end.
enum Read {
    /// It ended with an answer: a text, or why there is none.
    Answer(Result<Extracted, String>),
    /// It ended without one, killed or broken.
    Ended(ExitStatus),
}

/// Whether somebody stopped it, which says nothing about the file.
fn stopped(status: ExitStatus) -> bool {
    use rustix::process::Signal;
    [Signal::TERM, Signal::INT, Signal::HUP].iter().any(|it| status.signal() == Some(it.as_raw()))
}

async fn read_apart(format: Format, content: Bytes) -> std::io::Result<Read> {
    let mut child = Command::new(this_program()?)
        .args([SUBCOMMAND, format.media_type()])
        // It gets the file and nothing else: no settings, no folder, no log.
        .env_clear()
        .current_dir("/")
        // Ctrl-C is for the server, which lets it come to its end.
        .process_group(0)
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
    match serde_json::from_slice(&answer) {
        Ok(answer) if status.success() => Ok(Read::Answer(answer)),
        _ => Ok(Read::Ended(status)),
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
