//! What the operator said, and where: a flag wins over the environment, the environment over the
//! file, the file over the default.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    ConfigError, file,
    table::{self, Meaning, SETTINGS, Setting},
};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// A file.
    File(PathBuf),
    /// Nobody said.
    Default,
}

/// A setting as the operator wrote it, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    setting: &'static str,
    origin: Origin,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.setting;
        match &self.origin {
            Origin::Flag | Origin::Default => write!(f, "--{name}"),
            Origin::Environment => {
                let setting = table::find(name).expect("named settings are in the table");
                write!(f, "{}", setting.variable())
            }
            Origin::File(path) => write!(f, "{name} in {}", path.display()),
        }
    }
}

/// The settings that were given, each with its origin.
#[derive(Clone, Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, (String, Origin)>,
    /// Variables that look like settings and are none.
    unknown_variables: Vec<String>,
}

impl Given {
    /// Merges flags, environment and the file that one of the two names.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has a key that is no setting.
    pub fn gather(
        flags: BTreeMap<&'static str, String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Given, ConfigError> {
        let mut given = Given::default();
        for (name, value) in flags {
            given.values.insert(name, (value, Origin::Flag));
        }
        given.add_environment(environment);
        if let Some((path, _)) = given.values.get("config-file") {
            let path = PathBuf::from(path);
            given.add_file(&path)?;
        }
        Ok(given)
    }

    fn add_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        for (variable, value) in environment {
            if !variable.starts_with("ETCD_") {
                continue;
            }
            match SETTINGS.iter().find(|setting| setting.variable() == variable) {
                // As with etcd, a variable that is set to nothing counts as not set.
                Some(_) if value.is_empty() => {}
                Some(setting) => self.add(setting, value, Origin::Environment),
                None => self.unknown_variables.push(variable),
            }
        }
        self.unknown_variables.sort_unstable();
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        for (setting, value) in file::read(path)? {
            self.add(setting, value, Origin::File(path.to_owned()));
        }
        Ok(())
    }

    /// Adds a value unless one of higher precedence is there.
    fn add(&mut self, setting: &'static Setting, value: String, origin: Origin) {
        self.values.entry(setting.name).or_insert((value, origin));
    }

    /// The value and how to name the setting in a message; the table's default if it was not given.
    fn raw(&self, name: &'static str) -> (&str, Named) {
        let (value, origin) = match self.values.get(name) {
            Some((value, origin)) => (value.as_str(), origin.clone()),
            None => {
                let setting = table::find(name).expect("settings are asked for by their name");
                (setting.default, Origin::Default)
            }
        };
        (value, Named { setting: name, origin })
    }

    /// The text of a setting, if it was given and is not empty.
    #[must_use]
    pub fn text(&self, name: &'static str) -> Option<&str> {
        let (value, _) = self.values.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// How to name a setting in a message.
    #[must_use]
    pub fn named(&self, name: &'static str) -> Named {
        self.raw(name).1
    }

    /// A setting as a `T`, the table's default included.
    ///
    /// # Errors
    ///
    /// If it is none; `expected` says what would be.
    pub fn parse<T: FromStr>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        let (value, named) = self.raw(name);
        value.trim().parse().map_err(|_| ConfigError::Value {
            setting: named.to_string(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        })
    }

    /// Whether a switch is on, the table's default included; in the words of Go.
    ///
    /// # Errors
    ///
    /// If it is neither on nor off.
    pub fn switch(&self, name: &'static str) -> Result<bool, ConfigError> {
        let (value, named) = self.raw(name);
        switch(value).ok_or_else(|| ConfigError::Value {
            setting: named.to_string(),
            value: value.to_owned(),
            expected: "true or false".to_owned(),
        })
    }

    /// One line for each setting that was given and has no effect, for the log.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let unused = self.values.keys().filter_map(|&name| {
            let Meaning::NoEffect(why) = table::find(name)?.meaning else { return None };
            Some(format!("{} has no effect: {why}", self.named(name)))
        });
        let unknown = self
            .unknown_variables
            .iter()
            .map(|variable| format!("{variable} has no effect: there is no such setting"));
        unused.chain(unknown).collect()
    }

    /// Refuses what cannot be honoured, unless it asks for what is the case anyway, and switches that are
    /// neither on nor off.
    ///
    /// # Errors
    ///
    /// The first such setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (&name, (value, _)) in &self.values {
            let setting = table::find(name).expect("only settings of the table are given");
            let value = match (setting.meaning, setting.is_switch()) {
                (Meaning::NoEffect(_), _) => continue,
                (_, true) => self.switch(name)?.to_string(),
                (_, false) => value.clone(),
            };
            if let Meaning::Refused(remedy) = setting.meaning
                && value != setting.default
            {
                let setting = self.named(name).to_string();
                return Err(ConfigError::Refused { setting, remedy });
            }
        }
        Ok(())
    }
}

/// What Go takes for a truth value.
fn switch(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
