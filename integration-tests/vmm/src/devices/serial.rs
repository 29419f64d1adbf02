// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The 16550 serial port, ttyS0.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::serial::{SerialEvents, SerialState};
use vm_superio::{Serial, Trigger};

use super::irq::IrqLine;
use crate::vm::VmError;

/// The port's registers and unread input, as a snapshot keeps them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SerialPortState {
    baud_divisor_low: u8,
    baud_divisor_high: u8,
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    in_buffer: Vec<u8>,
}

impl From<SerialState> for SerialPortState {
    fn from(state: SerialState) -> Self {
        Self {
            baud_divisor_low: state.baud_divisor_low,
            baud_divisor_high: state.baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.in_buffer,
        }
    }
}

impl From<&SerialPortState> for SerialState {
    fn from(state: &SerialPortState) -> Self {
        Self {
            baud_divisor_low: state.baud_divisor_low,
            baud_divisor_high: state.baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.in_buffer.clone(),
        }
    }
}

/// Where the port's bytes come from and go to.
pub trait Wire: Send + Sync {
    /// Takes what the guest sent. Never waits.
    fn sent(&self, bytes: &[u8]);
    /// The guest has read everything there was: there is room for more input.
    fn drained(&self);
}

/// The device's end of a wire.
#[derive(Clone)]
struct Plug(Arc<dyn Wire>);

impl Write for Plug {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.sent(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SerialEvents for Plug {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        self.0.drained();
    }
}

/// The register that says why there is an interrupt, and its values.
const INTERRUPT_IDENTIFICATION: u8 = 2;
const IDENTIFICATION: u8 = 0x0f;
const NO_INTERRUPT: u8 = 0x01;
const INPUT_AVAILABLE: u8 = 0x04;

/// True while a real port would assert its interrupt for input. `vm_superio` forgets that
/// reason with the first byte that is read; Linux reads 256 bytes at most before it asks
/// again, and would leave the rest unread for ever.
fn has_input(serial: &Serial<IrqLine, Plug, Plug>) -> bool {
    let state = serial.state();
    state.interrupt_enable & 0x01 != 0 && state.line_status & 0x01 != 0
}

/// The port. Its methods can be called from every thread.
pub struct SerialPort(Mutex<Serial<IrqLine, Plug, Plug>>);

impl SerialPort {
    /// A port as it is after power-on, or as it was saved.
    ///
    /// # Errors
    /// The saved state holds more input than the port can.
    pub fn new(
        irq: IrqLine,
        wire: Arc<dyn Wire>,
        state: Option<&SerialPortState>,
    ) -> Result<Self, VmError> {
        let plug = Plug(wire);
        let serial = match state {
            None => Serial::with_events(irq, plug.clone(), plug),
            Some(state) => Serial::from_state(&state.into(), irq, plug.clone(), plug)
                .map_err(|e| VmError::State(format!("serial port: {e}")))?,
        };
        Ok(Self(Mutex::new(serial)))
    }

    /// Reads register `offset`.
    pub fn read(&self, offset: u8) -> u8 {
        let mut serial = self.lock();
        let value = serial.read(offset);
        if offset == INTERRUPT_IDENTIFICATION && value & NO_INTERRUPT != 0 && has_input(&serial) {
            return value & !IDENTIFICATION | INPUT_AVAILABLE;
        }
        value
    }

    /// Writes register `offset`.
    pub fn write(&self, offset: u8, value: u8) {
        if let Err(e) = self.lock().write(offset, value) {
            log::error!("serial port: {e}");
        }
    }

    /// Gives the guest input; returns how many bytes there was room for.
    pub fn receive(&self, input: &[u8]) -> usize {
        let mut serial = self.lock();
        let room = serial.fifo_capacity().min(input.len());
        match serial.enqueue_raw_bytes(&input[..room]) {
            Ok(taken) => taken,
            Err(e) => {
                log::error!("serial port: {e}");
                0
            }
        }
    }

    /// The state for a snapshot.
    pub fn save(&self) -> SerialPortState {
        self.lock().state().into()
    }

    /// Sends an edge again that may have been under way when the state was saved. One too
    /// many does no harm: the driver looks for a reason and finds none.
    pub fn interrupt_again(&self) {
        if let Err(e) = self.lock().interrupt_evt().trigger() {
            log::error!("serial port: {e}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Serial<IrqLine, Plug, Plug>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<u8>>);

    impl Wire for Log {
        fn sent(&self, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
        fn drained(&self) {
            self.0.lock().unwrap().push(b'.');
        }
    }

    fn port(log: &Arc<Log>, state: Option<&SerialPortState>) -> SerialPort {
        SerialPort::new(IrqLine::loose(), log.clone(), state).unwrap()
    }

    #[test]
    fn what_the_guest_sends_goes_to_the_wire() {
        let log = Arc::new(Log::default());
        let port = port(&log, None);
        port.write(0, b'h');
        port.write(0, b'i');
        assert_eq!(*log.0.lock().unwrap(), b"hi");
    }

    #[test]
    fn unread_input_survives_a_snapshot() {
        let log = Arc::new(Log::default());
        let port_1 = port(&log, None);
        assert_eq!(port_1.receive(b"abc"), 3);
        assert_eq!(port_1.read(0), b'a');
        let saved = serde_json::to_string(&port_1.save()).unwrap();
        let port_2 = port(&log, Some(&serde_json::from_str(&saved).unwrap()));
        assert_eq!([port_2.read(0), port_2.read(0)], *b"bc");
        assert_eq!(*log.0.lock().unwrap(), b".");
    }

    #[test]
    fn input_that_is_left_over_is_still_a_reason_for_the_interrupt() {
        let port = port(&Arc::new(Log::default()), None);
        let reason = || port.read(INTERRUPT_IDENTIFICATION) & IDENTIFICATION;
        port.receive(b"masked");
        assert_eq!(reason(), NO_INTERRUPT);
        for _ in 0..6 {
            port.read(0);
        }
        port.write(1, 0x01);
        port.receive(b"abc");
        assert_eq!(reason(), INPUT_AVAILABLE);
        port.read(0);
        assert_eq!([reason(), reason()], [INPUT_AVAILABLE; 2]);
        port.read(0);
        port.read(0);
        assert_eq!(reason(), NO_INTERRUPT);
    }

    #[test]
    fn input_beyond_the_fifo_is_left_to_the_caller() {
        let log = Arc::new(Log::default());
        let port = port(&log, None);
        let taken = port.receive(&[b'x'; 1000]);
        assert!(taken > 0 && taken < 1000);
        assert_eq!(port.receive(b"y"), 0);
    }

    #[test]
    fn a_saved_state_with_too_much_input_is_refused() {
        let log = Arc::new(Log::default());
        let mut state = port(&log, None).save();
        state.in_buffer = vec![0; 1000];
        assert!(SerialPort::new(IrqLine::loose(), log, Some(&state)).is_err());
    }
}
