// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The section on the engine alone.

use std::fmt::Write;

use crate::host::bench::engine::median_ns;
use crate::host::bench::file::File;
use crate::host::bench::plot::{Chart, Corner, Line, Scale};
use crate::host::bench::report::{Section, maybe, table};

const REQUESTS: [u64; 5] = [1, 4, 16, 64, 256];

/// From the kick to the last answer.
pub fn section(file: &File) -> Section<'static> {
    let micros = |storage: &str, device: &str, requests| {
        median_ns(&file.rows, storage, device, requests).map(|ns| ns / 1000.0)
    };
    let head = [
        "requests at once",
        "engine, no-op sync, µs",
        "inline, no-op sync, µs",
        "engine, file, µs",
        "inline, file, µs",
    ]
    .map(str::to_owned);
    let rows: Vec<_> = REQUESTS
        .iter()
        .map(|&requests| {
            vec![
                requests.to_string(),
                maybe(micros("noop", "engine", requests)),
                maybe(micros("noop", "inline", requests)),
                maybe(micros("file", "engine", requests)),
                maybe(micros("file", "inline", requests)),
            ]
        })
        .collect();
    let added = |sync| {
        let engine = micros(sync, "engine", 1);
        maybe(
            engine
                .zip(micros(sync, "inline", 1))
                .map(|(engine, inline)| engine - inline),
        )
    };
    let mut text = format!(
        "From the kick to the last answer on this machine, without a guest (criterion, medians). The hand-over to the worker thread \
         and back adds {} µs to a single fdatasync of a file (wanted: at most 15), and {} µs where there is nothing to sync and \
         both threads sleep in between (the difference between the two was not looked into). From a few \
         requests on the batch is cheaper than a sync for each.\n\n",
        added("file"),
        added("noop"),
    );
    text.push_str(&table(&head, &rows));
    let other = |name: &str| file.others.get(name).cloned().unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nA flush takes {} instructions of all threads together (callgrind, which does not drift with the machine) and {} \
         allocations in 1,000 flushes.",
        other("instructions_per_flush"),
        other("allocations_per_1000_flushes"),
    );
    let line = |name: &str, storage: &str, device: &str| Line {
        name: name.to_owned(),
        points: REQUESTS
            .iter()
            .filter_map(|&requests| {
                let x = f64::from(u32::try_from(requests).ok()?);
                Some((x, micros(storage, device, requests)?))
            })
            .collect(),
    };
    Section {
        title: "The engine alone".to_owned(),
        text,
        charts: vec![(
            "engine.svg".to_owned(),
            Chart {
                title: "From the kick to the last answer",
                x: "requests at once",
                y: "µs",
                x_scale: Scale::Doubling,
                y_scale: Scale::Log,
                legend: Corner::UpperLeft,
                caption: "Without an engine each request takes a sync of its own, so the time grows with the requests; the engine's batch \
                          has one sync for all. At one request the distance between the lines is the hand-over to the worker \
                          thread and back.",
                lines: vec![
                    line("inline, file", "file", "inline"),
                    line("engine, file", "file", "engine"),
                    line("inline, no-op", "noop", "inline"),
                    line("engine, no-op", "noop", "engine"),
                ],
            },
        )],
    }
}
