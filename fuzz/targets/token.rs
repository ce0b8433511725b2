//! JSON Web Tokens: none but the issuer's is taken, whatever its header says, and what the issuer signs is judged
//! without a fault.
//!
//! Input: a byte; then, as that says, a whole token, or a header and claims on two lines, which are then signed.
#![no_main]

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use libfuzzer_sys::fuzz_target;
use sheave::routing::access::{ClaimCondition, Jwt, Keys, TokenKey};
use std::sync::LazyLock;
use std::time::Duration;

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of more than 32 bytes, for fuzzing only";

fn jwt(strict: bool) -> Jwt {
    let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    let key = TokenKey::new(Some("a"), DecodingKey::from_secret(SECRET), algorithms, [7; 32]);
    let condition = ClaimCondition { name: "realm.roles".into(), values: ["reader".into()].into() };
    Jwt {
        keys: Keys::Known([key].into()),
        remote: None,
        algorithms: None,
        issuer: strict.then(|| "issuer".into()),
        audiences: if strict { vec!["chat".into()] } else { Vec::new() },
        leeway: Duration::from_secs(60),
        consumer_claim: "sub".into(),
        claims: if strict { vec![condition] } else { Vec::new() },
        claim_headers: vec![("realm.roles".into(), "x-roles".into()), ("sub".into(), "x-user".into())],
    }
}

static LOOSE: LazyLock<Jwt> = LazyLock::new(|| jwt(false));
static STRICT: LazyLock<Jwt> = LazyLock::new(|| jwt(true));

/// Base64url without padding (RFC 4648 §5).
fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            out.push(char::from(DIGITS[(group >> (18 - 6 * at) & 63) as usize]));
        }
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, text)) = bytes.split_first() else { return };
    if how % 2 == 0 {
        // Nobody but the issuer can sign, and no input has guessed the secret.
        assert!(LOOSE.verify(text, NOW).is_err());
        return;
    }
    let Some(at) = text.iter().position(|byte| *byte == b'\n') else { return };
    let claims = encode(&text[at + 1..]);
    let message = format!("{}.{claims}", encode(&text[..at]));
    let key = EncodingKey::from_secret(SECRET);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it can be signed");
    let token = format!("{message}.{signature}");
    let good = LOOSE.verify(token.as_bytes(), NOW);
    if let Ok(good) = &good {
        assert!(good.expires.is_none_or(|expires| expires > NOW));
        let _ = (LOOSE.consumer(&good.claims), LOOSE.told(&good.claims).count());
        assert!(LOOSE.stands(&good.key, &good.claims).is_ok(), "it was let in a moment ago");
        for other in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#] {
            let token = format!("{}.{claims}.{signature}", encode(other.as_bytes()));
            assert!(LOOSE.verify(token.as_bytes(), NOW).is_err(), "{other}");
        }
    }
    if let Ok(strict) = STRICT.verify(token.as_bytes(), NOW) {
        assert_eq!(strict.claims["iss"], "issuer");
        assert!(good.is_ok() && STRICT.stands(&strict.key, &strict.claims).is_ok());
    }
});
