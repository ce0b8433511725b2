//! Tokens made here, judged at moments of our choosing.

use super::*;
use jsonwebtoken::{AlgorithmFamily, EncodingKey, Header as Written, encode};
use serde_json::json;

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn symmetric(secret: &[u8], kid: Option<&str>) -> TokenKey {
    let all = AlgorithmFamily::Hmac.algorithms().iter().copied();
    TokenKey::new(kid, DecodingKey::from_secret(secret), all, sha256(secret))
}

fn jwt(keys: Vec<TokenKey>) -> Jwt {
    Jwt {
        keys: Keys::Known(keys.into()),
        remote: None,
        algorithms: None,
        issuer: None,
        audiences: Vec::new(),
        leeway: Duration::from_secs(60),
        consumer_claim: "sub".into(),
        claims: Vec::new(),
        claim_headers: Vec::new(),
    }
}

fn signed(secret: &[u8], kid: Option<&str>, claims: &Value) -> String {
    let header = Written { kid: kid.map(str::to_owned), ..Written::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret)).expect("a token can be signed")
}

/// What a token with this header and these claims comes to; correctly signed all the same.
fn raw(header: &str, claims: &str) -> Result<Token, TokenFault> {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(header), part(claims));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256);
    let token = format!("{message}.{}", signature.expect("it can be signed"));
    jwt(vec![symmetric(SECRET, None)]).verify(token.as_bytes(), NOW)
}

fn judged(jwt: &Jwt, claims: &Value) -> Result<Token, TokenFault> {
    jwt.verify(signed(SECRET, None, claims).as_bytes(), NOW)
}

fn why(result: Result<Token, TokenFault>) -> String {
    result.map_or_else(|fault| fault.to_string(), |token| format!("good until {:?}", token.expires))
}

#[test]
fn exp_nbf_and_iat_are_judged_with_leeway_and_may_be_absent() {
    let jwt = jwt(vec![symmetric(SECRET, None)]);
    for (claims, verdict) in [
        (json!({}), "good until None"),
        (json!({"exp": NOW + 1}), "good until Some(1800000061)"),
        (json!({"exp": NOW - 59}), "good until Some(1800000001)"),
        (json!({"exp": NOW - 60}), "the token has expired"),
        (json!({"exp": 1_799_999_000.5}), "the token has expired"),
        (json!({"exp": "1900000000"}), "the token has a time that is no number"),
        (json!({"nbf": NOW + 60}), "good until None"),
        (json!({"nbf": NOW + 61}), "the token is not valid yet"),
        (json!({"iat": NOW + 61}), "the token was issued in the future"),
    ] {
        assert_eq!(why(judged(&jwt, &claims)), verdict, "{claims}");
    }
}

#[test]
fn issuer_and_audience_are_compared_whole() {
    let jwt = Jwt {
        issuer: Some("https://id.test".into()),
        audiences: vec!["chat".into()],
        ..jwt(vec![symmetric(SECRET, None)])
    };
    for (claims, verdict) in [
        (json!({"iss": "https://id.test", "aud": "chat"}), "good until None"),
        (json!({"iss": "https://id.test", "aud": ["x", "chat"]}), "good until None"),
        (json!({"iss": "https://id.test/", "aud": "chat"}), "the token is of another issuer"),
        (json!({"aud": "chat"}), "the token is of another issuer"),
        (json!({"iss": ["https://id.test"], "aud": "chat"}), "the token is of another issuer"),
        (json!({"iss": "https://id.test"}), "the token is for another audience"),
        (json!({"iss": "https://id.test", "aud": "chatter"}), "the token is for another audience"),
        (json!({"iss": "https://id.test", "aud": [["chat"]]}), "the token is for another audience"),
    ] {
        assert_eq!(why(judged(&jwt, &claims)), verdict, "{claims}");
    }
}

#[test]
fn a_required_claim_forbids_only_what_is_otherwise_good() {
    let condition = ClaimCondition { name: "realm.roles".into(), values: ["admin".into()].into() };
    let jwt = Jwt { claims: vec![condition], ..jwt(vec![symmetric(SECRET, None)]) };
    assert!(judged(&jwt, &json!({"realm": {"roles": ["user", "admin"]}})).is_ok());
    let missing = judged(&jwt, &json!({"realm": {"roles": "user"}})).expect_err("a role that is not wanted");
    assert_eq!(missing, TokenFault::Forbidden("realm.roles".into()));
    assert_eq!(why(judged(&jwt, &json!({"exp": 1}))), "the token has expired");
}

#[test]
fn none_unknown_algorithms_extensions_and_malformed_tokens_are_refused() {
    assert!(raw(r#"{"alg":"HS256"}"#, "{}").is_ok());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":["HS256"]}"#,
        "{}",
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":7}"#,
        "HS256",
    ] {
        assert!(matches!(raw(header, "{}"), Err(TokenFault::Wrong(_))), "{header}");
    }
    for claims in ["", "[]", "7", "{", "null"] {
        assert!(matches!(raw(r#"{"alg":"HS256"}"#, claims), Err(TokenFault::Wrong(_))), "{claims}");
    }
    let jwt = jwt(vec![symmetric(SECRET, None)]);
    let good = signed(SECRET, None, &json!({}));
    let unsigned = good.rsplit_once('.').expect("three parts").0.to_owned() + ".";
    let long = format!("{good}{}", "A".repeat(LONGEST));
    for token in
        ["", ".", "..", "...", "a.b", &unsigned, &long, &format!("{good}."), &format!("{good}="), &format!(" {good}")]
    {
        assert!(matches!(jwt.verify(token.as_bytes(), NOW), Err(TokenFault::Wrong(_))), "{token}");
    }
    assert!(jwt.verify(b"\xff.\xff.\xff", NOW).is_err());
}

#[test]
fn a_kid_chooses_the_key_and_without_one_a_bounded_number_is_tried() {
    let other = b"another-secret-another-secret-00";
    let two = jwt(vec![symmetric(other, Some("a")), symmetric(SECRET, Some("b"))]);
    let verdict = |kid| why(two.verify(signed(SECRET, kid, &json!({})).as_bytes(), NOW));
    assert_eq!(verdict(Some("b")), "good until None");
    assert_eq!(verdict(None), "good until None");
    assert_eq!(verdict(Some("a")), "the token has a signature that is not right");
    assert_eq!(verdict(Some("c")), "the token names a key that is not among the issuer's");
    let mut many: Vec<_> = (0..MOST_TRIES).map(|n| symmetric(format!("{n:032}").as_bytes(), None)).collect();
    many.push(symmetric(SECRET, None));
    assert_eq!(why(judged(&jwt(many.split_off(1)), &json!({}))), "good until None");
    let mut many: Vec<_> = (0..MOST_TRIES).map(|n| symmetric(format!("{n:032}").as_bytes(), None)).collect();
    many.push(symmetric(SECRET, None));
    assert_eq!(why(judged(&jwt(many), &json!({}))), "the token has a signature that is not right");
}

#[test]
fn a_session_stands_by_its_key_its_algorithm_and_its_claims() {
    let claims = json!({"iss": "a", "role": "admin"});
    let before = jwt(vec![symmetric(SECRET, None)]);
    let token = judged(&before, &claims).expect("a good token");
    let stands = |jwt: &Jwt| jwt.stands(&token.key, &token.claims);
    assert_eq!(stands(&before), Ok(()));
    assert_eq!(stands(&jwt(vec![symmetric(b"another-secret-another-secret-00", None)])), Err(Revoked::Credential));
    let with = |change: fn(&mut Jwt)| {
        let mut after = before.clone();
        change(&mut after);
        stands(&after)
    };
    assert_eq!(with(|jwt| jwt.algorithms = Some(vec![Algorithm::HS512])), Err(Revoked::Credential));
    assert_eq!(with(|jwt| jwt.keys = Keys::Unusable("gone".into())), Err(Revoked::Credential));
    assert_eq!(with(|jwt| jwt.keys = Keys::Awaited(None)), Ok(()));
    assert_eq!(with(|jwt| jwt.issuer = Some("b".into())), Err(Revoked::Policy));
    assert_eq!(with(|jwt| jwt.audiences = vec!["x".into()]), Err(Revoked::Policy));
    let condition = |value: &str| ClaimCondition { name: "role".into(), values: [value.into()].into() };
    assert_eq!(stands(&Jwt { claims: vec![condition("admin")], ..before.clone() }), Ok(()));
    assert_eq!(stands(&Jwt { claims: vec![condition("user")], ..before.clone() }), Err(Revoked::Policy));
}

#[test]
fn claims_are_told_in_headers_unless_they_would_break_them() {
    let headers = ["sub", "roles", "a.b", "deep", "gone", "bad", "odd", "on"]
        .map(|name| (name.into(), format!("x-{name}").into()));
    let jwt = Jwt { claim_headers: headers.into(), ..jwt(Vec::new()) };
    let claims = json!({
        "sub": "alice", "roles": ["a", 1, true], "a": {"b": 7}, "deep": {"x": [1]}, "bad": "x\r\nEvil: 1", "odd": null, "on": false
    });
    let told: Vec<_> = jwt.told(claims.as_object().expect("an object")).collect();
    let text = |header, value: &str| (header, value.to_owned());
    assert_eq!(
        told,
        [
            text("x-sub", "alice"),
            text("x-roles", "a,1,true"),
            text("x-a.b", "7"),
            text("x-deep", r#"{"x":[1]}"#),
            text("x-on", "false")
        ]
    );
}

#[test]
fn neither_debug_nor_a_dump_shows_a_secret() {
    let jwt = jwt(vec![symmetric(SECRET, Some("b"))]);
    let shown = format!("{jwt:?} {}", serde_json::to_string(&jwt).expect("JSON"));
    let secret = std::str::from_utf8(SECRET).expect("text");
    let encoded = [BASE64_URL_SAFE_NO_PAD.encode(SECRET), "48, 49, 50".to_owned(), secret.to_owned()];
    assert!(encoded.iter().all(|form| !shown.contains(form)), "{shown}");
    assert!(shown.contains(&BASE64_URL_SAFE_NO_PAD.encode(sha256(SECRET))), "{shown}");
}
