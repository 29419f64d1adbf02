// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The core on one thread: against a reference model, and what it must not do.

use std::env;
use std::rc::Rc;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::fake::{Core, apply, live};
use self::reference::{Reference, sorted};
use self::steps::{Step, step};

mod allocation;
mod fake;
mod reference;
mod steps;
mod verdicts;

/// Fails unless the core stands where the reference does.
fn compare(core: &Core, reference: &Reference, step: &Step) -> Result<(), TestCaseError> {
    core.assert_invariants();
    let fake = core.platform();
    let found = (
        core.device(),
        fake.held(),
        sorted(&fake.ended.borrow()),
        fake.events.get(),
        core.counters(),
    );
    let wanted = (
        reference.device,
        reference.held(),
        sorted(&reference.ended),
        reference.events,
        reference.counted(),
    );
    if found == wanted {
        Ok(())
    } else {
        let said = std::format!("after {step:?}: {found:?} instead of {wanted:?}");
        Err(TestCaseError::fail(said))
    }
}

/// Plays steps on the core and on the reference.
fn play(flush_timeout: u64, steps: &[Step]) -> Result<(), TestCaseError> {
    let core: Rc<Core> = live(flush_timeout);
    let mut reference = Reference::new(flush_timeout);
    for step in steps {
        let told = apply(&core, step);
        let wanted = reference.apply(step);
        if told != wanted {
            let said = std::format!("{step:?} returned {told} instead of {wanted}");
            return Err(TestCaseError::fail(said));
        }
        compare(&core, &reference, step)?;
    }
    // Whatever happened, removal ends every waiter.
    for step in [
        Step::BeginRemove(5),
        Step::FinishRemove(5, Vec::new()),
        Step::Reset,
        Step::Collect,
    ] {
        apply(&core, &step);
        reference.apply(&step);
        compare(&core, &reference, &step)?;
    }
    let ended = core.platform().ended.borrow().len();
    if u64::try_from(ended).unwrap() + reference.refused == core.counters().flushes {
        core.wait_idle();
        Ok(())
    } else {
        Err(TestCaseError::fail(
            "a waiter was forgotten, or ended twice",
        ))
    }
}

#[test]
fn the_core_does_what_the_reference_does() {
    let config = Config {
        // PROPTEST_CASES asks for more.
        cases: Config::default().cases.max(2_000),
        failure_persistence: None,
        // A deliberate fault needs to be seen, not to be understood.
        max_shrink_iters: if env::var_os("FLUSH_CORE_MUTATION").is_some() {
            0
        } else {
            20_000
        },
        ..Config::default()
    };
    let timeout = any::<bool>().prop_map(|bounded| if bounded { 10 } else { 0 });
    let outcome = TestRunner::new(config)
        .run(&(timeout, vec(step(), 1..120)), |(timeout, steps)| {
            play(timeout, &steps)
        });
    if let Err(error) = outcome {
        panic!("test failed: {error}");
    }
}
