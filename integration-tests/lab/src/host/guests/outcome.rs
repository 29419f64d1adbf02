// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest said on its console.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::host::tool;
use crate::job::Outcome;

/// Begins the line with the verdict: `RESULT pass`, `RESULT fail: why` or `RESULT skip: why`.
const RESULT: &str = "RESULT ";

/// Begins a line with a figure: `MEASURE name=value`.
const MEASURE: &str = "MEASURE ";

/// The verdict; none if the guest did not come to one.
pub fn outcome(console: &str) -> Option<Outcome> {
    let said = lines(console, RESULT).last()?;
    Some(match said.split_once(": ") {
        Some(("fail", why)) => failed(why),
        Some(("skip", why)) => Outcome::Skipped {
            reason: why.to_owned(),
        },
        _ if said == "pass" => Outcome::Passed,
        _ => failed(&format!("the guest ended with {said:?}")),
    })
}

/// That of a guest that has passed, and must say `words` while it goes down.
pub fn after_verdict(console: &str, words: &str) -> Outcome {
    let end = console.rfind(RESULT).map_or("", |at| &console[at..]);
    if end.contains(words) {
        Outcome::Passed
    } else {
        no_verdict(
            end,
            &format!("the guest went down without saying {words:?}"),
        )
    }
}

/// A guest that ended, or was ended, without a verdict.
pub fn no_verdict(console: &str, how: &str) -> Outcome {
    failed(&format!("{how}\n{}", tool::tail(console, 30)))
}

/// The figures, numbers as numbers.
pub fn measurements(console: &str) -> BTreeMap<String, Value> {
    lines(console, MEASURE)
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            let number = value.parse::<u64>().map(Value::from);
            (name.to_owned(), number.unwrap_or_else(|_| value.into()))
        })
        .collect()
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed {
        reason: reason.to_owned(),
    }
}

fn lines<'a>(console: &'a str, begin: &'static str) -> impl Iterator<Item = &'a str> {
    console
        .lines()
        .filter_map(move |line| line.strip_prefix(begin))
        .map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts_and_has_its_reason() {
        let console = "[1.0] RESULT pass\r\nMEASURE flushes=12\r\nMEASURE state=live\r\n";
        assert_eq!(outcome(console), None);
        let with = |line: &str| outcome(&format!("{console}RESULT pass\r\n{line}\r\n"));
        assert_eq!(with("x"), Some(Outcome::Passed));
        assert_eq!(with("RESULT fail: errors: 3"), Some(failed("errors: 3")));
        assert!(matches!(
            with("RESULT skip: no S3"),
            Some(Outcome::Skipped { reason }) if reason == "no S3"
        ));
        assert!(matches!(with("RESULT pas"), Some(Outcome::Failed { .. })));
        let figures = measurements(console);
        assert_eq!(figures["flushes"], 12);
        assert_eq!(figures["state"], "live");
    }

    #[test]
    fn last_words_come_after_the_verdict() {
        let end = |console: &str| after_verdict(console, "broken:");
        assert_eq!(
            end("RESULT pass\nvirtio0: broken: silent\n"),
            Outcome::Passed
        );
        for console in ["broken: silent\nRESULT pass\n", "RESULT pass\n", ""] {
            assert!(matches!(end(console), Outcome::Failed { .. }), "{console}");
        }
        assert_eq!(after_verdict("RESULT pass\n", ""), Outcome::Passed);
    }

    #[test]
    fn a_guest_without_a_verdict_fails_with_its_last_words() {
        let Outcome::Failed { reason } = no_verdict("a\nKernel panic", "QEMU was killed") else {
            panic!("not failed");
        };
        assert!(reason.contains("QEMU was killed") && reason.contains("Kernel panic"));
    }
}
