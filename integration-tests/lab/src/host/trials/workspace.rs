// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The tests that need no lab: format, lints, each package's own tests, models, fuzz targets.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use wait_timeout::ChildExt;

use crate::host::cache::Cache;
use crate::host::keeper;
use crate::host::programs::{self, cargo};
use crate::host::tool;

/// The engine's fuzz package, which is not a member of the workspace.
const FUZZ: &str = "hypervisor-patch/pmem-flush/fuzz";

/// The most one of them may take; a fuzz target as much beside its time.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// A test on the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostTest {
    /// `cargo fmt --check`.
    Format,
    /// `cargo clippy`, warnings are errors.
    Lint,
    /// A package's own tests.
    Package(String),
    /// A package's loom models, its mutations included.
    Model(String),
    /// A fuzz target, for a while.
    Fuzz(String),
}

/// How fuzz targets run.
#[derive(Clone, Copy, Debug)]
pub struct Fuzzing {
    /// Without AddressSanitizer.
    pub plain: bool,
    /// Each, for so long.
    pub seconds: u32,
    /// What libFuzzer's choices follow from.
    pub seed: u64,
}

impl Fuzzing {
    /// The seed as libFuzzer takes it: 32 bits, and 0 would be any.
    pub fn seed(&self) -> u32 {
        let low = self.seed & u64::from(u32::MAX);
        u32::try_from(low).unwrap_or(u32::MAX).max(1)
    }
}

/// What a test counted, by name.
pub type Figures = BTreeMap<&'static str, u64>;

/// What the tests on the host run with.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// The host's kernel.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
}

/// What the workspace has.
pub struct Workspace {
    root: PathBuf,
    versions: Versions,
    packages: Vec<Package>,
    fuzz_targets: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    target: Option<String>,
}

impl Workspace {
    /// Asks cargo.
    pub fn open() -> Result<Self> {
        let root = programs::workspace()?;
        let text = tool::output(
            Command::new(cargo())
                .args(["metadata", "--no-deps", "--format-version", "1"])
                .current_dir(&root),
        )?;
        let metadata: Metadata =
            serde_json::from_str(&text).context("cannot read cargo's metadata")?;
        let fuzz_targets = fuzz_targets(&root.join(FUZZ).join("fuzz_targets"))?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let rustc = tool::output(Command::new("rustc").arg("--version").current_dir(&root))?;
        let [kernel, rustc] = [kernel, rustc].map(|text| text.trim().to_owned());
        Ok(Self {
            root,
            versions: Versions { kernel, rustc },
            packages: metadata.packages,
            fuzz_targets,
        })
    }

    /// What the tests run with.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// (name, group, test), what tells most first.
    pub fn tests(&self) -> Vec<(String, &'static str, HostTest)> {
        let mut tests = vec![
            ("fmt".to_owned(), "unit", HostTest::Format),
            ("clippy".to_owned(), "unit", HostTest::Lint),
        ];
        for package in &self.packages {
            let name = &package.name;
            tests.push((
                format!("unit-{name}"),
                "unit",
                HostTest::Package(name.clone()),
            ));
        }
        for package in self.packages.iter().filter(|package| package.has_models()) {
            let name = &package.name;
            tests.push((
                format!("model-{name}"),
                "model",
                HostTest::Model(name.clone()),
            ));
        }
        for target in &self.fuzz_targets {
            tests.push((
                format!("fuzz-{target}"),
                "fuzz",
                HostTest::Fuzz(target.clone()),
            ));
        }
        tests
    }

    /// Runs one; the error holds the last lines of what it printed.
    pub fn run(&self, test: &HostTest, fuzzing: &Fuzzing) -> Result<Figures> {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root);
        match test {
            HostTest::Format => command.args(["fmt", "--all", "--check"]),
            HostTest::Lint => command.args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--locked",
                "--",
                "--deny",
                "warnings",
            ]),
            HostTest::Package(name) => command.args(["test", "--locked", "--package", name]),
            HostTest::Model(name) => command
                .args(["test", "--locked", "--release", "--lib", "--package", name])
                .args(["--target-dir", "target/loom", "--", "model", "mutation"])
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .env("RUSTFLAGS", "--cfg loom"),
            HostTest::Fuzz(target) => self.fuzz(&mut command, target, fuzzing)?,
        };
        let limit = match test {
            HostTest::Fuzz(_) => LIMIT + Duration::from_secs(fuzzing.seconds.into()),
            _ => LIMIT,
        };
        let said = finish(command, limit)?;
        let figures = match test {
            HostTest::Format | HostTest::Lint => Figures::new(),
            HostTest::Package(_) | HostTest::Model(_) => {
                let tests = passed(&said);
                ensure!(
                    tests > 0 || !matches!(test, HostTest::Model(_)),
                    "no model ran: none of the package's tests has `model` or `mutation` in its name"
                );
                Figures::from([("tests", tests)])
            }
            HostTest::Fuzz(_) => Figures::from([
                ("executions", executions(&said)?),
                ("address_sanitizer", u64::from(!fuzzing.plain)),
            ]),
        };
        Ok(figures)
    }

    fn fuzz<'a>(
        &self,
        command: &'a mut Command,
        target: &str,
        fuzzing: &Fuzzing,
    ) -> Result<&'a mut Command> {
        let tools = cargo_fuzz()?;
        let (sanitizer, build) = match fuzzing.plain {
            true => ("none", "target/plain"),
            false => ("address", "target"),
        };
        let dir = self.root.join(FUZZ);
        sow(&dir, target).with_context(|| format!("cannot unpack the seeds of {target}"))?;
        *command = Command::new(tools.join("bin/cargo-fuzz"));
        Ok(command
            .args(["run", target, "--sanitizer", sanitizer])
            .arg("--fuzz-dir")
            .arg(&dir)
            // A build of its own, or each kind would be built anew after the other.
            .arg("--target-dir")
            .arg(dir.join(build))
            .arg("--")
            .arg(format!("-max_total_time={}", fuzzing.seconds))
            .arg(format!("-seed={}", fuzzing.seed()))
            .args(["-verbosity=0", "-print_final_stats=1"])
            .current_dir(&self.root)
            // The sanitizer's flag is unstable, the compiler we have is not.
            .env("RUSTC_BOOTSTRAP", "1"))
    }
}

impl Package {
    fn has_models(&self) -> bool {
        self.dependencies.iter().any(|dependency| {
            dependency.name == "loom" && dependency.target.as_deref() == Some("cfg(loom)")
        })
    }
}

/// How many tests passed, by the closing lines of cargo's test programs.
fn passed(said: &str) -> u64 {
    let counts = said.lines().filter_map(|line| {
        let rest = line.strip_prefix("test result: ok. ")?;
        rest.split_once(" passed")?.0.parse::<u64>().ok()
    });
    counts.sum()
}

/// Puts a target's kept inputs where the fuzzer looks for some, so that it runs all of them first and goes on
/// from there.
fn sow(dir: &Path, target: &str) -> Result<()> {
    let seeds = dir.join("seeds").join(target).with_extension("hex");
    if !seeds.is_file() {
        return Ok(());
    }
    let corpus = dir.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let text = fs::read_to_string(&seeds)?;
    for (line, number) in text.lines().zip(1..) {
        if !line.starts_with('#') {
            ensure!(!line.is_empty(), "line {number} is empty");
            let seed = unhex(line).with_context(|| format!("line {number} is not hex"))?;
            fs::write(corpus.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let (pairs, []) = line.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let byte = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    pairs.iter().map(byte).collect()
}

/// How many inputs a fuzz target was given, by libFuzzer's closing lines.
fn executions(said: &str) -> Result<u64> {
    let mut counts = said
        .lines()
        .filter_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let count = counts
        .next()
        .context("the fuzzer does not say what it did")?;
    let count = count.trim().parse()?;
    ensure!(count > 0, "the fuzzer ran no input");
    Ok(count)
}

fn fuzz_targets(dir: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem()
        {
            targets.push(stem.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// Installs cargo-fuzz where it stands in nobody's way.
fn cargo_fuzz() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let tools = cache.dir("tools")?;
    let _lock = cache.lock("tools")?;
    if !tools.join("bin/cargo-fuzz").is_file() {
        let mut command = Command::new(cargo());
        command
            .args(["install", "--locked", "cargo-fuzz", "--root"])
            .arg(&tools);
        finish(command, LIMIT).context("cannot install cargo-fuzz")?;
    }
    Ok(tools)
}

/// Runs with a time limit, the output in a file: a pipe that nobody reads would stop the command.
fn finish(mut command: Command, limit: Duration) -> Result<String> {
    let output = tempfile::NamedTempFile::new()?;
    let file: File = output.reopen()?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let mut child = keeper::spawn(command).context("cannot run cargo")?;
    let status = child.wait_timeout(limit)?;
    if status.is_none() {
        keeper::kill_group(child.id());
        let _ = child.wait();
    }
    keeper::forget(child.id());
    let said = fs::read(output.path())?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let end = || tool::tail(&said, 60);
    match status {
        Some(status) if status.success() => Ok(said),
        Some(status) => bail!("{status}\n{}", end()),
        None => bail!("not over after {} s\n{}", limit.as_secs(), end()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::thread;

    use super::*;

    fn workspace() -> Workspace {
        let text = r#"{"packages":[
            {"name":"a","dependencies":[{"name":"loom","target":"cfg(loom)"}]},
            {"name":"b","dependencies":[{"name":"loom","target":null}]}]}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        Workspace {
            root: PathBuf::from("/"),
            versions: Versions {
                kernel: "7.3.4".to_owned(),
                rustc: "rustc 1.89.0".to_owned(),
            },
            packages: metadata.packages,
            fuzz_targets: vec!["ring".to_owned()],
        }
    }

    #[test]
    fn every_package_is_tested_and_those_with_models_checked() {
        let names: Vec<_> = workspace()
            .tests()
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(
            names,
            ["fmt", "clippy", "unit-a", "unit-b", "model-a", "fuzz-ring"]
        );
    }

    #[test]
    fn fuzz_targets_are_the_source_files() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ring.rs", "protocol.rs", "notes.md"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(fuzz_targets(dir.path()).unwrap(), ["protocol", "ring"]);
        fuzz_targets(&dir.path().join("none")).unwrap_err();
    }

    #[test]
    fn passed_tests_are_counted_and_none_is_seen() {
        let line = |count| {
            format!(
                "test result: ok. {count} passed; 0 failed; 0 ignored; 0 measured; 9 filtered out"
            )
        };
        assert_eq!(passed(&format!("running\n{}\n{}\n", line(3), line(4))), 7);
        assert_eq!(passed(&line(0)), 0);
        assert_eq!(passed(""), 0);
    }

    #[test]
    fn seeds_are_unpacked_and_bad_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        sow(dir.path(), "a").unwrap();
        let seeds = dir.path().join("seeds");
        fs::create_dir(&seeds).unwrap();
        fs::write(seeds.join("a.hex"), "# text\n00ff\n7a\n").unwrap();
        sow(dir.path(), "a").unwrap();
        let seed = |name: &str| fs::read(dir.path().join("corpus/a").join(name));
        assert_eq!(seed("seed-2").unwrap(), [0, 255]);
        assert_eq!(seed("seed-3").unwrap(), [0x7a]);
        seed("seed-1").unwrap_err();
        for bad in ["0", "0g", "+1"] {
            fs::write(seeds.join("a.hex"), bad).unwrap();
            let error = sow(dir.path(), "a").unwrap_err().to_string();
            assert_eq!(error, "line 1 is not hex");
        }
    }

    #[test]
    fn a_fuzzer_that_ran_nothing_is_seen() {
        let said = "Done 84650 runs in 23 second(s)\nstat::number_of_executed_units: 84650\n\
                    stat::average_exec_per_sec:     3680\n";
        assert_eq!(executions(said).unwrap(), 84_650);
        executions("stat::number_of_executed_units: 0\n").unwrap_err();
        executions("INFO: Seed: 3\n").unwrap_err();
    }

    #[test]
    fn any_seed_is_one_that_a_fuzzer_takes() {
        let seed = |seed| {
            let (plain, seconds) = (false, 1);
            let fuzzing = Fuzzing {
                plain,
                seconds,
                seed,
            };
            fuzzing.seed()
        };
        assert_eq!(seed(795_425_140), 795_425_140);
        // 0 is any.
        assert_eq!((seed(0), seed(7 << 32), seed(u64::MAX)), (1, 1, u32::MAX));
    }

    #[test]
    fn a_failing_command_says_what_it_printed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason >&2; exit 7"]);
        let error = finish(command, LIMIT).unwrap_err().to_string();
        assert!(error.contains("reason") && error.contains('7'), "{error}");
    }

    #[test]
    fn a_command_that_is_not_over_goes_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 >\"$0\" & wait"]).arg(&fifo);
        let reader = thread::spawn(move || File::open(fifo)?.read(&mut [0]));
        let error = finish(command, Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("not over after 1 s"), "{error}");
        // Its end: nobody holds the other one any more.
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    }
}
