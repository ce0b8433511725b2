//! The objects that `sheave proxy --listen --to` stands for: one route, one Service, written as a user would.

/// The YAML of a route that sends every handshake to `host:port`, over TLS with the system's roots when `tls`.
pub fn objects(host: &str, port: u16, tls: bool) -> String {
    let (protocol, trust) = if tls {
        ("WSS", format!("    backendTLS: {{hostname: \"{host}\", wellKnownCACertificates: System}}\n"))
    } else {
        ("WS", String::new())
    };
    format!(
        "apiVersion: sheave.dev/v1alpha1
kind: WebSocketRoute
metadata: {{name: proxy}}
spec:
  rules:
  - name: all
    backendRefs: [{{name: upstream, port: {port}, protocol: {protocol}}}]
{trust}  messages: {{maxMessageBytes: 0, maxFragments: 0}}
---
apiVersion: v1
kind: Service
metadata: {{name: upstream}}
spec:
  type: ExternalName
  externalName: \"{host}\"
  ports: [{{port: {port}}}]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::document::read_documents;

    #[test]
    fn both_forms_are_objects_without_a_problem() {
        for tls in [false, true] {
            let (documents, problems) = read_documents("proxy", &objects("localhost", 9001, tls));
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(documents.len(), 2);
        }
    }
}
