//! What is wrong with a document, and where.

use std::fmt;

/// Whether a document can still be used after a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The document is no contract.
    Error,
    /// It is, and probably not the one its author meant.
    Warning,
}

/// One finding about a document. `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// An `operationId` where an operation is meant, else a JSON pointer (`#/servers/0`).
    pub place: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Whether it stops the document from being used.
    pub severity: Severity,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}: {}", one_line(&self.place), one_line(&self.message))
    }
}

/// Documents may come from strangers: what is quoted from them must not break a line or drive a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Findings so far. A hostile document must not make more of them than anybody reads.
#[derive(Default)]
pub(crate) struct Findings(Vec<Diagnostic>);

impl Findings {
    const MOST: usize = 500;

    pub(crate) fn error(&mut self, place: &str, message: impl Into<String>) {
        self.add(place, message.into(), Severity::Error);
    }

    pub(crate) fn warning(&mut self, place: &str, message: impl Into<String>) {
        self.add(place, message.into(), Severity::Warning);
    }

    fn add(&mut self, place: &str, message: String, severity: Severity) {
        let finding = Diagnostic { place: place.into(), message, severity };
        // An error always gets in: whoever asks `has_errors` must not be told no because warnings came first.
        let full = self.0.len() >= Self::MOST && (severity == Severity::Warning || self.has_errors());
        if !full && !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    pub(crate) fn into_vec(self) -> Vec<Diagnostic> {
        self.0
    }
}
