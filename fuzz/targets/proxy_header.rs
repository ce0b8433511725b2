//! The PROXY protocol header: where it ends does not depend on what follows, nor on how the bytes arrive.
//!
//! Input: the first bytes of a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheave::proxy::proxy_protocol::{Parsed, parse, write};
use sheave::routing::ProxyVersion;

/// The longest header that is read.
const LONGEST: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Ok(Parsed::Header(header, length)) => {
            assert!(length <= bytes.len() && length <= LONGEST);
            assert_eq!(parse(&bytes[..length]).expect("still good"), Parsed::Header(header, length));
            let followed = [bytes, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&followed).expect("still good"), Parsed::Header(header, length));
            for cut in 0..length {
                let part = parse(&bytes[..cut]).expect("the beginning of a good header");
                let Parsed::More(wanted) = part else { panic!("{cut} of {length}: {part:?}") };
                assert!(wanted > cut && wanted <= length, "{cut} of {length}: {wanted}");
            }
            if let Some(client) = header.source {
                for version in [ProxyVersion::V1, ProxyVersion::V2] {
                    let written = write(version, client, ([127, 0, 0, 1], 443).into());
                    let again = parse(&written).expect("what we write can be read");
                    assert_eq!(again, Parsed::Header(header, written.len()));
                }
            }
        }
        Ok(Parsed::More(wanted)) => assert!(wanted > bytes.len() && wanted <= LONGEST),
        Ok(Parsed::Other) => assert!(!bytes.is_empty()),
        Err(error) => assert!(error.to_string().contains("malformed"), "{error}"),
    }
});
