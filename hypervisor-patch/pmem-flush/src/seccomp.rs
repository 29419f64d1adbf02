// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What the worker may ask of the kernel.

use std::collections::BTreeMap;
use std::env;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::error::Error;

/// The filter the worker thread runs under.
///
/// A filter of the thread that makes the engine is inherited too: that
/// thread has to be allowed what [`worker_rules`] lists, and `prctl` and `seccomp`, by
/// which the worker puts its own on.
#[derive(Clone, Debug)]
pub enum WorkerSeccomp {
    /// [`worker_rules`], and this action for every other call.
    Rules(SeccompAction),
    /// A program the host has made.
    Program(BpfProgram),
    /// No filter.
    Off,
}

impl Default for WorkerSeccomp {
    fn default() -> Self {
        WorkerSeccomp::Rules(SeccompAction::KillProcess)
    }
}

/// The calls the worker needs, in the form seccompiler and cloud-hypervisor's
/// tables use.
///
/// Among them is opening a file for reading: glibc does so before it gives memory
/// back for the first time, in whichever thread that happens, and can do without.
/// Under [`WorkerSeccomp::Rules`] it fails with `EACCES`. A program that a host makes of these rules
/// lets it succeed.
///
/// # Errors
///
/// None that depends on input; seccompiler checks each rule it is given.
pub fn worker_rules() -> Result<Vec<(i64, Vec<SeccompRule>)>, Error> {
    // fstat in its forms: of an open file only, never of a path.
    let empty_path = u64::from(libc::AT_EMPTY_PATH.unsigned_abs());
    let of_open_file = |flags| {
        only_if(
            flags,
            SeccompCmpOp::MaskedEq(empty_path),
            libc::AT_EMPTY_PATH,
        )
    };
    Ok(vec![
        // its task
        (libc::SYS_fdatasync, vec![]),
        (libc::SYS_fsync, vec![]),
        (libc::SYS_fstat, vec![]),
        (libc::SYS_newfstatat, vec![of_open_file(3)?]),
        (libc::SYS_statx, vec![of_open_file(2)?]),
        (libc::SYS_lseek, vec![]),
        // a private mapping against its file
        (libc::SYS_pread64, vec![]),
        // waiting for work and telling of its end; a log line
        (libc::SYS_futex, vec![]),
        (libc::SYS_write, vec![]),
        (libc::SYS_clock_gettime, vec![]),
        // memory, for an error's text and an event; the seed of an event's hash map
        (libc::SYS_getrandom, vec![]),
        (libc::SYS_brk, vec![]),
        (libc::SYS_madvise, vec![]),
        (libc::SYS_mmap, vec![]),
        (libc::SYS_mprotect, vec![]),
        (libc::SYS_mremap, vec![]),
        (libc::SYS_munmap, vec![]),
        (libc::SYS_openat, vec![to_read()?]),
        (libc::SYS_read, vec![]),
        // a panic's message
        (libc::SYS_gettid, vec![]),
        // signals and the thread's end
        (libc::SYS_close, vec![]),
        // A debug build asks whether what it closes is open.
        (
            libc::SYS_fcntl,
            vec![only_if(1, SeccompCmpOp::Eq, libc::F_GETFD)?],
        ),
        (libc::SYS_exit, vec![]),
        (libc::SYS_restart_syscall, vec![]),
        (libc::SYS_rt_sigprocmask, vec![]),
        (libc::SYS_rt_sigreturn, vec![]),
        (libc::SYS_sched_yield, vec![]),
        (libc::SYS_sigaltstack, vec![]),
    ])
}

fn only_if(argument: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompRule, Error> {
    let value = u64::from(value.unsigned_abs());
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(backend)
}

/// openat that changes nothing.
fn to_read() -> Result<SeccompRule, Error> {
    let writes = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    let operator = SeccompCmpOp::MaskedEq(u64::from(writes.unsigned_abs()));
    only_if(2, operator, libc::O_RDONLY)
}

fn backend(error: BackendError) -> Error {
    Error::BuildFilter(seccompiler::Error::Backend(error))
}

/// The programs for a choice, all of which apply.
pub(crate) fn programs(choice: WorkerSeccomp) -> Result<Vec<BpfProgram>, Error> {
    let action = match choice {
        WorkerSeccomp::Off => return Ok(Vec::new()),
        WorkerSeccomp::Program(program) => return Ok(vec![program]),
        WorkerSeccomp::Rules(action) => action,
    };
    let arch = env::consts::ARCH.try_into().map_err(backend)?;
    let program = |rules: BTreeMap<_, _>, others, these| {
        SeccompFilter::new(rules, others, these, arch)
            .and_then(BpfProgram::try_from)
            .map_err(backend)
    };
    let denied = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    Ok(vec![
        // The most severe answer of all is the one that counts. This one comes first: the other
        // forbids to put a filter on.
        program(
            BTreeMap::from([(libc::SYS_openat, vec![to_read()?])]),
            SeccompAction::Allow,
            denied,
        )?,
        program(
            worker_rules()?.into_iter().collect(),
            action,
            SeccompAction::Allow,
        )?,
    ])
}
