//! The server's peppers: which file they live in, and which are active.

use crate::clock::Entropy;
use flowyte_core::{Digest, Pepper};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The active peppers: the first makes new digests, all of them find old ones.
pub struct Peppers(Vec<Pepper>);

/// Why there are no peppers; for the operator.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// The file can't be read or written.
    #[error("{path} can't be used: {error}")]
    File {
        /// The path of the file, for the message.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// A line that is no pepper.
    #[error("{0}, line {1}: expected 64 hexadecimal digits")]
    Malformed(String, usize),
    /// A file without a pepper.
    #[error("{0} holds no pepper")]
    Empty(String),
    /// Others than the owner can read it.
    #[error("{0} can be read by others; run: chmod 600 {0}")]
    Exposed(String),
    /// The operating system gave no random bytes for a new pepper.
    #[error(transparent)]
    Entropy(#[from] crate::clock::NoEntropy),
}

impl Peppers {
    /// From keys, the current one first.
    pub fn new(keys: Vec<[u8; 32]>) -> Option<Self> {
        (!keys.is_empty()).then(|| Self(keys.into_iter().map(Pepper::new).collect()))
    }

    /// Reads a file: one pepper a line in hexadecimal, the current one first; `#` begins a comment.
    pub fn read(path: &Path) -> Result<Self, PepperError> {
        let name = path.display().to_string();
        let failed = |error| PepperError::File { path: name.clone(), error };
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(PepperError::Exposed(name));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.push(unhex(line).ok_or_else(|| PepperError::Malformed(name.clone(), number + 1))?);
        }
        Self::new(keys).ok_or(PepperError::Empty(name))
    }

    /// Writes a file with a new pepper in front of those that are there, so that it becomes the current one.
    pub fn add(path: &Path, entropy: &dyn Entropy) -> Result<Pepper, PepperError> {
        let failed = |error| PepperError::File { path: path.display().to_string(), error };
        let old = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Zeroizing::new("# Secrets are stored as digests under these. Keep this file apart from the database's backups.\n".to_owned())
            }
            Err(error) => return Err(failed(error)),
        };
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut *key)?;
        let line = Zeroizing::new(hex::encode(*key));
        let (comments, peppers): (Vec<&str>, Vec<&str>) = old.lines().partition(|it| it.starts_with('#'));
        let mut text = Zeroizing::new(String::new());
        for line in comments.into_iter().chain([line.as_str()]).chain(peppers) {
            text.push_str(line);
            text.push('\n');
        }
        replace(path, text.as_bytes()).map_err(failed)?;
        Ok(Pepper::new(*key))
    }

    /// Adds the peppers of another file that are not there, behind those that are.
    pub fn merge(path: &Path, other: &Path) -> Result<(), PepperError> {
        let failed = |error| PepperError::File { path: path.display().to_string(), error };
        let known: Vec<[u8; 8]> = Self::read(path)?.iter().map(Pepper::id).collect();
        let mut text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        let theirs = Zeroizing::new(fs::read_to_string(other).map_err(failed)?);
        for line in theirs.lines() {
            if unhex(line.trim()).is_some_and(|key| !known.contains(&Pepper::new(key).id())) {
                text.push_str(line.trim());
                text.push('\n');
            }
        }
        replace(path, text.as_bytes()).map_err(failed)
    }

    /// Takes the pepper with this id out of the file. The current one stays; `false` when there is none by that id.
    pub fn retire(path: &Path, id: [u8; 8]) -> Result<bool, PepperError> {
        let failed = |error| PepperError::File { path: path.display().to_string(), error };
        let current = Self::read(path)?.current().id();
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        let goes =
            |line: &&str| unhex(line.trim()).is_some_and(|key| Pepper::new(key).id() == id && id != current);
        if !text.lines().any(|line| goes(&line)) {
            return Ok(false);
        }
        let kept: Zeroizing<String> =
            Zeroizing::new(text.lines().filter(|line| !goes(line)).flat_map(|line| [line, "\n"]).collect());
        replace(path, kept.as_bytes()).map_err(failed)?;
        Ok(true)
    }

    /// The one that makes new digests.
    pub fn current(&self) -> &Pepper {
        &self.0[0]
    }

    /// All of them, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &Pepper> {
        self.0.iter()
    }

    /// The digests a body may be stored as, the likeliest first.
    pub fn digests<'a>(&'a self, body: &'a str) -> impl Iterator<Item = Digest> + 'a {
        self.0.iter().map(move |pepper| pepper.digest_body(body))
    }
}

/// Writes beside, syncs, renames: after a crash there is the old file or the new one.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key).ok().map(|()| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn rotation_puts_the_new_one_first_and_retiring_leaves_the_current() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper.key");
        let first = Peppers::add(&path, &System).unwrap();
        let second = Peppers::add(&path, &System).unwrap();
        let ids = || Peppers::read(&path).unwrap().iter().map(Pepper::id).collect::<Vec<_>>();
        assert_eq!(ids(), [second.id(), first.id()]);
        assert!(!Peppers::retire(&path, second.id()).unwrap());
        assert!(Peppers::retire(&path, first.id()).unwrap());
        assert_eq!(ids(), [second.id()]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Peppers::read(&path), Err(PepperError::Exposed(_))));
    }

    #[test]
    fn what_is_no_pepper_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper.key");
        for (text, wrong) in [("", "holds no pepper"), ("# x\nabc\n", "line 2")] {
            replace(&path, text.as_bytes()).unwrap();
            let error = Peppers::read(&path).err().unwrap().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
