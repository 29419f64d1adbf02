// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The agent's order loop over a socket, with the client that the outside uses.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest_agent::client::{Client, ClientError, Heard};
use guest_agent::wire::{
    Answer, Decoder, FailureKind, FromGuest, Item, Order, Outcome, Step, encode,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

struct Agent {
    child: Child,
    line: UnixStream,
}

impl Agent {
    fn start() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let output = theirs.try_clone().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_guest-agent"))
            .arg("serve")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .spawn()
            .unwrap();
        Self { child, line: ours }
    }

    fn client(&self) -> Client<UnixStream> {
        Client::new(self.line.try_clone().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn shell(script: &str) -> Step {
    tool(script, 0)
}

fn tool(script: &str, timeout_ms: u64) -> Step {
    Step::Tool {
        argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        timeout_ms,
        stdin: String::new(),
    }
}

#[test]
fn a_tool_gives_its_output_in_order_and_its_exit_code() {
    let agent = Agent::start();
    let outcome = agent
        .client()
        .run(shell("echo one; echo two >&2; exit 7"), LIMIT)
        .unwrap();
    let Outcome::Tool(result) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((result.rc, result.output.as_str()), (Some(7), "one\ntwo\n"));
}

#[test]
fn a_tool_that_cannot_start_is_a_failure_with_its_errno_and_the_loop_goes_on() {
    let agent = Agent::start();
    let mut client = agent.client();
    for _ in 0..20 {
        let step = Step::Tool {
            argv: vec!["/no/such/program".to_owned()],
            timeout_ms: 0,
            stdin: String::new(),
        };
        let error = client.run(step, LIMIT).unwrap_err();
        let ClientError::Guest(failure) = error else {
            panic!("{error}");
        };
        assert_eq!(failure.errno, Some(libc::ENOENT));
        client.run(shell("true"), LIMIT).unwrap();
    }
}

#[test]
fn the_tail_of_a_long_output_is_kept_and_the_rest_counted() {
    let agent = Agent::start();
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo end";
    let Outcome::Tool(result) = agent.client().run(shell(script), LIMIT).unwrap() else {
        panic!("no tool");
    };
    assert!(result.output.ends_with("xend\n"));
    let kept = u64::try_from(result.output.len()).unwrap();
    assert_eq!(kept + result.cut, 1_000_004);
}

#[test]
fn a_tool_is_killed_with_its_children_at_its_deadline() {
    let agent = Agent::start();
    let began = Instant::now();
    let outcome = agent
        .client()
        .run(tool("sleep 600 & sleep 600", 200), LIMIT)
        .unwrap();
    let Outcome::Tool(result) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        result.timed_out && result.signal == Some(libc::SIGKILL),
        "{result:?}"
    );
    assert!(began.elapsed() < LIMIT);
}

#[test]
fn status_and_stop_are_answered_while_a_tool_runs() {
    let agent = Agent::start();
    let mut client = agent.client();
    let long = client.send(shell("sleep 600")).unwrap();
    let Outcome::Status(status) = client.run(Step::Status, LIMIT).unwrap() else {
        panic!("no status");
    };
    assert_eq!(
        status
            .orders
            .iter()
            .map(|order| order.id)
            .collect::<Vec<_>>(),
        [long]
    );
    assert!(status.orders[0].what.contains("sleep 600"));
    client.run(Step::Stop { order: Some(long) }, LIMIT).unwrap();
    let Outcome::Tool(result) = client.wait(long, LIMIT).unwrap() else {
        panic!("no tool");
    };
    assert!(result.stopped && !result.timed_out, "{result:?}");
}

#[test]
fn a_stop_for_another_order_stops_nothing() {
    let agent = Agent::start();
    let mut client = agent.client();
    let long = client
        .send(tool("read line < /dev/null; sleep 1; echo whole", 0))
        .unwrap();
    client.run(Step::Stop { order: Some(1) }, LIMIT).unwrap();
    let Outcome::Tool(result) = client.wait(long, LIMIT).unwrap() else {
        panic!("no tool");
    };
    assert_eq!(result.output, "whole\n");
}

/// Reads records until there are `count` answers.
fn answers(line: &mut UnixStream, count: usize) -> Vec<Answer> {
    line.set_read_timeout(Some(LIMIT)).unwrap();
    let mut decoder = Decoder::<FromGuest>::new();
    let mut found = Vec::new();
    let mut bytes = [0; 4096];
    while found.len() < count {
        let got = line.read(&mut bytes).unwrap();
        assert!(got > 0, "the agent ended");
        found.extend(
            decoder
                .push(&bytes[..got])
                .into_iter()
                .filter_map(|item| match item {
                    Item::Record {
                        body: FromGuest::Answer(answer),
                        ..
                    } => Some(answer),
                    _ => None,
                }),
        );
    }
    found
}

#[test]
fn an_order_that_comes_twice_runs_once_and_is_answered_twice() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    let mut agent = Agent::start();
    let order = Order {
        id: 5,
        step: shell(&format!("echo ran >> {}; sleep 0.2", log.display())),
    };
    // Twice while it runs, and once more when it is done.
    for seq in 1..3 {
        agent.line.write_all(&encode(seq, &order).unwrap()).unwrap();
    }
    let first = answers(&mut agent.line, 1);
    agent.line.write_all(&encode(3, &order).unwrap()).unwrap();
    let again = answers(&mut agent.line, 1);
    assert_eq!(first, again);
    assert_eq!(fs::read_to_string(log).unwrap(), "ran\n");
}

#[test]
fn garbage_and_damaged_orders_do_no_harm() {
    let agent = Agent::start();
    let mut line = agent.line.try_clone().unwrap();
    line.write_all(
        b"login: \xff\xfe\x1e\x1e{\"seq\":1}\n\x1enot json\n\x1e{\"seq\":1,\"crc\":0,\"bo",
    )
    .unwrap();
    let mut client = agent.client();
    let Outcome::Status(status) = client.run(Step::Status, LIMIT).unwrap() else {
        panic!("no status");
    };
    assert!(status.damaged >= 3, "{status:?}");
}

#[test]
fn an_order_lost_on_the_way_is_sent_again() {
    let agent = Agent::start();
    let mut line = agent.line.try_clone().unwrap();
    // An open record swallows the start of what follows unless that starts with a mark; one
    // byte in the middle of the first order is lost instead.
    let (mut near, far) = UnixStream::pair().unwrap();
    let mut client = Client::new(far);
    client.resend_every(Duration::from_millis(50));
    let id = client.send(Step::Sync).unwrap();
    let mut bytes = [0; 4096];
    let count = near.read(&mut bytes).unwrap();
    line.write_all(&bytes[..count / 2]).unwrap();
    // The old line is gone before anything came back; over the new one it is sent again.
    drop(near);
    assert!(matches!(client.wait(id, LIMIT), Err(ClientError::Line(_))));
    client.reconnect(line);
    assert_eq!(client.wait(id, LIMIT).unwrap(), Outcome::Done);
    let lost = client.heard().any(|heard| matches!(heard, Heard::Event(_)));
    assert!(lost, "the agent tells of the damaged order");
}

#[test]
fn a_silent_guest_is_a_timeout_and_the_order_can_be_waited_for_again() {
    let agent = Agent::start();
    let mut client = agent.client();
    let id = client.send(shell("sleep 1; echo late")).unwrap();
    let error = client.wait(id, Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    let Outcome::Tool(result) = client.wait(id, LIMIT).unwrap() else {
        panic!("no tool");
    };
    assert_eq!(result.output, "late\n");
}

#[test]
fn what_cannot_be_done_is_named() {
    let agent = Agent::start();
    let mut client = agent.client();
    for (step, kind, text) in [
        (
            Step::LoadStatus {
                name: "none".to_owned(),
            },
            FailureKind::BadOrder,
            "there is no load none",
        ),
        (
            Step::Poweroff,
            FailureKind::BadOrder,
            "only process 1 powers off",
        ),
        (
            Step::BlockCounters {
                device: "#63".to_owned(),
            },
            FailureKind::BadOrder,
            "there is no pmem device 63",
        ),
        (
            Step::Write {
                path: "/proc/no-such-file".to_owned(),
                text: "1".to_owned(),
            },
            FailureKind::System,
            "/proc/no-such-file",
        ),
    ] {
        let error = client.run(step, LIMIT).unwrap_err();
        let ClientError::Guest(failure) = error else {
            panic!("{error}");
        };
        assert_eq!(failure.kind, kind);
        assert!(failure.message.contains(text), "{failure}");
    }
}
