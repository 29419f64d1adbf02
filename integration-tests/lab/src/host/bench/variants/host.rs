// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The host's side: which requests share a sync, and when it begins.

use std::collections::VecDeque;
use std::mem;

use flush_core::Cookie;

/// How the host syncs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// As our engine does: one sync at a time, for all requests that are there when it begins.
    Engine,
    /// As stock devices do: one sync at a time, for one request.
    Serial,
    /// A sync for each request at once, on a disk whose flushes do not delay each other.
    Overlapping,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Engine, Self::Serial, Self::Overlapping];

    /// As the results have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Serial => "serial",
            Self::Overlapping => "overlapping",
        }
    }
}

/// Requests of one sync.
pub type Batch = Vec<Cookie>;

/// The host of one device.
#[derive(Debug)]
pub struct Host {
    kind: Kind,
    waiting: VecDeque<Cookie>,
    running: bool,
    /// Syncs that were begun.
    pub syncs: u64,
}

impl Host {
    /// Nothing to do.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            waiting: VecDeque::new(),
            running: false,
            syncs: 0,
        }
    }

    /// A request has come. The sync that begins, if one does.
    pub fn request(&mut self, cookie: Cookie) -> Option<Batch> {
        self.waiting.push_back(cookie);
        self.next()
    }

    /// A sync has ended. The one that begins, if one does.
    pub fn synced(&mut self) -> Option<Batch> {
        self.running = false;
        self.next()
    }

    fn next(&mut self) -> Option<Batch> {
        if self.waiting.is_empty() || self.running && self.kind != Kind::Overlapping {
            return None;
        }
        self.running = true;
        self.syncs += 1;
        Some(match self.kind {
            Kind::Serial => self.waiting.pop_front().into_iter().collect(),
            Kind::Engine | Kind::Overlapping => mem::take(&mut self.waiting).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_batches_in_its_way() {
        for (kind, second, after) in [
            (Kind::Engine, None, Some(vec![2, 3])),
            (Kind::Serial, None, Some(vec![2])),
            (Kind::Overlapping, Some(vec![2]), None),
        ] {
            let mut host = Host::new(kind);
            assert_eq!(host.request(1), Some(vec![1]));
            assert_eq!(host.request(2), second, "{kind:?}");
            host.request(3);
            assert_eq!(host.synced(), after, "{kind:?}");
        }
    }
}
