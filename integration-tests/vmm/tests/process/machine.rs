// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest sees: its pmem file's bytes, several vCPUs, and the end when a page of
//! the file cannot be had.

use std::fs::{File, OpenOptions, create_dir, remove_dir_all};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::MIB;
use crate::client::{Place, Vmm, bytes, has_kvm, wait_for};
use crate::guest::Guest;

fn start(place: &Place, guest: Guest, args: &[&str]) -> Vmm {
    let kernel = place.text("kernel");
    guest.write(Path::new(&kernel));
    let args: Vec<_> = ["--kernel", &kernel].iter().chain(args).copied().collect();
    Vmm::start(place, "vmm", &args)
}

fn go(file: &str) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[1], 0).unwrap();
}

#[test]
fn what_the_guest_writes_is_in_the_file() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let file = place.file("pmem", 4 * MIB);
    let mut vmm = start(&place, Guest::Store, &["--pmem", &format!("file={file}")]);
    go(&file);
    assert_eq!(vmm.end().code(), Some(0), "{}", vmm.stderr());
    assert_eq!(bytes(Path::new(&file))[MIB], 0x5a);
}

#[test]
fn discarded_writes_are_not_in_the_file_and_not_lost_by_a_snapshot_in_silence() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let file = place.file("pmem", 4 * MIB);
    let pmem = format!("file={file},id=scratch,discard_writes=on");
    let url = place.url("snapshot");
    create_dir(place.path("snapshot")).unwrap();
    let body = format!(r#"{{"destination_url":"{url}"}}"#);

    // A guest that only reads loses nothing.
    let vmm = start(&place, Guest::Count, &["--pmem", &pmem]);
    vmm.put("vm.pause", "");
    vmm.put("vm.snapshot", &body);
    drop(vmm);
    remove_dir_all(place.path("snapshot")).unwrap();
    create_dir(place.path("snapshot")).unwrap();

    let serial = place.path("serial");
    let mode = format!("file={}", serial.display());
    let args = ["--pmem", &pmem, "--serial", &mode];
    let vmm = start(&place, Guest::StoreAndStay, &args);
    go(&file);
    wait_for("the guest writes", || {
        serial.exists() && !bytes(&serial).is_empty()
    });
    vmm.put("vm.pause", "");
    let (status, said) = vmm.ask("PUT", "vm.snapshot", &body);
    assert_eq!(status, 500, "{said}");
    assert!(
        said.contains("scratch") && said.contains("discard_writes"),
        "{said}"
    );
    let body = format!(r#"{{"destination_url":"{url}","allow_unsynced_pmem":true}}"#);
    vmm.put("vm.snapshot", &body);
    drop(vmm);

    let file = place.file("pmem", 4 * MIB);
    let mut vmm = start(&place, Guest::Store, &["--pmem", &pmem]);
    go(&file);
    assert_eq!(vmm.end().code(), Some(0), "{}", vmm.stderr());
    assert_eq!(bytes(Path::new(&file))[MIB], 0);
}

#[test]
fn a_file_truncated_under_the_guest_ends_it_with_name_and_offset() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let file = place.file("pmem", 4 * MIB);
    let mut vmm = start(&place, Guest::Store, &["--pmem", &format!("file={file}")]);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    go(&file);
    let code = vmm.end().code();
    let said = vmm.stderr();
    assert_ne!(code, Some(0), "{said}");
    assert!(
        said.contains(&file) && said.contains("0x100000") && said.contains("truncated"),
        "{said}"
    );
}

#[test]
fn four_vcpus_park_also_those_the_guest_never_started() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let serial = place.path("serial");
    let mode = format!("file={}", serial.display());
    let args = ["--cpus", "boot=4", "--serial", &mode];
    let vmm = start(&place, Guest::Count, &args);
    let printed = || bytes(&serial).len();
    wait_for("the guest counts", || printed() > 0);
    for _ in 0..10 {
        vmm.put("vm.pause", "");
        vmm.put("vm.resume", "");
        let before = printed();
        wait_for("the guest goes on", || printed() > before);
    }
    vmm.put("vm.pause", "");
    create_dir(place.path("snapshot")).unwrap();
    vmm.snapshot(&place.url("snapshot"));
    vmm.kill();
    let restore = format!("source_url={}", place.url("snapshot"));
    let restored = Vmm::start(&place, "restored", &["--restore", &restore]);
    let before = printed();
    restored.put("vm.resume", "");
    wait_for("the restored guest goes on", || printed() > before);
}
