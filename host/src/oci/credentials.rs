//! Users and passwords of registries, out of the file that `docker login` writes. Programs that keep passwords
//! elsewhere ("credential helpers") are not run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::config::Secret;
use crate::files::read;

/// What is known of a registry's users.
#[derive(Debug)]
pub(super) enum Credentials {
    /// This one.
    Known {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// None; what to say to someone who needs one.
    Unknown(String),
}

/// The file: the parts that are used.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Login {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

// === impl Credentials ===

impl Credentials {
    /// Those of a host. `configured` must be there; `usual` is where docker has them, and need not.
    ///
    /// # Errors
    /// The file cannot be read, or is not what `docker login` writes.
    pub(super) fn of(host: &str, configured: Option<&Path>, usual: Option<&PathBuf>) -> anyhow::Result<Self> {
        let file = match (configured, usual) {
            (Some(file), _) => file,
            (None, Some(file)) if file.is_file() => file,
            (None, _) => {
                return Ok(Self::Unknown(format!(
                    "no password is known for it: `docker login {host}` keeps one, or name a file with \
                     policy_registry_auth_file"
                )));
            }
        };
        let content = read(file)?;
        let not = || format!("{} is not what `docker login` writes", file.display());
        let login: Login = serde_json::from_slice(&content).with_context(not)?;
        login.of(host, file).with_context(not)
    }
}

// === impl Login ===

impl Login {
    fn of(&self, host: &str, file: &Path) -> anyhow::Result<Credentials> {
        let file = file.display();
        let auth = names(host).into_iter().find_map(|name| self.auths.get(&name));
        let text = auth.and_then(|auth| auth.auth.as_deref()).filter(|text| !text.is_empty());
        let Some(text) = text else {
            let helper = self.cred_helpers.get(host).or(self.creds_store.as_ref());
            let why = match (auth.and_then(|auth| auth.identity_token.as_ref()), helper) {
                (Some(_), _) => format!("{file} has an identity token for it, which is not taken; it takes a password"),
                (None, Some(helper)) => format!(
                    "{file} leaves its password to the program docker-credential-{helper}, which is not run; name \
                     another file with policy_registry_auth_file, with {{\"auths\": {{\"{host}\": {{\"auth\": \"base64 \
                     of user:password\"}}}}}}"
                ),
                (None, None) => format!("{file} has no password for it; `docker login {host}` keeps one there"),
            };
            return Ok(Credentials::Unknown(why));
        };
        let bytes = BASE64.decode(text).with_context(|| format!("`auth` of {host}"))?;
        let text = String::from_utf8(bytes).ok().with_context(|| format!("`auth` of {host} is not text"))?;
        let (user, password) = text.split_once(':').with_context(|| format!("`auth` of {host} has no colon"))?;
        ensure!(!user.is_empty(), "`auth` of {host} names no user");
        Ok(Credentials::Known { user: user.to_owned(), password: Secret::new(password.to_owned()) })
    }
}

/// What docker calls a registry in its file.
fn names(host: &str) -> Vec<String> {
    let mut names = vec![host.to_owned(), format!("https://{host}"), format!("https://{host}/v2/")];
    if host == "docker.io" {
        names.push("https://index.docker.io/v1/".to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Credentials, Login};

    #[test]
    fn files_of_docker() {
        let check = |file: &str, host: &str, expect: &str| {
            let read = serde_json::from_str::<Login>(file).map_err(anyhow::Error::from);
            let got = match read.and_then(|login| login.of(host, Path::new("f"))) {
                Ok(Credentials::Known { user, password }) => format!("{user} {}", password.reveal()),
                Ok(Credentials::Unknown(why)) => why,
                Err(error) => format!("{error:#}"),
            };
            assert!(got.contains(expect), "{file} {host}: {got}");
        };
        let plain = "{\"auths\":{\"h:5\":{\"auth\":\"dTpwOnE=\"},\"https://i\":{\"auth\":\"dTpw\"}}}";
        check(plain, "h:5", "u p:q");
        check(plain, "i", "u p");
        check(plain, "h", "f has no password for it; `docker login h`");
        check("{}", "h", "f has no password for it");
        check("{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"}}}", "docker.io", "u p");
        check("{\"auths\":{\"h\":{}},\"credsStore\":\"desktop\"}", "h", "docker-credential-desktop, which is not run");
        check("{\"credHelpers\":{\"h\":\"ecr-login\"}}", "h", "docker-credential-ecr-login, which is not run");
        check("{\"auths\":{\"h\":{\"identitytoken\":\"x\"}}}", "h", "has an identity token");
        check("{\"auths\":{\"h\":{\"auth\":\"?\"}}}", "h", "`auth` of h");
        check("{\"auths\":{\"h\":{\"auth\":\"dTpw\"}},\"credsStore\":\"x\"}", "h", "u p");
        check("{\"auths\":{\"h\":{\"auth\":\"dXA=\"}}}", "h", "has no colon");
        check("{\"auths\":3}", "h", "invalid type");
    }
}
