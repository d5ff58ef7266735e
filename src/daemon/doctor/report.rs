//! What the doctor says: which checks were made, what each URL did, what was found. For people, or as JSON.

use std::io::IsTerminal;

use serde::Serialize;
use serde_json::{Value, json};

use super::finding::{Finding, Severity};

/// How a check or a step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "result", content = "detail")]
pub(super) enum Outcome {
    /// As it should be.
    Passed(String),
    /// Something was found.
    Failed(String),
    /// Not looked at, and why.
    Skipped(String),
}

impl Outcome {
    fn words(&self) -> (&'static str, &str) {
        match self {
            Outcome::Passed(detail) => ("ok", detail),
            Outcome::Failed(detail) => ("FAILED", detail),
            Outcome::Skipped(detail) => ("skipped", detail),
        }
    }
}

/// One line of what was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The URL and address, or the group of checks.
    pub(super) subject: String,
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
}

/// Everything that is said.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) steps: Vec<Step>,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn step(&mut self, subject: impl Into<String>, name: &'static str, outcome: Outcome) {
        self.steps.push(Step { subject: subject.into(), name, outcome });
    }

    /// Adds a finding; the same one at several URLs is told once, with each URL.
    pub(super) fn found(&mut self, finding: Finding) {
        let same = |other: &&mut Finding| {
            (other.kind, other.severity, &other.saw, &other.remedy)
                == (finding.kind, finding.severity, &finding.saw, &finding.remedy)
        };
        match (self.findings.iter_mut().find(same), finding.at) {
            (None, at) => self.findings.push(Finding { at, ..finding }),
            (Some(Finding { at: Some(places), .. }), Some(more)) if !places.split(", ").any(|place| place == more) => {
                places.push_str(", ");
                places.push_str(&more);
            }
            (Some(_), _) => {}
        }
    }

    /// Runs a group of checks: what it found decides how its line reads.
    pub(super) fn group(&mut self, name: &'static str, fine: impl Into<String>, found: Vec<Finding>) {
        let outcome = match found.len() {
            0 => Outcome::Passed(fine.into()),
            _ if found.iter().all(|finding| finding.severity == Severity::Note) => Outcome::Passed("see below".into()),
            _ => Outcome::Failed("see below".into()),
        };
        self.step("this machine", name, outcome);
        found.into_iter().for_each(|finding| self.found(finding));
    }

    /// The findings, the worst first.
    pub(super) fn findings(&self) -> Vec<&Finding> {
        let mut sorted: Vec<&Finding> = self.findings.iter().collect();
        sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        sorted
    }

    /// 0 when nothing but notes was found, 1 for warnings, else that of the first error's class.
    pub(super) fn exit_code(&self) -> u8 {
        match self.findings().first() {
            None => 0,
            Some(finding) => match finding.severity {
                Severity::Note => 0,
                Severity::Warning => 1,
                Severity::Error => finding.kind.row().class.exit(),
            },
        }
    }

    pub(super) fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "id": finding.kind.row().id,
                "severity": finding.severity,
                "title": finding.kind.row().title,
                "at": finding.at,
                "saw": finding.saw,
                "means": finding.means,
                "do": finding.remedy,
            })
        };
        let step = |step: &Step| {
            let (_, detail) = step.outcome.words();
            let result = match step.outcome {
                Outcome::Passed(_) => "passed",
                Outcome::Failed(_) => "failed",
                Outcome::Skipped(_) => "skipped",
            };
            json!({ "subject": step.subject, "name": step.name, "result": result, "detail": detail })
        };
        json!({
            "healthy": self.exit_code() == 0,
            "exitCode": self.exit_code(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "findings": self.findings().into_iter().map(finding).collect::<Vec<_>>(),
        })
    }

    /// For people; in colour on a terminal.
    pub(super) fn text(&self, paint: Paint) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut subject = "";
        for step in &self.steps {
            if step.subject != subject {
                subject = &step.subject;
                lines.push(paint.bold(subject));
            }
            let (word, detail) = step.outcome.words();
            let word = match step.outcome {
                Outcome::Passed(_) => paint.green(&format!("{word:7}")),
                Outcome::Failed(_) => paint.red(&format!("{word:7}")),
                Outcome::Skipped(_) => paint.dim(&format!("{word:7}")),
            };
            lines.push(format!("  {word} {:<12} {detail}", step.name).trim_end().to_owned());
        }
        for finding in self.findings() {
            let row = finding.kind.row();
            let name = format!("{}: {}", finding.severity.name(), row.title);
            let name = match finding.severity {
                Severity::Error => paint.red(&name),
                Severity::Warning => paint.yellow(&name),
                Severity::Note => paint.bold(&name),
            };
            lines.push(format!("\n{name}  [{}]", row.id));
            for (label, text) in [("at", finding.at.as_deref().unwrap_or_default()), ("saw", &finding.saw)]
                .into_iter()
                .chain([("means", finding.means.as_str()), ("do", finding.remedy.as_str())])
                .filter(|(_, text)| !text.is_empty())
            {
                lines.push(format!("  {label:<6} {}", text.replace('\n', "\n         ")));
            }
        }
        let verdict = match self.exit_code() {
            0 => paint.green("healthy"),
            1 => paint.yellow("works, with warnings"),
            _ => paint.red("not healthy"),
        };
        lines.push(format!("\n{verdict}"));
        lines.join("\n")
    }
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    /// On a terminal, unless NO_COLOR says otherwise.
    pub(super) fn of_standard_output() -> Paint {
        Paint(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    fn red(self, text: &str) -> String {
        self.sgr("1;31", text)
    }

    fn yellow(self, text: &str) -> String {
        self.sgr("1;33", text)
    }

    fn green(self, text: &str) -> String {
        self.sgr("32", text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Kind;
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_worst_finding() {
        let mut report = Report::default();
        assert_eq!((report.exit_code(), report.json()["healthy"].as_bool()), (0, Some(true)));
        report.found(Kind::PrivatePeer.found("a", "b", "c"));
        assert_eq!(report.exit_code(), 0);
        report.found(Kind::Clock.found("a", "b", "c"));
        assert_eq!(report.exit_code(), 1);
        report.found(Kind::RelayPorts.found("a", "b", "c"));
        assert_eq!(report.exit_code(), 69);
        assert_eq!(report.json()["findings"][0]["id"], "relay-ports");
    }

    #[test]
    fn the_same_finding_at_two_urls_is_told_once() {
        let mut report = Report::default();
        for url in ["turn:a", "turn:b", "turn:a"] {
            report.found(Kind::Secret.found("a", "b", "c").at(url));
        }
        assert_eq!(report.findings().len(), 1);
        assert_eq!(report.findings()[0].at.as_deref(), Some("turn:a, turn:b"));
        let text = report.text(Paint(false));
        assert!(text.contains("error: The shared secrets differ  [secret]") && !text.contains('\x1b'), "{text}");
        assert!(report.text(Paint(true)).contains("\x1b[1;31m"));
    }
}
