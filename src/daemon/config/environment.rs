//! Keys that are set by variables: `TURNWELL_SERVER__PUBLIC_HOST` is `public-host` in `[server]`, and wins over the file.

use std::ffi::OsString;

use zeroize::Zeroizing;

use super::file::File;
use super::problem::{Fault, Problem};

const PREFIX: &str = "TURNWELL_";
/// Between section and key; a variable without it is none of these.
const BETWEEN: &str = "__";

/// A key that a variable sets.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) variable: String,
    /// `section.key`
    pub(super) key: String,
    /// A configuration with this key alone.
    pub(super) text: Zeroizing<String>,
}

impl Setting {
    /// Those among the variables of an environment.
    pub(super) fn all(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<Setting> {
        let mut settings: Vec<Setting> =
            variables.filter_map(|(name, value)| Setting::new(name.to_str()?, value.to_str()?)).collect();
        settings.sort_by(|left, right| left.variable.cmp(&right.variable));
        settings
    }

    fn new(variable: &str, value: &str) -> Option<Setting> {
        let (section, name) = variable.strip_prefix(PREFIX)?.split_once(BETWEEN)?;
        let word = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        let (section, name) = (word(section), word(name));
        let known = toml::Table::try_from(File::default()).ok()?;
        let value = Zeroizing::new(match known.get(&section).and_then(|section| section.get(&name)) {
            Some(toml::Value::Integer(_) | toml::Value::Boolean(_)) => value.to_owned(),
            Some(toml::Value::Array(_)) => list(value),
            _ => quoted(value),
        });
        let text = Zeroizing::new(format!("[{section}]\n{name} = {}\n", *value));
        Some(Setting { variable: variable.to_owned(), key: format!("{section}.{name}"), text })
    }

    /// Whether it sets this key, or what the key is a part of.
    pub(super) fn sets(&self, key: &str) -> bool {
        key.strip_prefix(&self.key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// What is wrong with the value.
    pub(super) fn problem(&self, fault: Fault) -> Problem {
        Problem {
            variable: Some(self.variable.clone()),
            file: None,
            line: None,
            key: fault.key,
            what: fault.what,
            remedy: fault.remedy,
        }
    }
}

/// A list as TOML has it, or words with commas between them.
fn list(value: &str) -> String {
    if value.trim_start().starts_with('[') {
        return value.to_owned();
    }
    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(quoted);
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(variable: &str, value: &str) -> File {
        toml::from_str(&Setting::new(variable, value).unwrap().text).unwrap()
    }

    #[test]
    fn every_key_can_be_set_to_its_default() {
        let known = toml::Table::try_from(File::default()).unwrap();
        for (section, keys) in &known {
            for (name, value) in keys.as_table().unwrap() {
                let variable = format!("TURNWELL_{section}__{name}").to_uppercase().replace('-', "_");
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                assert_eq!(file(&variable, &value), File::default(), "{variable}={value}");
            }
        }
    }

    #[test]
    fn lists_are_toml_or_words_with_commas() {
        let udp = |value: &str| file("TURNWELL_LISTEN__UDP", value).listen.udp;
        assert_eq!(udp("192.0.2.1:1, [::1]:2"), udp("['192.0.2.1:1', '[::1]:2']"));
        assert!(udp("").is_empty());
        assert_eq!(file("TURNWELL_LIMITS__CHANNELS", "7").limits.channels, 7);
        assert_eq!(file("TURNWELL_SERVER__REALM", "it's \"x\"\n").server.realm, "it's \"x\"\n");
    }

    #[test]
    fn other_variables_are_none_of_these() {
        assert!(Setting::new("TURNWELL_CONFIG", "x").is_none() && Setting::new("SERVER__REALM", "x").is_none());
    }
}
