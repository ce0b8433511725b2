//! Live revocation: a session whose credential is gone or has run out is closed, and no other one notices.

use crate::handshakes::{provider, secret};
use crate::living::backend::Service;
use crate::living::client::{Client, try_open};
use crate::living::folder::{Folder, route, simple};
use crate::living::{Sheave, until, within};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SOURCE: &str = ", extractFrom: [{type: QueryParam, name: key}]";
const KEYS: &str = "apiKey: {credentialRefs: [{name: keys}]}";
const REVOKED: Duration = Duration::from_secs(2);

fn key(number: usize) -> String {
    format!("key-{number}-{}", number * 7919)
}

/// A Secret of `count` keys, without the one of this number.
fn keys(count: usize, without: Option<usize>) -> String {
    let mut text = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData:\n".to_owned();
    for number in (0..count).filter(|number| Some(*number) != without) {
        let _ = writeln!(text, "  client-{number}: {}", key(number));
    }
    text
}

async fn enter(sheave: &Sheave, key: &str) -> Client {
    let opened = || async { try_open(sheave.ws, &format!("chat.test/?key={key}")).await.ok() };
    until("the credential opens", opened).await
}

async fn closed(client: &mut Client, reason: &str) {
    assert_eq!(within("the Close", client.close_frame()).await, (1008, reason.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_among_ten_thousand_takes_exactly_its_own_sessions() {
    const CLIENTS: usize = 50;
    const EACH: usize = 20;
    let service = Service::echo().await;
    let folder = Folder::with(&simple("chat", service.port, &[&provider("APIKey", KEYS, SOURCE)]));
    folder.write("keys.yaml", &keys(10_000, None));
    let sheave = Sheave::start(&folder);
    let mut own = Vec::new();
    let mut others = Vec::new();
    for number in 0..CLIENTS {
        for _ in 0..EACH {
            let client = enter(&sheave, &key(number)).await;
            if number == 7 { own.push(client) } else { others.push(client) }
        }
    }
    let since = Instant::now();
    folder.write("keys.yaml", &keys(10_000, Some(7)));
    for client in &mut own {
        closed(client, "credential revoked").await;
    }
    assert!(since.elapsed() < REVOKED, "it took {:?}", since.elapsed());
    for (number, client) in others.iter_mut().enumerate() {
        client.echo(&number.to_string()).await;
    }
    let labels = [("route", "chat"), ("reason", "credential_revoked"), ("initiator", "proxy")];
    sheave.metric_becomes("sheave_connections_closed_total", &labels, EACH as f64).await;
    assert_eq!(crate::living::client::refused(sheave.ws, &format!("chat.test/?key={}", key(7))).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moves_to_another_client_or_a_rule_that_names_others_ends_the_session() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("still", service.port, &[]));
    let spec = |authorization: &str| {
        let rule = format!("rules: [{{backendRefs: [{{name: still, port: 80}}]{authorization}}}]");
        format!(
            "apiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {{name: chat}}\nspec:\n  hostnames: \
             [chat.test]\n  {rule}\n  {}\n",
            provider("APIKey", KEYS, SOURCE)
        )
    };
    folder.write("route.yaml", &spec(""));
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-a"), ("bob", "key-b")]));
    let sheave = Sheave::start(&folder);
    let (mut ann, mut bob) = (enter(&sheave, "key-a").await, enter(&sheave, "key-b").await);
    folder.write("keys.yaml", &secret("keys", "", &[("eve", "key-a"), ("bob", "key-b")]));
    closed(&mut ann, "credential revoked").await;
    bob.echo("undisturbed").await;
    folder.write("route.yaml", &spec(", authorization: {allow: [{consumers: [eve]}]}"));
    closed(&mut bob, "policy changed").await;
    enter(&sheave, "key-a").await.echo("eve may").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_asks_for_a_credential_now_closes_those_of_whom_it_asked_none() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("chat", service.port, &[]));
    folder.write("other.yaml", &route("other", "other.test", &[], &[("chat", 1)]));
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-a")]));
    let sheave = Sheave::start(&folder);
    let mut nameless = crate::living::client::open(sheave.ws, "chat.test/").await;
    let mut other = crate::living::client::open(sheave.ws, "other.test/").await;
    nameless.echo("in").await;
    let asks = route("chat", "chat.test", &[&provider("APIKey", KEYS, SOURCE)], &[("chat", 1)]);
    folder.write("all.yaml", &(asks + &crate::living::folder::served("chat", service.port)));
    closed(&mut nameless, "policy changed").await;
    other.echo("undisturbed").await;
}

fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let exp = i64::try_from(now).expect("not that late") + seconds;
    let claims = json!({"sub": "ann", "exp": exp});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

const SECRET: &str = "a secret of more than thirty-two bytes";

fn tokens(more: &str) -> String {
    let jwt = "jwt: {secretRef: {name: hs}, leeway: 0s}";
    provider("JWT", jwt, SOURCE).replacen("authentication: {", &format!("authentication: {{{more}"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_its_grace_or_not_at_all() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("chat", service.port, &[&tokens("")]));
    folder.write("hs.yaml", &secret("hs", "", &[("one", SECRET)]));
    let keeps = route("keeps", "keeps.test", &[&tokens("onCredentialExpiry: Keep, ")], &[("chat", 1)]);
    let graced = route("graced", "graced.test", &[&tokens("expiryGrace: 2s, ")], &[("chat", 1)]);
    folder.write("others.yaml", &(keeps + &graced));
    let sheave = Sheave::start(&folder);
    let short = token(2);
    let open = |host: &'static str| {
        let target = format!("{host}/?key={short}");
        let at = sheave.ws;
        async move { crate::living::client::open(at, &target).await }
    };
    let (mut strict, mut keeps, mut graced) =
        (open("chat.test").await, open("keeps.test").await, open("graced.test").await);
    let since = Instant::now();
    closed(&mut strict, "token expired").await;
    let strict = since.elapsed();
    assert!(strict < Duration::from_secs(4), "it took {strict:?}");
    graced.echo("still within its grace").await;
    closed(&mut graced, "token expired").await;
    let gained = since.elapsed().saturating_sub(strict);
    assert!(gained > Duration::from_secs(1), "the grace lasted {gained:?}");
    keeps.echo("for ever").await;
    sheave.metric_becomes("sheave_connections_closed_total", &[("reason", "token_expired")], 1.0).await;
}
