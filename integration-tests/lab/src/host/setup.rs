// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Everything a lab needs, made or found in the cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::host::apt::Apt;
use crate::host::build_root::BuildRoot;
use crate::host::cache::{Cache, Key};
use crate::host::driver::{self, Flavour};
use crate::host::guests::{self, GuestAssets, GuestKernel};
use crate::host::initramfs::{self, Packed};
use crate::host::kasan;
use crate::host::kernel::{KASAN, Kernel, SERIES, Source};
use crate::host::lab;
use crate::host::packages;
use crate::host::programs::{self, Programs};
use crate::host::progress::Progress;
use crate::host::rootfs;
use crate::inside::driver::FAULTS;
use crate::job::Driver;

/// All that a lab is started from.
#[derive(Debug)]
pub struct Assets {
    /// Our own binaries.
    pub programs: Programs,
    /// The lab's kernel.
    pub lab_kernel: Kernel,
    /// The lab's initramfs.
    pub lab_initrd: PathBuf,
    /// The lab's root image.
    pub root: PathBuf,
    /// The guests, one for each kernel series.
    pub guests: Vec<Guest>,
    /// Where machines put their private files.
    pub runs: PathBuf,
}

/// A guest kernel and its initramfs.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The series, as the command line has it.
    pub series: String,
    /// The release in full.
    pub release: String,
    /// The bzImage.
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initramfs: PathBuf,
}

/// Whether the guests' Rust driver is built; what lies in its place is taken along anyway.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Build {
    /// It is built if its sources are newer.
    Driver,
    /// Nobody needs it now.
    NoDriver,
}

impl Build {
    /// What guests with these drivers need.
    pub fn of(drivers: impl IntoIterator<Item = Driver>) -> Self {
        if drivers.into_iter().any(|driver| driver == Driver::Rust) {
            Self::Driver
        } else {
            Self::NoDriver
        }
    }
}

/// `lab setup`: prepares and says what there is.
pub fn main() -> Result<ExitCode> {
    let progress = Progress::new();
    let assets = run(&progress, true, Build::Driver)?;
    let accel = lab::accel(&assets)?;
    progress.finish();
    println!("lab kernel  {}", assets.lab_kernel.release);
    println!("lab root    {}", assets.root.display());
    for guest in &assets.guests {
        println!("guest {:5} {}", guest.series, guest.release);
        println!("  kernel    {}", guest.kernel.display());
        println!("  initramfs {}", guest.initramfs.display());
    }
    println!("runs under  {}", accel.name());
    Ok(ExitCode::SUCCESS)
}

/// Makes what is missing; the second call is quick. With `renew` the archive is asked for newer
/// kernels.
pub fn run(progress: &Progress, renew: bool, build: Build) -> Result<Assets> {
    packages::ensure(progress)?;
    let cache = Cache::open()?;
    let apt = Apt::open(&cache)?;
    let source = Source::new(&cache, &apt, renew);
    let programs = programs::build(progress)?;

    let mut kernels = Vec::new();
    for series in SERIES {
        progress.step(&format!("looking for the Linux {series} kernel"));
        kernels.push((series, source.kernel(series)?));
    }
    progress.step("looking for the lab's root");
    let tree = rootfs::tree(&cache, &apt)?;
    let (_, lab_kernel) = kernels
        .first()
        .context("no kernel series is known")?
        .clone();
    let root = rootfs::image(&cache, &tree, &lab_kernel)?;
    if build == Build::Driver {
        let kernels: Vec<_> = kernels.iter().map(|(_, kernel)| kernel).collect();
        build_driver(progress, &cache, &apt, &kernels)?;
    }

    progress.step("looking for the initramfs images");
    let lab_base = initramfs::lab_base(&cache, &lab_kernel)?;
    let lab_initrd = complete(&cache, "lab-initrd", &lab_base, &programs.lab, &[])?;
    let mut guests = Vec::new();
    for (series, kernel) in kernels {
        let base = initramfs::guest_base(&cache, &kernel, &tree)?;
        let driver = rust_driver(&kernel.release)?;
        guests.push(Guest {
            series: (*series).to_owned(),
            initramfs: complete(
                &cache,
                &format!("initramfs-{series}"),
                &base,
                &programs.agent,
                &driver,
            )?,
            release: kernel.release,
            kernel: kernel.image,
        });
    }
    Ok(Assets {
        programs,
        lab_kernel,
        lab_initrd,
        root,
        guests,
        runs: cache.dir("runs")?,
    })
}

fn complete(
    cache: &Cache,
    stem: &str,
    base: &Path,
    init: &Path,
    driver: &[Packed],
) -> Result<PathBuf> {
    let mut key = Key::new("complete 2")
        .text(&base.to_string_lossy())
        .file(init)?;
    for module in driver {
        key = key.text(&module.name).file(&module.path)?;
    }
    cache.keep("images", stem, ".cpio", &key, |path| {
        initramfs::complete(path, base, init, driver)
    })
}

/// What the guest driver's own tests need, of the cache's kernels; `with_kasan` the one with KASAN too.
pub fn guests(progress: &Progress, with_kasan: bool) -> Result<GuestAssets> {
    packages::ensure(progress)?;
    let cache = Cache::open()?;
    let apt = Apt::open(&cache)?;
    let source = Source::new(&cache, &apt, false);
    let mut kernels = BTreeMap::new();
    for series in SERIES {
        progress.step(&format!("looking for the Linux {series} kernel"));
        kernels.insert((*series).to_owned(), source.kernel(series)?);
    }
    let tree = rootfs::tree(&cache, &apt)?;
    progress.step("looking for the root the guest driver is built in");
    let releases: Vec<_> = SERIES
        .iter()
        .filter_map(|series| kernels.get(*series))
        .map(|kernel| kernel.release.as_str())
        .collect();
    let root = BuildRoot::open(&cache, &apt, &releases)?;
    if with_kasan {
        let of = kernels
            .get(SERIES[0])
            .context("no kernel series is known")?;
        let kernel = kasan::kernel(progress, &cache, &source, &root, of)?;
        kernels.insert(KASAN.to_owned(), kernel);
    }
    driver::build(
        progress,
        &cache,
        &root,
        &kernels.values().collect::<Vec<_>>(),
    )?;
    let mut found = BTreeMap::new();
    for (series, kernel) in kernels {
        let base = initramfs::guest_base(&cache, &kernel, &tree)?;
        let kernel = GuestKernel {
            release: kernel.release,
            image: kernel.image,
            base,
        };
        found.insert(series, kernel);
    }
    Ok(GuestAssets {
        kernels: found,
        busybox: root.path("usr/bin/busybox"),
        slow_fsync: guests::slow_fsync(&cache)?,
        runs: cache.dir("runs")?,
        qemu: guests::qemu_version()?,
    })
}

fn build_driver(progress: &Progress, cache: &Cache, apt: &Apt, kernels: &[&Kernel]) -> Result<()> {
    progress.step("looking for the root the guest driver is built in");
    let releases: Vec<_> = kernels
        .iter()
        .map(|kernel| kernel.release.as_str())
        .collect();
    let root = BuildRoot::open(cache, apt, &releases)?;
    driver::build(progress, cache, &root, kernels)
}

/// What has been built: the driver, and for scenarios to load the test module and the build with
/// fault hooks.
fn rust_driver(release: &str) -> Result<Vec<Packed>> {
    let [module, flusher] = driver::MODULES;
    let mut found = Vec::new();
    for (flavour, file, name, at_boot) in [
        (Flavour::Normal, module, *module, true),
        (Flavour::Normal, flusher, *flusher, false),
        (Flavour::Faults, module, FAULTS, false),
    ] {
        let path = driver::dir(flavour, release)?.join(file);
        if path.is_file() {
            let name = name.to_owned();
            found.push(Packed {
                name,
                path,
                at_boot,
            });
        }
    }
    Ok(found)
}
