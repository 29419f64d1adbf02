// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The memory map the guest boots with. Persistent memory is not in it: its driver
//! learns of it from the device.

use linux_loader::loader::bootparam::boot_e820_entry;

use crate::layout;
use crate::memory;

/// Memory the guest may use.
const USABLE: u32 = 1;
/// Memory the guest must keep away from.
const RESERVED: u32 = 2;

/// The map of a guest with `ram_size` bytes of RAM.
pub fn map(ram_size: u64) -> Vec<boot_e820_entry> {
    let entry = |addr, end, r#type| boot_e820_entry {
        addr,
        size: end - addr,
        r#type,
    };
    let mut map = vec![
        entry(0, layout::LOW_RAM_END, USABLE),
        // The ACPI tables are here.
        entry(layout::LOW_RAM_END, layout::KERNEL, RESERVED),
    ];
    for (base, size) in memory::regions(ram_size) {
        let start = base.max(layout::KERNEL);
        if base + size > start {
            map.push(entry(start, base + size, USABLE));
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ram_size: u64, kind: u32) -> Vec<(u64, u64)> {
        map(ram_size)
            .iter()
            .filter(|e| e.r#type == kind)
            .map(|e| (e.addr, e.addr + e.size))
            .collect()
    }

    #[test]
    fn the_guest_gets_all_ram_but_the_acpi_tables_place() {
        assert_eq!(
            ranges(5 << 30, USABLE),
            [
                (0, layout::LOW_RAM_END),
                (0x10_0000, layout::HOLE),
                (1 << 32, (1 << 32) + (5 << 30) - layout::HOLE)
            ]
        );
        let reserved = ranges(5 << 30, RESERVED);
        assert!(
            reserved
                .iter()
                .any(|&(start, end)| start <= layout::ACPI && end >= layout::ACPI_END)
        );
    }

    #[test]
    fn ranges_do_not_overlap() {
        for size in [2 << 20, 512 << 20, 3 << 30, 4 << 30, 16u64 << 30] {
            let map = map(size);
            for pair in map.windows(2) {
                assert!(pair[0].addr + pair[0].size <= pair[1].addr);
            }
        }
    }
}
