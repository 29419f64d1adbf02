// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! QEMU with its own virtio-pmem-pci, driven over QMP.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::inside::cleanup::WORK;
use crate::inside::machine::{
    Boot, Capability, Counters, Machine, Maker, Pmem, Refused, Restore, missing,
};
use crate::inside::process::Process;
use crate::inside::wait;

/// How long QEMU may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts QEMUs.
pub struct Qemu {
    binary: PathBuf,
}

impl Qemu {
    /// A maker for this binary.
    pub fn new(binary: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
        }
    }
}

impl Maker for Qemu {
    fn boot(&self, boot: &Boot, index: usize) -> Result<Box<dyn Machine>> {
        let [qmp, serial] =
            ["qmp", "serial"].map(|name| Path::new(WORK).join(format!("{name}{}", boot.name)));
        for socket in [&qmp, &serial] {
            let _ = fs::remove_file(socket);
        }
        let mut sizes = Vec::new();
        for pmem in &boot.pmem {
            sizes.push(fs::metadata(&pmem.file)?.len());
        }
        let most = boot.memory_mib + sizes.iter().sum::<u64>().div_ceil(1 << 20);
        let mut command = Command::new(&self.binary);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-machine", "q35,accel=kvm", "-cpu", "host"]);
        // Suspend to RAM.
        command.args(["-global", "ICH9-LPC.disable_s3=0"]);
        command.arg("-smp").arg(boot.cpus.to_string());
        command
            .arg("-m")
            .arg(format!("{}M,slots=16,maxmem={most}M", boot.memory_mib));
        command.arg("-kernel").arg(&boot.kernel);
        command.arg("-initrd").arg(&boot.initramfs);
        command.arg("-append").arg(&boot.cmdline);
        for (option, socket) in [("-qmp", &qmp), ("-serial", &serial)] {
            command.arg(option);
            command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        }
        for (pmem, size) in boot.pmem.iter().zip(sizes) {
            if pmem.fault.is_some() || pmem.drain_timeout.is_some() || pmem.sync_error.is_some() {
                return Err(missing(Capability::DrainTimeout));
            }
            add_pmem(&mut command, pmem, size);
        }
        let process = Process::start(command, &format!("vmm-{index}.log"))?;
        let mut machine = QemuMachine {
            process,
            qmp,
            serial,
        };
        wait::until("QEMU's sockets", PATIENCE, || {
            if let Some(status) = machine.process.ended()? {
                let text = machine.process.output();
                let call = format!("the start ({status})");
                return Err(anyhow!(Refused { call, text }));
            }
            Ok((machine.qmp.exists() && machine.serial.exists()).then_some(()))
        })?;
        Ok(Box::new(machine))
    }

    fn restore(&self, _: &Restore, _: usize) -> Result<Box<dyn Machine>> {
        Err(missing(Capability::Snapshot))
    }

    fn has(&self, capability: Capability) -> Result<bool> {
        Ok(capability == Capability::DiscardWrites)
    }

    fn version(&self) -> Result<String> {
        let output = Command::new(&self.binary).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", self.binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn add_pmem(command: &mut Command, pmem: &Pmem, size: u64) {
    let share = if pmem.discard_writes { "off" } else { "on" };
    let (id, file) = (&pmem.id, pmem.file.display());
    command.arg("-object").arg(format!(
        "memory-backend-file,id=memory-{id},share={share},mem-path={file},size={size}"
    ));
    command
        .arg("-device")
        .arg(format!("virtio-pmem-pci,memdev=memory-{id},id={id}"));
}

struct QemuMachine {
    process: Process,
    qmp: PathBuf,
    serial: PathBuf,
}

impl QemuMachine {
    /// One command over a connection of its own.
    fn execute(&mut self, command: &str) -> Result<Value> {
        self.execute_with(command, &json!({}))
    }

    fn execute_with(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let stream = UnixStream::connect(&self.qmp).context("cannot connect to QMP")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(&stream);
        next_object(&mut reader)?;
        for (name, arguments) in [("qmp_capabilities", &json!({})), (command, arguments)] {
            let object = json!({ "execute": name, "arguments": arguments });
            writeln!(&stream, "{object}")?;
            loop {
                let object = next_object(&mut reader)?;
                if let Some(value) = object.get("return") {
                    if name == command {
                        return Ok(value.clone());
                    }
                    break;
                }
                if let Some(error) = object.get("error") {
                    let (call, text) = (name.to_owned(), error.to_string());
                    return Err(anyhow!(Refused { call, text }));
                }
            }
        }
        bail!("QMP gave no answer to {command}")
    }
}

fn next_object(reader: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    if reader.read_line(&mut line).context("QMP does not answer")? == 0 {
        bail!("QMP was closed");
    }
    serde_json::from_str(&line).context("QMP said something that is no JSON")
}

impl Machine for QemuMachine {
    fn pause(&mut self) -> Result<()> {
        self.execute("stop").map(drop)
    }

    fn resume(&mut self) -> Result<()> {
        self.execute("cont").map(drop)
    }

    fn snapshot(&mut self, _: &Path, _: bool) -> Result<()> {
        Err(missing(Capability::Snapshot))
    }

    fn wake(&mut self) -> Result<()> {
        let asleep = self.state()? == "suspended";
        self.execute(if asleep {
            "system_wakeup"
        } else {
            "system_powerdown"
        })
        .map(drop)
    }

    fn unplug(&mut self, id: &str) -> Result<()> {
        self.execute_with("device_del", &json!({ "id": id }))
            .map(drop)
    }

    fn counters(&mut self, _: &str) -> Result<Option<Counters>> {
        Ok(None)
    }

    fn state(&mut self) -> Result<String> {
        let status = self.execute("query-status")?;
        let state = match status.get("status").and_then(Value::as_str) {
            Some("running") => "Running",
            Some("paused") => "Paused",
            Some(other) => other,
            None => bail!("query-status has no status"),
        };
        Ok(state.to_owned())
    }

    fn shutdown(&mut self, within: Duration) -> Result<()> {
        self.execute("quit")?;
        match self.wait(within)? {
            0 => Ok(()),
            code => bail!("QEMU ended with code {code} after `quit`"),
        }
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
            bail!("QEMU has ended ({status})");
        }
        self.execute("query-status").map(drop)
    }

    fn serial(&self) -> &Path {
        &self.serial
    }

    fn events(&self) -> Option<&Path> {
        None
    }
}
