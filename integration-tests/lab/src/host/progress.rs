// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a person sees of a long step: a spinner on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long the terminal is left to whoever prints a result.
const REST: Duration = Duration::from_millis(300);

/// Says on standard error what is being done; standard output belongs to results.
pub struct Progress {
    begun: Instant,
    terminal: bool,
    spinner: Mutex<Spinner>,
}

struct Spinner {
    bar: Option<ProgressBar>,
    not_before: Instant,
}

impl Progress {
    /// Nothing is shown before the first step.
    pub fn new() -> Self {
        let begun = Instant::now();
        let spinner = Spinner {
            bar: None,
            not_before: begun,
        };
        Self {
            begun,
            terminal: stderr().is_terminal(),
            spinner: Mutex::new(spinner),
        }
    }

    /// A new step begins.
    pub fn step(&self, text: &str) {
        if !self.terminal {
            // A result is printed in pieces, by another thread; this line shall not get between.
            let not_before = self.spinner().not_before;
            thread::sleep(not_before.saturating_duration_since(Instant::now()));
            eprintln!("[{:4} s] {text}", self.begun.elapsed().as_secs());
            return;
        }
        let mut spinner = self.spinner();
        if spinner.bar.is_none() && Instant::now() >= spinner.not_before {
            spinner.bar = Some(bar());
        }
        if let Some(bar) = &spinner.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Takes the spinner away for a moment: something else is about to be printed.
    pub fn rest(&self) {
        let mut spinner = self.spinner();
        spinner.not_before = Instant::now() + REST;
        if let Some(bar) = spinner.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Takes the spinner away for good.
    pub fn finish(&self) {
        self.rest();
    }

    fn spinner(&self) -> MutexGuard<'_, Spinner> {
        self.spinner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
