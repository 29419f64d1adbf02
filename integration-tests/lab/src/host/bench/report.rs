// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! docs/results.md: a section, its tables and its pictures for each file in docs/results.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::bench::NAMES;
use crate::host::bench::file::File;
use crate::host::bench::plot::Chart;

mod engine;
mod flush;
mod other;
mod variants;

/// What a benchmark has to say.
pub struct Section<'a> {
    /// Its heading.
    pub title: String,
    /// Markdown.
    pub text: String,
    /// File names and pictures.
    pub charts: Vec<(String, Chart<'a>)>,
}

/// Endings of the names of results that were measured with the user's cloud-hypervisor binaries.
const SUFFIXES: [&str; 2] = ["", "-cloud-hypervisor"];

/// Writes docs/results.md and the pictures.
pub fn write(docs: &Path) -> Result<()> {
    let dir = docs.join("results");
    let mut text = HEAD.to_owned();
    for suffix in SUFFIXES {
        for name in NAMES {
            let path = dir.join(format!("{name}{suffix}.json"));
            if !path.exists() {
                continue;
            }
            let file = File::read(&path)?;
            let section = section(&file).with_context(|| path.display().to_string())?;
            write!(text, "\n## {}\n\n{}", section.title, section.text)?;
            for (name, chart) in &section.charts {
                chart.write(&dir.join(name))?;
                let Chart { title, caption, .. } = chart;
                write!(text, "\n![{title}](results/{name})\n\n{caption}\n")?;
            }
            writeln!(text, "\n{}", provenance(&file))?;
        }
    }
    let path = docs.join("results.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A file's section for a terminal: without its pictures.
pub fn text(file: &File) -> String {
    match section(file) {
        Ok(section) => format!("{}\n\n{}", section.title, section.text),
        Err(error) => format!("{}: {error:#}", file.name),
    }
}

fn section(file: &File) -> Result<Section<'static>> {
    match file.name.trim_end_matches(SUFFIXES[1]) {
        "flush" | "quick" => flush::section(file),
        "engine" => Ok(engine::section(file)),
        "filesystems" => other::filesystems(file),
        "pause" => other::pause(file),
        "sync-calls" => other::sync_calls(file),
        "snapshot" => other::snapshot(file),
        "variants" => variants::section(file),
        other => anyhow::bail!("no section is known for `{other}`"),
    }
}

fn provenance(file: &File) -> String {
    let machine = &file.machine;
    let mut parts = vec![machine.processor.clone()];
    if machine.lab.is_empty() {
        parts.push(format!("Linux {}", machine.host_kernel));
    } else {
        parts.push(format!("lab under {}", machine.lab));
        parts.push(format!("Linux {} in the lab", machine.lab_kernel));
        parts.push(format!("{} in the guest", machine.guest_kernel));
    }
    parts.extend(machine.binaries.iter().cloned());
    parts.push(format!("commit {}", file.commit));
    parts.push(file.date.clone());
    let settings: Vec<_> = file
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    if !settings.is_empty() {
        parts.push(format!("set: {}", settings.join(" ")));
    }
    format!("<sub>{}</sub>", parts.join("; "))
}

/// A driver, as the text calls it.
pub fn driver(name: &str) -> &str {
    if name == "c" { "C" } else { "Rust" }
}

/// A table in markdown.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head);
    text.push_str(&line(&vec!["---".to_owned(); head.len()]));
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

/// Three significant digits, or fewer where that is exact.
pub fn figure(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A figure that may not have been measured.
pub fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), figure)
}

const HEAD: &str = "\
<!-- SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause -->
<!-- Written by ./scripts/bench from docs/results/*.json. -->
# Results

`./scripts/bench` measures all of this on your machine and writes this page ([how](lab.md#measure)). Two sides are measured in turns (A/B, then B/A) in
one lab, the figure is the median of the pairs, and a pair counts only if others (neighbours on the machine, or its own host) had no
more than 5 % of the processors' time meanwhile. *serial* is a device as stock VMMs have it: one flush at a time, on the device's own thread. *engine* is
ours. *C* is the kernel's driver, *Rust* ours. The flush cost is what the disk below the backing file takes for a flush (dm-delay).

On a machine without hardware virtualisation the lab is emulated and has one processor: a guest's fsync then costs about
2 ms of CPU before any flush, which is the limit at small flush costs. A machine with hardware KVM has other
absolute figures; run the same command and add a column.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [(123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (5.0, "5")] {
            assert_eq!(figure(value), text);
        }
        assert_eq!(maybe(None), "-");
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let head = ["a".to_owned(), "b".to_owned()];
        let text = table(&head, &[vec!["1".to_owned(), "2".to_owned()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
