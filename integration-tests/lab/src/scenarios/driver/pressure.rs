// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that is short of memory, and swaps to a device of the same driver.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::wire::{Outcome, Step};

use crate::inside::context::Context;
use crate::inside::disk::{Backing, HostFs};
use crate::inside::driver::{Bound, read, write};
use crate::inside::guest::{Guest, SHORT, code};
use crate::inside::machine::Pmem;
use crate::inside::wait;
use crate::job::Driver;
use crate::scenarios::driver::busy::tool;

/// More than the guest's memory, and less than that and the swap space.
const HOG_MIB: &str = "320";
const SWAP_BYTES: u64 = 320 << 20;
/// What ends it; the time is for a machine that stands still.
const END: &str = "/run/hog-end";
const LIMIT: Duration = Duration::from_secs(1200);
/// Until memory is short.
const SHORTAGE: Duration = Duration::from_secs(180);
/// What /proc/vmstat counts of it: pages swapped out, and pages that a task had to look at
/// because none was free.
const SWAPPED: &str = "pswpout";
const SCANNED: &str = "pgscan_direct";

/// A program that writes to more memory than there is.
pub struct Pressure {
    hog: u64,
    /// Pages swapped out and looked at before, and swapped out when somebody last looked.
    begin: [u64; 2],
    seen: u64,
    /// Below the swap space.
    _room: Backing,
    swap: Bound,
}

impl Pressure {
    /// A device with room for what does not fit into memory, and what it is on.
    pub fn device(context: &mut Context) -> Result<(Backing, Pmem)> {
        let room = context.backing("swap", HostFs::Ext4, SWAP_BYTES)?;
        let file = room.reserved_file("swap.img", SWAP_BYTES)?;
        Ok((room, Pmem::new("swap", &file)))
    }

    /// Swaps to that device, the one with this number.
    pub fn swap_on(guest: &mut Guest, index: usize) -> Result<Bound> {
        let swap = Bound::find(guest, index)?;
        tool(guest, &["mkswap", &swap.path])?;
        tool(guest, &["swapon", &swap.path])?;
        Ok(swap)
    }

    /// Starts it; memory is short when this returns.
    pub fn start(
        context: &Context,
        guest: &mut Guest,
        (room, swap): (Backing, Bound),
    ) -> Result<Self> {
        context.step("memory runs short");
        let begin = [vmstat(guest, SWAPPED)?, vmstat(guest, SCANNED)?];
        let argv = ["/init", "hog", "--mib", HOG_MIB, "--until", END];
        let hog = guest.start_order(Step::Tool {
            argv: argv.map(str::to_owned).to_vec(),
            timeout_ms: LIMIT.as_secs() * 1000,
            stdin: String::new(),
        })?;
        let mut pressure = Self {
            hog,
            begin,
            seen: begin[0],
            _room: room,
            swap,
        };
        pressure
            .lasts(guest)
            .context("the run does not count: memory is not short")?;
        Ok(pressure)
    }

    /// The same for those who have room for it.
    pub fn start_with(
        context: &Context,
        guest: &mut Guest,
        room: Option<(Backing, Bound)>,
    ) -> Result<Option<Self>> {
        room.map(|room| Self::start(context, guest, room))
            .transpose()
    }

    /// Waits until more is swapped out than when it was called last.
    pub fn lasts(&mut self, guest: &mut Guest) -> Result<()> {
        let seen = self.seen;
        self.seen = wait::until("further pages to be swapped out", SHORTAGE, || {
            if let Some(outcome) = guest.answered(self.hog)? {
                bail!("the hog has ended: {outcome:?}");
            }
            let swapped = vmstat(guest, SWAPPED)?;
            Ok((swapped > seen).then_some(swapped))
        })?;
        Ok(())
    }

    /// Ends it: it lived, and memory was short.
    pub fn finish(self, context: &Context, guest: &mut Guest) -> Result<()> {
        write(guest, END, "1")?;
        let result = match guest.finish_order(self.hog, LIMIT + SHORT)? {
            Outcome::Tool(result) => result,
            other => bail!("the guest answered {other:?} instead of a tool's result"),
        };
        ensure!(
            code(&result) == 0,
            "the hog did not live, or its memory did not: {result:?}"
        );
        if context.trial.driver == Driver::Rust {
            self.swap.is(guest, "live")?;
            let errors = self.swap.counter(guest, "errors")?;
            ensure!(
                errors == 0,
                "the driver counts {errors} errors of the swap device"
            );
        }
        context.measure("pages_written", result.output.trim());
        for (name, before) in [SWAPPED, SCANNED].into_iter().zip(self.begin) {
            let pages = vmstat(guest, name)? - before;
            context.measure(name, pages);
            ensure!(
                pages > 0,
                "the run does not count: memory was not short ({name} is 0)"
            );
        }
        Ok(())
    }
}

/// The sum of the kernel's counters with this name, whatever they are split by.
fn vmstat(guest: &mut Guest, name: &str) -> Result<u64> {
    let text = read(guest, "/proc/vmstat")?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(counter, _)| *counter == name);
    let (_, value) = found.with_context(|| format!("/proc/vmstat has no {name}"))?;
    Ok(value.parse()?)
}
