// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest agent and the outside share.
//!
//! * [`wire`]: the records and orders on the guest's first serial line;
//! * [`ack`]: the layout of the ack device, where the guest notes what it has synced;
//! * [`pattern`]: the content of a data block, which names itself;
//! * [`verify`]: holds data against the ack device;
//! * [`load`]: the engine that writes, syncs and acks;
//! * [`client`]: sends orders from outside and waits for their answers.

pub mod ack;
pub mod client;
pub mod devices;
pub mod hostile;
pub mod load;
pub mod pattern;
pub mod random;
pub mod verify;
pub mod wire;
