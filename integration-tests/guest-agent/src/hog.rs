// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A program that wants more memory than there is, so that the kernel reclaims all the time.

use std::fs::File;
use std::path::Path;

const PAGE: usize = 4096;
/// Rounds that are made in any case: after the second one, what was swapped out has come back.
const ROUNDS: u64 = 2;

/// Writes to each page of `mib` MiB, over and over until somebody writes to the file `until`, which it makes, and
/// returns how many pages it wrote. A page that was swapped out comes back for its write and must go out again;
/// one that does not come back as it was is an error.
pub fn run(mib: usize, until: &Path) -> Result<u64, String> {
    let bytes = mib
        .checked_mul(1 << 20)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("--mib {mib}: give a size that memory can have"))?;
    let end = File::create_new(until).map_err(|error| format!("{}: {error}", until.display()))?;
    let is_over = || end.metadata().map_or(true, |metadata| metadata.len() > 0);
    let mut memory = vec![0_u8; bytes];
    let mut pages = 0;
    for round in 1_u64.. {
        for (page, number) in memory.chunks_mut(PAGE).zip(0_u64..) {
            let (mark, _) = page.split_at_mut(2 * size_of::<u64>());
            let wanted = if round == 1 {
                [0, 0]
            } else {
                [round - 1, number]
            };
            if mark != marked(wanted) {
                return Err(format!(
                    "page {number} is not as round {} left it",
                    round - 1
                ));
            }
            mark.copy_from_slice(&marked([round, number]));
            pages += 1;
            // A look at the file for each page would take longer than the page.
            if round > ROUNDS && pages % 64 == 0 && is_over() {
                return Ok(pages);
            }
        }
        if round >= ROUNDS && is_over() {
            break;
        }
    }
    Ok(pages)
}

fn marked([round, number]: [u64; 2]) -> [u8; 16] {
    (u128::from(round) << 64 | u128::from(number)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::thread;

    use super::*;

    #[test]
    fn it_writes_to_all_memory_twice_until_the_file_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let until = dir.path().join("until");
        run(0, &until).unwrap_err();
        run(usize::MAX, &until).unwrap_err();
        let hog = thread::spawn({
            let until = until.clone();
            move || run(1, &until)
        });
        // Like the agent, which writes to files that there are.
        while OpenOptions::new()
            .write(true)
            .open(&until)
            .and_then(|mut file| file.write_all(b"1"))
            .is_err()
        {
            thread::yield_now();
        }
        assert!(hog.join().unwrap().unwrap() >= 2 * 256);
        // A file that is there already is another's.
        run(1, &until).unwrap_err();
    }
}
