//! Findings as they are collected: the same words about several targets are one finding.

use super::report::{Finding, Severity, Verdict};

/// What was found so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// It does not work.
    pub(super) fn error(&mut self, code: &str, about: impl Into<Option<String>>, text: impl Into<String>) {
        self.add(Severity::Error, code, about.into(), text.into());
    }

    /// It works, but.
    pub(super) fn warning(&mut self, code: &str, about: impl Into<Option<String>>, text: impl Into<String>) {
        self.add(Severity::Warning, code, about.into(), text.into());
    }

    /// Good to know.
    pub(super) fn note(&mut self, code: &str, about: impl Into<Option<String>>, text: impl Into<String>) {
        self.add(Severity::Note, code, about.into(), text.into());
    }

    /// An error if nothing else is left to use, else a warning.
    pub(super) fn worse(&mut self, all: bool, code: &str, about: impl Into<Option<String>>, text: impl Into<String>) {
        let severity = if all { Severity::Error } else { Severity::Warning };
        self.add(severity, code, about.into(), text.into());
    }

    /// A warning about several at once.
    pub(super) fn add_about(&mut self, code: &str, about: Vec<String>, text: String) {
        self.0.push(Finding { severity: Severity::Warning, code: code.to_owned(), about, text });
    }

    /// What another part found.
    pub(super) fn extend(&mut self, other: Findings) {
        for finding in other.0 {
            match self.twin(finding.severity, &finding.code, &finding.text) {
                Some(twin) => twin.about.extend(finding.about),
                None => self.0.push(finding),
            }
        }
    }

    /// Errors become warnings: what was looked at is not what decides.
    #[must_use]
    pub(super) fn softened(mut self) -> Findings {
        for finding in &mut self.0 {
            finding.severity = finding.severity.max(Severity::Warning);
        }
        self
    }

    /// The worst first, otherwise in the order in which they were found.
    #[must_use]
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.severity);
        self.0
    }

    /// What the worst of them means.
    #[must_use]
    pub(super) fn verdict(&self) -> Verdict {
        match self.0.iter().map(|finding| finding.severity).min() {
            Some(Severity::Error) => Verdict::Fails,
            Some(Severity::Warning) => Verdict::Warning,
            Some(Severity::Note) | None => Verdict::Works,
        }
    }

    fn add(&mut self, severity: Severity, code: &str, about: Option<String>, text: String) {
        match self.twin(severity, code, &text) {
            Some(twin) => {
                if let Some(about) = about.filter(|about| !twin.about.contains(about)) {
                    twin.about.push(about);
                }
            }
            None => self.0.push(Finding { severity, code: code.to_owned(), about: about.into_iter().collect(), text }),
        }
    }

    fn twin(&mut self, severity: Severity, code: &str, text: &str) -> Option<&mut Finding> {
        self.0.iter_mut().find(|f| f.severity == severity && f.code == code && f.text == text)
    }
}
