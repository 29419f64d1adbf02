// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The event log of a VMM: JSON objects, one after the other, in a file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Deserializer, Value};

use crate::inside::wait;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub event: String,
    /// The whole object.
    pub object: Value,
    /// `virtio-device`, `vm`, …
    pub source: String,
}

impl Event {
    /// A property, as text.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.object.get("properties")?.get(name)?.as_str()
    }
}

/// All whole events in the log; one that is being written is left out.
pub fn read(log: &Path) -> Result<Vec<Event>> {
    let text = fs::read_to_string(log);
    let text = text.with_context(|| format!("cannot read {}", log.display()))?;
    let objects = Deserializer::from_str(&text).into_iter::<Value>();
    let text_of = |object: &Value, name| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let events = objects.map_while(Result::ok).map(|object| Event {
        event: text_of(&object, "event"),
        source: text_of(&object, "source"),
        object,
    });
    Ok(events.collect())
}

/// Waits until the pmem device `id` has reported `event`.
pub fn wait_for(log: &Path, id: &str, event: &str, within: Duration) -> Result<Event> {
    wait::until(&format!("the event `{event}` of `{id}`"), within, || {
        Ok(of_device(&read(log)?, id, event).next().cloned())
    })
}

/// Waits until the VM itself has reported `event`.
pub fn wait_for_vm(log: &Path, event: &str, within: Duration) -> Result<()> {
    wait::until(&format!("the VM's event `{event}`"), within, || {
        let found = |one: &Event| one.source == "vm" && one.event == event;
        Ok(read(log)?.iter().any(found).then_some(()))
    })
}

/// The events of this name from the pmem device `id`.
pub fn of_device<'a>(
    events: &'a [Event],
    id: &'a str,
    event: &'a str,
) -> impl Iterator<Item = &'a Event> {
    events.iter().filter(move |one| {
        one.source == "virtio-device" && one.event == event && one.property("id") == Some(id)
    })
}
