//! Who may connect, from where and how much, in a cluster whose objects are edited while sockets live.

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};
use sheave_e2e::client::certificate::{Authority, make, trusting_as};
use sheave_e2e::client::dial::Target;
use sheave_e2e::client::fleet::Fleet;
use sheave_e2e::client::token::Issuer;
use sheave_e2e::cluster::objects::{Backend, class, coded, merged, opaque, secret, simple};
use sheave_e2e::cluster::sheave::field;
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::tools::kubectl;
use std::time::{Duration, Instant};

/// How soon a session whose credential is gone must be closed, from the moment that Sheave hears of it.
const REVOKED: Duration = Duration::from_secs(2);

/// A host of the scenario's own with an echo backend and these blocks on its route; answers the host.
async fn with(stage: &Stage, blocks: &Value) -> Result<String> {
    stage.deploy("echo", &Backend::new("echo")).await?;
    let host = format!("{}.test", stage.namespace);
    stage.serve(&merged(simple("access", &host, "echo"), json!({"spec": blocks}))).await?;
    Ok(host)
}

fn provider(kind: &str, block: &str, extra: &Value) -> Value {
    let base = json!({"name": "only", "type": kind});
    json!({"authentication": {"providers": [merged(base, json!({block: extra}))]}})
}

fn keys(sources: &Value) -> Value {
    let block = provider("APIKey", "apiKey", &json!({"credentialRefs": [{"name": "keys"}]}));
    let mut block = block;
    block["authentication"]["providers"][0]["extractFrom"] = sources.clone();
    block
}

/// Scenario 15.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_device_shows_a_certificate_of_the_routes_authority() {
    scenario("mtls", |stage| async move {
        let host = format!("{}.test", stage.namespace);
        let (made, devices, strangers) = (make(&[&host])?, Authority::new("devices")?, Authority::new("strangers")?);
        stage.apply(&secret("tls", &made)).await?;
        let bundle = json!({"ca.crt": devices.certificate});
        stage
            .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "devices"}, "data": bundle}))
            .await?;
        let validation = json!({
            "mode": "AllowValidOnly", "caCertificateRefs": [{"name": "devices"}], "forwardSubjectHeader": "x-device",
        });
        let tls = json!({"tls": {"certificateRefs": [{"name": "tls"}], "frontendValidation": validation}});
        with(&stage, &tls).await?;
        let target =
            |identity: Option<_>| Ok::<_, anyhow::Error>(stage.secure(&host, &trusting_as(&[&made], identity)?));
        let device = target(Some(devices.issue("device-7")?))?.header("x-device", "CN=forged");
        stage.answers(&device, 101).await?;
        let (socket, hello) = device.hello().await?;
        ensure!(hello.headers.get("x-device").is_some_and(|subject| subject == "CN=device-7"), "{hello:?}");
        let opened = stage.counts("echo").await?.opened;
        ensure!(target(None)?.status().await? == 403, "a device without a certificate is let in");
        ensure!(target(Some(strangers.issue("device-7")?))?.status().await? == 403, "a stranger is let in");
        ensure!(stage.counts("echo").await?.opened == opened, "a refused device has reached the backend");
        socket.close(1000).await
    })
    .await;
}

/// Scenario 18.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_token_comes_by_cookie_query_or_subprotocol_and_an_expired_one_reaches_no_backend() {
    scenario("jwt", |stage| async move {
        let issuer = Issuer::new("https://idp.test/")?;
        stage.apply(&opaque("issuer", &json!({"jwks": coded(&issuer.key_set())}))).await?;
        let jwt = json!({
            "issuer": "https://idp.test/", "audiences": ["chat"], "localJWKS": {"name": "issuer"}, "leeway": "0s",
            "claimToHeaders": [{"claim": "sub", "header": "x-user"}],
        });
        let mut block = provider("JWT", "jwt", &jwt);
        block["authentication"]["providers"][0]["extractFrom"] = json!([
            {"type": "Cookie", "name": "session"}, {"type": "QueryParam", "name": "token"},
            {"type": "Subprotocol", "name": "bearer."},
        ]);
        let host = with(&stage, &block).await?;
        let target = stage.target(&host);
        stage.answers(&target, 401).await?;
        let good = issuer.token("alice", "chat", 600)?;
        let ways = |token: &str| {
            [
                target.clone().header("cookie", &format!("theme=dark; session={token}")),
                target.clone().path(format!("/?token={token}&room=1")),
                target.clone().header("sec-websocket-protocol", &format!("bearer.{token}, chat")),
            ]
        };
        for way in ways(&good) {
            let (socket, hello) = way.header("x-user", "mallory").hello().await?;
            ensure!(hello.headers.get("x-user").is_some_and(|user| user == "alice"), "{hello:?}");
            ensure!(!format!("{hello:?}").contains(&good), "the backend was shown the token: {hello:?}");
            socket.close(1000).await?;
        }
        let opened = stage.counts("echo").await?.opened;
        for (what, token) in [
            ("expired", issuer.token("alice", "chat", -60)?),
            ("for somebody else", issuer.token("alice", "shop", 600)?),
            ("signed by another", Issuer::new("https://idp.test/")?.token("alice", "chat", 600)?),
        ] {
            for way in ways(&token) {
                ensure!(way.status().await? == 401, "a token {what} is let in");
            }
        }
        ensure!(stage.counts("echo").await?.opened == opened, "a refused token has reached the backend");
        // A token that runs out takes its session with it.
        let short = issuer.token("alice", "chat", 5)?;
        let socket = target.clone().path(format!("/?token={short}")).open().await?;
        let end = socket.ended(Duration::from_secs(15)).await?;
        ensure!((end.code, &*end.reason) == (1008, "token expired"), "{end:?}");
        let reason = [("reason", "token_expired"), ("route_namespace", &*stage.namespace)];
        stage.sheave.reaches("sheave_connections_closed_total", &reason, 1.0).await.map(drop)
    })
    .await;
}

/// Scenario 19: the Secret is edited by kubectl while a thousand sessions live.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_deleted_key_closes_its_own_sessions_and_no_other() {
    scenario("revoke", |stage| async move {
        let data: Vec<(String, Value)> = (0..10)
            .map(|n| (format!("client-{n}"), coded(&format!("key-{n}-of-{}", stage.namespace)).into()))
            .collect();
        stage.apply(&opaque("keys", &Value::Object(data.into_iter().collect()))).await?;
        let host = with(&stage, &keys(&json!([{"type": "Header", "name": "x-api-key"}]))).await?;
        let target = |n: usize| stage.target(&host).header("x-api-key", &format!("key-{n}-of-{}", stage.namespace));
        stage.answers(&target(0), 101).await?;
        stage.answers(&stage.target(&host), 401).await?;
        let targets: Vec<(Target, String)> = (1..10).map(|n| (target(n), "/".to_owned())).collect();
        let others = Fleet::across(&targets, "other", 900, Duration::from_secs(1)).await?;
        let own = Fleet::open(&target(0), "own", 100, Duration::from_secs(1)).await?;
        let patch = json!([{"op": "remove", "path": "/data/client-0"}]).to_string();
        let began = Instant::now();
        kubectl(&["-n", &stage.namespace, "patch", "secret", "keys", "--type=json", "-p", &patch]).await?;
        let own = own.ended(Duration::from_secs(30)).await?;
        let last = own.0.iter().map(|report| report.ending.at).max().context("no session")?;
        let took = last.duration_since(began);
        println!("a key deleted by kubectl: its 100 sessions got their Close within {took:.2?}, 900 others live on");
        own.ended_with(&[1008])?;
        ensure!(own.0.iter().all(|report| report.ending.reason == "credential revoked"), "{:?}", own.0.first());
        ensure!(took < REVOKED, "it took {took:?}");
        ensure!(target(0).status().await? == 401, "the deleted key still opens");
        ensure!(others.alive() == 900, "{} of 900 other sessions are left", others.alive());
        let others = others.stop().await?;
        others.ended_with(&[1000])?;
        others.in_order()?;
        let reason = [("reason", "credential_revoked"), ("route_namespace", &*stage.namespace)];
        stage.sheave.reaches("sheave_connections_closed_total", &reason, 100.0).await?;
        // A key that is added serves as soon.
        let patch = json!({"stringData": {"client-10": format!("key-10-of-{}", stage.namespace)}}).to_string();
        kubectl(&["-n", &stage.namespace, "patch", "secret", "keys", "-p", &patch]).await?;
        stage.answers(&target(10), 101).await
    })
    .await;
}

/// Scenario 20.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_password_of_an_htpasswd_secret_opens() {
    scenario("basic", |stage| async move {
        // SHA-1 of "secret", as `htpasswd -s` writes it.
        let users = "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";
        stage.apply(&opaque("users", &json!({".htpasswd": coded(users)}))).await?;
        let block = json!({"credentialRefs": [{"name": "users"}], "forwardClientIDHeader": "x-user"});
        let host = with(&stage, &provider("Basic", "basic", &block)).await?;
        let login = |pair: &str| stage.target(&host).header("authorization", &format!("Basic {}", coded(pair)));
        stage.answers(&login("alice:secret"), 101).await?;
        let (socket, hello) = login("alice:secret").hello().await?;
        ensure!(hello.headers.get("x-user").is_some_and(|user| user == "alice"), "{hello:?}");
        ensure!(!hello.headers.contains_key("authorization"), "{hello:?}");
        for wrong in ["alice:Secret", "bob:secret", "alice:"] {
            ensure!(login(wrong).status().await? == 401, "{wrong} is let in");
        }
        ensure!(stage.target(&host).status().await? == 401, "nobody is let in");
        socket.close(1000).await
    })
    .await;
}

/// Scenario 21.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_external_service_that_is_away_closes_the_door() {
    scenario("external", |stage| async move {
        // The control port of the backend says 200 to /ready: a service that says yes to all.
        let ports = json!({"ports": [{"name": "ask", "port": 80, "targetPort": "control"}]});
        stage.deploy("judge", &Backend::new("judge").service(ports)).await?;
        let block = json!({"backendRef": {"name": "judge", "port": 80}, "pathPrefix": "/ready?", "timeout": "1s"});
        let host = with(&stage, &provider("External", "external", &block)).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let mut open = target.open().await?;
        let opened = stage.counts("echo").await?.opened;
        kubectl(&["-n", &stage.namespace, "scale", "deployment/judge", "--replicas=0"]).await?;
        stage.answers(&target, 503).await?;
        open.echo("a live session goes on").await?;
        let at_most = stage.counts("echo").await?.opened;
        ensure!(target.status().await? == 503, "it is let in");
        ensure!(
            stage.counts("echo").await?.opened == at_most && at_most >= opened,
            "a refused one reached the backend"
        );
        kubectl(&["-n", &stage.namespace, "scale", "deployment/judge", "--replicas=1"]).await?;
        stage.answers(&target, 101).await?;
        open.close(1000).await
    })
    .await;
}

/// Scenario 22.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn only_listed_origins_connect() {
    scenario("origins", |stage| async move {
        let origins = json!({"allowOrigins": ["https://chat.test", "https://*.chat.test"], "missing": "Deny"});
        let host = with(&stage, &json!({ "origins": origins })).await?;
        let from = |origin: &str| stage.target(&host).header("origin", origin);
        stage.answers(&from("https://chat.test"), 101).await?;
        ensure!(from("https://eu.chat.test").status().await? == 101, "the wildcard does not let in");
        for other in ["http://chat.test", "https://chat.test:8443", "https://evil.test", "null"] {
            ensure!(from(other).status().await? == 403, "{other} is let in");
        }
        ensure!(stage.target(&host).status().await? == 403, "a handshake without an origin is let in");
        Ok(())
    })
    .await;
}

/// Scenario 23.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn addresses_are_judged_by_the_proxy_header_and_never_by_a_forged_line() {
    scenario("addresses", |stage| async move {
        let name = format!("proxied-{}", stage.namespace);
        // Every address of the test's own network stands for the load balancer.
        let detection = json!({"proxyProtocol": "Required", "trustedCIDRs": ["0.0.0.0/0", "::/0"]});
        stage.apply(&class(&name, &json!({"clientIPDetection": detection}))).await?;
        let cidrs = json!({"clientCIDRs": {"allow": ["192.0.2.0/24"], "deny": ["192.0.2.66/32"]}});
        let host = with(&stage, &merged(json!({"className": name}), cidrs.clone())).await?;
        let from = |address: &str| stage.target(&host).proxied(address);
        stage.answers(&from("192.0.2.7"), 101).await?;
        let (socket, hello) = from("192.0.2.7").hello().await?;
        ensure!(hello.headers.get("x-forwarded-for").is_some_and(|client| client == "192.0.2.7"), "{hello:?}");
        for other in ["192.0.2.66", "198.51.100.7"] {
            let forged = from(other).header("x-forwarded-for", "192.0.2.7");
            ensure!(forged.status().await? == 403, "{other} is let in");
        }
        ensure!(stage.target(&host).status().await? == 400, "a connection without the header is let in");
        // A class that trusts nobody believes no line.
        let plain = format!("plain-{}.test", stage.namespace);
        stage.serve(&merged(simple("plain", &plain, "echo"), json!({"spec": cidrs}))).await?;
        let forged = stage.target(&plain).header("x-forwarded-for", "192.0.2.7").header("forwarded", "for=192.0.2.7");
        stage.answers(&forged, 403).await?;
        socket.close(1000).await
    })
    .await;
}

/// Scenarios 24 and 25. Each pod counts for itself, and there are two.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn handshakes_and_sessions_are_bounded_and_a_closed_session_makes_room() {
    scenario("limits", |stage| async move {
        let host = with(&stage, &json!({"connectionLimit": {"maxConnectionsPerClientIP": 2}})).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let mut open = Vec::new();
        while open.len() <= 4 {
            match target.open().await {
                Ok(socket) => open.push(socket),
                Err(refused) if refused.status() == Some(429) && open.len() >= 2 => break,
                Err(refused) if refused.status() == Some(429) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        ensure!((2..=4).contains(&open.len()), "{} sessions of one client are open", open.len());
        for socket in open.drain(..) {
            socket.close(1000).await?;
        }
        stage.answers(&target, 101).await?;
        let rate = json!({"spec": {"rateLimit": {"handshakes": {"limit": 5, "unit": "Hour", "key": "Route"}}}});
        let slow = format!("slow-{}.test", stage.namespace);
        stage.serve(&merged(simple("slow", &slow, "echo"), rate)).await?;
        let target = stage.target(&slow);
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(target.status().await?);
        }
        let count = |status: u16| statuses.iter().filter(|got| **got == status).count();
        // What had to be tried before every pod knew the route is not counted by all of them.
        ensure!((1..=10).contains(&count(101)) && count(429) >= 29, "{statuses:?}");
        let limited =
            |record: &Value| field(record, "reason") == "rate_limited" && field(record, "host") == slow.as_str();
        stage.sheave.logged("a handshake over the rate", stage.began, limited).await.map(drop)
    })
    .await;
}

/// A browser's way to send a key: an element of Sec-WebSocket-Protocol.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_key_among_the_subprotocols_is_seen_by_nobody_else() {
    scenario("subprotocol", |stage| async move {
        let key = format!("key/of={}", stage.namespace);
        stage.apply(&opaque("keys", &json!({"browser": coded(&key)}))).await?;
        let source = json!([{"type": "Subprotocol", "name": "key.", "encoding": "Base64URL"}]);
        let host = with(&stage, &keys(&source)).await?;
        let element = format!("key.{}", BASE64_URL_SAFE_NO_PAD.encode(&key));
        let offer = |list: &str| stage.target(&host).header("sec-websocket-protocol", list);
        stage.answers(&offer(&format!("{element}, chat")), 101).await?;
        let (socket, hello) = offer(&format!("{element}, chat")).hello().await?;
        ensure!(socket.answered("sec-websocket-protocol") == Some("chat"), "{hello:?}");
        ensure!(hello.headers.get("sec-websocket-protocol").is_some_and(|list| list == "chat"), "{hello:?}");
        let coded = BASE64_URL_SAFE_NO_PAD.encode(&key);
        let shown = |record: &Value| record.to_string().contains(&coded) || record.to_string().contains(&key);
        let host_record = |record: &Value| field(record, "host") == host.as_str();
        socket.close(1000).await?;
        let record = stage.sheave.logged("a record of the host", stage.began, host_record).await?;
        ensure!(!shown(&record), "a record shows the key");
        Ok(())
    })
    .await;
}
