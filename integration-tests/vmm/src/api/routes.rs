// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Paths, methods, bodies and status codes: cloud-hypervisor's.

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Action, Answer, VmError};
use crate::error::chain;

/// What goes over the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body; none with [`StatusCode::NO_CONTENT`].
    pub body: Option<Value>,
}

impl HttpAnswer {
    /// 400, with the reasons from the outermost to the innermost.
    pub fn bad_request(reasons: &[String]) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: Some(json!(reasons)),
        }
    }

    fn plainly_bad() -> Self {
        Self::bad_request(&["Bad Request".to_owned()])
    }

    fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            body: Some(json!(["Not Found"])),
        }
    }
}

/// What a request asks for.
///
/// # Errors
/// The answer to a request that asks for nothing we know.
pub fn parse(method: &Method, path: &str, body: &[u8]) -> Result<Action, HttpAnswer> {
    let name = path
        .strip_prefix("/api/v1/")
        .ok_or_else(HttpAnswer::not_found)?;
    if method != Method::GET && method != Method::PUT {
        // cloud-hypervisor answers this one without a body.
        return Err(HttpAnswer {
            status: StatusCode::BAD_REQUEST,
            body: None,
        });
    }
    match name {
        "vmm.ping" => get(method, Action::Ping),
        "vm.info" => get(method, Action::Info),
        "vm.counters" => get(method, Action::Counters),
        "vm.pause" => put(method, body, Action::Pause),
        "vm.resume" => put(method, body, Action::Resume),
        "vm.power-button" => put(method, body, Action::PowerButton),
        "vm.shutdown" => put(method, body, Action::Shutdown),
        "vmm.shutdown" => put(method, &[], Action::VmmShutdown),
        "vm.snapshot" => put_body(method, body).map(Action::Snapshot),
        "vm.restore" => put_body(method, body).map(Action::Restore),
        _ => Err(HttpAnswer::not_found()),
    }
}

fn get(method: &Method, action: Action) -> Result<Action, HttpAnswer> {
    if method == Method::GET {
        Ok(action)
    } else {
        Err(HttpAnswer::plainly_bad())
    }
}

fn put(method: &Method, body: &[u8], action: Action) -> Result<Action, HttpAnswer> {
    if method == Method::PUT && body.is_empty() {
        Ok(action)
    } else {
        Err(HttpAnswer::plainly_bad())
    }
}

fn put_body<T: DeserializeOwned>(method: &Method, body: &[u8]) -> Result<T, HttpAnswer> {
    if method != Method::PUT || body.is_empty() {
        return Err(HttpAnswer::plainly_bad());
    }
    serde_json::from_slice(body).map_err(|error| {
        HttpAnswer::bad_request(&["Failed to deserialize JSON".to_owned(), error.to_string()])
    })
}

/// The control loop's answer in HTTP.
pub fn render(action: &Action, answer: Answer) -> HttpAnswer {
    match answer {
        Ok(Some(body)) => HttpAnswer {
            status: StatusCode::OK,
            body: Some(body),
        },
        Ok(None) => HttpAnswer {
            // cloud-hypervisor's own difference.
            status: if *action == Action::VmmShutdown {
                StatusCode::OK
            } else {
                StatusCode::NO_CONTENT
            },
            body: None,
        },
        Err(error) => {
            let mut reasons = vec!["Error from API".to_owned()];
            reasons.extend(chain(&error));
            HttpAnswer {
                status: match error.cause() {
                    Some(VmError::NotCreated) => StatusCode::NOT_FOUND,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                },
                body: Some(json!(reasons)),
            }
        }
    }
}
