//! What the words of a command line come to.

use super::*;

fn parse(words: &str) -> Result<Settings, SettingsError> {
    Settings::parse(std::iter::once("sheave").chain(words.split_whitespace()))
}

#[test]
fn reports_every_mistake_in_one_run() {
    let error = parse(
        "serve /nowhere --listen here --listen-tls 1.2.3.4 --admin :99999 --workers 0 --min-drain 5 \
         --drain-timeout soon --log-format xml --log =nonsense=",
    )
    .unwrap_err()
    .to_string();
    assert!(error.starts_with("9 mistakes"), "{error}");
    for flag in
        ["DIR /nowhere", "--listen \"", "--listen-tls", "--admin", "--workers", "--min-drain", "--drain-timeout"]
    {
        assert!(error.contains(flag), "{flag} is missing in {error}");
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let Settings::Proxy { run, to } = parse("proxy --to ws://localhost:9001").unwrap() else { panic!() };
    assert_eq!(run.listen, "[::]:8080".parse().unwrap());
    assert_eq!(run.admin, "127.0.0.1:9090".parse().unwrap());
    assert_eq!((run.listen_tls, run.drain_timeout, run.min_drain), (None, None, Duration::ZERO));
    assert!(run.workers >= 1);
    assert_eq!((to.host.as_str(), to.port, to.tls), ("localhost", 9001, false));
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let error = parse("proxy --to ws://h:1 --listen :1 --listen-tls :1");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--listen-tls [::]:1: --listen already listens there"), "{error}");
}

#[test]
fn controller_takes_lists_and_tells_what_is_wrong_in_them() {
    let words = "controller --watch-namespaces shop,,lab,shop --pod-ips 10.0.0.1,fd00::1 --pod-name p";
    let Settings::Controller { cluster, .. } = parse(words).unwrap() else { panic!() };
    assert_eq!(cluster.watch_namespaces, ["lab", "shop"]);
    assert_eq!((cluster.pod_ips.len(), cluster.lease.as_str(), cluster.pod_name.as_str()), (2, "sheave", "p"));
    let error = parse("controller --watch-namespaces Shop,ok --pod-ips here --lease -").unwrap_err().to_string();
    assert!(error.starts_with("3 mistakes") && error.contains("--watch-namespaces \"Shop\""), "{error}");
}

#[test]
fn connect_takes_a_url_headers_and_a_timeout() {
    let words = ["sheave", "connect", "wss://h:1/a?b", "-H", "Host: chat.test", "--insecure", "--timeout", "1m"];
    let Settings::Connect(connect) = Settings::parse(words).unwrap() else { panic!() };
    assert_eq!((connect.url.host.as_str(), connect.url.port, connect.url.tls), ("h", 1, true));
    assert_eq!(connect.headers, [("Host".to_owned(), "chat.test".to_owned())]);
    assert_eq!((connect.insecure, connect.timeout), (true, Duration::from_secs(60)));
    let error = parse("connect ws://h --insecure --timeout soon -H none").unwrap_err().to_string();
    assert!(error.starts_with("3 mistakes"), "{error}");
}

#[test]
fn explain_takes_url_headers_and_subprotocols() {
    let url = "wss://Chat.Example.com.:8443/ws?room=1";
    let words = ["sheave", "explain", ".", "--url", url, "-H", "X-Tenant: gold", "--subprotocol", "mqtt"];
    let Settings::Explain(explain) = Settings::parse(words).unwrap() else { panic!() };
    assert_eq!(explain.headers, [("X-Tenant".to_owned(), "gold".to_owned())]);
    assert_eq!(explain.subprotocols, ["mqtt"]);
    assert_eq!((explain.url.host.as_str(), explain.url.path.as_str()), ("chat.example.com", "/ws"));
    assert_eq!((explain.url.authority.as_str(), explain.from), ("Chat.Example.com.:8443", None));
    let words = ["sheave", "explain", ".", "--url", "ws://h/", "--from", "2001:db8::7"];
    let Settings::Explain(explain) = Settings::parse(words).unwrap() else { panic!() };
    assert_eq!(explain.from, Some("2001:db8::7".parse().unwrap()));
    let words = ["sheave", "explain", ".", "--url", "http://x", "-H", "no colon", "--from", "10.0.0.1:80"];
    let error = Settings::parse(words).unwrap_err();
    assert!(error.to_string().starts_with("3 mistakes"), "{error}");
}
