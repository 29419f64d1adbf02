// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What only cloud-hypervisor can do.

use crate::scenarios::{CLOUD_HYPERVISOR, Expect, Scenario, USUAL, minutes};

mod hotplug;
mod migration;
mod stock_snapshot;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a device that forgets a flush or waits for one when it is removed, or keeps its \
                  lock",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(8),
        name: "hotplug-under-load",
        run: hotplug::run,
        settings: &[],
        summary: "a device is added, loaded, removed under its load, and added again",
        usual: USUAL,
    },
    Scenario {
        control: "as snapshot-under-load",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(10),
        name: "live-migration",
        run: migration::under_load,
        settings: &[],
        summary: "a guest is sent to a new process under raw fsync load",
        usual: USUAL,
    },
    Scenario {
        control: "locks that are not taken back: the second VM starts",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(6),
        name: "migration-refused",
        run: migration::refused,
        settings: &[],
        summary: "a latched device stops a migration; the guest goes on and keeps its file",
        usual: USUAL,
    },
    Scenario {
        control: "a state that needs a field which the unpatched VMM does not write",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(6),
        name: "stock-snapshot",
        run: stock_snapshot::run,
        settings: &[],
        summary: "a snapshot of the unpatched VMM (--set stock=PATH) is restored under load",
        usual: USUAL,
    },
];
