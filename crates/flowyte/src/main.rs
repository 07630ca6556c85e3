//! The `flowyte` binary: reads the command line and does what it says.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use flowyte::config::{Config, Given, settings};
#[cfg(feature = "product")]
use flowyte::reading::{SUBCOMMAND, read_standard_input};
use flowyte::{serve, trail, upkeep};
use flowyte_contract::Diagnostic;
use flowyte_core::Brand;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Gives memory back to the system once a load is over, which glibc's allocator does not where threads share it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Issues, verifies and manages the credentials of a multi-tenant API.
#[derive(Parser)]
#[command(name = "flowyte", version = flowyte::VERSION, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API. The first start prints the link that sets it up.
    Serve(Settings),
    /// Look after the audit trail.
    #[command(subcommand)]
    Audit(Audit),
    /// Copy the database and the peppers to a new folder. A server that runs is not disturbed.
    Backup {
        /// The folder to make.
        folder: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Put a backup in the place of the database. What was taken away since it was made (keys, scopes, members, roles, passwords and
    /// more) is taken away again, as far as the database that it replaces can say; where it can't, the server does not serve until
    /// the restore is acknowledged.
    Restore {
        /// A folder that `flowyte backup` made.
        #[arg(required_unless_present_any = ["list", "acknowledge"])]
        folder: Option<PathBuf>,
        /// Say what the database grants now.
        #[arg(long, conflicts_with = "folder")]
        list: bool,
        /// Let the server serve a restored database. Look through --list first.
        #[arg(long, conflicts_with_all = ["folder", "list"])]
        acknowledge: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Move an installation from SQLite to PostgreSQL: copy everything into an empty database there, and read it back to compare. The
    /// server must be stopped. What it was served from stays as it is; running this again changes nothing.
    #[cfg(feature = "postgres")]
    Migrate {
        /// The data folder of the installation.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// The PostgreSQL database, as --database names it to the server. The variable keeps its password out of the list of processes.
        #[arg(long, value_name = "URL", env = "FLOWYTE_DATABASE", hide_env_values = true)]
        to: String,
    },
    /// Look after the peppers, under which credentials are stored. The server must be stopped to change them.
    #[command(subcommand)]
    Pepper(PepperCommand),
    /// Look after the time that expiries are decided by. The server must be stopped.
    #[command(subcommand)]
    Clock(ClockCommand),
    /// Help people who lost their password.
    #[command(subcommand)]
    Users(Users),
    /// Work with credentials on this machine alone, without a server.
    #[command(subcommand)]
    Keys(Keys),
    #[cfg(feature = "product")]
    /// Read one file from standard input: what the server does with each upload, in a process of its own.
    #[command(name = SUBCOMMAND, hide = true)]
    ReadFile {
        /// The media type of the file.
        media_type: String,
    },
    /// Work with an OpenAPI document.
    #[command(subcommand)]
    Contract(ContractCommand),
}

#[derive(Subcommand)]
enum Audit {
    /// Recompute every organization's chain, and hold it against the head that the server keeps beside the peppers. Fails when one does
    /// not hold.
    Verify {
        /// Signed heads that an earlier run wrote, or a copy of those that the server kept: each chain must have them too.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Write the signed heads of now.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Take the chains as they are where they lost events and you know why: the database was set back with other tools than `flowyte
    /// restore`, or another machine took over. The heads that were kept are put aside, and the audit log of each organization
    /// concerned says what is gone. The server must be stopped.
    Accept(Settings),
}

#[derive(Subcommand)]
enum Users {
    /// Make a link with which somebody sets a new password: works once, for 30 minutes, and ends all of their sessions. A server
    /// that runs is not disturbed.
    RecoveryLink {
        /// The e-mail address that they sign in with.
        email: String,
        /// Which account, where the address has several.
        #[arg(long, value_name = "ID")]
        account: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
enum PepperCommand {
    /// Make a new one the current one; the old ones go on finding what they made.
    Rotate(Settings),
    /// Say which there are and whether anything depends on them.
    List(Settings),
    /// Take one away that nothing depends on.
    Retire {
        /// Its id, as `pepper list` says it.
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
enum ClockCommand {
    /// Make the clock's time count again after it was wrongly ahead. What expired only by the wrong time works again.
    Reset(Settings),
}

#[derive(Subcommand)]
enum ContractCommand {
    /// Compile a document and say everything that is wrong with it.
    Check {
        /// OpenAPI 3.1 documents in YAML or JSON. Several are taken as one, as `merge` prints it.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Put documents beside one another, and print the whole as JSON. Each may refer to what is in the ones before it.
    Merge {
        /// OpenAPI 3.1 documents in YAML or JSON. What stands in two of them is an error; `info` is that of the last.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say what changed between two versions of a document. Fails when a change breaks clients.
    Diff {
        /// The version that clients know.
        old: PathBuf,
        /// The version that would replace it.
        new: PathBuf,
    },
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

/// The settings as they were given: one flag for each, and a file.
struct Settings(Given);

impl Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("FLOWYTE_CONFIG")
            .help("a TOML file with settings by the names of the flags, with _ for -");
        settings()
            .fold(command.arg(file), |command, it| command.arg(it.argument()))
            .after_help("Each flag is also a variable: --public-url is FLOWYTE_PUBLIC_URL. A flag wins over a variable over the file.")
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Given::default();
        for setting in settings() {
            // Else it is the default.
            if matches.value_source(setting.name) == Some(ValueSource::CommandLine)
                && let Some(value) = matches.get_one::<String>(setting.name)
            {
                given.flag(setting, value.clone());
            }
        }
        given.variables(std::env::vars_os());
        if let Some(file) = matches.get_one::<String>("config") {
            given.file(Path::new(file));
        }
        Ok(Self(given))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Settings {
    /// Everything that is wrong is said at once, before anything is opened.
    fn read(self) -> Result<Config, String> {
        self.0
            .finish()
            .map_err(|problems| format!("the configuration is not usable:\n  {}", problems.join("\n  ")))
    }
}

/// Longer than any credential; more is not read.
const LONGEST: u64 = 256;

fn main() -> ExitCode {
    let answer = match Cli::parse().command {
        Command::Serve(settings) => settings.read().and_then(run_server),
        Command::Audit(Audit::Verify { against, write, settings }) => settings.read().and_then(|it| {
            block_on(async move { trail::audit_verify(&it, against.as_deref(), write.as_deref()).await })
        }),
        Command::Audit(Audit::Accept(settings)) => {
            settings.read().and_then(|it| block_on(async move { trail::audit_accept(&it).await }))
        }
        Command::Backup { folder, settings } => {
            settings.read().and_then(|it| block_on(async move { upkeep::backup(&it, &folder).await }))
        }
        Command::Restore { folder, acknowledge, settings, .. } => settings.read().and_then(|it| {
            block_on(async move {
                match folder {
                    Some(folder) => upkeep::restore(&it, &folder).await,
                    None if acknowledge => upkeep::restore_acknowledge(&it).await,
                    None => upkeep::restore_list(&it).await,
                }
            })
        }),
        #[cfg(feature = "postgres")]
        Command::Migrate { from, to } => block_on(async move { upkeep::migrate(&from, &to).await }),
        Command::Pepper(PepperCommand::Rotate(settings)) => {
            settings.read().and_then(|it| block_on(async move { upkeep::pepper_rotate(&it) }))
        }
        Command::Pepper(PepperCommand::List(settings)) => {
            settings.read().and_then(|it| block_on(async move { upkeep::pepper_list(&it).await }))
        }
        Command::Pepper(PepperCommand::Retire { id, settings }) => {
            settings.read().and_then(|it| block_on(async move { upkeep::pepper_retire(&it, &id).await }))
        }
        Command::Clock(ClockCommand::Reset(settings)) => {
            settings.read().and_then(|it| block_on(async move { upkeep::clock_reset(&it).await }))
        }
        Command::Users(Users::RecoveryLink { email, account, settings }) => settings.read().and_then(|it| {
            block_on(async move { upkeep::recovery_link(&it, &email, account.as_deref()).await })
        }),
        #[cfg(feature = "product")]
        Command::ReadFile { media_type } => read_standard_input(&media_type),
        Command::Keys(Keys::Inspect { brand }) => inspect_input(&brand),
        Command::Contract(ContractCommand::Check { files }) => check_contract(&files),
        Command::Contract(ContractCommand::Merge { files }) => merge_contracts(&files),
        Command::Contract(ContractCommand::Diff { old, new }) => diff_contracts(&old, &new),
    };
    match answer {
        Ok(line) if line.is_empty() => ExitCode::SUCCESS,
        Ok(line) => finish(&mut std::io::stdout(), &line, ExitCode::SUCCESS),
        Err(line) => finish(&mut std::io::stderr(), &format!("flowyte: {line}"), ExitCode::FAILURE),
    }
}

fn run_server(config: Config) -> Result<String, String> {
    // Kept until the end, which waits for the last lines.
    let _log = flowyte::log::start(&config).map_err(|error| format!("no threads can be started: {error}"))?;
    block_on(serve::run(config)).map(|()| String::new())
}

/// Runs something to its end, with the causes of what went wrong in one line.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads can be started: {error}"))?;
    let done = runtime.block_on(work).map_err(|error| format!("{error:#}"));
    if done.is_err() {
        // What failed has been said; nothing that still runs on other threads is waited for.
        runtime.shutdown_background();
    }
    done
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{} can't be read: {error}", file.display()))
}

fn told(file: impl std::fmt::Display, diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics.iter().map(|it| format!("\n  {it}")).collect();
    format!("{file}: {} findings{}", diagnostics.len(), lines.concat())
}

/// Files that belong together, and what to call them.
fn read_all(files: &[PathBuf]) -> Result<(String, Vec<String>), String> {
    let name = files.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" + ");
    Ok((name, files.iter().map(|it| read(it)).collect::<Result<_, _>>()?))
}

fn merge(name: &str, texts: &[String]) -> Result<serde_json::Value, String> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    flowyte_contract::merge(&texts).map_err(|wrong| told(name, &wrong))
}

fn merge_contracts(files: &[PathBuf]) -> Result<String, String> {
    let (name, texts) = read_all(files)?;
    serde_json::to_string_pretty(&merge(&name, &texts)?).map_err(|error| error.to_string())
}

fn diff_contracts(old: &Path, new: &Path) -> Result<String, String> {
    let texts = (read(old)?, read(new)?);
    for (file, text) in [(old, &texts.0), (new, &texts.1)] {
        flowyte_contract::compile(text).map_err(|wrong| told(file.display(), &wrong))?;
    }
    let changes = flowyte_contract::diff(&texts.0, &texts.1).map_err(|wrong| told(new.display(), &wrong))?;
    let lines = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    match (changes.is_empty(), changes.iter().any(|it| it.breaking)) {
        (true, _) => Ok("nothing that clients see has changed".into()),
        (_, false) => Ok(lines),
        (_, true) => Err(format!("some changes break clients\n{lines}")),
    }
}

fn check_contract(files: &[PathBuf]) -> Result<String, String> {
    let (name, mut texts) = read_all(files)?;
    let text = match texts.as_slice() {
        // As it was written, since a document is also checked for how it is written.
        [_] => texts.swap_remove(0),
        several => merge(&name, several)?.to_string(),
    };
    let api = flowyte_contract::compile(&text).map_err(|wrong| told(&name, &wrong))?;
    let warnings = flowyte_contract::check(&text);
    let warnings = if warnings.is_empty() { String::new() } else { format!("\n{}", told(&name, &warnings)) };
    let operations = api.contract.operations();
    let count = |test: fn(&flowyte_core::Operation) -> bool| operations.iter().filter(|it| test(it)).count();
    Ok(format!(
        "{name} is valid: {} operations, {} of them reserved, {} public; {} scopes{warnings}",
        operations.len(),
        count(|it| it.reserved),
        count(|it| it.is_public()),
        api.contract.scopes().iter().count()
    ))
}

fn inspect_input(brand: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut text);
    match (Brand::new(brand), read) {
        (None, _) => {
            Err("the brand must be 2 to 16 lower-case letters and digits, beginning with a letter".to_owned())
        }
        (_, Err(error)) => Err(format!("standard input can't be read as text: {error}")),
        (Some(brand), Ok(_)) => inspect(&brand, text.trim_end_matches(['\r', '\n'])),
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
