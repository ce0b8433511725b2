//! apr1: the MD5-based hash of Apache's `htpasswd`, as `openssl passwd -apr1` writes it.
//!
//! The crates that have it are no longer kept; MD5 itself is a kept crate's. The scheme is what `crypt` of FreeBSD made
//! of MD5 in 1994, with another name, and will not change.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use md5::{Digest, Md5};

/// What a hash begins with.
const START: &str = "$apr1$";

/// The digits of its base64.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How often MD5 is repeated.
const ROUNDS: usize = 1000;

/// Salt and hash of a well-formed text.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (salt, hash) = text.strip_prefix(START)?.split_once('$')?;
    let sound = (1..=8).contains(&salt.len()) && hash.len() == 22 && hash.bytes().all(|byte| DIGITS.contains(&byte));
    sound.then_some((salt, hash))
}

/// Whether `text` is the hash of `password`.
pub(super) fn verify(password: &[u8], text: &str) -> bool {
    let Some((salt, hash)) = split(text) else { return false };
    verify_slices_are_equal(&encode(&digest(password, salt.as_bytes())), hash.as_bytes()).is_ok()
}

fn digest(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let inner: [u8; 16] = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
    let mut first = Md5::new().chain_update(password).chain_update(START).chain_update(salt);
    for start in (0..password.len()).step_by(16) {
        first.update(&inner[..16.min(password.len() - start)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // A zero byte or the first of the password, bit by bit of its length: the scheme's own oddity.
        first.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut found: [u8; 16] = first.finalize().into();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        let odd = round % 2 == 1;
        next.update(if odd { password } else { &found[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { &found[..] } else { password });
        found = next.finalize().into();
    }
    found
}

/// The 22 digits of a digest, three bytes after the other in the scheme's order.
fn encode(digest: &[u8; 16]) -> [u8; 22] {
    let mut text = [0; 22];
    let order = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    for (group, [high, middle, low]) in order.into_iter().enumerate() {
        let mut bits = u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]);
        for digit in &mut text[group * 4..][..4] {
            *digit = DIGITS[(bits & 63) as usize];
            bits >>= 6;
        }
    }
    text[20] = DIGITS[usize::from(digest[11] & 63)];
    text[21] = DIGITS[usize::from(digest[11] >> 6)];
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_openssl() {
        // openssl passwd -apr1 -salt SALT PASSWORD
        for (password, text) in [
            ("password", "$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00"),
            ("a", "$apr1$RandSalt$go3tI3gOHKxtlZbYlxmjF0"),
            ("a longer password of more than sixteen bytes", "$apr1$x$Q8Yg2OX7am4dxB9rOJysZ0"),
            ("sixteen bytes ok", "$apr1$abcdefgh$Mt0ydPXl4C90suHFCw5Uv0"),
            ("pässword", "$apr1$q1$oi0f5TSiKnGFHJ4M2DOC51"),
        ] {
            assert!(verify(password.as_bytes(), text), "{password:?}: {text}");
            assert!(!verify(format!("{password}x").as_bytes(), text), "{text}");
        }
    }
}
