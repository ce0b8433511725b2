//! A provider of type Basic to its users: reads `htpasswd` lines.
//!
//! A line that cannot be used takes nothing from the others. It is told by its number, never by its content.

use super::{Writer, credentials, no_block};
use crate::api::BasicProvider;
use crate::api::status::reason;
use crate::compile::inputs::Lookup;
use crate::compile::secret::SecretContent;
use crate::compile::snapshot::ObjectKey;
use crate::compile::verdict::{Fault, Findings};
use crate::routing::access::{PasswordHash, Passwords, ProviderKind};
use std::sync::Arc;

/// The entries that may hold the lines; the first that is there does.
const ENTRIES: [&str; 2] = [".htpasswd", "auth"];

pub(super) fn passwords(
    block: Option<&BasicProvider>,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> ProviderKind {
    let Some(block) = block else { return no_block("basic", field, findings) };
    let field = format!("{field}.basic.credentialRefs");
    let mut secrets = credentials::present(&block.credential_refs, writer, &field, lookup, findings);
    secrets.retain(|key| {
        let has_users = lookup.secret(key).is_ok_and(|secret| lines(secret).is_some());
        if !has_users {
            let message =
                format!("{field}: Secret {key} has no .htpasswd, nor auth: put lines of htpasswd -B there, one a user");
            findings.unresolved.push(Fault::new(reason::INVALID_CREDENTIAL_REF, message));
        }
        has_users
    });
    if secrets.is_empty() {
        return credentials::none_left(findings);
    }
    let (users, faults) = lookup.passwords(&secrets);
    findings.unresolved.extend(faults.iter().map(|fault| fault.at(&field)));
    let realm = block.realm.as_deref().unwrap_or(&writer.route.name);
    ProviderKind::Password(users, realm.into())
}

/// The entry of a Secret that holds its users, and its content.
fn lines(secret: &SecretContent) -> Option<(&'static str, &[u8])> {
    ENTRIES.iter().find_map(|entry| Some((*entry, secret.entry(entry)?)))
}

/// The users of `secrets`, and which lines say none. Of a user who is there twice the first counts.
pub(in crate::compile) fn users_of(secrets: &[(&ObjectKey, &SecretContent)]) -> (Passwords, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut users = Vec::new();
    for (secret, content) in secrets {
        let Some((entry, text)) = lines(content) else { continue };
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            match user(line) {
                Ok(user) => users.extend(user),
                Err(why) => {
                    let message = format!("Secret {secret}: line {} of {entry} is left out: {why}", at + 1);
                    faults.push(Fault::new(reason::INVALID_CREDENTIAL_REF, message));
                }
            }
        }
    }
    (Passwords::new(users), faults)
}

/// The user of a line; `None` for an empty one and a comment.
fn user(line: &[u8]) -> Result<Option<(Arc<str>, PasswordHash)>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8: write it anew")?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (user, hash) = text.split_once(':').ok_or("it has no colon: write user:hash, as htpasswd -B does")?;
    if user.is_empty() || user.chars().any(char::is_control) {
        return Err("it names no user: write user:hash, as htpasswd -B does".to_owned());
    }
    let hash = PasswordHash::parse(hash).map_err(|error| error.to_string())?;
    Ok(Some((user.into(), hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_faulty_ones_told_by_their_number_alone() {
        let text = "# users\n\nann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\r\nbob:hunter2\nhunter2\n:{SHA}hunter2\n\
            ann:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\neve:$apr1$hunter2$x\n";
        let secret = serde_json::json!({"stringData": {"auth": text}});
        let content = SecretContent::take(serde_json::from_value(secret).expect("a Secret"), |_| true);
        let (users, faults) = users_of(&[(&ObjectKey::new("n", "s"), &content)]);
        assert_eq!(users.len(), 1);
        let told: Vec<_> =
            faults.iter().map(|fault| fault.message.split(" is left").next().unwrap_or_default()).collect();
        let line = |number| format!("Secret n/s: line {number} of auth");
        assert_eq!(told, [line(4), line(5), line(6), line(8)]);
        assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
    }
}
