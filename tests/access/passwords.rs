//! Basic authentication: whose password opens a session, and what a client without one is told.

use crate::handshakes::{Backend, offer, provider, secret, status, value};
use crate::living::Sheave;
use crate::living::folder::{Folder, simple};
use base64::prelude::{BASE64_STANDARD, Engine as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_each_hash_opens_and_a_wrong_one_is_asked_for() {
    let hash = bcrypt::hash("correct horse", 10).expect("a hash");
    let users = format!(
        "# users\nann:{hash}\nbob:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\ncy:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nold:rqXexS6ZhobKA\n"
    );
    let backend = Backend::start().await;
    let block = "basic: {credentialRefs: [{name: users}], realm: the chat, forwardClientIDHeader: X-User}";
    let folder = Folder::with(&simple("chat", backend.port, &[&provider("Basic", block, "")]));
    folder.write("users.yaml", &secret("users", "", &[(".htpasswd", &users)]));
    let sheave = Sheave::start(&folder);
    let with = async |user: &str, password: &str| {
        let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
        offer(sheave.ws, "/", &[&format!("Authorization: Basic {pair}"), "X-User: root"]).await
    };
    for (user, password) in
        [("ann", "correct horse"), ("ann", "correct horse"), ("bob", "password"), ("cy", "password")]
    {
        assert_eq!(status(&with(user, password).await), 101, "{user}");
        let seen = backend.last();
        assert_eq!(value(&seen, "x-user").as_deref(), Some(user), "{seen}");
        assert_eq!(value(&seen, "authorization"), None, "{seen}");
    }
    let opened = backend.heads().len();
    for (user, password) in
        [("ann", "correct  horse"), ("bob", ""), ("cy", "Password"), ("old", "password"), ("eve", "x")]
    {
        let answer = with(user, password).await;
        assert_eq!(status(&answer), 401, "{user}");
        assert_eq!(value(&answer, "www-authenticate").as_deref(), Some("Basic realm=\"the chat\", charset=\"UTF-8\""));
    }
    for line in ["X-None: 1", "Authorization: Basic !", "Authorization: Bearer abc"] {
        let answer = offer(sheave.ws, "/", &[line]).await;
        assert_eq!(status(&answer), 401, "{line}");
        assert!(value(&answer, "www-authenticate").is_some_and(|scheme| scheme.starts_with("Basic ")), "{answer}");
    }
    assert_eq!(backend.heads().len(), opened);
}
