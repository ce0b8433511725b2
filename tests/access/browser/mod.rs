//! A real browser: what its pages may open, and what they see where they may not.
//!
//! Chromium sends the handshakes, keeps the cookies and decides what scripts are told, as it does for everybody. Only the
//! addresses behind names are the tests' own, so that origins, ports and cookies are those of a real site.

mod chromium;
mod site;

pub(crate) use chromium::Chromium;
pub(crate) use site::Site;

use crate::handshakes::{Backend, provider, secret, value};
use crate::living::Sheave;
use crate::living::certificate::make;
use crate::living::folder::{Folder, route, served};

/// What a page sees of a socket that does not open, whatever the reason: scripts are not told.
const REFUSED: [&str; 2] = ["error", "close 1006 \"\""];

const KEYS: &str = "apiKey: {credentialRefs: [{name: keys}], forwardClientIDHeader: X-Client}";

/// A route `name` for `host`, over TLS.
fn secured(name: &str, host: &str, spec: &[&str]) -> String {
    let tls = "tls: {certificateRefs: [{name: certificate}]}";
    let lines = [&[tls], spec].concat();
    route(name, host, &lines, &[("chat", 1)])
}

/// A Sheave for these routes, whose backend is at `port`, and the site before it.
async fn house(routes: &[String], port: u16) -> (Folder, Sheave, Site) {
    let made = make(&["chat.example.test", "ws.example.test", "narrow.example.test"]);
    let folder = Folder::with(&(routes.concat() + &served("chat", port)));
    folder.write("certificate.yaml", &made.secret("certificate"));
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-of-ann")]));
    let sheave = Sheave::start(&folder);
    let site = Site::start(&made, sheave.wss).await;
    (folder, sheave, site)
}

/// A browser on a page; `ws.*` and `narrow.*` are Sheave itself, every other host is the site.
fn browse(url: &str, site: &Site, sheave: &Sheave) -> Chromium {
    let direct = [("ws.example.test:443", sheave.wss), ("narrow.example.test:443", sheave.wss)];
    let pages =
        [("*.test:80", site.http), ("*.test:3000", site.http), ("*.test:443", site.https), ("*.test:8443", site.https)];
    Chromium::open(url, &[&direct[..], &pages[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_cookie_opens_the_socket_of_its_own_page_and_of_no_other_though_the_browser_sends_it() {
    let backend = Backend::start().await;
    let cookie = provider("APIKey", KEYS, ", extractFrom: [{type: Cookie, name: session}]");
    let (_folder, sheave, site) = house(&[secured("chat", "chat.example.test", &[&cookie])], backend.port).await;
    let socket = "wss://chat.example.test/rooms";
    let (own, foreign) = ("https://chat.example.test", "https://evil.example.test");
    let enter = "session=key-of-ann; Path=/; HttpOnly; Secure; SameSite=Lax";
    // The other page is of the same site, so that SameSite does not hold the cookie back.
    site.sign_in("https://chat.example.test/sign-in", enter, "https://evil.example.test/");
    let open = format!("new WebSocket('{socket}')");
    site.page("https://evil.example.test/", &format!("{open}.onclose = () => leave('{own}/')"));
    site.page("https://chat.example.test/", &open);
    let _browser = browse("https://chat.example.test/sign-in", &site, &sheave);
    assert_eq!(site.outcome(foreign, socket).await, REFUSED);
    assert_eq!(site.outcome(own, socket).await, ["open as \"\""]);
    let heads = backend.heads();
    assert_eq!(heads.len(), 1, "the other page's handshake reached the backend: {heads:?}");
    assert_eq!(value(&heads[0], "x-client").as_deref(), Some("ann"));
    assert_eq!(value(&heads[0], "cookie"), None, "the session's cookie went upstream");
    let denied = [("route", "chat"), ("reason", "origin_denied")];
    sheave.metric_becomes("sheave_handshakes_total", &denied, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_token_among_the_subprotocols_opens_and_neither_backend_nor_page_gets_it_back() {
    let backend = Backend::start().await;
    let bearer = provider("APIKey", KEYS, ", extractFrom: [{type: Subprotocol, name: bearer.}]");
    let (_folder, sheave, site) = house(&[secured("chat", "ws.example.test", &[&bearer])], backend.port).await;
    let app = "https://app.example.test";
    let [first, last, wrong, none] = ["first", "last", "wrong", "none"].map(|p| format!("wss://ws.example.test/{p}"));
    site.page(
        "https://app.example.test/",
        &format!(
            "new WebSocket('{first}', ['bearer.key-of-ann', 'chat']);
             new WebSocket('{last}', ['chat', 'bearer.key-of-ann']);
             new WebSocket('{wrong}', ['bearer.key-of-eve', 'chat']);
             new WebSocket('{none}', ['chat']);"
        ),
    );
    let _browser = browse("https://app.example.test/", &site, &sheave);
    assert_eq!(site.outcome(app, &first).await, ["open as \"chat\""]);
    assert_eq!(site.outcome(app, &last).await, ["open as \"chat\""]);
    assert_eq!(site.outcome(app, &wrong).await, REFUSED);
    assert_eq!(site.outcome(app, &none).await, REFUSED);
    let heads = backend.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for head in heads {
        assert_eq!(value(&head, "sec-websocket-protocol").as_deref(), Some("chat"), "{head}");
        assert_eq!(value(&head, "x-client").as_deref(), Some("ann"), "{head}");
        assert!(!head.contains("key-of"), "the token went upstream: {head}");
    }
    sheave.metric_becomes("sheave_handshakes_total", &[("reason", "unauthenticated")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn a_token_without_a_real_subprotocol_is_let_in_and_the_browser_itself_gives_up() {
    // Like most backends: it knows "chat", and chooses nothing where that is not offered.
    let backend =
        Backend::choosing(|offered| offered.split(", ").find(|name| *name == "chat").map(str::to_owned)).await;
    let bearer = provider("APIKey", KEYS, ", extractFrom: [{type: Subprotocol, name: bearer.}]");
    let (_folder, sheave, site) = house(&[secured("chat", "ws.example.test", &[&bearer])], backend.port).await;
    let app = "https://app.example.test";
    let [alone, other] = ["alone", "other"].map(|path| format!("wss://ws.example.test/{path}"));
    site.page(
        "https://app.example.test/",
        &format!(
            "new WebSocket('{alone}', ['bearer.key-of-ann']).onclose = () =>
               new WebSocket('{other}', ['bearer.key-of-ann', 'news']);"
        ),
    );
    let _browser = browse("https://app.example.test/", &site, &sheave);
    // No `open`: "if the server chose none of the offered, fail the connection", and 1006 is what that looks like.
    assert_eq!(site.outcome(app, &alone).await, REFUSED);
    assert_eq!(site.outcome(app, &other).await, REFUSED);
    sheave.metric_becomes("sheave_handshakes_total", &[("outcome", "accepted")], 2.0).await;
    sheave.metric_becomes("sheave_connections_active", &[], 0.0).await;
    let heads = backend.heads();
    assert_eq!(value(&heads[0], "sec-websocket-protocol"), None, "nothing is left to offer: {heads:?}");
    assert_eq!(value(&heads[1], "sec-websocket-protocol").as_deref(), Some("news"), "{heads:?}");
    assert_eq!(heads.len(), 2, "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium: make test-browser"]
async fn only_pages_of_listed_origins_open_scheme_and_port_and_wildcard_included() {
    let backend = Backend::start().await;
    let wide = "origins: {allowOrigins: ['https://*.example.test', 'http://localhost.test:3000', 'null']}";
    let narrow = "origins: {allowOrigins: ['https://app.example.test:8443']}";
    let routes = [secured("wide", "ws.example.test", &[wide]), secured("narrow", "narrow.example.test", &[narrow])];
    let (_folder, sheave, site) = house(&routes, backend.port).await;
    let pages = [
        // Origin, whether the wide list has it, whether the narrow one has it.
        ("https://app.example.test", true, false),
        ("https://a.b.example.test", true, false),
        ("https://app.example.test:8443", false, true),
        ("https://example.test", false, false),
        ("https://example.test.evil.test", false, false),
        ("http://app.example.test", false, false),
        ("http://localhost.test:3000", true, false),
        ("http://localhost.test", false, false),
    ];
    let sockets = ["wss://ws.example.test/", "wss://narrow.example.test/"];
    for (at, (origin, ..)) in pages.iter().enumerate() {
        let next = pages.get(at + 1).map_or("about:blank".to_owned(), |(next, ..)| format!("{next}/"));
        let script = format!(
            "let left = 2;
             for (const url of {sockets:?}) {{
               const socket = new WebSocket(url);
               socket.onopen = socket.onclose = () => --left || leave('{next}');
             }}"
        );
        site.page(&format!("{origin}/"), &script);
    }
    let _browser = browse(&format!("{}/", pages[0].0), &site, &sheave);
    for (origin, wide, narrow) in pages {
        for (socket, open) in sockets.into_iter().zip([wide, narrow]) {
            let expected = if open { &["open as \"\""][..] } else { &REFUSED[..] };
            assert_eq!(site.outcome(origin, socket).await, expected, "{origin} to {socket}");
        }
    }
    let opened = pages.iter().map(|(_, wide, narrow)| usize::from(*wide) + usize::from(*narrow)).sum::<usize>();
    assert_eq!(backend.heads().len(), opened);
}
