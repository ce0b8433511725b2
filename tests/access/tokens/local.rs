//! Keys from Secrets: every family of algorithms, every claim that is looked at, and attempts to get by without a key.

use super::*;
use crate::living::until;

const SECRET: &[u8] = b"a shared secret of more than thirty-two bytes";

#[tokio::test]
async fn every_family_of_algorithms_lets_in_by_its_own_keys() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = Key::new("rsa", RS256);
    let keys = [Key::new("p256", ES256), Key::new("p384", ES384), Key::new("ed", EdDSA)];
    let set = key_set(&[&rsa, &keys[0], &keys[1], &keys[2]]);
    let (sheave, backend, _folder) = start("localJWKS: {name: keys}", &secret("keys", "jwks", set.as_bytes())).await;
    for key in &keys {
        assert_eq!(status(&sheave, Some(&key.token(&claims(&json!({}))))).await, 101, "{:?}", key.algorithm);
    }
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512] {
        let token = encode(&Header::new(algorithm), &claims(&json!({})), &rsa.signs).expect("a token");
        assert_eq!(status(&sheave, Some(&token)).await, 101, "{algorithm:?}");
    }
    assert_eq!(backend.heads().len(), 9);
}

#[tokio::test]
async fn shared_secrets_are_those_of_every_entry_and_hs_only() {
    let older = b"another secret, older, of more than 32 bytes";
    let objects = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: shared}}\ndata: {{new: {}, old: {}}}\n",
        BASE64_STANDARD.encode(SECRET),
        BASE64_STANDARD.encode(older)
    );
    let (sheave, backend, _folder) = start("secretRef: {name: shared}", &objects).await;
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        for secret in [SECRET, older] {
            let key = EncodingKey::from_secret(secret);
            let token = encode(&Header::new(algorithm), &claims(&json!({})), &key).expect("a token");
            assert_eq!(status(&sheave, Some(&token)).await, 101, "{algorithm:?}");
        }
    }
    let wrong = EncodingKey::from_secret(b"a secret that nobody has shared with anybody");
    let token = encode(&Header::new(Algorithm::HS256), &claims(&json!({})), &wrong).expect("a token");
    assert_eq!(status(&sheave, Some(&token)).await, 401);
    assert_eq!(status(&sheave, Some(&Key::new("x", Algorithm::ES256).token(&claims(&json!({}))))).await, 401);
    assert_eq!(backend.heads().len(), 6);
}

#[tokio::test]
async fn an_unsigned_token_and_a_public_key_used_as_a_secret_get_401_and_reach_no_backend() {
    let key = Key::new("rsa", Algorithm::RS256);
    let set = key_set(&[&key]);
    let (sheave, backend, _folder) = start("localJWKS: {name: keys}", &secret("keys", "jwks", set.as_bytes())).await;
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let body = part(&claims(&json!({})));
    let mut forged = Vec::new();
    for none in ["none", "None", "NONE"] {
        forged.push(format!("{}.{body}.", part(&json!({"alg": none, "kid": "rsa"}))));
    }
    let signature = key.token(&claims(&json!({}))).rsplit_once('.').expect("three parts").1.to_owned();
    forged.push(format!("{}.{body}.{signature}", part(&json!({"alg": "none"}))));
    // Everything public that somebody could have taken for the secret.
    let jwk = key.jwk();
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("n")).expect("base64");
    for public in [set.as_bytes(), jwk.to_string().as_bytes(), jwk["n"].as_str().expect("n").as_bytes(), &modulus] {
        for algorithm in [Algorithm::HS256, Algorithm::HS512] {
            let header = Header { kid: Some("rsa".to_owned()), ..Header::new(algorithm) };
            let token = encode(&header, &claims(&json!({})), &EncodingKey::from_secret(public));
            forged.push(token.expect("a token can be signed"));
        }
    }
    // A key that the token itself brings along.
    let own = Key::new("rsa", Algorithm::RS256);
    let jwk = Jwk::from_encoding_key(&own.signs, Algorithm::RS256).expect("a key has a public part");
    let header = Header { jwk: Some(jwk), kid: Some("rsa".to_owned()), ..Header::new(Algorithm::RS256) };
    forged.push(encode(&header, &claims(&json!({})), &own.signs).expect("a token can be signed"));
    for token in &forged {
        let refused = open(sheave.ws, Some(token), &[]).await.expect_err("a forged token");
        assert_eq!(refused.status, 401, "{token}");
        assert_eq!(refused.challenge.as_deref(), Some("Bearer error=\"invalid_token\""), "{token}");
    }
    assert!(backend.heads().is_empty(), "a forged token reached the backend");
    let none = open(sheave.ws, None, &[]).await.expect_err("no token");
    assert_eq!((none.status, none.challenge.as_deref()), (401, Some("Bearer")));
}

#[tokio::test]
async fn a_token_that_is_not_for_this_route_now_gets_401_and_reaches_no_backend() {
    let (key, other) = (Key::new("a", Algorithm::ES256), Key::new("b", Algorithm::ES256));
    let jwt = "localJWKS: {name: keys}, issuer: https://id.test, audiences: [chat, news], leeway: 10s";
    let (sheave, backend, _folder) = start(jwt, &secret("keys", "jwks", key_set(&[&key]).as_bytes())).await;
    let ours = json!({"iss": "https://id.test", "aud": ["news", "x"]});
    let with = |name: &str, value: Value| {
        let mut further = ours.clone();
        further[name] = value;
        claims(&further)
    };
    assert_eq!(status(&sheave, Some(&key.token(&claims(&ours)))).await, 101);
    assert_eq!(status(&sheave, Some(&key.token(&with("exp", json!(now() - 5))))).await, 101, "within the leeway");
    for wrong in [
        with("exp", json!(now() - 11)),
        with("nbf", json!(now() + 60)),
        with("iat", json!(now() + 60)),
        with("aud", json!("game")),
        with("aud", Value::Null),
        with("iss", json!("https://other.test")),
        with("iss", Value::Null),
    ] {
        assert_eq!(status(&sheave, Some(&key.token(&wrong))).await, 401, "{wrong}");
    }
    assert_eq!(status(&sheave, Some(&other.token(&claims(&ours)))).await, 401, "another key, another kid");
    let other = Key { kid: "a", ..other };
    assert_eq!(status(&sheave, Some(&other.token(&claims(&ours)))).await, 401, "another key of the same kid");
    let good = key.token(&claims(&ours));
    let (message, _) = good.rsplit_once('.').expect("three parts");
    for broken in [message, &format!("{message}."), "x", "..", &format!("{good}.x"), &good[1..], &"a".repeat(8000)] {
        assert_eq!(status(&sheave, Some(broken)).await, 401, "{broken}");
    }
    assert_eq!(backend.heads().len(), 2);
}

#[tokio::test]
async fn only_the_algorithms_that_are_named_are_taken() {
    let key = Key::new("a", Algorithm::RS256);
    let jwt = "localJWKS: {name: keys}, algorithms: [PS256, RS512]";
    let (sheave, _backend, _folder) = start(jwt, &secret("keys", "jwks", key_set(&[&key]).as_bytes())).await;
    for (algorithm, expected) in [(Algorithm::RS256, 401), (Algorithm::PS256, 101), (Algorithm::RS512, 101)] {
        let token = encode(&Header::new(algorithm), &claims(&json!({})), &key.signs).expect("a token");
        assert_eq!(status(&sheave, Some(&token)).await, expected, "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_token_without_a_required_claim_gets_403_and_one_with_it_is_let_in() {
    let key = Key::new("a", Algorithm::EdDSA);
    let jwt =
        "localJWKS: {name: keys}, claims: [{name: realm.roles, values: [admin, staff]}, {name: mfa, values: ['true']}]";
    let (sheave, backend, _folder) = start(jwt, &secret("keys", "jwks", key_set(&[&key]).as_bytes())).await;
    for (further, expected) in [
        (json!({"realm": {"roles": ["user", "staff"]}, "mfa": true}), 101),
        (json!({"realm.roles": "admin", "mfa": true}), 101),
        (json!({"realm": {"roles": ["user"]}, "mfa": true}), 403),
        (json!({"realm": {"roles": ["staff"]}, "mfa": false}), 403),
        (json!({"realm": {"roles": ["staff"]}}), 403),
        (json!({}), 403),
    ] {
        assert_eq!(status(&sheave, Some(&key.token(&claims(&further)))).await, expected, "{further}");
    }
    assert_eq!(backend.heads().len(), 2);
}

#[tokio::test]
async fn the_backend_is_told_claims_in_headers_and_no_forged_copy_nor_the_token_passes() {
    let key = Key::new("a", Algorithm::ES384);
    let jwt = "localJWKS: {name: keys}, claimToHeaders: [{claim: sub, header: X-User}, {claim: roles, header: X-Roles}, \
               {claim: address, header: X-Address}, {claim: nick, header: X-Nick}]";
    let (sheave, backend, _folder) = start(jwt, &secret("keys", "jwks", key_set(&[&key]).as_bytes())).await;
    let further = json!({"roles": ["a", "b"], "address": {"city": "Oslo"}, "nick": "x\r\nX-User: root"});
    let token = key.token(&claims(&further));
    let forged = [("x-user", "root"), ("X-ROLES", "admin"), ("x-nick", "root"), ("x-other", "mine")];
    open(sheave.ws, Some(&token), &forged).await.expect("a good token");
    let head = backend.heads().remove(0);
    let told = |name: &str| head.get_all(name).iter().map(|v| v.to_str().expect("text").to_owned()).collect::<Vec<_>>();
    assert_eq!(told("x-user"), ["alice"]);
    assert_eq!(told("x-roles"), ["a,b"]);
    assert_eq!(told("x-address"), [r#"{"city":"Oslo"}"#]);
    assert_eq!(told("x-nick"), [""; 0], "a value that cannot stand in a header, or the client's own");
    assert_eq!(told("x-other"), ["mine"]);
    assert_eq!(told("authorization"), [""; 0], "the token reached the backend");
}

#[tokio::test]
async fn a_key_taken_out_of_the_set_ends_its_sessions_and_no_other_ones() {
    let (kept, gone) = (Key::new("kept", Algorithm::ES256), Key::new("gone", Algorithm::ES256));
    let both = key_set(&[&kept, &gone]);
    let (sheave, _backend, folder) = start("localJWKS: {name: keys}", &secret("keys", "jwks", both.as_bytes())).await;
    let token = |key: &Key| key.token(&claims(&json!({})));
    let mut stays = open(sheave.ws, Some(&token(&kept)), &[]).await.expect("a good token");
    let mut leaves = open(sheave.ws, Some(&token(&gone)), &[]).await.expect("a good token");
    folder.write("more.yaml", &secret("keys", "jwks", key_set(&[&kept]).as_bytes()));
    assert_eq!(closed(&mut leaves).await, (1008, "credential revoked".to_owned()));
    assert!(relays(&mut stays).await, "the session of a key that is still there");
    assert_eq!(status(&sheave, Some(&token(&gone))).await, 401);
    assert_eq!(status(&sheave, Some(&token(&kept))).await, 101);
}

#[tokio::test]
async fn without_its_secret_the_provider_refuses_with_503_until_it_is_there() {
    let key = Key::new("a", Algorithm::ES256);
    let (sheave, backend, folder) = start("localJWKS: {name: keys}", "").await;
    let token = key.token(&claims(&json!({})));
    assert_eq!(status(&sheave, Some(&token)).await, 503);
    assert_eq!(status(&sheave, None).await, 401);
    assert!(backend.heads().is_empty());
    folder.write("more.yaml", &secret("keys", "jwks", key_set(&[&key]).as_bytes()));
    until("the key to be known", || async { (status(&sheave, Some(&token)).await == 101).then_some(()) }).await;
}
