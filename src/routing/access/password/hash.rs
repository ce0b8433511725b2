//! One hash of a password, as `htpasswd` writes it: bcrypt, apr1 or {SHA}.
//!
//! Others that `htpasswd` can write are refused: crypt(3) looks at eight characters of a password, and plain text is none.

use super::apr1;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The highest cost of bcrypt that is taken: about four seconds of a processor for each check.
const MOST_COST: u32 = 16;

/// A password's hash. `Debug` shows its kind only.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// `$apr1$SALT$HASH`.
    Apr1,
    /// `$2y$COST$SALTHASH`, or with `2a` or `2b`.
    Bcrypt(u32),
    /// `{SHA}` and the base64 of SHA-1.
    Sha([u8; 20]),
}

/// Why a text is no hash that can be used. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Its cost would keep a processor busy for many seconds.
    #[error("its bcrypt cost is above 16, so that one login would keep a processor busy for seconds: make it 10 to 12")]
    Cost,
    /// It begins like a hash and is none.
    #[error("its hash is broken or cut off: write the line anew with htpasswd -B")]
    Malformed,
    /// Neither bcrypt, nor apr1, nor {{SHA}}.
    #[error(
        "its hash is neither bcrypt nor apr1 nor {{SHA}} (crypt and plain text are not taken): write it anew with htpasswd -B"
    )]
    Unknown,
}

impl PasswordHash {
    /// Reads a hash.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let kind = if let Some(encoded) = text.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(encoded).map_err(|_| HashError::Malformed)?;
            Kind::Sha(bytes.try_into().map_err(|_| HashError::Malformed)?)
        } else if text.starts_with("$apr1$") {
            apr1::split(text).ok_or(HashError::Malformed)?;
            Kind::Apr1
        } else if ["$2y$", "$2b$", "$2a$"].iter().any(|start| text.starts_with(start)) {
            Kind::Bcrypt(bcrypt_cost(text)?)
        } else {
            return Err(HashError::Unknown);
        };
        Ok(Self { text: text.into(), kind })
    }

    /// Whether it is the hash of `password`. Takes as long as it was made to take: not for a thread that others wait for.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.kind {
            Kind::Apr1 => apr1::verify(password, &self.text),
            // As its makers do: what is behind byte 72 does not count.
            Kind::Bcrypt(_) => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Sha(known) => {
                let found = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
                verify_slices_are_equal(found.as_ref(), known).is_ok()
            }
        }
    }

    /// The text of it.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// How long a check takes, compared with others.
    pub(super) fn cost(&self) -> u32 {
        match self.kind {
            Kind::Sha(_) => 0,
            Kind::Apr1 => 1,
            Kind::Bcrypt(cost) => cost,
        }
    }
}

/// The cost of a well-formed bcrypt hash: two digits, then 53 characters of its own base64.
fn bcrypt_cost(text: &str) -> Result<u32, HashError> {
    let (cost, rest) = text[4..].split_once('$').ok_or(HashError::Malformed)?;
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    if cost.len() != 2 || rest.len() != 53 || !rest.bytes().all(sound) {
        return Err(HashError::Malformed);
    }
    let cost: u32 = cost.parse().map_err(|_| HashError::Malformed)?;
    if cost > MOST_COST {
        return Err(HashError::Cost);
    }
    // The rest of its form is the crate's to judge.
    text.parse::<bcrypt::HashParts>().map_err(|_| HashError::Malformed)?;
    if cost < 4 { Err(HashError::Malformed) } else { Ok(cost) }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Apr1 => "apr1",
            Kind::Bcrypt(_) => "bcrypt",
            Kind::Sha(_) => "SHA",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_its_password_and_no_other() {
        for (hash, password) in [
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password"),
            ("$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "password"),
            ("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "myPassword"),
        ] {
            let hash = PasswordHash::parse(hash).expect(hash);
            assert!(hash.verify(password.as_bytes()), "{hash:?}");
            for wrong in ["", "Password", "passwor", "password "] {
                assert!(!hash.verify(wrong.as_bytes()), "{hash:?} takes {wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_no_hash_or_a_weak_one_is_refused() {
        for (text, error) in [
            ("", HashError::Unknown),
            ("hunter2", HashError::Unknown),
            ("rqXexS6ZhobKA", HashError::Unknown),
            ("$5$rounds=1000$x$y", HashError::Unknown),
            ("$1$abc$def", HashError::Unknown),
            ("{SHA}", HashError::Malformed),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g", HashError::Malformed),
            ("$apr1$", HashError::Malformed),
            ("$apr1$salt", HashError::Malformed),
            ("$apr1$salt$short", HashError::Malformed),
            ("$2y$", HashError::Malformed),
            ("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRq", HashError::Malformed),
            ("$2y$03$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", HashError::Malformed),
            ("$2y$xx$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", HashError::Malformed),
            ("$2y$17$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", HashError::Cost),
        ] {
            assert_eq!(PasswordHash::parse(text).err(), Some(error), "{text}");
        }
    }
}
