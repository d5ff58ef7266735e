//! Every option of coturn up to 4.17, and what becomes of it.

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried over.
    Carried,
    /// It is how Turnwell is anyway: nothing to write, nothing to tell.
    Same,
    /// It is not carried over, and why, or what to do instead.
    Told(&'static str),
}

use Fate::{Carried, Same, Told};

/// The database that coturn would have asked.
const DATABASE: &str = "there is no database: write users into credentials.users, secrets into files (secret-files)";
const STATISTICS: &str = "counters are at /metrics and sessions at /v1/sessions of the API; there is no Redis";
const REDIRECT: &str = "there is one list, server.alternate, for clients of every transport (300 Try Alternate): add the address, with \
    its port, if all of them may go there";
const LOG: &str = "the log goes to standard error, which the journal keeps; see [log]";
const TLS_CHOICE: &str =
    "TLS 1.2 and 1.3 with ECDHE suites, chosen by the TLS library: nothing to set, nothing weaker to allow";
const ADMIN: &str =
    "there is no telnet and no web administration: `turnwell status`, `kick`, `drain`, and the API with its page";
const DISCOVERY: &str =
    "NAT behaviour discovery (RFC 5780) is off unless [discovery] names two addresses with two ports each";
const PROCESS: &str = "the systemd unit says who runs the server, and where";
const UNAUTHENTICATED: &str = "limits.unauthenticated-replies, 500 a second to one source, is always on and counts every answer before \
    authentication, STUN's as well as 401: a limit for 401 alone would be too low for it";

/// By name, in the order of the alphabet.
pub(super) const OPTIONS: &[(&str, Fate)] = &[
    ("CA-file", Told("client certificates are not asked for")),
    ("acme-redirect", Told("there is no HTTP on TURN ports: let the ACME client answer on port 80, or by DNS")),
    ("allocation-default-address-family", Carried),
    ("allow-loopback-peers", Carried),
    ("allowed-peer-ip", Carried),
    ("alt-listening-port", Told(DISCOVERY)),
    ("alt-tls-listening-port", Told(DISCOVERY)),
    ("alternate-server", Carried),
    ("aux-server", Carried),
    (
        "bps-capacity",
        Told(
            "there is no limit of all bandwidth together: limits.allocations bounds how many share it, \
             limits.bandwidth-per-user (in bits) what each may take",
        ),
    ),
    ("cert", Carried),
    ("channel-lifetime", Carried),
    ("check-origin-consistency", Told("ORIGIN is ignored: there is one realm")),
    ("cipher-list", Told(TLS_CHOICE)),
    ("cli", Told(ADMIN)),
    ("cli-ip", Told(ADMIN)),
    ("cli-max-output-sessions", Told(ADMIN)),
    ("cli-password", Told(ADMIN)),
    ("cli-port", Told(ADMIN)),
    ("cpus", Carried),
    ("daemon", Told(PROCESS)),
    ("db", Told(DATABASE)),
    ("denied-peer-ip", Carried),
    ("dh-file", Told(TLS_CHOICE)),
    ("dh1066", Told(TLS_CHOICE)),
    ("dh2066", Told(TLS_CHOICE)),
    ("dh566", Told(TLS_CHOICE)),
    ("drain-min-allocations", Told("a drain waits for all calls, at most server.drain-timeout")),
    ("drop-invalid-packets", Same),
    ("drop-invalid-packets-log", Told("packets that lead nowhere are counted by reason at /metrics, not logged")),
    ("dtls", Told("there is no TURN over DTLS; browsers have none either")),
    ("ec-curve-name", Told(TLS_CHOICE)),
    ("external-ip", Carried),
    ("fingerprint", Told("an answer has FINGERPRINT when its request has")),
    ("http-web-admin", Told(ADMIN)),
    ("keep-address-family", Carried),
    ("listening-device", Told("listeners are bound to addresses, not to interfaces: see listen.udp")),
    ("listening-ip", Carried),
    ("listening-port", Carried),
    ("log-binding", Told("nothing is logged per packet; Binding requests are counted at /metrics")),
    ("log-file", Told(LOG)),
    ("log-min-level", Carried),
    ("lt-cred-mech", Same),
    ("max-allocate-lifetime", Carried),
    ("max-allocate-timeout", Told("before a client has authenticated there is no state that could time out")),
    ("max-bps", Carried),
    ("max-port", Carried),
    ("min-port", Carried),
    ("mobility", Told("there is no mobility (RFC 8016); clients restart ICE")),
    ("mongo-userdb", Told(DATABASE)),
    (
        "multiplex-peer",
        Told("each allocation has a port of its own; runs of packets leave by one call on ordinary ports too"),
    ),
    ("multiplex-peer-max-peers", Told("each allocation has a port of its own")),
    ("multiplex-peer-port", Told("each allocation has a port of its own")),
    ("mysql-userdb", Told(DATABASE)),
    ("ne", Told("the way of receiving is not a choice")),
    ("new-log-timestamp", Same),
    ("new-log-timestamp-format", Told(LOG)),
    ("no-auth", Carried),
    ("no-auth-pings", Told(DATABASE)),
    ("no-cli", Same),
    ("no-dtls", Same),
    ("no-dynamic-ip-list", Same),
    ("no-dynamic-realms", Same),
    ("no-loopback-peers", Same),
    ("no-multicast-peers", Same),
    ("no-rfc5780", Same),
    ("no-software-attribute", Same),
    ("no-sslv2", Same),
    ("no-sslv3", Same),
    ("no-stdout-log", Told(LOG)),
    ("no-stun", Told("STUN is always answered: browsers need it, and answers are small")),
    ("no-stun-backward-compatibility", Same),
    ("no-tcp", Carried),
    ("no-tcp-relay", Same),
    ("no-tls", Carried),
    ("no-tlsv1", Same),
    ("no-tlsv1_1", Same),
    ("no-tlsv1_2", Told(TLS_CHOICE)),
    ("no-udp", Carried),
    ("no-udp-relay", Told("UDP is always relayed; relaying TCP alone is not offered")),
    ("no-web-admin", Same),
    ("oauth", Told("there are no OAuth tokens (RFC 7635)")),
    ("permission-lifetime", Carried),
    ("pidfile", Told(PROCESS)),
    ("pkey", Carried),
    ("pkey-pwd", Told("the private key must not be encrypted: `openssl pkey -in OLD -out NEW`, then chmod 640")),
    ("proc-group", Told(PROCESS)),
    ("proc-user", Told(PROCESS)),
    ("prod", Same),
    ("prometheus", Told("metrics are at /metrics of the API (api.listen), for callers on this machine without a key")),
    ("prometheus-address", Told("metrics are at /metrics of the API (api.listen)")),
    ("prometheus-path", Told("metrics are at /metrics of the API (api.listen)")),
    ("prometheus-port", Told("metrics are at /metrics of the API (api.listen)")),
    ("prometheus-username-labels", Told("user names are no labels: they are without number. /v1/usage has them")),
    ("psql-userdb", Told(DATABASE)),
    ("realm", Carried),
    ("redis-statsdb", Told(STATISTICS)),
    ("redis-userdb", Told(DATABASE)),
    ("relay-device", Told("relaying is bound to addresses, not to interfaces: see relay.addresses")),
    ("relay-ip", Carried),
    ("relay-threads", Carried),
    ("respond-http-unsupported", Told("HTTP on a TURN port is hung up on, and counted")),
    ("response-origin-only-with-rfc5780", Same),
    ("rest-api-separator", Carried),
    (
        "rfc3489-compatibility",
        Told("requests of RFC 3489, without the magic cookie, are not answered: they are mostly abuse"),
    ),
    ("rfc5766-channel-numbers", Carried),
    ("rfc5780", Told(DISCOVERY)),
    ("secret-key-file", Told(DATABASE)),
    ("secure-stun", Told("STUN is answered without a credential, as browsers expect")),
    ("server-name", Told("it belongs to OAuth tokens (RFC 7635), which there are not")),
    ("server-relay", Told("peers always need a permission: without it a relay is a door into the client's network")),
    ("simple-log", Told(LOG)),
    ("sock-buf-size", Carried),
    ("sql-userdb", Told(DATABASE)),
    ("stale-nonce", Carried),
    ("stateless-nonce", Same),
    (
        "stateless-nonce-secret",
        Told("each server signs nonces with a key of its own; a client of another one asks once more"),
    ),
    ("static-auth-secret", Carried),
    ("stun-backward-compatibility", Told("MAPPED-ADDRESS is sent only by [discovery]; XOR-MAPPED-ADDRESS always")),
    ("stun-only", Carried),
    ("syslog", Told(LOG)),
    ("syslog-facility", Told(LOG)),
    ("tcp-alternate-server", Told(REDIRECT)),
    ("tcp-proxy-port", Carried),
    ("tls-alternate-server", Told(REDIRECT)),
    ("tls-listening-port", Carried),
    ("tlsv1", Told(TLS_CHOICE)),
    ("tlsv1_1", Told(TLS_CHOICE)),
    ("total-quota", Carried),
    ("udp-alternate-server", Told(REDIRECT)),
    ("udp-gso", Same),
    ("udp-recvmmsg", Same),
    ("udp-recvmmsg-log", Told("how full batches are is not logged")),
    ("udp-self-balance", Told("the kernel spreads clients over the workers (SO_REUSEPORT)")),
    ("udp-sendmmsg-log", Told("how full batches are is not logged")),
    ("unauthorized-ratelimit", Told(UNAUTHENTICATED)),
    ("unauthorized-ratelimit-rps", Told(UNAUTHENTICATED)),
    ("use-auth-secret", Carried),
    ("user", Carried),
    ("user-quota", Carried),
    ("userdb", Told(DATABASE)),
    ("verbose", Same),
    ("Verbose", Carried),
    ("web-admin", Told(ADMIN)),
    ("web-admin-ip", Told(ADMIN)),
    ("web-admin-listen-on-workers", Told(ADMIN)),
    ("web-admin-port", Told(ADMIN)),
];

/// What becomes of an option; none when nobody knows it.
pub(super) fn fate(name: &str) -> Option<Fate> {
    OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, fate)| *fate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_without_doubles() {
        let key = |name: &str| (name.to_ascii_lowercase(), !name.starts_with(|first: char| first.is_ascii_uppercase()));
        for pair in OPTIONS.windows(2) {
            assert_ne!(pair[0].0, pair[1].0);
        }
        let names: Vec<_> = OPTIONS.iter().map(|(name, _)| key(name).0.replace('_', "-")).collect();
        let wrong: Vec<_> = names.windows(2).filter(|pair| pair[0] > pair[1] && pair[0] != "ca-file").collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
