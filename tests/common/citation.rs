//! Documents that name functions and tests name such as exist.

use std::path::{Path, PathBuf};

/// What stands between backquotes.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `relay/refresh.rs: refresh`, `engine: refresh::a_test`, `lib: wire::frame::a_test`, `interop: test_file::test_name`.
#[derive(Debug)]
pub(crate) enum Citation<'a> {
    Function { file: &'a str, name: &'a str },
    Test { binary: &'a str, path: &'a str },
}

impl<'a> Citation<'a> {
    pub(crate) fn of(text: &'a str) -> Option<Citation<'a>> {
        let (place, name) = text.split_once(": ")?;
        let is_word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let is_path = |text: &str, cut: &str| text.split(cut).all(is_word);
        if let Some(file) = place.strip_suffix(".rs") {
            return (is_path(file, "/") && is_word(name)).then_some(Citation::Function { file: place, name });
        }
        (is_word(place) && is_path(name, "::")).then_some(Citation::Test { binary: place, path: name })
    }

    pub(crate) fn exists(&self, source: &dyn Fn(&Path) -> Option<String>) -> bool {
        match self {
            Citation::Function { file, name } => {
                source(&Path::new("src").join(file)).is_some_and(|text| defines(&text, "fn ", name).is_some())
            }
            Citation::Test { binary: "interop", path } => {
                let (file, name) = path.split_once("::").unwrap_or((path, ""));
                let text = source(&Path::new("tests/interop").join(format!("{file}.py")));
                text.is_some_and(|text| name.is_empty() || defines(&text, "def ", name).is_some())
            }
            Citation::Test { binary, path } => {
                let (modules, name) = path.rsplit_once("::").unwrap_or(("", path));
                candidates(binary, modules).iter().any(|file| source(file).is_some_and(|text| is_test(&text, name)))
            }
        }
    }
}

/// The files a test may stand in.
fn candidates(binary: &str, modules: &str) -> Vec<PathBuf> {
    let modules = modules.strip_suffix("::tests").unwrap_or(modules).replace("::", "/");
    match (binary, modules.as_str()) {
        ("lib", modules) => vec![format!("src/{modules}.rs").into(), format!("src/{modules}/mod.rs").into()],
        (binary, "") => vec![format!("tests/{binary}.rs").into(), format!("tests/{binary}/main.rs").into()],
        (binary, modules) => vec![format!("tests/{binary}/{modules}.rs").into()],
    }
}

/// Where a function of this name begins.
fn defines(text: &str, keyword: &str, name: &str) -> Option<usize> {
    let starts = text.match_indices(keyword).map(|(at, _)| at);
    { starts }.find(|at| {
        let after = text[at + keyword.len()..].strip_prefix(name);
        after.is_some_and(|after| after.starts_with(['(', '<']))
    })
}

fn is_test(text: &str, name: &str) -> bool {
    let Some(at) = defines(text, "fn ", name) else { return false };
    let before = text[..at].trim_end().trim_end_matches("async").trim_end();
    before.rsplit('\n').take_while(|line| line.trim().starts_with('#')).any(|line| line.contains("test"))
}
