// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest agent and the outside say to each other.
