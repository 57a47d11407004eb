//! When a candidate that is compared with what is in force is let through, and when it is not. Pure.

use std::time::Duration;

/// What a candidate must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// For how long it is compared.
    pub span: Duration,
    /// Of all decisions that are compared, the share that may differ, from 0 to 1. None: a person decides.
    pub differing_max: Option<f64>,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is too early to say.
    Wait,
    /// The time is over, and a person decides.
    Over,
    /// It is let through.
    Promote,
    /// It is not, and why.
    Reject(String),
}

/// What may still come is taken to be at most so many times what came so far in the same time.
const BUSIER: f64 = 4.0;
/// It is not rejected before this part of its time and with fewer decisions: from few nothing follows for the rest, and
/// there is to be more to see than its first difference.
const EARLIEST: f64 = 0.1;
const COMPARED_MIN: u64 = 1000;

// === impl Gate ===

impl Gate {
    /// The verdict after so long, with so many decisions compared and so many of them differing.
    pub fn verdict(&self, elapsed: Duration, compared: u64, differing: u64) -> Verdict {
        let over = elapsed >= self.span;
        let Some(max) = self.differing_max else { return if over { Verdict::Over } else { Verdict::Wait } };
        let allowed = |compared: f64| max * compared;
        let percent = |share: f64| format!("{} %", (share * 1e6).round() / 1e4);
        let said = || {
            let share = differing as f64 / compared.max(1) as f64;
            format!("{differing} of {compared} decisions differ ({}); at most {} may", percent(share), percent(max))
        };
        if over {
            return match compared {
                0 => Verdict::Reject("no decision was made in that time, so that nothing was compared".to_owned()),
                _ if differing as f64 > allowed(compared as f64) => Verdict::Reject(said()),
                _ => Verdict::Promote,
            };
        }
        if elapsed < self.span.mul_f64(EARLIEST) || compared < COMPARED_MIN {
            return Verdict::Wait;
        }
        let rest = (self.span - elapsed).as_secs_f64() / elapsed.as_secs_f64().max(1e-3);
        let most = compared as f64 * (1.0 + BUSIER * rest);
        if differing as f64 > allowed(most) {
            return Verdict::Reject(format!("{}, and it could not become better in the time that is left", said()));
        }
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Gate, Verdict};

    fn check(differing_max: Option<f64>, seconds: u64, counts: (u64, u64), expect: &str) {
        let gate = Gate { span: Duration::from_secs(100), differing_max };
        let got = match gate.verdict(Duration::from_secs(seconds), counts.0, counts.1) {
            Verdict::Reject(why) => why,
            other => format!("{other:?}"),
        };
        assert_eq!(got, expect, "{differing_max:?} after {seconds} s with {counts:?}");
    }

    #[test]
    fn verdicts() {
        check(None, 99, (10, 10), "Wait");
        check(None, 100, (10, 10), "Over");
        check(Some(0.0), 1, (1_000, 0), "Wait");
        let late = ", and it could not become better in the time that is left";
        check(Some(0.0), 9, (1_000, 1), "Wait");
        check(Some(0.0), 99, (999, 999), "Wait");
        check(Some(0.0), 10, (1_000, 1), &format!("1 of 1000 decisions differ (0.1 %); at most 0 % may{late}"));
        check(Some(0.0), 100, (1_000, 0), "Promote");
        check(Some(0.001), 100, (1_000, 1), "Promote");
        check(Some(0.001), 100, (1_000, 2), "2 of 1000 decisions differ (0.2 %); at most 0.1 % may");
        // Early on much may still come, near the end little.
        check(Some(0.01), 10, (1_000, 300), "Wait");
        check(Some(0.01), 50, (1_000, 49), "Wait");
        check(Some(0.01), 50, (1_000, 51), &format!("51 of 1000 decisions differ (5.1 %); at most 1 % may{late}"));
        check(Some(0.01), 0, (0, 0), "Wait");
        check(Some(0.01), 100, (0, 0), "no decision was made in that time, so that nothing was compared");
        check(Some(1.0), 100, (10, 10), "Promote");
    }
}
