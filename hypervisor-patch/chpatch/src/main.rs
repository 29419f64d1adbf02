// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line of chpatch.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use chpatch::commands::{self, ApplyOptions, Report};
use chpatch::error::Error;
use clap::{Args, Parser, Subcommand};

/// The series of the project that this chpatch was built in.
const SERIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../series");

/// Checks, applies, reverts and records the cloud-hypervisor patch series.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct SeriesFolder {
    /// Folder of the series [default: this project's hypervisor-patch/series]
    #[arg(long, value_name = "DIR", default_value = SERIES, hide_default_value = true)]
    series: PathBuf,
}

#[derive(Debug, Args)]
struct TreeFolder {
    /// Top of the cloud-hypervisor source tree
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the bases, their steps, and what each step touches
    List {
        #[command(flatten)]
        series: SeriesFolder,
    },
    /// Tells which base a tree is, and what is in the way; leaves the tree alone
    Check {
        #[command(flatten)]
        series: SeriesFolder,
        #[command(flatten)]
        tree: TreeFolder,
        /// Look at this base only
        #[arg(long, value_name = "NAME")]
        base: Option<String>,
    },
    /// Puts the series into a tree, all or nothing
    Apply {
        #[command(flatten)]
        series: SeriesFolder,
        #[command(flatten)]
        tree: TreeFolder,
        /// Take this base rather than the one that fits
        #[arg(long, value_name = "NAME")]
        base: Option<String>,
        /// Make one git commit a step, in your name
        #[arg(long)]
        commit: bool,
        /// Add your Signed-off-by to each commit: your statement under the
        /// Developer Certificate of Origin
        #[arg(long, requires = "commit")]
        signoff: bool,
    },
    /// Takes the series out of a tree again, byte for byte
    Revert {
        #[command(flatten)]
        tree: TreeFolder,
    },
    /// Makes the series of a base from the git commits on top of it
    Record {
        #[command(flatten)]
        series: SeriesFolder,
        #[command(flatten)]
        tree: TreeFolder,
        /// Name of the base
        #[arg(long, value_name = "NAME")]
        base: String,
        /// Upstream commit the series stands on [default: as recorded before,
        /// else what git knows as NAME]
        #[arg(long, value_name = "COMMIT")]
        onto: Option<String>,
    },
    /// Records files that are copied from this project as they are now
    Refresh {
        #[command(flatten)]
        series: SeriesFolder,
    },
}

fn run(command: &Command) -> Result<Report, Error> {
    match command {
        Command::List { series } => commands::list(&series.series),
        Command::Check { series, tree, base } => {
            commands::check(&series.series, &tree.tree, base.as_deref())
        }
        Command::Apply {
            series,
            tree,
            base,
            commit,
            signoff,
        } => {
            let options = ApplyOptions {
                base: base.as_deref(),
                commit: *commit,
                sign_off: *signoff,
            };
            commands::apply(&series.series, &tree.tree, options, &mut |_| Ok(()))
        }
        Command::Revert { tree } => commands::revert(&tree.tree, &mut |_| Ok(())),
        Command::Record {
            series,
            tree,
            base,
            onto,
        } => commands::record(
            &series.series,
            &tree.tree,
            base,
            onto.as_deref(),
            &mut |_| Ok(()),
        ),
        Command::Refresh { series } => commands::refresh(&series.series, &mut |_| Ok(())),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(report) => {
            let mut text = report.lines.join("\n");
            text.push('\n');
            // Nobody is left to tell when the output is closed.
            let _ = io::stdout().write_all(text.as_bytes());
            match report.bad {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "chpatch: {error}");
            ExitCode::FAILURE
        }
    }
}
