//! Whose a certificate is, as text: its subject (RFC 4514) and its alternative names (RFC 5280 §4.2.1.6).
//!
//! People compare these texts with what they have written, so no two subjects may read alike: every character that has
//! a meaning in a distinguished name is escaped, and so is everything outside visible ASCII.

use std::fmt::Write;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attribute types with a short name: those of RFC 4514 §3, and two that certificates of devices often have.
const SHORT: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "street"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The most specific part first, parts joined by commas, several attributes of one part by `+`.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name.iter().collect();
    parts.reverse();
    let mut out = String::new();
    for part in parts {
        for (at, attribute) in part.iter().enumerate() {
            match (out.is_empty(), at) {
                (true, _) => {}
                (false, 0) => out.push(','),
                (false, _) => out.push('+'),
            }
            push_attribute(&mut out, attribute);
        }
    }
    out
}

fn push_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(id, _)| *id == kind).map(|(_, short)| *short);
    if let (Some(short), Ok(text)) = (short, attribute.as_str()) {
        out.push_str(short);
        out.push('=');
        push_escaped(out, text);
    } else {
        // RFC 4514 §2.4: a type without a name, or a value that is no text, is written as its encoding.
        out.push_str(&kind);
        out.push_str("=#");
        let value = attribute.attr_value();
        push_hex(out, &der(value.header.raw_tag(), value.data));
    }
}

/// Tag, length and content (X.690 §8.1).
fn der(tag: Option<&[u8]>, content: &[u8]) -> Vec<u8> {
    let mut out = tag.unwrap_or(&[0x04]).to_vec();
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 128 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

/// RFC 4514 §2.4, and every byte outside visible ASCII as a pair of hexadecimal digits.
fn push_escaped(out: &mut String, text: &str) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let edge = (byte == b' ' && (at == 0 || at == last)) || (byte == b'#' && at == 0);
        if edge || b"\"+,;<>\\".contains(&byte) {
            out.push('\\');
            out.push(char::from(byte));
        } else if byte == b' ' || byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            out.push('\\');
            push_hex(out, &[byte]);
        }
    }
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "{byte:02X}").expect("a String takes everything");
    }
}

/// The names of the four kinds that name a client, in the certificate's order, each as it is written there.
pub(super) fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let general = extension.iter().flat_map(|extension| &extension.value.general_names);
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| format!("IP:{address}")),
        GeneralName::RFC822Name(name) => Some(format!("email:{name}")),
        GeneralName::URI(name) => Some(format!("URI:{name}")),
        _ => None,
    };
    general.filter_map(text).map(Into::into).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Alternative names as the value of a header: joined by commas, with everything that could be taken for more than a
/// name (a comma, a space, what is not visible ASCII) percent-encoded.
pub fn header_value(names: &[Box<str>]) -> String {
    let mut out = String::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        for byte in name.bytes() {
            if byte.is_ascii_graphic() && byte != b',' {
                out.push(char::from(byte));
            } else {
                write!(out, "%{byte:02X}").expect("a String takes everything");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
    use x509_parser::prelude::FromDer;

    fn with<T>(fill: impl FnOnce(&mut CertificateParams), see: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        fill(&mut params);
        let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        see(&X509Certificate::from_der(made.der()).expect("it is one").1)
    }

    fn subject(attributes: &[(DnType, &str)]) -> String {
        let fill = |params: &mut CertificateParams| {
            for (kind, value) in attributes {
                params.distinguished_name.push(kind.clone(), *value);
            }
        };
        with(fill, |certificate| distinguished_name(certificate.subject()))
    }

    #[test]
    fn a_subject_is_written_backwards_with_short_names() {
        let name = [(DnType::CountryName, "DE"), (DnType::OrganizationName, "Acme"), (DnType::CommonName, "device-1")];
        assert_eq!(subject(&name), "CN=device-1,O=Acme,C=DE");
        assert_eq!(subject(&[]), "");
        assert_eq!(subject(&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")]), "1.2.3.4=#0C0178");
    }

    #[test]
    fn no_value_can_pass_for_more_than_a_value() {
        assert_eq!(subject(&[(DnType::CommonName, "a,O=admin")]), "CN=a\\,O=admin");
        assert_eq!(subject(&[(DnType::CommonName, "a+b\\c\"<>;")]), "CN=a\\+b\\\\c\\\"\\<\\>\\;");
        assert_eq!(subject(&[(DnType::CommonName, " #x ")]), "CN=\\ #x\\ ");
        assert_eq!(subject(&[(DnType::CommonName, "#x")]), "CN=\\#x");
        assert_eq!(subject(&[(DnType::CommonName, "a\r\nX: y\u{e9}")]), "CN=a\\0D\\0AX: y\\C3\\A9");
    }

    #[test]
    fn alternative_names_have_their_kind_before_them_and_stay_apart_in_a_header() {
        let fill = |params: &mut CertificateParams| {
            let uri = "spiffe://example/a,DNS:admin";
            params.subject_alt_names = vec![
                SanType::DnsName("a.example".try_into().expect("a name")),
                SanType::IpAddress("2001:db8::1".parse().expect("an address")),
                SanType::Rfc822Name("a@example".try_into().expect("a mailbox")),
                SanType::URI(uri.try_into().expect("a URI")),
            ];
        };
        let names = with(fill, alternative_names);
        let wanted = ["DNS:a.example", "IP:2001:db8::1", "email:a@example", "URI:spiffe://example/a,DNS:admin"];
        assert_eq!(names, wanted.map(Box::from));
        assert_eq!(
            header_value(&names),
            "DNS:a.example,IP:2001:db8::1,email:a@example,URI:spiffe://example/a%2CDNS:admin"
        );
    }
}
