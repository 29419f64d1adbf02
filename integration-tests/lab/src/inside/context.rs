// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a scenario is given to work with.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::inside::trial::Said;
use crate::job::Trial;

/// The VMM, kernel or driver lacks what a scenario needs: the trial is skipped.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// A trial as its scenario sees it.
pub struct Context {
    /// What is to be run.
    pub trial: Trial,
    /// True where KVM is emulated.
    pub emulated: bool,
}

impl Context {
    /// A fresh context.
    pub fn new(trial: Trial, emulated: bool) -> Result<Self> {
        Ok(Self { trial, emulated })
    }

    /// Says that the trial has come to a new step.
    pub fn step(&self, text: &str) {
        Said::Step(text.to_owned()).say();
    }

    /// Records a figure under a name.
    pub fn measure(&self, name: &str, value: impl Serialize) {
        Said::Measured(name.to_owned(), json!(value)).say();
    }
}
