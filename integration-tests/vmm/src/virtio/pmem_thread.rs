// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The thread that works a pmem device's queue: it waits for kicks and for the engine, and
//! never for storage.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use pmem_flush::{FlushQueue, Identity};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::line::Line;
use crate::vm::VmError;

/// An activation's queue, as the thread works it.
pub trait QueueWork: Send {
    /// The queue's kick.
    fn queue_evt(&self) -> &EventFd;
    /// Readable when the device itself has something to do.
    fn wake_evt(&self) -> Option<&EventFd>;
    /// The guest has kicked the queue. Reads the event.
    fn on_queue_event(&mut self);
    /// [`Self::wake_evt`] is readable. Reads the event.
    fn on_wake_event(&mut self);
    /// False for a queue that takes the thread with it.
    #[cfg(feature = "fault")]
    fn is_bearable(&self) -> bool {
        true
    }
}

impl QueueWork for FlushQueue<Arc<GuestMemoryMmap>, Identity, Arc<Line>> {
    fn queue_evt(&self) -> &EventFd {
        Self::queue_evt(self)
    }

    fn wake_evt(&self) -> Option<&EventFd> {
        Some(Self::wake_evt(self))
    }

    fn on_queue_event(&mut self) {
        Self::on_queue_event(self);
    }

    fn on_wake_event(&mut self) {
        Self::on_wake_event(self);
    }
}

/// Takes a notification of the driver; false if nobody answers it any more.
pub type Kicked = Box<dyn Fn() -> bool + Send>;

const TOKEN_BELL: u64 = 0;
const TOKEN_KICK: u64 = 1;
const TOKEN_WAKE: u64 = 2;

enum Order {
    Attach(Box<dyn QueueWork>),
    Detach,
    End,
}

/// The thread's handle; dropping it ends the thread.
pub struct PmemThread {
    orders: Sender<Order>,
    bell: Arc<EventFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl PmemThread {
    /// Starts the thread of the device `id`, with no queue. `kicked` takes each notification
    /// first; if it says false, the queue is worked no more.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn start(id: &str, kicked: Kicked) -> Result<Self, VmError> {
        let error = |e| VmError::Host("cannot start a pmem device's thread", e);
        let bell = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(error)?);
        let epoll = Epoll::new().map_err(error)?;
        let watch = EpollEvent::new(EventSet::IN, TOKEN_BELL);
        epoll
            .ctl(ControlOperation::Add, bell.as_raw_fd(), watch)
            .map_err(error)?;
        let (orders, inbox) = channel();
        let (for_thread, name) = (bell.clone(), id.to_owned());
        let thread = thread::Builder::new()
            .name(format!("pmem-{id}"))
            .spawn(move || serve(&name, &epoll, &for_thread, &inbox, &kicked))
            .map_err(error)?;
        Ok(Self {
            orders,
            bell,
            thread: Some(thread),
        })
    }

    /// Gives the thread a queue.
    pub fn attach(&self, queue: Box<dyn QueueWork>) {
        self.order(Order::Attach(queue));
    }

    /// Takes the queue away.
    pub fn detach(&self) {
        self.order(Order::Detach);
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            log::error!("a pmem device's thread is gone");
        } else if let Err(e) = self.bell.write(1) {
            log::error!("a pmem device's thread cannot be called: {e}");
        }
    }
}

impl Drop for PmemThread {
    fn drop(&mut self) {
        self.order(Order::End);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            log::error!("a pmem device's thread panicked");
        }
    }
}

fn serve(id: &str, epoll: &Epoll, bell: &EventFd, inbox: &Receiver<Order>, kicked: &Kicked) {
    let mut queue: Option<Box<dyn QueueWork>> = None;
    loop {
        let mut events = [EpollEvent::default(); 3];
        let count = match epoll.wait(-1, &mut events) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                log::error!("pmem device {id}: epoll failed: {e}");
                return;
            }
        };
        for event in &events[..count] {
            match (event.data(), queue.as_mut()) {
                (TOKEN_KICK, Some(worked)) => {
                    if kicked() {
                        worked.on_queue_event();
                    } else if let Some(old) = queue.take() {
                        unwatch(epoll, old.as_ref());
                    }
                }
                (TOKEN_WAKE, Some(queue)) => queue.on_wake_event(),
                (TOKEN_BELL, _) => {
                    bell.read().ok();
                    for order in inbox.try_iter() {
                        if let Some(old) = queue.take() {
                            unwatch(epoll, old.as_ref());
                        }
                        match order {
                            Order::Attach(mut new) => {
                                if let Err(e) = watch(epoll, new.as_ref()) {
                                    log::error!("pmem device {id}: cannot watch its queue: {e}");
                                }
                                // The queue before it may have read this one's kick and
                                // wake-up: they share their event descriptors.
                                new.on_queue_event();
                                queue = Some(new);
                            }
                            Order::Detach => {}
                            Order::End => return,
                        }
                    }
                    // What else epoll said was about a queue that may be gone.
                    break;
                }
                _ => {}
            }
            #[cfg(feature = "fault")]
            if queue.as_ref().is_some_and(|queue| !queue.is_bearable()) {
                log::error!("pmem device {id}: its thread ends");
                return;
            }
        }
    }
}

fn watch(epoll: &Epoll, queue: &dyn QueueWork) -> io::Result<()> {
    for (event, token) in events(queue) {
        epoll.ctl(
            ControlOperation::Add,
            event.as_raw_fd(),
            EpollEvent::new(EventSet::IN, token),
        )?;
    }
    Ok(())
}

fn unwatch(epoll: &Epoll, queue: &dyn QueueWork) {
    for (event, _) in events(queue) {
        epoll
            .ctl(
                ControlOperation::Delete,
                event.as_raw_fd(),
                EpollEvent::default(),
            )
            .ok();
    }
}

fn events(queue: &dyn QueueWork) -> impl Iterator<Item = (&EventFd, u64)> {
    let wake = queue.wake_evt().map(|event| (event, TOKEN_WAKE));
    [(queue.queue_evt(), TOKEN_KICK)].into_iter().chain(wake)
}
