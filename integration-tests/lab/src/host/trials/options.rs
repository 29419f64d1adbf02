// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What `lab test` is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::host::kernel::SERIES;
use crate::host::setup::{self, Assets};
use crate::host::share::Extra;
use crate::job::{Driver, Trial, VmmChoice, VmmKind};

/// The VMM, driver and kernel that scenarios run with.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The VMM under test: `vmm`, `qemu`, or the path of a cloud-hypervisor binary
    #[arg(long, value_name = "vmm|qemu|PATH", default_value = "vmm")]
    vmm: String,
    /// The guest's virtio-pmem driver: `c` is the kernel's own
    #[arg(long, value_name = "rust|c", default_value = "c", value_parser = driver)]
    driver: Driver,
    /// The guest's kernel series
    #[arg(long, value_name = "SERIES", default_value = SERIES[0], value_parser = kernel)]
    kernel: String,
    /// A setting of the scenarios; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

/// What `lab test` is told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only list the tests there are, or those of the groups and names given
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub target: Target,
    /// Each test so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Those too that the default run leaves out
    #[arg(long)]
    pub all: bool,
    /// Seed of everything random; the default is a new one, and is printed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How long each fuzz target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub fuzz_seconds: u32,
    /// Groups and names of tests; without any, all that a change has to pass
    #[arg(value_name = "GROUP|NAME")]
    pub words: Vec<String>,
}

/// Where a binary that the user named is put in the lab.
const NAMED_VMM: &str = "bin/vmm-under-test";

impl Target {
    /// The trial of `scenario` with these.
    pub fn trial(&self, scenario: &str, seed: u64) -> Trial {
        Trial {
            driver: self.driver,
            kernel: self.kernel.clone(),
            options: self.settings.iter().cloned().collect::<BTreeMap<_, _>>(),
            scenario: scenario.to_owned(),
            seed,
            vmm: self.vmm().0,
        }
    }

    /// Files the lab needs for these. An error if the user named what is not there.
    pub fn extras(&self) -> Result<Vec<Extra>> {
        let Some(from) = self.vmm().1 else {
            return Ok(Vec::new());
        };
        if !from.is_file() {
            bail!(
                "--vmm {}: no such file; wanted vmm, qemu or the path of a cloud-hypervisor binary",
                self.vmm
            );
        }
        Ok(vec![Extra {
            from,
            to: NAMED_VMM.to_owned(),
        }])
    }

    /// An error if the guest does not have the driver.
    pub fn check_driver(&self, assets: &Assets) -> Result<()> {
        let guest = assets
            .guests
            .iter()
            .find(|guest| guest.series == self.kernel);
        if let (Driver::Rust, Some(guest)) = (self.driver, guest)
            && !guest.has_rust_driver
        {
            bail!(
                "--driver rust: no module for Linux {} in {}; build it first, or take c",
                guest.release,
                setup::rust_driver_dir(&guest.release)?.display()
            );
        }
        Ok(())
    }

    fn vmm(&self) -> (VmmChoice, Option<PathBuf>) {
        let (kind, path, binary) = match self.vmm.as_str() {
            "vmm" => (VmmKind::Vmm, "/lab/bin/vmm".into(), None),
            "qemu" => (VmmKind::Qemu, "/usr/bin/qemu-system-x86_64".into(), None),
            path => (
                VmmKind::CloudHypervisor,
                PathBuf::from(format!("/lab/{NAMED_VMM}")),
                Some(PathBuf::from(path)),
            ),
        };
        (VmmChoice { kind, path }, binary)
    }
}

fn driver(text: &str) -> Result<Driver, String> {
    match text {
        "c" => Ok(Driver::C),
        "rust" => Ok(Driver::Rust),
        _ => Err("wanted rust or c".to_owned()),
    }
}

fn kernel(text: &str) -> Result<String, String> {
    if SERIES.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("wanted {}", SERIES.join(" or ")))
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("wanted NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &[&str]) -> Result<Options, String> {
        let words = ["test"].iter().chain(words);
        Line::try_parse_from(words)
            .map(|line| line.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn wrong_values_are_refused_with_option_value_and_what_is_right() {
        for (words, said) in [
            (["--kernel", "5.10"], ["--kernel", "'5.10'", "7.3 or 6.12"]),
            (["--driver", "go"], ["--driver", "'go'", "rust or c"]),
            (["--set", "rounds"], ["--set", "'rounds'", "NAME=VALUE"]),
            (["--count", "0"], ["--count", "'0'", "0 is not in"]),
        ] {
            let error = parse(&words).unwrap_err();
            for part in said {
                assert!(error.contains(part), "{words:?}: {error}");
            }
        }
    }

    #[test]
    fn a_vmm_is_ours_qemu_or_a_binary_that_is_there() {
        let kind = |words: &[&str]| parse(words).unwrap().target.trial("x", 1).vmm;
        assert_eq!(kind(&[]).kind, VmmKind::Vmm);
        assert_eq!(kind(&["--vmm", "qemu"]).kind, VmmKind::Qemu);
        let named = parse(&["--vmm", "/bin/sh"]).unwrap().target;
        assert_eq!(
            named.trial("x", 1).vmm.path,
            PathBuf::from("/lab/bin/vmm-under-test")
        );
        assert_eq!(named.extras().unwrap()[0].from, PathBuf::from("/bin/sh"));
        let gone = parse(&["--vmm", "/no/such"]).unwrap().target;
        let error = gone.extras().unwrap_err().to_string();
        assert!(error.contains("--vmm /no/such"), "{error}");
    }

    #[test]
    fn settings_reach_the_trial() {
        let options = parse(&["--set", "rounds=3", "--seed", "9"]).unwrap();
        let trial = options.target.trial("s", 9);
        assert_eq!(trial.options.get("rounds").map(String::as_str), Some("3"));
        assert_eq!((trial.scenario.as_str(), trial.seed), ("s", 9));
    }
}
