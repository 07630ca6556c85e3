//! The operations listener: health and metrics, which never stand on the public one.

use crate::metrics;
use crate::server::Server;
use bytes::Bytes;
use flowyte_http::accept;
use flowyte_http::wire::Limits;
use flowyte_store::{InLane, Lane, Store};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why no request should be sent here.
async fn unready(server: &Server) -> Option<&'static str> {
    let store: &dyn Store = &InLane(&*server.verifier.store, Lane::PROBE);
    match () {
        () if server.draining.load(Ordering::Acquire) => Some("the server is stopping"),
        () if !server.verifier.replica.is_fresh() => Some("the copy of the credentials may be out of date"),
        () if store.is_empty().await.is_err() => Some("the database does not answer"),
        () => None,
    }
}

async fn answer(server: &Server, request: &Request<Incoming>) -> Response<Bytes> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/health/live" => text(StatusCode::OK, "live\n"),
        "/health/ready" => match unready(server).await {
            None => text(StatusCode::OK, "ready\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/metrics" => match metrics::render(server).await {
            Ok(all) => text(StatusCode::OK, all),
            Err(error) => {
                tracing::error!(%error, "metrics can't be rendered");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be rendered\n")
            }
        },
        _ => text(StatusCode::NOT_FOUND, "/health/live, /health/ready, /metrics\n"),
    }
}

/// Serves health and metrics on `listener`, over at most 100 connections, until `shutdown` completes.
pub async fn serve(server: Arc<Server>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let limits = Limits {
        authority: server.config.ops_listen.to_string(),
        max_connections: 100,
        connections_per_address: 100,
        ..Limits::default()
    };
    let refuse = Arc::new(|_, _| text(StatusCode::BAD_REQUEST, "malformed request\n"));
    let service_for = move |_| {
        let server = server.clone();
        service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(answer(&server, &request).await.map(Full::new)) }
        })
    };
    accept::serve(listener, limits, refuse, service_for, shutdown).await;
}
