// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! HTTP/1.1 on the socket, on one thread.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use log::{info, warn};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::routes::{HttpAnswer, parse, render};
use super::{ApiSocket, Outbox};

/// The longest body that is read.
const MAX_BODY: usize = 64 << 10;

/// How long the end of the process waits for clients to take their last answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait when no connection can be accepted (too many open files).
const BREATH: Duration = Duration::from_millis(100);

/// The server cannot start.
#[derive(Debug, Error)]
#[error("the API server cannot start")]
pub struct ServerError(#[from] io::Error);

/// The API server's thread. Dropping it lets clients take their last answers, then
/// ends it and removes the socket.
#[derive(Debug)]
pub struct ApiServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _socket: ApiSocket,
}

impl ApiServer {
    /// Serves `socket`; requests go to `outbox`.
    ///
    /// # Errors
    /// No thread or no file descriptor.
    pub fn start(socket: ApiSocket, outbox: Outbox) -> Result<Self, ServerError> {
        let listener = socket.listener()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = Builder::new()
            .name("http-server".to_owned())
            .spawn(move || {
                if let Err(error) = run(&runtime, listener, outbox, stopped) {
                    warn!("the API server ended: {error}");
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            _socket: socket,
        })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn run(
    runtime: &Runtime,
    listener: StdListener,
    outbox: Outbox,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    LocalSet::new().block_on(runtime, async {
        let listener = UnixListener::from_std(listener)?;
        let graceful = GracefulShutdown::new();
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => serve(stream, outbox.clone(), &graceful),
                    Err(error) => {
                        warn!("the API server cannot accept a client: {error}");
                        sleep(BREATH).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
        // The loop that answers has ended: who still waits learns it from its lost reply.
        drop(outbox);
        timeout(LAST_WORDS, graceful.shutdown()).await.ok();
        Ok(())
    })
}

fn serve(stream: UnixStream, outbox: Outbox, graceful: &GracefulShutdown) {
    let service = service_fn(move |request| {
        let outbox = outbox.clone();
        async move { Ok::<_, Infallible>(answer(request, &outbox).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let watched = graceful.watch(connection);
    spawn_local(async move {
        if let Err(error) = watched.await {
            info!("an API client's connection broke: {error}");
        }
    });
}

async fn answer(request: HttpRequest<Incoming>, outbox: &Outbox) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => match parse(&head.method, head.uri.path(), &body.to_bytes()) {
            Ok(action) => {
                let answer = outbox.ask(action.clone()).await;
                render(&action, answer)
            }
            Err(refusal) => refusal,
        },
        Err(error) => HttpAnswer::bad_request(&["Bad Request".to_owned(), error.to_string()]),
    };
    if !answer.status.is_success() {
        info!(
            "HTTP API error response: {} {}: {:?}",
            head.method, head.uri, answer.body
        );
    }
    let body = answer
        .body
        .map(|body| Full::from(body.to_string()))
        .unwrap_or_default();
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("vmm API"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
