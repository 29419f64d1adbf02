// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which sync calls keep what was stored through a mapping, on which filesystem: no guest, only
//! what a VMM could do on its host.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::ack::{BlockAck, Counters, Header, Layout};
use guest_agent::pattern::{Tag, content};
use guest_agent::random::Sequence;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::inside::context::Context;
use crate::inside::disk::{CALLS, Call, HostFs, Mapped};
use crate::inside::replay::{
    Acked, Marks, Mounted, Odds, Places, Recorder, Replay, Subject, Tally, choose,
};
use crate::scenarios::cuts::recordings::MOMENTS;

const BLOCKS: u64 = 16;
const FILE_BYTES: u64 = BLOCKS * 4096;
const LOG_BYTES: u64 = 512 << 20;
/// Stores of one recording, each with its sync and its ack.
const WRITES: u64 = 24;

const FILESYSTEMS: [HostFs; 3] = [HostFs::Ext4, HostFs::Xfs, HostFs::Btrfs];

/// How a file gets its blocks.
const PREALLOCATED: [(bool, &str); 2] = [(true, "preallocated"), (false, "sparse")];

/// `cuts-sync-calls`.
pub fn run(context: &mut Context) -> Result<()> {
    let mut wrong = Vec::new();
    let mut seen_lost = 0;
    for fs in FILESYSTEMS {
        for (what, call, tally) in one_filesystem(context, fs)? {
            context.measure(&what, &tally);
            ensure!(tally.acked > 0, "{what}: no cut had an acked block");
            seen_lost += if call.is_a_flush() { 0 } else { tally.lost };
            if call.is_a_flush() && !tally.holds() {
                wrong.push(format!("{what}: {tally:?}"));
            }
        }
    }
    if let Some(first) = wrong.first() {
        bail!("{} cases lost something; the first: {first}", wrong.len());
    }
    ensure!(
        seen_lost > 0,
        "the run does not count: sync_file_range lost nothing, so a lost block is not seen"
    );
    Ok(())
}

/// One call on one kind of file.
struct Case {
    call: Call,
    /// Tells its file and its marks from the others'.
    name: String,
    acked: Acked,
}

fn one_filesystem(context: &mut Context, fs: HostFs) -> Result<Vec<(String, Call, Tally)>> {
    let name = fs.name();
    context.step(&format!("record on {name}"));
    let seed = context.trial.seed;
    let recorder = context.recorder(name, fs.smallest(), LOG_BYTES)?;
    fs.make(&recorder.path().display().to_string())?;
    let mounted = Mounted::new(recorder.path(), "data", "rw")?;
    let mut cases = Vec::new();
    for (preallocated, kind) in PREALLOCATED {
        for call in CALLS {
            let name = format!("{}-{kind}", call.name());
            cases.push(
                record(&recorder, &mounted.at, call, &name, preallocated, seed).context(name)?,
            );
        }
    }
    mounted.end()?;
    let log = recorder.finish()?;

    let moments = context.number("moments", MOMENTS)?;
    let each = moments.div_ceil(u64::try_from(cases.len())?);
    context.step(&format!(
        "cut the power {each} times for each case on {name}"
    ));
    let mut replay = Replay::new(&log, recorder.size())?;
    let mut tallies = BTreeMap::new();
    for case in &cases {
        let places = Places::between(case.acked.entries(&log.entries))
            .with_context(|| format!("the log has no mark of {}", case.name))?;
        let subject = Subject {
            acked: &case.acked,
            file: &case.name,
            inside: None,
            options: fs.copy_options(),
        };
        let mut tally = Tally::default();
        for cut in choose(&places, each, &Odds::new(seed)) {
            fs.forget()?;
            replay.judge(&cut, &subject, &mut tally)?;
        }
        tallies.insert(case.name.clone(), tally);
    }
    fs.forget()?;
    Ok(cases
        .into_iter()
        .filter_map(|case| {
            let tally = tallies.remove(&case.name)?;
            Some((format!("{name} {}", case.name), case.call, tally))
        })
        .collect())
}

fn record(
    recorder: &Recorder,
    at: &Path,
    call: Call,
    name: &str,
    preallocated: bool,
    seed: u64,
) -> Result<Case> {
    let path = at.join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    file.set_len(FILE_BYTES)?;
    if preallocated {
        let bytes = i64::try_from(FILE_BYTES)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    }
    // The file itself is there: the question is what a later call keeps of its content.
    file.sync_all()?;
    File::open(at)?.sync_all()?;
    let map = Mapped::new(file, FILE_BYTES)?;
    let marks = recorder.marks()?;
    let acked = overwrite(&map, call, name, &marks, seed)?;
    Ok(Case {
        call,
        name: name.to_owned(),
        acked,
    })
}

fn overwrite(map: &Mapped, call: Call, name: &str, marks: &Marks, seed: u64) -> Result<Acked> {
    let header = Header {
        run: 1,
        seed,
        threads: 1,
        blocks_per_thread: BLOCKS,
        first_block: 0,
        layout: Layout::Raw,
    };
    let mut acked = Acked::new(name, header);
    let mut random = Sequence::new(seed);
    let mut seqs = [0; 16];
    for write in 1..=WRITES {
        let block = random.below(BLOCKS);
        let seq = &mut seqs[usize::try_from(block)?];
        *seq += 1;
        let tag = Tag {
            seed,
            block,
            seq: *seq,
        };
        let bytes = content(tag);
        map.store(usize::try_from(block)?, &bytes);
        map.sync(call)?;
        let ack = BlockAck {
            run: 1,
            thread: 0,
            tag,
            content_crc: crc32fast::hash(bytes.as_slice()),
            time_ns: write,
            counters: Counters {
                fsyncs: write,
                ..Counters::default()
            },
        };
        marks.set(&acked.note_one(&ack))?;
    }
    Ok(acked)
}
