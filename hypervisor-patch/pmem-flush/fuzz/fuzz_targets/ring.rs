// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! A whole device against a guest that writes any bytes into its memory and
//! kicks: the device must answer or ask for its reset, and be fit for pause and
//! reset afterwards.
#![no_main]

use std::cell::RefCell;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use pmem_flush::test_utils::{Desc, GuestDriver, PATIENCE, TestDevice};
use pmem_flush::{DeviceState, EngineConfig, WorkerSeccomp};

const SIZE: u16 = 16;

fn device() -> TestDevice {
    let config = EngineConfig {
        // The fuzzer's own instrumentation makes calls of its own.
        seccomp: WorkerSeccomp::Off,
        ..EngineConfig::new("pmem0")
    };
    TestDevice::new(config, tempfile::tempfile().expect("file"), SIZE)
}

thread_local! {
    static DEVICE: RefCell<TestDevice> = RefCell::new(device());
}

/// One act of the guest or of the management for every three bytes.
fn act(device: &mut TestDevice, act: &[u8]) {
    let (kind, a, b) = (act[0], act[1], act[2]);
    let index = u16::from(a);
    match kind % 10 {
        0 => device.driver.publish(index % (SIZE + 2)),
        1 => {
            let head = device.driver.build(index, 0);
            device.driver.publish(head);
        }
        2 => device.driver.set_avail_index(u16::from_le_bytes([a, b])),
        3 => {
            let address = GuestDriver::buffer(index) + 4 * u64::from(b % 4);
            let flags = u16::from(b >> 4);
            let desc = Desc(address, 4, flags, u16::from(b % 16));
            device.driver.set_desc(index % SIZE, desc);
        }
        4 => device.driver.set_request(index % SIZE, b.into()),
        5 => device.kick(),
        6 => device.catch_up(),
        7 => device.engine.begin_drain(Instant::now() + PATIENCE),
        8 => device.engine.resume(),
        _ => device.reactivate(),
    }
}

fn run(device: &mut TestDevice, data: &[u8]) {
    device.reactivate();
    for bytes in data.chunks_exact(3).take(64) {
        act(device, bytes);
    }
    device.engine.resume();
    device.kick();
    // Whatever is popped is answered; then it can be paused.
    device.engine.begin_drain(Instant::now() + PATIENCE);
    while device.engine.device_state() == DeviceState::Draining {
        device.wake();
    }
    assert_eq!(device.engine.counters().in_flight, 0);
    device.engine.resume();
    // A reset makes it as good as new.
    device.reactivate();
    let head = device.publish(0, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(head), 0);
    // One device serves millions of inputs: what it logged must not pile up.
    device.events.take();
}

fuzz_target!(|data: &[u8]| DEVICE.with_borrow_mut(|device| run(device, data)));
