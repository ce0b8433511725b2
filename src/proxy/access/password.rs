//! Basic authentication (RFC 7617): whose password a handshake carries.
//!
//! A check is made to cost time, so it runs off the threads that serve sessions, as many at once as there are processors.
//! Those that wait are bounded too: a flood of logins is refused, not queued. A password that was right is remembered for
//! as long as its Secret stays the same.

use super::{Asked, Denial, Found, cannot_decide, credential, wrong};
use crate::routing::access::{Fact, Identity, Passwords, Provider};
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

/// Checks that may wait, for each processor.
const WAITING: usize = 32;

/// RFC 7617 means padded base64; some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who checks passwords in this process.
#[derive(Debug)]
pub(in crate::proxy) struct Verifier {
    processors: usize,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Checks made: what was remembered is none.
    made: AtomicU64,
    /// For the tags of what is remembered; `None` when the system gave no randomness: then nothing is.
    key: Option<Key>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::of(available_parallelism().map_or(1, usize::from))
    }
}

/// Takes one off a counter when dropped, wherever the future that holds it ends.
struct Waits<'w>(&'w AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Verifier {
    fn of(processors: usize) -> Self {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).ok();
        let free = Arc::new(Semaphore::new(processors));
        Self { processors, free, waiting: AtomicUsize::new(0), made: AtomicU64::new(0), key }
    }

    /// Under what a password is remembered: of use to nobody without this process's key.
    fn tag(&self, entry: &[u8; 32], password: &[u8]) -> Option<[u8; 32]> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(entry);
        context.update(password);
        context.sign().as_ref().try_into().ok()
    }

    /// Whether `password` is that of `user`, and the digest of the user's entry if so. The error says why it could not be
    /// found out.
    async fn check(
        &self,
        users: &Arc<Passwords>,
        user: &str,
        password: Zeroizing<Vec<u8>>,
        deadline: Instant,
    ) -> Result<Option<(Arc<str>, [u8; 32])>, &'static str> {
        let known = users.entry(user).cloned();
        let tag = known.as_ref().and_then(|entry| self.tag(&entry.digest, &password));
        if let (Some(entry), Some(tag)) = (&known, &tag)
            && users.remembers(tag)
        {
            return Ok(Some((Arc::clone(&entry.user), entry.digest)));
        }
        let Some(entry) = known.clone().or_else(|| users.decoy().cloned()) else { return Ok(None) };
        let waits = Waits(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING * self.processors {
            return Err("too many passwords wait to be checked");
        }
        let free = timeout_at(deadline, Arc::clone(&self.free).acquire_owned()).await;
        drop(waits);
        let Ok(Ok(permit)) = free else { return Err("the password waited too long to be checked") };
        self.made.fetch_add(1, Ordering::Relaxed);
        // Goes on when the client leaves, and holds its place until it is done: no more run at once than there may.
        let checking = tokio::task::spawn_blocking(move || {
            let right = entry.hash.verify(&password);
            drop(permit);
            right
        });
        let right = match timeout_at(deadline, checking).await {
            Ok(Ok(right)) => right,
            Ok(Err(_)) => return Err("checking the password failed"),
            Err(_) => return Err("checking the password took too long: choose a lower cost for its hash"),
        };
        Ok(known.filter(|_| right).map(|entry| {
            if let Some(tag) = tag {
                users.remember(tag);
            }
            (entry.user, entry.digest)
        }))
    }
}

/// Finds user and password, and checks them off this thread.
pub(super) async fn identify(users: &Arc<Passwords>, provider: &Provider, asked: &Asked<'_>) -> Found {
    let Some(found) = credential::find(&provider.sources, asked.offer)? else { return Ok(None) };
    let (user, password) = split(&found.value).ok_or_else(|| malformed(provider))?;
    let verifier = &asked.proxy.counts.verifier;
    match verifier.check(users, &user, password, asked.deadline).await {
        Err(why) => Err(cannot_decide(provider, why)),
        Ok(None) => Err(wrong(provider, "the user does not exist, or has another password")),
        Ok(Some((user, entry))) => {
            let provider = Arc::clone(&provider.name);
            let identity = Identity { provider, consumer: Some(user), fact: Fact::Password(entry), expires: None };
            Ok(Some((identity, found.removal)))
        }
    }
}

fn malformed(provider: &Provider) -> Denial {
    wrong(provider, "Authorization is not the base64 of user:password in UTF-8")
}

/// User and password of a credential (RFC 7617 §2): no control characters, and no colon in the user.
fn split(credential: &[u8]) -> Option<(Zeroizing<String>, Zeroizing<Vec<u8>>)> {
    let decoded = Zeroizing::new(BASE64.decode(credential).ok()?);
    let text = std::str::from_utf8(&decoded).ok().filter(|text| !text.chars().any(char::is_control))?;
    let (user, password) = text.split_once(':')?;
    Some((Zeroizing::new(user.to_owned()), Zeroizing::new(password.as_bytes().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::access::PasswordHash;
    use std::time::Duration;

    fn users() -> Arc<Passwords> {
        let hash = PasswordHash::parse("$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00").expect("a hash");
        Arc::new(Passwords::new([(Arc::from("ann"), hash)]))
    }

    async fn check(verifier: &Verifier, users: &Arc<Passwords>, user: &str, password: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        let password = Zeroizing::new(password.as_bytes().to_vec());
        verifier.check(users, user, password, deadline).await.expect("decided").is_some()
    }

    #[tokio::test]
    async fn a_right_password_is_checked_once_for_each_version_of_its_secret() {
        let (verifier, users) = (Verifier::of(1), users());
        let made = || verifier.made.load(Ordering::Relaxed);
        assert!(check(&verifier, &users, "ann", "password").await);
        assert!(check(&verifier, &users, "ann", "password").await);
        assert_eq!(made(), 1);
        assert!(!check(&verifier, &users, "ann", "Password").await);
        assert!(!check(&verifier, &users, "ann", "Password").await);
        assert_eq!(made(), 3, "a wrong one is checked each time");
        assert!(check(&verifier, &tests::users(), "ann", "password").await);
        assert_eq!(made(), 4, "what is new remembers nothing");
    }

    #[tokio::test]
    async fn an_unknown_user_costs_a_check_and_is_never_let_in() {
        let (verifier, users) = (Verifier::of(1), users());
        assert!(!check(&verifier, &users, "eve", "password").await);
        assert!(!check(&verifier, &users, "eve", "password").await);
        assert_eq!(verifier.made.load(Ordering::Relaxed), 2);
        assert!(!check(&verifier, &Arc::default(), "eve", "password").await);
    }

    #[tokio::test]
    async fn a_flood_of_logins_is_refused_and_leaves_nothing_behind() {
        let (verifier, users) = (Verifier::of(1), users());
        let held = Arc::clone(&verifier.free).acquire_owned().await.expect("free");
        let soon = Instant::now() + Duration::from_millis(20);
        let guess = || verifier.check(&users, "ann", Zeroizing::new(b"guess".to_vec()), soon);
        let answers = futures_util::future::join_all((0..=WAITING).map(|_| guess())).await;
        let too_many = answers.iter().filter(|answer| **answer == Err("too many passwords wait to be checked"));
        assert_eq!(too_many.count(), 1);
        assert!(answers.iter().all(Result::is_err));
        drop(held);
        assert_eq!(verifier.waiting.load(Ordering::Relaxed), 0);
        assert!(check(&verifier, &users, "ann", "password").await);
    }

    #[test]
    fn a_credential_is_user_and_password_with_or_without_padding() {
        let pair = |text: &str| {
            let (user, password) = split(text.as_bytes())?;
            Some(format!("{} {}", *user, String::from_utf8_lossy(&password)))
        };
        assert_eq!(pair("YW5uOnBhc3M6d29yZA==").as_deref(), Some("ann pass:word"));
        assert_eq!(pair("YW5uOnBhc3M6d29yZA").as_deref(), Some("ann pass:word"));
        assert_eq!(pair("YW5uOg==").as_deref(), Some("ann "));
        for bad in ["", "YW5u", "!", "YW5uOgA=", "/zo="] {
            assert_eq!(pair(bad), None, "{bad}");
        }
    }
}
