// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The initramfs of the lab and of its guests.
//!
//! The kernel unpacks several archives laid end to end, so each has two parts: what comes from
//! Debian, kept, and our own program, added at each run.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::NewcBuilder;
use cpio::newc::{ModeFileType, trailer};

use crate::boot;
use crate::host::cache::{Cache, Key};
use crate::host::elf;
use crate::host::kernel::Kernel;
use crate::host::modules::{self, Module};

/// What a guest of any driver loads; the agent's own list, `/etc/agent/modules`. A suspended guest
/// wakes up when its power button is pressed: without the button's driver nobody listens.
const GUEST_MODULES: &[&str] = &[
    "button",
    "libnvdimm",
    "nd_btt",
    "nd_pmem",
    "virtio_mmio",
    "xfs",
];

/// The stock driver, `/etc/agent/driver-c`.
const DRIVER_C: &[&str] = &["nd_virtio", "virtio_pmem"];

/// A module of our driver, as a guest has it.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Its name below `/modules`.
    pub name: String,
    /// The file on the host.
    pub path: PathBuf,
    /// Loaded by the agent at boot, or only on order.
    pub at_boot: bool,
}

/// What the guests run besides the agent.
const GUEST_PROGRAMS: &[&str] = &[
    "usr/sbin/e2fsck",
    "usr/sbin/mkfs.ext4",
    "usr/sbin/mkfs.xfs",
    "usr/sbin/mkswap",
    "usr/sbin/swapon",
    "usr/sbin/wipefs",
    "usr/sbin/xfs_repair",
    "usr/bin/mount",
    "usr/bin/sqlite3",
    "usr/bin/umount",
];

/// The guest's initramfs without the agent: modules of one kernel, tools of the lab's root.
pub fn guest_base(cache: &Cache, kernel: &Kernel, tree: &Path) -> Result<PathBuf> {
    let tree_key = tree
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let key = Key::new("guest base 1")
        .text(&kernel.key)
        .text(&tree_key)
        .text(&GUEST_MODULES.join(" "))
        .text(&DRIVER_C.join(" "))
        .text(&GUEST_PROGRAMS.join(" "));
    let series = kernel.key.split('-').nth(1).unwrap_or_default();
    cache.keep(
        "images",
        &format!("guest-base-{series}"),
        ".cpio",
        &key,
        |path| {
            let mut archive = Archive::create(path)?;
            let base = modules::closure(kernel, GUEST_MODULES, &[])?;
            let driver = modules::closure(kernel, DRIVER_C, GUEST_MODULES)?;
            for (list, modules) in [("modules", &base), ("driver-c", &driver)] {
                let mut text = String::new();
                for Module { file, content } in modules {
                    archive.file(&format!("modules/{file}"), 0o644, content)?;
                    text.push_str(&format!("/modules/{file}\n"));
                }
                archive.file(&format!("etc/agent/{list}"), 0o644, text.as_bytes())?;
            }
            for link in ["bin", "sbin", "lib", "lib64"] {
                archive.link(link, &format!("usr/{link}"))?;
            }
            for (path, file) in elf::closure(tree, GUEST_PROGRAMS)? {
                let path = under_usr(&path);
                archive.file(&path, 0o755, &fs::read(&file)?)?;
            }
            archive.file(
                "etc/mke2fs.conf",
                0o644,
                &fs::read(tree.join("etc/mke2fs.conf"))?,
            )?;
            for dir in ["dev", "proc", "sys", "run", "tmp", "mnt", "root"] {
                archive.dir(dir)?;
            }
            archive.finish()
        },
    )
}

/// The lab's initramfs without its `/init`: what it takes to mount the root image.
pub fn lab_base(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let key = Key::new("lab base 1").text(&kernel.key);
    let series = kernel.key.split('-').nth(1).unwrap_or_default();
    cache.keep(
        "images",
        &format!("lab-base-{series}"),
        ".cpio",
        &key,
        |path| {
            let mut archive = Archive::create(path)?;
            let modules = boot::MODULES.trim_start_matches('/');
            let mut order = String::new();
            for Module { file, content } in modules::closure(kernel, &["virtio_blk", "ext4"], &[])?
            {
                archive.file(&format!("{modules}/{file}"), 0o644, &content)?;
                order.push_str(&format!("{file}\n"));
            }
            archive.file(&format!("{modules}/order"), 0o644, order.as_bytes())?;
            archive.finish()
        },
    )
}

/// Writes `base` to `path`, then `init` as `/init`, and the modules of our driver, if there are any,
/// with the list of those that are loaded at boot, `/etc/agent/driver-rust`.
pub fn complete(path: &Path, base: &Path, init: &Path, driver: &[Packed]) -> Result<()> {
    let mut archive = Archive::create(path)?;
    archive.append(base)?;
    archive.file("init", 0o755, &fs::read(init)?)?;
    if driver.is_empty() {
        return archive.finish();
    }
    let mut list = String::new();
    for module in driver {
        let name = &module.name;
        archive.file(&format!("modules/{name}"), 0o644, &fs::read(&module.path)?)?;
        if module.at_boot {
            list.push_str(&format!("/modules/{name}\n"));
        }
    }
    archive.file("etc/agent/driver-rust", 0o644, list.as_bytes())?;
    archive.finish()
}

/// Debian's `/lib64/ld…` is `/usr/lib64/ld…`: one name for each file, as the links above have it.
fn under_usr(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.starts_with("usr/") {
        path.into_owned()
    } else {
        format!("usr/{path}")
    }
}

/// A newc archive in the making. Same input, same bytes: inode numbers count, times are 0.
pub struct Archive {
    out: BufWriter<File>,
    inode: u32,
    dirs: BTreeSet<String>,
}

impl Archive {
    /// An empty one at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            out: BufWriter::new(file),
            inode: 0,
            dirs: BTreeSet::new(),
        })
    }

    /// Copies an archive that is whole; what follows goes on top of it.
    pub fn append(&mut self, other: &Path) -> Result<()> {
        let mut file = File::open(other).with_context(|| other.display().to_string())?;
        io::copy(&mut file, &mut self.out)?;
        Ok(())
    }

    fn entry(&mut self, name: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let header = NewcBuilder::new(name)
            .ino(self.inode)
            .mode(mode)
            .set_mode_file_type(kind);
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} is too large for an initramfs"))?;
        let mut entry = header.write(&mut self.out, size);
        entry.write_all(content)?;
        entry.finish()?;
        Ok(())
    }

    fn dir(&mut self, name: &str) -> Result<()> {
        self.parents(name)?;
        if self.dirs.insert(name.to_owned()) {
            self.entry(name, ModeFileType::Directory, 0o755, &[])?;
        }
        Ok(())
    }

    fn parents(&mut self, name: &str) -> Result<()> {
        match name.rsplit_once('/') {
            Some((parent, _)) => self.dir(parent),
            None => Ok(()),
        }
    }

    /// A file, and the directories it is in.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.parents(name)?;
        self.entry(name, ModeFileType::Regular, mode, content)
    }

    /// A symbolic link.
    pub fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.parents(name)?;
        self.entry(name, ModeFileType::Symlink, 0o777, target.as_bytes())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<()> {
        trailer(&mut self.out)?;
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_directory_once_and_is_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            let mut archive = Archive::create(&path).unwrap();
            archive.file("a/b/one", 0o755, b"1").unwrap();
            archive.file("a/b/two", 0o644, b"22").unwrap();
            archive.link("bin", "usr/bin").unwrap();
            archive.finish().unwrap();
            fs::read(path).unwrap()
        };
        let bytes = make("x");
        assert_eq!(bytes, make("y"));
        let mut names = Vec::new();
        let mut rest = bytes.as_slice();
        loop {
            let reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
        let names: Vec<_> = names
            .iter()
            .map(|(name, mode)| (name.as_str(), *mode))
            .collect();
        assert_eq!(
            names,
            [
                ("a", 0o040_755),
                ("a/b", 0o040_755),
                ("a/b/one", 0o100_755),
                ("a/b/two", 0o100_644),
                ("bin", 0o120_777)
            ]
        );
    }

    #[test]
    fn our_driver_is_listed_in_load_order_after_what_debian_gives() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut base = Archive::create(&path("base")).unwrap();
        base.file("etc/agent/driver-c", 0o644, b"/modules/c.ko\n")
            .unwrap();
        base.finish().unwrap();
        for (name, content) in [
            ("agent", "A"),
            ("a.ko", "1"),
            ("b.ko", "2"),
            ("flusher.ko", "3"),
        ] {
            fs::write(path(name), content).unwrap();
        }
        let packed = |name: &str, at_boot| Packed {
            name: name.to_owned(),
            path: path(name),
            at_boot,
        };
        let driver = [
            packed("a.ko", true),
            packed("b.ko", true),
            packed("flusher.ko", false),
        ];
        complete(&path("out"), &path("base"), &path("agent"), &driver).unwrap();
        let whole = fs::read(path("out")).unwrap();
        assert!(whole.starts_with(&fs::read(path("base")).unwrap()));
        let text = String::from_utf8_lossy(&whole);
        assert!(text.contains("/modules/a.ko\n/modules/b.ko\n"));
        // There, but not in the list.
        assert!(text.contains("modules/flusher.ko") && !text.contains("/modules/flusher.ko\n"));
        complete(&path("none"), &path("base"), &path("agent"), &[]).unwrap();
        let none = fs::read(path("none")).unwrap();
        assert!(!String::from_utf8_lossy(&none).contains("driver-rust"));
    }

    #[test]
    fn every_library_lands_under_usr() {
        assert_eq!(under_usr(Path::new("lib64/ld.so")), "usr/lib64/ld.so");
        assert_eq!(under_usr(Path::new("usr/lib/x.so")), "usr/lib/x.so");
    }
}
