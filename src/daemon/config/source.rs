//! The text of a configuration file, and where in it each key stands.
//!
//! Turns the errors of the TOML reader into [`Problem`]s: with the line and the whole key, a suggestion for an
//! unknown key, and without the value wherever that could be a secret.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::environment::Setting;
use super::file::File;
use super::problem::{ConfigError, Fault, Problem};
use super::units::REMEDY;

const REFERENCE: &str = "config/reference.toml shows each key with its form and default";

/// A configuration file that has been read, or none.
#[derive(Clone)]
pub struct Source {
    path: Option<PathBuf>,
    text: Zeroizing<String>,
    mode: u32,
    environment: Vec<Setting>,
}

impl Source {
    /// No file: everything has its default.
    pub fn none() -> Source {
        Source { path: None, text: Zeroizing::new(String::new()), mode: 0, environment: Vec::new() }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Source, ConfigError> {
        let read = || Ok::<_, std::io::Error>((fs::read_to_string(path)?, fs::metadata(path)?.permissions().mode()));
        match read() {
            Ok((text, mode)) => {
                let (path, text) = (Some(path.to_owned()), Zeroizing::new(text));
                Ok(Source { path, text, mode, environment: Vec::new() })
            }
            Err(error) => Err(ConfigError {
                problems: vec![Problem {
                    variable: None,
                    file: Some(path.to_owned()),
                    line: None,
                    key: String::new(),
                    what: format!("cannot read the configuration: {error}"),
                    remedy: "name an existing, readable file with --config FILE or in TURNWELL_CONFIG; \
                             `turnwell dev` needs none"
                        .into(),
                }],
                unreadable: true,
            }),
        }
    }

    /// The same text, however open the file is: for a server whose secrets are thrown away.
    pub fn whoever_may_read_it(self) -> Source {
        Source { mode: 0, ..self }
    }

    /// The same under these variables, which win: `TURNWELL_SECTION__KEY`.
    pub fn under(self, variables: impl Iterator<Item = (OsString, OsString)>) -> Source {
        Source { environment: Setting::all(variables), ..self }
    }

    /// Where a key's value comes from: a file with a line, a variable, or neither.
    pub fn origin(&self, key: &str) -> String {
        if let Some(setting) = self.environment.iter().find(|setting| setting.key == key) {
            return format!("environment: {}", setting.variable);
        }
        let Some(span) = self.place_of(key).filter(|(_, is_exact)| *is_exact).map(|(span, _)| span) else {
            return "default".into();
        };
        let file = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        format!("{file}:{}", self.line_of(span.start))
    }

    /// Whether the text itself holds a secret.
    pub(super) fn text_holds(&self, is_secret: impl Fn(&File) -> bool) -> bool {
        toml::from_str(&self.text).is_ok_and(|file| is_secret(&file))
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether users other than owner and group may read the file; then it must not hold a secret. The mode is given.
    pub(super) fn world_readable(&self) -> Option<u32> {
        (self.mode & 0o004 != 0).then_some(self.mode & 0o777)
    }

    /// Reads the text as TOML, and then what the environment sets.
    pub fn parse(&self) -> Result<File, ConfigError> {
        let file = self.parse_text()?;
        if self.environment.is_empty() {
            return Ok(file);
        }
        let wrong = |setting: &Setting| {
            let error = toml::from_str::<File>(&setting.text).err()?;
            Some(setting.problem(explain(setting.key.clone(), error.message())))
        };
        let problems: Vec<Problem> = self.environment.iter().filter_map(wrong).collect();
        if !problems.is_empty() {
            return Err(ConfigError { problems, unreadable: false });
        }
        // each is right by itself, so that together they cannot be wrong
        self.merged().map_err(|error| {
            let fault = Fault::new("", error.message(), REFERENCE);
            ConfigError { problems: vec![self.problem(fault, None)], unreadable: false }
        })
    }

    /// The text with the keys of the environment in it.
    fn merged(&self) -> Result<File, toml::de::Error> {
        let mut document = DeTable::parse(&self.text)?;
        for setting in &self.environment {
            for (section, keys) in DeTable::parse(&setting.text)?.into_inner() {
                match document.get_mut().get_mut(section.get_ref().as_ref()).map(toml::Spanned::get_mut) {
                    Some(DeValue::Table(table)) => {
                        if let DeValue::Table(keys) = keys.into_inner() {
                            table.extend(keys);
                        }
                    }
                    _ => drop(document.get_mut().insert(section, keys)),
                }
            }
        }
        File::deserialize(toml::de::Deserializer::from(document))
    }

    fn parse_text(&self) -> Result<File, ConfigError> {
        let refused = |fault, line| ConfigError { problems: vec![self.problem(fault, line)], unreadable: false };
        let line = |span: Option<Range<usize>>| span.map(|span| self.line_of(span.start));
        if let Err(error) = DeTable::parse(&self.text) {
            return Err(refused(self.explain_syntax(&error), line(error.span())));
        }
        toml::from_str(&self.text).map_err(|error| {
            let key = error.span().map(|span| self.key_at(&span)).unwrap_or_default();
            refused(explain(key, error.message()), line(error.span()))
        })
    }

    fn explain_syntax(&self, error: &toml::de::Error) -> Fault {
        if error.message() == "duplicate key" {
            let key = error.span().and_then(|span| self.text.get(span)).unwrap_or_default();
            return Fault::new(key, "the key is there twice", "remove one of the two");
        }
        Fault::new("", format!("this is not TOML: {}", error.message()), format!("correct the line; {REFERENCE}"))
    }

    /// Gives each fault its file and line.
    pub(super) fn locate(&self, faults: Vec<Fault>) -> ConfigError {
        let problems = faults.into_iter().map(|fault| {
            if let Some(setting) = self.environment.iter().find(|setting| setting.sets(&fault.key)) {
                return setting.problem(fault);
            }
            let line = self.span_of(&fault.key).map(|span| self.line_of(span.start));
            self.problem(fault, line)
        });
        ConfigError { problems: problems.collect(), unreadable: false }
    }

    fn problem(&self, fault: Fault, line: Option<usize>) -> Problem {
        Problem {
            variable: None,
            file: self.path.clone(),
            line,
            key: fault.key,
            what: fault.what,
            remedy: fault.remedy,
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// Where the key, or the nearest of its parents, stands.
    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.place_of(key).map(|(span, _)| span)
    }

    /// The same, and whether it is the key itself.
    fn place_of(&self, key: &str) -> Option<(Range<usize>, bool)> {
        let (document, _) = DeTable::parse_recoverable(&self.text);
        let mut names = key.split(['.', '[', ']']).filter(|name| !name.is_empty());
        let (name, mut value) = document.get_ref().get_key_value(names.next()?)?;
        let mut span = name.span();
        let mut is_exact = true;
        for name in names {
            is_exact = false;
            value = match value.get_ref() {
                DeValue::Table(table) => match table.get_key_value(name) {
                    Some((name, value)) => {
                        span = name.span();
                        is_exact = true;
                        value
                    }
                    None => break,
                },
                DeValue::Array(array) => match name.parse().ok().and_then(|index: usize| array.get(index)) {
                    Some(value) => {
                        span = value.span();
                        is_exact = true;
                        value
                    }
                    None => break,
                },
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => break,
            };
        }
        Some((span, is_exact))
    }

    /// The key whose name or value stands at a place.
    fn key_at(&self, span: &Range<usize>) -> String {
        let (document, _) = DeTable::parse_recoverable(&self.text);
        let mut path = String::new();
        key_in_table(document.get_ref(), span, &mut path);
        path
    }
}

/// Appends the key in this table that stands at the place; false if none does.
fn key_in_table(table: &DeTable<'_>, at: &Range<usize>, path: &mut String) -> bool {
    let length = path.len();
    for (name, value) in table {
        if length > 0 {
            path.push('.');
        }
        path.push_str(name.get_ref());
        if holds(&name.span(), at) || key_in_value(value, at, path) {
            return true;
        }
        path.truncate(length);
    }
    false
}

/// Appends what is inside this value to the path, if the place is inside; a table spans only its header, so it is
/// always searched.
fn key_in_value(value: &toml::Spanned<DeValue<'_>>, at: &Range<usize>, path: &mut String) -> bool {
    match value.get_ref() {
        DeValue::Table(table) if key_in_table(table, at, path) => true,
        DeValue::Array(array) => {
            let length = path.len();
            for (index, value) in array.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                if key_in_value(value, at, path) {
                    return true;
                }
                path.truncate(length);
            }
            holds(&value.span(), at)
        }
        DeValue::Table(_)
        | DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => holds(&value.span(), at),
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && !outer.is_empty()
}

/// Says in our words what the TOML reader found.
fn explain(key: String, message: &str) -> Fault {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let wrong = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return Fault::new(key, "there is no such key", suggest(wrong, &known));
    }
    if message.starts_with("unknown variant") {
        let wrong = quoted.next().unwrap_or_default();
        let known: Vec<String> = quoted.map(|name| format!("\"{name}\"")).collect();
        return Fault::new(key, format!("{wrong:?} is not one of its values"), format!("write {}", known.join(" or ")));
    }
    if message.starts_with("missing field") {
        let name = quoted.next().unwrap_or_default();
        return Fault::new(key, format!("`{name}` is missing"), format!("add `{name}`; {REFERENCE}"));
    }
    if let Some((what, remedy)) = message.split_once(REMEDY) {
        return Fault::new(key, what, remedy);
    }
    let what = if may_be_secret(&key) { without_value(message) } else { message.to_owned() };
    Fault::new(key, what, REFERENCE)
}

fn may_be_secret(key: &str) -> bool {
    key.starts_with("credentials") || key.starts_with("api")
}

/// serde says `invalid type: string "hunter2", expected a sequence`: keeps the type, drops the value.
fn without_value(message: &str) -> String {
    match (message.find(['`', '"']), message.rfind(", expected ")) {
        (Some(start), Some(end)) if start < end => format!("{}{}", message[..start].trim_end(), &message[end..]),
        (Some(start), _) => message[..start].trim_end().to_owned(),
        (None, _) => message.to_owned(),
    }
}

/// The remedy for an unknown key: the nearest known one, the section it belongs to, or all that are known.
fn suggest(wrong: &str, known: &[&str]) -> String {
    let wrong = wrong.replace('_', "-");
    if let Some(section) = section_of(&wrong)
        && !known.contains(&wrong.as_str())
    {
        return format!("`{wrong}` belongs into [{section}]");
    }
    let near = known.iter().map(|name| (distance(&wrong, name), *name)).min();
    match near {
        Some((distance, name)) if distance <= 2.max(name.len() / 3) => format!("did you mean `{name}`?"),
        _ => format!("the keys here are {}", known.join(", ")),
    }
}

/// The one section that has a key of this name.
fn section_of(name: &str) -> Option<String> {
    let known = toml::Table::try_from(File::default()).ok()?;
    let mut sections = known.iter().filter(|(_, section)| section.get(name).is_some());
    match (sections.next(), sections.next()) {
        (Some((section, _)), None) => Some(section.clone()),
        _ => None,
    }
}

/// The number of letters to insert, remove or replace (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Problem {
        let source = Source {
            path: Some("t.toml".into()),
            text: Zeroizing::new(text.into()),
            mode: 0o600,
            environment: Vec::new(),
        };
        source.parse().unwrap_err().problems.remove(0)
    }

    #[test]
    fn unknown_keys_get_line_whole_key_and_suggestion() {
        let problem = problem("[server]\nrealm = \"a\"\n\n[relay]\nprots = \"1-2\"\n");
        assert_eq!((problem.line, problem.key.as_str()), (Some(5), "relay.prots"));
        assert_eq!(problem.remedy, "did you mean `ports`?");
    }

    #[test]
    fn a_key_of_another_section_is_sent_there() {
        assert_eq!(problem("[listen]\npublic_host = \"a\"\n").remedy, "`public-host` belongs into [server]");
        assert_eq!(problem("realm = \"a\"\n").remedy, "`realm` belongs into [server]");
        assert!(
            problem("[relay]\nxyzzyx = 1\n").remedy.contains("addresses, ports"),
            "{}",
            problem("[relay]\nxyzzyx = 1\n").remedy
        );
    }

    #[test]
    fn values_in_arrays_and_inline_tables_are_found() {
        let wrong = problem(
            "[relay]\nexternal = [\n  { local = \"10.0.0.2\", public = \"1.2.3.4\" },\n  \
            { local = \"10.0.0\", public = \"1.2.3.4\" },\n]\n",
        );
        assert_eq!((wrong.line, wrong.key.as_str()), (Some(4), "relay.external[1].local"));
        let missing = problem("[relay]\nexternal = [{ local = \"10.0.0.2\" }]\n");
        assert_eq!((missing.line, missing.what.as_str()), (Some(2), "`public` is missing"));
        let listener = problem("[listen]\nudp = [\"0.0.0.0:3478\", \"localhost:3478\"]\n");
        assert_eq!(listener.key, "listen.udp[1]");
    }

    #[test]
    fn wrong_types_and_values_name_the_form() {
        let number = problem("[lifetimes]\ndefault = 600\n");
        assert_eq!((number.line, number.key.as_str()), (Some(2), "lifetimes.default"));
        assert!(number.what.contains("a length of time in quotes, such as \"10m\""), "{}", number.what);
        assert_eq!(problem("[log]\nformat = \"xml\"\n").remedy, "write \"text\" or \"json\"");
        assert!(problem("[relay]\nports = \"600-500\"\n").what.contains("empty range"));
        assert_eq!(problem("[relay\n").line, Some(1));
    }

    #[test]
    fn no_message_repeats_a_secret() {
        for text in [
            "[credentials]\nsecrets = \"hunter2\"\n",
            "[credentials]\nsecrets = [19283746]\n",
            "[credentials]\nusers = [\"hunter2\"]\n",
            "[credentials]\nusers = [{ name = \"a\", password = [\"hunter2\"] }]\n",
            "[credentials]\nusers = [{ name = \"a\", password = 19283746 }]\n",
            "[credentials]\nsecrets = [\"hunter2]\n",
            "[credentials]\nsecrets = [hunter2]\n",
            "[api]\nkeys = \"hunter2\"\n",
            "credentials = \"hunter2\"\n",
        ] {
            let problem = problem(text).to_string();
            assert!(!problem.contains("hunter2") && !problem.contains("19283746"), "{problem}");
        }
    }

    #[test]
    fn the_line_of_a_default_is_the_nearest_parent() {
        let source = Source {
            path: None,
            text: Zeroizing::new("[api]\nmax-ttl = \"1h\"\n".into()),
            mode: 0,
            environment: Vec::new(),
        };
        let line = |key| source.span_of(key).map(|span| source.line_of(span.start));
        assert_eq!(line("api.max-ttl"), Some(2));
        assert_eq!(line("api.default-ttl"), Some(1));
        assert_eq!(line("relay.ports"), None);
    }
}
