//! The files in `config/` are valid, the reference shows every key with its default, and errors name line, key and
//! remedy.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the bans are for the core")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use turnwell::daemon::config::{Config, ConfigError, File, Fixed, Problem};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// A folder with a configuration in it, and beside it what it may refer to.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(config: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a temporary folder"));
        folder.write("turnwell.toml", config, 0o600);
        folder
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a file in it");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.0.path().join("turnwell.toml"))
    }
}

fn problems(config: &str) -> Vec<Problem> {
    Folder::with(config).load().err().map(|error| error.problems).unwrap_or_default()
}

/// The one problem of a configuration: line, key, and the whole text.
fn problem(config: &str) -> (Option<usize>, String, String) {
    let mut problems = problems(config);
    assert_eq!(problems.len(), 1, "{config}\n{problems:#?}");
    let problem = problems.remove(0);
    (problem.line, problem.key.clone(), problem.to_string())
}

#[test]
fn the_reference_is_the_default() {
    let text = fs::read_to_string(shipped("reference.toml")).expect("the reference");
    let reference: File = toml::from_str(&text).expect("a valid reference");
    assert_eq!(reference, File::default());
}

#[test]
fn the_reference_has_every_key() {
    let text = fs::read_to_string(shipped("reference.toml")).expect("the reference");
    let reference: toml::Table = toml::from_str(&text).expect("a valid reference");
    let known = toml::Table::try_from(File::default()).expect("the defaults as a table");
    let keys = |table: &toml::Table| -> Vec<String> {
        let of_section = |(section, keys): (&String, &toml::Value)| {
            let keys = keys.as_table().expect("a section");
            keys.keys().map(|key| format!("{section}.{key}")).collect::<Vec<_>>()
        };
        table.iter().flat_map(of_section).collect()
    };
    assert_eq!(keys(&reference), keys(&known));
}

/// The keys of the reference by what it says of them: `(reload)` or `(restart)`, in the comment above or before.
fn marked(mark: &str) -> Vec<String> {
    let text = fs::read_to_string(shipped("reference.toml")).expect("the reference");
    let (mut keys, mut section, mut comment, mut current) = (Vec::new(), "", String::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if line.starts_with('#') {
            comment.push_str(line);
            for mark in ["(reload)", "(restart)"] {
                if comment.ends_with(mark) {
                    current = mark.to_owned();
                }
            }
        } else {
            comment.clear();
            if let Some((key, _)) = line.split_once(" = ").filter(|_| current == mark) {
                keys.push(format!("{section}.{key}"));
            }
        }
    }
    keys
}

#[test]
fn the_reference_says_of_each_key_whether_a_reload_is_enough() {
    let (reload, restart) = (marked("(reload)"), marked("(restart)"));
    let fixed: Vec<&str> = Fixed::KEYS.into_iter().chain(["api.insecure-http"]).collect();
    for key in &restart {
        assert!(fixed.contains(&key.as_str()), "{key} is live, and the reference says (restart)");
    }
    for key in fixed {
        assert!(restart.iter().any(|other| other == key), "{key} needs a restart, and the reference says otherwise");
    }
    assert!(reload.len() > 20, "{reload:?}");
}

#[test]
fn every_shipped_file_is_valid() {
    for entry in fs::read_dir(shipped("")).expect("the folder config") {
        let path = entry.expect("an entry").path();
        let folder = Folder::with(&fs::read_to_string(&path).expect("a text"));
        folder.write("secret", "0123456789abcdef\n", 0o640);
        folder.write("api-key", "0123456789abcdef\n", 0o640);
        if let Err(error) = folder.load() {
            panic!("{}: {error}", path.display());
        }
    }
}

#[test]
fn what_is_deployed_elsewhere_is_valid() {
    let deployed = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let manifest = deployed("kubernetes/turnwell.yaml");
    let (_, after) = manifest.split_once("turnwell.toml: |\n").expect("a configuration in the manifest");
    let inside = after.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let of_manifest: String = inside.map(|line| format!("{}\n", line.trim_start())).collect();
    assert!(of_manifest.contains("drain-timeout = \"1h\""), "{of_manifest}");
    for (name, text) in [("container", deployed("container/turnwell.toml")), ("kubernetes", of_manifest)] {
        let folder = Folder::with("");
        folder.write("secret", "0123456789abcdef\n", 0o640);
        folder.write(
            "turnwell.toml",
            &text.replace("/run/secrets/turnwell/api-key", "secret").replace("/run/secrets/turnwell/secret", "secret"),
            0o600,
        );
        if let Err(error) = folder.load() {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn behind_nat_maps_both_families() {
    let folder = Folder::with(&fs::read_to_string(shipped("behind-nat.toml")).expect("a text"));
    folder.write("secret", "s", 0o640);
    folder.write("api-key", "0123456789abcdef", 0o640);
    let config = folder.load().unwrap_or_else(|error| panic!("{error}"));
    let external: Vec<_> = config.fixed.relays.iter().filter_map(|relay| relay.external).collect();
    assert_eq!(external, ["203.0.113.7".parse::<std::net::IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
}

#[test]
fn an_error_reads_file_line_key_and_remedy() {
    let folder = Folder::with("[server]\nrealm = \"example.org\"\n\n[relay]\nprots = \"1-2\"\n");
    let text = folder.load().err().expect("an error").to_string();
    let path = folder.0.path().join("turnwell.toml");
    assert_eq!(
        text,
        format!("{}:5: relay.prots: there is no such key\n  remedy: did you mean `ports`?", path.display())
    );
}

#[test]
fn what_is_wrong_in_itself_is_refused_at_its_line() {
    let cases = [
        ("[relay]\nports = \"600-500\"", 2, "relay.ports", "empty range"),
        ("[relay]\nports = 600", 2, "relay.ports", "a range of ports in quotes"),
        ("[peers]\n\nallow = [\"10.0.0.0/8\", \"10.0.0.0/33\"]", 3, "peers.allow[1]", "CIDR form"),
        ("[peers]\ndeny = [\"10.0.0.1/8\"]", 2, "peers.deny[0]", "\"10.0.0.0/8\" for the whole range"),
        ("[listen]\nudp = [\"3478\"]", 2, "listen.udp[0]", "192.0.2.1:3478"),
        ("[lifetimes]\ndefault = \"10 minutes\"", 2, "lifetimes.default", "\"10m\""),
        ("[log]\nlevel = \"loud\"", 2, "log.level", "\"info\""),
        ("[turn]\n", 1, "turn", "there is no such key"),
        ("[server]\nrealm = \"a\"\nrealm = \"b\"", 3, "realm", "remove one of the two"),
        ("[server", 1, "", "this is not TOML"),
    ];
    for (config, line, key, words) in cases {
        let (at, name, text) = problem(config);
        assert_eq!((at, name.as_str()), (Some(line), key), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused_at_its_line() {
    let cases = [
        ("[server]\nrealm = \"\"", 2, "server.realm", "1 to 127"),
        ("[server]\nworkers = 5000", 2, "server.workers", "0 for one per core"),
        ("[server]\npublic-host = \"turn:example.org\"", 2, "server.public-host", "bare name"),
        ("[listen]\nudp = []", 2, "listen.udp", "there is no listener"),
        ("[listen]\nudp = [\"1.2.3.4:1\", \"1.2.3.4:1\"]", 2, "listen.udp[1]", "remove one of the two"),
        ("[listen]\nudp = [\"1.2.3.4:1\",\n\"0.0.0.0:1\"]", 3, "listen.udp[1]", "already covered by 1.2.3.4:1"),
        ("[server]\nworkers = 4\n[relay]\nports = \"5-7\"", 4, "relay.ports", "3 ports are too few for 4 workers"),
        ("[relay]\naddresses = [\"0.0.0.0\"]", 2, "relay.addresses[0]", "cannot be relayed on"),
        ("[relay]\naddresses = [\"::1\", \"::1\"]", 2, "relay.addresses[1]", "twice"),
        (
            "[relay]\naddresses = [\"10.0.0.3\"]\nexternal = [{ local = \"10.0.0.2\", public = \"8.8.8.8\" }]",
            3,
            "relay.external[0].local",
            "add \"10.0.0.2\" to relay.addresses",
        ),
        (
            "[[relay.external]]\nlocal = \"10.0.0.2\"\npublic = \"::5\"",
            3,
            "relay.external[0].public",
            "different families",
        ),
        ("[discovery]\nprimary = [\"10.0.0.1:1\"]", 1, "discovery.alternate", "one alternate for each primary"),
        (
            "[discovery]\nprimary = [\"10.0.0.1:1\"]\nalternate = [\"10.0.0.1:2\"]",
            3,
            "discovery.alternate[0]",
            "needs a second address",
        ),
        (
            "[discovery]\nprimary = [\"10.0.0.1:1\"]\nalternate = [\"10.0.0.2:1\"]",
            3,
            "discovery.alternate[0]",
            "needs a second port",
        ),
        (
            "[discovery]\nprimary = [\"0.0.0.0:1\"]\nalternate = [\"10.0.0.2:2\"]",
            2,
            "discovery.primary[0]",
            "an address of this machine",
        ),
        (
            "[discovery]\nprimary = [\"10.0.0.1:1\"]\nalternate = [\"[::2]:2\"]",
            3,
            "discovery.alternate[0]",
            "different families",
        ),
        (
            "[discovery]\nprimary = [\"10.0.0.1:0\"]\nalternate = [\"10.0.0.2:2\"]",
            2,
            "discovery.primary[0]",
            "write a port",
        ),
        (
            "[discovery]\nprimary = [\"10.0.0.1:1\", \"10.0.0.3:1\"]\nalternate = [\"10.0.0.2:2\", \"10.0.0.4:2\"]",
            2,
            "discovery.primary[1]",
            "at most one IPv4",
        ),
        ("[credentials]\nusers = [{ name = \"a\" }]", 2, "credentials.users[0]", "exactly one of"),
        ("[[credentials.users]]\nname = \"a\"\nkey = \"xyz\"", 3, "credentials.users[0].key", "md5sum"),
        (
            "[[credentials.users]]\nname = \"a\"\nkey = \"00000000000000000000000000000000\"\nkey-sha256 = \"00\"",
            4,
            "credentials.users[0].key-sha256",
            "sha256sum",
        ),
        (
            "[[credentials.users]]\nname = \"a\"\nkey-sha256 = \"00\"",
            3,
            "credentials.users[0].key-sha256",
            "give `key`",
        ),
        ("[server]\nalternate = [\"0.0.0.0:3478\"]", 2, "server.alternate[0]", "192.0.2.8:3478"),
        ("[server]\nalternate-domain = \"a b\"", 2, "server.alternate-domain", "turn2.example.org"),
        ("[server]\nredirect = \"always\"", 2, "server.redirect", "set server.alternate"),
        ("[credentials]\nsecrets = [\"\"]", 2, "credentials.secrets[0]", "openssl rand"),
        ("[lifetimes]\ndefault = \"2h\"", 2, "lifetimes.default", "lifetimes.maximum, which is 1h"),
        ("[lifetimes]\nnonce = \"0s\"", 2, "lifetimes.nonce", "zero"),
        ("[limits]\nchannels = 0", 2, "limits.channels", "at least 1"),
        ("[api]\nmax-ttl = \"1h\"", 1, "api.default-ttl", "api.max-ttl, which is 1h"),
        ("[api]\nkeys = [\"short\"]", 2, "api.keys[0]", "openssl rand"),
        ("[api]\nlisten = [\"0.0.0.0:80\"]", 2, "api.listen[0]", "there is no API key"),
        ("[api]\ncertificate = \"chain.pem\"", 1, "api.certificate-key", "or in neither"),
        ("[api]\ncertificate-key = \"key.pem\"", 1, "api.certificate", "or in neither"),
        ("[api]\nkeys = [\"0123456789abcdef\"]\nlisten = [\"0.0.0.0:80\"]", 3, "api.listen[0]", "insecure-http = true"),
    ];
    for (config, line, key, words) in cases {
        let (at, name, text) = problem(config);
        assert_eq!((at, name.as_str()), (Some(line), key), "{text}");
        assert!(text.contains(words) && text.contains("remedy: "), "{text}");
    }
}

#[test]
fn a_user_may_have_his_own_rule_for_tcp() {
    let users = "[credentials]\nusers = [{ name = \"a\", password = \"p\" }, { name = \"b\", password = \"p\", tcp = true }, \
                 { name = \"c\", key = \"00000000000000000000000000000000\", tcp = false }]\n";
    let config = Folder::with(users).load().unwrap_or_else(|error| panic!("{error}"));
    let said = |user| config.live.relay.credentials.tcp(user, None);
    assert_eq!(["a", "b", "c", "d"].map(said), [None, Some(true), Some(false), None]);
    assert_eq!(config.live.relay.credentials.tcp("b", Some(1)), None, "a time-limited credential for one of this name");
    assert!(!config.live.relay.tcp.enabled);
}

#[test]
fn discovery_adds_the_listeners_that_are_not_there() {
    let text = "[listen]\nudp = [\"127.0.0.1:3478\"]\n[discovery]\nprimary = [\"127.0.0.1:3478\"]\nalternate = [\"127.0.0.2:3479\"]\n";
    let config = Folder::with(text).load().unwrap_or_else(|error| panic!("{error}"));
    let udp: Vec<String> = config.fixed.net().expect("no wildcard").udp.iter().map(ToString::to_string).collect();
    assert_eq!(udp, ["127.0.0.1:3478", "127.0.0.1:3479", "127.0.0.2:3478", "127.0.0.2:3479"]);
}

#[test]
fn sha256_is_offered_when_every_static_user_has_such_a_key() {
    let md5 = format!("key = \"{}\"", "0".repeat(32));
    let sha256 = format!("key-sha256 = \"{}\"", "0".repeat(64));
    for (user, offered) in [("password = \"p\"", 2), (&md5, 1), (&format!("{md5}, {sha256}"), 2)] {
        let config = format!("[credentials]\nusers = [{{ name = \"a\", {user} }}]\n");
        let config = Folder::with(&config).load().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.live.relay.credentials.algorithms().len(), offered, "{user}");
    }
}

#[test]
fn every_section_names_its_first_problem() {
    let all = problems("[server]\nrealm = \"\"\n[listen]\nudp = []\n[limits]\nchannels = 0\n");
    let keys: Vec<&str> = all.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["listen.udp", "server.realm", "limits.channels"]);
}

#[test]
fn an_open_api_has_tls_or_consent() {
    let config = "[api]\nkeys = [\"0123456789abcdef\"]\nlisten = [\"0.0.0.0:80\"]\ninsecure-http = true\n";
    assert!(problems(config).is_empty());
    let listeners = |config: &str| {
        let folder = Folder::with(config);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        folder.write("chain.pem", &made.cert.pem(), 0o644);
        folder.write("key.pem", &made.signing_key.serialize_pem(), 0o600);
        let config = folder.load().unwrap_or_else(|error| panic!("{error}"));
        config.fixed.api.iter().map(|listener| listener.tls).collect::<Vec<_>>()
    };
    let api = "[api]\nkeys = [\"0123456789abcdef\"]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:2\"]\n";
    let of_turn = "[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n";
    let own = "certificate = \"chain.pem\"\ncertificate-key = \"key.pem\"\n";
    assert_eq!(listeners(&format!("{api}{of_turn}")), [false, true]);
    assert_eq!(listeners(&format!("{api}insecure-http = true\n{of_turn}")), [false, false]);
    assert_eq!(listeners(&format!("{api}{own}")), [true, true]);
    assert_eq!(listeners(&format!("{api}insecure-http = true\n{own}")), [true, true]);
}

#[test]
fn secret_files_open_to_everybody_or_missing_are_refused() {
    let folder = Folder::with("[credentials]\nsecret-files = [\"ours\", \"theirs\"]\n");
    folder.write("ours", "s3cret\n", 0o640);
    folder.write("theirs", "s3cret\n", 0o644);
    let text = folder.load().err().expect("an error").to_string();
    let theirs = folder.0.path().join("theirs");
    assert!(text.contains(":2: credentials.secret-files[1]: ") && text.contains("(mode 644)"), "{text}");
    assert!(text.contains(&format!("remedy: close it: `chmod 640 {}`", theirs.display())), "{text}");
    assert!(!text.contains("s3cret"));

    fs::remove_file(theirs).expect("a file to remove");
    let text = folder.load().err().expect("an error").to_string();
    assert!(text.contains("credentials.secret-files[1]: cannot read") && text.contains("chgrp turnwell"), "{text}");
}

#[test]
fn a_configuration_with_a_secret_in_it_is_a_secret_file() {
    let folder = Folder::with("");
    for (config, key) in [
        ("[credentials]\nsecrets = [\"s3cret\"]\n", "credentials"),
        ("[credentials]\nusers = [{ name = \"a\", password = \"b\" }]\n", "credentials"),
        ("[api]\nkeys = [\"0123456789abcdef\"]\n", "api.keys"),
    ] {
        folder.write("turnwell.toml", config, 0o644);
        let error = folder.load().err().expect("an error");
        assert_eq!(error.problems[0].key, key);
        assert!(error.to_string().contains("chmod 640"), "{error}");
        folder.write("turnwell.toml", config, 0o640);
        assert!(folder.load().is_ok());
    }
    folder.write("turnwell.toml", &format!("[api]\nkeys = [\"sha256:{}\"]\n", "0".repeat(64)), 0o644);
    assert!(folder.load().is_ok(), "a hash is not a secret");
}

#[test]
fn a_missing_file_is_told_from_a_wrong_one() {
    let error = Config::load(Path::new("/nonexistent/turnwell.toml")).err().expect("an error");
    assert!(error.unreadable && error.to_string().contains("--config"), "{error}");
    assert!(!Folder::with("[x]").load().err().expect("an error").unreadable);
}
