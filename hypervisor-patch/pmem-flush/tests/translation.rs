// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! A device behind a virtio-iommu.
#![cfg(not(loom))]

use std::io;
use std::sync::Arc;

use pmem_flush::protocol::{Malformed, Request};
use pmem_flush::test_utils::{Desc, GuestDriver, NEXT, STATUS_OFFSET, WRITE};
use pmem_flush::{Identity, Translate};
use virtio_queue::QueueOwnedT;
use vm_memory::GuestAddress;

const IOVA: u64 = 0x7000_0000_0000;

/// Maps `IOVA..` to the guest's memory from address 0, up to `end`.
struct Window {
    end: u64,
}

impl Translate for Window {
    fn translate(&self, address: GuestAddress, len: u32) -> io::Result<GuestAddress> {
        let offset = address.0.checked_sub(IOVA);
        offset
            .filter(|offset| offset + u64::from(len) <= self.end)
            .map(GuestAddress)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))
    }
}

/// Parses a flush whose descriptors hold I/O addresses.
fn parse(translate: &impl Translate) -> (GuestDriver, Request) {
    let mut driver = GuestDriver::new(8);
    let head = driver.build(0, 0);
    let buffer = IOVA + GuestDriver::buffer(head);
    driver.set_desc(head, Desc(buffer, 4, NEXT, head + 1));
    driver.set_desc(head + 1, Desc(buffer + STATUS_OFFSET, 4, WRITE, 0));
    driver.publish(head);
    let mut queue = driver.queue();
    let mut chains = queue.iter(driver.memory()).expect("ring");
    let request = Request::parse(&mut chains.next().expect("chain"), translate);
    (driver, request)
}

#[test]
fn descriptors_are_translated() {
    let window: Option<Arc<dyn Translate>> = Some(Arc::new(Window { end: u64::MAX }));
    let (driver, request) = parse(&window);
    assert!(request.is_flush());
    assert_eq!(request.answer(driver.memory(), true), 4);
    assert_eq!(driver.status(0), 0);
}

#[test]
fn rule_07_an_address_without_translation_is_malformed() {
    let (driver, request) = parse(&Identity);
    assert_eq!(request.malformed, Some(Malformed::Unmapped));
    assert_eq!(request.answer(driver.memory(), true), 0);
    // The request is mapped, its status reaches beyond the mapping.
    let end = GuestDriver::buffer(0) + STATUS_OFFSET + 3;
    let (_, request) = parse(&Window { end });
    assert_eq!(request.malformed, Some(Malformed::Unmapped));
}
