// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The vCPU threads: asked to run, to park or to end, and never waited for.
//!
//! To interrupt a vCPU, `immediate_exit` is set in its shared page and then a signal is
//! sent: the signal brings it out of the guest, the flag keeps it from entering again
//! when the signal came just before the entry (Documentation/virt/kvm/api.rst, KVM_RUN).

use std::io;
use std::mem;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::run::{Bus, Stop, run};
use super::still::Trial;
use crate::machine::GuestExit;
use crate::vm::{ExitNote, VmError};

/// How long the end of a machine waits for its vCPU threads. One that hangs in the
/// kernel, on storage under a page of the guest, is left behind.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// What a vCPU thread should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Run,
    Park,
    End,
}

/// What a vCPU thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Running,
    Parked,
    Ended,
}

struct Desk {
    order: Order,
    doing: Doing,
    /// It seems to be stuck: have a look at it.
    probe: bool,
}

/// The place where a vCPU's thread and the rest of the VMM meet.
struct Seat {
    id: u8,
    desk: Mutex<Desk>,
    changed: Condvar,
    /// Locked by the thread while it is not parked.
    fd: Mutex<VcpuFd>,
    /// In the page that KVM shares with us for `fd`; lives as long as `fd`.
    immediate_exit: *mut u8,
}

// SAFETY: the pointer is only used for atomic accesses (Seat::set_immediate_exit), and
// its page is unmapped when `fd` drops, with the seat.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

impl Seat {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_immediate_exit(&self, on: bool) {
        // SAFETY: the byte is mapped as long as the seat lives; KVM only reads it, and
        // on our side every access is this one.
        let flag = unsafe { AtomicU8::from_ptr(self.immediate_exit) };
        flag.store(u8::from(on), Ordering::SeqCst);
    }

    /// Brings a running vCPU out of the guest. `thread` is the seat's own.
    fn interrupt(&self, desk: &MutexGuard<'_, Desk>, thread: libc::pthread_t) {
        if desk.doing == Doing::Running {
            self.set_immediate_exit(true);
            // SAFETY: the thread runs, as the desk that we hold says, so it is valid.
            unsafe { libc::pthread_kill(thread, SIGRTMIN()) };
        }
    }
}

/// All vCPUs of a machine and their threads. They start parked.
pub struct VcpuThreads {
    seats: Vec<Arc<Seat>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl VcpuThreads {
    /// Starts a thread for each vCPU. `progress` is written when one parks or ends; `exit`
    /// gets the reason of the first that ended by itself.
    ///
    /// # Errors
    /// The host has no thread left, or no signal can be handled.
    pub fn start(
        fds: Vec<VcpuFd>,
        bus: &Arc<dyn Bus>,
        progress: &Arc<EventFd>,
        exit: &Arc<ExitNote>,
    ) -> Result<Self, VmError> {
        extern "C" fn interrupt(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        register_signal_handler(SIGRTMIN(), interrupt).map_err(|e| {
            VmError::Host(
                "cannot handle the signal that interrupts a vCPU",
                io::Error::from_raw_os_error(e.errno()),
            )
        })?;

        let mut all = Self {
            seats: Vec::with_capacity(fds.len()),
            threads: Vec::with_capacity(fds.len()),
        };
        for (id, mut fd) in (0..).zip(fds) {
            let immediate_exit = ptr::addr_of_mut!(fd.get_kvm_run().immediate_exit);
            let seat = Arc::new(Seat {
                id,
                desk: Mutex::new(Desk {
                    order: Order::Park,
                    doing: Doing::Parked,
                    probe: false,
                }),
                changed: Condvar::new(),
                fd: Mutex::new(fd),
                immediate_exit,
            });
            let (bus, progress, exit) = (bus.clone(), progress.clone(), exit.clone());
            let for_thread = seat.clone();
            let thread = thread::Builder::new()
                .name(format!("vcpu{id}"))
                .spawn(move || serve(&for_thread, &*bus, &progress, &exit))
                .map_err(|e| VmError::Host("cannot start a vCPU thread", e))?;
            all.seats.push(seat);
            all.threads.push(thread);
        }
        Ok(all)
    }

    /// Lets every vCPU run.
    pub fn run(&self) {
        for seat in &self.seats {
            let mut desk = seat.desk();
            if desk.order != Order::End {
                seat.set_immediate_exit(false);
                desk.order = Order::Run;
                seat.changed.notify_all();
            }
        }
    }

    /// What can have a look at a vCPU that seems to be stuck.
    pub fn probe(&self) -> Probe {
        let threads = self.threads.iter().map(JoinHandleExt::as_pthread_t);
        Probe(self.seats.iter().cloned().zip(threads).collect())
    }

    /// Asks every vCPU to park; does not wait.
    pub fn park(&self) {
        self.order(Order::Park);
    }

    /// The vCPUs that are not parked yet.
    pub fn running(&self) -> Vec<u8> {
        self.seats
            .iter()
            .filter(|seat| seat.desk().doing == Doing::Running)
            .map(|seat| seat.id)
            .collect()
    }

    /// Does something with each vCPU, in order. Only when all are parked.
    ///
    /// # Errors
    /// What `work` says.
    pub fn each<T>(
        &self,
        mut work: impl FnMut(&VcpuFd, u8) -> Result<T, VmError>,
    ) -> Result<Vec<T>, VmError> {
        self.seats
            .iter()
            .map(|seat| {
                let fd = seat.fd.lock().unwrap_or_else(PoisonError::into_inner);
                work(&fd, seat.id)
            })
            .collect()
    }

    fn order(&self, order: Order) {
        for (seat, thread) in self.seats.iter().zip(&self.threads) {
            let mut desk = seat.desk();
            desk.order = order;
            seat.interrupt(&desk, thread.as_pthread_t());
            seat.changed.notify_all();
        }
    }
}

/// Has a look at vCPUs that seem to be stuck.
pub struct Probe(Vec<(Arc<Seat>, libc::pthread_t)>);

impl Probe {
    /// Has the vCPU at `index` looked at by its thread. Does not wait, and does nothing to
    /// one that is parked.
    pub fn vcpu(&self, index: usize) {
        if let Some((seat, thread)) = self.0.get(index) {
            let mut desk = seat.desk();
            if desk.order == Order::Run && desk.doing == Doing::Running {
                desk.probe = true;
                seat.interrupt(&desk, *thread);
            }
        }
    }
}

impl Drop for VcpuThreads {
    fn drop(&mut self) {
        self.order(Order::End);
        let deadline = Instant::now() + END_PATIENCE;
        for (seat, thread) in self.seats.iter().zip(mem::take(&mut self.threads)) {
            let mut desk = seat.desk();
            while desk.doing != Doing::Ended {
                let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                    break;
                };
                desk = seat
                    .changed
                    .wait_timeout(desk, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            let ended = desk.doing == Doing::Ended;
            drop(desk);
            if ended && thread.join().is_err() {
                log::error!("the thread of vCPU {} panicked", seat.id);
            } else if !ended {
                log::warn!("vCPU {} does not stop; its thread is left behind", seat.id);
            }
        }
    }
}

/// A vCPU thread's life.
fn serve(seat: &Seat, bus: &dyn Bus, progress: &EventFd, exit: &ExitNote) {
    let settle = |mut desk: MutexGuard<'_, Desk>, doing| {
        desk.doing = doing;
        drop(desk);
        seat.changed.notify_all();
        if let Err(e) = progress.write(1) {
            log::error!("cannot tell that vCPU {} stopped: {e}", seat.id);
        }
    };
    let mut trial = Trial::default();
    loop {
        let mut desk = seat.desk();
        while desk.order == Order::Park {
            desk = seat
                .changed
                .wait(desk)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if desk.order == Order::End {
            return settle(desk, Doing::Ended);
        }
        // Under the lock, with the order to run: whoever asks to park from now on sees
        // that this vCPU has to be interrupted.
        desk.doing = Doing::Running;
        drop(desk);

        let mut fd = seat.fd.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stop = run(&mut fd, seat.id, bus, &mut trial);
        if stop == Stop::Interrupted
            && let Err(e) = trial.end(&fd)
        {
            let what = format!("vCPU {}: cannot stop single-stepping: {e}", seat.id);
            stop = Stop::Exit(GuestExit::Failed(what));
        }
        drop(fd);
        match stop {
            Stop::Exit(reason) => {
                exit.set(reason);
                return settle(seat.desk(), Doing::Ended);
            }
            Stop::Interrupted => {
                let mut desk = seat.desk();
                let probe = mem::take(&mut desk.probe);
                match desk.order {
                    Order::Park => settle(desk, Doing::Parked),
                    Order::Run if probe => {
                        seat.set_immediate_exit(false);
                        drop(desk);
                        let fd = seat.fd.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Err(e) = trial.look(&fd) {
                            log::warn!("vCPU {}: cannot see what it waits for: {e}", seat.id);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
