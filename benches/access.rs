//! What access adds to a handshake. An API key, found and looked up, is to stay under 3 µs, and to cost no more among
//! 100,000 keys than among ten. A token, found, judged and told in a header, is to cost what the crate's bare verification of it
//! costs. Where a client comes from, and whether an address is among 10,000 blocks, is to stay under 1 µs.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Map, Value, json};
use sheave::proxy::find_credential;
use sheave::proxy::handshake::Offer;
use sheave::proxy::head::{HeadLimits, RequestHead};
use sheave::proxy::hops::{forwarded, x_forwarded_for};
use sheave::proxy::proxy_protocol::{Parsed, parse, write};
use sheave::routing::access::{Cidr, CidrSet, Encoding, Jwt, KeyRing, Keys, Place, Source, TokenKey};
use sheave::routing::{ProxyVersion, Scheme};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// A handshake as a browser sends it, with more header lines.
fn offer(lines: &str) -> Offer {
    let text = format!(
        "GET /ws?room=1&key=key-7 HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nUpgrade: websocket\r\n\
         Origin: https://chat.example.com\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n{lines}\r\n"
    );
    let head = RequestHead::parse(text.into(), &HeadLimits::default()).expect("a well-formed head");
    Offer::check(head, Bytes::new(), Scheme::Ws).expect("a good handshake")
}

fn ring(keys: usize) -> KeyRing {
    KeyRing::new(
        (0..keys).map(|at| (KeyRing::digest(format!("key-{at}").as_bytes()), Arc::from(format!("client-{at}")))),
    )
    .0
}

fn api_key(c: &mut Criterion) {
    let mut group = c.benchmark_group("an API key");
    let source = |place| [Source { place, prefix: "".into(), encoding: Encoding::Plain }];
    let header = source(Place::Header("x-api-key".into()));
    let by_header = offer("X-Api-Key: key-7\r\n");
    let mut measure = |name: &str, ring: &KeyRing, sources: &[Source], offer: &Offer| {
        let identify = || {
            let found = find_credential(black_box(sources), black_box(offer)).expect("one").expect("a key");
            ring.client(&KeyRing::digest(&found.value)).cloned()
        };
        assert_eq!(identify().as_deref(), Some("client-7"));
        group.bench_function(name, |b| b.iter(identify));
    };
    let few = ring(10);
    for keys in [10, 1000, 100_000] {
        measure(&format!("of a header, among {keys}"), &ring(keys), &header, &by_header);
    }
    measure("of the query", &few, &source(Place::Query("key".into())), &by_header);
    measure("of a cookie", &few, &source(Place::Cookie("key".into())), &offer("Cookie: a=1; key=key-7; b=2\r\n"));
    let subprotocol = offer("Sec-WebSocket-Protocol: chat, key.key-7\r\n");
    measure("of a subprotocol", &few, &source(Place::Subprotocol("key.".into())), &subprotocol);
    group.finish();
}

fn token(c: &mut Criterion) {
    const NOW: i64 = 1_800_000_000;
    let claims = json!({
        "iss": "https://id.example.com", "aud": ["chat"], "sub": "alice", "iat": NOW, "exp": 4_000_000_000_u64,
        "jti": BASE64_URL_SAFE_NO_PAD.encode([7; 16]), "roles": ["reader", "writer"],
    });
    let mut group = c.benchmark_group("a token");
    for (algorithm, kind) in
        [(Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256), (Algorithm::RS256, &rcgen::PKCS_RSA_SHA256)]
    {
        let pem = rcgen::KeyPair::generate_for(kind).expect("a key").serialize_pem();
        let signs = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let signs = signs.expect("a key");
        let jwk = Jwk::from_encoding_key(&signs, algorithm).expect("its public part");
        let key = DecodingKey::from_jwk(&jwk).expect("a public key");
        let header = Header { kid: Some("a".to_owned()), ..Header::new(algorithm) };
        let token = encode(&header, &claims, &signs).expect("a token");

        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["chat"]);
        validation.set_issuer(&["https://id.example.com"]);
        let bare = || decode::<Map<String, Value>>(black_box(&token), &key, &validation).expect("good");
        group.bench_function(format!("{algorithm:?}, the crate alone"), |b| b.iter(bare));

        let jwt = Jwt {
            keys: Keys::Known([TokenKey::new(Some("a"), key.clone(), [algorithm], [7; 32])].into()),
            remote: None,
            algorithms: None,
            issuer: Some("https://id.example.com".into()),
            audiences: vec!["chat".into()],
            leeway: Duration::from_secs(60),
            consumer_claim: "sub".into(),
            claims: Vec::new(),
            claim_headers: vec![("roles".into(), "x-roles".into())],
        };
        let offer = offer(&format!("Authorization: Bearer {token}\r\n"));
        let sources = [Source {
            place: Place::Header("authorization".into()),
            prefix: "Bearer ".into(),
            encoding: Encoding::Plain,
        }];
        let whole = || {
            let found = find_credential(black_box(&sources), black_box(&offer)).expect("one").expect("a token");
            let token = jwt.verify(&found.value, NOW).expect("good");
            (jwt.consumer(&token.claims), jwt.told(&token.claims).count())
        };
        group.bench_function(format!("{algorithm:?}, found, judged and told"), |b| b.iter(whole));
    }
    group.finish();
}

fn address(c: &mut Criterion) {
    let mut group = c.benchmark_group("an address");
    let mut random = fastrand::Rng::with_seed(1);
    let addresses: Vec<IpAddr> = (0..1024).map(|_| IpAddr::from(random.u32(..).to_be_bytes())).collect();
    for blocks in [10, 10_000] {
        // Every second block of 256 addresses, so that none can be merged with the next.
        let block = |at: u32| format!("{}/24", Ipv4Addr::from_bits(at << 9)).parse::<Cidr>().expect("a block");
        let set: CidrSet = (0..blocks).map(block).collect();
        assert!(set.contains(IpAddr::from([0, 0, 2, 9])) && !set.contains(IpAddr::from([0, 0, 1, 9])));
        let mut at = 0;
        group.bench_function(format!("among {blocks} blocks"), |b| {
            b.iter(|| {
                at = (at + 1) % addresses.len();
                black_box(&set).contains(black_box(addresses[at]))
            });
        });
    }
    let client = Some(IpAddr::from([192, 0, 2, 7]));
    let lines: [&[u8]; 2] = [b"203.0.113.66, 192.0.2.7", b"198.51.100.1"];
    assert_eq!(x_forwarded_for(&lines, 2), client);
    group.bench_function("of X-Forwarded-For", |b| b.iter(|| x_forwarded_for(black_box(&lines), 2)));
    let lines: [&[u8]; 1] = [b"for=192.0.2.7;proto=https, for=\"[2001:db8::1]:443\""];
    assert_eq!(forwarded(&lines, 2), client);
    group.bench_function("of Forwarded", |b| b.iter(|| forwarded(black_box(&lines), 2)));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = write(version, "192.0.2.7:4711".parse().expect("one"), "10.0.0.1:443".parse().expect("one"));
        assert!(matches!(parse(&header), Ok(Parsed::Header(told, _)) if told.source.map(|from| from.ip()) == client));
        group.bench_function(format!("of the PROXY protocol, {version:?}"), |b| b.iter(|| parse(black_box(&header))));
    }
    group.finish();
}

criterion_group!(benches, api_key, token, address);
criterion_main!(benches);
