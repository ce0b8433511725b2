//! The control port, plain HTTP: `/ready` for the kubelet (200 or 503), `/ready/on` and `/ready/off` to switch it,
//! `/counts` for what the pod has seen.

use super::Pod;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(super) async fn answer(stream: TcpStream, pod: Arc<Pod>) {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    if stream.read_line(&mut request).await.is_err() {
        return;
    }
    // The rest of the head is of no interest, but unread bytes would turn our end into a reset.
    let mut line = String::new();
    while matches!(stream.read_line(&mut line).await, Ok(1..)) && !line.trim().is_empty() {
        line.clear();
    }
    let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
        "/ready" if pod.ledger.is_ready() => ("200 OK", "ready".to_owned()),
        "/ready" => ("503 Service Unavailable", "not ready".to_owned()),
        "/ready/on" => {
            pod.ledger.set_ready(true);
            ("200 OK", "on".to_owned())
        }
        "/ready/off" => {
            pod.ledger.set_ready(false);
            ("200 OK", "off".to_owned())
        }
        "/counts" => ("200 OK", serde_json::to_string(&pod.ledger.counts()).unwrap_or_default()),
        _ => ("404 Not Found", "no such page".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _gone = stream.write_all((head + &body).as_bytes()).await;
}
