// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The agent's own end: reported, then the guest is powered off. A guest without process 1
//! would only panic, and the outside would wait for its deadline.

use std::panic;
use std::process;
use std::sync::OnceLock;

use guest_agent::wire::Event;

use crate::agent::line::Sender;
use crate::agent::power;

struct Way {
    sender: Sender,
    is_init: bool,
}

static WAY: OnceLock<Way> = OnceLock::new();

/// Makes every panic, in whatever thread, end the agent through [`report`].
pub fn install(sender: Sender, is_init: bool) {
    if WAY.set(Way { sender, is_init }).is_ok() {
        panic::set_hook(Box::new(|info| report(&format!("{info}"))));
    }
}

/// Reports and powers off, or exits with 70 if the agent is not process 1. Returns only if
/// there is no line yet.
pub fn report(message: &str) {
    let Some(way) = WAY.get() else {
        // Nobody can be told but whoever reads the console.
        eprintln!("guest-agent: {message}");
        if process::id() == 1 {
            power::off();
        }
        return;
    };
    way.sender.event(Event::Fatal {
        message: message.to_owned(),
    });
    way.sender.flush();
    if way.is_init {
        power::off();
    }
    process::exit(70);
}
