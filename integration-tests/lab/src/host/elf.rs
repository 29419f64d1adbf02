// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The shared libraries a program in a root tree needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;

/// Where Debian on x86-64 keeps libraries, in the loader's order.
const LIBRARY_DIRS: &[&str] = &["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// The programs, their loaders and libraries: (path in the guest, file in the host's tree).
pub fn closure(root: &Path, programs: &[&str]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut todo: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let file = resolve(root, &path)?;
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        let elf =
            Elf::parse(&bytes).with_context(|| format!("{} is no program", file.display()))?;
        for library in &elf.libraries {
            todo.push(find_library(root, library)?);
        }
        if let Some(loader) = elf.interpreter {
            todo.push(PathBuf::from(loader.trim_start_matches('/')));
        }
        found.push((path, file));
    }
    found.sort();
    Ok(found)
}

fn find_library(root: &Path, name: &str) -> Result<PathBuf> {
    LIBRARY_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| resolve(root, path).is_ok())
        .with_context(|| format!("the lab's root has no library {name}"))
}

/// Follows symbolic links as the kernel would with `root` as its root.
fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut now = PathBuf::new();
    let mut todo: Vec<_> = parts(path).into_iter().rev().collect();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            now.pop();
            continue;
        }
        let next = now.join(&part);
        let full = root.join(&next);
        let meta = full
            .symlink_metadata()
            .with_context(|| full.display().to_string())?;
        if !meta.is_symlink() {
            now = next;
            continue;
        }
        links += 1;
        if links > 40 {
            bail!("too many symbolic links in {}", path.display());
        }
        let target = fs::read_link(&full)?;
        if target.is_absolute() {
            now = PathBuf::new();
        }
        todo.extend(parts(&target).into_iter().rev());
    }
    Ok(root.join(now))
}

fn parts(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        fs::write(root.join("usr/sbin/real"), "x").unwrap();
        symlink("usr/sbin", root.join("sbin")).unwrap();
        symlink("/sbin/real", root.join("usr/sbin/absolute")).unwrap();
        symlink("../../../sbin/real", root.join("usr/sbin/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let real = root.join("usr/sbin/real");
        assert_eq!(resolve(root, Path::new("sbin/absolute")).unwrap(), real);
        assert_eq!(resolve(root, Path::new("/usr/sbin/up")).unwrap(), real);
        resolve(root, Path::new("loop")).unwrap_err();
        resolve(root, Path::new("sbin/none")).unwrap_err();
    }

    #[test]
    fn a_program_brings_its_loader_and_libraries() {
        // The test's own root is a tree like any other.
        let found = closure(Path::new("/"), &["bin/sh"]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|(path, _)| path.to_string_lossy())
            .collect();
        assert!(
            names.iter().any(|name| name.contains("libc.so.6")),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name.contains("ld-linux-x86-64")),
            "{names:?}"
        );
    }
}
