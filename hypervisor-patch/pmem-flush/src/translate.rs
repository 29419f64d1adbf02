// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Address translation for a device behind a virtio-iommu.

use std::io;
use std::sync::Arc;

use vm_memory::GuestAddress;

/// Turns the addresses in descriptors into guest physical ones.
pub trait Translate {
    /// Translates the `len` bytes at `address`, which must lie in one mapping.
    ///
    /// # Errors
    ///
    /// They don't, or the device may not touch them.
    fn translate(&self, address: GuestAddress, len: u32) -> io::Result<GuestAddress>;
}

/// No translation: descriptors hold guest physical addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl Translate for Identity {
    fn translate(&self, address: GuestAddress, _len: u32) -> io::Result<GuestAddress> {
        Ok(address)
    }
}

impl<T: Translate + ?Sized> Translate for Arc<T> {
    fn translate(&self, address: GuestAddress, len: u32) -> io::Result<GuestAddress> {
        (**self).translate(address, len)
    }
}

/// With `None` for a device that was not put behind an IOMMU.
impl<T: Translate> Translate for Option<T> {
    fn translate(&self, address: GuestAddress, len: u32) -> io::Result<GuestAddress> {
        match self {
            Some(translate) => translate.translate(address, len),
            None => Ok(address),
        }
    }
}
