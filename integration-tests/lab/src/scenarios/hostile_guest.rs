// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that breaks every rule of the ring.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::wire::{HostileReport, HostileTarget, Outcome, Step};

use crate::inside::context::Context;
use crate::inside::disk::HostFs;
use crate::inside::guest::{Guest, SHORT, code};
use crate::inside::machine::Pmem;
use crate::scenarios::support::{DATA_BYTES, ms};

/// How long the device may take over one bad ring.
const BOUND_MS: u64 = 5_000;
/// How long a pause may take with an idle disk, on an emulated machine.
const PAUSE: Duration = Duration::from_secs(2);

/// `hostile-guest`.
pub fn run(context: &mut Context) -> Result<()> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut guest = context.boot_with(vec![Pmem::new("data", &data)], "none")?;
    let cases = cases(&mut guest)?;
    context.measure("cases", cases.len());
    let mut longest = Duration::ZERO;
    for case in &cases {
        context.step(case);
        let report = one(&mut guest, case).with_context(|| format!("bad ring `{case}`"))?;
        context.measure(&format!("{case}_us"), report.time_us);
        let took = guest
            .pause()
            .with_context(|| format!("pause after `{case}`"))?;
        longest = longest.max(took);
        ensure!(took <= PAUSE, "after `{case}` a pause took {} ms", ms(took));
        guest.resume()?;
    }
    context.measure("pause_ms_max", ms(longest));
    guest.is_well()?;
    guest.machine().alive()
}

fn cases(guest: &mut Guest) -> Result<Vec<String>> {
    let argv = ["/init", "hostile", "--list"].map(str::to_owned).to_vec();
    let list = guest.tool(Step::Tool {
        argv,
        timeout_ms: 30_000,
        stdin: String::new(),
    })?;
    ensure!(
        code(&list) == 0,
        "cannot list the bad rings: {}",
        list.output
    );
    let names = list
        .output
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.map(str::to_owned).collect();
    ensure!(!names.is_empty(), "there is no bad ring");
    Ok(names)
}

/// Sends one bad ring; the device must come back as the case demands, leave
/// other memory alone, and work after a reset.
fn one(guest: &mut Guest, case: &str) -> Result<HostileReport> {
    let target = HostileTarget::Index(0);
    let step = Step::Hostile {
        case: case.to_owned(),
        target,
        bound_ms: BOUND_MS,
    };
    let report = match guest.order(step, SHORT)? {
        Outcome::Hostile(report) => report,
        other => bail!("the guest answered {other:?} instead of a hostile report"),
    };
    guest.machine().alive()?;
    ensure!(report.ok, "not as it must be: {}; {report:?}", report.note);
    ensure!(
        report.guard_intact,
        "the device wrote outside of the buffers: {report:?}"
    );
    ensure!(report.recovered, "no flush after a reset: {report:?}");
    Ok(report)
}
