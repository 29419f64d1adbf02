// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The agent's own end: reported, then the guest is powered off. A guest without process 1
//! would only panic, and the outside would wait for its deadline.

use std::fs;
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
        // Nobody can be told but whoever reads the console, where only emergencies get to.
        if process::id() == 1 {
            // There is nothing left to try if even that fails.
            let _ = fs::write("/dev/kmsg", format!("<0>guest-agent: {message}\n"));
            power::off();
        }
        eprintln!("guest-agent: {message}");
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

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};
    use std::thread;

    use guest_agent::wire::{Decoder, FromGuest, Item};

    use super::*;

    const CHILD: &str = "FATAL_TEST_CHILD";

    /// The agent's end, in a process of its own: a panic in any thread ends it.
    #[test]
    fn a_panic_in_any_thread_is_a_record_and_the_end() {
        if env::var_os(CHILD).is_some() {
            let line = File::from(io::stderr().as_fd().try_clone_to_owned().unwrap());
            install(Sender::start(line).unwrap(), false);
            let thread = thread::spawn(|| panic!("on purpose"));
            // The hook ends the process before the thread ends.
            thread.join().unwrap_err();
            process::exit(0);
        }
        let name = "agent::fatal::tests::a_panic_in_any_thread_is_a_record_and_the_end";
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(70));
        let items = Decoder::<FromGuest>::new().push(&output.stderr);
        let told = items.iter().any(|item| {
            matches!(item, Item::Record { body: FromGuest::Event(Event::Fatal { message }), .. }
                if message.contains("on purpose"))
        });
        assert!(told, "{items:?}");
    }
}
