//! Reads the files that hold one secret each, and refuses those that others may read.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::problem::Fault;
use super::units::SecretText;

/// Far more than any secret needs.
const LONGEST: u64 = 4096;
const CREDENTIALS_DIRECTORY: &str = "$CREDENTIALS_DIRECTORY/";

/// Where the files named in a configuration are looked for.
pub(super) struct Places {
    /// The directory of the configuration file.
    pub(super) directory: PathBuf,
    /// Where systemd puts the files of `LoadCredential=`.
    pub(super) credentials: Option<PathBuf>,
    /// What was looked for up to now.
    pub(super) found: RefCell<Vec<PathBuf>>,
}

impl Places {
    pub(super) fn new(directory: PathBuf, credentials: Option<PathBuf>) -> Places {
        Places { directory, credentials, found: RefCell::default() }
    }

    /// The path of a file that a key names.
    pub(super) fn find(&self, key: &str, name: &str) -> Result<PathBuf, Fault> {
        let path = self.resolve(key, name)?;
        self.found.borrow_mut().push(path.clone());
        Ok(path)
    }

    fn resolve(&self, key: &str, name: &str) -> Result<PathBuf, Fault> {
        match (name.strip_prefix(CREDENTIALS_DIRECTORY), &self.credentials) {
            (Some(name), Some(credentials)) => Ok(credentials.join(name)),
            (Some(_), None) => Err(Fault::new(
                key,
                format!("{name} cannot be found: CREDENTIALS_DIRECTORY is not set"),
                "add LoadCredential= to the systemd unit, or name an ordinary file",
            )),
            (None, _) => Ok(self.directory.join(name)),
        }
    }

    /// The secrets in the files that a key lists, in their order.
    pub(super) fn read_all(&self, key: &str, names: &[String]) -> Result<Vec<SecretText>, Fault> {
        let read = |(index, name): (usize, &String)| {
            let key = format!("{key}[{index}]");
            read(&key, &self.find(&key, name)?)
        };
        names.iter().enumerate().map(read).collect()
    }
}

/// Reads one secret; one newline at the end is not part of it.
fn read(key: &str, path: &Path) -> Result<SecretText, Fault> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        Fault::new(
            key,
            format!("cannot read {shown}: {error}"),
            format!("let the server's user read it, for example `chgrp turnwell {shown}` and `chmod 640 {shown}`"),
        )
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o006 != 0 {
        return Err(Fault::new(
            key,
            format!("{shown} is open to every user of this machine (mode {mode:03o})"),
            format!("close it: `chmod 640 {shown}`"),
        ));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let wrong =
        |what: &str| Fault::new(key, format!("{shown} {what}"), "write one secret into the file, as one line of text");
    if bytes.len() as u64 > LONGEST {
        return Err(wrong("is longer than 4096 bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Err(wrong("is empty")),
        text if text.contains('\n') => Err(wrong("has more than one line")),
        text => Ok(SecretText::new(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_back(content: &[u8], mode: u32) -> Result<SecretText, Fault> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), content).unwrap();
        fs::set_permissions(directory.path().join("secret"), fs::Permissions::from_mode(mode)).unwrap();
        let places = Places::new(directory.path().to_owned(), None);
        places.read_all("credentials.secret-files", &["secret".into()]).map(|mut secrets| secrets.remove(0))
    }

    #[test]
    fn one_newline_at_the_end_is_trimmed() {
        for content in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n"] {
            assert_eq!(read_back(content, 0o600).unwrap().expose(), "s3cret");
        }
        assert_eq!(read_back(b" s3cret \n", 0o640).unwrap().expose(), " s3cret ");
    }

    #[test]
    fn files_that_hold_no_secret_are_refused() {
        for (content, what) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"a\nb\n", "more than one line"),
            (b"\xff", "not UTF-8"),
            (&[b'a'; 5000], "longer"),
        ] {
            let fault = read_back(content, 0o600).unwrap_err();
            assert!(fault.what.contains(what) && fault.key == "credentials.secret-files[0]", "{fault:?}");
        }
    }

    #[test]
    fn files_open_to_everybody_are_refused_with_the_command_that_closes_them() {
        for mode in [0o644, 0o604, 0o602] {
            let fault = read_back(b"s3cret", mode).unwrap_err();
            assert!(fault.remedy.contains("chmod 640 ") && !fault.what.contains("s3cret"), "{fault:?}");
        }
    }

    #[test]
    fn a_missing_file_and_a_missing_credentials_directory_are_named() {
        let places = Places::new("/nonexistent".into(), None);
        assert!(places.read_all("api.key-files", &["a".into()]).unwrap_err().what.contains("/nonexistent/a"));
        let fault = places.read_all("api.key-files", &["$CREDENTIALS_DIRECTORY/a".into()]).unwrap_err();
        assert!(fault.remedy.contains("LoadCredential"));
    }
}
