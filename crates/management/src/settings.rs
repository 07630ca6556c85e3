//! What the operator may choose of accounts and keys.

use clap::{ArgAction, Args};
use flowyte_verifier::settings::{choice, number};
use std::path::PathBuf;

/// More would be no bound.
const MOST: u32 = 1_000_000;

/// What the operator may choose of it.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Accounts and keys")]
pub struct Settings {
    /// Whether anybody may sign up.
    #[arg(id = "signup", long = "signup", value_name = "open|closed", default_value = "closed", action = ArgAction::Set, value_parser = choice([("open", true), ("closed", false)]))]
    pub signup_open: bool,
    /// Failed sign-ins under each e-mail address in 15 minutes, from each known device and from all others together.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = number::<u32>(1, MOST))]
    pub login_failures_per_account: u32,
    /// Failed sign-ins from each address in 15 minutes.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = number::<u32>(1, MOST))]
    pub login_failures_per_address: u32,
    /// Organizations created from each address in a day, by sign-up or by a member.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = number::<u32>(1, MOST))]
    pub signups_per_address: u32,
    /// Organizations that one person may create.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = number::<u32>(1, MOST))]
    pub organizations_per_person: u32,
    /// Secret keys of an organization that work at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = number::<u32>(1, 100_000_000))]
    pub keys_per_organization: u32,
    /// Where the token of the first set-up lies until it is used. The server says it.
    #[arg(skip)]
    pub setup_token_file: PathBuf,
}
