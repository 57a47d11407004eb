//! Who may use the sidecar: the users of a file, and the default user with the one password of the settings. Knows the
//! hashes of their passwords and not the passwords. What a user may do is not its business.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::files;

/// All users. Copies are the same users.
#[derive(Clone)]
pub struct Users(Arc<Parts>);

struct Parts {
    file: Option<PathBuf>,
    /// The default user, where the file says nothing about it.
    default: User,
    current: RwLock<Arc<Named>>,
}

/// One user.
#[derive(Clone)]
struct User {
    enabled: bool,
    /// Any of them lets the user in. None at all: no password is needed.
    passwords: Vec<Hash>,
}

type Named = BTreeMap<Arc<str>, User>;
type Hash = [u8; 32];

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    users: BTreeMap<String, RawUser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    sha256: Option<toml::Value>,
    #[serde(default = "yes")]
    enabled: bool,
}

/// Who a client is that has not said its name.
const DEFAULT: &str = "default";

// === impl Users ===

impl Users {
    /// The users of a file, if there is one, and the default user: with `password`, where the file does not name it.
    ///
    /// # Errors
    /// The file is not what it should be; the message names it and the user.
    pub fn new(file: Option<PathBuf>, password: Option<&str>) -> anyhow::Result<Self> {
        let default =
            User { enabled: true, passwords: password.map(|text| hash(text.as_bytes())).into_iter().collect() };
        let users = Self(Arc::new(Parts { file, default, current: RwLock::default() }));
        users.read_again()?;
        Ok(users)
    }

    /// The file.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.file.iter().cloned().collect()
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`Users::new`]; then everything is as it was.
    pub fn read_again(&self) -> anyhow::Result<()> {
        let mut named = match &self.0.file {
            None => Named::new(),
            Some(path) => parsed(&files::read(path)?).with_context(|| format!("{} (users_file)", path.display()))?,
        };
        let default = named.entry(DEFAULT.into()).or_insert_with(|| self.0.default.clone());
        if self.0.file.is_some() && default.is_open() {
            tracing::warn!(
                "the default user has no password, so that clients get in without one; give it one in the users_file, \
                 or `enabled = false`"
            );
        }
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(named);
        Ok(())
    }

    /// Whether they are those of a file.
    pub fn has_file(&self) -> bool {
        self.0.file.is_some()
    }

    /// Whether a client is let in as the default user without a password.
    pub fn need_no_password(&self) -> bool {
        self.current().get(DEFAULT).is_some_and(User::is_open)
    }

    /// Whether there is such a user, and it is enabled.
    pub fn has(&self, name: &str) -> bool {
        self.current().get(name).is_some_and(|user| user.enabled)
    }

    /// The user who gives this password. None: there is none. Takes as long for a wrong password as for a right one,
    /// and for a name that nobody has.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<str>> {
        let nobody = User { enabled: false, passwords: vec![Hash::default()] };
        let current = self.current();
        let found = std::str::from_utf8(name).ok().and_then(|name| current.get_key_value(name));
        let user = found.map_or(&nobody, |(_, user)| user);
        let given = hash(password);
        let known = user.passwords.iter().fold(Choice::from(0), |any, expect| any | expect.ct_eq(&given));
        let right = user.passwords.is_empty() | bool::from(known);
        found.filter(|_| user.enabled & right).map(|(name, _)| Arc::clone(name))
    }

    fn current(&self) -> Arc<Named> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let current = self.current();
        out.debug_struct("Users").field("file", &self.0.file).field("names", &current.keys()).finish()
    }
}

// === impl User ===

impl User {
    fn is_open(&self) -> bool {
        self.enabled && self.passwords.is_empty()
    }
}

fn hash(password: &[u8]) -> Hash {
    Sha256::digest(password).into()
}

fn yes() -> bool {
    true
}

fn parsed(content: &[u8]) -> anyhow::Result<Named> {
    let text = std::str::from_utf8(content).context("it is not text")?;
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        // Without the line itself, which may hold a password that was written in the wrong place.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |head| 1 + head.matches('\n').count());
        anyhow::anyhow!("near line {line}: {}", error.message())
    })?;
    let mut named = Named::new();
    for (name, raw) in raw.users {
        let user = raw.user().with_context(|| format!("user {name:?}"))?;
        ensure!(
            !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control()),
            "user {name:?}: a name is not empty and has no blanks"
        );
        named.insert(name.into(), user);
    }
    Ok(named)
}

// === impl RawUser ===

impl RawUser {
    fn user(self) -> anyhow::Result<User> {
        let texts = match self.sha256 {
            None => Vec::new(),
            Some(toml::Value::Array(texts)) => texts,
            Some(one) => vec![one],
        };
        let passwords: Vec<_> = texts.iter().map(parsed_hash).collect::<Result<_, _>>()?;
        if self.enabled && passwords.is_empty() {
            bail!("it has no password; give it `sha256 = \"…\"`, or `enabled = false`");
        }
        Ok(User { enabled: self.enabled, passwords })
    }
}

/// A hash as people and the server's own ACL write it, `#` before it or not. What is not one may be a password that was
/// not meant to be there, and is not repeated.
fn parsed_hash(value: &toml::Value) -> anyhow::Result<Hash> {
    const WANTED: &str = "a password is given as 64 hexadecimal digits, which `printf %s PASSWORD | sha256sum` makes";
    let text = value.as_str().context(WANTED)?;
    let digits = text.strip_prefix('#').unwrap_or(text).as_bytes();
    let mut hash = Hash::default();
    ensure!(digits.len() == 2 * hash.len() && digits.iter().all(u8::is_ascii_hexdigit), "{WANTED}");
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    Ok(hash)
}
