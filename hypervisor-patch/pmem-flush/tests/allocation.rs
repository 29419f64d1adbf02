// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! In steady state no thread allocates for a flush.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pmem_flush::test_utils::{GuestDriver, Interrupts, PATIENCE, is_readable};
use pmem_flush::{Activation, EngineConfig, FlushEngine, Identity};
use vm_memory::GuestMemoryAtomic;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steady_state_allocates_nothing() {
    let mut driver = GuestDriver::new(64);
    let file = Arc::new(tempfile::tempfile().unwrap());
    let engine = FlushEngine::new(EngineConfig::new("pmem0"), file, Arc::new(())).unwrap();
    let activation = Activation {
        memory: GuestMemoryAtomic::new(driver.memory().clone()),
        queue: driver.queue(),
        queue_evt: EventFd::new(EFD_NONBLOCK).unwrap(),
        translate: Identity,
        signal: Arc::new(Interrupts::default()),
    };
    let mut queue = engine.activate(activation).unwrap();
    let mut run = |batches: u16| {
        for batch in 0..batches {
            for n in 0..16 {
                driver.flush(batch.wrapping_mul(16).wrapping_add(n));
            }
            queue.queue_evt().write(1).unwrap();
            queue.on_queue_event();
            while driver.used_index() != driver.avail_index() {
                assert!(is_readable(queue.wake_evt(), PATIENCE));
                queue.on_wake_event();
            }
            let mut answered = 0;
            while driver.next_used() == Some((2 * answered + 32 * (u32::from(batch) % 2), 4)) {
                answered += 1;
            }
            assert_eq!(answered, 16);
        }
    };
    // Thread-locals, and room that is kept.
    run(2);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    run(200);
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    assert_eq!(after - before, 0);
    assert_eq!(engine.counters().flushes, 202 * 16);
}
