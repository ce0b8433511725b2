//! What a route is told of its issuer, and of its provider that cannot decide.

use super::*;
use sheave::compile::{Compiled, Compiler, Condition, KeySet, ObjectKey, Options, Snapshot};
use sheave::control::document::read_documents;
use sheave::control::rebuild::snapshot;

const URI: &str = "https://id.test/keys";

fn world(provider: &str) -> Snapshot {
    let block = format!("authentication: {{providers: [{{name: who, {provider}}}]}}");
    let text = crate::living::folder::route("chat", "chat.test", &[&block], &[("chat", 1)]) + &served("chat", 80);
    let (documents, problems) = read_documents("test", &text);
    assert!(problems.is_empty(), "{problems:?}");
    snapshot(documents, now())
}

fn options() -> Options {
    Options { fetches_keys: true, ..Options::folder() }
}

fn answered(body: Option<&str>, trouble: Option<&str>) -> Arc<KeySet> {
    Arc::new(KeySet { body: body.map(Into::into), trouble: trouble.map(Into::into) })
}

/// `ResolvedRefs` of the route, which is accepted.
fn resolved(compiled: &Compiled) -> Condition {
    let verdict = compiled.verdicts.iter().next().expect("a verdict");
    assert!(verdict.accepted(), "{verdict:?}");
    verdict.condition("ResolvedRefs").expect("it is always set").clone()
}

#[test]
fn a_route_is_told_of_its_issuer_only_while_it_has_no_keys() {
    let mut world = world(&format!("type: JWT, jwt: {{remoteJWKS: {{uri: '{URI}'}}}}"));
    let mut compiler = Compiler::default();
    let mut compile = |set: Option<Arc<KeySet>>| {
        match set {
            Some(set) => drop(world.key_sets.insert(URI.into(), set)),
            None => world.key_sets.clear(),
        }
        let result = compiler.compile(&world, &options());
        assert_eq!(result.key_sources.iter().map(|source| &*source.name).collect::<Vec<_>>(), [URI]);
        let Condition { status, reason, message, .. } = resolved(&result);
        (status, reason, message)
    };
    let keys = key_set(&[&Key::new("a", Algorithm::ES256)]);
    assert!(compile(None).0, "nobody has asked yet: no reason to alarm anybody");
    let (status, reason, message) = compile(Some(answered(None, Some("it answers with status 503"))));
    assert_eq!((status, reason), (false, "JWKSUnavailable"));
    assert_eq!(
        message,
        "spec.authentication.providers[0].jwt.remoteJWKS.uri: it answers with status 503, so there are no keys yet and \
         tokens are refused with 503"
    );
    assert!(compile(Some(answered(Some(&keys), None))).0);
    assert!(compile(Some(answered(Some(&keys), Some("it does not answer in time")))).0, "the last keys are in use");
    let (status, reason, message) = compile(Some(answered(Some(r#"{"keys": []}"#), None)));
    assert_eq!((status, reason), (false, "JWKSUnavailable"));
    assert!(message.contains("has no key"), "{message}");
}

#[test]
fn what_several_routes_want_of_one_url_is_fetched_once_and_by_the_stricter_of_them() {
    let route = |name: &str, fields: &str| {
        let block = format!(
            "authentication: {{providers: [{{name: who, type: JWT, jwt: {{remoteJWKS: {{uri: '{URI}'{fields}}}}}}}]}}"
        );
        crate::living::folder::route(name, &format!("{name}.test"), &[&block], &[("chat", 1)])
    };
    let text = route("a", ", cacheDuration: 60s, timeout: 1s")
        + &route("b", ", timeout: 3s")
        + &route("c", ", cacheDuration: 1ms");
    let (documents, _) = read_documents("test", &text);
    let sources = Compiler::default().compile(&snapshot(documents, now()), &options()).key_sources;
    assert_eq!(sources.len(), 1);
    assert_eq!((sources[0].cache.as_secs(), sources[0].timeout.as_secs()), (10, 5));
}

#[test]
fn a_route_is_told_that_its_service_cannot_be_asked_in_words_that_stay() {
    let external = "type: External, external: {backendRef: {name: chat, port: 80}}";
    let mut world = world(external);
    let mut compiler = Compiler::default();
    let before = resolved(&compiler.compile(&world, &options()));
    let key = (ObjectKey::new("default", "chat"), Arc::from("who"));
    world.troubles.insert(key.clone(), "no answer within 2s".into());
    let told = resolved(&compiler.compile(&world, &options()));
    assert_eq!((told.status, told.reason), (false, "AuthorizationServiceUnavailable"));
    assert!(told.message.starts_with("spec.authentication.providers[0]: its service cannot be asked"), "{told:?}");
    world.troubles.insert(key.clone(), "connection refused by 10.0.0.7".into());
    assert_eq!(resolved(&compiler.compile(&world, &options())), told);
    world.troubles.clear();
    assert_eq!(resolved(&compiler.compile(&world, &options())), before);
}
