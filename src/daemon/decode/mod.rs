//! `turnwell decode`: captured messages in words.
//!
//! Takes one message as hexadecimal, base64 or bytes, or a capture (`pcap`): there, every STUN message and ChannelData
//! over UDP and TCP (`streams`). Our own parser tells; the `stun` crate is asked for a second opinion on every message,
//! and a difference is shown.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::doctor::{harmless, unhex};
use super::exit::{self, Failure};
use super::given::SecretFile;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use print::Keys;

mod opinion;
mod packet;
mod pcap;
mod print;
mod streams;

/// A capture may be long, but not endless.
const LONGEST: u64 = 1 << 30;

/// Print a captured message, or every message of a capture, in words
///
/// Reads hexadecimal, base64, bytes, pcap or pcapng. With --user and --password-file, or --key-file, the integrity is
/// checked; the realm is the message's own unless --realm names it.
#[derive(clap::Args)]
pub(super) struct DecodeArgs {
    /// The file [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The message itself, as hexadecimal or base64
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    message: Option<String>,
    /// The user whose password checks the integrity [default: the message's own]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The realm [default: the message's own]
    #[arg(long, value_name = "REALM")]
    realm: Option<String>,
    /// A file with the password; - reads standard input
    #[arg(long, value_name = "FILE|-")]
    password_file: Option<SecretFile>,
    /// A file with the key in hexadecimal: MD5 of user, realm and password
    #[arg(long, value_name = "FILE|-", conflicts_with = "password_file")]
    key_file: Option<SecretFile>,
}

/// One message and where it was found.
struct Found {
    /// `12 +0.001234 UDP 10.0.0.1:1 → 10.0.0.2:3478`; empty for a message alone.
    place: String,
    bytes: Vec<u8>,
}

pub(super) fn run(args: &DecodeArgs) -> Result<(), Failure> {
    let keys = keys(args)?;
    let input = match &args.message {
        Some(text) => text.clone().into_bytes(),
        None => read(args.file.as_deref())?,
    };
    let found = messages(&input)?;
    let mut printer = print::Printer::new(keys);
    for message in &found {
        super::cli::print(&printer.message(&message.place, &message.bytes));
    }
    Ok(())
}

fn keys(args: &DecodeArgs) -> Result<Keys, Failure> {
    let password = args.password_file.as_ref().map(|file| file.read("--password-file")).transpose()?;
    let key = args.key_file.as_ref().map(|file| file.read("--key-file")).transpose()?;
    let key = key.map(|text| {
        unhex(text.trim_start_matches("0x")).ok_or_else(|| {
            Failure::new(exit::USAGE, "--key-file: the key is not hexadecimal", "write 32 hexadecimal digits")
        })
    });
    Ok(Keys { user: args.user.clone(), realm: args.realm.clone(), password, key: key.transpose()? })
}

fn read(path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path {
        Some(path) if path != Path::new("-") => {
            fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
        }
        Some(_) | None => std::io::stdin().lock().take(LONGEST).read_to_end(&mut bytes),
    };
    read.map_err(|error| {
        let name = path.unwrap_or(Path::new("-")).display();
        Failure::new(
            exit::NO_INPUT,
            format!("cannot read {name}: {error}"),
            "name a readable file, or - for standard input",
        )
    })?;
    Ok(bytes)
}

fn messages(input: &[u8]) -> Result<Vec<Found>, Failure> {
    let wrong = |what: String| {
        Failure::new(
            exit::DATA,
            what,
            "give one message as hexadecimal or base64 (STUN begins with 0 to 3, ChannelData with 4 to 7), or a capture \
            of `tcpdump -w`",
        )
    };
    if pcap::is_capture(input) {
        let frames = pcap::frames(input).map_err(|error| wrong(format!("the capture cannot be read: {error}")))?;
        let found = streams::messages(&frames);
        return if found.is_empty() {
            Err(wrong("there is no STUN or TURN message in the capture".into()))
        } else {
            Ok(found)
        };
    }
    let bytes = match std::str::from_utf8(input) {
        Ok(text) if !print::is_message(input) => from_text(text)
            .ok_or_else(|| wrong(format!("{} is neither hexadecimal nor base64", harmless(text.trim()))))?,
        Ok(_) | Err(_) => input.to_vec(),
    };
    if bytes.is_empty() {
        return Err(wrong("there is nothing to decode".into()));
    }
    Ok(vec![Found { place: String::new(), bytes }])
}

/// Hexadecimal with anything usual between the digits (spaces, colons, `0x`, `\x`, offsets as in `tcpdump -x`), or
/// base64.
fn from_text(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().map(|line| match line.trim().split_once(':') {
        Some((offset, rest)) if offset.starts_with("0x") && offset.len() > 4 => rest,
        Some(_) | None => line,
    });
    let joined: String = lines.flat_map(|line| line.split([' ', '\t', ':', ',', '-'])).collect();
    let digits = joined.replace("0x", "").replace("\\x", "");
    let base64: String = text.split_whitespace().collect();
    unhex(&digits).or_else(|| STANDARD.decode(&base64).or_else(|_| URL_SAFE_NO_PAD.decode(&base64)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_every_usual_form() {
        let bytes = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        for text in [
            "000100002112a442",
            "00 01 00 00 21 12 A4 42\n",
            "00:01:00:00:21:12:a4:42",
            "0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42",
            "\\x00\\x01\\x00\\x00\\x21\\x12\\xa4\\x42",
            "\t0x0000:  0001 0000\n\t0x0004:  2112 a442\n",
            "AAEAACESpEI=",
            "AAEAACESpEI",
        ] {
            assert_eq!(from_text(text).as_deref(), Some(&bytes[..]), "{text}");
        }
        assert_eq!(from_text("no message!"), None);
    }
}
