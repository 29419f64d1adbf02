// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `lab bench`: measures, and writes docs/results and docs/results.md from what it has measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::host::bench::file::{File, Machine};
use crate::host::lab;
use crate::host::packages;
use crate::host::programs;
use crate::host::progress::Progress;
use crate::host::setup::{self, Assets, Build};
use crate::host::share::Extra;
use crate::host::tool;
use crate::host::trials::commit;
use crate::job::{SHARE, Trial, VmmChoice, VmmKind};
use crate::scenarios::{self, BENCH_PATCHED, BENCH_STOCK};

mod analysis;
mod disturbance;
mod engine;
mod file;
mod lab_run;
mod plot;
mod report;
mod variants;

/// The benchmarks, in the order of the report; `engine` and `variants` need no lab.
const NAMES: &[&str] = &[
    "flush",
    "filesystems",
    "pause",
    "engine",
    "sync-calls",
    "snapshot",
    "variants",
];

/// That of `--quick`, which `./scripts/test` runs too: it fails if a ratio does not hold.
const QUICK: &str = "quick";

/// Those in which `--stock` and `--patched` take the place of our devices.
const WITH_BINARIES: &[&str] = &["flush", "filesystems", "pause"];

/// What `lab bench` is told.
#[derive(Args, Debug)]
pub struct Options {
    /// A short run that checks the tool and the ratios with margin; changes nothing in docs
    #[arg(long, conflicts_with = "names")]
    quick: bool,
    /// Also write everything that was measured into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A stock cloud-hypervisor, to take the place of the serial device
    #[arg(long, value_name = "PATH", requires = "patched")]
    stock: Option<PathBuf>,
    /// A patched cloud-hypervisor, to take the place of our VMM
    #[arg(long, value_name = "PATH", requires = "stock")]
    patched: Option<PathBuf>,
    /// A setting of the benchmarks (`rounds=10`, `threads=1,16`); may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Only write docs/results.md and its pictures again, from docs/results/*.json
    #[arg(long, conflicts_with_all = ["quick", "json", "stock", "names"])]
    report_only: bool,
    /// Benchmarks; all of them without
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("wanted NAME=VALUE".to_owned()),
    }
}

/// Measures what was asked for.
pub fn main(options: &Options) -> Result<ExitCode> {
    let docs = programs::workspace()?.join("docs");
    if options.report_only {
        report::write(&docs)?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(options)?;
    let extras = extras(options)?;
    let binaries = binaries(options)?;
    let progress = Progress::new();
    packages::ensure(&progress)?;
    let mut files = Vec::new();
    let mut assets = None;
    for name in chosen {
        let begun = Instant::now();
        let settings: Settings = options.settings.iter().cloned().collect();
        let file = match name {
            "engine" => engine::run(&progress)?,
            "variants" => variants::measure(&progress)?,
            _ => {
                if assets.is_none() {
                    assets = Some(setup::run(&progress, false, Build::Driver)?);
                }
                let assets = assets.as_ref().context("no assets")?;
                in_a_lab(assets, &progress, name, settings, &extras, options.quick)?
            }
        };
        let file = File {
            machine: Machine {
                binaries: binaries.clone(),
                ..file.machine
            },
            ..file
        };
        progress.step(&format!("{name}: {} s", begun.elapsed().as_secs()));
        let file = if options.stock.is_some() {
            // Beside the results of our own VMM, not over them.
            File {
                name: format!("{name}-cloud-hypervisor"),
                ..file
            }
        } else {
            file
        };
        if !options.quick {
            let dir = docs.join("results");
            fs::create_dir_all(&dir)?;
            file.write(&dir.join(format!("{}.json", file.name)))?;
        }
        files.push(file);
    }
    progress.finish();
    if let Some(path) = &options.json {
        let text = serde_json::to_vec_pretty(&files)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for file in &files {
        println!("{}", report::text(file));
    }
    if options.quick {
        println!("the ratios hold");
    } else {
        report::write(&docs)?;
        println!("written: {}", docs.join("results.md").display());
    }
    Ok(ExitCode::SUCCESS)
}

type Settings = BTreeMap<String, String>;

fn choose(options: &Options) -> Result<Vec<&'static str>> {
    for name in &options.names {
        if !NAMES.contains(&name.as_str()) {
            bail!(
                "no benchmark is named {name:?}; there are: {}",
                NAMES.join(" ")
            );
        }
    }
    if options.quick {
        return Ok(vec![QUICK]);
    }
    // With other binaries only what boots them says something new.
    let fits = |name: &str| options.stock.is_none() || WITH_BINARIES.contains(&name);
    for name in &options.names {
        if !fits(name) {
            bail!(
                "--stock and --patched make no difference to {name}, only to: {}",
                WITH_BINARIES.join(" ")
            );
        }
    }
    let named = |name: &str| options.names.is_empty() || options.names.iter().any(|n| n == name);
    Ok(NAMES
        .iter()
        .copied()
        .filter(|name| named(name) && fits(name))
        .collect())
}

fn extras(options: &Options) -> Result<Vec<Extra>> {
    let mut extras = Vec::new();
    for (option, path, to) in [
        ("--stock", &options.stock, BENCH_STOCK),
        ("--patched", &options.patched, BENCH_PATCHED),
    ] {
        let Some(from) = path else { continue };
        if !from.is_file() {
            bail!("{option} {}: no such file", from.display());
        }
        extras.push(Extra {
            from: from.clone(),
            to: to.to_owned(),
        });
    }
    Ok(extras)
}

/// What the user's binaries are, in their own words; where they lie is nobody's business.
fn binaries(options: &Options) -> Result<Vec<String>> {
    let named = [("stock", &options.stock), ("patched", &options.patched)];
    named
        .into_iter()
        .filter_map(|(role, path)| Some((role, path.as_ref()?)))
        .map(|(role, path)| {
            let said = tool::output(Command::new(path).arg("--version"))?;
            Ok(format!(
                "{role}: {}",
                said.lines().next().unwrap_or_default().trim()
            ))
        })
        .collect()
}

fn in_a_lab(
    assets: &Assets,
    progress: &Progress,
    name: &str,
    settings: Settings,
    extras: &[Extra],
    quick: bool,
) -> Result<File> {
    let full = format!("bench-{name}");
    let scenario = scenarios::find(&full).with_context(|| format!("there is no {full}"))?;
    let kernel = scenario.usual.kernel;
    let trial = Trial {
        driver: scenario.usual.driver,
        kernel: kernel.to_owned(),
        options: settings.clone(),
        scenario: full,
        seed: 1,
        vmm: VmmChoice {
            kind: VmmKind::Vmm,
            path: Path::new(SHARE).join("bin/vmm"),
        },
    };
    let measured = lab_run::run(assets, progress, scenario, trial, extras)
        .with_context(|| format!("the benchmark {name}"))?;
    let mut machine = file::this_machine();
    machine.lab = lab::accel(assets)?.name().to_owned();
    machine.lab_kernel.clone_from(&assets.lab_kernel.release);
    let guest = assets.guests.iter().find(|guest| guest.series == kernel);
    machine.guest_kernel = guest.map(|guest| guest.release.clone()).unwrap_or_default();
    Ok(File {
        name: name.to_owned(),
        date: file::today()?,
        commit: commit()?,
        machine,
        quick,
        settings: settings
            .into_iter()
            .map(|(name, value)| (name, Value::from(value)))
            .collect::<Map<_, _>>(),
        rows: measured.rows,
        others: measured
            .others
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(quick: bool, names: &[&str]) -> Options {
        Options {
            quick,
            json: None,
            stock: None,
            patched: None,
            settings: Vec::new(),
            report_only: false,
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn every_lab_benchmark_has_its_scenario() {
        for name in NAMES
            .iter()
            .filter(|name| !["engine", "variants"].contains(name))
            .chain([&QUICK])
        {
            assert!(
                scenarios::find(&format!("bench-{name}")).is_some(),
                "{name}"
            );
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_there_are() {
        let error = choose(&options(false, &["flash"])).unwrap_err().to_string();
        assert!(
            error.contains("flash") && error.contains("sync-calls"),
            "{error}"
        );
    }

    #[test]
    fn without_names_there_are_all_or_the_short_one() {
        assert_eq!(choose(&options(true, &[])).unwrap(), [QUICK]);
        assert_eq!(choose(&options(false, &[])).unwrap(), NAMES);
        assert_eq!(choose(&options(false, &["pause"])).unwrap(), ["pause"]);
    }

    #[test]
    fn other_binaries_measure_only_what_boots_them() {
        let with = |names: &[&str]| {
            let mut options = options(false, names);
            options.stock = Some(PathBuf::from("stock"));
            choose(&options)
        };
        assert_eq!(with(&[]).unwrap(), WITH_BINARIES);
        assert_eq!(with(&["flush"]).unwrap(), ["flush"]);
        let error = with(&["engine"]).unwrap_err().to_string();
        assert!(error.contains("no difference to engine"), "{error}");
    }
}
