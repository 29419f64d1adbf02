// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What a snapshot that fails takes away again.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::{fs, result};

use log::warn;
use vm_migration::MigratableError;

use super::{SNAPSHOT_CONFIG_FILE, SNAPSHOT_STATE_FILE, url_to_path};
use crate::memory_manager::SNAPSHOT_FILENAME;

/// The files of a snapshot that is being written. Dropped before it is
/// finished, it removes them, but for those that were there before.
pub struct UnfinishedSnapshot(Vec<PathBuf>);

impl UnfinishedSnapshot {
    /// Call before the first file is created.
    pub fn new(destination_url: &str) -> result::Result<Self, MigratableError> {
        let directory = url_to_path(destination_url)?;
        let files = [SNAPSHOT_CONFIG_FILE, SNAPSHOT_STATE_FILE, SNAPSHOT_FILENAME]
            .map(|name| directory.join(name));
        // A path that cannot be looked at is left alone.
        let is_new = |path: &PathBuf| {
            path.symlink_metadata()
                .is_err_and(|e| e.kind() == ErrorKind::NotFound)
        };
        Ok(Self(files.into_iter().filter(is_new).collect()))
    }

    /// The snapshot is whole: its files stay.
    pub fn finish(mut self) {
        self.0.clear();
    }
}

impl Drop for UnfinishedSnapshot {
    fn drop(&mut self) {
        for path in &self.0 {
            match fs::remove_file(path) {
                Ok(()) => (),
                Err(e) if e.kind() == ErrorKind::NotFound => (),
                Err(e) => warn!("Cannot remove {path:?} of a failed snapshot: {e}"),
            }
        }
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    fn write_all(url: &str) {
        let directory = url_to_path(url).unwrap();
        for name in [SNAPSHOT_CONFIG_FILE, SNAPSHOT_STATE_FILE, SNAPSHOT_FILENAME] {
            fs::write(directory.join(name), "half").unwrap();
        }
    }

    fn names(url: &str) -> Vec<String> {
        let entries = fs::read_dir(url_to_path(url).unwrap()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn test_a_snapshot_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let unfinished = UnfinishedSnapshot::new(&url).unwrap();
        write_all(&url);
        drop(unfinished);
        assert_eq!(names(&url), Vec::<String>::new());
    }

    #[test]
    fn test_a_snapshot_that_is_whole_stays() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let unfinished = UnfinishedSnapshot::new(&url).unwrap();
        write_all(&url);
        unfinished.finish();
        assert_eq!(names(&url), ["config.json", "memory-ranges", "state.json"]);
    }

    #[test]
    fn test_an_earlier_snapshot_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        write_all(&url);
        fs::remove_file(directory.path().join(SNAPSHOT_STATE_FILE)).unwrap();
        fs::write(directory.path().join("notes"), "the user's").unwrap();
        let unfinished = UnfinishedSnapshot::new(&url).unwrap();
        write_all(&url);
        drop(unfinished);
        assert_eq!(names(&url), ["config.json", "memory-ranges", "notes"]);
    }

    #[test]
    fn test_a_destination_must_be_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}/none", directory.path().display());
        UnfinishedSnapshot::new(&url).err().unwrap();
    }
}
