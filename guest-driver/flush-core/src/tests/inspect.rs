// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! What tests see of a core beyond its public face.

use core::ptr;

use crate::{Cookie, FlushCore, Platform, Request};

impl<P: Platform, const N: usize> FlushCore<P, N> {
    /// Whether a cookie's request may be written by the host.
    pub(super) fn is_hosts(&self, cookie: Cookie) -> bool {
        self.locked(|state| {
            let mut slots = state.slots.iter();
            slots.any(|slot| slot.cookie == cookie && slot.phase.is_hosts())
        })
    }

    /// The request that lies at an address.
    pub(super) fn request_at(&self, address: usize) -> &Request {
        let mut requests = self.requests.iter();
        let found = requests.find(|request| ptr::from_ref(*request).addr() == address);
        found.expect("no request lies there")
    }
}

#[cfg(not(loom))]
mod sequential {
    use crate::state::{Phase, SlotId};
    use crate::{Device, Error, FlushCore, Platform};

    impl<P: Platform, const N: usize> FlushCore<P, N> {
        /// Joins like a task that can't wait for a slot: None if there is none.
        pub(in crate::tests) fn try_flush(&self) -> Option<Result<SlotId, Error>> {
            if self.would_starve() {
                return None;
            }
            Some(self.join(|slot| slot.tasks += 1))
        }

        /// Whether a flush would have to wait for a slot now.
        pub(in crate::tests) fn would_starve(&self) -> bool {
            self.locked(|state| {
                let open = !matches!(state.device, Device::Broken | Device::Gone);
                let free = state.slots.iter().any(|slot| slot.phase == Phase::Free);
                open && state.parked.is_none() && !free
            })
        }

        /// The result of a slot, for a task that leaves with it.
        pub(in crate::tests) fn try_collect(&self, id: SlotId) -> Option<Result<(), Error>> {
            self.locked(|state| self.collect(state, id))
        }

        /// Fails unless the state's invariants hold.
        pub(in crate::tests) fn assert_invariants(&self) {
            self.locked(|state| {
                let only = |phase| {
                    let slots = state.slots.iter().enumerate();
                    let mut found = slots.filter(|(_, slot)| slot.phase == phase);
                    let first = found.next().map(|(index, _)| SlotId(index));
                    assert!(found.next().is_none(), "two slots are {phase:?}");
                    first
                };
                assert_eq!(state.in_flight, only(Phase::Published));
                assert_eq!(state.parked, only(Phase::Parked));
                match state.device {
                    Device::Live => assert!(state.parked.is_none() || state.in_flight.is_some()),
                    Device::Draining => {}
                    Device::Frozen => assert_eq!(state.in_flight, None),
                    Device::Broken | Device::Gone => {
                        assert_eq!((state.in_flight, state.parked), (None, None));
                    }
                }
            });
        }
    }
}
