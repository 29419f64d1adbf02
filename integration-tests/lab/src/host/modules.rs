// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which modules a module needs, in load order, and their uncompressed content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::kernel::Kernel;

/// A module file, ready for an initramfs.
#[derive(Clone, Debug)]
pub struct Module {
    /// `nd_pmem.ko`
    pub file: String,
    /// Uncompressed content.
    pub content: Vec<u8>,
}

/// `wanted` with all they need, in load order, leaving out what `except` (and what it needs) gives,
/// and what is built in. A name neither built in nor there is an error.
pub fn closure(kernel: &Kernel, wanted: &[&str], except: &[&str]) -> Result<Vec<Module>> {
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (dep, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let graph = Graph::parse(&dep, &builtin);
    let before: BTreeSet<_> = graph.order(except)?.into_iter().collect();
    graph
        .order(wanted)?
        .into_iter()
        .filter(|path| !before.contains(path))
        .map(|path| load(&kernel.modules.join(path), path))
        .collect()
}

fn load(path: &Path, name: &str) -> Result<Module> {
    let content = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(path)?,
        Some("xz") => unpack("xz", path)?,
        Some("zst") => unpack("zstd", path)?,
        _ => bail!("{}: unknown module compression", path.display()),
    };
    Ok(Module {
        file: format!("{}.ko", stem(name)),
        content,
    })
}

fn unpack(tool: &str, path: &Path) -> Result<Vec<u8>> {
    let output = Command::new(tool)
        .args(["--decompress", "--stdout"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {tool}"))?;
    if !output.status.success() {
        bail!("{tool} cannot unpack {}", path.display());
    }
    Ok(output.stdout)
}

/// modules.dep and modules.builtin, by module name.
struct Graph<'a> {
    needs: BTreeMap<String, (&'a str, Vec<&'a str>)>,
    builtin: BTreeSet<String>,
}

impl<'a> Graph<'a> {
    fn parse(dep: &'a str, builtin: &'a str) -> Self {
        let needs = dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| (stem(path), (path, needs.split_whitespace().collect())))
            .collect();
        Self {
            needs,
            builtin: builtin.lines().map(stem).collect(),
        }
    }

    /// Paths in load order.
    fn order(&self, wanted: &[&str]) -> Result<Vec<&'a str>> {
        let mut order = Vec::new();
        for name in wanted {
            let name = stem(name);
            if self.builtin.contains(&name) {
                continue;
            }
            let Some((path, needs)) = self.needs.get(&name) else {
                bail!("the kernel has no module {name:?}");
            };
            // depmod lists all that is needed, transitively, what is to be loaded first last.
            for path in needs.iter().rev().chain([path]) {
                if !order.contains(path) {
                    order.push(*path);
                }
            }
        }
        Ok(order)
    }
}

/// `kernel/drivers/md/dm-mod.ko.xz` to `dm_mod`: the kernel takes `-` and `_` as one.
fn stem(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/a/top.ko.xz: kernel/a/mid-one.ko.xz kernel/a/base.ko.xz
kernel/a/mid-one.ko.xz: kernel/a/base.ko.xz
kernel/a/base.ko.xz:
kernel/b/other.ko: kernel/a/base.ko.xz
";

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let graph = Graph::parse(DEP, "kernel/fs/ext4/ext4.ko\n");
        assert_eq!(
            graph.order(&["ext4", "other", "top"]).unwrap(),
            [
                "kernel/a/base.ko.xz",
                "kernel/b/other.ko",
                "kernel/a/mid-one.ko.xz",
                "kernel/a/top.ko.xz"
            ]
        );
    }

    #[test]
    fn a_chain_loads_from_its_end() {
        let graph = Graph::parse(DEP, "");
        assert_eq!(
            graph.order(&["top"]).unwrap(),
            [
                "kernel/a/base.ko.xz",
                "kernel/a/mid-one.ko.xz",
                "kernel/a/top.ko.xz"
            ]
        );
    }

    #[test]
    fn a_dash_is_an_underscore() {
        let graph = Graph::parse(DEP, "");
        assert_eq!(
            graph.order(&["mid_one"]).unwrap(),
            graph.order(&["mid-one"]).unwrap()
        );
        assert_eq!(stem("kernel/drivers/md/dm-mod.ko.xz"), "dm_mod");
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        let error = Graph::parse(DEP, "")
            .order(&["nd_pmem"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("nd_pmem"), "{error}");
    }
}
