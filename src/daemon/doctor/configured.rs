//! What this machine's own configuration gives the doctor.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::daemon::config::{ConfigError, Source};
use crate::daemon::given::SecretFile;

/// Where a file is that a configuration names.
pub(super) fn named(config: &Path, name: &str) -> PathBuf {
    match (name.strip_prefix("$CREDENTIALS_DIRECTORY/"), std::env::var_os("CREDENTIALS_DIRECTORY")) {
        (Some(name), Some(folder)) => Path::new(&folder).join(name),
        (_, _) => config.parent().unwrap_or(Path::new("")).join(name),
    }
}

/// The secret that signs under a configuration, if it has one and this user may read it.
pub(super) fn signing_secret(config: &Path) -> Result<Option<Zeroizing<String>>, ConfigError> {
    let file = Source::read(config)?.parse()?;
    if let Some(secret) = file.credentials.secrets.first() {
        return Ok(Some(Zeroizing::new(secret.expose().to_owned())));
    }
    let first = file.credentials.secret_files.first();
    Ok(first.and_then(|name| SecretFile(named(config, name)).read("credentials.secret-files").ok()))
}
