// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Virtual CPUs: what the guest may know of them ([`cpuid`]), how they start
//! ([`entry`]), what a snapshot keeps ([`state`]), and their threads ([`threads`]).

mod cpuid;
mod entry;
mod faults;
mod run;
mod state;
mod still;
mod threads;

pub use self::cpuid::{address_limit, guest_cpuid};
pub use self::entry::{prepare_application_processor, prepare_boot_processor, write_boot_tables};
pub use self::faults::{FaultCounters, Faults};
pub use self::run::{Bus, Stop};
pub use self::state::{VcpuState, announce_pause, restore, save};
pub use self::threads::{Probe, VcpuThreads};
