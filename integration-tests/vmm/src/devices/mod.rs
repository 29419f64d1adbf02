// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The machine's devices: what answers at which port or address ([`DeviceBus`]), the
//! serial port and the console behind it, and the power management registers.

mod bus;
mod console;
mod irq;
pub mod pm;
mod serial;

pub use self::bus::{DeviceBus, Window};
pub use self::console::Console;
pub use self::irq::{IrqLine, Sci};
pub use self::serial::{SerialPort, SerialPortState};
