//! The objects that `sheave proxy --to` stands for: one Service, one route for every host and path.
//!
//! They go through the same compile as any others, so that the one-line proxy has no path of its own.

use super::document::read_documents;
use super::gather;
use crate::compile::Snapshot;

/// The snapshot of one backend at `host:port`, spoken to over TLS or in clear. A literal address becomes an
/// `EndpointSlice`, a name an `externalName`. Over TLS the certificate must be `host`'s, signed by an authority the
/// system trusts.
pub fn snapshot(host: &str, port: u16, tls: bool) -> Snapshot {
    let address = host.parse::<std::net::IpAddr>().ok();
    let service = match address {
        Some(_) => String::new(),
        None => format!("\n  type: ExternalName\n  externalName: {host:?}"),
    };
    let protocol = if tls { "WSS" } else { "WS" };
    let trust = if tls {
        format!("\n    backendTLS: {{hostname: {host:?}, wellKnownCACertificates: System}}")
    } else {
        String::new()
    };
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: backend}}
spec:
  ports: [{{name: ws, port: {port}}}]{service}
---
apiVersion: sheave.dev/v1alpha1
kind: WebSocketRoute
metadata: {{name: proxy}}
spec:
  rules:
  - backendRefs: [{{name: backend, port: {port}, protocol: {protocol}}}]{trust}
"
    );
    if let Some(address) = address {
        let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
        text += &format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: backend, labels: {{kubernetes.io/service-name: backend}}}}
addressType: {family}
ports: [{{name: ws, port: {port}}}]
endpoints: [{{addresses: [{:?}]}}]
",
            address.to_string()
        );
    }
    let (documents, problems) = read_documents("--to", &text);
    debug_assert!(problems.is_empty(), "the settings let no other host through: {problems:?}");
    gather::snapshot(documents, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Options, compile};
    use crate::routing::{BackendTarget, HostPattern};

    #[test]
    fn names_and_addresses_become_a_route_for_every_host() {
        for (host, tls, wanted) in [
            ("localhost", false, "localhost:9001"),
            ("127.0.0.1", false, "127.0.0.1:9001"),
            ("::1", false, "[::1]:9001"),
            ("chat.example.com", true, "chat.example.com:9001"),
        ] {
            let compiled = compile(&snapshot(host, 9001, tls), &Options::folder());
            let complaints: Vec<_> = compiled.verdicts.iter().filter(|verdict| !verdict.spotless()).collect();
            assert!(complaints.is_empty(), "{host}: {complaints:#?}");
            let route = compiled.table.routes().next().expect("one route");
            assert_eq!(route.hosts, [HostPattern::Any]);
            let BackendTarget::Service(backend) = &route.rules[0].backends[0].target else {
                panic!("{host}: {:?}", route.rules[0].backends)
            };
            assert_eq!(backend.endpoints[0].address.to_string(), wanted);
            assert_eq!(backend.tls.is_some(), tls);
        }
    }
}
