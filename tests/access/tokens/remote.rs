//! Keys from an issuer's URL: fetched, fetched again for a key that is new, and kept while the issuer is away.

use super::issuer::{Answer, Issuer};
use super::*;
use crate::living::until;
use std::time::{Duration, Instant};

#[tokio::test]
async fn keys_are_fetched_over_a_private_authority_and_rotation_works_at_once() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::RS256));
    let issuer = Issuer::start(Answer::keys(&[&old])).await;
    let (sheave, _backend, _folder) = start(&issuer.block("", ""), &issuer.trust()).await;
    // The first handshakes of a fresh Sheave wait for the first keys.
    let mut early = open(sheave.ws, Some(&old.token(&claims(&json!({})))), &[]).await.expect("a good token");
    assert_eq!(issuer.asked(), 1);
    issuer.answers(Answer::keys(&[&old, &new]));
    let began = Instant::now();
    assert_eq!(status(&sheave, Some(&new.token(&claims(&json!({}))))).await, 101);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(issuer.asked(), 2);
    assert_eq!(status(&sheave, Some(&old.token(&claims(&json!({}))))).await, 101);
    assert!(relays(&mut early).await, "a session whose key is still there");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_the_issuer_one_fetch_and_holds_nobody_longer_than_two_seconds() {
    let (known, unknown) = (Key::new("known", Algorithm::ES256), Key::new("unknown", Algorithm::ES256));
    let issuer = Issuer::start(Answer::keys(&[&known])).await;
    let (sheave, backend, _folder) = start(&issuer.block("", ""), &issuer.trust()).await;
    assert_eq!(status(&sheave, Some(&known.token(&claims(&json!({}))))).await, 101);
    let token = unknown.token(&claims(&json!({})));
    let began = Instant::now();
    let flood = (0..50).map(|_| status(&sheave, Some(&token)));
    let answers = futures_util::future::join_all(flood).await;
    assert_eq!(answers, [401; 50]);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Meanwhile the known ones go on, and none of these had the issuer asked again.
    assert_eq!(status(&sheave, Some(&known.token(&claims(&json!({}))))).await, 101);
    assert_eq!(status(&sheave, Some(&token)).await, 401);
    assert_eq!(issuer.asked(), 2);
    assert_eq!(backend.heads().len(), 2);
}

#[tokio::test]
async fn while_the_issuer_is_away_or_talks_nonsense_the_last_keys_stay() {
    let (known, unknown) = (Key::new("known", Algorithm::ES256), Key::new("unknown", Algorithm::ES256));
    let redirect = Answer { header: "Location: /elsewhere\r\n".to_owned(), ..Answer::status(302) };
    let nonsense = Answer { body: "<html>".to_owned(), ..Answer::status(200) };
    let endless = Answer { body: format!("{{\"keys\": [\"{}\"]}}", "x".repeat(1 << 20)), ..Answer::status(200) };
    for away in [Answer::status(500), redirect, nonsense, endless] {
        let issuer = Issuer::start(Answer::keys(&[&known])).await;
        let (sheave, _backend, _folder) = start(&issuer.block("", ""), &issuer.trust()).await;
        let token = known.token(&claims(&json!({})));
        let mut session = open(sheave.ws, Some(&token), &[]).await.expect("a good token");
        issuer.answers(away);
        assert_eq!(status(&sheave, Some(&unknown.token(&claims(&json!({}))))).await, 401);
        issuer.is_asked(2).await;
        assert_eq!(status(&sheave, Some(&token)).await, 101);
        assert!(relays(&mut session).await);
    }
}

#[tokio::test]
async fn a_key_that_the_issuer_withdraws_ends_its_sessions_when_the_keys_are_fetched_again() {
    let (kept, gone) = (Key::new("kept", Algorithm::ES256), Key::new("gone", Algorithm::ES256));
    let issuer = Issuer::start(Answer::keys(&[&kept, &gone])).await;
    let (sheave, _backend, _folder) = start(&issuer.block("", ""), &issuer.trust()).await;
    let token = |key: &Key| key.token(&claims(&json!({})));
    let mut stays = open(sheave.ws, Some(&token(&kept)), &[]).await.expect("a good token");
    let mut leaves = open(sheave.ws, Some(&token(&gone)), &[]).await.expect("a good token");
    issuer.answers(Answer::keys(&[&kept]));
    // Any unknown key has them fetched.
    assert_eq!(status(&sheave, Some(&token(&Key::new("unknown", Algorithm::ES256)))).await, 401);
    assert_eq!(closed(&mut leaves).await, (1008, "credential revoked".to_owned()));
    assert!(relays(&mut stays).await);
}

#[tokio::test]
async fn keys_that_were_never_fetched_refuse_with_503_and_come_when_the_issuer_does() {
    let key = Key::new("a", Algorithm::ES256);
    let issuer = Issuer::start(Answer::status(503)).await;
    let (sheave, backend, _folder) = start(&issuer.block("", ""), &issuer.trust()).await;
    issuer.is_asked(1).await;
    let token = key.token(&claims(&json!({})));
    assert_eq!(status(&sheave, Some(&token)).await, 503);
    assert_eq!(status(&sheave, None).await, 401, "nobody can be let in, and a token is still asked for");
    assert!(backend.heads().is_empty());
    issuer.answers(Answer::keys(&[&key]));
    until("the keys to be fetched", || async { (status(&sheave, Some(&token)).await == 101).then_some(()) }).await;
}

#[tokio::test]
async fn an_issuer_whose_certificate_nobody_trusted_has_signed_is_not_believed() {
    let key = Key::new("a", Algorithm::ES256);
    let (issuer, other) = (Issuer::start(Answer::keys(&[&key])).await, Issuer::start(Answer::keys(&[])).await);
    let (sheave, backend, _folder) = start(&issuer.block("", ""), &other.trust()).await;
    assert_eq!(status(&sheave, Some(&key.token(&claims(&json!({}))))).await, 503);
    assert_eq!(issuer.asked(), 0, "it was asked although its certificate is not trusted");
    assert!(backend.heads().is_empty());
}

#[tokio::test]
async fn new_keys_are_taken_while_a_file_is_broken() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let issuer = Issuer::start(Answer::keys(&[&old])).await;
    let (sheave, _backend, folder) = start(&issuer.block("", ""), &issuer.trust()).await;
    assert_eq!(status(&sheave, Some(&old.token(&claims(&json!({}))))).await, 101);
    folder.write("broken.yaml", "kind: [");
    sheave.metric_becomes("sheave_config_last_reload_successful", &[], 0.0).await;
    issuer.answers(Answer::keys(&[&new]));
    assert_eq!(status(&sheave, Some(&new.token(&claims(&json!({}))))).await, 101);
    assert_eq!(sheave.metric("sheave_config_problems", &[]).await, Some(1.0), "the file is still broken");
}

#[tokio::test]
async fn keys_are_fetched_again_before_their_time_is_over() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let issuer = Issuer::start(Answer::keys(&[&old])).await;
    let (sheave, _backend, _folder) = start(&issuer.block("", ", cacheDuration: 10s"), &issuer.trust()).await;
    assert_eq!(status(&sheave, Some(&old.token(&claims(&json!({}))))).await, 101);
    issuer.answers(Answer::keys(&[&new]));
    issuer.is_asked(2).await; // without any unknown key: within 8.5 s
    until("the old key to be gone", || async {
        (status(&sheave, Some(&old.token(&claims(&json!({}))))).await == 401).then_some(())
    })
    .await;
}
