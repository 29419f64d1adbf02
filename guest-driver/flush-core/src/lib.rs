// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Request and flush state machine of the virtio-pmem guest driver.
#![no_std]
