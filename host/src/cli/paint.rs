//! Phases in colour, where there is a terminal that shows them and nobody has said no.

use std::io::IsTerminal;

use super::Call;
use crate::policy::Phase;

/// Whether phases are coloured.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Paint(bool);

// === impl Paint ===

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(in crate::cli) const NONE: Self = Self(false);

    /// Colours on a terminal, unless `NO_COLOR` is set.
    pub(in crate::cli) fn of(call: &Call<'_>) -> Self {
        Self(!call.no_color && std::io::stdout().is_terminal())
    }

    /// A text in the colour of a phase. None: outside the data.
    pub(in crate::cli) fn phase(self, phase: Option<Phase>, text: &str) -> String {
        let code = match phase {
            Some(Phase::Open) => "32",
            Some(Phase::ClosingAuction) => "33",
            Some(Phase::PreOpen) => "36",
            Some(Phase::PostClose) => "34",
            Some(Phase::Break) => "35",
            Some(Phase::Halted) | None => "31",
            Some(Phase::Closed) => "2",
        };
        self.with(code, text)
    }

    /// A text that stands out.
    pub(in crate::cli) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
