// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A source tree on disk, confined to its folder.
//!
//! All access goes through a capability for the folder, so that the operating
//! system itself keeps it inside; symbolic links on the way are refused besides,
//! because a file behind one is not the tree's.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, FileType, MetadataExt, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt,
};

use crate::blob::{BlobId, Mode};
use crate::error::Error;
use crate::lock::Lock;
use crate::path::{STATE_FOLDER, TreePath};
use crate::series::Version;

/// A source tree.
#[derive(Debug)]
pub struct Tree {
    dir: Dir,
    root: PathBuf,
}

/// A regular file as found in a tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its permission bits, 12 of them.
    pub permissions: u32,
    /// Its content.
    pub content: Vec<u8>,
}

impl Found {
    /// Its version as git sees it.
    pub fn version(&self) -> Version {
        Version {
            mode: Mode::of_permissions(self.permissions),
            blob: BlobId::of(&self.content),
        }
    }
}

impl Tree {
    /// Opens the tree at `root`.
    ///
    /// # Errors
    /// A folder that does not exist or can't be read.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let dir = Dir::open_ambient_dir(root, ambient_authority())
            .map_err(Error::io(format!("open --tree {}", root.display())))?;
        Ok(Self {
            dir,
            root: root.to_owned(),
        })
    }

    /// The folder that was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The capability for the folder.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Keeps every other chpatch out of this tree until the result is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`] if another one is at work.
    pub fn lock(&self) -> Result<Lock, Error> {
        // A lock needs a descriptor that is open for reading; the capability's is not.
        let folder = self
            .dir
            .open(".")
            .map_err(Error::io(format!("lock {}", self.root.display())))?
            .into_std();
        Lock::take(folder, &self.root)
    }

    /// The file at `path`, or `None` if nothing is there.
    ///
    /// # Errors
    /// [`Error::Unfit`] if something else than a regular file is there, or one of
    /// the folders above is none.
    pub fn read(&self, path: &TreePath) -> Result<Option<Found>, Error> {
        for folder in path.folders() {
            match self.kind(folder)? {
                None => return Ok(None),
                Some((kind, _)) if kind.is_dir() => {}
                Some((kind, _)) => return Err(unfit(folder, kind, "a folder")),
            }
        }
        match self.kind(path.as_str())? {
            None => Ok(None),
            Some((kind, permissions)) if kind.is_file() => Ok(Some(Found {
                permissions,
                content: self
                    .dir
                    .read(path)
                    .map_err(Error::io(format!("read {path}")))?,
            })),
            Some((kind, _)) => Err(unfit(path.as_str(), kind, "a regular file")),
        }
    }

    /// Checks that `path` may be written or removed: neither the file nor the
    /// nearest folder above it that exists is read-only.
    ///
    /// # Errors
    /// [`Error::Unfit`] with the one that is.
    pub fn writable(&self, path: &TreePath) -> Result<(), Error> {
        let read_only = |file: &str| Error::Unfit {
            file: file.to_owned(),
            fault: format!("is read-only; `chmod u+w {file}` if it may be changed"),
        };
        let mut nearest = ".";
        for folder in path.folders() {
            if self.kind(folder)?.is_some() {
                nearest = folder;
            }
        }
        for file in [nearest, path.as_str()] {
            match self.kind(file)? {
                Some((_, permissions)) if permissions & 0o200 == 0 => return Err(read_only(file)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The folders above `path` that do not exist, outermost first.
    ///
    /// # Errors
    /// A folder that can't be looked into.
    pub fn missing_folders<'a>(&self, path: &'a TreePath) -> Result<Vec<&'a str>, Error> {
        let mut missing = Vec::new();
        for folder in path.folders() {
            if self.kind(folder)?.is_none() {
                missing.push(folder);
            }
        }
        Ok(missing)
    }

    fn kind(&self, path: &str) -> Result<Option<(FileType, u32)>, Error> {
        match self.dir.symlink_metadata(path) {
            Ok(metadata) => Ok(Some((
                metadata.file_type(),
                metadata.permissions().mode() & 0o7777,
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io(format!("look at {path}"))(source)),
        }
    }

    /// Writes `content` to the new file `name` in the state folder, durably.
    /// `permissions` are exact; `None` leaves them to the umask and `mode`.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn stage(
        &self,
        name: &str,
        content: &[u8],
        permissions: Option<u32>,
        mode: Mode,
    ) -> Result<(), Error> {
        let path = format!("{STATE_FOLDER}/{name}");
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            options.mode(match mode {
                Mode::Regular => 0o666,
                Mode::Executable => 0o777,
            });
            let mut file = self.dir.open_with(&path, &options)?;
            file.write_all(content)?;
            if let Some(bits) = permissions {
                file.set_permissions(Permissions::from_mode(bits))?;
            }
            file.sync_all()
        };
        write().map_err(Error::io(format!("write {path}")))
    }

    /// Puts the staged file `name` at `path`, creating the folders above.
    ///
    /// # Errors
    /// A folder that can't be created or written to.
    pub fn place(&self, name: &str, path: &TreePath) -> Result<(), Error> {
        let put = || {
            if let Some(above) = path.folders().last() {
                self.dir.create_dir_all(above)?;
            }
            self.keep_owner(name, path)?;
            self.dir
                .rename(format!("{STATE_FOLDER}/{name}"), &self.dir, path)?;
            self.sync_folder(path)
        };
        put().map_err(Error::io(format!("write {path}")))
    }

    /// Removes the file at `path`.
    ///
    /// # Errors
    /// A file that can't be removed.
    pub fn remove(&self, path: &TreePath) -> Result<(), Error> {
        let remove = || {
            self.dir.remove_file(path)?;
            self.sync_folder(path)
        };
        remove().map_err(Error::io(format!("remove {path}")))
    }

    fn sync_folder(&self, path: &TreePath) -> io::Result<()> {
        let above = path.folders().last().unwrap_or(".");
        self.dir.open(above)?.sync_all()
    }

    /// Gives a staged file the owner of the file it takes the place of, or of the
    /// tree: a tree patched by root stays its owner's.
    fn keep_owner(&self, name: &str, path: &TreePath) -> io::Result<()> {
        let model = match self.dir.symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.dir.dir_metadata(),
            other => other,
        }?;
        let file = self.dir.open(format!("{STATE_FOLDER}/{name}"))?.into_std();
        let own = file.metadata()?;
        let owner = (model.uid(), model.gid());
        if owner != (own.uid(), own.gid()) {
            // Only root may; whoever else writes here owns what he writes.
            let _ = fchown(&file, Some(owner.0), Some(owner.1));
        }
        Ok(())
    }
}

fn unfit(file: &str, kind: FileType, wanted: &str) -> Error {
    let fault = if kind.is_symlink() {
        format!("is a symbolic link; chpatch does not write through links, put {wanted} there")
    } else {
        format!("is not {wanted}; move it away")
    };
    Error::Unfit {
        file: file.to_owned(),
        fault,
    }
}
