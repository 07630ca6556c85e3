//! The file of kept heads: lines of JSON. The first names the format. Then come heads, of which a later one stands for an earlier one of
//! the same organization, and seals. A seal has the SHA-256 of all that stands before its line, and an Ed25519 signature (RFC 8032) over
//! that and the time, so the last seal vouches for the whole file: nothing in it can be changed, left out or put elsewhere. What follows
//! the last seal was never finished, and counts for nothing.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use flowyte_core::Timestamp;
use flowyte_core::id::{Id, OrganizationId};
use flowyte_store::Link;
use flowyte_verifier::pepper::{Peppers, replace};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The format, as the first line names it.
const FORMAT: u32 = 1;
/// What is signed begins with this, so that no signature means two things.
const PURPOSE: &str = "flowyte audit heads";
/// Heads that have a newer one and may stand in a file, besides as many as there are organizations, before it is written anew.
const SPARE: usize = 4_096;

/// What is kept of an organization's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it ended when that was looked at last and it was what it had been.
    pub head: Link,
    /// When the head was looked at last.
    pub at: Timestamp,
    /// How far it has been recomputed.
    pub verified: Option<Box<Link>>,
    /// The first event that was found to be missing or another than it was.
    pub broken: Option<i64>,
}

/// What is kept of all chains.
pub type All = HashMap<OrganizationId, Kept>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Entry {
    AuditHeads(u32),
    Head(HeadLine),
    Seal(Seal),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeadLine {
    organization_id: String,
    sequence: i64,
    hash: String,
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified: Option<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broken_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    sequence: i64,
    hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    at: String,
    digest: String,
    signature: String,
}

impl Place {
    fn of(link: Link) -> Self {
        Self { sequence: link.sequence, hash: hex::encode(link.hash) }
    }

    fn link(&self) -> Option<Link> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        Some(Link { sequence: self.sequence, hash }).filter(|it| it.sequence > 0)
    }
}

impl HeadLine {
    fn of(organization: OrganizationId, kept: &Kept) -> Self {
        let Place { sequence, hash } = Place::of(kept.head);
        Self {
            organization_id: organization.to_string(),
            sequence,
            hash,
            at: kept.at.to_string(),
            verified: kept.verified.as_deref().copied().map(Place::of),
            broken_at: kept.broken,
        }
    }

    fn read(self) -> Option<(OrganizationId, Kept)> {
        let head = Place { sequence: self.sequence, hash: self.hash }.link()?;
        let verified = match self.verified {
            Some(place) => Some(Box::new(place.link()?)),
            None => None,
        };
        let kept = Kept { head, at: self.at.parse().ok()?, verified, broken: self.broken_at };
        Some((OrganizationId::parse(&self.organization_id)?, kept))
    }
}

impl Seal {
    fn message(&self) -> String {
        format!("{PURPOSE}\n{}\n{}", self.digest, self.at)
    }
}

/// Signs heads under the current pepper, and knows what was signed under any.
pub struct Signer {
    pair: Ed25519KeyPair,
    /// Of each pepper, the current one first.
    public: Vec<Vec<u8>>,
}

impl Signer {
    /// A signer whose keys are derived from these peppers: it signs under the current one, and accepts signatures under any.
    pub fn new(peppers: &Peppers) -> Self {
        let pair = |pepper: &flowyte_core::Pepper| {
            Ed25519KeyPair::from_seed_unchecked(&*pepper.derive("audit-head"))
                .expect("the seed has the length of the algorithm")
        };
        let public = peppers.iter().map(|it| pair(it).public_key().as_ref().to_vec()).collect();
        Self { pair: pair(peppers.current()), public }
    }

    /// The signature of `message`, in hexadecimal digits.
    pub fn sign(&self, message: &str) -> String {
        hex::encode(self.pair.sign(message.as_bytes()).as_ref())
    }

    /// Whose `signature` of `message` this is: the place of the pepper.
    pub fn signed_by(&self, message: &str, signature: &str) -> Option<usize> {
        let signature = hex::decode(signature).ok()?;
        let fits = |key: &Vec<u8>| {
            UnparsedPublicKey::new(&ED25519, key).verify(message.as_bytes(), &signature).is_ok()
        };
        self.public.iter().position(fits)
    }

    /// The key that present signatures can be checked with, in hexadecimal digits.
    pub fn public_key(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }
}

/// A file of kept heads that was read, and whose last seal fits.
pub struct Contents {
    /// The newest head of each organization that is under a seal.
    pub all: All,
    /// The digest in the last seal, which names what the file says in full.
    pub digest: String,
    /// Something follows the last seal: the process ended while it wrote.
    pub unfinished: bool,
    tail: Tail,
    /// The seal is the current pepper's.
    current: bool,
}

/// Where the sealed part of a file ends: its hash, its length in bytes, and how many heads it has.
#[derive(Clone, Default)]
struct Tail {
    hash: Sha256,
    length: u64,
    heads: usize,
}

impl Tail {
    fn pass(&mut self, line: &[u8]) {
        self.hash.update(line);
        self.length += line.len() as u64;
    }
}

/// Reads a file; or why nothing that it says counts.
pub fn read(text: &[u8], signer: &Signer) -> Result<Contents, String> {
    let (mut tail, mut open, mut all) = (Tail::default(), Vec::new(), All::new());
    let mut sealed: Option<(Tail, Seal)> = None;
    let mut wrong = None;
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let parsed = serde_json::from_slice(line).ok().filter(|_| line.ends_with(b"\n"));
        match parsed {
            Some(Entry::AuditHeads(FORMAT)) if number == 1 => {}
            Some(Entry::Head(head)) if number > 1 => match head.read() {
                Some(head) => open.push(head),
                None => wrong = wrong.or(Some(number)),
            },
            Some(Entry::Seal(seal)) if number > 1 => {
                if let Some(number) = wrong {
                    return Err(format!("line {number} is no head of an audit chain"));
                }
                if seal.digest != hex::encode(tail.hash.clone().finalize()) {
                    return Err(format!("what stands before line {number} is not what was sealed there"));
                }
                tail.heads += open.len();
                all.extend(open.drain(..));
                tail.pass(line);
                sealed = Some((tail.clone(), seal));
                continue;
            }
            _ => wrong = wrong.or(Some(number)),
        }
        tail.pass(line);
    }
    let (tail, seal) = sealed.ok_or("it has no seal")?;
    let by = signer.signed_by(&seal.message(), &seal.signature);
    let by = by.ok_or("its last seal was not signed by this installation")?;
    let unfinished = tail.length < text.len() as u64;
    Ok(Contents { all, digest: seal.digest, unfinished, tail, current: by == 0 })
}

/// The file, for the process that alone writes it.
pub struct File {
    path: PathBuf,
    /// Where it ends; `None` where it has to be written anew.
    tail: Option<Tail>,
}

impl File {
    /// Reads it. There may be none.
    pub fn open(path: &Path, signer: &Signer) -> (Self, Result<Option<Contents>, String>) {
        let contents = match fs::read(path) {
            Ok(text) => read(&text, signer).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("it can't be read: {error}")),
        };
        let sound = contents.as_ref().ok().and_then(Option::as_ref).filter(|it| it.current && !it.unfinished);
        (Self { path: path.to_owned(), tail: sound.map(|it| it.tail.clone()) }, contents)
    }

    /// Whether the next write has to be a whole one: the file is missing, unfinished, sealed under an older pepper, or holds more heads
    /// that have a newer one than `all` are worth.
    pub fn is_due(&self, all: usize) -> bool {
        self.tail.as_ref().is_none_or(|it| it.heads > 2 * all + SPARE)
    }

    /// Adds heads behind those that are there; the digest of the file from now on. After an error it has to be written anew.
    pub fn append(
        &mut self,
        heads: &[(OrganizationId, Kept)],
        signer: &Signer,
        now: Timestamp,
    ) -> io::Result<String> {
        let mut tail = self.tail.take().ok_or(ErrorKind::NotFound)?;
        let mut file = fs::OpenOptions::new().append(true).open(&self.path)?;
        if file.metadata()?.len() != tail.length {
            return Err(io::Error::other("somebody else has changed it"));
        }
        let mut text = String::new();
        let digest = tail.add(&mut text, heads, signer, now)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.tail = Some(tail);
        Ok(digest)
    }

    /// Writes all heads anew: after a crash there is the old file or the new one.
    pub fn rewrite(
        &mut self,
        heads: &[(OrganizationId, Kept)],
        signer: &Signer,
        now: Timestamp,
    ) -> io::Result<String> {
        let (mut tail, mut text) = (Tail::default(), line(&Entry::AuditHeads(FORMAT))?);
        tail.pass(text.as_bytes());
        let digest = tail.add(&mut text, heads, signer, now)?;
        self.tail = None;
        replace(&self.path, text.as_bytes())?;
        self.tail = Some(tail);
        Ok(digest)
    }
}

impl Tail {
    /// Writes heads and their seal behind `text`; the digest that is sealed.
    fn add(
        &mut self,
        text: &mut String,
        heads: &[(OrganizationId, Kept)],
        signer: &Signer,
        now: Timestamp,
    ) -> io::Result<String> {
        for (organization, kept) in heads {
            let head = line(&Entry::Head(HeadLine::of(*organization, kept)))?;
            self.pass(head.as_bytes());
            text.push_str(&head);
        }
        self.heads += heads.len();
        let digest = hex::encode(self.hash.clone().finalize());
        let mut seal = Seal { at: now.to_string(), digest: digest.clone(), signature: String::new() };
        seal.signature = signer.sign(&seal.message());
        let seal = line(&Entry::Seal(seal))?;
        self.pass(seal.as_bytes());
        text.push_str(&seal);
        Ok(digest)
    }
}

fn line(line: &Entry) -> io::Result<String> {
    Ok(serde_json::to_string(line)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

    fn organization(n: u8) -> OrganizationId {
        OrganizationId::from_bytes([n; 16])
    }

    fn kept(sequence: i64) -> Kept {
        let link = Link { sequence, hash: [sequence as u8; 32] };
        Kept {
            head: link,
            at: NOW,
            verified: Some(Box::new(link)).filter(|_| sequence % 2 == 0),
            broken: None,
        }
    }

    fn signer(keys: &[u8]) -> Signer {
        Signer::new(&Peppers::new(keys.iter().map(|it| [*it; 32]).collect()).unwrap())
    }

    /// A file with two parts, and what it says.
    fn two_parts(path: &Path, signer: &Signer) -> All {
        let (mut file, contents) = File::open(path, signer);
        assert!(contents.unwrap().is_none() && file.is_due(0));
        file.rewrite(&[(organization(1), kept(4)), (organization(2), kept(5))], signer, NOW).unwrap();
        let broken = Kept { broken: Some(3), ..kept(7) };
        file.append(&[(organization(2), kept(6)), (organization(3), broken.clone())], signer, NOW).unwrap();
        All::from([(organization(1), kept(4)), (organization(2), kept(6)), (organization(3), broken)])
    }

    #[test]
    fn what_was_written_is_read_again_under_any_pepper_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit-heads");
        let mut all = two_parts(&path, &signer(&[1]));
        let later = signer(&[2, 1]);
        let (mut file, contents) = File::open(&path, &later);
        let contents = contents.unwrap().unwrap();
        assert!(contents.all == all && !contents.unfinished);
        assert!(file.is_due(3), "it is sealed anew under the current pepper");
        let heads: Vec<_> = all.clone().into_iter().collect();
        file.rewrite(&heads, &later, NOW).unwrap();
        let (mut file, _) = File::open(&path, &signer(&[2]));
        assert!(!file.is_due(3));
        let digest = file.append(&[(organization(1), kept(9))], &later, NOW).unwrap();
        all.insert(organization(1), kept(9));
        let contents = File::open(&path, &signer(&[2])).1.unwrap().unwrap();
        assert!(contents.all == all && contents.digest == digest);
        let text = fs::read_to_string(&path).unwrap();
        let before = text.rfind("{\"seal\"").unwrap();
        assert_eq!(hex::encode(Sha256::digest(&text[..before])), digest, "of what stands before the seal");
        assert!(File::open(&path, &signer(&[1])).1.is_err());
        let heads = vec![(organization(1), kept(9)); 2 * 3 + SPARE - 4];
        file.append(&heads, &later, NOW).unwrap();
        assert!(!file.is_due(3));
        file.append(&heads[..1], &later, NOW).unwrap();
        assert!(file.is_due(3) && !file.is_due(4));
    }

    #[test]
    fn nothing_in_it_can_be_changed_left_out_or_put_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit-heads");
        let signer = signer(&[1]);
        let all = two_parts(&path, &signer);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(lines.len(), 7);
        let counts = |text: String| read(text.as_bytes(), &signer);
        assert_eq!(counts(text.clone()).ok().unwrap().all, all);
        for (at, line) in lines.iter().enumerate() {
            let mut without = lines.clone();
            without.remove(at);
            let mut twice = lines.clone();
            twice.insert(at, line);
            if at + 1 < lines.len() {
                assert!(counts(without.concat()).is_err(), "without {line}");
            }
            assert!(counts(twice.concat()).is_err(), "twice {line}");
            for digit in ["\"sequence\":5", "\"sequence\":6", "\"brokenAt\":3", "0606", ".000Z"] {
                let mut other = lines.clone();
                let changed = line.replacen(digit, &digit.replace(['5', '6', '3', '0'], "8"), 1);
                other[at] = &changed;
                assert!(changed == *line || counts(other.concat()).is_err(), "{changed}");
            }
        }
        assert!(counts(String::new()).is_err() && counts(lines[..3].concat()).is_err(), "it has no seal");
        let other = self::signer(&[2]);
        assert!(read(text.as_bytes(), &other).is_err(), "another installation's");
    }

    #[test]
    fn what_was_never_finished_counts_for_nothing_and_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit-heads");
        let signer = signer(&[1]);
        let mut all = two_parts(&path, &signer);
        all.remove(&organization(3));
        all.insert(organization(2), kept(5));
        let text = fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|it| *it == b'\n').collect();
        let first: usize = lines[..4].iter().map(|it| it.len()).sum();
        for end in first + 1..text.len() {
            let contents = read(&text[..end], &signer).ok().unwrap();
            assert!(contents.unfinished && contents.all == all, "{end}");
        }
        let zeros = [&text[..first], &[0; 300]].concat();
        fs::write(&path, zeros).unwrap();
        let (mut file, contents) = File::open(&path, &signer);
        assert!(contents.unwrap().unwrap().unfinished && file.is_due(2));
        assert!(file.append(&[], &signer, NOW).is_err());
        let heads: Vec<_> = all.clone().into_iter().collect();
        file.rewrite(&heads, &signer, NOW).unwrap();
        assert_eq!(File::open(&path, &signer).1.unwrap().unwrap().all, all);
        // What somebody else did to it meanwhile is not built upon.
        fs::write(&path, &text).unwrap();
        assert!(file.append(&heads, &signer, NOW).is_err() && file.is_due(2));
    }
}
