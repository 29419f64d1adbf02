// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `engine-bench N`: N flushes, one after the other, over a storage that is always done; prints
//! how often memory was allocated meanwhile. For an instruction count under callgrind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine_bench::{Engine, Instant};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let Some(count) = env::args().nth(1).and_then(|text| text.parse::<u64>().ok()) else {
        eprintln!("usage: engine-bench NUMBER-OF-FLUSHES");
        return ExitCode::FAILURE;
    };
    let mut engine = match Engine::unfiltered(Arc::new(Instant)) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("engine-bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Thread-locals, and room that is kept.
    for _ in 0..32 {
        engine.flush(1);
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..count {
        engine.flush(1);
    }
    println!("{}", ALLOCATIONS.load(Ordering::Relaxed) - before);
    ExitCode::SUCCESS
}
