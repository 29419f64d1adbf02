// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The queue side: what the host's device thread calls.

use virtio_queue::Queue;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

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
    parts: Activation<M, T, S>,
    wake_evt: EventFd,
}

impl<M: GuestAddressSpace, T: Translate, S: Signal> FlushQueue<M, T, S> {
    /// The queue's kick, as it was handed over.
    pub fn queue_evt(&self) -> &EventFd {
        &self.parts.queue_evt
    }

    /// Readable when a sync has ended or management has let the device run.
    pub fn wake_evt(&self) -> &EventFd {
        &self.wake_evt
    }

    /// The guest has kicked the queue. Reads the event.
    pub fn on_queue_event(&mut self) {
        todo!()
    }

    /// [`Self::wake_evt`] is readable. Reads the event.
    pub fn on_wake_event(&mut self) {
        todo!()
    }

    /// The queue with its indices.
    pub fn queue(&self) -> &Queue {
        &self.parts.queue
    }
}
