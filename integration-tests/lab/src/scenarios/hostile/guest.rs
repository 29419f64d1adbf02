// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that breaks every rule of the ring.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::hostile::Case;
use guest_agent::wire::{HostileReport, HostileTarget, Outcome, Step};

use crate::inside::context::Context;
use crate::inside::disk::HostFs;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::Pmem;
use crate::scenarios::support::{DATA_BYTES, ms};

/// How long the device may take over one bad ring.
const BOUND_MS: u64 = 5_000;
/// `hostile-guest`.
pub fn run(context: &mut Context) -> Result<()> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut guest = context.boot_with(vec![Pmem::new("data", &data)], "none")?;
    // `--set case=NAME`: that one alone.
    let only = context.trial.options.get("case");
    let cases = Case::ALL.iter().map(|case| case.name());
    let cases: Vec<_> = cases
        .filter(|case| only.is_none_or(|only| only == case))
        .collect();
    ensure!(
        !cases.is_empty(),
        "--set case={only:?}: there is no such case"
    );
    context.measure("cases", cases.len());
    let mut longest = Duration::ZERO;
    for case in cases {
        context.step(case);
        let report = one(&mut guest, case).with_context(|| format!("bad ring `{case}`"))?;
        context.measure(&format!("{case}_us"), report.time_us);
        let took = guest
            .pause()
            .with_context(|| format!("pause after `{case}`"))?;
        longest = longest.max(took);
        ensure!(
            took <= context.slack(),
            "after `{case}` a pause took {} ms",
            ms(took)
        );
        guest.resume()?;
    }
    context.measure("pause_ms_max", ms(longest));
    guest.is_well()?;
    guest.machine().alive()
}

/// Sends one bad ring; the device must come back as the case demands, leave
/// other memory alone, and work after a reset.
fn one(guest: &mut Guest, case: &str) -> Result<HostileReport> {
    let target = HostileTarget::Index(0);
    let step = Step::Hostile {
        case: case.to_owned(),
        target,
        bound_ms: BOUND_MS,
        hold: false,
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
