// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Durable, drainable flush engine for a virtio-pmem device.
