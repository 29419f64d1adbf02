// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The API's socket file: made at start, gone at the end.

use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The socket cannot be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("--api-socket {}: another process listens there; give another path", .0.display())]
    InUse(PathBuf),
    /// A file that is no socket is in the way.
    #[error("--api-socket {}: a file is in the way; give another path", .0.display())]
    InTheWay(PathBuf),
    /// Something else.
    #[error("--api-socket {}: cannot be made", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket. Dropping it removes the file.
#[derive(Debug)]
pub struct ApiSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ApiSocket {
    /// Listens at `path`, for this user only. A socket file that a killed process left
    /// is replaced.
    ///
    /// # Errors
    /// Names the path and the reason.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::InTheWay(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    remove_file(path).map_err(io)?;
                }
                Err(error) => return Err(io(error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        let socket = Self {
            path: path.to_owned(),
            listener,
        };
        set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
        socket.listener.set_nonblocking(true).map_err(io)?;
        Ok(socket)
    }

    /// The listener, for the server.
    ///
    /// # Errors
    /// The file descriptor cannot be doubled.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        remove_file(&self.path).ok();
    }
}
