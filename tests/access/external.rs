//! External authorization: a service of the user's decides, over real sockets.

use crate::living::folder::{Folder, route, served, service};
use crate::living::{Sheave, until};
use crate::raw::{Does, Server, offer, offer_to, ok, status, value};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A Sheave whose one route asks `auth`; `external` is more of the block.
fn sheave(backend: &Server, auth: u16, external: &str, spec: &[&str]) -> (Sheave, Folder) {
    let block = format!(
        "authentication: {{providers: [{{name: door, type: External, external: {{backendRef: {{name: auth, port: 80}}{external}}}}}]}}"
    );
    let mut lines = vec![block.as_str(), "drain: {timeout: 1s, spread: 0s}"];
    lines.extend(spec);
    let objects =
        route("chat", "chat.test", &lines, &[("chat", 1)]) + &served("chat", backend.port) + &served("auth", auth);
    let folder = Folder::with(&objects);
    (Sheave::start(&folder), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_opens_the_session_and_its_headers_reach_the_backend_instead_of_forged_ones() {
    let backend = Server::backend().await;
    let auth =
        Server::start(|_| Does::Answer(ok("X-User: alice\r\nX-Team: red\r\nX-Team: blue\r\nX-Other: 1\r\n"))).await;
    let (sheave, _folder) = sheave(&backend, auth.port, ", responseHeaders: [X-User, X-Team, X-None]", &[]);
    let forged = ["X-User: root", "x-team: admins", "X-None: forged", "X-Mine: kept"];
    let (head, _) = offer(sheave.ws, "/chat?room=1", &forged).await;
    assert_eq!(status(&head), 101, "{head}");
    let seen = backend.heads().remove(0);
    assert_eq!(value(&seen, "x-user").as_deref(), Some("alice"), "{seen}");
    assert_eq!(value(&seen, "x-team").as_deref(), Some("red | blue"), "{seen}");
    assert_eq!(value(&seen, "x-none"), None, "{seen}");
    assert_eq!(value(&seen, "x-other"), None, "{seen}");
    assert_eq!(value(&seen, "x-mine").as_deref(), Some("kept"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_shown_the_handshake_and_nothing_it_was_not_promised() {
    let backend = Server::backend().await;
    let auth = Server::start(|_| Does::Answer(ok(""))).await;
    let (sheave, _folder) = sheave(&backend, auth.port, ", pathPrefix: /verify/", &[]);
    let lines = [
        "Authorization: Bearer abc",
        "Cookie: a=1",
        "Cookie: b=2",
        // A cookie is shown, so pages of other origins would be refused unless the route said otherwise.
        "Origin: http://chat.test",
        "Sec-WebSocket-Protocol: mqtt, bearer.x",
        "X-Request-Id: id-7",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Uri: /public",
        "X-Tenant: gold",
    ];
    let (answer, _) = offer(sheave.ws, "/chat?room=1", &lines).await;
    assert_eq!(status(&answer), 101, "{answer}");
    let seen = auth.heads().remove(0);
    assert!(seen.starts_with("GET /verify/chat?room=1 HTTP/1.1\r\n"), "{seen}");
    for (name, wanted) in [
        ("host", Some("auth.default.svc")),
        ("x-forwarded-method", Some("GET")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("chat.test")),
        ("x-forwarded-uri", Some("/chat?room=1")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-request-id", Some("id-7")),
        ("origin", Some("http://chat.test")),
        ("sec-websocket-protocol", Some("mqtt, bearer.x")),
        ("authorization", Some("Bearer abc")),
        ("cookie", Some("a=1 | b=2")),
        ("x-tenant", None),
        ("upgrade", None),
        ("connection", None),
        ("sec-websocket-key", None),
    ] {
        assert_eq!(value(&seen, name).as_deref(), wanted, "{name} in {seen}");
    }
    let upstream = backend.heads().remove(0);
    assert_eq!(value(&upstream, "authorization").as_deref(), Some("Bearer abc"), "it takes nothing out: {upstream}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_reaches_the_client_in_the_services_own_words_and_no_backend() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| {
        Does::Answer(if head.starts_with("GET /sign-in") {
            let lines = "Content-Type: application/json\r\nWWW-Authenticate: Bearer realm=\"chat\"\r\nWWW-Authenticate: Basic\r\n\
                Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Inner: secret\r\nContent-Length: 16\r\n";
            format!("HTTP/1.1 401 x\r\n{lines}\r\n{{\"why\":\"nobody\"}}")
        } else {
            "HTTP/1.1 403 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n you\r\n0\r\n\r\n".to_owned()
        })
    })
    .await;
    let (sheave, _folder) = sheave(&backend, auth.port, "", &[]);
    let (head, body) = offer(sheave.ws, "/sign-in", &[]).await;
    assert_eq!((status(&head), body.as_str()), (401, "{\"why\":\"nobody\"}"), "{head}");
    for (name, wanted) in [
        ("content-type", Some("application/json")),
        ("www-authenticate", Some("Bearer realm=\"chat\" | Basic")),
        ("set-cookie", Some("a=1 | b=2")),
        ("content-length", Some("16")),
        ("connection", Some("close")),
        ("x-inner", None),
    ] {
        assert_eq!(value(&head, name).as_deref(), wanted, "{name} in {head}");
    }
    let (head, body) = offer(sheave.ws, "/members", &[]).await;
    assert_eq!((status(&head), body.as_str()), (403, "not you"), "{head}");
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    let reason = |reason| [("route", "chat"), ("outcome", "rejected"), ("reason", reason)];
    sheave.metric_becomes("sheave_handshakes_total", &reason("unauthenticated"), 1.0).await;
    sheave.metric_becomes("sheave_handshakes_total", &reason("forbidden"), 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_with_more_to_say_than_anybody_reads_keeps_its_status() {
    let backend = Server::backend().await;
    let body = "x".repeat(100_000);
    let answer = format!("HTTP/1.1 403 x\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let auth = Server::start(move |_| Does::Answer(answer.clone())).await;
    let (sheave, _folder) = sheave(&backend, auth.port, "", &[]);
    let (head, body) = offer(sheave.ws, "/", &[]).await;
    assert_eq!((status(&head), body.as_str()), (403, "not allowed to use this route\n"));
    assert_eq!(value(&head, "content-type").as_deref(), Some("text/plain; charset=utf-8"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_neither_yes_nor_no_is_503_and_reaches_no_backend() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| match head.split(' ').nth(1).unwrap_or_default() {
        "/500" => Does::Answer("HTTP/1.1 500 x\r\nContent-Length: 6\r\n\r\ninside".to_owned()),
        "/302" => Does::Answer("HTTP/1.1 302 x\r\nLocation: /yes\r\nContent-Length: 0\r\n\r\n".to_owned()),
        "/404" => Does::Answer("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n".to_owned()),
        "/101" => Does::Answer("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned()),
        "/closed" => Does::Break(""),
        "/noise" => Does::Break("SSH-2.0-OpenSSH_9.9\r\n"),
        "/half" => Does::Break("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal"),
        "/names" => Does::Answer(ok("X-Name: alice\r\nX-Name: bob\r\n")),
        "/long-name" => Does::Answer(ok(&format!("X-Name: {}\r\n", "a".repeat(300)))),
        "/big-head" => Does::Answer(ok(&format!("X-Big: {}\r\n", "a".repeat(200_000)))),
        _ => Does::Answer(ok("")),
    })
    .await;
    let (sheave, _folder) = sheave(&backend, auth.port, ", consumerHeader: X-Name", &[]);
    let cases = ["/500", "/302", "/404", "/101", "/closed", "/noise", "/half", "/names", "/long-name", "/big-head"];
    for case in cases {
        let (head, body) = offer(sheave.ws, case, &[]).await;
        assert_eq!(status(&head), 503, "{case}: {head}");
        assert!(!body.contains("inside") && body.contains("try again later"), "{case}: {body}");
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    assert_eq!(auth.heads().len(), cases.len(), "each is asked once");
    assert_eq!(status(&offer(sheave.ws, "/yes", &[]).await.0), 101, "and good answers still count");
    let unavailable = [("route", "chat"), ("reason", "auth_unavailable")];
    sheave.metric_becomes("sheave_handshakes_total", &unavailable, 10.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_503_until_it_is_back() {
    let backend = Server::backend().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let (sheave, _folder) = sheave(&backend, address.port(), "", &[]);
    let (head, _) = offer(sheave.ws, "/", &[]).await;
    assert_eq!(status(&head), 503, "{head}");
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    let listener = until("the port is free again", || async { TcpListener::bind(address).await.ok() }).await;
    let _auth = Server::on(listener, |_| Does::Answer(ok("")));
    assert_eq!(status(&offer(sheave.ws, "/", &[]).await.0), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_endpoints_or_that_does_not_exist_is_503() {
    let backend = Server::backend().await;
    let block =
        "authentication: {providers: [{name: door, type: External, external: {backendRef: {name: auth, port: 80}}}]}";
    let objects = route("chat", "chat.test", &[block], &[("chat", 1)]) + &served("chat", backend.port);
    let folder = Folder::with(&objects);
    let sheave = Sheave::start(&folder);
    assert_eq!(status(&offer(sheave.ws, "/", &[]).await.0), 503, "no such Service");
    folder.write("auth.yaml", &service("auth"));
    until("the Service is known", || async { sheave.get("/table").await.1.contains("path_prefix").then_some(()) })
        .await;
    assert_eq!(status(&offer(sheave.ws, "/", &[]).await.0), 503, "no endpoint");
    let auth = Server::start(|_| Does::Answer(ok(""))).await;
    folder.write("auth.yaml", &served("auth", auth.port));
    until("the endpoint is used", || async { (status(&offer(sheave.ws, "/", &[]).await.0) == 101).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_is_503_within_its_timeout() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| match head.split(' ').nth(1).unwrap_or_default() {
        "/silent" => Does::Nothing,
        _ => Does::Answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal".to_owned()),
    })
    .await;
    let (sheave, _folder) = sheave(&backend, auth.port, ", timeout: 200ms", &[]);
    for case in ["/silent", "/slow-body"] {
        let began = Instant::now();
        let (head, _) = offer(sheave.ws, case, &[]).await;
        assert_eq!(status(&head), 503, "{case}: {head}");
        // The default is 2 s: less than that is not it.
        let took = began.elapsed();
        assert!((Duration::from_millis(200)..Duration::from_millis(1900)).contains(&took), "{case}: {took:?}");
    }
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    assert_eq!(auth.heads().len(), 2, "no second try");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_handshakes_ask_over_one_connection() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| {
        Does::Answer(if head.starts_with("GET /no") {
            "HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno".to_owned()
        } else {
            ok("")
        })
    })
    .await;
    let (sheave, _folder) = sheave(&backend, auth.port, "", &[]);
    for at in 0..20 {
        let (target, wanted) = if at % 2 == 0 { ("/yes", 101) } else { ("/no", 403) };
        assert_eq!(status(&offer(sheave.ws, target, &[]).await.0), wanted);
    }
    assert_eq!((auth.heads().len(), auth.connections()), (20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_service_closed_costs_no_handshake() {
    let backend = Server::backend().await;
    // It says nothing of closing and closes all the same, as servers do after a while.
    let auth = Server::start(|_| Does::Break("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")).await;
    let (sheave, _folder) = sheave(&backend, auth.port, "", &[]);
    for at in 1..=10 {
        assert_eq!(status(&offer(sheave.ws, "/", &[]).await.0), 101);
        assert_eq!((auth.heads().len(), auth.connections()), (at, at), "asked once, each over a new connection");
        until("the service has closed", || async { (auth.closed() == at).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_the_answer_decides_who_may_use_the_rule() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| {
        let name = value(head, "authorization").unwrap_or_default();
        Does::Answer(ok(&if name.is_empty() { String::new() } else { format!("X-Name: {name}\r\n") }))
    })
    .await;
    let block = "authentication: {providers: [{name: door, type: External, external: {backendRef: {name: auth, port: 80}, \
        consumerHeader: x-name}}]}";
    let objects = format!(
        "apiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {{name: chat}}\nspec:\n  hostnames: [chat.test]\n  \
         rules: [{{backendRefs: [{{name: chat, port: 80}}], authorization: {{allow: [{{consumers: [alice]}}]}}}}]\n  {block}\n"
    ) + &served("chat", backend.port)
        + &served("auth", auth.port);
    let folder = Folder::with(&objects);
    let sheave = Sheave::start(&folder);
    assert_eq!(status(&offer(sheave.ws, "/", &["Authorization: bob"]).await.0), 403);
    assert_eq!(status(&offer(sheave.ws, "/", &[]).await.0), 403, "a nameless client");
    assert!(backend.heads().is_empty(), "{:?}", backend.heads());
    assert_eq!(status(&offer(sheave.ws, "/", &["Authorization: alice"]).await.0), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_always_asked_is_not_asked_about_handshakes_without_its_headers() {
    let backend = Server::backend().await;
    let auth = Server::start(|_| Does::Answer(ok(""))).await;
    let (sheave, _folder) = sheave(&backend, auth.port, ", always: false, requestHeaders: [X-Ticket]", &[]);
    let (head, _) = offer(sheave.ws, "/", &["Authorization: alice"]).await;
    assert_eq!(status(&head), 401, "{head}");
    assert!(auth.heads().is_empty() && backend.heads().is_empty());
    assert_eq!(status(&offer(sheave.ws, "/", &["x-ticket: 7"]).await.0), 101);
    let seen = auth.heads().remove(0);
    assert_eq!((value(&seen, "x-ticket").as_deref(), value(&seen, "authorization")), (Some("7"), None), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_uri_is_400_and_nobody_is_asked() {
    let backend = Server::backend().await;
    let auth = Server::start(|_| Does::Answer(ok(""))).await;
    let (sheave, _folder) = sheave(&backend, auth.port, "", &[]);
    let (head, body) = offer(sheave.ws, "/chat?<script>", &[]).await;
    assert_eq!(status(&head), 400, "{head}");
    assert!(body.contains("percent-encode"), "{body}");
    assert!(auth.heads().is_empty() && backend.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_tell_who_is_connected_and_can_be_asked_for_by_name() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| {
        let name = value(head, "authorization").unwrap_or_default();
        Does::Answer(ok(&format!("X-Name: {name}\r\n")))
    })
    .await;
    let (sheave, _folder) = sheave(&backend, auth.port, ", consumerHeader: X-Name", &[]);
    let _alice = offer_to(sheave.ws, "chat.test", "/", &["Authorization: alice"]).await;
    let _bob = offer_to(sheave.ws, "chat.test", "/", &["Authorization: bob"]).await;
    let text = sheave.get("/sessions?consumer=bob").await.1;
    let told: Value = serde_json::from_str(&text).expect("sessions are JSON");
    let bob = &told["sessions"][0];
    let names = ["consumer", "provider", "client", "certificate", "expires"];
    assert_eq!(
        names.map(|name| bob[name].clone()),
        [json!("bob"), json!("door"), json!("127.0.0.1"), json!(null), json!(null)]
    );
    assert_eq!(told["total"], json!(1), "{text}");
    let all: Value = serde_json::from_str(&sheave.get("/sessions").await.1).expect("sessions are JSON");
    assert_eq!(all["total"], json!(2), "{all}");
}
