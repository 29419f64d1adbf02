// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Each rule, broken on purpose: the test that guards it must notice.

use std::env;
use std::println;
use std::process::{Command, Stdio};
use std::string::String;

/// A fault, and how it shows.
struct Mutation {
    /// Which of the nine properties it breaks.
    property: u8,
    /// Its name in `mutant!`.
    name: &'static str,
    /// The test that must fail.
    test: &'static str,
    /// What the test must say.
    says: &'static str,
}

const fn mutation(
    property: u8,
    name: &'static str,
    test: &'static str,
    says: &'static str,
) -> Mutation {
    Mutation {
        property,
        name,
        test,
        says,
    }
}

#[cfg(loom)]
#[rustfmt::skip]
const MUTATIONS: &[Mutation] = &[
    mutation(1, "abandoned-slot-freed", "failure::an_abandoned_request_stays_the_hosts", "the host's request was released"),
    mutation(1, "freed-under-callers", "removal::the_core_is_freed_when_its_last_sleeper_has_left", "after it was freed"),
    mutation(1, "freed-under-callers", "removal::the_core_is_freed_when_its_last_bio_has_ended", "after it was freed"),
    mutation(1, "wakes-after-release", "removal::the_core_is_freed_when_its_last_sleeper_has_left", "after it was freed"),
    mutation(2, "unknown-cookie-ignored", "failure::an_unknown_cookie_breaks_the_device", "left: Live"),
    mutation(2, "repeated-cookie-accepted", "failure::a_repeated_cookie_breaks_the_device", "a cookie counted twice"),
    mutation(3, "completion-wakes-nobody", "commit::a_flush_covers_what_was_written_before_it", "deadlock"),
    mutation(3, "free-slot-wakes-nobody", "commit::a_waiter_for_a_free_slot_is_woken", "deadlock"),
    mutation(3, "ended-bios-stay-listed", "commit::each_bio_ends_once", "a bio ended twice"),
    mutation(4, "broken-forgets-parked", "failure::nobody_sleeps_on_a_broken_device", "deadlock"),
    mutation(4, "broken-admits", "failure::nobody_sleeps_on_a_broken_device", "deadlock"),
    mutation(4, "broken-starves", "failure::nobody_waits_for_a_slot_of_a_broken_device", "deadlock"),
    mutation(4, "failed-kick-ignored", "failure::a_failed_kick_fails_everyone", "deadlock"),
    mutation(4, "broken-queue-ignored", "failure::a_queue_found_broken_fails_everyone", "deadlock"),
    mutation(4, "bad-status-ignored", "failure::a_device_reset_behind_the_drivers_back_fails_everyone", "the watchdog has not seen it"),
    mutation(4, "gone-forgets-waiters", "removal::nobody_sleeps_on_a_device_that_is_gone", "deadlock"),
    mutation(5, "joins-flush-in-flight", "commit::a_flush_covers_what_was_written_before_it", "no host flush covers"),
    mutation(5, "length-ignored", "commit::only_a_status_of_0_in_4_bytes_is_success", "no host flush covers"),
    mutation(5, "status-not-preset", "commit::only_a_status_of_0_in_4_bytes_is_success", "no host flush covers"),
    mutation(6, "publishes-while-frozen", "suspend::flushes_before_driver_ok_wait_for_it", "without a running queue"),
    mutation(6, "broken-detaches", "failure::nobody_sleeps_on_a_broken_device", "detached from a live queue"),
    mutation(7, "freeze-does-not-drain", "suspend::a_suspend_costs_no_flush", "frozen with a request in the ring"),
    mutation(7, "thaw-forgets-parked", "suspend::a_bio_parked_by_a_suspend_goes_out_after_it", "[(1, Ok(()))]"),
    mutation(7, "freeze-timeout-stays-draining", "suspend::a_freeze_that_times_out_lets_everything_go_on", "Busy, but not Live"),
    mutation(7, "thaws-while-draining", "suspend::a_thaw_fits_a_frozen_device_only", "thawed while draining"),
    mutation(7, "bad-status-ignored", "suspend::a_freeze_sees_needs_reset", "NEEDS_RESET missed"),
    mutation(7, "second-freeze-refused", "suspend::a_second_freeze_is_none", "WrongState"),
    mutation(8, "remove-waits-for-a-thaw", "removal::a_device_that_nobody_thaws_is_broken_by_its_removal", "deadlock"),
    mutation(8, "remove-does-not-look", "removal::a_pulled_device_is_broken_before_anyone_waits_for_it", "a bad queue was not seen"),
    mutation(8, "remove-breaks-first", "removal::the_last_flush_before_removal_succeeds", "the last flush was lost"),
    mutation(8, "remove-is-unbounded", "removal::the_last_flush_before_removal_is_bounded", "exceeded"),
    mutation(8, "bound-counts-from-publish", "removal::a_removal_is_bound_from_its_begin", "broken before its time"),
    mutation(8, "look-does-not-reap", "removal::the_watchdog_finds_an_answer_whose_interrupt_was_lost", "exceeded"),
    mutation(8, "rescue-not-counted", "removal::the_watchdog_finds_an_answer_whose_interrupt_was_lost", "nobody counted the rescue"),
    mutation(8, "watchdog-not-armed", "removal::a_watchdog_runs_while_something_is_published", "deadlock"),
];

#[cfg(not(loom))]
#[rustfmt::skip]
const MUTATIONS: &[Mutation] = &[
    mutation(1, "abandoned-slot-freed", "the_core_does_what_the_reference_does", "test failed"),
    mutation(2, "unknown-cookie-ignored", "the_core_does_what_the_reference_does", "test failed"),
    mutation(2, "repeated-cookie-accepted", "the_core_does_what_the_reference_does", "test failed"),
    mutation(3, "ended-bios-stay-listed", "the_core_does_what_the_reference_does", "a bio ended twice"),
    mutation(4, "broken-forgets-parked", "the_core_does_what_the_reference_does", "test failed"),
    mutation(4, "broken-admits", "the_core_does_what_the_reference_does", "test failed"),
    mutation(4, "failed-kick-ignored", "the_core_does_what_the_reference_does", "test failed"),
    mutation(4, "broken-queue-ignored", "the_core_does_what_the_reference_does", "test failed"),
    mutation(4, "refusal-not-counted", "the_core_does_what_the_reference_does", "test failed"),
    mutation(5, "joins-flush-in-flight", "the_core_does_what_the_reference_does", "test failed"),
    mutation(5, "length-ignored", "verdicts::every_length_has_a_verdict", "left: Ok(())"),
    mutation(5, "status-not-preset", "the_core_does_what_the_reference_does", "test failed"),
    mutation(6, "publishes-while-draining", "the_core_does_what_the_reference_does", "test failed"),
    mutation(6, "publishes-while-frozen", "the_core_does_what_the_reference_does", "test failed"),
    mutation(6, "broken-detaches", "the_core_does_what_the_reference_does", "test failed"),
    mutation(7, "freeze-does-not-drain", "the_core_does_what_the_reference_does", "test failed"),
    mutation(7, "thaw-forgets-parked", "the_core_does_what_the_reference_does", "test failed"),
    mutation(7, "freeze-timeout-stays-draining", "the_core_does_what_the_reference_does", "test failed"),
    mutation(7, "bad-status-ignored", "the_core_does_what_the_reference_does", "test failed"),
    mutation(7, "second-freeze-refused", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "remove-waits-for-a-thaw", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "remove-does-not-look", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "remove-breaks-first", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "remove-is-unbounded", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "bound-counts-from-publish", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "look-does-not-reap", "the_core_does_what_the_reference_does", "test failed"),
    mutation(8, "rescue-not-counted", "the_core_does_what_the_reference_does", "test failed"),
    mutation(9, "flush-allocates", "allocation::the_flush_path_allocates_nothing", "allocations in the flush path"),
];

#[test]
fn every_mutation_is_caught() {
    if env::var_os("FLUSH_CORE_MUTATION").is_some() {
        return;
    }
    let this = env::current_exe().unwrap();
    let module = if cfg!(loom) {
        "tests::models"
    } else {
        "tests::sequential"
    };
    let mut missed = 0;
    for mutation in MUTATIONS {
        let output = Command::new(&this)
            .args(["--exact", &std::format!("{module}::{}", mutation.test)])
            .env("FLUSH_CORE_MUTATION", mutation.name)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let caught = !output.status.success() && said.contains(mutation.says);
        let verdict = if caught { "caught" } else { "MISSED" };
        println!(
            "property {}: {} {verdict} by {}",
            mutation.property, mutation.name, mutation.test
        );
        if !caught {
            missed += 1;
            println!("{said}");
        }
    }
    assert_eq!(missed, 0, "mutations that no test noticed");
}
