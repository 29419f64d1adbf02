// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The fourth room: the queue side, which the host's device thread calls. Pops
//! what the guest has made available, pushes answers, interrupts.

use std::io;
use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

use crate::coordinator::{Generation, Popped};
use crate::engine::FlushEngine;
#[cfg(feature = "fault-injection")]
use crate::fault::Fault;
use crate::handshake::Ring;
use crate::protocol::Request;
use crate::signal::Signal;
use crate::translate::Translate;

/// What the transport hands over when the guest's driver has set the device up.
pub struct Activation<M, T, S> {
    /// The guest's memory, e.g. a `GuestMemoryAtomic<GuestMemoryMmap<B>>`.
    pub memory: M,
    /// The request queue, ready. Its size bounds a batch.
    pub queue: Queue,
    /// The queue's kick.
    pub queue_evt: EventFd,
    /// Address translation; [`Identity`](crate::Identity) without an IOMMU.
    pub translate: T,
    /// Interrupts and device status.
    pub signal: S,
}

/// An activation's queue. It lives on the host's device thread, which polls
/// [`Self::queue_evt`] and [`Self::wake_evt`] for input and calls the method of
/// the same name. Neither ever waits for storage or fails. Dropping it is a reset.
pub struct FlushQueue<M: GuestAddressSpace, T: Translate, S: Signal> {
    engine: FlushEngine,
    generation: Generation,
    ring: VirtRing<M, T, S>,
    wake_evt: EventFd,
}

impl<M: GuestAddressSpace, T: Translate, S: Signal> FlushQueue<M, T, S> {
    pub(crate) fn new(
        engine: FlushEngine,
        generation: Generation,
        activation: Activation<M, T, S>,
        wake_evt: EventFd,
        #[cfg(feature = "fault-injection")] fault: Option<Fault>,
    ) -> Self {
        let batch = Vec::with_capacity(usize::from(activation.queue.size()));
        FlushQueue {
            engine,
            generation,
            ring: VirtRing {
                parts: activation,
                batch,
                #[cfg(feature = "fault-injection")]
                fault,
            },
            wake_evt,
        }
    }

    /// The queue's kick, as it was handed over.
    pub fn queue_evt(&self) -> &EventFd {
        &self.ring.parts.queue_evt
    }

    /// Readable when a sync has ended or management has let the device run.
    pub fn wake_evt(&self) -> &EventFd {
        &self.wake_evt
    }

    /// The guest has kicked the queue. Reads the event.
    pub fn on_queue_event(&mut self) {
        clear(&self.ring.parts.queue_evt);
        self.engine.shared().turn(self.generation, &mut self.ring);
    }

    /// [`Self::wake_evt`] is readable. Reads the event.
    pub fn on_wake_event(&mut self) {
        clear(&self.wake_evt);
        self.engine.shared().turn(self.generation, &mut self.ring);
    }

    /// The queue with its indices.
    pub fn queue(&self) -> &Queue {
        &self.ring.parts.queue
    }
}

impl<M: GuestAddressSpace, T: Translate, S: Signal> Drop for FlushQueue<M, T, S> {
    fn drop(&mut self) {
        self.engine.queue_dropped(self.generation);
    }
}

/// Reads an event. One that is not there (the host polls edge-triggered, or has
/// read it) is none the worse: the ring tells what there is to do.
fn clear(event: &EventFd) {
    if let Err(error) = event.read()
        && error.kind() != io::ErrorKind::WouldBlock
    {
        log::warn!("event can't be read: {error}");
    }
}

/// A split virtqueue and the batch that was popped from it.
struct VirtRing<M, T, S> {
    parts: Activation<M, T, S>,
    /// Has room for a queue's size from the start: a flush allocates nothing.
    batch: Vec<Request>,
    #[cfg(feature = "fault-injection")]
    fault: Option<Fault>,
}

impl<M: GuestAddressSpace, T: Translate, S: Signal> VirtRing<M, T, S> {
    /// Pops everything there is now. The chains before a fault are kept.
    fn pop_available(&mut self) -> Result<(), &'static str> {
        let memory = self.parts.memory.memory();
        let queue = &mut self.parts.queue;
        let size = queue.size();
        let available = queue
            .avail_idx(&*memory, Ordering::Acquire)
            .map_err(|_| "available ring is not in memory")?
            .0
            .wrapping_sub(queue.next_avail());
        if available > size {
            return Err("available index is more than a queue's size ahead");
        }
        let mut chains = queue
            .iter(&*memory)
            .map_err(|_| "available ring can't be read")?;
        for _ in 0..available {
            let mut chain = chains.next().ok_or("available ring can't be read")?;
            if chain.head_index() >= size {
                return Err("head index is not in the descriptor table");
            }
            let request = Request::parse(&mut chain, &self.parts.translate);
            if let Some(malformed) = request.malformed {
                log::debug!("malformed request: {malformed}");
            }
            self.batch.push(request);
        }
        Ok(())
    }

    /// With `VIRTIO_F_EVENT_IDX` the guest kicks only when it was asked to.
    fn ask_for_kick(&mut self) -> Result<bool, &'static str> {
        let queue = &mut self.parts.queue;
        if !queue.event_idx_enabled() {
            return Ok(false);
        }
        queue
            .enable_notification(&*self.parts.memory.memory())
            .map_err(|_| "used ring is not in memory")
    }

    fn pop_batch(&mut self) -> Result<(), &'static str> {
        self.pop_available()?;
        if self.batch.is_empty() && self.ask_for_kick()? {
            self.pop_available()?;
        }
        Ok(())
    }

    /// How many requests a batch has that is not closed: none, but for a fault.
    fn left_open(&self) -> usize {
        #[cfg(feature = "fault-injection")]
        if self.fault == Some(Fault::OpenBatch) {
            return self.batch.len();
        }
        0
    }

    /// Answers the batch. True if the guest wants an interrupt.
    fn push_batch(&mut self, flushed: bool) -> Result<bool, &'static str> {
        let memory = self.parts.memory.memory();
        let queue = &mut self.parts.queue;
        for request in &self.batch {
            let (head, len) = (request.head, request.answer(&*memory, flushed));
            queue
                .add_used(&*memory, head, len)
                .map_err(|_| "used ring is not in memory")?;
        }
        queue
            .needs_notification(&*memory)
            .map_err(|_| "available ring is not in memory")
    }

    fn interrupt(&self) {
        if let Err(error) = self.parts.signal.used() {
            log::error!("used ring's interrupt can't be sent: {error}");
        }
    }
}

impl<M: GuestAddressSpace, T: Translate, S: Signal> Ring for VirtRing<M, T, S> {
    fn pop(&mut self) -> Popped {
        let before = self.left_open();
        self.batch.truncate(before);
        let ring_fault = self.pop_batch().err();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let new = &self.batch[before..];
        Popped {
            requests: count(new.len()),
            flushes: count(new.iter().filter(|r| r.is_flush()).count()),
            ring_fault,
        }
    }

    fn push(&mut self, flushed: bool) -> Result<(), &'static str> {
        #[cfg(feature = "fault-injection")]
        let pushed = match self.fault {
            Some(fault) => self.push_faulty(fault, flushed),
            None => self.push_batch(flushed),
        };
        #[cfg(not(feature = "fault-injection"))]
        let pushed = self.push_batch(flushed);
        self.batch.clear();
        if pushed? {
            self.interrupt();
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.batch.clear();
    }

    fn needs_reset(&mut self, reason: &'static str) {
        log::warn!("queue parked until the driver resets the device: {reason}");
        if let Err(error) = self.parts.signal.needs_reset() {
            log::error!("configuration interrupt can't be sent: {error}");
        }
    }

    fn has_more(&self) -> bool {
        self.parts
            .queue
            .avail_idx(&*self.parts.memory.memory(), Ordering::Acquire)
            .is_ok_and(|index| index.0 != self.parts.queue.next_avail())
    }
}

#[cfg(feature = "fault-injection")]
impl<M: GuestAddressSpace, T: Translate, S: Signal> VirtRing<M, T, S> {
    /// Answers the batch as a device of bad character does.
    fn push_faulty(&mut self, fault: Fault, flushed: bool) -> Result<bool, &'static str> {
        if fault == Fault::Silent {
            return Ok(false);
        }
        let memory = self.parts.memory.memory();
        let queue = &mut self.parts.queue;
        for request in &self.batch {
            let len = match fault {
                Fault::Status(status) => request.answer_status(&*memory, status),
                _ => request.answer(&*memory, flushed),
            };
            let (head, len, times) = match fault {
                Fault::Double => (request.head, len, 2),
                // Some other descriptor, which is the head of no request.
                Fault::BadCookie => (request.head.wrapping_add(1) % queue.size(), len, 1),
                Fault::Len0 => (request.head, 0, 1),
                Fault::Silent | Fault::Late(_) | Fault::Status(_) | Fault::OpenBatch => {
                    (request.head, len, 1)
                }
            };
            for _ in 0..times {
                queue
                    .add_used(&*memory, head, len)
                    .map_err(|_| "used ring is not in memory")?;
            }
        }
        Ok(true)
    }
}
