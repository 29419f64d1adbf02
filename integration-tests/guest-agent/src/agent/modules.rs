// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Loads kernel modules from the lists in the initramfs.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

/// Loads one module file. One that is loaded already is fine.
///
/// # Errors
///
/// The file is not there, or the kernel refuses it.
pub fn load(path: &Path, parameters: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let parameters = CString::new(parameters)?;
    match finit_module(file, &parameters, ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Unloads a module by its name.
///
/// # Errors
///
/// It is in use (EAGAIN, EBUSY) or not loaded (ENOENT).
pub fn unload(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    Ok(delete_module(&name, DeleteModuleFlags::O_NONBLOCK)?)
}

/// Loads what a list names, in order, and returns what went wrong. A missing list is empty.
pub fn load_list(list: &Path) -> Vec<String> {
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![format!("{}: {error}", list.display())],
    };
    let mut problems = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (path, parameters) = line.split_once(' ').unwrap_or((line, ""));
        if let Err(error) = load(Path::new(path), parameters) {
            problems.push(format!("{path}: {error}"));
        }
    }
    problems
}
