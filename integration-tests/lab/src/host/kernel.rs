// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Debian's stock cloud kernels: which one, and unpacked where.
//!
//! The archive drops old backport versions, and for a while may hold an image whose modules are
//! already gone. So the newest version of a series is taken of which every part is there.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::apt::Apt;
use crate::host::cache::{Cache, Key};
use crate::host::tool;

/// The series the lab and its guests can have; the first is the default.
pub const SERIES: &[&str] = &["7.3", "6.12"];

/// The series of the kernel that [`super::kasan`] builds.
pub const KASAN: &str = "kasan";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The release, as `uname -r` says it.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// `…/lib/modules/<release>`, depmod's files included.
    pub modules: PathBuf,
    /// Changes whenever the kernel does.
    pub key: String,
    /// Where it was built, with `source` and `build`; none if its headers are a package.
    pub build: Option<PathBuf>,
}

/// One kernel in the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Candidate {
    release: String,
    version: String,
    /// `name=version` of each package to unpack.
    packages: Vec<String>,
}

/// Where kernels come from: the cache first, the archive when the cache has none or is to be renewed.
pub struct Source<'a> {
    apt: &'a Apt,
    cache: &'a Cache,
    renew: bool,
    packages: OnceCell<String>,
}

impl<'a> Source<'a> {
    /// With `renew`, the archive is asked even if the cache has a kernel.
    pub fn new(cache: &'a Cache, apt: &'a Apt, renew: bool) -> Self {
        Self {
            apt,
            cache,
            renew,
            packages: OnceCell::new(),
        }
    }

    /// The kernel of `series`.
    pub fn kernel(&self, series: &str) -> Result<Kernel> {
        let current = self.cache.dir("kernels")?.join(format!("current-{series}"));
        if !self.renew
            && let Ok(name) = fs::read_to_string(&current)
            && let Ok(kernel) = open(&self.cache.path("kernels").join(name))
        {
            return Ok(kernel);
        }
        let found = resolve(self.packages()?, series, newer)?;
        let path = self.fetch(series, &found)?;
        let kernel = open(&path)?;
        fs::write(&current, &kernel.key)?;
        Ok(kernel)
    }

    fn packages(&self) -> Result<&str> {
        if self.packages.get().is_none() {
            let _lock = self.cache.lock("apt")?;
            self.apt.update()?;
            let _ = self.packages.set(self.apt.packages()?);
        }
        Ok(self.packages.get().map(String::as_str).unwrap_or_default())
    }

    /// Downloads a kernel's source by way of `debs` and unpacks it as `dir`.
    pub fn unpack_source(&self, kernel: &Kernel, debs: &Path, dir: &Path) -> Result<()> {
        let release = &kernel.release;
        let package = source_package(self.packages()?, release).with_context(|| {
            format!(
                "the archive has no source of Linux {release} any more: \
                 ./scripts/setup takes its newest kernels"
            )
        })?;
        fs::create_dir_all(debs)?;
        self.apt.download(&[package], debs)?;
        let unpacked = debs.join("unpacked");
        for deb in fs::read_dir(debs)? {
            tool::run(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(deb?.path())
                    .arg(&unpacked),
            )?;
        }
        fs::create_dir_all(dir)?;
        for tar in fs::read_dir(unpacked.join("usr/src"))? {
            tool::run(
                Command::new("tar")
                    .args(["--extract", "--strip-components=1", "--file"])
                    .arg(tar?.path())
                    .arg("--directory")
                    .arg(dir),
            )?;
        }
        Ok(())
    }

    /// Downloads and unpacks a kernel unless that was done before.
    fn fetch(&self, series: &str, found: &Candidate) -> Result<PathBuf> {
        let key = Key::new("kernel 1").text(&found.packages.join(" "));
        self.cache
            .keep("kernels", &format!("linux-{series}"), "", &key, |dir| {
                let debs = dir.join("debs");
                fs::create_dir_all(&debs)?;
                self.apt.download(&found.packages, &debs)?;
                for deb in fs::read_dir(&debs)? {
                    tool::run(
                        Command::new("dpkg-deb")
                            .arg("--extract")
                            .arg(deb?.path())
                            .arg(dir),
                    )?;
                }
                fs::remove_dir_all(&debs)?;
                // depmod looks in lib/modules, the packages have usr/lib/modules.
                let base = dir.join("usr");
                tool::run(
                    Command::new("depmod")
                        .arg("--basedir")
                        .arg(base)
                        .arg(&found.release),
                )?;
                fs::write(dir.join("release"), &found.release)?;
                Ok(())
            })
    }
}

/// A kernel that [`Source::fetch`] unpacked at `path`, or one laid out like it.
pub fn open(path: &Path) -> Result<Kernel> {
    let release = fs::read_to_string(path.join("release"))?;
    let image = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
    ]
    .iter()
    .map(|name| path.join(name))
    .find(|path| path.is_file())
    .with_context(|| format!("no kernel image in the packages of Linux {release}"))?;
    let modules = path.join("usr/lib/modules").join(&release);
    if !modules.join("modules.dep").is_file() {
        bail!("no modules in the packages of Linux {release}");
    }
    let key = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Kernel {
        release,
        image,
        modules,
        key,
        build: None,
    })
}

/// The package with the source of a kernel, as `name=version`.
fn source_package(packages: &str, release: &str) -> Option<String> {
    let known = stanzas(packages);
    let image = format!("linux-image-{release}");
    let series: Vec<_> = release.split(['.', '+', '-']).take(2).collect();
    let source = format!("linux-source-{}", series.join("."));
    let mut versions = known
        .keys()
        .filter(|(name, _)| *name == image)
        .map(|(_, version)| version);
    let version = versions.find(|version| known.contains_key(&(source.as_str(), **version)))?;
    Some(format!("{source}={version}"))
}

/// The newest kernel of `series` whose image, modules and headers agree.
fn resolve(
    packages: &str,
    series: &str,
    newer: impl Fn(&str, &str) -> Result<bool>,
) -> Result<Candidate> {
    let known = stanzas(packages);
    let mut best: Option<Candidate> = None;
    for ((name, version), depends) in &known {
        let Some(release) = name.strip_prefix("linux-image-").filter(|release| {
            release.ends_with("-cloud-amd64")
                && release
                    .strip_prefix(series)
                    .is_some_and(|rest| rest.starts_with(['.', '+', '-']))
        }) else {
            continue;
        };
        let Some(packages) = closure(&known, name, version, depends, release) else {
            continue;
        };
        let better = match &best {
            Some(best) => newer(version, &best.version)?,
            None => true,
        };
        if better {
            best = Some(Candidate {
                release: release.to_owned(),
                version: (*version).to_owned(),
                packages,
            });
        }
    }
    best.with_context(|| {
        format!(
            "the archive has no Linux {series} cloud kernel whose image, modules and headers agree"
        )
    })
}

type Stanzas<'a> = BTreeMap<(&'a str, &'a str), &'a str>;

/// (name, version) to dependencies, of all `linux-*` packages.
fn stanzas(text: &str) -> Stanzas<'_> {
    let mut found = BTreeMap::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        if let (Some(name), Some(version)) = (field("Package"), field("Version"))
            && name.starts_with("linux-")
        {
            found.insert((name, version), field("Depends").unwrap_or_default());
        }
    }
    found
}

/// The image and the packages of the same kernel it needs, if all of them and the headers are
/// there in one version.
fn closure(
    known: &Stanzas,
    name: &str,
    version: &str,
    depends: &str,
    release: &str,
) -> Option<Vec<String>> {
    let headers = format!("linux-headers-{release}");
    known.get(&(headers.as_str(), version))?;
    let mut all = vec![format!("{name}={version}")];
    for word in depends
        .split([',', '|'])
        .filter_map(|clause| clause.split_whitespace().next())
    {
        if word.starts_with("linux-") && word.ends_with(release) {
            known.get(&(word, version))?;
            all.push(format!("{word}={version}"));
        }
    }
    Some(all)
}

/// By dpkg's own rules.
fn newer(a: &str, b: &str) -> Result<bool> {
    let status = Command::new("dpkg")
        .args(["--compare-versions", a, "gt", b])
        .status()
        .context("cannot run dpkg --compare-versions")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, depends: &str) -> String {
        format!("Package: {name}\nVersion: {version}\nDepends: {depends}\nSize: 1\n\n")
    }

    fn whole(release: &str, version: &str) -> String {
        let modules = format!("linux-modules-{release}-cloud-amd64");
        package(
            &format!("linux-image-{release}-cloud-amd64"),
            version,
            &format!("dracut | initramfs-tools, {modules} (= {version})"),
        ) + &package(&modules, version, "kmod")
            + &package(
                &format!("linux-headers-{release}-cloud-amd64"),
                version,
                "gcc",
            )
    }

    #[test]
    fn the_newest_of_the_series_wins_by_debians_order() {
        let text = whole("7.3.9+deb13", "7.3.9-1") + &whole("7.3.10+deb13", "7.3.10-1~bpo13+1");
        let text = text + &whole("7.30.1+deb13", "7.30.1-1") + &whole("7.2.12+deb13", "7.2.12-1");
        let found = resolve(&text, "7.3", newer).unwrap();
        assert_eq!(found.release, "7.3.10+deb13-cloud-amd64");
        assert_eq!(
            found.packages,
            [
                "linux-image-7.3.10+deb13-cloud-amd64=7.3.10-1~bpo13+1",
                "linux-modules-7.3.10+deb13-cloud-amd64=7.3.10-1~bpo13+1"
            ]
        );
    }

    #[test]
    fn an_image_whose_modules_or_headers_are_gone_is_passed_over() {
        let old = whole("7.3.4+deb13", "7.3.4-1");
        let without = |part: &str| -> String {
            whole("7.3.5+deb13", "7.3.5-1")
                .split_inclusive("\n\n")
                .filter(|stanza| !stanza.starts_with(&format!("Package: linux-{part}")))
                .collect()
        };
        for part in ["modules", "headers"] {
            let found = resolve(&(old.clone() + &without(part)), "7.3", newer).unwrap();
            assert_eq!(found.release, "7.3.4+deb13-cloud-amd64", "{part}");
        }
        let other = whole("7.3.5+deb13", "7.3.5-1").replacen("7.3.5-1", "7.3.5-2", 1);
        resolve(&other, "7.3", newer).unwrap_err();
    }

    #[test]
    fn a_kernels_source_is_of_its_own_version() {
        let text = whole("7.3.4+deb13", "7.3.4-1~bpo13+1")
            + &package("linux-source-7.3", "7.3.4-1~bpo13+1", "xz-utils")
            + &package("linux-source-7.3", "7.3.5-1~bpo13+1", "xz-utils");
        assert_eq!(
            source_package(&text, "7.3.4+deb13-cloud-amd64").as_deref(),
            Some("linux-source-7.3=7.3.4-1~bpo13+1")
        );
        assert_eq!(source_package(&text, "7.3.6+deb13-cloud-amd64"), None);
    }

    #[test]
    fn debug_and_unsigned_images_are_not_kernels() {
        let text = package("linux-image-7.3.4+deb13-cloud-amd64-dbg", "7.3.4-1", "")
            + &package(
                "linux-image-7.3.4+deb13-cloud-amd64-unsigned",
                "7.3.4-1",
                "",
            );
        let error = resolve(&text, "7.3", newer).unwrap_err().to_string();
        assert!(error.contains("7.3"), "{error}");
    }
}
