// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! cloud-hypervisor's flags and REST interface: ours, stock and patched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::inside::cleanup::WORK;
use crate::inside::machine::http::{self, Reply};
use crate::inside::machine::{
    Boot, Capability, Counters, Machine, Maker, Pmem, Receiving, Refused, Restore, missing,
};
use crate::inside::process::Process;
use crate::inside::wait;

/// The longest a management call may take. Longer than any drain's deadline.
const CALL: Duration = Duration::from_secs(120);

/// How long a VMM may take until its socket answers.
const START: Duration = Duration::from_secs(60);

/// Starts VMMs that speak cloud-hypervisor's flags.
pub struct Rest {
    binary: PathBuf,
    probed: RefCell<HashMap<&'static str, bool>>,
}

impl Rest {
    /// A maker for this binary.
    pub fn new(binary: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            probed: RefCell::default(),
        }
    }

    fn command(&self) -> Command {
        command_of(&self.binary)
    }

    fn is_ours(&self) -> bool {
        self.binary.ends_with("vmm")
    }

    /// Whether the command line takes an option: one that does not know it says
    /// so, by name, before it starts anything. The start fails in any case.
    fn takes(&self, option: &'static str, arguments: &[&str]) -> Result<bool> {
        if let Some(known) = self.probed.borrow().get(option) {
            return Ok(*known);
        }
        let mut command = self.command();
        command.args(arguments);
        let mut process = Process::start(command, &format!("probe-{option}.log"))?;
        if process.wait(START)?.success() {
            bail!("the VMM starts from files that are not there: cannot probe for `{option}`");
        }
        let takes = !process.output().contains(option);
        self.probed.borrow_mut().insert(option, takes);
        Ok(takes)
    }

    /// For devices of which one has a fault or none: ours has a build of its own for that.
    fn command_for(&self, faulty: bool) -> Command {
        if faulty && self.is_ours() {
            command_of(&self.binary.with_file_name("vmm-fault"))
        } else {
            self.command()
        }
    }

    fn takes_for_pmem(&self, option: &'static str, value: &str) -> Result<bool> {
        let file = Path::new(WORK).join("probe.img");
        File::create(&file)?.set_len(2 << 20)?;
        let value = format!("file={},size=2M,{option}={value}", file.display());
        let quiet = ["--serial", "off", "--console", "off"];
        let start = ["--kernel", "/nonexistent/kernel", "--memory", "size=64M"];
        self.takes(option, &[&start[..], &quiet, &["--pmem", &value]].concat())
    }

    fn start(&self, command: Command, serial: PathBuf, index: usize) -> Result<Box<dyn Machine>> {
        let mut machine = self.launch(command, serial, index)?;
        machine.wait_ready()?;
        Ok(Box::new(machine))
    }

    fn launch(&self, mut command: Command, serial: PathBuf, index: usize) -> Result<RestMachine> {
        let [api, events] = ["api", "events"].map(|name| path(&format!("{name}-{index}")));
        // A killed VMM leaves its sockets behind, and binding to one fails.
        for socket in [&api, &serial] {
            let _ = fs::remove_file(socket);
        }
        command
            .arg("--api-socket")
            .arg(format!("path={}", api.display()));
        command
            .arg("--event-monitor")
            .arg(format!("path={}", events.display()));
        let process = Process::start(command, &format!("vmm-{index}.log"))?;
        Ok(RestMachine {
            api,
            events,
            ours: self.is_ours(),
            process,
            serial,
        })
    }
}

fn command_of(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    // Of a panic only: to make one of an error takes system calls that a thread's filter may
    // not know, which ends the process in another way than the one that is under test.
    command.env("RUST_BACKTRACE", "1");
    command.env("RUST_LIB_BACKTRACE", "0");
    command
}

fn path(name: &str) -> PathBuf {
    Path::new(WORK).join(name)
}

fn pmem_value(pmem: &Pmem) -> String {
    let mut value = format!("file={},id={}", pmem.file.display(), pmem.id);
    if pmem.discard_writes {
        value += ",discard_writes=on";
    }
    if let Some(seconds) = pmem.drain_timeout {
        value += &format!(",drain_timeout={seconds}");
    }
    if let Some(choice) = pmem.sync_error {
        value += &format!(",sync_error={choice}");
    }
    if let Some(fault) = &pmem.fault {
        value += &format!(",fault={fault}");
    }
    value
}

impl Maker for Rest {
    fn boot(&self, boot: &Boot, index: usize) -> Result<Box<dyn Machine>> {
        let mut command = self.command_for(boot.pmem.iter().any(|pmem| pmem.fault.is_some()));
        command.arg("--kernel").arg(&boot.kernel);
        command.arg("--initramfs").arg(&boot.initramfs);
        command.arg("--cmdline").arg(&boot.cmdline);
        command.arg("--cpus").arg(format!("boot={}", boot.cpus));
        command
            .arg("--memory")
            .arg(format!("size={}M", boot.memory_mib));
        command.args(["--console", "off", "--serial"]);
        let serial = path(&format!("serial{}", boot.name));
        command.arg(format!("socket={}", serial.display()));
        if !boot.pmem.is_empty() {
            command.arg("--pmem").args(boot.pmem.iter().map(pmem_value));
        }
        self.start(command, serial, index)
    }

    fn restore(&self, restore: &Restore, index: usize) -> Result<Box<dyn Machine>> {
        let mut value = format!("source_url=file://{}", restore.from.display());
        if restore.allow_stale {
            value += ",allow_stale_pmem=on";
        }
        let config = fs::read_to_string(restore.from.join("config.json")).unwrap_or_default();
        let mut command = self.command_for(config.contains("\"fault\""));
        command.arg("--restore").arg(value);
        self.start(command, path("serial"), index)
    }

    fn receive(&self, index: usize) -> Result<Receiving> {
        Receiving::start(self.launch(self.command(), path("serial"), index)?, index)
    }

    fn has(&self, capability: Capability) -> Result<bool> {
        match capability {
            Capability::Hotplug | Capability::Migration => Ok(!self.is_ours()),
            Capability::Counters | Capability::DiscardWrites | Capability::Snapshot => Ok(true),
            Capability::Fault => Ok(self.is_ours()),
            Capability::DrainTimeout => self.takes_for_pmem("drain_timeout", "2"),
            Capability::SyncError => self.takes_for_pmem("sync_error", "latch"),
            Capability::StaleCheck => {
                let value = "source_url=file:///nonexistent,allow_stale_pmem=on";
                self.takes("allow_stale_pmem", &["--restore", value])
            }
        }
    }

    fn version(&self) -> Result<String> {
        let output = self.command().arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", self.binary.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A process that speaks cloud-hypervisor's REST interface.
pub(super) struct RestMachine {
    pub(super) api: PathBuf,
    events: PathBuf,
    ours: bool,
    process: Process,
    pub(super) serial: PathBuf,
}

impl RestMachine {
    /// Waits until it answers, with a guest or without.
    pub(super) fn wait_answer(&mut self) -> Result<()> {
        wait::until("the VMM answers", START, || {
            if let Some(status) = self.process.ended()? {
                bail!(
                    "the VMM has ended ({status}): {}",
                    self.process.output().trim()
                );
            }
            Ok(self.call("GET", "vmm.ping", None).ok().map(drop))
        })
    }

    fn wait_ready(&mut self) -> Result<()> {
        wait::until("the VMM has its guest", START, || {
            if let Some(status) = self.process.ended()? {
                let text = self.process.output();
                let call = format!("the start ({status})");
                return Err(anyhow!(Refused { call, text }));
            }
            if !self.api.exists() || !self.serial.exists() {
                return Ok(None);
            }
            // Until the guest is made, the socket answers that there is none.
            Ok(self
                .state()
                .ok()
                .filter(|state| state == "Running" || state == "Paused"))
        })?;
        Ok(())
    }

    fn call(&mut self, method: &str, name: &str, body: Option<&Value>) -> Result<Reply> {
        call(&self.api, method, name, body)
    }

    fn get(&mut self, name: &str) -> Result<Value> {
        let reply = self.call("GET", name, None)?;
        serde_json::from_str(&reply.body).with_context(|| format!("{name}: no JSON in the answer"))
    }
}

impl Machine for RestMachine {
    fn pause(&mut self) -> Result<()> {
        self.call("PUT", "vm.pause", None).map(drop)
    }

    fn resume(&mut self) -> Result<()> {
        self.call("PUT", "vm.resume", None).map(drop)
    }

    fn snapshot(&mut self, into: &Path, allow_unsynced: bool) -> Result<()> {
        let mut body = json!({ "destination_url": format!("file://{}", into.display()) });
        if allow_unsynced {
            body["allow_unsynced_pmem"] = json!(true);
        }
        self.call("PUT", "vm.snapshot", Some(&body)).map(drop)
    }

    fn wake(&mut self) -> Result<()> {
        self.call("PUT", "vm.power-button", None).map(drop)
    }

    fn woken_by_serial(&self) -> bool {
        // cloud-hypervisor's button is an event of its ACPI GED, whose interrupt Linux masks
        // while it sleeps; ours is a fixed one, which wakes.
        !self.ours
    }

    fn unplug(&mut self, id: &str) -> Result<()> {
        let body = json!({ "id": id });
        self.call("PUT", "vm.remove-device", Some(&body)).map(drop)
    }

    fn counters(&mut self, id: &str) -> Result<Option<Counters>> {
        let all = self.get("vm.counters")?;
        let Some(device) = all.get(id).and_then(Value::as_object) else {
            return Ok(None);
        };
        let counters: Counters = device
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
            .collect();
        Ok(counters.contains_key("flushes").then_some(counters))
    }

    fn state(&mut self) -> Result<String> {
        let info = self.get("vm.info")?;
        let state = info.get("state").and_then(Value::as_str);
        Ok(state.context("vm.info has no state")?.to_owned())
    }

    fn shutdown(&mut self, within: Duration) -> Result<()> {
        self.call("PUT", "vmm.shutdown", None)?;
        let code = self.wait(within)?;
        if code != 0 {
            bail!("the VMM ended with code {code} after vmm.shutdown");
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    fn wait(&mut self, within: Duration) -> Result<i32> {
        Ok(self.process.wait(within)?.code().unwrap_or(-1))
    }

    fn process(&self) -> u32 {
        self.process.id()
    }

    fn threads(&self) -> String {
        self.process.threads()
    }

    fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            bail!("the VMM has ended ({status})");
        }
        self.call("GET", "vmm.ping", None).map(drop)
    }

    fn serial(&self) -> &Path {
        &self.serial
    }

    fn events(&self) -> Option<&Path> {
        Some(&self.events)
    }

    fn add_pmem(&mut self, pmem: &Pmem) -> Result<()> {
        let mut body = json!({
            "id": pmem.id,
            "file": pmem.file,
            "discard_writes": pmem.discard_writes,
        });
        if let Some(seconds) = pmem.drain_timeout {
            body["drain_timeout"] = json!(seconds);
        }
        if let Some(choice) = pmem.sync_error {
            body["sync_error"] = json!(choice);
        }
        self.call("PUT", "vm.add-pmem", Some(&body)).map(drop)
    }

    fn remove_device(&mut self, id: &str) -> Result<()> {
        let body = json!({ "id": id });
        self.call("PUT", "vm.remove-device", Some(&body)).map(drop)
    }

    fn has_device(&mut self, id: &str) -> Result<bool> {
        let info = self.get("vm.info")?;
        let tree = info.get("device_tree").and_then(Value::as_object);
        let tree = tree.context("vm.info has no device_tree")?;
        Ok(tree.contains_key(id))
    }

    fn send(&mut self, to: &Path) -> Result<()> {
        let body = json!({ "destination_url": format!("unix:{}", to.display()) });
        self.call("PUT", "vm.send-migration", Some(&body)).map(drop)
    }
}

/// One call; anything but a success is a refusal.
pub(super) fn call(api: &Path, method: &str, name: &str, body: Option<&Value>) -> Result<Reply> {
    let path = format!("/api/v1/{name}");
    let body = body.map(Value::to_string);
    let reply = http::call(api, method, &path, body.as_deref(), CALL)?;
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    let text = format!("{} {}", reply.status, reply.body);
    Err(anyhow!(Refused {
        call: name.to_owned(),
        text
    }))
}

/// The counters, or the trial is skipped.
pub fn counted(counters: Option<Counters>) -> Result<Counters> {
    counters.ok_or_else(|| missing(Capability::Counters))
}
