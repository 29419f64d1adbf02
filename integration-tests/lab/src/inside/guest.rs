// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest: its machine, and the agent that runs in it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest_agent::client::{Client, ClientError, Heard};
use guest_agent::wire::{
    Device, Event, Filesystem, LoadReport, LoadSpec, Outcome, Step, ToolResult,
};

use crate::inside::events;
use crate::inside::machine::{Boot, Counters, Machine, Maker, Restore, counted, refusal};
use crate::inside::trial::LOGS;
use crate::inside::wait;

/// How long a guest may take to boot; 15 to 25 s is usual where KVM is emulated.
const BOOT: Duration = Duration::from_secs(150);

/// How long an order without I/O may take.
pub const SHORT: Duration = Duration::from_secs(60);

/// Texts of a guest kernel that is not well: a reply that came twice, a dead or
/// stuck task, an oops.
const UNWELL: [&str; 9] = [
    "is not a head",
    "BUG:",
    "Oops",
    "Call Trace",
    "blocked for more than",
    "soft lockup",
    "rcu_preempt detected stalls",
    "Kernel panic",
    "WARNING:",
];

/// A running guest. Dropping it kills its VMM.
pub struct Guest {
    client: Client<UnixStream>,
    log: File,
    machine: Box<dyn Machine>,
    maker: Rc<dyn Maker>,
    processes: Rc<Cell<usize>>,
    unwell: Vec<String>,
}

impl Guest {
    /// Boots a guest and waits for its agent and all of its devices.
    pub fn boot(maker: Rc<dyn Maker>, processes: Rc<Cell<usize>>, boot: &Boot) -> Result<Self> {
        let machine = maker.boot(boot, next(&processes))?;
        let client = Client::new(connect(machine.as_ref())?);
        let log = Path::new(LOGS).join("guest.log");
        let log = File::options().create(true).append(true).open(log)?;
        let unwell = Vec::new();
        let mut guest = Self {
            client,
            log,
            machine,
            maker,
            processes,
            unwell,
        };
        let ready = guest.client.wait_ready(BOOT);
        guest.note_heard()?;
        ready.context("the guest's agent does not answer")?;
        Ok(guest)
    }

    /// Gives an order and waits for its outcome.
    pub fn order(&mut self, step: Step, within: Duration) -> Result<Outcome> {
        let id = self.start_order(step)?;
        self.finish_order(id, within)
    }

    /// Gives an order without waiting.
    pub fn start_order(&mut self, step: Step) -> Result<u64> {
        let what = format!("{step:?}");
        let id = self.client.send(step)?;
        writeln!(self.log, "order {id}: {what}")?;
        Ok(id)
    }

    /// Waits for the outcome of an order that was given.
    pub fn finish_order(&mut self, id: u64, within: Duration) -> Result<Outcome> {
        let outcome = self.client.wait(id, within);
        self.note_heard()?;
        if let Err(ClientError::Timeout { .. }) = &outcome {
            self.machine.alive()?;
            self.note_silence()?;
        }
        Ok(outcome?)
    }

    /// The outcome of an order that was given, if it comes in time. Asking again is no news for
    /// the guest: it runs each order once.
    pub fn answer(&mut self, id: u64, within: Duration) -> Result<Option<Outcome>> {
        let outcome = self.client.wait(id, within);
        self.note_heard()?;
        match outcome {
            Err(ClientError::Timeout { .. }) => Ok(None),
            outcome => Ok(Some(outcome?)),
        }
    }

    /// The same without a byte on the line, which may be what wakes the guest.
    pub fn answered(&mut self, id: u64) -> Result<Option<Outcome>> {
        let outcome = self.client.answered(id);
        self.note_heard()?;
        Ok(outcome?)
    }

    /// Takes what has come over the line. cloud-hypervisor sends byte by byte, and a socket
    /// that nobody reads is full after some 300 of them: then the guest waits.
    pub fn hear(&mut self) -> Result<()> {
        self.client.listen(Duration::ZERO)?;
        self.note_heard()
    }

    /// Wakes the guest if it sleeps.
    pub fn wake(&mut self) -> Result<()> {
        if self.machine.woken_by_serial() {
            // Any order will do; nobody waits for its answer.
            return self.start_order(Step::Status).map(drop);
        }
        self.machine.wake()
    }

    /// Orders something that has nothing to say when it succeeds.
    pub fn done(&mut self, step: Step) -> Result<()> {
        match self.order(step, SHORT)? {
            Outcome::Done => Ok(()),
            other => bail!("the guest answered {other:?} instead of `done`"),
        }
    }

    /// Runs a step that is a tool; its exit code is the caller's to judge.
    pub fn tool(&mut self, step: Step) -> Result<ToolResult> {
        match self.order(step, Duration::from_secs(120))? {
            Outcome::Tool(result) => Ok(result),
            other => bail!("the guest answered {other:?} instead of a tool's result"),
        }
    }

    /// The pmem devices, in the order of the command line.
    pub fn devices(&mut self, count: usize) -> Result<Vec<Device>> {
        let timeout_ms = 30_000;
        match self.order(Step::WaitDevices { count, timeout_ms }, SHORT)? {
            Outcome::Devices(devices) => Ok(devices),
            other => bail!("the guest answered {other:?} instead of its devices"),
        }
    }

    /// Makes a filesystem; returns mkfs's exit code.
    pub fn mkfs(&mut self, fs: Filesystem, device: &str) -> Result<i32> {
        let step = Step::Mkfs {
            fs,
            device: device.to_owned(),
            options: Vec::new(),
        };
        self.tool(step).map(|result| code(&result))
    }

    /// Checks a filesystem; returns the checker's exit code, 0 for clean.
    pub fn fsck(&mut self, fs: Filesystem, device: &str) -> Result<i32> {
        let step = Step::Fsck {
            fs,
            device: device.to_owned(),
        };
        let result = self.tool(step)?;
        writeln!(self.log, "fsck: {}", result.output)?;
        Ok(code(&result))
    }

    /// Mounts a filesystem.
    pub fn mount(&mut self, fs: Filesystem, device: &str, path: &str, dax: bool) -> Result<()> {
        self.done(Step::Mount {
            fs,
            device: device.to_owned(),
            path: path.to_owned(),
            dax,
            options: String::new(),
        })
    }

    /// Unmounts a filesystem.
    pub fn umount(&mut self, path: &str) -> Result<()> {
        self.done(Step::Umount {
            path: path.to_owned(),
        })
    }

    /// Starts a load.
    pub fn load_start(&mut self, name: &str, spec: LoadSpec) -> Result<()> {
        self.done(Step::LoadStart {
            name: name.to_owned(),
            spec,
        })
    }

    /// Lets a load finish its steps, and returns its counters.
    pub fn load_stop(&mut self, name: &str, within: Duration) -> Result<LoadReport> {
        let timeout_ms = u64::try_from(within.as_millis())?;
        let step = Step::LoadStop {
            name: name.to_owned(),
            timeout_ms,
        };
        self.load(step, within + SHORT)
    }

    /// Waits for a load's own end.
    pub fn load_wait(&mut self, name: &str, within: Duration) -> Result<LoadReport> {
        let timeout_ms = u64::try_from(within.as_millis())?;
        let step = Step::LoadWait {
            name: name.to_owned(),
            timeout_ms,
        };
        self.load(step, within + SHORT)
    }

    /// A load's counters as they are.
    pub fn load_status(&mut self, name: &str) -> Result<LoadReport> {
        let name = name.to_owned();
        self.load(Step::LoadStatus { name }, SHORT)
    }

    fn load(&mut self, step: Step, within: Duration) -> Result<LoadReport> {
        match self.order(step, within)? {
            Outcome::Load(report) => Ok(report),
            other => bail!("the guest answered {other:?} instead of a load's report"),
        }
    }

    /// The machine's management interface.
    pub fn machine(&mut self) -> &mut dyn Machine {
        self.machine.as_mut()
    }

    /// Pauses the guest; returns how long the call took.
    pub fn pause(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.machine.pause()?;
        Ok(begun.elapsed())
    }

    /// Lets the guest go on.
    pub fn resume(&mut self) -> Result<()> {
        self.machine.resume()
    }

    /// Writes a snapshot; returns how long the call took.
    pub fn snapshot(&mut self, into: &Path) -> Result<Duration> {
        let begun = Instant::now();
        self.machine.snapshot(into, false)?;
        Ok(begun.elapsed())
    }

    /// A device's counters; the trial is skipped if the VMM has none.
    pub fn counters(&mut self, id: &str) -> Result<Counters> {
        counted(self.machine.counters(id)?)
    }

    /// Kills the VMM. The guest can be restored.
    pub fn kill(&mut self) -> Result<()> {
        self.machine.kill()
    }

    /// Restores the guest, paused, into a new process. Orders that had no
    /// answer are asked for again.
    pub fn restore(&mut self, restore: &Restore) -> Result<Duration> {
        let begun = Instant::now();
        self.machine = self.maker.restore(restore, next(&self.processes))?;
        let took = begun.elapsed();
        self.client.reconnect(connect(self.machine.as_ref())?);
        Ok(took)
    }

    /// Sends the guest to a new process; returns how long that took.
    pub fn migrate(&mut self) -> Result<Duration> {
        let receiving = self.maker.receive(next(&self.processes))?;
        let begun = Instant::now();
        self.machine.send(receiving.socket())?;
        let machine = receiving.finish()?;
        let code = self.machine.wait(SHORT)?;
        if code != 0 {
            bail!("the VMM ended with code {code} after it had sent its guest");
        }
        self.machine = machine;
        let took = begun.elapsed();
        self.client.reconnect(connect(self.machine.as_ref())?);
        Ok(took)
    }

    /// Sends the guest to a new process, which must fail; returns what that
    /// process says.
    pub fn migrate_in_vain(&mut self) -> Result<String> {
        let receiving = self.maker.receive(next(&self.processes))?;
        self.machine.send(receiving.socket())?;
        refusal(receiving.finish().map(drop), "the migration", "")
    }

    /// Gives the guest to another kind of VMM with its next restore.
    pub fn hand_over(&mut self, to: Rc<dyn Maker>) {
        self.maker = to;
    }

    /// Starts a second process on the same snapshot and drops it again.
    pub fn restore_beside(&self, restore: &Restore) -> Result<()> {
        self.maker.restore(restore, next(&self.processes)).map(drop)
    }

    /// Fails if the guest's kernel has said anything that it should not.
    pub fn is_well(&mut self) -> Result<()> {
        self.is_well_but(&[])
    }

    /// The same where these texts are what the kernel has to say.
    pub fn is_well_but(&mut self, expected: &[&str]) -> Result<()> {
        // What is under way counts too: an answer comes after it.
        self.done_status()?;
        let bad = |line: &&String| !expected.iter().any(|text| line.contains(text));
        match self.unwell.iter().find(bad) {
            Some(line) => bail!("the guest's kernel says: {line}"),
            None => Ok(()),
        }
    }

    fn done_status(&mut self) -> Result<()> {
        match self.order(Step::Status, SHORT)? {
            Outcome::Status(_) => Ok(()),
            other => bail!("the guest answered {other:?} instead of its status"),
        }
    }

    /// Reboots the guest, once in its life, and waits for its agent and all of its devices.
    pub fn reboot(&mut self) -> Result<()> {
        self.is_well()?;
        self.order(Step::Reboot, SHORT)?;
        let log = self.machine.events().context("no event log")?.to_owned();
        events::wait_for_vm(&log, "rebooted", SHORT)?;
        self.client = Client::new(connect(self.machine.as_ref())?);
        let ready = self.client.wait_ready(BOOT);
        self.note_heard()?;
        ready.context("after the reboot")
    }

    /// Powers the guest off and waits for the VMM's end.
    pub fn power_off(mut self) -> Result<()> {
        self.is_well()?;
        self.order(Step::Poweroff, SHORT)?;
        let code = self
            .machine
            .wait(SHORT)
            .context("after the guest's power-off")?;
        if code != 0 {
            bail!("the VMM ended with code {code} after the guest's power-off");
        }
        Ok(())
    }

    /// Writes down what can be seen from outside of a guest that does not
    /// answer: whether its CPU runs, and whether it still answers anything.
    fn note_silence(&mut self) -> Result<()> {
        let state = self.machine.state();
        let before = self.machine.threads();
        let status = self.client.run(Step::Status, Duration::from_secs(10));
        let after = self.machine.threads();
        writeln!(self.log, "no answer; the VMM says {state:?}; its threads:")?;
        writeln!(self.log, "{before}{after}status order: {status:?}")?;
        self.note_heard()
    }

    fn note_heard(&mut self) -> Result<()> {
        for heard in self.client.heard() {
            let line = match heard {
                Heard::Kernel(line) => format!("kernel: {}", line.text),
                Heard::Text(text) => format!("text: {text}"),
                Heard::Hello(hello) => format!("hello: {hello:?}"),
                Heard::Lost(what) => format!("lost: {what}"),
                Heard::Event(Event::LoadError {
                    name,
                    thread,
                    message,
                    ..
                }) => {
                    format!("load {name}, thread {thread}: {message}")
                }
                Heard::Event(event) => format!("event: {event:?}"),
            };
            writeln!(self.log, "{line}")?;
            if UNWELL.iter().any(|text| line.contains(text)) {
                self.unwell.push(line);
            }
        }
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.note_heard();
        if let Some(events) = self.machine.events() {
            let name = events.file_name().unwrap_or_default();
            let _ = fs::copy(events, Path::new(LOGS).join(name));
        }
        let _ = self.machine.kill();
    }
}

fn next(processes: &Cell<usize>) -> usize {
    processes.set(processes.get() + 1);
    processes.get()
}

fn connect(machine: &dyn Machine) -> Result<UnixStream> {
    let socket = machine.serial();
    wait::until("a connection to the guest's serial line", SHORT, || {
        Ok(UnixStream::connect(socket).ok())
    })
}

/// A tool's exit code, -1 if it did not end by itself.
pub fn code(result: &ToolResult) -> i32 {
    result.rc.unwrap_or(-1)
}
