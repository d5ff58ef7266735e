//! Documents that name tests name tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

/// `BINARY: MODULE::NAME`, as documents write it between backquotes: `engine: peers::port_0_is_no_peer`,
/// `config: the_reference_has_every_key`, and for unit tests `lib: relay::budget::zero_is_no_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cited<'a> {
    binary: &'a str,
    path: &'a str,
}

/// Every test that a text names.
pub(crate) fn cited(text: &str) -> impl Iterator<Item = Cited<'_>> {
    text.split('`').skip(1).step_by(2).filter_map(Cited::parse)
}

impl<'a> Cited<'a> {
    fn parse(text: &'a str) -> Option<Cited<'a>> {
        let (binary, path) = text.split_once(": ")?;
        let is_word = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            !text.is_empty() && text.bytes().all(fits)
        };
        (is_word(binary) && path.split("::").all(is_word)).then_some(Cited { binary, path })
    }

    /// Whether there is such a test in the sources below `root`.
    pub(crate) fn exists(&self, root: &Path) -> bool {
        let (module, name) = self.path.rsplit_once("::").unwrap_or(("", self.path));
        let texts = self.files(&module.replace("::", "/")).into_iter().map(|file| fs::read_to_string(root.join(file)));
        texts.flatten().any(|text| has_test(&text, name))
    }

    /// Where it may stand.
    fn files(&self, module: &str) -> Vec<PathBuf> {
        let paths = match (self.binary, module) {
            ("lib", module) => [format!("src/{module}.rs"), format!("src/{module}/mod.rs")],
            ("interop", module) => [format!("tests/interop/{module}.py"), String::new()],
            (binary, "") => [format!("tests/{binary}.rs"), format!("tests/{binary}/main.rs")],
            (binary, module) => [format!("tests/{binary}/{module}.rs"), String::new()],
        };
        paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect()
    }
}

/// Whether a source has a function of this name that is marked as a test; in Python the name is the mark.
fn has_test(text: &str, name: &str) -> bool {
    let mut marked = false;
    text.lines().map(str::trim).any(|line| {
        let is_it = [format!("fn {name}("), format!("async fn {name}("), format!("def {name}(")]
            .iter()
            .any(|start| line.starts_with(start));
        let found = is_it && (marked || line.starts_with("def test"));
        // Attributes stand before the function; properties have theirs inside a macro.
        marked = line.starts_with("#[test]") || line.starts_with("#[tokio::test") || (marked && line.starts_with("#["));
        found
    })
}
