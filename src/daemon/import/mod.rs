//! `turnwell import-coturn`: a `turnserver.conf` as our configuration, with a word on what cannot be carried over.
//!
//! `options.rs` has a row for every option of coturn up to 4.17; `translate.rs` writes the TOML.

use std::path::PathBuf;

use super::exit::{self, Failure};

mod options;
mod translate;

/// Print coturn's configuration as Turnwell's
///
/// What has no counterpart, or a safer default here, is told in comments; options that are not known are named with
/// their line. The output holds the secrets of the input: write it into a file that others cannot read (umask 077).
#[derive(clap::Args)]
pub(super) struct ImportArgs {
    /// coturn's configuration, often /etc/turnserver.conf
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let bytes = std::fs::read(&args.file).map_err(|error| {
        let what = format!("cannot read {shown}: {error}");
        Failure::new(exit::NO_INPUT, what, "name coturn's configuration, often /etc/turnserver.conf")
    })?;
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    super::cli::print(&translate::toml(&parse(&text)));
    Ok(())
}

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry<'a> {
    line: usize,
    name: &'a str,
    /// Empty for a flag.
    value: &'a str,
}

/// `name=value`, `name value` or `name`; `#` begins a comment where a line or a word would.
fn parse(text: &str) -> Vec<Entry<'_>> {
    text.lines()
        .enumerate()
        .filter_map(|(at, line)| {
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let end = line.find(|sign: char| sign == '=' || sign.is_whitespace()).unwrap_or(line.len());
            let (name, rest) = line.split_at(end);
            let value = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim();
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Some(Entry { line: at + 1, name: name.trim_start_matches('-'), value: quoted.unwrap_or(value) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_coturn_reads_them() {
        let text = "# a comment\n\nlistening-port=3478\n  realm = example.org  \nfingerprint\nuser=a:b=c\ncli-password=\"x\"\nmin-port 1\n";
        let found: Vec<_> = parse(text).into_iter().map(|entry| (entry.line, entry.name, entry.value)).collect();
        assert_eq!(
            found,
            [
                (3, "listening-port", "3478"),
                (4, "realm", "example.org"),
                (5, "fingerprint", ""),
                (6, "user", "a:b=c"),
                (7, "cli-password", "x"),
                (8, "min-port", "1"),
            ]
        );
    }
}
