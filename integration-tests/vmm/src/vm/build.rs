// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How a machine is put together: from a configuration, and from a saved state.

use std::sync::{Arc, Mutex};

use kvm_bindings::kvm_clock_data;
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use vm_memory::GuestMemoryMmap;

use super::pause::{Phase, Progress};
use super::watch::Watch;
use super::{ExitNote, Vm, VmError, VmState};
use crate::acpi::{self, MmioDevice};
use crate::boot;
#[cfg(feature = "fault")]
use crate::config::Flaw;
use crate::config::{ConsoleOutputMode, PmemConfig, VmConfig};
use crate::cpu::{self, Bus, FaultCounters, VcpuThreads};
use crate::devices::{Console, DeviceBus, IrqLine, Sci, SerialPort, Window};
use crate::events::EventSink;
use crate::irqchip;
use crate::layout;
use crate::machine::MachineError;
use crate::memory;
use crate::snapshot::Snapshot;
use crate::virtio::QUEUE_NOTIFY;
#[cfg(feature = "fault")]
use crate::virtio::character::{has, remembered};
use crate::virtio::fault::PmemWindow;
use crate::virtio::line::Line;
use crate::virtio::mapping::Mapping;
use crate::virtio::mmio::Mmio;
use crate::virtio::pmem::Pmem;

/// What this VMM needs of KVM.
const NEEDED: [(Cap, &str); 7] = [
    (Cap::Irqchip, "in-kernel interrupt controllers"),
    (Cap::Pit2, "in-kernel timer"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::ImmediateExit, "immediate exit from KVM_RUN"),
    (Cap::AdjustClock, "adjustable clock"),
    (Cap::UserMemory, "user memory slots"),
];

impl Vm {
    /// A machine whose guest runs.
    ///
    /// # Errors
    /// Names the file, option or device that does not fit.
    pub fn boot(config: &VmConfig, events: &Arc<dyn EventSink>) -> Result<Self, VmError> {
        let parts = Parts::new(config)?;
        let devices: Vec<_> = (0..config.pmem.len()).map(mmio_device).collect();
        let has_serial = config.serial.mode != ConsoleOutputMode::Off;
        let rsdp = acpi::write(&parts.ram, config.cpus.boot_vcpus, has_serial, &devices)?;
        let entry = boot::load(&config.payload, &parts.ram, config.memory.size, rsdp)?;
        cpu::write_boot_tables(&parts.ram)?;
        for (id, fd) in (0..).zip(&parts.vcpus) {
            if id == 0 {
                cpu::prepare_boot_processor(fd, entry)?;
            } else {
                cpu::prepare_application_processor(fd, id)?;
            }
        }
        let mut vm = parts.assemble(config, events, None)?;
        vm.vcpus.run();
        vm.phase = Phase::Running;
        Ok(vm)
    }

    /// A paused machine, as it was when `snapshot` was taken. A pmem file that has moved on
    /// since then is refused unless `allow_stale`.
    ///
    /// # Errors
    /// Names the file or device that does not fit.
    pub fn restore(
        snapshot: &Snapshot,
        allow_stale: bool,
        events: &Arc<dyn EventSink>,
    ) -> Result<Self, MachineError> {
        let config = snapshot.config();
        let saved: VmState = snapshot.machine()?;
        saved.check(config)?;
        let parts = Parts::new(config)?;
        let ram = memory::as_file(&parts.ram)
            .map_err(|e| VmError::Host("cannot duplicate guest memory's descriptor", e))?;
        // Before the devices: they read their queues' indices from it.
        snapshot.fill(&ram)?;
        let mut vm = parts.assemble(config, events, Some((&saved, allow_stale)))?;
        vm.put(&saved)?;
        Ok(vm)
    }
}

/// The register window of device number `index`.
fn mmio_device(index: usize) -> MmioDevice {
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    MmioDevice {
        base: layout::VIRTIO_MMIO + u64::from(number) * layout::VIRTIO_MMIO_STRIDE,
        len: layout::VIRTIO_MMIO_STRIDE,
        gsi: layout::VIRTIO_MMIO_GSI + number,
    }
}

/// Whether a vCPU may wait for a page of a file.
fn needs_watch(config: &VmConfig) -> bool {
    #[cfg(feature = "fault")]
    if config.pmem.iter().any(|pmem| has(pmem, Flaw::Unwatched)) {
        return false;
    }
    !config.pmem.is_empty()
}

/// What a machine is made of before it has devices.
struct Parts {
    kvm: Kvm,
    vm: Arc<VmFd>,
    ram: GuestMemoryMmap,
    vcpus: Vec<VcpuFd>,
    address_limit: u64,
}

impl Parts {
    fn new(config: &VmConfig) -> Result<Self, VmError> {
        if config.pmem.len() > layout::VIRTIO_MMIO_MAX {
            return Err(VmError::TooManyDevices(
                config.pmem.len(),
                layout::VIRTIO_MMIO_MAX,
            ));
        }
        let kvm = Kvm::new().map_err(|e| VmError::Kvm("opening /dev/kvm", e))?;
        if let Some((_, what)) = NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(VmError::Missing(what));
        }
        let vm = kvm
            .create_vm()
            .map_err(|e| VmError::Kvm("KVM_CREATE_VM", e))?;
        irqchip::create(&vm)?;
        let ram = memory::allocate(config.memory.size)?;
        memory::register(&vm, &ram)?;
        let count = config.cpus.boot_vcpus;
        let mut address_limit = u64::MAX;
        let mut vcpus = Vec::with_capacity(count.into());
        for id in 0..count {
            let fd = vm
                .create_vcpu(id.into())
                .map_err(|e| VmError::Vcpu(id, "KVM_CREATE_VCPU", e))?;
            let cpuid = cpu::guest_cpuid(&kvm, id, count)?;
            address_limit = cpu::address_limit(&cpuid);
            fd.set_cpuid2(&cpuid)
                .map_err(|e| VmError::Vcpu(id, "KVM_SET_CPUID2", e))?;
            vcpus.push(fd);
        }
        Ok(Self {
            kvm,
            vm: Arc::new(vm),
            ram,
            vcpus,
            address_limit,
        })
    }

    /// Adds the devices, new or as they were saved (and whether a stale file may pass).
    /// The vCPUs are parked.
    fn assemble(
        self,
        config: &VmConfig,
        events: &Arc<dyn EventSink>,
        saved: Option<(&VmState, bool)>,
    ) -> Result<Vm, VmError> {
        let mut console = Console::open(&config.serial, saved.is_some())?;
        let serial = if config.serial.mode == ConsoleOutputMode::Off {
            None
        } else {
            let irq = IrqLine::new(&self.vm, layout::SERIAL_GSI)?;
            let state = saved.and_then(|(state, _)| state.serial.as_ref());
            let port = Arc::new(SerialPort::new(irq, console.wire(), state)?);
            console.start(&port)?;
            Some(port)
        };

        let mut windows = Vec::new();
        let mut pmem_windows = Vec::new();
        let mut next = memory::pmem_window(config.memory.size);
        for (index, pmem) in config.pmem.iter().enumerate() {
            let saved = saved.and_then(|(state, stale)| Some((state.pmem.get(index)?, stale)));
            let size = pmem.size.or(saved.map(|(state, _)| state.device.size));
            let mapping = Mapping::open(&PmemConfig {
                size,
                ..pmem.clone()
            })?;
            let base = next;
            next = self.check_fits(pmem, base, mapping.size())?;
            if let Some((state, _)) = saved {
                state.check(base, mapping.size())?;
            }
            let slot = memory::RAM_SLOTS + u32::try_from(index).unwrap_or(u32::MAX);
            mapping.register(&self.vm, slot, base)?;
            let saved_device = saved.map(|(state, stale)| (&state.device, stale));
            let device = Pmem::new(pmem, mapping, base, &self.ram, events, saved_device)?;
            pmem_windows.push(PmemWindow {
                id: pmem.id.clone(),
                path: pmem.file.clone(),
                base,
                mapping: device.mapping().clone(),
            });

            let place = mmio_device(index);
            let line = Line::new(IrqLine::new(&self.vm, place.gsi)?);
            let mut mmio = Mmio::new(device, self.ram.clone(), line)?;
            if let Some((state, _)) = saved {
                #[cfg(feature = "fault")]
                mmio.restore(&remembered(pmem, &state.transport))?;
                #[cfg(not(feature = "fault"))]
                mmio.restore(&state.transport)?;
            }
            self.vm
                .register_ioevent(
                    mmio.kick(),
                    &IoEventAddress::Mmio(place.base + QUEUE_NOTIFY),
                    0u32,
                )
                .map_err(|e| VmError::Kvm("KVM_IOEVENTFD", e))?;
            windows.push(Window {
                base: place.base,
                mmio: Mutex::new(mmio),
            });
        }

        let pm = saved.map_or_else(Default::default, |(state, _)| state.pm.clone());
        let sci = Sci::new(self.vm.clone());
        let bus = Arc::new(DeviceBus::new(serial, pm, sci, windows, pmem_windows));
        let exit = Arc::new(ExitNote::new()?);
        let progress = Progress::new(bus.windows())?;
        let for_vcpus: Arc<dyn Bus> = bus.clone();
        let counters: Result<Vec<_>, _> = self.vcpus.iter().map(FaultCounters::open).collect();
        let vcpus = VcpuThreads::start(self.vcpus, &for_vcpus, progress.event(), &exit)?;
        let watch = match counters {
            _ if !needs_watch(config) => None,
            Ok(counters) => Some(Watch::start(counters, vcpus.probe())?),
            Err(e) => {
                log::warn!("a guest that starves for a page of its file will not be noticed: {e}");
                None
            }
        };
        Ok(Vm {
            _watch: watch,
            vcpus,
            _console: console,
            bus,
            exit,
            progress,
            phase: Phase::Paused,
            sync_failure: None,
            clock: kvm_clock_data::default(),
            ram: self.ram,
            vm: self.vm,
            kvm: self.kvm,
        })
    }

    /// Checks that a device fits at `base`; returns where the next one goes.
    fn check_fits(&self, pmem: &PmemConfig, base: u64, size: u64) -> Result<u64, VmError> {
        base.checked_add(size)
            .filter(|end| *end <= self.address_limit)
            .map(|end| end.next_multiple_of(layout::PMEM_ALIGN))
            .ok_or_else(|| VmError::PmemTooLarge {
                id: pmem.id.clone(),
                size,
                limit: self.address_limit,
            })
    }
}
