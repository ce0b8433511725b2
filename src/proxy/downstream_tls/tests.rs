//! What comes out of a connection and what it keeps, over real sockets against rustls with its buffers.

use super::*;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The two ends of a connection whose handshake is done.
async fn pair() -> (TlsStream<TcpStream>, DownstreamTls) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let name = "a.example".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = connector.connect(name, near);
    let accepting = DownstreamTls::accept(far, Arc::new(server), Vec::new());
    let (client, server) = tokio::join!(connecting, accepting);
    (client.unwrap(), server.unwrap())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + (at >> 8)).to_le_bytes()[0]).collect()
}

fn keeps_nothing(tls: &DownstreamTls) -> bool {
    let buffers = [&tls.incoming, &tls.opened.bytes, &tls.sealed.bytes];
    buffers.iter().all(|buffer| buffer.capacity() == 0)
}

#[tokio::test]
async fn bytes_pass_both_ways_whatever_the_reader_asks_for_and_nothing_is_kept_afterwards() {
    let (mut client, mut server) = pair().await;
    assert!(keeps_nothing(&server), "after the handshake");
    let sent = pattern(1 << 20);
    for most in [1 << 16, 20_000, 700] {
        let length = if most == 700 { 1 << 16 } else { sent.len() };
        let writing = async {
            client.write_all(&sent[..length]).await.unwrap();
            client.flush().await.unwrap();
        };
        let reading = async {
            let (mut got, mut buffer) = (Vec::new(), vec![0; most]);
            while got.len() < length {
                let count = server.read(&mut buffer).await.unwrap();
                got.extend_from_slice(&buffer[..count]);
            }
            got
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == sent[..length], "reads of {most} bytes");
        assert!(keeps_nothing(&server), "after reads of {most} bytes");

        let writing = async {
            server.write_all(&sent[..length]).await.unwrap();
            server.flush().await.unwrap();
        };
        let mut got = vec![0; length];
        let ((), read) = tokio::join!(writing, client.read_exact(&mut got));
        read.unwrap();
        assert!(got == sent[..length], "writes");
        assert!(keeps_nothing(&server), "after writes");
    }
}

#[tokio::test]
async fn it_keeps_what_it_is_allowed_of_bytes_that_nobody_takes() {
    let (_client, mut server) = pair().await;
    server.bound(4096);
    let sent = pattern(1 << 16);
    let mut context = Context::from_waker(std::task::Waker::noop());
    let blocked = async {
        while Pin::new(&mut server).poll_write(&mut context, &sent).is_ready() {
            tokio::task::yield_now().await;
        }
    };
    blocked.await;
    assert!((1..=4096 + 64).contains(&server.sealed.left().len()), "{} bytes", server.sealed.left().len());
}

#[tokio::test]
async fn an_end_that_was_said_is_one_and_an_end_that_was_not_is_a_fault() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last");
    server.write_all(b"and an answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap(); // it has been said to the client, too
    assert_eq!(got, b"and an answer");

    let (mut client, mut server) = pair().await;
    client.get_mut().0.shutdown().await.unwrap();
    let error = server.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn what_came_before_a_broken_record_is_read_and_the_client_is_alerted() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"good").await.unwrap();
    // A record that nobody has sealed.
    client.get_mut().0.write_all(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat()).await.unwrap();
    let mut got = [0; 16];
    assert_eq!(server.read(&mut got).await.unwrap(), 4);
    for _ in 0..2 {
        assert_eq!(server.read(&mut got).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    assert!(server.write(b"more").await.is_err(), "nothing follows the alert");
    server.shutdown().await.unwrap();
    let alerted = client.read(&mut got).await.unwrap_err();
    assert!(alerted.to_string().contains("BadRecordMac"), "{alerted}");
}

#[tokio::test]
async fn new_keys_are_answered_and_used_even_where_their_message_comes_byte_by_byte() {
    let (client, mut server) = pair().await;
    let (mut tcp, mut session) = client.into_inner();
    let mut sealed = Vec::new();
    session.refresh_traffic_keys().unwrap();
    io::Write::write_all(&mut session.writer(), b"under new keys").unwrap();
    while session.wants_write() {
        session.write_tls(&mut sealed).unwrap();
    }
    let writing = async {
        for byte in sealed {
            tcp.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut got = [0; 64];
    let ((), count) = tokio::join!(writing, server.read(&mut got));
    assert_eq!(&got[..count.unwrap()], b"under new keys");
    server.write_all(b"heard").await.unwrap();
    let mut answer = Vec::new();
    while answer.is_empty() {
        let mut bytes = [0; 4096];
        let count = tcp.read(&mut bytes).await.unwrap();
        let mut bytes = &bytes[..count];
        while !bytes.is_empty() {
            session.read_tls(&mut bytes).unwrap();
            session.process_new_packets().unwrap();
        }
        let _ = io::Read::read_to_end(&mut session.reader(), &mut answer); // ends with "would block"
    }
    assert_eq!(answer, b"heard");
    assert!(keeps_nothing(&server));
}

#[tokio::test]
async fn bytes_that_are_no_tls_never_do_more_than_fail() {
    let (mut client, mut server) = pair().await;
    let good = {
        let mut sealed = Vec::new();
        io::Write::write_all(&mut client.get_mut().1.writer(), b"good").unwrap();
        client.get_mut().1.write_tls(&mut sealed).unwrap();
        sealed
    };
    let mut got = [0; 16];
    client.get_mut().0.write_all(&good).await.unwrap();
    assert_eq!(server.read(&mut got).await.unwrap(), 4);
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut client, mut server) = pair().await;
        let mut bytes: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        if bytes.len() > 5 && seed % 2 == 0 {
            // One that looks like a record: of handshake, alert, data or change of cipher.
            let length = (bytes.len() - 5) as u8;
            bytes[..5].copy_from_slice(&[20 + random.u8(..4), 3, 3, 0, length]);
        }
        client.get_mut().0.write_all(&bytes).await.unwrap();
        client.get_mut().0.shutdown().await.unwrap();
        assert!(server.read(&mut got).await.is_err(), "{bytes:?}");
        let _ = server.write(b"an answer").await; // may fail, and may not panic
        let _ = server.shutdown().await;
    }
}
