// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Everything a lab needs, made or found in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::host::apt::Apt;
use crate::host::build_root::BuildRoot;
use crate::host::cache::{Cache, Key};
use crate::host::driver::{self, Flavour};
use crate::host::initramfs;
use crate::host::kernel::{Kernel, SERIES, Source};
use crate::host::lab;
use crate::host::packages;
use crate::host::programs::{self, Programs};
use crate::host::progress::Progress;
use crate::host::rootfs;
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
    driver: &[PathBuf],
) -> Result<PathBuf> {
    let mut key = Key::new("complete 1")
        .text(&base.to_string_lossy())
        .file(init)?;
    for module in driver {
        key = key.text(&module.to_string_lossy()).file(module)?;
    }
    cache.keep("images", stem, ".cpio", &key, |path| {
        initramfs::complete(path, base, init, driver)
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

/// They load in the order of their names.
fn rust_driver(release: &str) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(driver::dir(Flavour::Normal, release)?) else {
        return Ok(Vec::new());
    };
    let mut modules = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ko") {
            modules.push(path);
        }
    }
    modules.sort();
    Ok(modules)
}
