// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One HTTP/1.1 call over a Unix socket: as much as a VMM's REST server needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The longest body that is taken.
const MAX_BODY: u64 = 16 << 20;

/// A server's answer.
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Calls `method path` with a JSON body, if there is one.
pub fn call(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&str>,
    within: Duration,
) -> Result<Reply> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let body = body.unwrap_or_default();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n");
    if !body.is_empty() {
        let length = body.len();
        request += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    }
    request += "\r\n";
    request += body;
    (&stream).write_all(request.as_bytes())?;
    read_reply(BufReader::new(stream)).with_context(|| format!("no answer to {method} {path}"))
}

fn read_reply(mut reader: impl BufRead) -> Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let Some(status) = status else {
        bail!("`{}` is no HTTP status line", line.trim());
    };
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            bail!("the answer ends in its header");
        }
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value
                .trim()
                .parse()
                .context("the answer's length is no number")?;
        }
    }
    if length > MAX_BODY {
        bail!("the answer is {length} bytes long");
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    Ok(Reply { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_length_not_with_its_stream() {
        let text = "HTTP/1.1 500 Internal\r\nServer: x\r\ncontent-LENGTH: 4\r\n\r\n[1] rest";
        let reply = read_reply(text.as_bytes()).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (500, "[1] "));
    }

    #[test]
    fn a_reply_that_is_cut_is_refused() {
        assert!(read_reply("HTTP/1.1 204\r\nServer: x\r\n".as_bytes()).is_err());
        assert!(read_reply("".as_bytes()).is_err());
    }
}
