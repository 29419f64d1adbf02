// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `docs/results/NAME.json`: what one benchmark measured, on what, and when.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::host::tool;

/// One benchmark's results.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct File {
    /// `flush`, `pause`, …
    pub name: String,
    /// The day, UTC.
    pub date: String,
    /// The commit, with `-dirty` if there was more.
    pub commit: String,
    /// What it ran on.
    pub machine: Machine,
    /// The short form for CI: fewer cells and rounds.
    pub quick: bool,
    /// What the command line changed.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// One measurement each.
    pub rows: Vec<Value>,
    /// What is not a row.
    #[serde(default)]
    pub others: Map<String, Value>,
}

/// The machine and what ran in it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Machine {
    /// The processor's name and how many there are.
    pub processor: String,
    /// This machine's kernel.
    pub host_kernel: String,
    /// `hardware KVM`, or that it is emulated.
    pub lab: String,
    /// The lab's kernel, which is the host's of the guests.
    pub lab_kernel: String,
    /// The guest's kernel.
    pub guest_kernel: String,
    /// What the user's binaries say that they are: `stock: cloud-hypervisor v53.0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binaries: Vec<String>,
}

impl File {
    /// Reads one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no result of a benchmark", path.display()))
    }

    /// Writes it, a row a line: a change shows as one.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut head = serde_json::to_value(self)?;
        let fields = head.as_object_mut().context("no object")?;
        fields.remove("rows");
        let mut text = serde_json::to_string_pretty(&head)?;
        let end = text.rfind('}').context("no object")?;
        text.truncate(text[..end].trim_end().len());
        text.push_str(",\n  \"rows\": [");
        for (index, row) in self.rows.iter().enumerate() {
            text.push_str(if index == 0 { "\n    " } else { ",\n    " });
            text.push_str(&serde_json::to_string(row)?);
        }
        text.push_str("\n  ]\n}\n");
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// This machine's part of [`Machine`].
pub fn this_machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let count = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    Machine {
        processor: format!("{count} × {name}"),
        host_kernel: read("/proc/sys/kernel/osrelease"),
        ..Machine::default()
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// `YYYY-MM-DD`, UTC.
pub fn today() -> Result<String> {
    let text = tool::output(Command::new("date").args(["-u", "+%F"]))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_can_be_read_back_with_a_row_a_line() {
        let file = File {
            name: "flush".to_owned(),
            date: "2026-01-02".to_owned(),
            commit: "c".to_owned(),
            machine: this_machine(),
            quick: false,
            settings: Map::new(),
            rows: vec![json!({"a": 1, "b": {"c": []}}), json!({"a": 2})],
            others: Map::from_iter([("long".to_owned(), json!({"d": 3}))]),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        for rows in [file.rows.clone(), Vec::new()] {
            let file = File {
                rows,
                ..file.clone()
            };
            file.write(&path).unwrap();
            let back = File::read(&path).unwrap();
            assert_eq!(back.rows, file.rows);
            assert_eq!(back.others, file.others);
            assert_eq!(back.machine.processor, file.machine.processor);
        }
        file.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("    {\"a\""))
                .count(),
            2
        );
    }
}
