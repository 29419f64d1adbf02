// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the user asked for, in the shapes cloud-hypervisor's `vm.info` shows.
//!
//! Each type is one flag: its JSON form, its parser and its rules stand together
//! in one file. A wrong value gets a [`ConfigError`] that names the flag, the
//! value and what would be right.

mod cli;
mod console;
mod cpus;
#[cfg(feature = "fault")]
mod fault;
mod memory;
mod options;
mod payload;
mod pmem;
mod restore;
mod vm;

pub use self::cli::{Action, Cli, Endpoint, LogTarget, VmmOptions, parse_args};
pub use self::console::{ConsoleConfig, ConsoleOutputMode, SerialConfig};
pub use self::cpus::CpusConfig;
#[cfg(feature = "fault")]
pub use self::fault::{Accident, Fault, Flaw, Mishap, SyncLie};
pub use self::memory::MemoryConfig;
pub use self::options::ConfigError;
pub use self::payload::PayloadConfig;
pub use self::pmem::PmemConfig;
pub use self::restore::RestoreConfig;
pub use self::vm::VmConfig;
