// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! One chain of any bytes: reading it and answering it must not panic, and the
//! answer must be one of the three that the protocol has.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use pmem_flush::Identity;
use pmem_flush::protocol::Request;
use pmem_flush::test_utils::{Desc, GuestDriver};
use virtio_queue::QueueOwnedT;

const SIZE: u16 = 32;

thread_local! {
    static DRIVER: RefCell<GuestDriver> = RefCell::new(GuestDriver::new(SIZE));
}

/// The bytes are the first request's type and then descriptors, in a form that
/// makes addresses near the buffers likely.
fn run(driver: &mut GuestDriver, data: &[u8]) {
    let Some((kind, table)) = data.split_first_chunk::<4>() else {
        return;
    };
    driver.reset();
    for index in 0..SIZE {
        driver.set_request(index, u32::from_le_bytes(*kind));
        driver.set_desc(index, Desc(0, 0, 0, 0));
    }
    for (index, bytes) in (0..SIZE).zip(table.chunks_exact(8)) {
        driver.set_desc(index, desc(bytes));
    }
    driver.publish(0);
    let memory = driver.memory();
    let mut queue = driver.queue();
    let mut chains = queue.iter(memory).expect("ring");
    let mut chain = chains.next().expect("chain");
    let request = Request::parse(&mut chain, &Identity);
    assert_eq!(request.head, 0);
    let len = request.answer(memory, true);
    assert!(len == 0 || len == 4);
}

fn desc(bytes: &[u8]) -> Desc {
    let place = u64::from(bytes[0]);
    let address = match bytes[1] % 4 {
        0 => GuestDriver::buffer(bytes[0].into()),
        1 => GuestDriver::buffer(bytes[0].into()) + 8,
        2 => u64::MAX - place,
        _ => 0x3_ff80 + place,
    };
    let len = match bytes[2] % 4 {
        0 => 4,
        1 => u32::from(bytes[3]),
        2 => 16 * u32::from(bytes[3]),
        _ => u32::MAX - u32::from(bytes[3]),
    };
    Desc(address, len, bytes[4].into(), bytes[5].into())
}

fuzz_target!(|data: &[u8]| DRIVER.with_borrow_mut(|driver| run(driver, data)));
