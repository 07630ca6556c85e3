//! What the operator may choose of it; and how a setting is read, for the other crates that have some.
//!
//! A section of settings is a struct that clap knows: the name of a field is the name of the setting, and its comment is what
//! `--help` says of it.

use clap::Args;
use flowyte_core::Brand;
use flowyte_core::limit::RateLimit;
use std::path::PathBuf;

/// What the operator may choose of it.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Credentials")]
pub struct Settings {
    /// First word of every credential.
    #[arg(id = "credential_brand", long = "credential-brand", value_name = "WORD", default_value = "flowyte", value_parser = read_brand)]
    pub brand: Brand,
    /// Requests a minute of each organization.
    #[arg(long, value_name = "NUMBER", default_value_t = 60_000, value_parser = number::<u32>(1, RateLimit::MOST))]
    pub organization_rpm: u32,
    /// Invalid credentials a minute from each address.
    #[arg(long, alias = "stranger-rpm", value_name = "NUMBER", default_value_t = 1_200, value_parser = number::<u32>(1, RateLimit::MOST))]
    pub unauthenticated_rpm: u32,
    /// Scheme and authority of the server as browsers see it, without a slash at its end. The server says it.
    #[arg(skip)]
    pub public_url: String,
}

fn read_brand(text: &str) -> Result<Brand, String> {
    Brand::new(text)
        .ok_or_else(|| "must be 2 to 16 lower-case letters and digits, beginning with a letter".into())
}

/// A whole number within bounds.
pub fn number<T: TryFrom<u32>>(least: u32, most: u32) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let read: Option<u32> = text.parse().ok().filter(|it| (least..=most).contains(it));
        let read = read.and_then(|it| T::try_from(it).ok());
        read.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }
}

/// One of some words, and what it stands for.
pub fn choice<T: Copy, const N: usize>(
    words: [(&'static str, T); N],
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| format!("must be {}", words.map(|(word, _)| word).join(" or ")))
    }
}

/// A list with commas between its parts, which may have spaces around them. `expected`: what a part must be.
pub fn list<T>(
    expected: &'static str,
    read: impl Fn(&str) -> Option<T> + Clone,
) -> impl Fn(&str) -> Result<Vec<T>, String> + Clone {
    move |text| {
        let parts = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        parts.map(|it| read(it).ok_or_else(|| format!("must be {expected}, separated by commas"))).collect()
    }
}

/// Reads a setting that names a file or folder. Only the empty text is refused; whether the path exists is not looked at.
pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.into()) }
}
