// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The kernel's log (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use guest_agent::wire::KernelLine;

use crate::agent::line::Sender;

/// Errors and worse are forwarded even if they are older than the agent.
const OLD_LEVEL: u8 = 3;

/// All but debug messages are forwarded from then on. Each byte on the line is an exit to the
/// VMM, so the boot's hundreds of lines stay in the log, for the `dmesg` order.
const LEVEL: u8 = 6;

/// Longer than any record of the log.
const RECORD: usize = 16 << 10;

/// Forwards the log from a thread of its own.
pub fn forward(sender: Sender) -> io::Result<()> {
    let mut old = open(libc::O_NONBLOCK)?;
    let mut newest = None;
    each(&mut old, |seq, line| {
        newest = Some(seq);
        if line.level <= OLD_LEVEL {
            sender.kernel(line);
        }
    })?;
    let mut log = open(0)?;
    thread::Builder::new()
        .name("kmsg".to_owned())
        .spawn(move || {
            // It ends only if the log cannot be read any more.
            let _ = each(&mut log, |seq, line| {
                if line.level <= LEVEL && newest.is_none_or(|newest| seq > newest) {
                    sender.kernel(line);
                }
            });
        })
        .map(drop)
}

/// All of the log so far, as dmesg(1) prints it.
///
/// # Errors
///
/// The log cannot be read.
pub fn dump() -> io::Result<String> {
    let mut text = String::new();
    each(&mut open(libc::O_NONBLOCK)?, |_, line| {
        let (seconds, micros) = (line.time_us / 1_000_000, line.time_us % 1_000_000);
        text.push_str(&format!(
            "<{}>[{seconds:5}.{micros:06}] {}\n",
            line.level, line.text
        ));
    })?;
    Ok(text)
}

fn open(flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open("/dev/kmsg")
}

/// Reads records until there is none, which for a blocking file is never.
fn each(log: &mut File, mut take: impl FnMut(u64, KernelLine)) -> io::Result<()> {
    let mut bytes = [0; RECORD];
    loop {
        match log.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if let Some((seq, line)) = parse(&String::from_utf8_lossy(&bytes[..count])) {
                    take(seq, line);
                }
            }
            Err(error) => match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::WouldBlock, _) => return Ok(()),
                // Records were overwritten before they were read: the next read goes on.
                (io::ErrorKind::Interrupted, _) | (_, Some(libc::EPIPE)) => {}
                _ => return Err(error),
            },
        }
    }
}

/// `facility*8+level,sequence,microseconds,flags;text`, then lines of properties.
fn parse(record: &str) -> Option<(u64, KernelLine)> {
    let (prefix, rest) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let time_us = fields.next()?.parse().ok()?;
    Some((
        seq,
        KernelLine {
            level: u8::try_from(priority & 7).ok()?,
            time_us,
            text: rest.lines().next()?.to_owned(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_level_time_and_text() {
        let record = "30,455,1234567,-;pmem0: said; something\n SUBSYSTEM=block\n";
        let line = KernelLine {
            level: 6,
            time_us: 1_234_567,
            text: "pmem0: said; something".to_owned(),
        };
        assert_eq!(parse(record), Some((455, line)));
        assert_eq!(parse("no record"), None);
    }
}
