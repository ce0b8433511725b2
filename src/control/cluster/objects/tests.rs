//! What is kept of objects, and what is news.

use super::super::decode;
use super::*;
use serde_json::{Value, json};

fn watch(kind: Kind, namespace: Option<&str>) -> Watch {
    Watch { kind, namespace: namespace.map(Into::into) }
}

fn present(objects: &mut Objects, kind: Kind, (key, item): (ObjectKey, Item)) -> Effect {
    objects.take(Notice { watch: watch(kind, None), what: What::Present(key, Box::new(item)) })
}

fn absent(objects: &mut Objects, kind: Kind, name: &str) -> Effect {
    objects.take(Notice { watch: watch(kind, None), what: What::Absent(ObjectKey::new("n", name)) })
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn route(certificate: Option<&str>, status: &Value) -> (ObjectKey, Item) {
    let tls = certificate.map(|name| json!({"certificateRefs": [{"name": name}]}));
    decode::route(read(json!({
        "metadata": {"name": "r", "namespace": "n"},
        "spec": {"hostnames": ["a.b"], "tls": tls, "rules": [{"backendRefs": [{"name": "s", "port": 1}]}]},
        "status": status,
    })))
}

fn secret(name: &str, content: &str) -> (ObjectKey, Item) {
    decode::secret(read(
        json!({"metadata": {"name": name, "namespace": "n"}, "stringData": {"tls.crt": content, "x": "y"}}),
    ))
}

#[test]
fn only_a_change_that_compile_can_see_is_one() {
    let mut objects = Objects::default();
    assert_eq!(present(&mut objects, Kind::Route, route(None, &json!({}))), Effect::Table);
    assert_eq!(present(&mut objects, Kind::Route, route(None, &json!({}))), Effect::Nothing);
    let status = json!({"observedGeneration": 1});
    assert_eq!(present(&mut objects, Kind::Route, route(None, &status)), Effect::Status);
    assert_eq!(present(&mut objects, Kind::Secret, secret("other", "pem")), Effect::Nothing);
    assert!(objects.snapshot.secrets.is_empty(), "a secret that nobody names is kept");
}

#[test]
fn a_secret_is_kept_while_it_is_named_and_asked_for_when_it_was_let_go() {
    let mut objects = Objects::default();
    let key = ObjectKey::new("n", "tls");
    present(&mut objects, Kind::Secret, secret("tls", "pem"));
    assert_eq!(objects.missing(), []);
    present(&mut objects, Kind::Route, route(Some("tls"), &json!({})));
    assert_eq!(objects.missing(), [Reference::Secret(key.clone())]);
    assert_eq!(present(&mut objects, Kind::Secret, secret("tls", "pem")), Effect::Table);
    assert_eq!((objects.missing().len(), objects.snapshot.secrets[&key].entries.len()), (0, 1));
    assert_eq!(present(&mut objects, Kind::Secret, secret("tls", "pem")), Effect::Nothing);
    assert_eq!(present(&mut objects, Kind::Secret, secret("tls", "renewed")), Effect::Table);
    present(&mut objects, Kind::Route, route(None, &json!({})));
    assert!(objects.snapshot.secrets.is_empty(), "kept although nobody names it any more");
    present(&mut objects, Kind::Route, route(Some("tls"), &json!({})));
    absent(&mut objects, Kind::Secret, "tls");
    assert_eq!(objects.missing(), [], "a secret that is gone is asked for");
    absent(&mut objects, Kind::Route, "r");
    assert!(objects.contents.is_idle() && objects.statuses.is_empty());
}

/// A route with a provider of API keys.
fn keyed(api_key: &Value) -> (ObjectKey, Item) {
    let provider = json!({
        "name": "keys", "type": "APIKey", "extractFrom": [{"type": "Header", "name": "x"}], "apiKey": api_key,
    });
    decode::route(read(json!({
        "metadata": {"name": "k", "namespace": "n"},
        "spec": {
            "authentication": {"providers": [provider]}, "rules": [{"backendRefs": [{"name": "s", "port": 1}]}],
        },
    })))
}

/// What is kept of a Secret: its entries, and the names of its keys in brackets.
fn kept(objects: &Objects, name: &str) -> String {
    let Some(secret) = objects.snapshot.secrets.get(&ObjectKey::new("n", name)) else { return "nothing".to_owned() };
    let entries = secret.entries.keys().cloned();
    entries.chain(secret.keys.keys().map(|name| format!("[{name}]"))).collect::<Vec<_>>().join(" ")
}

/// A route that names `tls` as users of Basic.
fn basic() -> (ObjectKey, Item) {
    let provider = json!({"name": "users", "type": "Basic", "basic": {"credentialRefs": [{"name": "tls"}]}});
    decode::route(read(json!({
        "metadata": {"name": "b", "namespace": "n"},
        "spec": {"authentication": {"providers": [provider]}, "rules": [{"backendRefs": [{"name": "s", "port": 1}]}]},
    })))
}

#[test]
fn of_a_secret_of_api_keys_digests_are_kept_and_no_key() {
    let mut objects = Objects::default();
    let named = || keyed(&json!({"credentialRefs": [{"name": "tls"}]}));
    present(&mut objects, Kind::Route, named());
    assert_eq!(present(&mut objects, Kind::Secret, secret("tls", "pem")), Effect::Table);
    assert_eq!(kept(&objects, "tls"), "[tls.crt] [x]");
    present(&mut objects, Kind::Route, route(Some("tls"), &json!({})));
    assert_eq!(objects.missing(), [Reference::Secret(ObjectKey::new("n", "tls"))]);
    present(&mut objects, Kind::Secret, secret("tls", "pem"));
    assert_eq!(kept(&objects, "tls"), "tls.crt [tls.crt] [x]");
    absent(&mut objects, Kind::Route, "k");
    assert_eq!(kept(&objects, "tls"), "tls.crt", "more is kept than a certificate needs");
    absent(&mut objects, Kind::Route, "r");
    assert!(objects.snapshot.secrets.is_empty() && objects.contents.is_idle());
}

#[test]
fn a_secret_of_credentials_is_kept_whole_while_it_is_named_as_one() {
    let mut objects = Objects::default();
    present(&mut objects, Kind::Route, basic());
    present(&mut objects, Kind::Secret, secret("tls", "pem"));
    assert_eq!(kept(&objects, "tls"), "tls.crt x");
    present(&mut objects, Kind::Route, route(Some("tls"), &json!({})));
    assert_eq!(objects.missing(), []);
    absent(&mut objects, Kind::Route, "b");
    assert_eq!(kept(&objects, "tls"), "tls.crt");
    present(&mut objects, Kind::Route, basic());
    assert_eq!(objects.missing(), [Reference::Credentials(ObjectKey::new("n", "tls"))]);
    absent(&mut objects, Kind::Route, "r");
    assert_eq!(kept(&objects, "tls"), "tls.crt", "what is on its way is not here yet");
    present(&mut objects, Kind::Secret, secret("tls", "pem"));
    assert_eq!((objects.missing(), kept(&objects, "tls").as_str()), (vec![], "tls.crt x"));
    absent(&mut objects, Kind::Route, "b");
    assert!(objects.snapshot.secrets.is_empty() && objects.contents.is_idle());
}

fn labelled(name: &str, labels: &Value) -> (ObjectKey, Item) {
    let metadata = json!({"name": name, "namespace": "n", "labels": labels});
    decode::secret(read(json!({"metadata": metadata, "stringData": {"tls.crt": "pem", "x": "y"}})))
}

#[test]
fn a_secret_is_kept_while_its_labels_are_selected() {
    let mut objects = Objects::default();
    let selecting = || keyed(&json!({"credentialSelector": {"matchLabels": {"use": "keys"}}}));
    present(&mut objects, Kind::Route, selecting());
    assert_eq!(objects.missing(), [], "no Secret has come that it could have missed");
    let chosen = || labelled("a", &json!({"use": "keys", "team": "chat"}));
    assert_eq!(present(&mut objects, Kind::Secret, chosen()), Effect::Table);
    assert_eq!(present(&mut objects, Kind::Secret, chosen()), Effect::Nothing);
    assert_eq!(present(&mut objects, Kind::Secret, labelled("b", &json!({"use": "other"}))), Effect::Nothing);
    assert_eq!([kept(&objects, "a"), kept(&objects, "b")], ["[tls.crt] [x]", "nothing"]);
    assert_eq!(present(&mut objects, Kind::Secret, labelled("b", &json!({"use": "keys"}))), Effect::Table);
    assert_eq!(present(&mut objects, Kind::Secret, labelled("a", &json!({}))), Effect::Table);
    assert_eq!([kept(&objects, "a"), kept(&objects, "b")], ["nothing", "[tls.crt] [x]"]);
    absent(&mut objects, Kind::Route, "k");
    assert!(objects.snapshot.secrets.is_empty() && objects.contents.is_idle());
}

#[test]
fn secrets_that_came_before_their_selector_are_asked_for() {
    let mut objects = Objects::default();
    objects.take(Notice { watch: watch(Kind::Secret, None), what: What::Began });
    present(&mut objects, Kind::Secret, labelled("a", &json!({"use": "keys"})));
    present(&mut objects, Kind::Route, keyed(&json!({"credentialSelector": {"matchLabels": {"use": "keys"}}})));
    let missing = objects.missing();
    assert!(matches!(&missing[..], [Reference::Selected(one)] if one.to_string() == "use=keys"), "{missing:?}");
    assert_eq!(present(&mut objects, Kind::Secret, labelled("a", &json!({"use": "keys"}))), Effect::Table);
    objects.answered(&missing[0]);
    assert_eq!((objects.missing(), kept(&objects, "a").as_str()), (vec![], "[tls.crt] [x]"));
}

#[test]
fn what_a_new_list_lacks_is_gone_in_its_namespace_and_no_other() {
    let mut objects = Objects::default();
    let service = |namespace: &str, name: &str| {
        decode::service(read(json!({"metadata": {"name": name, "namespace": namespace}})))
    };
    let (mine, theirs) = (watch(Kind::Service, Some("n")), watch(Kind::Service, Some("m")));
    let mut tell = |watch: &Watch, what| objects.take(Notice { watch: watch.clone(), what });
    let there = |(key, item)| What::Present(key, Box::new(item));
    tell(&theirs, there(service("m", "a")));
    tell(&mine, What::Began);
    tell(&mine, there(service("n", "a")));
    tell(&mine, there(service("n", "b")));
    assert_eq!(tell(&mine, What::Listed), Effect::Table);
    tell(&mine, What::Began);
    tell(&mine, there(service("n", "b")));
    assert_eq!(tell(&mine, What::Listed), Effect::Table);
    tell(&mine, What::Began);
    tell(&mine, there(service("n", "b")));
    assert_eq!(tell(&mine, What::Listed), Effect::Nothing);
    let left: Vec<_> = objects.snapshot.services.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["m/a", "n/b"]);
}
