//! A real kube-apiserver with its etcd and nothing else of a cluster: no kubelet, no scheduler, no controller.
//!
//! Structure, CEL, server-side apply, watches, tokens and RBAC are here as they are in any cluster. What a controller
//! would do is not: a deleted Namespace stays Terminating, an `EndpointSlice` is there when the test writes it. Most
//! tests share one control plane and take a [`Namespace`] each; who stops the API server starts one of their own.

// Each test binary uses its own part, and `pub` here says what a test may use.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod account;
mod link;
mod process;
pub mod running;
mod trust;

pub use account::{Account, Grant, rule};
pub use link::Link;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{GroupVersionKind, ObjectMeta};
use kube::{Client, Config};
use process::Process;
use serde_json::{Value, json};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use trust::Trust;

/// The longest any condition may take to come true. Two programs start within, on a busy machine.
pub const CEILING: Duration = Duration::from_secs(60);

/// Where the programs are looked for when `KUBEBUILDER_ASSETS` names no folder.
const FOLDERS: [&str; 2] = ["/usr/local/kubebuilder/bin", "/usr/local/lib/kubernetes"];

/// The token of the user who may do everything.
pub const ADMIN: &str = "admin-of-a-test";

/// Asks `condition` again and again until it answers `Some`; panics with `what` when that takes too long.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(CEILING, wait).await.unwrap_or_else(|_| panic!("{what}: not within {CEILING:?}"))
}

/// An etcd and an API server, both gone when it is dropped or the test process ends.
pub struct ControlPlane {
    programs: PathBuf,
    trust: Trust,
    address: SocketAddr,
    arguments: Vec<String>,
    /// Before etcd and the folder, for the order in which they are dropped.
    server: Mutex<Option<Process>>,
    _etcd: Process,
    folder: tempfile::TempDir,
}

/// The control plane that the tests of a binary share, with both CRDs installed.
pub async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let start = || async {
        let plane = ControlPlane::start().await;
        plane.install_crds().await;
        plane
    };
    SHARED.get_or_init(start).await
}

impl ControlPlane {
    /// Starts one without any CRD.
    pub async fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("sheave-api-").tempdir().expect("a folder can be made");
        let at = |name: &str| folder.path().join(name);
        let trust = trust::write(folder.path());
        std::fs::write(at("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n")).expect("written");
        let store = format!("http://127.0.0.1:{}", free_port());
        let mut etcd = vec![
            format!("--data-dir={}", at("etcd").display()),
            format!("--listen-client-urls={store}"),
            format!("--advertise-client-urls={store}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        // No peers; a port that the kernel picks keeps two of these apart.
        for flag in ["listen-peer-urls", "initial-advertise-peer-urls"] {
            etcd.push(format!("--{flag}=http://127.0.0.1:0"));
        }
        etcd.push("--initial-cluster=default=http://127.0.0.1:0".to_owned());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = |flag: &str, name: &str| format!("--{flag}={}", at(name).display());
        let arguments = vec![
            format!("--etcd-servers={store}"),
            format!("--secure-port={}", address.port()),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(), // pods would wait for a controller's token
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/16,fd00:10::/108".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-signing-key-file", "sa.key"),
            file("service-account-key-file", "sa.pub"),
            file("tls-cert-file", "server.crt"),
            file("tls-private-key-file", "server.key"),
            file("token-auth-file", "tokens.csv"),
        ];
        let etcd = Process::start(&programs.join("etcd"), &etcd, &at("etcd.log"), folder.path());
        let plane = Self { programs, trust, address, arguments, server: Mutex::new(None), _etcd: etcd, folder };
        plane.start_api_server().await;
        plane
    }

    /// Starts the API server, on the port it had before, and returns once it is ready.
    pub async fn start_api_server(&self) {
        let program = self.programs.join("kube-apiserver");
        let process = Process::start(&program, &self.arguments, &self.log(), Path::new(""));
        *self.server() = Some(process);
        let mut config = self.config(ADMIN);
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client can be made");
        let wait = async {
            loop {
                let asked = http::Request::get("/readyz").body(Vec::new()).expect("a request");
                if client.request_text(asked).await.is_ok() {
                    return;
                }
                self.server().as_mut().expect("started above").must_run();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = tokio::time::timeout(CEILING, wait).await;
        assert!(ready.is_ok(), "kube-apiserver is not ready within {CEILING:?}:\n{}", log_tail(&self.log()));
    }

    /// Kills the API server: connections break, its port refuses. What etcd holds stays.
    pub fn stop_api_server(&self) {
        let process = self.server().take();
        assert!(process.is_some(), "the API server is stopped already");
    }

    /// Halts the API server where it stands: connections stay open and nothing answers.
    pub fn freeze_api_server(&self) {
        self.server().as_ref().expect("the API server runs").freeze();
    }

    /// Lets it go on after [`ControlPlane::freeze_api_server`].
    pub fn thaw_api_server(&self) {
        self.server().as_ref().expect("the API server runs").thaw();
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("kube-apiserver.log")
    }

    /// A client that may do everything. Made anew each time: it lives on the runtime that it is made on.
    pub fn client(&self) -> Client {
        Client::try_from(self.config(ADMIN)).expect("a client can be made")
    }

    /// What a client with this token is made of.
    pub fn config(&self, token: &str) -> Config {
        self.config_at(self.address, token)
    }

    /// As [`ControlPlane::config`] of an account, through a line that can be cut.
    pub fn config_through(&self, link: &Link, token: &str) -> Config {
        self.config_at(link.address(), token)
    }

    fn config_at(&self, address: SocketAddr, token: &str) -> Config {
        let mut config = Config::new(format!("https://{address}").parse().expect("a URL"));
        config.root_cert = Some(vec![self.trust.der.clone()]);
        config.auth_info.token = Some(token.to_owned().into());
        config
    }

    /// Opens a line to the API server that can be cut.
    pub async fn link(&self) -> Link {
        Link::open(self.address).await
    }

    /// Writes a kubeconfig for a program outside the test. `link`: the line it goes through, if any.
    pub fn kubeconfig(&self, token: &str, namespace: &str, link: Option<&Link>) -> PathBuf {
        let server = format!("https://{}", link.map_or(self.address, Link::address));
        let authority = BASE64_STANDARD.encode(&self.trust.pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "test", "user": {"token": token}}],
        });
        let path = self.folder.path().join(format!("kubeconfig-{:x}.json", fastrand::u64(..)));
        std::fs::write(&path, config.to_string()).expect("the folder is writable");
        path
    }

    /// Makes a namespace whose name begins with `name`.
    pub async fn namespace(&self, name: &str) -> Namespace {
        let namespaces: Api<NamespaceObject> = Api::all(self.client());
        let metadata = ObjectMeta { generate_name: Some(format!("{name}-")), ..ObjectMeta::default() };
        let object = NamespaceObject { metadata, ..NamespaceObject::default() };
        let made = namespaces.create(&PostParams::default(), &object).await.expect("a namespace can be made");
        Namespace { name: made.metadata.name.expect("a name"), log: self.log() }
    }

    /// Installs both CRDs by server-side apply and waits until they are served.
    pub async fn install_crds(&self) {
        for (_, crd) in sheave::api::crds() {
            self.install(&serde_json::to_value(crd).expect("a CRD is JSON")).await;
        }
    }

    /// Installs any CRD, or another version of one, and waits until it is served.
    pub async fn install(&self, crd: &Value) {
        let applied =
            self.apply(None, crd).await.unwrap_or_else(|error| panic!("{}: {error}", crd["metadata"]["name"]));
        let name = applied.metadata.name.expect("a name");
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client());
        let established = || async {
            let conditions = definitions.get(&name).await.ok()?.status?.conditions?;
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        };
        until(&format!("{name} is Established"), established).await;
        let path = format!("/apis/{}/{}", text(crd, "/spec/group"), text(crd, "/spec/versions/0/name"));
        let client = self.client();
        // Discovery trails the condition; kubectl and kube's own discovery look there.
        until(&format!("{path} is served"), || async {
            let asked = http::Request::get(&path).body(Vec::new()).expect("a request");
            let found: Value = client.request(asked).await.ok()?;
            let kinds = found["resources"].as_array()?;
            kinds.iter().any(|kind| kind["name"] == crd["spec"]["names"]["plural"]).then_some(())
        })
        .await;
    }

    /// Applies an object of any kind as `kubectl apply --server-side` does, in this namespace or in none.
    pub async fn apply(&self, namespace: Option<&str>, object: &Value) -> kube::Result<DynamicObject> {
        let parameters =
            PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("test").force() };
        let name = text(object, "/metadata/name");
        self.kind(namespace, object).patch(&name, &parameters, &Patch::Apply(object)).await
    }

    /// Deletes an object of any kind by apiVersion, kind and name.
    pub async fn delete(&self, namespace: Option<&str>, object: &Value) {
        let name = text(object, "/metadata/name");
        self.kind(namespace, object).delete(&name, &DeleteParams::default()).await.expect("the object is there");
    }

    /// All objects of the kind of `object`, for what has no type here.
    pub fn kind(&self, namespace: Option<&str>, object: &Value) -> Api<DynamicObject> {
        let version = text(object, "/apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text(object, "/kind")));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, &resource),
            None => Api::all_with(self.client(), &resource),
        }
    }

    /// Runs kubectl as the user who may do everything.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(self.programs.join("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig(ADMIN, "default", None));
        command.arg("--cache-dir").arg(self.folder.path().join("kubectl"));
        command.args(arguments).output().await.expect("kubectl runs")
    }

    /// What kubectl prints; panics with its complaint when it fails.
    pub async fn kubectl_prints(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the API server's log ends with\n{}", log_tail(&self.log()));
        }
    }
}

/// A namespace of one test. Nothing deletes it: no controller is there to empty it. On failure it shows the end of
/// the API server's log.
pub struct Namespace {
    name: String,
    log: PathBuf,
}

impl Deref for Namespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in namespace {}; the API server's log ends with\n{}", self.name, log_tail(&self.log));
        }
    }
}

/// The text at a JSON pointer; empty where there is none.
fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The last lines of a log.
fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// The folder with etcd, kube-apiserver and kubectl.
fn programs() -> PathBuf {
    let named = std::env::var_os("KUBEBUILDER_ASSETS").filter(|named| !named.is_empty()).map(PathBuf::from);
    let lacking = |folder: &Path| {
        let missing = ["etcd", "kube-apiserver", "kubectl"].into_iter().filter(|name| !folder.join(name).is_file());
        missing.collect::<Vec<_>>()
    };
    if let Some(folder) = named {
        let lacking = lacking(&folder);
        assert!(lacking.is_empty(), "KUBEBUILDER_ASSETS names {}, which lacks {lacking:?}", folder.display());
        return folder;
    }
    let found = FOLDERS.map(PathBuf::from).into_iter().find(|folder| lacking(folder).is_empty());
    found.unwrap_or_else(|| {
        panic!(
            "these tests need a kube-apiserver: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and \
             kubectl (`setup-envtest use -p path` downloads one and prints its name); neither of {FOLDERS:?} has them"
        )
    })
}

/// A port that nobody has, below those the kernel gives to clients: the API server must find it free again when it
/// comes back.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).find(free).expect("one of thousands is free")
}
