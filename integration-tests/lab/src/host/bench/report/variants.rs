// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The section on other rules for flush-core.

use anyhow::Result;

use crate::host::bench::analysis::ratio;
use crate::host::bench::file::File;
use crate::host::bench::plot::{Chart, Corner, Line, Scale};
use crate::host::bench::report::{Section, figure, maybe, table};
use crate::host::bench::variants::{FLUSHES_ONLY, Row, SLOW, THREADS, TODAY, WORKS, rows};

/// The cost whose cells the picture shows.
const SHOWN_US: u64 = 20_000;

/// Each change as a multiple of flush-core as it is.
pub fn section(file: &File) -> Result<Section<'static>> {
    let rows = rows(&file.rows)?;
    let mut changes: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.variant != TODAY) {
        if !changes.contains(&row.variant.as_str()) {
            changes.push(&row.variant);
        }
    }
    let find = |host: &str, cost_us: u64, work: &str, threads: usize, variant: &str| {
        rows.iter().find(|row| {
            row.host == host
                && row.cost_us == cost_us
                && row.work == work
                && row.threads == threads
                && row.variant == variant
        })
    };
    let shown = |host: &str, work: &str, threads: usize, variant: &str, get: fn(&Row) -> f64| {
        maybe(find(host, SHOWN_US, work, threads, variant).map(get))
    };
    let times: fn(&Row) -> f64 = |row| row.times;
    let rounds = rows.first().map_or(0, |row| row.rounds);
    let flushes = rows.first().map_or(0, |row| row.flushes);
    let mut text = format!(
        "Simulated time, so no figure here depends on the machine: threads that write and flush, a guest processor, and a host that syncs \
         (medians of {rounds} rounds with {flushes} flushes each, the same random numbers for each variant; a sync varies by a tenth). \
         *flush-core* is the crate itself; a change is a model that without its change does what flush-core does, event for event, as a \
         test shows. *overlapping* is a host that begins a sync for each request at once on a disk whose flushes do not delay each \
         other, which is none of our devices.\n\n\
         **Two in flight** reaches {} times flush-core's fsync/s at 16 threads and 20 ms on our engine, {} times on a serial device and {} \
         times on an overlapping host: the second request goes out with the first flush that comes, those behind it wait for a third, \
         and a host that syncs one batch at a time syncs more often for the same flushes. It does not pay on the devices there are.\n\n\
         **A window** of a twentieth of the sync's cost, during which a request waits for more flushes, reaches {} times at 16 threads \
         that do nothing but flush and are all back before it closes, {} times if they work as long as a sync takes, and {} times if \
         the processor needs 1.5 ms for each of them, as in the emulated guest; a thread alone waits {} times as long. Opened only *in \
         company*, after a request that was shared, it costs a thread alone nothing ({} times) and reaches {}, {} and {} times: it \
         pays for threads in lockstep and nobody else, and would need a timer in the flush path; flush-core has none.\n\n",
        shown("engine", FLUSHES_ONLY, 16, "two in flight", times),
        shown("serial", FLUSHES_ONLY, 16, "two in flight", times),
        shown("overlapping", FLUSHES_ONLY, 16, "two in flight", times),
        shown("engine", FLUSHES_ONLY, 16, "window", times),
        shown("engine", WORKS, 16, "window", times),
        shown("engine", SLOW, 16, "window", times),
        shown("engine", FLUSHES_ONLY, 1, "window", |row| row.p50_times),
        shown("engine", FLUSHES_ONLY, 1, "window in company", |row| row
            .p50_times),
        shown("engine", FLUSHES_ONLY, 16, "window in company", times),
        shown("engine", WORKS, 16, "window in company", times),
        shown("engine", SLOW, 16, "window in company", times),
    );
    let head: Vec<String> = [
        "host",
        "sync",
        "work between flushes",
        "change",
        "p50, 1 thread",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(THREADS.iter().map(|threads| match threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    }))
    .collect();
    let mut lines = Vec::new();
    for first in rows
        .iter()
        .filter(|row| row.threads == 1 && row.variant != TODAY)
    {
        let at = |threads| {
            find(
                &first.host,
                first.cost_us,
                &first.work,
                threads,
                &first.variant,
            )
        };
        let mut line = vec![
            first.host.clone(),
            ms(first.cost_us),
            first.work.clone(),
            first.variant.clone(),
            maybe(at(1).map(|row| row.p50_times)),
        ];
        line.extend(THREADS.iter().map(|&threads| maybe(at(threads).map(times))));
        lines.push(line);
    }
    text.push_str(&format!(
        "<details><summary>Every cell: fsync/s as a multiple of flush-core's, and a single thread's latency</summary>\n\n{}\n</details>\n",
        table(&head, &lines)
    ));
    let line = |variant: &str, work: &str, name: &str| Line {
        name: format!("{variant}, {name}"),
        points: THREADS
            .iter()
            .filter_map(|&threads| {
                let row = find("engine", SHOWN_US, work, threads, variant)?;
                Some((ratio(u64::try_from(threads).ok()?, 1), row.times))
            })
            .collect(),
    };
    Ok(Section {
        title: "Other rules for flush-core".to_owned(),
        text,
        charts: vec![(
            "variants.svg".to_owned(),
            Chart {
                title: "fsync/s as a multiple of flush-core's, our engine, sync of 20 ms",
                x: "threads in fsync",
                y: "times",
                x_scale: Scale::Doubling,
                y_scale: Scale::Linear,
                legend: Corner::LowerRight,
                caption: "Above 1 a change has more fsync/s than flush-core, below 1 less. A window gains where everyone who was answered \
                          is back before it closes; a second request in flight splits what would have shared one sync.",
                lines: changes
                    .iter()
                    .flat_map(|change| {
                        [
                            line(change, FLUSHES_ONLY, "flushes only"),
                            line(change, WORKS, "works 20 ms between"),
                        ]
                    })
                    .collect(),
            },
        )],
    })
}

fn ms(micros: u64) -> String {
    format!("{} ms", figure(ratio(micros, 1000)))
}
