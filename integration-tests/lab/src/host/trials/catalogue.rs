// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! All tests by name and group, and the choice among them.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::host::guests::{self, GuestTest, Under};
use crate::host::trials::workspace::{HostTest, Workspace};
use crate::scenarios::{self, Scenario};

/// Groups of the default run: what a change has to pass.
const DEFAULT: &[&str] = &["unit", "model", "fuzz", "guest", "lab"];

/// The guest tests once more, on a kernel that takes long to build.
const KASAN: &[&str] = &["kasan"];

/// One thing to run.
#[derive(Clone)]
pub struct Test {
    /// As in `./scripts/test NAME`.
    pub name: String,
    /// As in `./scripts/test GROUP`.
    pub groups: Vec<&'static str>,
    /// How it is run.
    pub kind: Kind,
}

/// How a test is run.
#[derive(Clone)]
pub enum Kind {
    /// On this machine.
    Host(HostTest),
    /// In a guest of its own, without a lab.
    Guest(&'static GuestTest, Under),
    /// In a lab.
    Scenario(&'static Scenario),
}

/// Everything there is, in the order it is to be run.
pub fn all(workspace: &Workspace) -> Vec<Test> {
    let host = workspace
        .tests()
        .into_iter()
        .map(|(name, group, test)| Test {
            name,
            groups: vec![group],
            kind: Kind::Host(test),
        });
    let guests = guests::ALL
        .iter()
        .filter(|test| test.groups != KASAN)
        .map(|test| Test {
            name: test.name.to_owned(),
            groups: test.groups.to_vec(),
            kind: Kind::Guest(test, Under::Stock),
        });
    let kasan = guests::ALL.iter().filter_map(|test| {
        Some(Test {
            name: test.kasan_name()?,
            groups: KASAN.to_vec(),
            kind: Kind::Guest(test, Under::Kasan),
        })
    });
    let scenarios = scenarios::all().map(|scenario| Test {
        name: scenario.name.to_owned(),
        groups: scenario.groups.to_vec(),
        kind: Kind::Scenario(scenario),
    });
    host.chain(guests).chain(kasan).chain(scenarios).collect()
}

/// The tests that `words` name by group or name; without words, the default ones, or with
/// `everything` all.
pub fn select(tests: Vec<Test>, words: &[String], everything: bool) -> Result<Vec<Test>> {
    for word in words {
        let known = tests.iter().any(|test| test.answers_to(word));
        if !known {
            bail!("no test or group is named {word:?}\n{}", names(&tests));
        }
    }
    let wanted = |test: &Test| match words {
        [] if everything => true,
        [] => DEFAULT.iter().any(|group| test.groups.contains(group)),
        _ => words.iter().any(|word| test.answers_to(word)),
    };
    Ok(tests.into_iter().filter(wanted).collect())
}

impl Test {
    fn answers_to(&self, word: &str) -> bool {
        self.name == word || self.groups.contains(&word)
    }
}

fn names(tests: &[Test]) -> String {
    let groups: BTreeSet<_> = tests
        .iter()
        .flat_map(|test| &test.groups)
        .copied()
        .collect();
    let groups: Vec<_> = groups.into_iter().collect();
    let names: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
    format!("groups: {}\ntests: {}", groups.join(" "), names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests() -> Vec<Test> {
        [
            ("fmt", "unit"),
            ("fuzz-ring", "fuzz"),
            ("a", "lab"),
            ("b", "long"),
        ]
        .map(|(name, group)| Test {
            name: name.to_owned(),
            groups: vec![group],
            kind: Kind::Host(HostTest::Format),
        })
        .to_vec()
    }

    fn chosen(words: &[&str], all: bool) -> Result<Vec<String>> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        Ok(select(tests(), &words, all)?
            .into_iter()
            .map(|test| test.name)
            .collect())
    }

    #[test]
    fn words_choose_by_group_or_name_in_the_catalogues_order() {
        assert_eq!(chosen(&["b", "unit"], false).unwrap(), ["fmt", "b"]);
        assert_eq!(chosen(&["lab", "a"], false).unwrap(), ["a"]);
    }

    #[test]
    fn without_words_what_a_change_has_to_pass() {
        assert_eq!(chosen(&[], false).unwrap(), ["fmt", "fuzz-ring", "a"]);
        assert_eq!(chosen(&[], true).unwrap(), ["fmt", "fuzz-ring", "a", "b"]);
    }

    #[test]
    fn an_unknown_word_is_refused_with_what_there_is() {
        let error = chosen(&["a", "labs"], false).unwrap_err().to_string();
        for part in [
            "\"labs\"",
            "groups: fuzz lab long unit",
            "tests: fmt fuzz-ring a b",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_a_group() {
        let mut seen = BTreeSet::new();
        for scenario in scenarios::all() {
            assert!(
                seen.insert(scenario.name),
                "{} is there twice",
                scenario.name
            );
            assert!(
                !scenario.groups.is_empty(),
                "{} has no group",
                scenario.name
            );
            for other in scenarios::all().filter(|other| other.name != scenario.name) {
                assert!(
                    !other.groups.contains(&scenario.name),
                    "{} is a group",
                    scenario.name
                );
            }
        }
    }
}
