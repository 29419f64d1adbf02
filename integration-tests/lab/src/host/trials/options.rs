// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What `lab test` is told.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::host::guests::{GuestTest, Under};
use crate::host::kernel::{KASAN, SERIES};
use crate::host::share::Extra;
use crate::job::{Driver, STOCK_VMM, Trial, VmmChoice, VmmKind};
use crate::scenarios::Scenario;

/// The VMM, driver and kernel that scenarios run with.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The VMM under test: `vmm`, `qemu`, or the path of a cloud-hypervisor binary [default: the
    /// scenario's]
    #[arg(long, value_name = "vmm|qemu|PATH")]
    vmm: Option<String>,
    /// The guest's virtio-pmem driver: `c` is the kernel's own [default: the scenario's]
    #[arg(long, value_name = "rust|c", value_parser = driver)]
    driver: Option<Driver>,
    /// The guest's kernel series [default: the scenario's]
    #[arg(long, value_name = "SERIES", value_parser = kernel)]
    kernel: Option<String>,
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
    /// Build the fuzz targets without AddressSanitizer: more executions in a second
    #[arg(long)]
    pub fuzz_plain: bool,
    /// How long `soak` goes on
    #[arg(long, value_name = "H", value_parser = hours)]
    pub hours: Option<f64>,
    /// Groups and names of tests; without any, all that a change has to pass
    #[arg(value_name = "GROUP|NAME")]
    pub words: Vec<String>,
}

/// Where a binary that the user named is put in the lab.
const NAMED_VMM: &str = "bin/vmm-under-test";

/// The setting that names a second binary, the unpatched one, for [`crate::job::STOCK_VMM`].
const STOCK: &str = "stock";

impl Target {
    /// The trial of `scenario` with these.
    pub fn trial(&self, scenario: &Scenario, seed: u64) -> Trial {
        let usual = &scenario.usual;
        let settings = scenario
            .settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Trial {
            driver: self.driver.unwrap_or(usual.driver),
            kernel: self
                .kernel
                .clone()
                .unwrap_or_else(|| usual.kernel.to_owned()),
            options: settings.chain(self.settings.iter().cloned()).collect(),
            scenario: scenario.name.to_owned(),
            seed,
            vmm: self.vmm(usual.vmm),
        }
    }

    /// The trial of a guest's test with these. What a control runs with is not to be chosen.
    pub fn guest_trial(&self, test: &GuestTest, under: Under, name: &str, seed: u64) -> Trial {
        let chosen = !test.is_control();
        let settings = test
            .settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let kernel = match under {
            Under::Kasan => KASAN,
            Under::Stock => self
                .kernel
                .as_deref()
                .filter(|_| chosen)
                .unwrap_or(test.kernel),
        };
        Trial {
            driver: self.driver.filter(|_| chosen).unwrap_or(test.driver),
            kernel: kernel.to_owned(),
            options: settings.chain(self.settings.iter().cloned()).collect(),
            scenario: name.to_owned(),
            seed,
            vmm: VmmChoice {
                kind: VmmKind::Qemu,
                path: PathBuf::from("qemu-system-x86_64"),
            },
        }
    }

    /// Files the lab needs for these. An error if the user named what is not there.
    pub fn extras(&self) -> Result<Vec<Extra>> {
        let mut extras = Vec::new();
        if let Some(path) = self.named_vmm() {
            let from = PathBuf::from(path);
            if !from.is_file() {
                bail!(
                    "--vmm {path}: no such file; wanted vmm, qemu or the path of a \
                     cloud-hypervisor binary"
                );
            }
            let to = NAMED_VMM.to_owned();
            extras.push(Extra { from, to });
        }
        if let Some((_, path)) = self.settings.iter().rfind(|(name, _)| name == STOCK) {
            let from = PathBuf::from(path);
            if !from.is_file() {
                bail!("--set {STOCK}={path}: no such file; wanted a cloud-hypervisor binary");
            }
            let to = STOCK_VMM.to_owned();
            extras.push(Extra { from, to });
        }
        Ok(extras)
    }

    fn vmm(&self, usual: VmmKind) -> VmmChoice {
        let kind = match self.vmm.as_deref() {
            None => usual,
            Some("vmm") => VmmKind::Vmm,
            Some("qemu") => VmmKind::Qemu,
            Some(_) => VmmKind::CloudHypervisor,
        };
        let path = match kind {
            VmmKind::Vmm => "/lab/bin/vmm".into(),
            VmmKind::Qemu => "/usr/bin/qemu-system-x86_64".into(),
            VmmKind::CloudHypervisor => PathBuf::from(format!("/lab/{NAMED_VMM}")),
        };
        VmmChoice { kind, path }
    }

    fn named_vmm(&self) -> Option<&str> {
        self.vmm
            .as_deref()
            .filter(|name| !["vmm", "qemu"].contains(name))
    }
}

impl Options {
    /// With every option where the scenarios look for it.
    pub fn settled(mut self) -> Self {
        if let Some(hours) = self.hours {
            let minutes = format!("{:.0}", (hours * 60.0).ceil());
            self.target.settings.push(("minutes".to_owned(), minutes));
        }
        self
    }
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hours) if hours > 0.0 && hours <= 10_000.0 => Ok(hours),
        _ => Err("wanted hours, as in 8 or 0.25".to_owned()),
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
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::host::guests;
    use crate::scenarios::{self, Usual};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn demo() -> &'static Scenario {
        scenarios::find("demo").unwrap()
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
            (["--hours", "0"], ["--hours", "'0'", "8 or 0.25"]),
        ] {
            let error = parse(&words).unwrap_err();
            for part in said {
                assert!(error.contains(part), "{words:?}: {error}");
            }
        }
    }

    #[test]
    fn a_vmm_is_ours_qemu_or_a_binary_that_is_there() {
        let kind = |words: &[&str]| parse(words).unwrap().target.trial(demo(), 1).vmm;
        assert_eq!(kind(&[]).kind, VmmKind::Vmm);
        assert_eq!(kind(&["--vmm", "qemu"]).kind, VmmKind::Qemu);
        let named = parse(&["--vmm", "/bin/sh"]).unwrap().target;
        assert_eq!(
            named.trial(demo(), 1).vmm.path,
            PathBuf::from("/lab/bin/vmm-under-test")
        );
        assert_eq!(named.extras().unwrap()[0].from, PathBuf::from("/bin/sh"));
        let stock = parse(&["--set", "stock=/bin/sh"]).unwrap().target;
        assert_eq!(stock.extras().unwrap()[0].to, STOCK_VMM);
        let gone = parse(&["--set", "stock=/no/such"]).unwrap().target;
        let error = gone.extras().unwrap_err().to_string();
        assert!(error.contains("--set stock=/no/such"), "{error}");
        let gone = parse(&["--vmm", "/no/such"]).unwrap().target;
        let error = gone.extras().unwrap_err().to_string();
        assert!(error.contains("--vmm /no/such"), "{error}");
    }

    #[test]
    fn settings_reach_the_trial() {
        let options = parse(&["--set", "rounds=3", "--seed", "9"]).unwrap();
        let trial = options.target.trial(demo(), 9);
        assert_eq!(trial.options.get("rounds").map(String::as_str), Some("3"));
        assert_eq!((trial.scenario.as_str(), trial.seed), ("demo", 9));
    }

    #[test]
    fn who_is_told_to_repeat_more_gets_more_time() {
        let scenario = scenarios::find("suspend-idle").unwrap();
        let limit = |arguments: &[&str]| {
            let trial = parse(arguments).unwrap().target.trial(scenario, 1);
            scenarios::limit(scenario, &trial)
        };
        assert_eq!(limit(&["--set", "cycles=2"]), scenario.limit);
        assert_eq!(limit(&["--set", "cycles=200"]), scenario.limit * 40);
    }

    #[test]
    fn hours_reach_the_trial_and_lengthen_its_limit() {
        let soak = scenarios::find("soak-all").unwrap();
        let trial = |words: &[&str]| parse(words).unwrap().settled().target.trial(soak, 1);
        assert_eq!(scenarios::limit(soak, &trial(&[])), soak.limit);
        let long = trial(&["--hours", "0.25"]);
        assert_eq!(long.options["minutes"], "15");
        let limit = scenarios::limit(soak, &long);
        assert_eq!(limit, soak.limit + Duration::from_secs(15 * 60));
    }

    #[test]
    fn the_scenario_says_what_it_runs_with_and_the_command_line_goes_before_it() {
        let scenario = Scenario {
            settings: &[("control", "on"), ("rounds", "2")],
            usual: Usual {
                driver: Driver::Rust,
                kernel: "6.12",
                vmm: VmmKind::Qemu,
            },
            ..*demo()
        };
        let trial = |words| parse(words).unwrap().target.trial(&scenario, 1);
        let usual = trial(&[]);
        assert_eq!(usual.driver, Driver::Rust);
        assert_eq!(usual.kernel, "6.12");
        assert_eq!(usual.vmm.kind, VmmKind::Qemu);
        assert_eq!(usual.options["control"], "on");
        let chosen = trial(&[
            "--driver", "c", "--kernel", "7.3", "--vmm", "vmm", "--set", "rounds=9",
        ]);
        assert_eq!(chosen.driver, Driver::C);
        assert_eq!(chosen.kernel, "7.3");
        assert_eq!(chosen.vmm.kind, VmmKind::Vmm);
        assert_eq!(chosen.options["rounds"], "9");
        assert_eq!(chosen.options["control"], "on");
    }

    #[test]
    fn a_guests_test_runs_with_what_was_chosen_but_a_control_with_its_own() {
        let trial = |name: &str, words: &[&str]| {
            let under = if name.starts_with("kasan") {
                Under::Kasan
            } else {
                Under::Stock
            };
            let target = parse(words).unwrap().target;
            let trial = target.guest_trial(guests::find(name).unwrap(), under, name, 1);
            (trial.driver, trial.kernel)
        };
        let words = ["--driver", "c", "--kernel", "6.12"];
        assert_eq!(trial("guest-sanity", &[]), (Driver::Rust, "7.3".to_owned()));
        assert_eq!(
            trial("guest-sanity", &words),
            (Driver::C, "6.12".to_owned())
        );
        let control = (Driver::C, "7.3".to_owned());
        assert_eq!(trial("guest-unbind-control", &[]), control);
        let others = ["--driver", "rust", "--kernel", "6.12"];
        assert_eq!(trial("guest-unbind-control", &others), control);
        assert_eq!(trial("kasan-sanity", &words).1, KASAN);
    }
}
