// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A flush that comes while another one's sync runs.
//!
//! Linux 7.3's driver and ours have one flush under way at a time: they can't tell a device that closes its
//! batches from one that does not. The engine's own guest driver can, by a script: store A,
//! flush it, wait until the sync has written A and waits for the disk, store B, flush it. The running
//! sync knows nothing of B.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use guest_agent::ack::{BlockAck, Counters, Header, Layout};
use guest_agent::pattern::{Tag, content};
use pmem_flush::test_utils::TestDevice;
use pmem_flush::{EngineConfig, Fault};

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::SHORT;
use crate::inside::replay::{
    Acked, Marks, Mounted, Odds, Places, Recorder, Replay, Subject, Tally, choose,
};
use crate::inside::wait;
use crate::scenarios::cuts::recordings::{MOMENTS, told};

const LOG_BYTES: u64 = 256 << 20;
/// What a flush of the disk takes: the time the script has for B.
const COST_MS: u32 = 100;
/// Blocks of A, and of B.
const BLOCKS: u64 = 8;
const ROUNDS: u64 = 40;
const FILE: &str = "pmem.img";
/// A request's number and its head descriptor: each takes two.
const REQUESTS: [(u16, u32); 2] = [(0, 0), (1, 2)];

/// `cuts-schedule` and `cuts-control-open-batch`.
pub fn run(context: &mut Context) -> Result<()> {
    let fault = context.trial.options.get("fault");
    let fault = fault.map(|text| text.parse::<Fault>()).transpose()?;
    let recorder = context.recorder("data", HostFs::Ext4.smallest(), LOG_BYTES)?;
    HostFs::Ext4.make(&recorder.path().display().to_string())?;
    let mounted = Mounted::new(recorder.path(), "data", "rw")?;
    let path = mounted.at.join(FILE);
    fs::write(&path, vec![0; usize::try_from(2 * BLOCKS * 4096)?])?;
    let file = File::options().read(true).write(true).open(&path)?;
    file.sync_all()?;
    File::open(&mounted.at)?.sync_all()?;
    recorder.disk(Table::FlushCost(COST_MS))?;
    context.step("follow the script");
    let config = EngineConfig {
        fault,
        ..EngineConfig::new("pmem0")
    };
    let mut script = Script::new(context, &recorder, config, file)?;
    let rounds = context.number("rounds", ROUNDS)?;
    for round in 1..=rounds {
        script.round(round)?;
    }
    let Script { acked, device, .. } = script;
    context.measure("flushes", 2 * rounds);
    context.measure("host_syncs", device.file.begun());
    recorder.disk(Table::Plain)?;
    drop(device);
    mounted.end()?;
    let log = recorder.finish()?;

    let moments = context.number("moments", MOMENTS)?;
    context.step(&format!("cut the power {moments} times"));
    let places = Places::between(acked.entries(&log.entries)).context("the log has no mark")?;
    let subject = Subject {
        acked: &acked,
        file: FILE,
        inside: None,
        options: HostFs::Ext4.copy_options(),
    };
    let mut tally = Tally::default();
    let mut replay = Replay::new(&log, recorder.size())?;
    for cut in choose(&places, moments, &Odds::new(context.trial.seed)) {
        replay.judge(&cut, &subject, &mut tally)?;
    }
    told(context, &tally)
}

struct Script {
    acked: Acked,
    device: TestDevice,
    marks: Marks,
    seed: u64,
    /// The recorder's I/O counters.
    stat: PathBuf,
    acks: u64,
}

impl Script {
    fn new(
        context: &Context,
        recorder: &Recorder,
        config: EngineConfig,
        file: File,
    ) -> Result<Self> {
        let seed = context.trial.seed;
        let header = Header {
            run: 1,
            seed,
            threads: 2,
            blocks_per_thread: BLOCKS,
            first_block: 0,
            layout: Layout::Raw,
        };
        let name = recorder.path().file_name().context("no device")?;
        Ok(Self {
            acked: Acked::new("script", header),
            device: TestDevice::new(config, file, 16),
            marks: recorder.marks()?,
            seed,
            stat: PathBuf::from("/sys/block").join(name).join("stat"),
            acks: 0,
        })
    }

    fn round(&mut self, round: u64) -> Result<()> {
        let tags = [0, BLOCKS].map(|first| Tag {
            seed: self.seed,
            block: first + (round - 1) % BLOCKS,
            seq: (round - 1) / BLOCKS + 1,
        });
        let writes = self.writes()?;
        self.store(tags[0])?;
        self.publish(0);
        wait::until_just_now("A is written", SHORT, || {
            Ok((self.writes()? > writes).then_some(()))
        })?;
        self.store(tags[1])?;
        self.publish(1);
        let mut open = REQUESTS.len();
        while open > 0 {
            self.device.wake();
            for (head, _) in self.device.driver.take_used() {
                let request = REQUESTS.iter().position(|request| request.1 == head);
                let request = request.context("an answer to no request")?;
                let head = REQUESTS[request].0 * 2;
                ensure!(self.device.driver.status(head) == 0, "a flush failed");
                self.ack(tags[request])?;
                open -= 1;
            }
        }
        Ok(())
    }

    fn publish(&mut self, request: usize) {
        self.device.publish(REQUESTS[request].0, 1);
        self.device.kick();
    }

    fn store(&self, tag: Tag) -> Result<()> {
        let file = self.device.file.file();
        Ok(file.write_all_at(content(tag).as_slice(), tag.block * 4096)?)
    }

    fn ack(&mut self, tag: Tag) -> Result<()> {
        self.acks += 1;
        let ack = BlockAck {
            run: 1,
            thread: u32::from(tag.block >= BLOCKS),
            tag,
            content_crc: crc32fast::hash(content(tag).as_slice()),
            time_ns: self.acks,
            counters: Counters::default(),
        };
        self.marks.set(&self.acked.note_one(&ack))
    }

    /// Writes that have ended: field 5 of `stat` (Documentation/block/stat.rst).
    fn writes(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.stat)
            .with_context(|| format!("cannot read {}", self.stat.display()))?;
        let field = text.split_ascii_whitespace().nth(4);
        Ok(field.context("no count of writes")?.parse()?)
    }
}
