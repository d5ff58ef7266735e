//! The arrows between modules, and what the core may not name: read from the sources, as text.

#![allow(clippy::disallowed_methods, reason = "the bans are for the core; the sources are files")]

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules each module may use, in the order of `src/lib.rs`. A path stands for itself and all below it.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("credentials", &["wire"]),
    ("relay", &["wire", "credentials"]),
    ("fastpath", &["relay"]),
    // Of `wire` what frames a stream; of `credentials` what is handed through to every engine.
    ("net", &["fastpath", "relay", "wire::frame", "wire::FrameError", "wire::padding", "credentials::Revocations"]),
    ("daemon", &["wire", "credentials", "relay", "fastpath", "net"]),
];

/// The modules that are plain values.
const CORE: &[&str] = &["wire", "credentials", "relay"];

/// Names of clocks, sockets, files, the environment, threads, locks, async and randomness of the process.
const BANNED: &[&str] = &[
    "Instant",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "File",
    "OpenOptions",
    "Mutex",
    "RwLock",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "thread_local",
    "async",
    "await",
    "tokio",
    "getrandom",
    "ThreadRng",
    "SysRng",
    "OsRng",
    "RandomState",
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::sync::atomic",
    "std::sync::mpsc",
    "std::thread",
];

#[test]
fn every_use_follows_an_arrow() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let (_, allowed) = ARROWS
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{}: the table of arrows has no module `{module}`", source.place(1)));
        for (line, path) in source.crate_paths() {
            if !is_below(&path, module) && !allowed.iter().any(|allowed| is_below(&path, allowed)) {
                wrong.push(format!("{}: `{module}` must not use `{path}`", source.place(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_core_has_no_clock_socket_file_thread_lock_or_randomness_of_its_own() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.module().is_some_and(|module| CORE.contains(&module)) {
            for (line, name) in source.banned() {
                wrong.push(format!("{}: the core must not name `{name}`", source.place(line)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_net_sys_alone() {
    let mut wrong = Vec::new();
    for source in sources() {
        let allowed = source.path.starts_with("src/net/sys");
        let uses = source.tokens.iter().filter(|token| token.text == "unsafe");
        if !allowed {
            wrong.extend(uses.map(|token| format!("{}: unsafe", source.place(token.line))));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn lib_rs_is_the_map_in_the_order_of_the_arrows() {
    let map = Source::read(Path::new("src/lib.rs"));
    let modules: Vec<&str> =
        map.tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text.as_str()).collect();
    assert_eq!(modules, ARROWS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let code = map.tokens.iter().filter(|token| token.text == "fn" || token.text == "struct" || token.text == "enum");
    assert_eq!(code.count(), 0, "the map has no code");
    for (at, (name, allowed)) in ARROWS.iter().enumerate() {
        for used in *allowed {
            let first = used.split("::").next().unwrap();
            assert!(ARROWS[..at].iter().any(|(above, _)| *above == first), "{name} uses {used}, which is not above it");
        }
    }
}

/// Whether the reader below would notice; a test that cannot fail shows nothing.
#[test]
fn violations_are_found() {
    let source = |path: &str, text: &str| Source { path: path.into(), tokens: tokens(text) };
    let paths = |path: &str, text: &str| -> Vec<String> {
        source(path, text).crate_paths().into_iter().map(|(_, path)| path).collect()
    };
    assert_eq!(paths("src/wire/a.rs", "use crate::relay::Relay;"), ["relay::Relay"]);
    assert_eq!(
        paths("src/wire/a.rs", "use crate::{net, relay::{self, flow::Flow}};"),
        ["net", "relay", "relay::flow::Flow"]
    );
    assert_eq!(paths("src/wire/a.rs", "fn f() { crate::daemon::main() }"), ["daemon::main"]);
    assert_eq!(paths("src/wire/a.rs", "use super::super::net::start;"), ["net::start"]);
    assert_eq!(paths("src/wire/mod.rs", "use super::net;"), ["net"]);
    assert_eq!(
        paths("src/net/stream/tls.rs", "use super::super::quota; use super::tcp;"),
        ["net::quota", "net::stream::tcp"]
    );
    assert_eq!(paths("src/wire/mod.rs", "mod tests { use super::padding; }"), ["wire::padding"]);
    assert_eq!(
        paths(
            "src/wire/mod.rs",
            "pub(crate) fn f() {} // crate::net\n/* crate::net */ const X: &str = \"crate::net\";"
        ),
        Vec::<String>::new()
    );
    let banned = |text: &str| -> Vec<&str> {
        source("src/wire/a.rs", text).banned().into_iter().map(|(_, name)| name).collect()
    };
    assert_eq!(banned("use std::time::{Duration, Instant};"), ["Instant"]);
    assert_eq!(banned("use std::{env, net::UdpSocket};"), ["UdpSocket", "std::env"]);
    assert_eq!(banned("let x = std::thread::current();"), ["std::thread"]);
    assert_eq!(
        banned("async fn f<'a>(c: char) -> bool { c == '\"' } fn g() { getrandom::fill(b) }"),
        ["async", "getrandom"]
    );
    assert_eq!(
        banned("/// Instant\nuse std::time::Duration; let s = r#\"std::fs \"quoted\" Mutex\"#;"),
        Vec::<&str>::new()
    );
}

fn is_below(path: &str, top: &str) -> bool {
    path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with("::"))
}

/// Every Rust file of the library and the program.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder of sources") {
            let path = folder.join(entry.expect("a file").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source::read(&path));
            }
        }
    }
    assert!(found.len() > 30, "the sources have moved");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Source {
    path: PathBuf,
    tokens: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    /// A word, `::`, or one other character.
    text: String,
    line: usize,
}

impl Source {
    fn read(path: &Path) -> Source {
        let text = fs::read_to_string(root().join(path)).expect("a source file");
        Source { path: path.into(), tokens: tokens(&text) }
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// The modules a file stands in: `src/net/stream/tls.rs` is `net::stream::tls`.
    fn modules(&self) -> Vec<String> {
        let path = self.path.with_extension("");
        let parts = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
        parts.filter(|part| !["mod", "lib", "main"].contains(&part.as_str())).collect()
    }

    /// The module at the top; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let mut parts = self.path.components().skip(1);
        let first = parts.next()?.as_os_str().to_str()?;
        parts.next().map(|_| first)
    }

    /// Every path that begins at the crate's root, or leads there by `super`, without its `crate::`.
    fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        // The modules opened inline around a token, each with the depth of braces at which it ends.
        let (mut inline, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
        for (at, token) in self.tokens.iter().enumerate() {
            let text = |offset: usize| self.tokens.get(at + offset).map_or("", |token| token.text.as_str());
            let continues = at > 0 && self.tokens[at - 1].text == "::";
            match token.text.as_str() {
                "mod" if text(2) == "{" => inline.push((text(1).into(), depth + 1)),
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(_, ends)| *ends <= depth);
                }
                "crate" if text(1) == "::" => found.extend(self.tree(at + 2, "")),
                "super" if !continues && text(1) == "::" => {
                    let mut modules = self.modules();
                    modules.extend(inline.iter().map(|(name, _)| name.clone()));
                    let mut next = at;
                    while self.tokens[next].text == "super" && self.tokens[next + 1].text == "::" {
                        modules.pop();
                        next += 2;
                    }
                    found.extend(self.tree(next, &modules.join("::")));
                }
                _ => {}
            }
        }
        found
    }

    /// The leaves of a path or of a tree of paths that begins at a token.
    fn tree(&self, at: usize, before: &str) -> Vec<(usize, String)> {
        let (mut path, mut at) = (before.to_string(), at);
        let mut line = 0;
        while let Some(token) = self.tokens.get(at) {
            line = token.line;
            match token.text.as_str() {
                "{" => return self.branches(at + 1, &path),
                "self" | "*" => break,
                word if is_word(word) => {
                    path = if path.is_empty() { word.into() } else { format!("{path}::{word}") };
                }
                _ => break,
            }
            if self.tokens.get(at + 1).is_none_or(|next| next.text != "::") {
                break;
            }
            at += 2;
        }
        vec![(line, path)]
    }

    fn branches(&self, start: usize, before: &str) -> Vec<(usize, String)> {
        let (mut found, mut depth) = (self.tree(start, before), 0);
        for (at, token) in self.tokens.iter().enumerate().skip(start) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                "," if depth == 0 && self.tokens.get(at + 1).is_some_and(|next| next.text != "}") => {
                    found.extend(self.tree(at + 1, before));
                }
                _ => {}
            }
        }
        found
    }

    fn banned(&self) -> Vec<(usize, &'static str)> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            let words = BANNED.iter().filter(|name| **name == token.text);
            found.extend(words.map(|name| (token.line, *name)));
            let continues = at > 0 && self.tokens[at - 1].text == "::";
            if token.text == "std" && !continues {
                for (line, path) in self.tree(at, "") {
                    let names = BANNED.iter().filter(|name| name.contains("::") && is_below(&path, name));
                    found.extend(names.map(|name| (line, *name)));
                }
            }
        }
        found.sort_by_key(|(line, name)| (*line, *name));
        found
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

/// Cuts Rust into words and signs; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at_is = |at: usize, sign: char| chars.get(at) == Some(&sign);
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(&sign) = chars.get(at) {
        let end = match sign {
            '/' if at_is(at + 1, '/') => position(&chars, at, |chars, at| chars[at] == '\n'),
            '/' if at_is(at + 1, '*') => position(&chars, at + 2, |chars, at| chars[at - 1..=at] == ['*', '/']) + 1,
            '"' => end_of_string(&chars, at),
            'r' if at_is(at + 1, '"') || (at_is(at + 1, '#') && !found_word_before(&chars, at)) => {
                end_of_raw(&chars, at)
            }
            '\'' if at_is(at + 1, '\\') => position(&chars, at + 3, |chars, at| chars[at] == '\'') + 1,
            '\'' if at_is(at + 2, '\'') => at + 3,
            ':' if at_is(at + 1, ':') => at + 2,
            word if word.is_alphanumeric() || word == '_' => {
                position(&chars, at, |chars, at| !(chars[at].is_alphanumeric() || chars[at] == '_'))
            }
            _ => at + 1,
        };
        let end = end.min(chars.len());
        let kept = is_word(&sign.to_string()) && !chars[at..end].contains(&'"') || end - at == 1 || sign == ':';
        if kept && !sign.is_whitespace() {
            found.push(Token { text: chars[at..end].iter().collect(), line });
        }
        line += chars[at..end].iter().filter(|sign| **sign == '\n').count();
        at = end;
    }
    found
}

/// The first place from `at` on that `stop` names, or the end.
fn position(chars: &[char], at: usize, stop: impl Fn(&[char], usize) -> bool) -> usize {
    (at..chars.len()).find(|at| stop(chars, *at)).unwrap_or(chars.len())
}

fn found_word_before(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `r"…"`, `r#"…"#`; an identifier like `r#type` ends after its sign.
fn end_of_raw(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|sign| **sign == '#').count();
    let quote = start + 1 + hashes;
    if chars.get(quote) != Some(&'"') {
        return quote;
    }
    let closing = |chars: &[char], at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|sign| **sign == '#').count() == hashes
    };
    position(chars, quote + 1, closing) + 1 + hashes
}
