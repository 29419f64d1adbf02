// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From the kick to the last answer, over the number of requests that are there at once.

use std::io::Write;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use engine_bench::{Engine, Inline, Instant};
use pmem_flush::SyncBackend;

const REQUESTS: [u16; 5] = [1, 4, 16, 64, 256];

/// A file on the disk that the build is on: in memory fdatasync costs nothing.
fn file() -> Arc<dyn SyncBackend> {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    file.write_all(&vec![0; 1 << 20]).expect("room on the disk");
    file.sync_all().expect("fsync");
    Arc::new(file)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    type Backend = fn() -> Arc<dyn SyncBackend>;
    let backends: [(&str, Backend); 2] = [("noop", || Arc::new(Instant)), ("file", file)];
    for (name, backend) in backends {
        let mut group = criterion.benchmark_group(name);
        for count in REQUESTS {
            let mut engine = Engine::new(backend()).expect("an engine");
            group.bench_with_input(
                BenchmarkId::new("engine", count),
                &count,
                |bencher, &count| {
                    bencher.iter(|| engine.flush(count));
                },
            );
            let mut inline = Inline::new(backend());
            group.bench_with_input(
                BenchmarkId::new("inline", count),
                &count,
                |bencher, &count| {
                    bencher.iter(|| inline.flush(count));
                },
            );
        }
        group.finish();
    }
    criterion.final_summary();
}
