// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VMM process that waits for a guest from another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::json;

use crate::inside::cleanup::WORK;
use crate::inside::machine::Machine;
use crate::inside::machine::rest::{RestMachine, call};
use crate::inside::wait;

/// How long the process may take to listen.
const LISTEN: Duration = Duration::from_secs(60);

/// How long the guest's first part may take, after which its devices are made.
const ARRIVE: Duration = Duration::from_secs(120);

/// The receiving side of a live migration.
pub struct Receiving {
    /// Ends with the call's answer: when the guest is there, or will never be.
    answer: JoinHandle<Result<()>>,
    machine: RestMachine,
    /// The name of the serial line's socket that stays.
    serial: PathBuf,
    socket: PathBuf,
}

impl Receiving {
    /// Makes a process that has no guest listen for one.
    pub(super) fn start(mut machine: RestMachine, index: usize) -> Result<Self> {
        machine.wait_answer()?;
        let [socket, serial] =
            ["migration", "serial"].map(|name| Path::new(WORK).join(format!("{name}-{index}")));
        let api = machine.api.clone();
        let body = json!({ "receiver_url": format!("unix:{}", socket.display()) });
        let answer =
            thread::spawn(move || call(&api, "PUT", "vm.receive-migration", Some(&body)).map(drop));
        wait::until("a process that listens for a guest", LISTEN, || {
            Ok(socket.exists().then_some(()))
        })?;
        Ok(Self {
            answer,
            machine,
            serial,
            socket,
        })
    }

    /// Where the guest is to be sent.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until the guest is there.
    pub fn finish(mut self) -> Result<Box<dyn Machine>> {
        // The sender removes its serial line's socket when it ends, by a name that
        // both have. A second name keeps this one's.
        let own = self.machine.serial.clone();
        wait::until_just_now("the guest's arrival", ARRIVE, || {
            if own.exists() {
                fs::hard_link(&own, &self.serial)
                    .with_context(|| format!("cannot link {}", own.display()))?;
                return Ok(Some(()));
            }
            Ok(self.answer.is_finished().then_some(()))
        })?;
        self.answer
            .join()
            .map_err(|_| anyhow!("the caller of vm.receive-migration panicked"))??;
        if self.serial.exists() {
            self.machine.serial = self.serial;
        }
        Ok(Box::new(self.machine))
    }
}
