//! The file with settings: TOML, or YAML as etcd has it.
//!
//! Both hold the settings by the names of their flags. Those of certificates may stand in sections, as in
//! etcd's files.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::{
    ConfigError,
    table::{self, Setting},
};

/// etcd's sections, and what the flags of their settings begin with.
const SECTIONS: [(&str, &str); 2] =
    [("client-transport-security", ""), ("peer-transport-security", "peer-")];

/// Settings of those sections whose flags have other names, without what these begin with.
const RENAMED: [(&str, &str); 2] =
    [("allowed-cn", "cert-allowed-cn"), ("allowed-hostname", "cert-allowed-hostname")];

/// What a file may hold.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Switch(bool),
    Number(i64),
    Fraction(f64),
    Text(String),
    List(Vec<Entry>),
    Section(BTreeMap<String, Option<Entry>>),
}

/// The settings in a file, each as the flag would have it.
///
/// # Errors
///
/// If it cannot be read or has a key that is no setting.
pub(super) fn read(path: &Path) -> Result<Vec<(&'static Setting, String)>, ConfigError> {
    let shown = path.display().to_string();
    let failed = |reason: String| ConfigError::File { path: shown.clone(), reason };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let entries = match is_toml(path, &text) {
        true => parse_toml(&text).map_err(|reason| failed(format!("as TOML: {reason}")))?,
        false => parse_yaml(&text).map_err(|reason| failed(format!("as YAML: {reason}")))?,
    };
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for (name, entry) in flat(entries) {
        let is_setting = |setting: &&Setting| setting.name != "config-file";
        let Some(setting) = table::find(&name).filter(is_setting) else {
            unknown.push(name);
            continue;
        };
        // A key with nothing behind it is one that was not given.
        let Some(entry) = entry else { continue };
        let value = text_of(&entry).ok_or_else(|| {
            failed(format!("{name} must be a text, a number, true, false or a list"))
        })?;
        found.push((setting, value));
    }
    match unknown.is_empty() {
        true => Ok(found),
        false => Err(ConfigError::UnknownKeys { path: shown, keys: unknown.join(", ") }),
    }
}

/// As the name of the file says; otherwise as its first key is followed by `=` or `:`.
fn is_toml(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => true,
        Some("yaml" | "yml") => false,
        _ => {
            let mut lines = text.lines().map(str::trim);
            let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', '-']));
            let sign = first.and_then(|line| line.find(['=', ':']).map(|at| &line[at..=at]));
            sign != Some(":")
        }
    }
}

type Entries = BTreeMap<String, Option<Entry>>;

fn parse_toml(text: &str) -> Result<Entries, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        // The parser's own text spans several lines; one has to do.
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let at = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{at}{}", error.message())
    })
}

fn parse_yaml(text: &str) -> Result<Entries, String> {
    let entries: Option<Entries> = serde_saphyr::from_str(text).map_err(|error| {
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        match error.location() {
            Some(location) if !reason.contains("line ") => {
                format!("line {}: {reason}", location.line())
            }
            _ => reason,
        }
    })?;
    // A file without any key.
    Ok(entries.unwrap_or_default())
}

/// The settings by the names of their flags.
fn flat(entries: Entries) -> Vec<(String, Option<Entry>)> {
    let mut flat = Vec::new();
    for (name, entry) in entries {
        let section = SECTIONS.iter().find(|(section, _)| *section == name);
        match (section, entry) {
            (Some((_, prefix)), Some(Entry::Section(entries))) => {
                flat.extend(entries.into_iter().map(|(name, entry)| {
                    let renamed = RENAMED.iter().find(|(key, _)| *key == name);
                    let name = renamed.map_or(name.as_str(), |(_, flag)| flag);
                    let prefix = match (*prefix, renamed) {
                        ("", Some(_)) => "client-",
                        (prefix, _) => prefix,
                    };
                    (format!("{prefix}{name}"), entry)
                }));
            }
            (Some(_), None) => {}
            (_, entry) => flat.push((name, entry)),
        }
    }
    flat
}

/// A value of the file as the flag would have it.
fn text_of(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Switch(switch) => Some(switch.to_string()),
        Entry::Number(number) => Some(number.to_string()),
        Entry::Fraction(number) => Some(number.to_string()),
        Entry::Text(text) => Some(text.clone()),
        Entry::List(items) => {
            let items: Option<Vec<_>> = items.iter().map(text_of).collect();
            Some(items?.join(","))
        }
        Entry::Section(_) => None,
    }
}
