// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guests of a few instructions, as bzImages.
//!
//! The header is the boot protocol's (Documentation/arch/x86/boot.rst, version 2.15): one
//! real-mode sector and four of set-up, then the protected-mode part, whose 64-bit entry
//! is at 0x200.

use std::fs::write;
use std::path::Path;

/// Counts at 2 MiB and prints the count's low six bits as a character from '0' on.
const COUNT: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xff, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, // next: inc dword [0x200000]
    0x8b, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, // mov eax, [0x200000]
    0x24, 0x3f, // and al, 0x3f
    0x04, 0x30, // add al, '0'
    0xee, // out dx, al
    0xb9, 0xe8, 0x03, 0x00, 0x00, // mov ecx, 1000
    0xff, 0xc9, // wait: dec ecx
    0x75, 0xfc, // jnz wait
    0xeb, 0xe2, // jmp next
];

/// Asks the keyboard controller for a reset.
const RESET: &[u8] = &[
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al
    0xeb, 0xfe, // jmp $
];

/// Powers off by ACPI: sleep type 5 and sleep enable in PM1 control.
const POWER_OFF: &[u8] = &[
    0x66, 0xba, 0x04, 0x06, // mov dx, 0x604
    0x66, 0xb8, 0x00, 0x34, // mov ax, 0x3400
    0x66, 0xef, // out dx, ax
    0xeb, 0xfe, // jmp $
];

/// Maps the first pmem device (at 4 GiB, for a guest with little RAM) at 3 GiB with the
/// boot page tables, waits until its first byte is not zero, writes a byte at 1 MiB and
/// powers off.
const STORE: &[u8] = &[
    0x48, 0xb8, 0x83, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, // mov rax, 0x1_0000_0083
    0x48, 0x89, 0x04, 0x25, 0x00, 0xe0, 0x00, 0x00, // mov [0xe000], rax
    0x0f, 0x20, 0xd8, // mov rax, cr3
    0x0f, 0x22, 0xd8, // mov cr3, rax
    0xbb, 0x00, 0x00, 0x00, 0xc0, // mov ebx, 0xc0000000
    0x80, 0x3b, 0x00, // wait: cmp byte [rbx], 0
    0x74, 0xfb, // jz wait
    0xc6, 0x83, 0x00, 0x00, 0x10, 0x00, 0x5a, // mov byte [rbx + 0x100000], 0x5a
    0x66, 0xba, 0x04, 0x06, // mov dx, 0x604
    0x66, 0xb8, 0x00, 0x34, // mov ax, 0x3400
    0x66, 0xef, // out dx, ax
    0xeb, 0xfe, // jmp $
];

/// The same, but prints a character when the byte is written, and stays.
const STORE_AND_STAY: &[u8] = &[
    0x48, 0xb8, 0x83, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, // mov rax, 0x1_0000_0083
    0x48, 0x89, 0x04, 0x25, 0x00, 0xe0, 0x00, 0x00, // mov [0xe000], rax
    0x0f, 0x20, 0xd8, // mov rax, cr3
    0x0f, 0x22, 0xd8, // mov cr3, rax
    0xbb, 0x00, 0x00, 0x00, 0xc0, // mov ebx, 0xc0000000
    0x80, 0x3b, 0x00, // wait: cmp byte [rbx], 0
    0x74, 0xfb, // jz wait
    0xc6, 0x83, 0x00, 0x00, 0x10, 0x00, 0x5a, // mov byte [rbx + 0x100000], 0x5a
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, 0x21, // mov al, '!'
    0xee, // out dx, al
    0xeb, 0xfe, // jmp $
];

/// A guest.
#[derive(Clone, Copy)]
pub enum Guest {
    /// Counts for ever.
    Count,
    /// Resets at once.
    Reset,
    /// Powers off at once.
    PowerOff,
    /// Writes 0x5a at 1 MiB of its pmem device, once the first byte there is not zero, and
    /// powers off.
    Store,
    /// The same, but prints a character then and stays.
    StoreAndStay,
}

impl Guest {
    /// Writes it as a bzImage.
    pub fn write(self, path: &Path) {
        const SETUP: usize = 5 * 512;
        const ENTRY: usize = 0x200;
        let code = match self {
            Guest::Count => COUNT,
            Guest::Reset => RESET,
            Guest::PowerOff => POWER_OFF,
            Guest::Store => STORE,
            Guest::StoreAndStay => STORE_AND_STAY,
        };
        let mut image = vec![0; SETUP + ENTRY];
        let mut field =
            |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        field(0x1f1, &[4]); // setup_sects
        field(0x1f4, &0x120_u32.to_le_bytes()); // syssize, in 16 bytes
        field(0x1fe, &[0x55, 0xaa]); // boot_flag
        field(0x200, &[0xeb, 0x66]); // jump
        field(0x202, b"HdrS"); // header
        field(0x206, &0x020f_u16.to_le_bytes()); // version
        field(0x211, &[1]); // loadflags: loaded high
        field(0x214, &0x10_0000_u32.to_le_bytes()); // code32_start
        field(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
        field(0x230, &0x20_0000_u32.to_le_bytes()); // kernel_alignment
        field(0x234, &[1, 21]); // relocatable, min_alignment
        field(0x236, &1_u16.to_le_bytes()); // xloadflags: 64-bit entry
        field(0x238, &2047_u32.to_le_bytes()); // cmdline_size
        field(0x258, &0x100_0000_u64.to_le_bytes()); // pref_address
        field(0x260, &0x40_0000_u32.to_le_bytes()); // init_size
        image.extend(code);
        image.resize(SETUP + ENTRY + 4096, 0x90);
        write(path, image).unwrap();
    }
}
