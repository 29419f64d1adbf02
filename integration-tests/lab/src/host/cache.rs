// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where built and downloaded things live, and when they have to be made again.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use sha1::{Digest, Sha1};

/// `${XDG_CACHE_HOME:-~/.cache}/pmem-flush`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// Held while this process builds or uses what is in the cache's root.
pub type Lock = Flock<File>;

impl Cache {
    /// Finds the cache's place and makes it.
    pub fn open() -> Result<Self> {
        let root = place(
            env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
            env::home_dir(),
        )?;
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot make the cache directory {}", root.display()))?;
        Ok(Self { root })
    }

    /// A path in the cache; nothing is made.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A directory in the cache, made if missing.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        Ok(path)
    }

    /// Waits until no other process builds `name`, and keeps others out until dropped.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.dir("locks")?.join(name);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("cannot lock {}", path.display()))
    }

    /// Gives `<dir>/<stem>-<key><suffix>`; runs `make` for it if it is not there, under a lock, and
    /// removes what older keys left. `make` writes to the path it is given, a directory or a file,
    /// which gets its final name only when `make` succeeded.
    pub fn keep(
        &self,
        dir: &str,
        stem: &str,
        suffix: &str,
        key: &Key,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.dir(dir)?;
        let wanted = dir.join(format!("{stem}-{}{suffix}", key.short()));
        if wanted.exists() {
            touch(&wanted)?;
            return Ok(wanted);
        }
        let _lock = self.lock(stem)?;
        if wanted.exists() {
            return Ok(wanted);
        }
        let partial = dir.join(format!("{stem}.partial"));
        remove(&partial)?;
        make(&partial)?;
        fs::rename(&partial, &wanted)
            .with_context(|| format!("cannot rename to {}", wanted.display()))?;
        let keep = if wanted.is_dir() {
            KEPT_TREES
        } else {
            KEPT_VERSIONS
        };
        prune(&dir, &format!("{stem}-"), suffix, keep)?;
        Ok(wanted)
    }
}

/// Several worktrees may use one cache, each with its own agent; more than that is waste.
const KEPT_VERSIONS: usize = 12;

/// Of what is large.
const KEPT_TREES: usize = 2;

fn place(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    // The base directory rule: a relative XDG_CACHE_HOME is to be ignored.
    let base = xdg.filter(|path| path.is_absolute()).or_else(|| {
        home.filter(|path| path.is_absolute())
            .map(|home| home.join(".cache"))
    });
    match base {
        Some(base) => Ok(base.join("pmem-flush")),
        None => bail!("no place for the cache: set HOME or XDG_CACHE_HOME to an absolute path"),
    }
}

/// Removes a file or a tree; nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}

fn touch(path: &Path) -> Result<()> {
    // What is used is what is kept. A cache made by another user is still good to read.
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(())
}

fn prune(dir: &Path, prefix: &str, suffix: &str, keep: usize) -> Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_key = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(suffix))
            .is_some_and(|key| key.len() == KEY_LEN && key.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_key {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    for (_, path) in found.iter().skip(keep) {
        remove(path)?;
    }
    Ok(())
}

const KEY_LEN: usize = 16;

/// A hash over everything a built thing depends on.
#[derive(Clone, Default)]
pub struct Key {
    hash: Sha1,
}

impl Key {
    /// Starts with the name of the recipe; change it when the recipe changes.
    pub fn new(recipe: &str) -> Self {
        Self::default().text(recipe)
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.hash.update(text.len().to_le_bytes());
        self.hash.update(text);
        self
    }

    /// Adds a file's content.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(self);
            }
            self.hash.update(&buffer[..n]);
        }
    }

    /// The hash as names have it.
    pub fn short(&self) -> String {
        let digest = self.hash.clone().finalize();
        let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        hex.truncate(KEY_LEN);
        hex
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(root: &Path) -> Cache {
        Cache {
            root: root.to_owned(),
        }
    }

    #[test]
    fn a_relative_cache_home_is_ignored() {
        let home = Some(PathBuf::from("/home/u"));
        assert_eq!(
            place(Some(PathBuf::from("x")), home.clone()).unwrap(),
            Path::new("/home/u/.cache/pmem-flush")
        );
        assert_eq!(
            place(Some(PathBuf::from("/x")), home).unwrap(),
            Path::new("/x/pmem-flush")
        );
        place(None, None).unwrap_err();
    }

    #[test]
    fn a_thing_is_built_once_per_key_and_not_kept_when_building_fails() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let key = Key::new("t").text("a");
        let failed = cache.keep("d", "x", ".img", &key, |path| {
            fs::write(path, "half")?;
            bail!("no")
        });
        failed.unwrap_err();
        let made = cache
            .keep("d", "x", ".img", &key, |path| Ok(fs::write(path, "whole")?))
            .unwrap();
        assert_eq!(fs::read_to_string(&made).unwrap(), "whole");
        let again = cache
            .keep("d", "x", ".img", &key, |_| bail!("must not be built again"))
            .unwrap();
        assert_eq!(made, again);
        let other = cache
            .keep("d", "x", ".img", &Key::new("t").text("b"), |path| {
                Ok(fs::write(path, "other")?)
            })
            .unwrap();
        assert_ne!(made, other);
    }

    #[test]
    fn pruning_keeps_the_newest_and_leaves_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/x-notes.img"), "mine").unwrap();
        for n in 0..KEPT_VERSIONS + 3 {
            let key = Key::new("t").text(&n.to_string());
            cache
                .keep("d", "x", ".img", &key, |path| Ok(fs::write(path, "")?))
                .unwrap();
        }
        assert_eq!(
            fs::read_dir(dir.path().join("d")).unwrap().count(),
            KEPT_VERSIONS + 1
        );
        assert!(dir.path().join("d/x-notes.img").exists());
    }

    #[test]
    fn texts_that_join_to_the_same_give_different_keys() {
        assert_ne!(
            Key::new("r").text("ab").text("c").short(),
            Key::new("r").text("a").text("bc").short()
        );
    }
}
