//! What the doctor can find: one table of kinds, and a finding as what was seen, what it means and what to do.
//!
//! `docs/doctor.md` lists the same table; a test compares the two.

use std::fmt::Display;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Worth knowing; nothing is broken.
    Note,
    /// It works, but not for everybody or not for long.
    Warning,
    /// Somebody is not served, or is served who must not be.
    Error,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What has to be changed; it decides the exit code (see `exit.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// What the app hands to its clients.
    Given,
    /// The way to the server, or the server itself.
    Service,
    /// This machine's limits or clock.
    Machine,
    /// Who may do what.
    Permission,
    /// The server's configuration.
    Config,
}

impl Class {
    /// The exit code, as sysexits.h names the causes.
    pub(super) fn exit(self) -> u8 {
        match self {
            Class::Given => 65,
            Class::Service => 69,
            Class::Machine => 71,
            Class::Permission => 77,
            Class::Config => 78,
        }
    }
}

/// One row of the table.
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Its name in JSON, scripts and the documentation.
    pub(super) id: &'static str,
    /// How bad it is, unless a finding says otherwise.
    pub(super) severity: Severity,
    pub(super) class: Class,
    pub(super) title: &'static str,
}

macro_rules! kinds {
    ($($kind:ident $id:literal $severity:ident $class:ident $title:literal;)*) => {
        /// What can be found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Kind {
            $(#[doc = $title] $kind,)*
        }

        /// Every kind, in the order of the documentation.
        pub(super) const TABLE: &[Row] = &[
            $(Row { kind: Kind::$kind, id: $id, severity: Severity::$severity, class: Class::$class, title: $title },)*
        ];
    };
}

kinds! {
    ExternalAddress "external-address"   Error   Config     "The relayed address is not one that others reach";
    RelayPorts      "relay-ports"        Error   Service    "The relay ports are not open";
    OwnRelay        "own-relay"          Error   Config     "Two clients of this server do not reach each other through it";
    PrivatePeer     "private-peer"       Note    Permission "A private address was refused as peer";
    OpenRelay       "open-relay"         Error   Config     "The relay leads where it must not";
    Expired         "credential-expired" Error   Given      "The credential has expired";
    Clock           "clock"              Warning Machine    "A clock is wrong";
    Timestamp       "timestamp"          Error   Given      "The time stamp in the user name is not an expiry in seconds";
    Secret          "secret"             Error   Permission "The shared secrets differ";
    User            "user"               Error   Permission "The user is not known";
    Challenge       "challenge"          Warning Given      "The first 401 is taken for a refusal";
    Certificate     "certificate"        Error   Config     "The certificate does not convince clients";
    TlsMismatch     "tls-mismatch"       Error   Given      "TLS is spoken to a plain port, or the reverse";
    Http            "http"               Note    Given      "HTTP is spoken to a TURN port";
    Bridge          "bridge"             Warning Service    "A container bridge hides the clients' addresses";
    HiddenSources   "hidden-sources"     Warning Service    "A load balancer hides the clients' addresses";
    Family          "family"             Error   Service    "The name leads to addresses that do not all answer";
    Limits          "limits"             Warning Machine    "A limit is lower than the configuration promises";
    IceJson         "ice-json"           Error   Given      "The iceServers are not as browsers want them";
    LongLived       "long-lived"         Warning Given      "A credential lives too long";
    Quota           "quota"              Warning Permission "A quota is used up";
    Config          "config"             Error   Config     "The configuration is wrong";
    Unreachable     "unreachable"        Error   Service    "The server does not answer";
    Refused         "refused"            Error   Permission "The server refuses";
    Unsigned        "unsigned"           Error   Service    "An answer is not signed with the password";
    Buffers         "buffers"            Note    Machine    "The kernel grants smaller socket buffers than configured";
    Api             "api"                Error   Service    "The HTTP API does not mint";
}

impl Kind {
    pub(super) fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.kind == self).unwrap_or(&TABLE[0])
    }

    /// Something of this kind: what was seen, what it means, what to do.
    pub(super) fn found(self, saw: impl Display, means: impl Display, remedy: impl Display) -> Finding {
        let severity = self.row().severity;
        let (saw, means, remedy) = (saw.to_string(), means.to_string(), remedy.to_string());
        Finding { kind: self, severity, at: None, saw, means, remedy }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    pub(super) severity: Severity,
    /// The URL, key or file that it is about.
    pub(super) at: Option<String>,
    /// What was seen.
    pub(super) saw: String,
    /// What it means.
    pub(super) means: String,
    /// What to do.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn at(self, place: impl Display) -> Finding {
        Finding { at: Some(place.to_string()), ..self }
    }

    /// As [`Finding::at`], unless it has a place already.
    pub(super) fn at_least(self, place: impl Display) -> Finding {
        if self.at.is_some() { self } else { self.at(place) }
    }

    pub(super) fn severity(self, severity: Severity) -> Finding {
        Finding { severity, ..self }
    }
}

/// Text of others as it may be printed: one line, nothing that steers a terminal, not endless.
pub(in crate::daemon) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let plain: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().count() > LONGEST { format!("{plain}…") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_kind_once() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind.row().id, row.id);
            assert_eq!(TABLE.iter().position(|other| other.id == row.id), Some(at));
            assert!(row.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", row.id);
        }
    }

    /// The page lists id, severity, exit code and title of each, in this order.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the page is a file")]
    fn the_documentation_lists_the_same_findings() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md");
        let page = std::fs::read_to_string(page).expect("docs/doctor.md");
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(listed.len(), TABLE.len());
        for (line, row) in listed.into_iter().zip(TABLE) {
            let begin = format!("| `{}` | {} | {} | {} |", row.id, row.severity.name(), row.class.exit(), row.title);
            assert!(line.starts_with(&begin), "{line}\nshould begin with\n{begin}");
        }
    }

    #[test]
    fn text_of_others_is_harmless() {
        assert_eq!(shown("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 201);
    }
}
