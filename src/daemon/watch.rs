//! Files that are looked at once a second: the few that a configuration names.
//!
//! A look follows links, so that it sees a renewed certificate whether a file was rewritten, renamed into place, or a
//! link was set to another one; it needs no descriptor and misses nothing that happened between two looks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another; none when it cannot be looked at.
type Mark = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Files, and how they were.
#[derive(Debug)]
pub(super) struct Watched(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    path: PathBuf,
    /// When it was last read.
    read: Mark,
    /// When it was last looked at.
    last: Mark,
}

impl Watched {
    /// Files that have just been read.
    pub(super) fn new(files: Vec<PathBuf>) -> Watched {
        let seen = |path: PathBuf| {
            let mark = mark(&path);
            Seen { path, read: mark, last: mark }
        };
        Watched(files.into_iter().map(seen).collect())
    }

    /// Whether any file is not as it was read, and all are as at the last look: a change in the middle of which nothing
    /// should be read. `true` once for each change, since the files are then read.
    pub(super) fn has_changed(&mut self) -> bool {
        let mut moving = false;
        for file in &mut self.0 {
            let now = mark(&file.path);
            moving |= now != file.last;
            file.last = now;
        }
        let changed = !moving && self.0.iter().any(|file| file.last != file.read);
        if changed {
            self.0.iter_mut().for_each(|file| file.read = file.last);
        }
        changed
    }

    /// The files are about to be read as they are now.
    pub(super) fn catch_up(&mut self) {
        for file in &mut self.0 {
            file.last = mark(&file.path);
            file.read = file.last;
        }
    }

    /// Watches these files instead, which have been read. What was seen of a file before it was read stays, so that a
    /// change in between is noticed.
    pub(super) fn follow(&mut self, files: Vec<PathBuf>) {
        let mut next = Watched::new(files);
        for file in &mut next.0 {
            if let Some(known) = self.0.iter().find(|known| known.path == file.path) {
                (file.read, file.last) = (known.read, known.last);
            }
        }
        *self = next;
    }
}

fn mark(path: &Path) -> Mark {
    let about = fs::metadata(path).ok()?;
    let (written, changed) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    Some((about.dev(), about.ino(), about.size(), written, changed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_told_once_and_only_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "1").unwrap();
        let mut watched = Watched::new(vec![path.clone()]);
        assert!(!watched.has_changed());
        fs::write(&path, "12").unwrap();
        assert!(!watched.has_changed(), "it has only just changed");
        fs::write(&path, "123").unwrap();
        assert!(!watched.has_changed(), "and goes on to");
        assert!(watched.has_changed());
        assert!(!watched.has_changed());
    }

    #[test]
    fn a_link_set_to_another_file_and_a_file_renamed_into_place_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old"), "1").unwrap();
        fs::write(at("new"), "2").unwrap();
        symlink(at("old"), at("live")).unwrap();
        let mut watched = Watched::new(vec![at("live")]);
        symlink(at("new"), at("next")).unwrap();
        fs::rename(at("next"), at("live")).unwrap();
        assert!(!watched.has_changed() && watched.has_changed());
        fs::write(at("newer"), "3").unwrap();
        fs::rename(at("newer"), at("new")).unwrap();
        assert!(!watched.has_changed() && watched.has_changed());
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "1").unwrap();
        let mut watched = Watched::new(vec![at("a")]);
        fs::hard_link(at("a"), at("b")).unwrap();
        watched.catch_up();
        fs::rename(at("a"), at("c")).unwrap();
        assert!(!watched.has_changed());
        fs::rename(at("c"), at("a")).unwrap();
        assert!(!watched.has_changed());
    }

    #[test]
    fn what_changes_after_a_reload_began_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "1").unwrap();
        let mut watched = Watched::new(vec![path.clone()]);
        watched.catch_up();
        fs::write(&path, "12").unwrap();
        watched.follow(vec![path]);
        assert!(!watched.has_changed() && watched.has_changed());
    }
}
