// SPDX-License-Identifier: GPL-2.0-only

//! Bios that wait for a flush, chained through the field that the kernel's own bio lists use.

use core::ffi::c_int;
use core::ptr::{self, NonNull};

use flush_core::Bios;

use crate::ffi::{self, KernelBio};

/// A bio that is this driver's: it was given to the flush callback and has not been ended.
pub struct Bio(NonNull<KernelBio>);

impl Bio {
    /// Takes over a bio.
    ///
    /// # Safety
    ///
    /// It is a live bio that nobody else will touch before it is ended.
    pub unsafe fn new(bio: NonNull<KernelBio>) -> Self {
        Self(bio)
    }
}

/// Bios chained by `bi_next`, the last one first.
///
/// # Invariants
///
/// `head` is null or a bio that is this driver's, and so is each bio's `bi_next`.
pub struct BioList {
    head: *mut KernelBio,
}

impl Default for BioList {
    fn default() -> Self {
        Self {
            head: ptr::null_mut(),
        }
    }
}

impl Bios for BioList {
    type Bio = Bio;

    fn push(&mut self, bio: Bio) {
        // SAFETY: the bio is this driver's, so its link is free for use.
        unsafe { ffi::vpr_bio_link(bio.0.as_ptr(), self.head) };
        // INVARIANT: the bio's handle is gone, and its link is the old head.
        self.head = bio.0.as_ptr();
    }

    fn is_empty(&self) -> bool {
        self.head.is_null()
    }
}

impl BioList {
    /// Ends each bio, with 0 or a negative errno.
    pub fn end(self, error: c_int) {
        let mut bio = self.head;
        while !bio.is_null() {
            // SAFETY: by the type's invariant the bio is this driver's; its link is read before
            // the bio is given away.
            bio = unsafe {
                let next = ffi::vpr_bio_next(bio);
                ffi::vpr_bio_end(bio, error);
                next
            };
        }
    }
}
