// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The engine's rules, one test or more for each, by rule.
#![cfg(not(loom))]

mod batches;
mod counters;
mod drain;
mod file;
mod latch;
mod private;
mod reset;
mod restore;

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{ptr, thread};

use pmem_flush::protocol::{STATUS_ERROR, STATUS_OK};
use pmem_flush::test_utils::{
    HeldFile, PATIENCE, PENDING, Recorder, TestDevice, TestQueue, is_readable, within,
};
use pmem_flush::{
    Activation, DeviceState, DrainStatus, EngineConfig, EngineState, Error, Event, FileLock,
    FileStamp, FlushEngine, Identity, LatchCause, LockError, LockKind, PrivateMapping,
    PrivateMemory, SyncErrorPolicy, SyncMode, preallocate, unallocated_bytes,
};
use virtio_queue::QueueT;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::eventfd::EventFd;

const SIZE: u16 = 16;

fn backing() -> File {
    let file = tempfile::tempfile().expect("file");
    file.set_len(0x1_0000).expect("size");
    file
}

fn config() -> EngineConfig {
    EngineConfig::new("pmem0")
}

fn device() -> TestDevice {
    TestDevice::new(config(), backing(), SIZE)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn drain(device: &TestDevice) {
    device.engine.begin_drain(soon());
    device.engine.wait_drain().expect("drained");
}

/// A file on the disk the tests are built on: /tmp may be a tmpfs, which keeps
/// a file's time when its pages are written.
fn disk_file() -> File {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("file");
    file.set_len(0x1_0000).expect("size");
    file
}
