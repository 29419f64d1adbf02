// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The lab's own tools (dmsetup, mkfs, mount, …), run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a tool answered.
pub struct Answer {
    /// Its exit code, -1 if a signal ended it.
    pub code: i32,
    /// Standard output and standard error, in that order.
    pub text: String,
}

/// Runs a tool and takes any exit code.
pub fn ask(program: &str, arguments: &[&str]) -> Result<Answer> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Answer {
        code: output.status.code().unwrap_or(-1),
        text,
    })
}

/// Runs a tool that must succeed; returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let answer = ask(program, arguments)?;
    if answer.code != 0 {
        let line = arguments.join(" ");
        bail!(
            "`{program} {line}` ended with code {}: {}",
            answer.code,
            answer.text.trim()
        );
    }
    Ok(answer.text)
}

/// The lab's kernel's last words about something.
pub fn kernel_said(what: &str) -> Result<String> {
    let log = ask("dmesg", &[])?.text;
    let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
    Ok(lines[lines.len().saturating_sub(3)..].join("; "))
}
