// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VMM as a user meets it: a process, its flags, its socket, and a guest of a few
//! instructions on whatever KVM this host has.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod client;
mod guest;
mod machine;

use std::fs::{File, FileTimes, Permissions, copy};
use std::fs::{create_dir, read_to_string, rename, set_permissions, write};
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use client::{Place, Vmm, bytes, has_kvm, vmm, wait_for};
use guest::Guest;

const MIB: usize = 1 << 20;

/// The one line that a VMM says before it ends with `code`.
fn refusal(args: &[&str], code: i32) -> String {
    let output = vmm(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("vmm: "))
        .collect();
    assert_eq!(lines.len(), 1, "{args:?}: {text}");
    lines[0].strip_prefix("Error: ").unwrap().to_owned()
}

#[test]
fn a_wrong_flag_is_one_line() {
    for (args, said) in [
        (
            &["--kernel", "/k", "--cpus", "boot=9"][..],
            "--cpus boot=9: ",
        ),
        (&["--kernel", "/k", "--pmem", "size=2M"], "--pmem size=2M: "),
        (
            &["--kernel", "/k", "--restore", "source_url=file:///s"],
            "--restore ",
        ),
        (&["--kernal", "/k"], "unexpected argument '--kernal'"),
        (&[], "there is nothing to do; give --kernel PATH"),
    ] {
        let refusal = refusal(args, 2);
        assert!(refusal.starts_with(said), "{refusal}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let place = Place::new();
    let api = place.text("no/api");
    let snapshot = place.url("");
    for (args, said) in [
        (
            &["--api-socket", api.as_str()][..],
            "/no/api: cannot be made: No such file",
        ),
        (
            &[
                "--api-socket",
                &place.text("api"),
                "--event-monitor",
                "path=/no/e",
            ],
            "--event-monitor path=/no/e: cannot be written: No such file",
        ),
        (
            &["--restore", "source_url=file:///no/s"],
            "/no/s is not a directory",
        ),
        (
            &["--restore", &format!("source_url={snapshot}")],
            "state.json cannot be read: No such file",
        ),
    ] {
        let refusal = refusal(args, 1);
        assert!(refusal.contains(said), "{refusal}");
    }
    if has_kvm() {
        let refusal = refusal(&["--kernel", "/no/kernel"], 1);
        assert!(refusal.contains("--kernel /no/kernel: "), "{refusal}");
        assert!(refusal.contains("No such file"), "{refusal}");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let place = Place::new();
    let mut vmm = Vmm::start_unheard(&place, "vmm", &["-v"]);
    // Each is a log line; a pipe holds 64 KiB.
    for _ in 0..1500 {
        assert_eq!(vmm.ask("GET", "vm.there-is-no-such-thing", "").0, 404);
    }
    assert_eq!(vmm.ask("PUT", "vmm.shutdown", "").0, 200);
    assert_eq!(vmm.end().code(), Some(0));
}

/// Each character of the counting guest is the successor of the one before.
fn assert_no_count_is_lost_or_doubled(serial: &[u8]) {
    for (index, pair) in serial.windows(2).enumerate() {
        let next = b'0' + (pair[0] - b'0' + 1) % 64;
        assert_eq!(pair[1], next, "after character {index}");
    }
}

#[test]
fn a_restored_guest_goes_on_exactly_where_it_was() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let kernel = place.text("kernel");
    Guest::Count.write(kernel.as_ref());
    let pmem = format!("file={}", place.file("pmem", 4 * MIB));
    let serial = place.path("serial");
    create_dir(place.path("snapshot")).unwrap();
    let first = Vmm::start(
        &place,
        "first",
        &[
            "--kernel",
            &kernel,
            "--memory",
            "size=64M",
            "--cpus",
            "boot=2",
            "--serial",
            &format!("file={}", place.text("serial")),
            "--pmem",
            &pmem,
        ],
    );
    wait_for("the guest counts", || bytes(&serial).len() >= 100);

    first.put("vm.pause", "");
    let paused = bytes(&serial).len();
    first.snapshot(&place.url("snapshot"));
    assert_eq!(bytes(&serial).len(), paused, "a paused guest prints");
    first.put("vm.resume", "");
    wait_for("the guest goes on", || bytes(&serial).len() > paused + 10);
    first.put("vm.pause", "");
    create_dir(place.path("second")).unwrap();
    first.snapshot(&place.url("second"));
    first.kill();

    let paused = bytes(&serial).len();
    let mut second = Vmm::start(
        &place,
        "second",
        &["--restore", &format!("source_url={}", place.url("second"))],
    );
    assert_eq!(second.state(), "Paused");
    assert_eq!(bytes(&serial).len(), paused, "a restored guest waits");
    second.put("vm.resume", "");
    wait_for("the restored guest counts", || {
        bytes(&serial).len() >= paused + 100
    });
    assert_eq!(second.ask("PUT", "vmm.shutdown", "").0, 200);
    assert_eq!(second.end().code(), Some(0), "{}", second.stderr());
    assert_no_count_is_lost_or_doubled(&bytes(&serial));
}

#[test]
fn a_pmem_file_is_locked_and_may_not_have_moved_on() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let kernel = place.text("kernel");
    Guest::Count.write(kernel.as_ref());
    let file = place.file("pmem", 4 * MIB);
    let pmem = format!("file={file}");
    create_dir(place.path("snapshot")).unwrap();
    let first = Vmm::start(&place, "first", &["--kernel", &kernel, "--pmem", &pmem]);
    let said = refusal(&["--kernel", &kernel, "--pmem", &pmem], 1);
    assert!(said.contains("file=") && said.contains("locked"), "{said}");

    first.put("vm.pause", "");
    first.snapshot(&place.url("snapshot"));
    // A copy that keeps its times fits.
    copy(&file, place.path("copy")).unwrap();
    let modified = File::open(&file).unwrap().metadata().unwrap().modified();
    File::options()
        .write(true)
        .open(place.path("copy"))
        .unwrap()
        .set_times(FileTimes::new().set_modified(modified.unwrap()))
        .unwrap();
    let restore = format!("source_url={}", place.url("snapshot"));
    let said = refusal(&["--restore", &restore], 1);
    assert!(said.contains("locked"), "{said}");
    first.kill();

    write(&file, vec![1; 4 * MIB]).unwrap();
    let said = refusal(&["--restore", &restore], 1);
    assert!(said.contains("file=") && said.contains("stale"), "{said}");
    let stale = format!("{restore},allow_stale_pmem=on");
    Vmm::start(&place, "stale", &["--restore", &stale]).kill();
    rename(place.path("copy"), &file).unwrap();
    let copied = Vmm::start(&place, "copied", &["--restore", &restore]);
    assert_eq!(copied.state(), "Paused");
}

#[test]
fn a_signal_ends_the_vmm_in_order() {
    if !has_kvm() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let kernel = place.text("kernel");
        Guest::Count.write(kernel.as_ref());
        let events = format!("path={}", place.text("events"));
        let mut vmm = Vmm::start(
            &place,
            "vmm",
            &["--kernel", &kernel, "--event-monitor", &events],
        );
        kill(Pid::from_raw(vmm.pid()), signal).unwrap();
        assert_eq!(vmm.end().code(), Some(0), "{}", vmm.stderr());
        let events = read_to_string(place.path("events")).unwrap();
        let order: Vec<_> = events
            .lines()
            .filter_map(|line| line.trim().strip_prefix("\"event\": "))
            .collect();
        assert_eq!(
            order,
            [
                "\"starting\",",
                "\"booting\",",
                "\"booted\",",
                "\"shutdown\",",
                "\"deleted\",",
                "\"shutdown\","
            ]
        );
    }
}

#[test]
fn a_guest_that_resets_is_booted_again_on_the_same_file() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let kernel = place.text("kernel");
    Guest::Reset.write(kernel.as_ref());
    let pmem = format!("file={}", place.file("pmem", 4 * MIB));
    let events = format!("path={}", place.text("events"));
    let mut vmm = Vmm::start(
        &place,
        "vmm",
        &[
            "--kernel",
            &kernel,
            "--pmem",
            &pmem,
            "--event-monitor",
            &events,
        ],
    );
    wait_for("three reboots", || {
        let events = read_to_string(place.path("events")).unwrap();
        events.matches("\"rebooted\"").count() >= 3
    });
    assert_eq!(vmm.ask("PUT", "vmm.shutdown", "").0, 200);
    assert_eq!(vmm.end().code(), Some(0), "{}", vmm.stderr());
}

#[test]
fn a_guest_that_powers_off_ends_the_vmm_well() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let kernel = place.text("kernel");
    Guest::PowerOff.write(kernel.as_ref());
    let output = vmm(["--kernel", &kernel]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_a_usable_vm() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let kernel = place.text("kernel");
    Guest::Count.write(kernel.as_ref());
    // Unlike a full disk this needs no root; /proc is a directory nobody can write to.
    let vmm = Vmm::start(&place, "vmm", &["--kernel", &kernel]);
    vmm.put("vm.pause", "");
    let (status, said) = vmm.ask(
        "PUT",
        "vm.snapshot",
        r#"{"destination_url":"file:///proc"}"#,
    );
    assert_eq!(status, 500);
    assert!(
        said.contains("/proc/.config.json.tmp cannot be written"),
        "{said}"
    );
    create_dir(place.path("snapshot")).unwrap();
    set_permissions(place.path("snapshot"), Permissions::from_mode(0o700)).unwrap();
    vmm.snapshot(&place.url("snapshot"));
    vmm.put("vm.resume", "");
    assert_eq!(vmm.state(), "Running");
}
