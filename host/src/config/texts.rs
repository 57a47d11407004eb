//! The texts of the settings: what each source says, the strongest of which holds.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};

use super::{SETTINGS, Setting, Source, Value, setting, unknown, url};

/// The texts of all settings, each with its source.
#[derive(Clone, Debug)]
pub struct Texts(BTreeMap<&'static str, (String, Source)>);

/// A setting as it may be shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The setting.
    pub setting: &'static Setting,
    /// Its text, without what is secret.
    pub text: String,
    /// Whether something was left out, so that the text is not the setting's.
    pub hides: bool,
    /// Where it came from.
    pub source: &'a Source,
}

// === impl Texts ===

impl Texts {
    /// The defaults.
    pub fn defaults() -> Self {
        Self(SETTINGS.iter().map(|setting| (setting.name, (setting.default.to_owned(), Source::Default))).collect())
    }

    /// Sets one value, if its source is not weaker than the one it has.
    ///
    /// # Errors
    /// There is no such setting; the message names the nearest that there is.
    pub fn set(&mut self, name: &str, text: String, source: Source) -> anyhow::Result<()> {
        let setting = setting(name).with_context(|| unknown(name, &source))?;
        match self.0.get(setting.name) {
            Some((_, known)) if known.rank() > source.rank() => {}
            _ => drop(self.0.insert(setting.name, (text, source))),
        }
        Ok(())
    }

    /// Sets what a configuration file says.
    ///
    /// # Errors
    /// It is not TOML, or has an unknown key or a value of the wrong type.
    pub fn set_file(&mut self, path: &Path, content: &str) -> anyhow::Result<()> {
        let table: toml::Table = content.parse().with_context(|| format!("{} is not TOML", path.display()))?;
        for (name, value) in table {
            let source = Source::File(path.to_owned());
            let setting = setting(&name).with_context(|| unknown(&name, &source))?;
            let text = match (value, setting.number) {
                (toml::Value::Integer(number), true) => number.to_string(),
                (toml::Value::String(text), false) => text,
                // Rules are tables of their own in the file, and a text everywhere else.
                (toml::Value::Array(rules), _) if setting.name == "warm" && rules.iter().all(toml::Value::is_table) => {
                    toml::Table::from_iter([(name.clone(), toml::Value::Array(rules))]).to_string()
                }
                (other, _) => bail!(
                    "{name} in {} is {}; it takes {}",
                    path.display(),
                    other.type_str(),
                    if setting.number { "an integer" } else { "a string" }
                ),
            };
            self.set(&name, text, source)?;
        }
        Ok(())
    }

    /// Sets what the environment says.
    pub fn set_variables(&mut self, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
        let variables: BTreeMap<_, _> = variables.collect();
        for setting in SETTINGS {
            let own = format!("BELLWETHER_{}", setting.name.to_ascii_uppercase());
            // The project's own variable is said on purpose, the general one may be there for others.
            for variable in [setting.variable, own.as_str()] {
                if let Some(text) = variables.get(variable) {
                    self.set(setting.name, text.clone(), Source::Variable(variable.to_owned()))?;
                }
            }
        }
        let known = |name: &str| setting(&name.to_ascii_lowercase()).is_some() || name == "CONFIG";
        let stray = variables.keys().find(|name| name.strip_prefix("BELLWETHER_").is_some_and(|name| !known(name)));
        match stray {
            None => Ok(()),
            Some(name) => {
                let short = name.trim_start_matches("BELLWETHER_").to_ascii_lowercase();
                bail!("{}", unknown(&short, &Source::Variable(name.clone())))
            }
        }
    }

    /// Every setting, in the order of the table.
    pub fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        SETTINGS.iter().filter_map(|setting| {
            let (whole, source) = self.0.get(setting.name)?;
            let text = match setting.name {
                "upstream" => url::without_password(whole),
                _ if setting.secret && !whole.is_empty() => "(not shown)".to_owned(),
                _ => whole.clone(),
            };
            Some(Shown { setting, hides: text != *whole, text, source })
        })
    }

    pub(super) fn read<T: Value>(&self, name: &'static str) -> anyhow::Result<T> {
        let (text, source) = self.0.get(name).context("a setting without a default")?;
        T::read(text).with_context(|| {
            let shown = match name {
                _ if T::SECRET => "its value".to_owned(),
                "upstream" => url::without_password(text),
                _ => text.clone(),
            };
            format!("{name} ({source}): {shown:?} is not {}", T::TAKES)
        })
    }
}
