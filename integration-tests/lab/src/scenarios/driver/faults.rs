// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's driver and devices that lie, say nothing or ask for a reset: errors for all who
//! wait, no hang, and a device that works again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::wire::{Filesystem, LoadKind, LoadReport, LoadSpec, OnError, Step};

use crate::inside::context::Context;
use crate::inside::disk::{Backing, HostFs};
use crate::inside::driver::{Bound, Flusher, boot, read, write};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem};
use crate::inside::wait;
use crate::job::Driver;
use crate::scenarios::driver::pressure::Pressure;
use crate::scenarios::support::{ms, no_errors, value};

/// Size of each device.
const BYTES: u64 = 16 << 20;
/// How long the driver waits for an answer, where it is told to.
const TIMEOUT_MS: u64 = 2_000;
/// The answer that comes too late.
const LATE_MS: u64 = 5_000;
/// The accidents happen after so many flushes.
const ACCIDENT: u64 = 60;
/// When all who wait must have their errors: the timeout, and time for an emulated machine.
pub const ENDED: Duration = Duration::from_secs(30);
const THREADS: u32 = 4;
/// fsyncs of each thread where a few will do.
const FEW: u64 = 3;
const EIO: i32 = 5;
/// What the ring's code in the kernel says of an answer that is none.
const NOT_A_HEAD: &str = "is not a head";
const TRACING: &str = "/sys/kernel/tracing";

/// A lie, and what the driver must make of it.
struct Lie {
    fault: String,
    /// The first flush may succeed: its answer is good.
    first_is_good: bool,
    state: &'static str,
}

fn lies() -> [Lie; 5] {
    let lie = |fault: &str, first_is_good, state| Lie {
        fault: format!("once:{fault}"),
        first_is_good,
        state,
    };
    [
        lie("len0", false, "live"),
        // -ENOMEM, if it were taken for an errno.
        lie("status:0xfffffff4", false, "live"),
        lie("bad-cookie", false, "broken"),
        lie("double", true, "broken"),
        lie(&format!("late:{LATE_MS}"), false, "broken"),
    ]
}

/// `driver-lying-device`.
pub fn lying(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Fault])?;
    let lies = lies();
    let backing = room(context, lies.len())?;
    let mut pmem = Vec::new();
    for (index, lie) in lies.iter().enumerate() {
        pmem.push(device(&backing, &format!("d{index}"), Some(&lie.fault))?);
    }
    let (mut guest, room) = boot_timed(context, pmem)?;
    let mut pressure = Pressure::start_with(context, &mut guest, room)?;
    for (index, lie) in lies.iter().enumerate() {
        context.step(&lie.fault);
        one_lie(context, &mut guest, index, lie)
            .with_context(|| format!("the lie `{}`", lie.fault))?;
        if let Some(pressure) = &mut pressure {
            pressure.lasts(&mut guest)?;
        }
    }
    if let Some(pressure) = pressure {
        pressure.finish(context, &mut guest)?;
    }
    guest.is_well_but(&[NOT_A_HEAD])?;
    guest.machine().alive()
}

fn one_lie(context: &Context, guest: &mut Guest, index: usize, lie: &Lie) -> Result<()> {
    let bound = Bound::find(guest, index)?;
    let name = format!("lie-{index}");
    let begun = Instant::now();
    let report = few(context, guest, &name, index)?;
    let most = if lie.first_is_good {
        u64::from(THREADS)
    } else {
        0
    };
    context.measure(&format!("{}_ms", lie.fault), ms(begun.elapsed()));
    context.measure(&format!("{}_succeeded", lie.fault), report.fsyncs);
    ensure!(
        report.fsyncs <= most,
        "{} flushes have succeeded that the device did not answer",
        report.fsyncs
    );
    only_eio(&report)?;
    bound.is(guest, lie.state)?;
    let said = bound.logged(guest, "broken:")?;
    let due = usize::from(lie.state == "broken");
    ensure!(said == due, "the driver says `broken` {said} times");
    ensure!(bound.counter(guest, "errors")? > 0, "it counts no error");
    if lie.fault.contains("late") {
        // Nobody waits for it any more.
        let id = format!("d{index}");
        let within = Duration::from_millis(2 * LATE_MS) + SHORT;
        wait::until("the late answer", within, || {
            let answered = value(&guest.counters(&id)?, "flushes")?;
            Ok((answered > 0).then_some(()))
        })?;
        bound.is(guest, "broken")?;
    }
    works_again(context, guest, &bound, index)
}

/// `driver-silent-device`.
pub fn silent(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Fault])?;
    let backing = room(context, 1)?;
    let data = device(&backing, "data", Some("once:silent"))?;
    let (mut guest, room) = boot_timed(context, vec![data])?;
    let bound = Bound::find(&mut guest, 0)?;
    // That takes memory, which a guest that is short of it may not have.
    trace_flushes(context, &mut guest)?;
    let mut pressure = Pressure::start_with(context, &mut guest, room)?;

    context.step("flush a silent device");
    let flusher = Flusher {
        threads: 4,
        fua_threads: 2,
        fua_page: 1024,
        ..Flusher::default()
    };
    flusher.start(&mut guest, &bound.path)?;
    let met = wait::until("an error for everyone who flushes", ENDED, || {
        let met = Flusher::counts(&mut guest)?;
        Ok((met.errors() >= 24).then_some(met))
    })?;
    // Threads that fail fast leave an emulated guest no time for anything else.
    Flusher::stop(&mut guest, SHORT)?;
    context.measure("flushes_failed", met.errors());
    context.measure("longest_flush_ms", ms(met.longest));
    ensure!(met.done == 0, "{} flushes have succeeded", met.done);
    ensure!(met.other == 0, "{} flushes got another error", met.other);
    let (least, most) = (TIMEOUT_MS, TIMEOUT_MS + 3 * ms(context.slack()));
    ensure!(
        (least..=most).contains(&ms(met.longest)),
        "the longest flush took {} ms with a timeout of {TIMEOUT_MS} ms",
        ms(met.longest)
    );
    let trace = read(&mut guest, &format!("{TRACING}/trace"))?;
    let timed_out = trace.matches("result=-110").count();
    context.measure("flushes_that_returned_etimedout", timed_out);
    // Between the driver and who flushes, most kernels make -EIO of it.
    ensure!(
        timed_out > 0,
        "the driver has returned -ETIMEDOUT to nobody"
    );
    bound.is(&mut guest, "broken")?;
    let timeouts = bound.counter(&mut guest, "timeouts")?;
    ensure!(timeouts == 1, "the driver counts {timeouts} timeouts");
    let said = bound.logged(&mut guest, "did not answer")?;
    ensure!(said == 1, "the driver says so {said} times");
    if let Some(pressure) = &mut pressure {
        pressure.lasts(&mut guest)?;
    }
    works_again(context, &mut guest, &bound, 0)?;
    if let Some(pressure) = pressure {
        pressure.finish(context, &mut guest)?;
    }
    guest.is_well()?;
    guest.machine().alive()
}

/// `driver-needs-reset`.
pub fn needs_reset(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Fault])?;
    let backing = room(context, 1)?;
    let data = device(&backing, "data", Some(&format!("needs-reset:{ACCIDENT}")))?;
    let mut guest = boot(context, vec![data], "")?;
    let bound = Bound::find(&mut guest, 0)?;
    context.step("flush until the device asks for a reset");
    let report = many(context, &mut guest, "load", 0)?;
    accident_met(context, &report)?;
    if context.trial.driver == Driver::Rust {
        bound.is(&mut guest, "broken")?;
        let said = bound.logged(&mut guest, "needs a reset")?;
        ensure!(said == 1, "the driver says so {said} times");
    }
    works_again(context, &mut guest, &bound, 0)?;
    guest.is_well()?;
    guest.machine().alive()
}

/// A guest whose driver waits [`TIMEOUT_MS`] for an answer; with `memory=short`, one with room for what is to be
/// swapped out.
fn boot_timed(
    context: &mut Context,
    mut pmem: Vec<Pmem>,
) -> Result<(Guest, Option<(Backing, Bound)>)> {
    let parameters = format!("flush_timeout_ms={TIMEOUT_MS}");
    let is_short = match context.trial.options.get("memory").map(String::as_str) {
        Some("short") => true,
        None => false,
        Some(other) => bail!("--set memory={other}: it is short, or not set"),
    };
    if !is_short {
        return Ok((boot(context, pmem, &parameters)?, None));
    }
    let index = pmem.len();
    let (room, swap) = Pressure::device(context)?;
    pmem.push(swap);
    let mut guest = boot(context, pmem, &parameters)?;
    let swap = Pressure::swap_on(&mut guest, index)?;
    Ok((guest, Some((room, swap))))
}

/// Room for so many devices.
pub fn room(context: &mut Context, devices: usize) -> Result<Backing> {
    context.backing("data", HostFs::Ext4, BYTES * u64::try_from(devices)?)
}

/// A device in a file of its own.
pub fn device(backing: &Backing, id: &str, fault: Option<&str>) -> Result<Pmem> {
    let file = backing.written_file(&format!("{id}.img"), BYTES)?;
    Ok(Pmem {
        fault: fault.map(str::to_owned),
        ..Pmem::new(id, &file)
    })
}

/// Starts fsyncs on a device: what to do after an error, and how many each thread makes.
pub fn start(
    context: &Context,
    guest: &mut Guest,
    name: &str,
    index: usize,
    (on_error, syncs): (OnError, u64),
) -> Result<()> {
    let kind = LoadKind::Raw {
        device: format!("#{index}"),
    };
    let mut spec = LoadSpec::new(kind, THREADS, 16, context.trial.seed);
    spec.syncs_per_thread = syncs;
    spec.on_error = on_error;
    guest.load_start(name, spec)
}

/// A few fsyncs of each thread, whatever they return.
pub fn few(context: &Context, guest: &mut Guest, name: &str, index: usize) -> Result<LoadReport> {
    load(context, guest, name, index, (OnError::GoOn, FEW))
}

/// fsyncs until the first error; more than the accident lets through, if all threads share each
/// flush.
fn many(context: &Context, guest: &mut Guest, name: &str, index: usize) -> Result<LoadReport> {
    load(context, guest, name, index, (OnError::Stop, 4 * ACCIDENT))
}

fn load(
    context: &Context,
    guest: &mut Guest,
    name: &str,
    index: usize,
    how: (OnError, u64),
) -> Result<LoadReport> {
    start(context, guest, name, index, how)?;
    guest
        .load_wait(name, ENDED)
        .context("who waits for the device is not told")
}

/// Every thread got EIO, and nothing else.
fn only_eio(report: &LoadReport) -> Result<()> {
    for thread in &report.threads {
        let other = thread.errors.iter().find(|error| error.errno != EIO);
        if let Some(other) = other {
            bail!("thread {} got errno {}", thread.thread, other.errno);
        }
        ensure!(
            !thread.errors.is_empty(),
            "thread {} met no error",
            thread.thread
        );
    }
    Ok(())
}

/// The device worked for a while, then everyone got EIO.
pub fn accident_met(context: &Context, report: &LoadReport) -> Result<()> {
    context.measure(&format!("{}_fsyncs_before", report.name), report.fsyncs);
    ensure!(
        report.fsyncs > 0,
        "the run does not count: the accident came before the load"
    );
    only_eio(report)
}

/// Unbound and bound, the device is live: fsyncs succeed, a filesystem can be made and is clean.
fn works_again(context: &Context, guest: &mut Guest, bound: &Bound, index: usize) -> Result<()> {
    bound.unbind(guest, SHORT)?;
    let again = bound.bind(guest)?;
    if context.trial.driver == Driver::Rust {
        again.is(guest, "live")?;
    }
    let report = few(context, guest, &format!("again-{index}"), index)?;
    no_errors(&report).context("after it was bound anew")?;
    let device = format!("#{index}");
    let mkfs_rc = guest.mkfs(Filesystem::Ext4, &device)?;
    ensure!(mkfs_rc == 0, "bound anew: mkfs ended with {mkfs_rc}");
    let fsck_rc = guest.fsck(Filesystem::Ext4, &device)?;
    ensure!(fsck_rc == 0, "bound anew: fsck ended with {fsck_rc}");
    Ok(())
}

/// Records the -ETIMEDOUTs that the driver returns to the memory's users.
fn trace_flushes(context: &Context, guest: &mut Guest) -> Result<()> {
    let function = match context.trial.driver {
        Driver::Rust => "vpr_flush",
        Driver::C => "async_pmem_flush",
    };
    let argv = ["mount", "-t", "tracefs", "tracefs", TRACING].map(str::to_owned);
    guest.tool(Step::Tool {
        argv: argv.to_vec(),
        timeout_ms: 10_000,
        stdin: String::new(),
    })?;
    let probe = format!("r64:flushed {function} result=$retval:s32");
    write(guest, &format!("{TRACING}/kprobe_events"), &probe)?;
    // Those that are looked for, not the thousands after them.
    let filter = format!("{TRACING}/events/kprobes/flushed/filter");
    write(guest, &filter, "result == -110")?;
    write(
        guest,
        &format!("{TRACING}/events/kprobes/flushed/enable"),
        "1",
    )
}
