//! What is wrong with a configuration: file, line, key, what, and what to do about it.
//!
//! Never holds the text of a secret: these messages are printed and logged.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration was refused: everything that is wrong with it, as far as it could be read.
#[derive(Debug)]
pub struct ConfigError {
    /// Each thing that is wrong; never empty.
    pub problems: Vec<Problem>,
    /// Whether the file itself could not be read, so that nothing is known about what it says.
    pub unreadable: bool,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable that sets the key, if one does.
    pub variable: Option<String>,
    /// The file; none when the value came from the command line or is a default.
    pub file: Option<PathBuf>,
    /// The line, where the file says something about the key.
    pub line: Option<usize>,
    /// The key as a path: `relay.external[0].local`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// The variable, or `file:line` as far as either is known.
    pub fn place(&self) -> String {
        if let Some(variable) = &self.variable {
            return variable.clone();
        }
        let file = self.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        self.line.map_or(file.clone(), |line| format!("{file}:{line}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_some() || self.variable.is_some() {
            write!(f, "{}: ", self.place())?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n  remedy: {}", self.what, self.remedy)
    }
}

/// A problem as a section reports it, before the key is looked up in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { key: key.into(), what: what.into(), remedy: remedy.into() }
    }
}

/// Collects the faults of all sections, so that one run names one of each.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// Keeps the fault, or hands on the value.
    pub(super) fn keep<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }
}
