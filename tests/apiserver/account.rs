//! Accounts with exactly the rights a test gives them.
//!
//! An account is a `ServiceAccount` with a token of its own, so what it may do is decided as for a pod. Granting and
//! revoking return once the API server judges by it.

use super::{ControlPlane, until};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use kube::{Client, Config};
use serde_json::{Value, json};

/// A `ServiceAccount`.
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it shows to the API server; for an hour.
    pub token: String,
    config: Config,
}

impl Account {
    /// A client that acts as this account.
    pub fn client(&self) -> Client {
        Client::try_from(self.config()).expect("a client can be made")
    }

    /// What such a client is made of.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// Rights that an account was given together.
pub struct Grant {
    name: String,
    /// `None`: in the whole cluster.
    namespace: Option<String>,
    rules: Vec<PolicyRule>,
}

/// A rule: these verbs on these resources (`websocketroutes/status` for a subresource) of a group, "" for the core.
pub fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

impl ControlPlane {
    /// Makes an account that may do nothing.
    pub async fn account(&self, namespace: &str, name: &str) -> Account {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        accounts.create(&PostParams::default(), &account).await.expect("the account is new");
        let request = TokenRequest {
            spec: TokenRequestSpec { audiences: Vec::new(), expiration_seconds: Some(3600), bound_object_ref: None },
            ..TokenRequest::default()
        };
        let made = accounts.create_token_request(name, &PostParams::default(), &request).await.expect("a token");
        let token = made.status.expect("a made token").token;
        let config = self.config(&token);
        Account { namespace: namespace.to_owned(), name: name.to_owned(), token, config }
    }

    /// Gives the account these rights in the whole cluster.
    pub async fn grant(&self, account: &Account, rules: &[PolicyRule]) -> Grant {
        self.bind(account, None, rules).await
    }

    /// Gives the account these rights in one namespace.
    pub async fn grant_in(&self, account: &Account, namespace: &str, rules: &[PolicyRule]) -> Grant {
        self.bind(account, Some(namespace.to_owned()), rules).await
    }

    /// Takes a grant away again.
    pub async fn revoke(&self, account: &Account, grant: Grant) {
        let binding = if grant.namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
        let object = json!({"apiVersion": RBAC, "kind": binding, "metadata": {"name": grant.name}});
        self.delete(grant.namespace.as_deref(), &object).await;
        self.in_force(account, &grant, false).await;
    }

    async fn bind(&self, account: &Account, namespace: Option<String>, rules: &[PolicyRule]) -> Grant {
        let (role, binding) = match namespace {
            Some(_) => ("Role", "RoleBinding"),
            None => ("ClusterRole", "ClusterRoleBinding"),
        };
        let name = format!("{}-{}-{:x}", account.namespace, account.name, fastrand::u32(..));
        let object = |kind: &str, mut fields: Value| {
            fields["apiVersion"] = RBAC.into();
            fields["kind"] = kind.into();
            fields["metadata"] = json!({"name": name});
            fields
        };
        let subject = json!({"kind": "ServiceAccount", "namespace": account.namespace, "name": account.name});
        let named = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name});
        let objects =
            [object(role, json!({"rules": rules})), object(binding, json!({"roleRef": named, "subjects": [subject]}))];
        for object in &objects {
            self.apply(namespace.as_deref(), object).await.expect("rights can be given");
        }
        let grant = Grant { name, namespace, rules: rules.to_vec() };
        self.in_force(account, &grant, true).await;
        grant
    }

    /// Waits until every verb of the grant is judged as `allowed`. Do not revoke what another grant still gives.
    async fn in_force(&self, account: &Account, grant: &Grant, allowed: bool) {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client());
        for asked in questions(grant) {
            let what = format!("{} is judged by its rights: {asked:?}", account.user());
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(account.user()),
                    resource_attributes: Some(asked),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            until(&what, || async {
                let answer = reviews.create(&PostParams::default(), &review).await.ok()?;
                (answer.status?.allowed == allowed).then_some(())
            })
            .await;
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// One question for each verb on each resource of the grant.
fn questions(grant: &Grant) -> Vec<ResourceAttributes> {
    let mut questions = Vec::new();
    for rule in &grant.rules {
        let group = rule.api_groups.iter().flatten().next().cloned();
        for resource in rule.resources.iter().flatten() {
            let (resource, subresource) =
                resource.split_once('/').map_or((resource.as_str(), None), |(r, s)| (r, Some(s)));
            questions.extend(rule.verbs.iter().map(|verb| ResourceAttributes {
                group: group.clone(),
                namespace: grant.namespace.clone(),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                verb: Some(verb.clone()),
                ..ResourceAttributes::default()
            }));
        }
    }
    questions
}
