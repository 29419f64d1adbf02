// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The order loop: reads orders, runs each in a thread of its own, answers from memory what
//! was asked before.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use guest_agent::wire::{
    Answer, Decoder, Event, Failure, FailureKind, Item, Order, Outcome, RunningOrder, Status, Step,
};
use nix::time::{ClockId, clock_gettime};

use crate::agent::line::Sender;
use crate::agent::reap;
use crate::agent::steps::Steps;
use crate::agent::stop::Stop;

/// Answers that are kept for orders that come again.
const REMEMBERED: usize = 128;

struct Running {
    began: Instant,
    what: String,
    stop: Arc<Stop>,
}

#[derive(Default)]
struct Table {
    running: HashMap<u64, Running>,
    answered: VecDeque<Answer>,
    damaged: u64,
}

struct Shared {
    table: Mutex<Table>,
    steps: Steps,
    sender: Sender,
}

/// Takes orders.
pub struct Orders {
    shared: Arc<Shared>,
}

impl Orders {
    /// Makes ready to take orders. Only process 1 powers off.
    pub fn start(sender: Sender, is_init: bool) -> io::Result<Self> {
        reap::start()?;
        Ok(Self {
            shared: Arc::new(Shared {
                table: Mutex::default(),
                steps: Steps::new(sender.clone(), is_init),
                sender,
            }),
        })
    }

    /// Takes orders until the line ends.
    ///
    /// # Errors
    ///
    /// The line cannot be read.
    pub fn run(&mut self, mut line: File) -> io::Result<()> {
        let mut decoder = Decoder::<Order>::new();
        let mut bytes = [0; 4096];
        loop {
            let count = match line.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for item in decoder.push(&bytes[..count]) {
                match item {
                    Item::Record { body, .. } => self.take(body),
                    // Noise between records.
                    Item::Text(_) => {}
                    Item::Damaged { why, .. } => {
                        self.shared.table().damaged += 1;
                        self.shared.sender.event(Event::Damaged { why });
                    }
                }
            }
        }
    }

    fn take(&self, order: Order) {
        let shared = &self.shared;
        let mut table = shared.table();
        if let Some(answer) = table.answered.iter().find(|answer| answer.id == order.id) {
            return shared.sender.answer(answer.clone());
        }
        if table.running.contains_key(&order.id) {
            return shared.sender.accepted(order.id);
        }
        let began = Instant::now();
        match order.step {
            Step::Status => {
                let status = table.status(shared.steps.running_loads());
                drop(table);
                shared.finish(order.id, began, Ok(Outcome::Status(status)));
            }
            Step::Stop { order: which } => {
                for (id, running) in &table.running {
                    if which.is_none_or(|which| which == *id) {
                        running.stop.set();
                    }
                }
                drop(table);
                shared.steps.stop_loads(which);
                shared.finish(order.id, began, Ok(Outcome::Done));
            }
            step => {
                let stop = match Stop::new() {
                    Ok(stop) => Arc::new(stop),
                    Err(error) => {
                        drop(table);
                        return shared.finish(order.id, began, Err(internal(&error)));
                    }
                };
                table.running.insert(
                    order.id,
                    Running {
                        began,
                        what: describe(&step),
                        stop: Arc::clone(&stop),
                    },
                );
                drop(table);
                shared.sender.accepted(order.id);
                self.spawn(order.id, step, began, stop);
            }
        }
    }

    fn spawn(&self, id: u64, step: Step, began: Instant, stop: Arc<Stop>) {
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new()
            .name(format!("order-{id}"))
            .spawn(move || {
                let result = shared.steps.run(id, step, &stop);
                shared.finish(id, began, result);
                shared.steps.after_answer();
            });
        if let Err(error) = spawned {
            self.shared.finish(id, began, Err(internal(&error)));
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, id: u64, began: Instant, result: Result<Outcome, Failure>) {
        let answer = Answer {
            id,
            elapsed_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            result,
        };
        let mut table = self.table();
        table.running.remove(&id);
        if table.answered.len() == REMEMBERED {
            table.answered.pop_front();
        }
        table.answered.push_back(answer.clone());
        drop(table);
        self.sender.answer(answer);
    }
}

impl Table {
    fn status(&self, loads: Vec<String>) -> Status {
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        let mut orders: Vec<RunningOrder> = self
            .running
            .iter()
            .map(|(&id, running)| RunningOrder {
                id,
                running_ms: u64::try_from(running.began.elapsed().as_millis()).unwrap_or(u64::MAX),
                what: running.what.clone(),
            })
            .collect();
        orders.sort_by_key(|order| order.id);
        Status {
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            orders,
            loads,
            damaged: self.damaged,
        }
    }
}

fn internal(error: &io::Error) -> Failure {
    Failure {
        kind: FailureKind::Internal,
        message: format!("the agent cannot run the order: {error}"),
        errno: error.raw_os_error(),
    }
}

/// The order in short, for a reader of the status.
fn describe(step: &Step) -> String {
    let text = serde_json::to_string(step).unwrap_or_default();
    text.chars().take(160).collect()
}
