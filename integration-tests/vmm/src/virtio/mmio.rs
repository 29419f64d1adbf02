// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The virtio-mmio transport, version 2, with one queue (virtio 1.4, 4.2.2).
//!
//! Everything here is chosen by the guest. A wrong access is ignored, a wrong step of the
//! driver does not take effect, and a queue that cannot work sets DEVICE_NEEDS_RESET.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pmem_flush::Signal;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::line::{Line, status};
use super::registers as reg;
use crate::vm::VmError;

/// The largest queue the device takes.
pub const QUEUE_SIZE_MAX: u16 = 256;

/// The device behind the transport.
pub trait Device: Send {
    /// The virtio device type.
    fn device_type(&self) -> u32;
    /// The feature bits it offers.
    fn features(&self) -> u64;
    /// Its configuration space, once the driver has taken `features`.
    fn config(&self, features: u64) -> Vec<u8>;
    /// Base and length of shared memory region `id`.
    fn shared_memory(&self, id: u32) -> Option<(u64, u64)>;
    /// The driver has set it up: the queue is valid.
    ///
    /// # Errors
    /// It cannot work; the driver will be told to reset it.
    fn activate(&mut self, queue: Queue, kick: EventFd, line: Arc<Line>) -> Result<(), VmError>;
    /// The driver resets it. Never waits for storage.
    fn reset(&mut self);
}

/// The transport's registers, as a snapshot keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct MmioState {
    pub(super) status: u32,
    interrupt_status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    shm_select: u32,
    config_generation: u32,
    queue: QueueRegisters,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct QueueRegisters {
    size: u32,
    ready: bool,
    desc: u64,
    driver: u64,
    device: u64,
}

/// One register window.
pub struct Mmio<D> {
    device: D,
    ram: GuestMemoryMmap,
    line: Arc<Line>,
    kick: EventFd,
    regs: MmioState,
    active: bool,
}

impl<D: Device> Mmio<D> {
    /// A window to a device that was reset.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn new(device: D, ram: GuestMemoryMmap, line: Line) -> Result<Self, VmError> {
        let mut mmio = Self {
            device,
            ram,
            line: Arc::new(line),
            kick: EventFd::new(EFD_NONBLOCK)
                .map_err(|e| VmError::Host("cannot create a queue's event descriptor", e))?,
            regs: MmioState::default(),
            active: false,
        };
        mmio.clear();
        Ok(mmio)
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The queue's kick, for an ioeventfd at [`reg::QUEUE_NOTIFY`] with the value 0.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Reads `data.len()` bytes at `offset` in the window.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        #[cfg(feature = "fault")]
        if let Some(byte) = self.line.gone() {
            data.fill(byte);
            return;
        }
        if let Some(at) = offset.checked_sub(reg::CONFIG) {
            self.read_config(at, data);
        } else if data.len() == 4 && offset.is_multiple_of(4) {
            data.copy_from_slice(&self.read_register(offset).to_le_bytes());
        } else {
            log::debug!("virtio-mmio: {}-byte read at {offset:#x}", data.len());
            data.fill(0);
        }
    }

    /// Writes `data` at `offset` in the window.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        #[cfg(feature = "fault")]
        if self.line.gone().is_some() {
            return;
        }
        match <[u8; 4]>::try_from(data) {
            Ok(bytes) if offset.is_multiple_of(4) && offset < reg::CONFIG => {
                self.write_register(offset, u32::from_le_bytes(bytes));
            }
            // The configuration space of a pmem device is read-only.
            _ => log::debug!("virtio-mmio: {}-byte write at {offset:#x}", data.len()),
        }
    }

    /// The registers for a snapshot.
    pub fn save(&self) -> MmioState {
        MmioState {
            status: self.line.status(),
            interrupt_status: self.line.interrupt_status(),
            ..self.regs.clone()
        }
    }

    /// Takes up saved registers and activates the device if it was active. Only on a new
    /// transport. The queue goes on at its used index: every request popped before the
    /// snapshot has been answered.
    ///
    /// # Errors
    /// The state is not one this transport can have been in.
    pub fn restore(&mut self, state: &MmioState) -> Result<(), VmError> {
        let unknown = state.driver_features & !self.device.features();
        if unknown != 0 {
            return Err(VmError::State(format!(
                "a virtio device has features {unknown:#x} that this build does not offer"
            )));
        }
        self.regs = state.clone();
        self.line.set(state.status, state.interrupt_status);
        let live = status::DRIVER_OK | status::FEATURES_OK;
        if state.status & live == live
            && state.status & status::NEEDS_RESET == 0
            && state.queue.ready
        {
            let mut queue = self
                .queue()
                .ok_or_else(|| VmError::State("a virtio queue is not in guest memory".into()))?;
            let next = queue
                .used_idx(&self.ram, Ordering::Acquire)
                .map_err(|e| VmError::State(format!("a virtio queue's used index: {e}")))?
                .0;
            queue.set_next_avail(next);
            queue.set_next_used(next);
            self.start(queue)?;
        }
        Ok(())
    }

    /// Sends an interrupt again that the driver has not acknowledged.
    ///
    /// # Errors
    /// The edge could not be sent.
    pub fn interrupt_again(&self) -> io::Result<()> {
        self.line.interrupt_again()
    }

    fn read_register(&self, offset: u64) -> u32 {
        let selected = self.regs.queue_select == 0;
        let shm = || self.device.shared_memory(self.regs.shm_select);
        match offset {
            reg::MAGIC => reg::MAGIC_VALUE,
            reg::VERSION => reg::VERSION_VALUE,
            reg::DEVICE_ID => self.device.device_type(),
            reg::VENDOR_ID => reg::VENDOR_VALUE,
            reg::DEVICE_FEATURES => half(self.device.features(), self.regs.device_features_select),
            reg::QUEUE_SIZE_MAX if selected => QUEUE_SIZE_MAX.into(),
            reg::QUEUE_READY if selected => self.regs.queue.ready.into(),
            reg::INTERRUPT_STATUS => self.line.interrupt_status(),
            reg::STATUS => self.line.status(),
            // A region that is not there has length and base of all ones (4.2.2).
            reg::SHM_LEN_LOW => half(shm().map_or(u64::MAX, |(_, len)| len), 0),
            reg::SHM_LEN_HIGH => half(shm().map_or(u64::MAX, |(_, len)| len), 1),
            reg::SHM_BASE_LOW => half(shm().map_or(u64::MAX, |(base, _)| base), 0),
            reg::SHM_BASE_HIGH => half(shm().map_or(u64::MAX, |(base, _)| base), 1),
            reg::CONFIG_GENERATION => self.regs.config_generation,
            _ => 0,
        }
    }

    fn read_config(&self, at: u64, data: &mut [u8]) {
        let config = self.device.config(self.regs.driver_features);
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = at
                .checked_add(i)
                .and_then(|at| config.get(at))
                .copied()
                .unwrap_or(0);
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match offset {
            reg::DEVICE_FEATURES_SELECT => self.regs.device_features_select = value,
            reg::DRIVER_FEATURES_SELECT => self.regs.driver_features_select = value,
            reg::DRIVER_FEATURES => self.write_features(value),
            reg::QUEUE_SELECT => self.regs.queue_select = value,
            reg::QUEUE_NOTIFY if value == 0 => {
                // KVM takes this write (ioeventfd) unless the access was emulated.
                if let Err(e) = self.kick.write(1) {
                    log::debug!("virtio-mmio: kick: {e}");
                }
            }
            reg::INTERRUPT_ACK => self.line.acknowledge(value),
            reg::STATUS => self.write_status(value),
            reg::SHM_SELECT => self.regs.shm_select = value,
            reg::QUEUE_READY if self.regs.queue_select == 0 => self.write_ready(value),
            _ => self.write_queue(offset, value),
        }
    }

    /// Features are negotiated before FEATURES_OK (3.1.1).
    fn write_features(&mut self, value: u32) {
        if self.line.status() & (status::FEATURES_OK | status::DRIVER_OK) != 0 {
            log::warn!("virtio-mmio: the driver changes features after it has agreed to them");
            return;
        }
        let features = &mut self.regs.driver_features;
        match self.regs.driver_features_select {
            0 => *features = (*features & !u64::from(u32::MAX)) | u64::from(value),
            1 => *features = (*features & u64::from(u32::MAX)) | u64::from(value) << 32,
            _ => {}
        }
    }

    /// A queue is set up while it is not ready (4.2.2.2).
    fn write_queue(&mut self, offset: u64, value: u32) {
        let queue = &mut self.regs.queue;
        if self.regs.queue_select != 0 || queue.ready {
            log::debug!("virtio-mmio: write of {value:#x} to {offset:#x} ignored");
            return;
        }
        let high = u64::from(value) << 32;
        let low_mask = u64::from(u32::MAX);
        match offset {
            reg::QUEUE_SIZE => queue.size = value,
            reg::QUEUE_DESC_LOW => queue.desc = (queue.desc & !low_mask) | u64::from(value),
            reg::QUEUE_DESC_HIGH => queue.desc = (queue.desc & low_mask) | high,
            reg::QUEUE_DRIVER_LOW => queue.driver = (queue.driver & !low_mask) | u64::from(value),
            reg::QUEUE_DRIVER_HIGH => queue.driver = (queue.driver & low_mask) | high,
            reg::QUEUE_DEVICE_LOW => queue.device = (queue.device & !low_mask) | u64::from(value),
            reg::QUEUE_DEVICE_HIGH => queue.device = (queue.device & low_mask) | high,
            _ => log::debug!("virtio-mmio: write of {value:#x} to {offset:#x} ignored"),
        }
    }

    /// A queue that stops being ready is taken from the device.
    fn write_ready(&mut self, value: u32) {
        let ready = value & 1 != 0;
        if self.active && !ready {
            self.device.reset();
            self.active = false;
        }
        self.regs.queue.ready = ready;
    }

    fn write_status(&mut self, value: u32) {
        let now = self.line.status();
        if value == 0 {
            self.clear();
            return;
        }
        let set = value & status::DRIVER_BITS & !now;
        if now & status::DRIVER_BITS & !value != 0 {
            log::warn!("virtio-mmio: the driver clears status bits: {now:#x} to {value:#x}");
            return;
        }
        if set & status::FEATURES_OK != 0 && !self.features_fit() {
            // The driver reads the bit back and gives up (3.1.1).
            self.line
                .add_status(set & !(status::FEATURES_OK | status::DRIVER_OK));
            return;
        }
        if set & status::DRIVER_OK != 0 && (now | set) & status::FEATURES_OK == 0 {
            log::warn!("virtio-mmio: DRIVER_OK without FEATURES_OK");
            self.line.add_status(set & !status::DRIVER_OK);
            return;
        }
        self.line.add_status(set);
        if set & status::DRIVER_OK != 0 {
            let started = match self.queue() {
                Some(queue) => self.start(queue),
                None => Err(VmError::State("the queue is not set up".into())),
            };
            if let Err(e) = started {
                log::warn!("virtio-mmio: the device cannot start: {e}");
                self.ask_for_reset();
            }
        }
    }

    fn features_fit(&self) -> bool {
        let taken = self.regs.driver_features;
        taken & !self.device.features() == 0 && taken & 1 << VIRTIO_F_VERSION_1 != 0
    }

    /// The queue as the driver has set it up; `None` if it cannot work.
    fn queue(&self) -> Option<Queue> {
        let regs = &self.regs.queue;
        let size = u16::try_from(regs.size).ok()?;
        let mut queue = Queue::new(QUEUE_SIZE_MAX).ok()?;
        queue.try_set_size(size).ok()?;
        queue
            .try_set_desc_table_address(GuestAddress(regs.desc))
            .ok()?;
        queue
            .try_set_avail_ring_address(GuestAddress(regs.driver))
            .ok()?;
        queue
            .try_set_used_ring_address(GuestAddress(regs.device))
            .ok()?;
        queue.set_ready(regs.ready);
        queue.is_valid(&self.ram).then_some(queue)
    }

    fn start(&mut self, queue: Queue) -> Result<(), VmError> {
        let kick = self
            .kick
            .try_clone()
            .map_err(|e| VmError::Host("cannot duplicate a queue's event descriptor", e))?;
        self.device.activate(queue, kick, self.line.clone())?;
        self.active = true;
        Ok(())
    }

    fn ask_for_reset(&self) {
        if let Err(e) = self.line.needs_reset() {
            log::error!("virtio-mmio: cannot interrupt for a change of status: {e}");
        }
    }

    /// The driver's reset: every register back to its first value. A kick that nobody has
    /// taken is forgotten.
    fn clear(&mut self) {
        if self.active {
            self.device.reset();
            self.active = false;
        }
        self.line.reset();
        self.kick.read().ok();
        self.regs = MmioState {
            config_generation: self.regs.config_generation,
            queue: QueueRegisters {
                size: QUEUE_SIZE_MAX.into(),
                ..Default::default()
            },
            ..Default::default()
        };
    }
}

/// The lower or upper 32 bits; nothing beyond.
fn half(value: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
