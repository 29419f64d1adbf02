// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use proptest::collection::vec;
use proptest::prelude::*;
use vm_memory::Bytes;

use super::super::line::{INTERRUPT_CONFIG, INTERRUPT_USED};
use super::*;
use crate::devices::IrqLine;

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const SHMEM: u64 = 1;
const ALL: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;

#[derive(Default)]
struct Fake {
    started: Vec<(u16, u16)>,
    resets: usize,
}

impl Device for Fake {
    fn device_type(&self) -> u32 {
        27
    }
    fn features(&self) -> u64 {
        VERSION_1 | SHMEM
    }
    fn config(&self, features: u64) -> Vec<u8> {
        vec![u8::from(features & SHMEM == 0); 16]
    }
    fn shared_memory(&self, id: u32) -> Option<(u64, u64)> {
        (id == 0).then_some((0x1_2345_6789, 0x2_0000_0000))
    }
    fn activate(&mut self, queue: Queue, _: EventFd, _: Arc<Line>) -> Result<(), VmError> {
        self.started.push((queue.next_avail(), queue.next_used()));
        Ok(())
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
}

fn mmio() -> Mmio<Fake> {
    let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    Mmio::new(Fake::default(), ram, Line::new(IrqLine::loose())).unwrap()
}

fn read(mmio: &Mmio<Fake>, offset: u64) -> u32 {
    let mut data = [0xff; 4];
    mmio.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write(mmio: &mut Mmio<Fake>, offset: u64, value: u32) {
    mmio.write(offset, &value.to_le_bytes());
}

fn take_features(mmio: &mut Mmio<Fake>, features: u64) {
    for select in [0, 1] {
        write(mmio, reg::DRIVER_FEATURES_SELECT, select);
        write(mmio, reg::DRIVER_FEATURES, half(features, select));
    }
}

fn set_up_queue(mmio: &mut Mmio<Fake>, size: u32, desc: u32) {
    write(mmio, reg::QUEUE_SELECT, 0);
    write(mmio, reg::QUEUE_SIZE, size);
    write(mmio, reg::QUEUE_DESC_LOW, desc);
    write(mmio, reg::QUEUE_DRIVER_LOW, 0x2000);
    write(mmio, reg::QUEUE_DEVICE_LOW, 0x3000);
    write(mmio, reg::QUEUE_READY, 1);
}

fn live() -> Mmio<Fake> {
    let mut mmio = mmio();
    write(&mut mmio, reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
    take_features(&mut mmio, VERSION_1 | SHMEM);
    write(&mut mmio, reg::STATUS, ALL & !status::DRIVER_OK);
    set_up_queue(&mut mmio, 128, 0x1000);
    write(&mut mmio, reg::STATUS, ALL);
    mmio
}

#[test]
fn a_driver_that_keeps_the_order_starts_the_device_once() {
    let mut mmio = live();
    assert_eq!(read(&mmio, reg::STATUS), ALL);
    write(&mut mmio, reg::STATUS, ALL);
    assert_eq!(mmio.device.started, [(0, 0)]);
}

#[test]
fn the_window_says_what_it_is() {
    let mmio = mmio();
    assert_eq!(read(&mmio, reg::MAGIC), 0x7472_6976);
    assert_eq!(read(&mmio, reg::VERSION), 2);
    assert_eq!(read(&mmio, reg::DEVICE_ID), 27);
    assert_eq!(read(&mmio, reg::QUEUE_SIZE_MAX), 256);
}

#[test]
fn region_0_is_the_only_shared_memory() {
    let mut mmio = mmio();
    let region = |mmio: &Mmio<Fake>| {
        [
            reg::SHM_BASE_HIGH,
            reg::SHM_BASE_LOW,
            reg::SHM_LEN_HIGH,
            reg::SHM_LEN_LOW,
        ]
        .map(|offset| read(mmio, offset))
    };
    assert_eq!(region(&mmio), [1, 0x2345_6789, 2, 0]);
    write(&mut mmio, reg::SHM_SELECT, 1);
    assert_eq!(region(&mmio), [u32::MAX; 4]);
}

#[test]
fn features_beyond_the_offered_or_without_version_1_are_not_agreed_to() {
    for features in [VERSION_1 | 1 << 28, SHMEM, 0] {
        let mut mmio = mmio();
        write(&mut mmio, reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        take_features(&mut mmio, features);
        write(&mut mmio, reg::STATUS, ALL & !status::DRIVER_OK);
        assert_eq!(read(&mmio, reg::STATUS) & status::FEATURES_OK, 0);
    }
}

#[test]
fn features_are_fixed_once_agreed_to() {
    let mut mmio = live();
    take_features(&mut mmio, VERSION_1);
    assert_eq!(mmio.regs.driver_features, VERSION_1 | SHMEM);
    let mut config = [9; 1];
    mmio.read(reg::CONFIG, &mut config);
    assert_eq!(config, [0], "the configuration follows the features");
}

#[test]
fn driver_ok_needs_features_ok() {
    let mut mmio = mmio();
    set_up_queue(&mut mmio, 128, 0x1000);
    write(
        &mut mmio,
        reg::STATUS,
        status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK,
    );
    assert_eq!(read(&mmio, reg::STATUS) & status::DRIVER_OK, 0);
    assert!(mmio.device.started.is_empty());
}

#[test]
fn a_queue_that_cannot_work_needs_a_reset() {
    // Outside RAM, across its end, misaligned, no size, a size that is no power of 2, one
    // that is too large, and one that only looks right in its low 16 bits.
    for (size, desc) in [
        (128, 0xf000_0000),
        (128, 0xf_fff0),
        (128, 0x1001),
        (0, 0x1000),
        (100, 0x1000),
        (512, 0x1000),
        (0x1_0080, 0x1000),
    ] {
        let mut mmio = mmio();
        write(&mut mmio, reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        take_features(&mut mmio, VERSION_1);
        write(&mut mmio, reg::STATUS, ALL & !status::DRIVER_OK);
        set_up_queue(&mut mmio, size, desc);
        write(&mut mmio, reg::STATUS, ALL);
        assert_eq!(read(&mmio, reg::STATUS), ALL | status::NEEDS_RESET);
        assert_eq!(read(&mmio, reg::INTERRUPT_STATUS), INTERRUPT_CONFIG);
        assert_eq!(mmio.line.edges(), 1);
        assert!(mmio.device.started.is_empty(), "{size} {desc:#x}");
        write(&mut mmio, reg::STATUS, 0);
        assert_eq!(read(&mmio, reg::STATUS), 0);
    }
}

#[test]
fn a_queue_that_is_not_ready_needs_a_reset() {
    let mut mmio = mmio();
    take_features(&mut mmio, VERSION_1);
    write(&mut mmio, reg::STATUS, ALL);
    assert_eq!(read(&mmio, reg::STATUS), ALL | status::NEEDS_RESET);
}

#[test]
fn a_ready_queue_does_not_move() {
    let mut mmio = live();
    let before = mmio.save();
    for offset in [reg::QUEUE_SIZE, reg::QUEUE_DESC_LOW, reg::QUEUE_DEVICE_HIGH] {
        write(&mut mmio, offset, 0x8000);
    }
    assert_eq!(mmio.save(), before);
}

#[test]
fn a_queue_beyond_the_last_is_not_there() {
    let mut mmio = live();
    let before = mmio.save().queue;
    for select in [1, 0xffff, u32::MAX] {
        write(&mut mmio, reg::QUEUE_SELECT, select);
        assert_eq!(read(&mmio, reg::QUEUE_SIZE_MAX), 0);
        assert_eq!(read(&mmio, reg::QUEUE_READY), 0);
        write(&mut mmio, reg::QUEUE_READY, 0);
        write(&mut mmio, reg::QUEUE_DESC_LOW, 0);
    }
    assert_eq!(mmio.save().queue, before);
    assert_eq!(mmio.device.resets, 0);
}

#[test]
fn a_reset_takes_everything_back() {
    let mut mmio = live();
    mmio.line.used().unwrap();
    mmio.kick.write(1).unwrap();
    write(&mut mmio, reg::STATUS, 0);
    assert_eq!(mmio.device.resets, 1);
    assert_eq!(mmio.save(), self::mmio().save());
    assert!(mmio.kick.read().is_err(), "an old kick is forgotten");
    write(&mut mmio, reg::STATUS, 0);
    assert_eq!(mmio.device.resets, 1, "an idle device is not reset again");
}

#[test]
fn a_queue_made_unready_is_taken_from_the_device() {
    let mut mmio = live();
    write(&mut mmio, reg::QUEUE_READY, 0);
    assert_eq!(mmio.device.resets, 1);
    assert_eq!(read(&mmio, reg::QUEUE_READY), 0);
}

#[test]
fn status_bits_are_not_cleared_one_by_one_and_needs_reset_is_the_devices() {
    let mut mmio = live();
    write(&mut mmio, reg::STATUS, status::ACKNOWLEDGE);
    assert_eq!(read(&mmio, reg::STATUS), ALL);
    write(&mut mmio, reg::STATUS, ALL | status::NEEDS_RESET);
    assert_eq!(read(&mmio, reg::STATUS), ALL);
    mmio.line.needs_reset().unwrap();
    write(&mut mmio, reg::STATUS, ALL | status::FAILED);
    assert_eq!(
        read(&mmio, reg::STATUS),
        ALL | status::NEEDS_RESET | status::FAILED
    );
}

#[test]
fn an_interrupt_stays_until_acknowledged() {
    let mut mmio = live();
    mmio.line.used().unwrap();
    mmio.line.interrupt(INTERRUPT_CONFIG).unwrap();
    write(&mut mmio, reg::INTERRUPT_ACK, INTERRUPT_USED);
    assert_eq!(read(&mmio, reg::INTERRUPT_STATUS), INTERRUPT_CONFIG);
}

#[test]
fn accesses_of_a_wrong_width_or_alignment_do_nothing() {
    let mut mmio = live();
    let before = mmio.save();
    for len in [0, 1, 2, 3, 5, 8, 16] {
        mmio.write(reg::STATUS, &vec![0; len]);
        let mut data = vec![0xff; len];
        mmio.read(reg::MAGIC, &mut data);
        assert!(data.iter().all(|byte| *byte == 0));
    }
    for offset in [1, 2, 3] {
        mmio.write(reg::STATUS + offset, &[0; 4]);
    }
    assert_eq!(mmio.save(), before);
}

#[test]
fn the_configuration_space_ends_and_is_read_only() {
    let mut mmio = mmio();
    mmio.write(reg::CONFIG, &[7; 8]);
    let mut data = [9; 8];
    mmio.read(reg::CONFIG + 12, &mut data);
    assert_eq!(data, [1, 1, 1, 1, 0, 0, 0, 0]);
    mmio.read(u64::MAX, &mut data);
    assert_eq!(data, [0; 8]);
}

#[test]
fn a_restored_queue_goes_on_at_its_used_index() {
    let old = live();
    let saved = serde_json::to_string(&old.save()).unwrap();
    let mut new = mmio();
    new.ram.write_obj(77u16, GuestAddress(0x3002)).unwrap();
    new.restore(&serde_json::from_str(&saved).unwrap()).unwrap();
    assert_eq!(new.device.started, [(77, 77)]);
    assert_eq!(new.save(), old.save());
}

#[test]
fn a_device_that_needs_a_reset_is_restored_so() {
    let old = live();
    old.line.needs_reset().unwrap();
    let mut new = mmio();
    new.restore(&old.save()).unwrap();
    assert!(new.device.started.is_empty());
    assert_eq!(read(&new, reg::STATUS), ALL | status::NEEDS_RESET);
    write(&mut new, reg::STATUS, 0);
    assert_eq!(read(&new, reg::STATUS), 0);
}

#[test]
fn a_state_this_transport_cannot_have_is_refused() {
    let mut state = live().save();
    state.driver_features |= 1 << 40;
    assert!(mmio().restore(&state).is_err());
    let mut state = live().save();
    state.queue.desc = 1 << 40;
    assert!(mmio().restore(&state).is_err());
}

proptest! {
    #[test]
    fn no_sequence_of_accesses_breaks_the_transport(
        accesses in vec((0u64..0x110, any::<u32>(), any::<bool>(), 0usize..9), 0..200)
    ) {
        let mut mmio = mmio();
        for (offset, value, is_write, len) in accesses {
            let value = if value & 1 == 0 { value & 0xcf } else { value };
            if is_write {
                let bytes = [value.to_le_bytes(), [0; 4]].concat();
                let len = if len == 8 { 4 } else { len };
                mmio.write(offset & !3, &bytes[..len]);
            } else {
                mmio.read(offset, &mut vec![0; len]);
            }
            let now = read(&mmio, reg::STATUS);
            prop_assert!(now & status::DRIVER_OK == 0 || now & status::FEATURES_OK != 0);
        }
        write(&mut mmio, reg::STATUS, 0);
        prop_assert_eq!(read(&mmio, reg::STATUS), 0);
        let device = &mmio.device;
        prop_assert_eq!(device.started.len(), device.resets);
    }
}
