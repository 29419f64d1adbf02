// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A lab with a job: the share image made, the machine started.

use std::sync::OnceLock;

use anyhow::Result;

use crate::host::accel::Accel;
use crate::host::keeper;
use crate::host::machine::{Console, Machine, Start};
use crate::host::setup::Assets;
use crate::host::share::{self, Extra};
use crate::host::tool;
use crate::job::{Job, Work};

/// A running lab.
pub struct Lab {
    /// The machine; it sends the job's records.
    pub machine: Machine,
}

impl Lab {
    /// Starts a lab that does `work`.
    pub fn start(assets: &Assets, work: Work, extras: &[Extra]) -> Result<Self> {
        let accel = accel(assets)?;
        let job = Job {
            emulated: accel == Accel::Tcg,
            work,
        };
        let dir = keeper::run_dir(&assets.runs)?;
        let share = share::make(dir.path(), assets, &job, extras)?;
        let machine = Machine::start(
            &Start {
                accel,
                initrd: &assets.lab_initrd,
                kernel: &assets.lab_kernel.image,
                root: &assets.root,
                share: &share,
            },
            dir,
        )?;
        Ok(Self { machine })
    }
}

/// How labs run here, decided once: the answer needs a machine to be started.
pub fn accel(assets: &Assets) -> Result<Accel> {
    static CHOSEN: OnceLock<Accel> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get() {
        return Ok(*chosen);
    }
    let chosen = Accel::choose(&assets.lab_kernel.image, &assets.lab_initrd, &assets.runs)?;
    Ok(*CHOSEN.get_or_init(|| chosen))
}

/// The last lines on the console of a machine that died, QEMU's own included.
pub fn last_words(machine: &Machine) -> String {
    let Console(text) = machine.console();
    format!("--- the lab's console ---\n{}", tool::tail(&text, 30))
}
