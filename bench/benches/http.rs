//! Heads and chunk framing: our codec, httparse alone (which leaves every rule about fields to its caller),
//! and monoio-http's decoders, which the gateway refuses; the last copy their input first, as they own it.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use monoio_codec::Decoder;
use monoio_http::h1::codec::decoder::{
    ChunkedBodyDecoder, RequestHeadDecoder, ResponseHeadDecoder,
};
use sluice::http::{
    BodyStep, ChunkLimits, ChunkedDecoder, HeadLimits, RequestHead, ResponseHead, parse_request,
    parse_response,
};

const REQUEST: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test:8080\r\n\
    accept: application/json\r\nuser-agent: OpenAI/Python 1.99.9\r\nx-stainless-lang: python\r\n\
    x-stainless-runtime: CPython\r\nauthorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n\
    content-type: application/json\r\naccept-encoding: gzip, deflate\r\ncontent-length: 1024\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ndate: Fri, 20 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\n\
    content-length: 812\r\ncontent-type: application/json\r\n\r\n";
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 32 << 10, header_count_max: 128, target_bytes_max: 8 << 10 };
const CHUNK_LIMITS: ChunkLimits =
    ChunkLimits { extension_bytes_max: 4096, trailer_bytes_max: 8192 };
/// Chunks of the chunked body.
const CHUNKS: usize = 64;

fn heads(c: &mut Criterion) {
    let mut request = RequestHead::default();
    c.bench_function("request head, ours", |b| {
        b.iter(|| parse_request(black_box(REQUEST), &LIMITS, &mut request).is_ok());
    });
    c.bench_function("request head, httparse alone", |b| {
        b.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            httparse::Request::new(&mut fields).parse(black_box(REQUEST)).is_ok()
        });
    });
    c.bench_function("request head, monoio-http", |b| {
        let decode = |mut bytes: BytesMut| RequestHeadDecoder.decode(&mut bytes).is_ok();
        b.iter_batched(|| BytesMut::from(REQUEST), decode, BatchSize::SmallInput);
    });
    let mut response = ResponseHead::default();
    c.bench_function("response head, ours", |b| {
        b.iter(|| parse_response(black_box(RESPONSE), &LIMITS, false, &mut response).is_ok());
    });
    c.bench_function("response head, httparse alone", |b| {
        b.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            httparse::Response::new(&mut fields).parse(black_box(RESPONSE)).is_ok()
        });
    });
    c.bench_function("response head, monoio-http", |b| {
        let decode = |mut bytes: BytesMut| ResponseHeadDecoder.decode(&mut bytes).is_ok();
        b.iter_batched(|| BytesMut::from(RESPONSE), decode, BatchSize::SmallInput);
    });
}

/// A body of events, each in a chunk of its own.
fn body() -> Vec<u8> {
    let event = "x".repeat(220);
    let mut body = format!("{:x}\r\n{event}\r\n", event.len()).repeat(CHUNKS).into_bytes();
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

fn ours(body: &[u8]) -> usize {
    let mut decoder = ChunkedDecoder::new(CHUNK_LIMITS);
    let (mut at, mut bytes) = (0, 0);
    while let Ok(BodyStep::Data { consumed, data }) = decoder.step(&body[at..]) {
        at += consumed;
        bytes += data.len();
    }
    bytes
}

fn theirs(mut body: BytesMut) -> usize {
    let mut decoder = ChunkedBodyDecoder::default();
    let mut bytes = 0;
    while let Ok(monoio_codec::Decoded::Some(Some(data))) = decoder.decode(&mut body) {
        bytes += data.len();
    }
    bytes
}

fn sizes_alone(body: &[u8]) -> usize {
    let (mut at, mut bytes) = (0, 0);
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(&body[at..])
    {
        if size == 0 {
            break;
        }
        at += head + size as usize + 2;
        bytes += size as usize;
    }
    bytes
}

fn chunks(c: &mut Criterion) {
    let body = body();
    c.bench_function("64 chunks, ours", |b| b.iter(|| ours(black_box(&body))));
    c.bench_function("64 chunks, httparse's sizes alone", |b| {
        b.iter(|| sizes_alone(black_box(&body)));
    });
    c.bench_function("64 chunks, monoio-http", |b| {
        b.iter_batched(|| BytesMut::from(&body[..]), theirs, BatchSize::SmallInput);
    });
}

criterion_group!(benches, heads, chunks);
criterion_main!(benches);
