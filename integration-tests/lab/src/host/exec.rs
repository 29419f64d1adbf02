// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `lab exec`: one command inside a fresh lab. The tool to look into things.

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::host::lab::{Lab, last_words};
use crate::host::machine::Next;
use crate::host::progress::Progress;
use crate::host::setup::{self, Build};
use crate::host::share::Extra;
use crate::job::{Record, Work};

/// What `exec` is told.
#[derive(Args, Debug)]
pub struct Options {
    /// Put a file into the lab first; DST is a path in the lab
    #[arg(long = "file", value_name = "SRC:DST")]
    files: Vec<Placed>,
    /// End the lab after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    limit: u64,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `SRC:DST`
#[derive(Clone, Debug, Eq, PartialEq)]
struct Placed {
    from: PathBuf,
    to: String,
}

impl FromStr for Placed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((from, to)) if !from.is_empty() && to.starts_with('/') => Ok(Self {
                from: PathBuf::from(from),
                to: to.to_owned(),
            }),
            _ => Err("wanted SRC:DST with an absolute path in the lab as DST".to_owned()),
        }
    }
}

/// Runs it; the command's exit code is ours.
pub fn main(options: Options) -> Result<ExitCode> {
    for file in &options.files {
        if !file.from.is_file() {
            bail!(
                "--file {}:{}: no such file here",
                file.from.display(),
                file.to
            );
        }
    }
    let progress = Progress::new();
    let assets = setup::run(&progress, false, Build::NoDriver)?;
    let (extras, command) = placed(&options.files, options.command);
    progress.step("starting the lab");
    let deadline = Instant::now() + Duration::from_secs(options.limit);
    let lab = Lab::start(&assets, Work::Exec { command }, &extras)?;
    loop {
        let record = match lab.machine.next(deadline)? {
            Next::Record(record) => record,
            Next::Ended => bail!("the lab died\n{}", last_words(&lab.machine)),
            Next::Timeout => bail!(
                "--limit {}: the command was not over by then\n{}",
                options.limit,
                last_words(&lab.machine)
            ),
        };
        match *record {
            Record::Booted { .. } => progress.finish(),
            Record::Output { error: true, text } => stderr().write_all(text.as_bytes())?,
            Record::Output { error: false, text } => {
                stdout().write_all(text.as_bytes())?;
                stdout().flush()?;
            }
            Record::Exited { code } => {
                let code = u8::try_from(code).context("an exit code beyond 255")?;
                return Ok(ExitCode::from(code));
            }
            Record::Broken { text } => {
                bail!("the lab is broken: {text}\n{}", last_words(&lab.machine))
            }
            _ => {}
        }
    }
}

/// The share is read-only and in one place; a shell copies each file to where it shall be.
fn placed(files: &[Placed], command: Vec<String>) -> (Vec<Extra>, Vec<String>) {
    if files.is_empty() {
        return (Vec::new(), command);
    }
    let mut extras = Vec::new();
    let mut script = String::from("set -e; ");
    let mut words = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let to = format!("files/{index}");
        let place = index + 1;
        script.push_str(&format!(
            "mkdir -p \"$(dirname \"${{{place}}}\")\"; cp /lab/{to} \"${{{place}}}\"; "
        ));
        words.push(file.to.clone());
        extras.push(Extra {
            from: file.from.clone(),
            to,
        });
    }
    script.push_str(&format!("shift {}; exec \"$@\"", files.len()));
    let mut all = vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        script,
        "lab".to_owned(),
    ];
    all.extend(words);
    all.extend(command);
    (extras, all)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_file_is_source_and_absolute_destination() {
        let file: Placed = "a:b:/root/x".parse().unwrap();
        assert_eq!(
            file,
            Placed {
                from: PathBuf::from("a:b"),
                to: "/root/x".to_owned()
            }
        );
        for bad in ["a", "a:", ":/x", "a:x"] {
            bad.parse::<Placed>().unwrap_err();
        }
    }

    #[test]
    fn files_are_copied_before_the_command_gets_its_own_arguments() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        fs::write(dir.path().join("files/0"), "content").unwrap();
        let to = dir.path().join("made here/x");
        let files = [Placed {
            from: PathBuf::from("src"),
            to: to.display().to_string(),
        }];
        let command = ["sh", "-c", "echo \"$0\"", "a b"]
            .map(str::to_owned)
            .to_vec();
        let (extras, mut command) = placed(&files, command);
        assert_eq!(extras[0].to, "files/0");
        command[2] = command[2].replace("/lab/", &format!("{}/", dir.path().display()));
        let output = Command::new(&command[0])
            .args(&command[1..])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a b\n");
        assert_eq!(fs::read_to_string(to).unwrap(), "content");
    }
}
