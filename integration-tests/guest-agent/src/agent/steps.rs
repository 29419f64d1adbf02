// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs one step of an order.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::result;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guest_agent::devices;
use guest_agent::load::{Load, LoadError};
use guest_agent::verify::verify;
use guest_agent::wire::{
    Event, Failure, FailureKind, Filesystem, HostileTarget, LoadReport, LoadSpec, Outcome, Step,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::sync;

use crate::agent::line::Sender;
use crate::agent::stop::{Stop, wait};
use crate::agent::tool;
use crate::agent::uevent::{Ended, Uevents};
use crate::agent::{kmsg, modules, power, sysfs};

const STAY: u8 = 0;
const OFF: u8 = 1;
const RESTART: u8 = 2;

/// Runs steps and holds the loads they start.
pub struct Steps {
    loads: Mutex<HashMap<String, NamedLoad>>,
    sender: Sender,
    is_init: bool,
    leaving: AtomicU8,
}

#[derive(Clone)]
struct NamedLoad {
    order: u64,
    load: Arc<Load>,
}

type Result<T> = result::Result<T, Failure>;

fn bad_order(message: String) -> Failure {
    Failure {
        kind: FailureKind::BadOrder,
        message,
        errno: None,
    }
}

fn timeout(message: String) -> Failure {
    Failure {
        kind: FailureKind::Timeout,
        message,
        errno: None,
    }
}

/// A failed system call on something.
fn system(what: &str) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |error| Failure {
        kind: match error.kind() {
            io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => FailureKind::BadOrder,
            _ => FailureKind::System,
        },
        message: format!("{what}: {error}"),
        errno: error.raw_os_error(),
    }
}

fn within(timeout_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

impl Steps {
    pub fn new(sender: Sender, is_init: bool) -> Self {
        Self {
            loads: Mutex::default(),
            sender,
            is_init,
            leaving: AtomicU8::new(STAY),
        }
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<String, NamedLoad>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of loads with a thread that has not ended.
    pub fn running_loads(&self) -> Vec<String> {
        let loads = self.loads();
        let running = loads.iter().filter(|(_, named)| named.load.is_running());
        let mut names: Vec<String> = running.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Stops the load that an order started, or all.
    pub fn stop_loads(&self, order: Option<u64>) {
        for named in self.loads().values() {
            if order.is_none_or(|order| order == named.order) {
                named.load.stop();
            }
        }
    }

    /// Runs a step to its end.
    pub fn run(&self, id: u64, step: Step, stop: &Stop) -> Result<Outcome> {
        match step {
            // Answered where orders are taken, so that nothing can hold them up.
            Step::Status | Step::Stop { .. } => Ok(Outcome::Done),
            Step::Tool {
                argv,
                timeout_ms,
                stdin,
            } => run_tool(&argv, &stdin, timeout_ms, stop),
            Step::Mkfs {
                fs,
                device,
                options,
            } => mkfs(fs, &device, options, stop),
            Step::Fsck { fs, device } => fsck(fs, &device, stop),
            Step::Mount {
                fs,
                device,
                path,
                dax,
                options,
            } => do_mount(fs, &device, &path, dax, &options),
            Step::Umount { path } => umount2(path.as_str(), MntFlags::empty())
                .map(|()| Outcome::Done)
                .map_err(|errno| system(&format!("umount {path}"))(errno.into())),
            Step::Devices => devices::list()
                .map(Outcome::Devices)
                .map_err(system("list the devices")),
            Step::WaitDevices { count, timeout_ms } => wait_devices(count, timeout_ms, stop),
            Step::LoadStart { name, spec } => self.load_start(id, &name, &spec),
            Step::LoadStatus { name } => Ok(Outcome::Load(self.load(&name)?.report())),
            Step::LoadWait { name, timeout_ms } => {
                let load = self.load(&name)?;
                wait_load(&name, &load, timeout_ms, stop).map(Outcome::Load)
            }
            Step::LoadStop { name, timeout_ms } => {
                let load = self.load(&name)?;
                load.stop();
                wait_load(&name, &load, timeout_ms, stop).map(Outcome::Load)
            }
            Step::Verify {
                data,
                ack,
                ack_offset,
            } => {
                let data = sysfs::resolve(&data).map_err(system(&data))?;
                let ack = sysfs::resolve(&ack).map_err(system(&ack))?;
                verify(&data, &ack, ack_offset)
                    .map(Outcome::Verify)
                    .map_err(|error| bad_order(error.to_string()))
            }
            Step::Read { path } => read(&path).map(Outcome::Text),
            Step::Write { path, text } => OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write(text.as_bytes()))
                .map(|_| Outcome::Done)
                .map_err(system(&path)),
            Step::Dmesg => kmsg::dump().map(Outcome::Text).map_err(system("/dev/kmsg")),
            Step::BlockCounters { device } => sysfs::resolve(&device)
                .and_then(|path| sysfs::counters(&path))
                .map(Outcome::Block)
                .map_err(system(&device)),
            Step::Sync => {
                sync();
                Ok(Outcome::Done)
            }
            Step::DropCaches => {
                sync();
                let path = "/proc/sys/vm/drop_caches";
                fs::write(path, "3").map_err(system(path))?;
                Ok(Outcome::Done)
            }
            Step::ModuleLoad { path, parameters } => modules::load(Path::new(&path), &parameters)
                .map(|()| Outcome::Done)
                .map_err(system(&path)),
            Step::ModuleUnload { name } => modules::unload(&name)
                .map(|()| Outcome::Done)
                .map_err(system(&name)),
            Step::Hostile {
                case,
                target,
                bound_ms,
                hold,
            } => hostile(&case, &target, bound_ms, hold, stop),
            Step::Poweroff => self.leave(OFF),
            Step::Reboot => self.leave(RESTART),
        }
    }

    fn load(&self, name: &str) -> Result<Arc<Load>> {
        let loads = self.loads();
        let found = loads.get(name).map(|named| Arc::clone(&named.load));
        found.ok_or_else(|| bad_order(format!("there is no load {name}")))
    }

    fn load_start(&self, order: u64, name: &str, spec: &LoadSpec) -> Result<Outcome> {
        let taken = |loads: &HashMap<String, NamedLoad>| {
            let running = loads.get(name).is_some_and(|named| named.load.is_running());
            running.then(|| bad_order(format!("a load {name} is running")))
        };
        if let Some(failure) = taken(&self.loads()) {
            return Err(failure);
        }
        // Without the lock: laying out files may take long, and the status must be answered.
        let sender = self.sender.clone();
        let notify = Box::new(move |event: Event| sender.event(event));
        let load = Load::start(name, spec, &sysfs::resolve, notify).map_err(|error| Failure {
            kind: match error {
                LoadError::Io { .. } => FailureKind::System,
                LoadError::Spec { .. } | LoadError::Ack(_) => FailureKind::BadOrder,
            },
            message: error.to_string(),
            errno: error.errno(),
        })?;
        let mut loads = self.loads();
        if let Some(failure) = taken(&loads) {
            return Err(failure);
        }
        let load = Arc::new(load);
        loads.insert(name.to_owned(), NamedLoad { order, load });
        Ok(Outcome::Done)
    }

    fn leave(&self, how: u8) -> Result<Outcome> {
        if !self.is_init {
            let message = "only process 1 powers off or reboots".to_owned();
            return Err(bad_order(message));
        }
        sync();
        self.leaving.store(how, Ordering::Release);
        Ok(Outcome::Done)
    }

    /// Powers off or reboots if the step just answered was for that.
    pub fn after_answer(&self) {
        let how = self.leaving.load(Ordering::Acquire);
        if how == STAY {
            return;
        }
        let word = if how == OFF { "poweroff" } else { "reboot" };
        self.sender.event(Event::Leaving {
            how: word.to_owned(),
        });
        self.sender.flush();
        if how == OFF {
            power::off();
        } else {
            power::restart();
        }
    }
}

fn run_tool(argv: &[String], stdin: &str, timeout_ms: u64, stop: &Stop) -> Result<Outcome> {
    let name = argv.first().map_or("tool", String::as_str);
    tool::run(argv, stdin, timeout_ms, stop)
        .map(Outcome::Tool)
        .map_err(system(name))
}

fn resolved(device: &str) -> Result<String> {
    let path = sysfs::resolve(device).map_err(system(device))?;
    Ok(path.to_string_lossy().into_owned())
}

fn mkfs(kind: Filesystem, device: &str, options: Vec<String>, stop: &Stop) -> Result<Outcome> {
    let mut argv = match kind {
        Filesystem::Ext4 => words(&["mkfs.ext4", "-F", "-q", "-b", "4096"]),
        Filesystem::Xfs => words(&["mkfs.xfs", "-f", "-q"]),
    };
    argv.extend(options);
    argv.push(resolved(device)?);
    run_tool(&argv, "", 0, stop)
}

fn fsck(kind: Filesystem, device: &str, stop: &Stop) -> Result<Outcome> {
    let mut argv = match kind {
        Filesystem::Ext4 => words(&["e2fsck", "-f", "-n"]),
        Filesystem::Xfs => words(&["xfs_repair", "-n"]),
    };
    argv.push(resolved(device)?);
    run_tool(&argv, "", 0, stop)
}

fn do_mount(
    kind: Filesystem,
    device: &str,
    path: &str,
    dax: bool,
    options: &str,
) -> Result<Outcome> {
    let device = resolved(device)?;
    fs::create_dir_all(path).map_err(system(path))?;
    let all: Vec<&str> = [options, if dax { "dax=always" } else { "" }]
        .into_iter()
        .filter(|option| !option.is_empty())
        .collect();
    let what = format!("mount {device} on {path}");
    mount(
        Some(device.as_str()),
        path,
        Some(kind.name()),
        MsFlags::empty(),
        Some(all.join(",").as_str()),
    )
    .map_err(|errno| system(&what)(errno.into()))?;
    if dax && !has_dax(path) {
        // XFS mounts without it and only warns.
        umount2(path, MntFlags::empty()).map_err(|errno| system(&what)(errno.into()))?;
        return Err(Failure {
            kind: FailureKind::System,
            message: format!("{what}: the filesystem refused DAX, see the kernel's log"),
            errno: Some(libc::EOPNOTSUPP),
        });
    }
    Ok(Outcome::Done)
}

/// Whether the mount's options, as the kernel has them, say that DAX is on.
fn has_dax(path: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            (fields.next()? == path).then(|| fields.nth(1))?
        })
        .next_back()
        .is_some_and(|options| {
            options
                .split(',')
                .any(|option| option == "dax" || option == "dax=always")
        })
}

fn wait_devices(count: usize, timeout_ms: u64, stop: &Stop) -> Result<Outcome> {
    let what = "wait for devices";
    let ready = || {
        let devices = devices::list()?;
        let usable = devices.iter().filter(|device| {
            let path = device.path.as_ref();
            path.is_some_and(|path| Path::new(path).exists())
        });
        let enough = usable.count() >= count;
        Ok(enough.then_some(devices))
    };
    let found = Uevents::listen()
        .and_then(|events| events.until(within(timeout_ms), stop, ready))
        .map_err(system(what))?;
    match found {
        Ok(devices) => Ok(Outcome::Devices(devices)),
        Err(Ended::Stopped) => Err(timeout(format!("{what}: stopped"))),
        Err(Ended::Deadline) => {
            let devices = devices::list().map_err(system(what))?;
            let text = serde_json::to_string(&devices).unwrap_or_default();
            Err(timeout(format!(
                "there are fewer than {count} pmem block devices after {timeout_ms} ms: {text}"
            )))
        }
    }
}

fn wait_load(name: &str, load: &Load, timeout_ms: u64, stop: &Stop) -> Result<LoadReport> {
    let [ended, stopped] =
        wait([load.ended(), stop.fd()], Some(within(timeout_ms))).map_err(system(name))?;
    let report = load.report();
    if ended {
        return Ok(report);
    }
    let why = if stopped {
        "stopped"
    } else {
        "its time is over"
    };
    let stuck: Vec<String> = report
        .threads
        .iter()
        .filter(|thread| thread.running)
        .map(|thread| match thread.in_sync_us {
            Some(us) => format!("{} (in a sync for {us} us)", thread.thread),
            None => thread.thread.to_string(),
        })
        .collect();
    Err(timeout(format!(
        "waiting for load {name}: {why}, threads that run: {}",
        stuck.join(", ")
    )))
}

/// Reads a file, or a link's target.
fn read(path: &str) -> Result<String> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    if is_link && fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
        let target: PathBuf = fs::read_link(path).map_err(system(path))?;
        return Ok(target.to_string_lossy().into_owned());
    }
    let bytes = fs::read(path).map_err(system(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The longest that a hostile program is held.
const HOLD_MS: u64 = 300_000;

/// Runs the hostile program in a process of its own: it maps registers and may be killed.
fn hostile(
    case: &str,
    target: &HostileTarget,
    bound_ms: u64,
    hold: bool,
    stop: &Stop,
) -> Result<Outcome> {
    let device = match target {
        HostileTarget::Index(index) => index.to_string(),
        HostileTarget::Mmio(address) => format!("{address:#x}"),
        HostileTarget::Pci(name) => name.clone(),
    };
    let bound = bound_ms.to_string();
    let mut argv = words(&[
        "/proc/self/exe",
        "hostile",
        case,
        "--device",
        &device,
        "--bound-ms",
        &bound,
    ]);
    // The case, the recovery and two resets each have the bound; a hold has its own.
    let mut limit = bound_ms.saturating_mul(6).saturating_add(10_000);
    if hold {
        argv.push("--hold".to_owned());
        limit = limit.saturating_add(HOLD_MS);
    }
    let result = tool::run(&argv, "", limit, stop).map_err(system("hostile"))?;
    let report = result
        .output
        .lines()
        .find_map(|line| serde_json::from_str(line).ok());
    match report {
        Some(report) => Ok(Outcome::Hostile(report)),
        None if result.timed_out => Err(timeout(format!("{case}: no end after {limit} ms"))),
        None => Err(bad_order(result.output.trim().to_owned())),
    }
}
