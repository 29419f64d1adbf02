// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Our guest driver, built for the guests' kernels.
//!
//! A normal build and one with fault hooks, each with the test module `flusher`, go to
//! `target/driver/<release>` and `target/driver-faults/<release>`. What is there is kept as long as it is
//! of the sources as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::build_root::{self, BuildRoot};
use crate::host::cache::{Cache, Key, remove};
use crate::host::kernel::Kernel;
use crate::host::programs;
use crate::host::progress::Progress;

/// The modules of a build, in load order.
pub const MODULES: &[&str; 2] = &["virtio_pmem_rs.ko", "flusher.ko"];

/// What is asked of the driver's Makefile.
#[derive(Clone, Copy, Debug)]
pub enum Flavour {
    /// What users get.
    Normal,
    /// With hooks by which a test breaks its own device.
    Faults,
    /// These, and a use after free that KASAN has to find.
    UseAfterFree,
}

impl Flavour {
    fn dir(self) -> &'static str {
        match self {
            Self::Normal => "driver",
            Self::Faults => "driver-faults",
            Self::UseAfterFree => "driver-use-after-free",
        }
    }

    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Normal => &["VPR_FLUSHER=1"],
            Self::Faults => &["VPR_FLUSHER=1", "VPR_FAULTS=1"],
            Self::UseAfterFree => &["VPR_FLUSHER=1", "VPR_FAULTS=1", "VPR_USE_AFTER_FREE=1"],
        }
    }
}

/// Where the modules for one kernel are.
pub fn dir(flavour: Flavour, release: &str) -> Result<PathBuf> {
    Ok(target()?.join(flavour.dir()).join(release))
}

fn target() -> Result<PathBuf> {
    Ok(programs::workspace()?.join("target"))
}

/// Builds what is missing or old, for each of the kernels.
pub fn build(
    progress: &Progress,
    cache: &Cache,
    root: &BuildRoot,
    kernels: &[&Kernel],
) -> Result<()> {
    let sources = sources()?;
    // Two runs in one worktree would write to the same files.
    let _lock = cache.lock("driver")?;
    for kernel in kernels {
        // The normal one last: what lies in the directory it was built in is then what users get.
        let flavours = match kernel.build {
            Some(_) => [Flavour::UseAfterFree, Flavour::Faults],
            None => [Flavour::Faults, Flavour::Normal],
        };
        for flavour in flavours {
            let release = &kernel.release;
            let mut key = Key::new("driver 1")
                .text(&root.key())
                .text(release)
                .text(kernel.build.as_ref().map_or("", |_| &kernel.key))
                .text(&flavour.variables().join(" "));
            for (name, path) in &sources {
                key = key.text(name).file(path)?;
            }
            let out = dir(flavour, release)?;
            if is_current(&out, &key) {
                continue;
            }
            progress.step(&format!("building the guest driver for Linux {release}"));
            let work = target()?.join("driver-build").join(release);
            lay_out(&work, &sources)?;
            make(root, &work, flavour, kernel)
                .with_context(|| format!("cannot build the guest driver for Linux {release}"))?;
            check_hooks(&fs::read(work.join("linux").join(MODULES[0]))?, flavour)?;
            hand_over(&work, &out, &key)?;
        }
    }
    Ok(())
}

fn make(root: &BuildRoot, work: &Path, flavour: Flavour, kernel: &Kernel) -> Result<()> {
    let mut binds = vec![(work, "build")];
    let kdir = match &kernel.build {
        Some(build) => {
            binds.push((build, "kernel"));
            "KDIR=/kernel/build".to_owned()
        }
        None => format!("KDIR=/usr/src/{}", build_root::headers(&kernel.release)),
    };
    let mut words = vec!["make", "-C", "/build/linux", &kdir];
    words.extend(flavour.variables());
    let said = root.run(&binds, &words)?;
    // objtool and modpost only warn of what makes a module unfit to be loaded.
    let warnings = warnings(&said);
    if !warnings.is_empty() {
        bail!("the build has warnings:\n{}", warnings.join("\n"));
    }
    Ok(())
}

fn warnings(said: &str) -> Vec<&str> {
    said.lines()
        .filter(|line| line.to_lowercase().contains("warning"))
        // A point release of the compiler, which the archive has and the kernel was not built with.
        .filter(|line| !line.contains("the compiler differs from the one used to build the kernel"))
        .collect()
}

fn is_current(out: &Path, key: &Key) -> bool {
    let there = MODULES.iter().all(|name| out.join(name).is_file());
    there && fs::read_to_string(out.join("key")).is_ok_and(|text| text == key.short())
}

/// Of the module's own information: what a build with hooks says of itself.
const HOOKS: &[u8] = b"faults=This build can break its device on purpose";

/// What users get must not have the hooks, and what the tests break devices with must.
fn check_hooks(module: &[u8], flavour: Flavour) -> Result<()> {
    let has = module.windows(HOOKS.len()).any(|bytes| bytes == HOOKS);
    match (flavour, has) {
        (Flavour::Normal, true) => bail!("the normal build has fault hooks"),
        (Flavour::Faults | Flavour::UseAfterFree, false) => {
            bail!("the build for tests has no fault hooks")
        }
        _ => Ok(()),
    }
}

fn hand_over(work: &Path, out: &Path, key: &Key) -> Result<()> {
    fs::create_dir_all(out)?;
    remove(&out.join("key"))?;
    for name in MODULES {
        let from = work.join("linux").join(name);
        fs::copy(&from, out.join(name)).with_context(|| from.display().to_string())?;
    }
    // Last: it says that the modules are whole.
    Ok(fs::write(out.join("key"), key.short())?)
}

/// (name below guest-driver, path) of what the driver is built from.
fn sources() -> Result<Vec<(String, PathBuf)>> {
    let root = programs::workspace()?.join("guest-driver");
    let mut found = Vec::new();
    for (dir, wanted) in [
        ("linux", &["Kbuild", "Makefile", "c", "h", "conf", "sh"][..]),
        ("linux/src", &["rs"]),
        ("linux/src/builtins", &["rs"]),
        ("flush-core/src", &["rs"]),
    ] {
        let path = root.join(dir);
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let kind = name.rsplit('.').next().unwrap_or_default();
            if path.is_file() && wanted.contains(&kind) && !name.ends_with(".mod.c") {
                found.push((format!("{dir}/{name}"), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Copies the sources to where they are built; what the compilers made there stays.
fn lay_out(work: &Path, sources: &[(String, PathBuf)]) -> Result<()> {
    for old in ["linux/src", "flush-core"] {
        remove(&work.join(old))?;
    }
    for (name, from) in sources {
        let to = work.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, &to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_warning_of_objtool_or_modpost_is_found() {
        let clean = "  CC [M]  helpers.o\nwarning: the compiler differs from the one used to \
                     build the kernel\n  LD [M]  virtio_pmem_rs.ko\n";
        assert!(warnings(clean).is_empty());
        for line in [
            "driver.o: warning: objtool: f+0x1: 'naked' return found in MITIGATION_RETHUNK build",
            "WARNING: modpost: missing MODULE_DESCRIPTION() in flusher.o",
        ] {
            assert_eq!(warnings(&format!("{clean}{line}\n")), [line]);
        }
    }

    #[test]
    fn hooks_are_where_they_belong_and_nowhere_else() {
        let with = [b"license=GPL\0", HOOKS, b": for tests only.\0"].concat();
        check_hooks(b"license=GPL\0", Flavour::Normal).unwrap();
        check_hooks(&with, Flavour::Faults).unwrap();
        check_hooks(&with, Flavour::Normal).unwrap_err();
        check_hooks(b"license=GPL\0", Flavour::Faults).unwrap_err();
    }

    #[test]
    fn modules_without_the_key_of_their_sources_are_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let (work, out) = (dir.path().join("work"), dir.path().join("out"));
        fs::create_dir_all(work.join("linux")).unwrap();
        for name in MODULES {
            fs::write(work.join("linux").join(name), name).unwrap();
        }
        let key = Key::new("a");
        assert!(!is_current(&out, &key));
        hand_over(&work, &out, &key).unwrap();
        assert!(is_current(&out, &key));
        assert!(!is_current(&out, &Key::new("b")));
        fs::remove_file(out.join("flusher.ko")).unwrap();
        assert!(!is_current(&out, &key));
    }

    #[test]
    fn the_sources_are_all_that_the_makefile_takes_along() {
        let names: Vec<_> = sources()
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for name in [
            "linux/Kbuild",
            "linux/check-object.sh",
            "linux/dkms.conf",
            "linux/helpers.h",
            "linux/src/builtins/lib.rs",
            "linux/src/device.rs",
            "flush-core/src/lib.rs",
        ] {
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
        }
    }

    /// check-object.sh on an object made of this C.
    fn gate(code: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let (source, object) = (dir.path().join("a.c"), dir.path().join("a.o"));
        fs::write(&source, code).unwrap();
        let built = Command::new("cc")
            .args(["-c", "-O2", "-ffreestanding", "-fno-stack-protector"])
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .status();
        assert!(built.unwrap().success());
        let script = programs::workspace()
            .unwrap()
            .join("guest-driver/linux/check-object.sh");
        let checked = Command::new("sh")
            .arg(script)
            .args(["nm", "objdump"])
            .arg(&object)
            .output()
            .unwrap();
        match checked.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&checked.stderr).into_owned()),
        }
    }

    #[test]
    fn the_gate_lets_an_object_through_that_the_kernel_can_take() {
        gate("extern int vpr_kick(void *); int f(void *d) { return vpr_kick(d); }").unwrap();
    }

    #[test]
    fn the_gate_stops_a_panic_path() {
        let error = gate(
            "extern void _RNvNtCs1_4core9panicking5panic(void); \
             void f(int n) { if (n) _RNvNtCs1_4core9panicking5panic(); }",
        )
        .unwrap_err();
        assert!(error.contains("9panicking5panic"), "{error}");
    }

    #[test]
    fn the_gate_stops_vector_and_floating_point_registers() {
        for (code, register) in [
            ("double f(double a) { return a * 3; }", "xmm"),
            // Its registers are a stack, which most instructions don't name.
            ("void f(long double *a) { *a *= 3; }", "fld"),
        ] {
            let error = gate(code).unwrap_err();
            assert!(
                error.contains(register) && error.contains("registers"),
                "{error}"
            );
        }
    }
}
