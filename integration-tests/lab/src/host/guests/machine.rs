// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One guest's QEMU, from its start to its end.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::host::keeper;
use crate::host::tool;

/// The program.
const QEMU: &str = "qemu-system-x86_64";

/// Size of the device under test, in MiB.
const PMEM_MIB: u32 = 512;

/// Size of the memory that is all ones, in KiB: that of a virtio function's registers.
const ONES_KIB: usize = 16;

/// What a guest is started with.
pub struct Start<'a> {
    /// The bzImage.
    pub kernel: &'a Path,
    /// The initramfs.
    pub initramfs: &'a Path,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// True for another PCI function, whose memory is all ones and read-only.
    pub ones: bool,
    /// True for a device behind a PCIe port.
    pub port: bool,
    /// Size of a second device, in MiB; 0: there is none.
    pub second_mib: u32,
    /// The library that makes syncs slow, and how slow.
    pub slow_fsync: (&'a Path, u32),
    /// What the guest's script is told, on the kernel's command line.
    pub words: &'a str,
    /// Private directory of this guest.
    pub dir: &'a Path,
    /// When it is killed.
    pub limit: Duration,
}

/// How QEMU ended: nothing if by itself and well, and what it and the guest said.
pub struct End {
    /// What was wrong, if anything.
    pub wrong: Option<String>,
    /// Console and QEMU's own words.
    pub console: String,
}

/// Boots the guest and waits for its end.
pub fn run(start: &Start) -> Result<End> {
    let log = start.dir.join("console.log");
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    let mut command = command(start)?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let mut child = keeper::spawn(command).with_context(|| format!("cannot start {QEMU}"))?;
    let deadline = Instant::now() + start.limit;
    let wrong = loop {
        if let Some(status) = child.try_wait()? {
            break match (status.code(), status.signal()) {
                (Some(0), _) => None,
                (Some(code), _) => Some(format!("QEMU ended with {code}")),
                (None, signal) => Some(format!("QEMU was ended by signal {signal:?}")),
            };
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            break Some(format!(
                "the guest was not off after {} s",
                start.limit.as_secs()
            ));
        }
        thread::sleep(Duration::from_millis(50));
    };
    keeper::forget(child.id());
    let console = fs::read(&log)?;
    Ok(End {
        wrong,
        console: String::from_utf8_lossy(&console).replace('\r', ""),
    })
}

/// The first line of what QEMU says of itself.
pub fn version() -> Result<String> {
    let said = tool::output(Command::new(QEMU).arg("--version"))?;
    let first = said.lines().next().context("QEMU has no version")?;
    Ok(first.trim().to_owned())
}

fn command(start: &Start) -> Result<Command> {
    let mut command = Command::new(QEMU);
    let (library, milliseconds) = start.slow_fsync;
    if milliseconds > 0 {
        command
            .env("LD_PRELOAD", library)
            .env("SLOW_FSYNC_MS", milliseconds.to_string());
    }
    command.args(["-machine", "q35", "-global", "ICH9-LPC.disable_s3=0"]);
    // Four processors on one host thread: they interleave, the same way under any host. For cmpxchg16b see
    // `accel`.
    command.args(["-accel", "tcg,thread=single", "-smp", "4"]);
    command.args(["-cpu", "qemu64,-cx16,+ssse3,+sse4.1,+sse4.2,+popcnt"]);
    command
        .arg("-m")
        .arg(format!("{}M,slots=2,maxmem=8G", start.memory_mib));
    command.args(["-nodefaults", "-display", "none", "-serial", "stdio"]);
    command.arg("-no-reboot");
    for (id, size) in [("pmem", PMEM_MIB), ("second", start.second_mib)] {
        if size == 0 {
            continue;
        }
        let path = start.dir.join(id);
        File::create(&path)?.set_len(u64::from(size) << 20)?;
        let path = path.display();
        command.arg("-object").arg(format!(
            "memory-backend-file,id={id}-memory,share=on,mem-path={path},size={size}M"
        ));
        let bus = if start.port {
            command.args(["-device", &format!("pcie-root-port,id={id}-port")]);
            format!(",bus={id}-port")
        } else {
            String::new()
        };
        command
            .arg("-device")
            .arg(format!("virtio-pmem-pci,memdev={id}-memory,id={id}{bus}"));
    }
    if start.ones {
        let path = start.dir.join("ones");
        fs::write(&path, vec![0xff; ONES_KIB << 10])?;
        let path = path.display();
        command.arg("-object").arg(format!(
            "memory-backend-file,id=ones-memory,readonly=on,mem-path={path},size={ONES_KIB}K"
        ));
        command.args(["-device", "ivshmem-plain,memdev=ones-memory"]);
    }
    command.arg("-kernel").arg(start.kernel);
    command.arg("-initrd").arg(start.initramfs);
    command.arg("-append").arg(format!(
        "console=ttyS0 panic=-1 mitigations=off tsc=reliable no_timer_check no_console_suspend {}",
        start.words
    ));
    Ok(command)
}
