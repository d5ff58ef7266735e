//! What is given in files or on standard input, so that no secret stands on a command line.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::exit::{self, Failure};

/// Far more than anything that is read here.
const LONGEST: u64 = 16 << 20;

/// A file with one secret, or `-` for standard input.
#[derive(Clone, Debug)]
pub(super) struct SecretFile(pub(super) PathBuf);

impl FromStr for SecretFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<SecretFile, Self::Err> {
        Ok(SecretFile(text.into()))
    }
}

impl SecretFile {
    /// The secret; one newline at the end is not part of it, as in files that the configuration names.
    pub(super) fn read(&self, flag: &str) -> Result<Zeroizing<String>, Failure> {
        let text = Zeroizing::new(text(flag, &self.0)?);
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() {
            let what = format!("{flag}: {} is empty", self.0.display());
            return Err(Failure::new(exit::USAGE, what, "write the secret into it, as one line of text"));
        }
        Ok(Zeroizing::new(secret.to_owned()))
    }
}

/// A text file, or `-` for standard input.
pub(super) fn text(flag: &str, path: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        let what = format!("{flag}: cannot read {}: {error}", path.display());
        Failure::new(exit::USAGE, what, "name a readable file, or - for standard input")
    };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)).map_err(unreadable)?;
    }
    Ok(text)
}
