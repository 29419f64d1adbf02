// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Running the host's programs, with their output in the error when they fail.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs to the end, quietly; a failure's error holds the command and the last lines it printed.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Like [`run`], and gives what the command wrote to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        bail!(
            "{name}: {}\n{}",
            output.status,
            tail(&String::from_utf8_lossy(&said), 20)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The last `lines` lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_last_words() {
        let error = run(Command::new("sh").args(["-c", "echo why; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("sh -c"), "{text}");
        assert!(text.contains("why") && text.contains('3'), "{text}");
    }

    #[test]
    fn tail_takes_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
