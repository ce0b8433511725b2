//! Stub: types only.
#![allow(missing_docs, clippy::all)]
use super::handshake::Offer;
use super::head::ResponseHead;
use http::StatusCode;
use std::borrow::Cow;
use tokio::io::{AsyncRead, AsyncWrite};
pub struct Refusal { pub status: StatusCode, pub text: Cow<'static, str>, pub headers: Vec<(&'static str, Cow<'static, str>)> }
impl Refusal {
    pub fn new(_status: StatusCode, _text: impl Into<Cow<'static, str>>) -> Self { todo!() }
    pub fn header(self, _name: &'static str, _value: impl Into<Cow<'static, str>>) -> Self { todo!() }
    pub fn retry_after(self, _seconds: u32) -> Self { todo!() }
}
/// Writes, shuts down, lingers (bounded), drops.
pub async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(_stream: S, _refusal: &Refusal) { todo!() }
/// The bytes of the 101; the caller appends the upstream's leftover and writes once.
pub fn switching_protocols(_offer: &Offer, _upstream: &ResponseHead) -> Vec<u8> { todo!() }
