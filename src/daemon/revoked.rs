//! The list of revocations and the file that keeps it over restarts, a crash included.
//!
//! The file is replaced whole: written beside, flushed, renamed. An unreadable file stops the start, because a server
//! that forgot its revocations would readmit whom an operator has shut out.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::credentials::{Revocation, Revocations, Subject};

/// Entries at a time. An entry that no credential can outlive is dropped.
pub(super) const MOST: usize = 10_000;
const NAME: &str = "revocations.json";

/// One entry, as the API shows it and the file keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// Names it for `DELETE`.
    pub(super) id: u64,
    /// When it was made, in seconds since 1970.
    pub(super) created: u64,
    /// Until when it is kept, in seconds since 1970.
    pub(super) until: u64,
    /// One user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    /// Everything of one user, or with `expiresBefore` a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// Credentials that end before this time, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_before: Option<u64>,
}

impl Entry {
    fn new(id: u64, created: u64, until: u64, subject: Subject) -> Entry {
        let mut entry = Entry { id, created, until, username: None, user: None, expires_before: None };
        match subject {
            Subject::Username(username) => entry.username = Some(username.into()),
            Subject::User(user) => entry.user = Some(user.into()),
            Subject::Issued { user, expires_before } => {
                entry.user = user.map(Into::into);
                entry.expires_before = Some(expires_before);
            }
        }
        entry
    }

    fn revocation(&self) -> Option<Revocation> {
        let subject = match (&self.username, &self.user, self.expires_before) {
            (Some(username), _, _) => Subject::Username(username.as_str().into()),
            (None, user, Some(expires_before)) => {
                Subject::Issued { user: user.as_deref().map(Into::into), expires_before }
            }
            (None, Some(user), None) => Subject::User(user.as_str().into()),
            (None, None, None) => return None,
        };
        Some(Revocation { subject, until: self.until })
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct List {
    next: u64,
    entries: Vec<Entry>,
}

/// Why an entry was not made or not removed.
#[derive(Debug)]
pub(super) enum RevokeError {
    /// There are as many as there may be.
    Full,
    /// The change holds, but is lost when the server ends.
    NotKept(io::Error),
}

/// All entries, in memory and in the file.
pub(super) struct Revoked {
    path: Option<PathBuf>,
    list: Mutex<List>,
    /// One writer at a time, so that an older list never replaces a newer one.
    writing: Mutex<()>,
}

impl Revoked {
    /// Reads what an earlier run kept; without a folder nothing is kept.
    pub(super) fn load(folder: Option<&Path>, now: u64) -> io::Result<Revoked> {
        let path = folder.map(|folder| folder.join(NAME));
        let mut list = match &path {
            Some(path) => read(path)?,
            None => List::default(),
        };
        list.entries.retain(|entry| now < entry.until);
        Ok(Revoked { path, list: Mutex::new(list), writing: Mutex::default() })
    }

    /// Whether entries outlive the server.
    pub(super) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn entries(&self, now: u64) -> Vec<Entry> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.entries.iter().filter(|entry| now < entry.until).cloned().collect()
    }

    /// For the engines.
    pub(super) fn set(&self) -> Arc<Revocations> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Revocation> = list.entries.iter().filter_map(Entry::revocation).collect();
        Arc::new(Revocations::new(&all))
    }

    /// Adds an entry; `save` keeps it. A subject that is there already only gets the later end.
    pub(super) fn add(&self, subject: Subject, until: u64, now: u64) -> Result<Entry, RevokeError> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.entries.retain(|entry| now < entry.until);
        let mut entry = Entry::new(list.next + 1, now, until, subject);
        let same = |other: &&mut Entry| {
            (&other.username, &other.user, other.expires_before) == (&entry.username, &entry.user, entry.expires_before)
        };
        if let Some(known) = list.entries.iter_mut().find(same) {
            known.until = known.until.max(until);
            entry = known.clone();
            return Ok(entry);
        }
        if list.entries.len() >= MOST {
            return Err(RevokeError::Full);
        }
        list.next = entry.id;
        list.entries.push(entry.clone());
        Ok(entry)
    }

    /// Removes an entry; `save` keeps that. `false` when there is none.
    pub(super) fn remove(&self, id: u64) -> bool {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let before = list.entries.len();
        list.entries.retain(|entry| entry.id != id);
        list.entries.len() < before
    }

    /// Writes the file. May wait for the disk.
    pub(super) fn save(&self) -> Result<(), RevokeError> {
        let Some(path) = &self.path else { return Ok(()) };
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        write(path, &list).map_err(RevokeError::NotKept)
    }
}

fn read(path: &Path) -> io::Result<List> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(List::default()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, list: &List) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(list).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Subject {
        Subject::User(name.into())
    }

    #[test]
    fn what_is_saved_is_there_after_a_restart_until_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let revoked = Revoked::load(Some(folder.path()), 0).unwrap();
        revoked.add(user("alice"), 100, 1).unwrap();
        let bob = revoked.add(Subject::Username("50:bob".into()), 50, 1).unwrap();
        revoked.add(Subject::Issued { user: None, expires_before: 70 }, 70, 1).unwrap();
        revoked.save().unwrap();
        let again = Revoked::load(Some(folder.path()), 10).unwrap();
        assert_eq!(again.entries(10), revoked.entries(10));
        assert!(again.set().contains("9:alice", "alice", Some(9), 10));
        assert!(again.remove(bob.id) && !again.remove(bob.id));
        again.save().unwrap();
        let later = Revoked::load(Some(folder.path()), 80).unwrap();
        assert_eq!(later.entries(80).len(), 1);
        let next = later.add(user("carol"), 100, 80).unwrap();
        assert_eq!(next.id, 4, "ids are not used again");
    }

    #[test]
    fn the_same_subject_is_one_entry_with_the_later_end() {
        let revoked = Revoked::load(None, 0).unwrap();
        let first = revoked.add(user("alice"), 100, 1).unwrap();
        let second = revoked.add(user("alice"), 50, 2).unwrap();
        assert_eq!((first.id, second.until, revoked.entries(0).len()), (second.id, 100, 1));
        assert!(!revoked.is_kept() && revoked.save().is_ok());
    }

    #[test]
    fn there_is_a_most_and_room_comes_back_with_time() {
        let revoked = Revoked::load(None, 0).unwrap();
        for n in 0..MOST {
            revoked.add(user(&n.to_string()), 100, 1).unwrap();
        }
        assert!(matches!(revoked.add(user("one more"), 100, 1), Err(RevokeError::Full)));
        assert!(revoked.add(user("one more"), 200, 100).is_ok());
    }

    #[test]
    fn a_garbled_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(Revoked::load(Some(folder.path()), 0).is_err());
    }
}
