//! What the tests against a real API server rest on: rights given and taken, a line cut, a server stopped and back.

mod apiserver;

use apiserver::{ADMIN, ControlPlane, rule, shared, until};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use std::time::Duration;

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}})
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn an_account_may_do_what_it_was_granted_and_no_more() {
    let plane = shared().await;
    let namespace = plane.namespace("rights").await;
    let account = plane.account(&namespace, "reader").await;
    let maps: Api<ConfigMap> = Api::namespaced(account.client(), &namespace);
    let forbidden = || async {
        match maps.list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_forbidden() => Some(status.message.clone()),
            _ => None,
        }
    };
    let told = forbidden().await.expect("nothing is granted yet");
    assert!(told.contains("cannot list resource \"configmaps\""), "{told}");
    let grant = plane.grant_in(&account, &namespace, &[rule("", &["configmaps"], &["list"])]).await;
    maps.list(&ListParams::default()).await.expect("granted");
    assert!(maps.get("x").await.is_err_and(|error| error.to_string().contains("cannot get")));
    plane.revoke(&account, grant).await;
    assert!(forbidden().await.is_some());
}

/// The next event of a watch, within the ceiling.
async fn next(events: &mut (impl futures_util::Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin)) -> String {
    let next = tokio::time::timeout(apiserver::CEILING, events.next()).await.expect("an event").expect("no end");
    match next {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::InitApply(map) | Event::Apply(map)) => map.metadata.name.unwrap_or_default(),
        Ok(Event::Delete(_)) => "delete".to_owned(),
        Err(_) => "error".to_owned(),
    }
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_watch_over_a_cut_line_goes_on_where_it_was() {
    let plane = shared().await;
    let namespace = plane.namespace("cut").await;
    let link = plane.link().await;
    let client = Client::try_from(plane.config_through(&link, ADMIN)).expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut events = Box::pin(watcher(maps, watcher::Config::default()));
    assert_eq!([next(&mut events).await, next(&mut events).await], ["init", "done"]);
    plane.apply(Some(&namespace), &config_map("one")).await.expect("written");
    assert_eq!(next(&mut events).await, "one");
    link.sever();
    plane.apply(Some(&namespace), &config_map("two")).await.expect("the server itself is there");
    assert_eq!(next(&mut events).await, "error");
    link.mend();
    let mut after = next(&mut events).await;
    while after == "error" {
        after = next(&mut events).await;
    }
    assert_eq!(after, "two", "without a new list");
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_stopped_api_server_comes_back_on_its_port_with_its_objects() {
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("outage").await;
    plane.apply(Some(&namespace), &config_map("kept")).await.expect("written");
    let mut config = plane.config(ADMIN);
    config.default_retry = false;
    config.read_timeout = Some(Duration::from_secs(1));
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).expect("a client"), &namespace);
    maps.get("kept").await.expect("there");
    plane.stop_api_server();
    assert!(maps.get("kept").await.is_err());
    plane.start_api_server().await;
    maps.get("kept").await.expect("still there");
    plane.freeze_api_server();
    assert!(maps.get("kept").await.is_err());
    plane.thaw_api_server();
    until("it answers again", || async { maps.get("kept").await.ok() }).await;
}
