// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The share image: what one start of the lab gets from the host, mounted at `/lab` there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::rootfs;
use crate::host::setup::Assets;
use crate::job::Job;

/// A file to put on the share besides what is always there.
#[derive(Clone, Debug)]
pub struct Extra {
    /// On the host.
    pub from: PathBuf,
    /// Below `/lab`.
    pub to: String,
}

/// Lays out and makes the image in `dir`; gives its path.
pub fn make(dir: &Path, assets: &Assets, job: &Job, extras: &[Extra]) -> Result<PathBuf> {
    let tree = dir.join("share");
    let image = dir.join("share.ext4");
    fs::create_dir_all(tree.join("bin"))?;
    fs::create_dir_all(tree.join("images"))?;
    let programs = &assets.programs;
    let mut files = vec![
        (programs.lab.as_path(), "bin/lab".to_owned()),
        (&programs.vmm, "bin/vmm".to_owned()),
        (&programs.vmm_fault, "bin/vmm-fault".to_owned()),
    ];
    for guest in &assets.guests {
        files.push((&guest.kernel, format!("images/bzImage-{}", guest.series)));
        files.push((
            &guest.initramfs,
            format!("images/initramfs-{}.cpio", guest.series),
        ));
    }
    files.extend(
        extras
            .iter()
            .map(|extra| (extra.from.as_path(), extra.to.clone())),
    );
    for (from, to) in files {
        let to = tree.join(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, &to)
            .with_context(|| format!("cannot copy {} to the share", from.display()))?;
    }
    fs::write(tree.join("job.json"), serde_json::to_vec_pretty(job)?)?;
    rootfs::make_ext4(&image, &tree, "512M")?;
    fs::remove_dir_all(&tree)?;
    Ok(image)
}
