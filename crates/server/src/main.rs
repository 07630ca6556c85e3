//! The `flowyte` binary: reads the command line and does what it says.

use clap::{Parser, Subcommand};
use flowyte_core::Brand;
use std::io::{Read, Write};
use std::process::ExitCode;

/// Issues, verifies and manages the credentials of a multi-tenant API.
#[derive(Parser)]
#[command(name = "flowyte", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work with credentials on this machine alone, without a server.
    #[command(subcommand)]
    Keys(Keys),
}

#[derive(Subcommand)]
enum Keys {
    /// Read a credential from standard input and say its kind, its environment and whether its checksum holds.
    ///
    /// Standard input, because an argument would stay in the shell's history and show in the process list.
    Inspect {
        /// The first word of the credential, where the operator chose another.
        #[arg(long, default_value = "flowyte")]
        brand: String,
    },
}

/// Longer than any credential; more is not read.
const LONGEST: u64 = 256;

fn main() -> ExitCode {
    let Command::Keys(Keys::Inspect { brand }) = Cli::parse().command;
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut text);
    let answer = match (Brand::new(&brand), read) {
        (None, _) => {
            Err("the brand must be 2 to 16 lower-case letters and digits, beginning with a letter".to_owned())
        }
        (_, Err(error)) => Err(format!("standard input can't be read as text: {error}")),
        (Some(brand), Ok(_)) => inspect(&brand, text.trim_end_matches(['\r', '\n'])),
    };
    match answer {
        Ok(line) => finish(&mut std::io::stdout(), &line, ExitCode::SUCCESS),
        Err(line) => finish(&mut std::io::stderr(), &format!("flowyte: {line}"), ExitCode::FAILURE),
    }
}

fn inspect(brand: &Brand, text: &str) -> Result<String, String> {
    let Some(read) = brand.parse(text) else {
        return Err(format!(
            "not a {} credential: its prefix, length, alphabet or checksum is wrong; copy it again in full",
            brand.as_str()
        ));
    };
    let environment = if read.kind().has_environment() { read.environment().as_str() } else { "none" };
    Ok(format!("kind {}\nenvironment {environment}\nchecksum holds", read.kind().as_str()))
}

/// A closed pipe is the reader's choice, so a failed write changes nothing.
fn finish(out: &mut impl Write, text: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(out, "{text}");
    code
}
