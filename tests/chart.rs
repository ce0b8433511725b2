//! The chart as Helm renders it, its alerts as Prometheus reads them, and `manifests/` as kustomize does.
//!
//! `make check-chart` runs this; plain `cargo test` does not, since it needs `helm`, `promtool` and `kubectl`. Where
//! one is missing the test fails and says how to get it. `UPDATE_GOLDEN=1` rewrites `tests/chart/CASE/rendered.yaml`
//! and `manifests/`; read the diff before committing.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const CHART: &str = "charts/sheave";

/// The oldest Kubernetes that the chart takes.
const KUBERNETES: &str = "1.33.0";

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Runs `program`, which a person may not have.
fn run(program: &str, how: &str, words: &[&str]) -> Output {
    let output = Command::new(program).args(words).output();
    output.unwrap_or_else(|error| panic!("{program} cannot be run ({error}): {how}, then `make check-chart` again"))
}

fn helm(words: &[&str]) -> Output {
    run("helm", "install Helm 3 or 4 from https://helm.sh/docs/intro/install", words)
}

fn promtool(words: &[&str]) -> Output {
    run("promtool", "install Prometheus, which brings it (Debian: apt install prometheus)", words)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a successful program printed.
fn said(Output { status, stdout, stderr }: Output) -> String {
    assert!(status.success(), "{}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

fn template(release: &str, words: &[&str]) -> Output {
    let fixed = ["template", release, CHART, "--namespace", "sheave-system", "--kube-version", KUBERNETES];
    helm(&[&fixed[..], words].concat())
}

/// The documents of a rendered chart: the template each comes from, its text and what it says.
fn documents(rendered: &str) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for document in format!("\n{rendered}").split("\n---\n").filter(|document| !document.trim().is_empty()) {
        let value: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}:\n{document}"));
        if !value.is_null() {
            let source = document.lines().find_map(|line| line.strip_prefix("# Source: sheave/templates/"));
            let source = source.unwrap_or_else(|| panic!("no source:\n{document}"));
            found.push((source.to_owned(), document.trim().to_owned(), value));
        }
    }
    found
}

fn rendered(words: &[&str]) -> Vec<(String, String, Value)> {
    documents(&said(template("sheave", words)))
}

fn of_kind(kind: &str, words: &[&str]) -> Vec<Value> {
    rendered(words).into_iter().map(|(.., value)| value).filter(|value| value["kind"] == kind).collect()
}

/// Fails unless `path` holds `now`, or writes it.
fn golden(path: &Path, now: &str, wrong: &mut Vec<String>) {
    if updating() {
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("writable");
        fs::write(path, now).expect("writable");
    }
    if fs::read_to_string(path).unwrap_or_default() != now {
        wrong.push(format!("{} has drifted: run `make generate`, read the diff, commit it", path.display()));
    }
}

fn cases() -> Vec<String> {
    let entries = fs::read_dir("tests/chart").expect("tests run at the root of the crate").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut cases: Vec<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    cases.sort();
    assert!(cases.len() >= 6, "the cases were not found");
    cases
}

/// A document without what is a file of its own: schemas of CRDs, the dashboard.
fn shortened(document: &str, value: &Value) -> String {
    let (cut, instead) = match value["kind"].as_str() {
        Some("CustomResourceDefinition") => ("\nspec:\n", "\n# spec: as in crds/"),
        Some("ConfigMap") if document.contains("\n  sheave.json:") => {
            ("\n  sheave.json:", "\n  # sheave.json: as in files/")
        }
        _ => return document.to_owned(),
    };
    document.split(cut).next().unwrap_or_default().to_owned() + instead
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn every_case_renders_as_it_did() {
    let mut wrong = Vec::new();
    for case in cases() {
        let values = format!("tests/chart/{case}/values.yaml");
        let documents = documents(&said(template("sheave", &["--values", &values])));
        let rendered = documents.iter().map(|(_, document, value)| shortened(document, value));
        let now = rendered.fold(String::new(), |all, document| all + "---\n" + &document + "\n");
        golden(&Path::new("tests/chart").join(&case).join("rendered.yaml"), &now, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn helm_finds_nothing_to_complain_of() {
    said(helm(&["lint", "--strict", CHART, "--kube-version", KUBERNETES]));
    for case in cases() {
        let values = format!("tests/chart/{case}/values.yaml");
        said(helm(&["lint", "--strict", CHART, "--kube-version", KUBERNETES, "--values", &values]));
    }
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn values_that_make_no_sense_are_refused_with_a_sentence() {
    let rows: &[(&[&str], &[&str])] = &[
        // The schema: the path and what is wrong with it.
        (&["replica=3"], &["replica"]),
        (&["controller.watchNamespace=a"], &["watchNamespace"]),
        (&["listeners.http.ports=1"], &["ports"]),
        (&["class.spec.ceiling.maxMessageBytes=1"], &["ceiling"]),
        (&["class.spec.controllerName=x"], &["controllerName"]),
        (&["class.spec.defaults.keepalive.mode=Off"], &["mode"]),
        (&["class.spec.defaults.timeouts.idle=5"], &["idle"]),
        (&["kind=StatefulSet"], &["kind", "Deployment"]),
        (&["image.digest=latest"], &["digest", "sha256"]),
        (&["drain.timeout=60"], &["timeout"]),
        (&["drain.minDrain=10 s"], &["minDrain"]),
        (&["listeners.http.port=80"], &["port", "1,024"]),
        (&["controller.workers=0"], &["workers"]),
        (&["controller.logFormat=xml"], &["logFormat", "json"]),
        (&["controller.watchNamespaces={A_B}"], &["watchNamespaces"]),
        (&["service.type=ExternalName"], &["type", "LoadBalancer"]),
        (&["service.loadBalancerSourceRanges={10.0.0.1}"], &["loadBalancerSourceRanges"]),
        (&["metrics.serviceMonitor.enabled=perhaps"], &["enabled", "boolean"]),
        (&["pdb.maxUnavailable=some"], &["maxUnavailable"]),
        // What is sound alone and not together: the whole sentence is ours.
        (
            &["kind=DaemonSet", "autoscaling.enabled=true"],
            &["autoscaling.enabled: a DaemonSet has one pod on each node"],
        ),
        (&["autoscaling.enabled=true", "autoscaling.targetConnections=null"], &["autoscaling: set targetConnections"]),
        (
            &["autoscaling.enabled=true", "autoscaling.minReplicas=20"],
            &["autoscaling.minReplicas: must not be above autoscaling.maxReplicas"],
        ),
        (
            &[
                "autoscaling.enabled=true",
                "autoscaling.targetCPUUtilizationPercentage=50",
                "resources.requests.cpu=null",
            ],
            &["set that too"],
        ),
        (
            &["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"],
            &["metrics: serviceMonitor and podMonitor would both scrape"],
        ),
        (&["pdb.maxUnavailable=null"], &["pdb: set minAvailable or maxUnavailable, or pdb.enabled: false"]),
        (&["serviceAccount.create=false"], &["serviceAccount.name: name the account"]),
        (&["listeners.admin.port=8080"], &["listeners: http.port, https.port and admin.port must differ"]),
        (&["listeners.https.service=80"], &["listeners: http.service and https.service must differ"]),
        (&["listeners.https.enabled=false", "listeners.https.hostPort=443"], &["listeners.https.hostPort: "]),
        (&["service.type=ClusterIP", "service.nodePorts.http=30080"], &["service.nodePorts: a ClusterIP Service"]),
        (&["service.type=NodePort", "service.loadBalancerClass=x"], &["service.loadBalancerClass"]),
        (&["drain.timeout=0s"], &["drain.timeout: must be above 0s"]),
    ];
    for (values, says) in rows {
        let words: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
        let Output { status, stderr, .. } = template("sheave", &words);
        let stderr = text(&stderr);
        assert!(!status.success(), "{values:?} was taken");
        for part in *says {
            assert!(stderr.contains(part), "{values:?}: {part:?} is not said: {stderr}");
        }
    }
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn a_cluster_too_old_is_refused() {
    let old = ["template", "sheave", CHART, "--kube-version", "1.32.9"];
    let Output { status, stderr, .. } = helm(&old);
    assert!(!status.success() && text(&stderr).contains(">=1.33.0-0"), "{}", text(&stderr));
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn the_grace_period_is_what_the_drain_takes_and_half_a_minute() {
    for (min_drain, timeout, seconds) in
        [("10s", "60s", 100), ("0s", "1m30s", 120), ("500ms", "500ms", 31), ("1ms", "1h", 3631), ("1m1s", "2m", 211)]
    {
        let (min_drain, timeout) = (format!("drain.minDrain={min_drain}"), format!("drain.timeout={timeout}"));
        let found = of_kind("Deployment", &["--set", &min_drain, "--set", &timeout]);
        assert_eq!(found[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], seconds, "{min_drain}");
    }
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn objects_are_named_after_the_release() {
    for (release, name) in [("sheave", "sheave"), ("my-sheave-2", "my-sheave-2"), ("edge", "edge-sheave")] {
        let found = documents(&said(template(release, &[])));
        let deployment = found.iter().find(|(.., value)| value["kind"] == "Deployment").expect("a Deployment");
        assert_eq!(deployment.2["metadata"]["name"], name);
    }
    let found = of_kind("Deployment", &["--set", "fullnameOverride=x"]);
    assert_eq!(found[0]["metadata"]["name"], "x");
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn a_namespaced_install_sees_only_its_namespaces() {
    let values = ["--values", "tests/chart/namespaced/values.yaml", "--no-hooks"];
    for role in of_kind("ClusterRole", &values) {
        for rule in role["rules"].as_array().expect("rules") {
            let resources = rule["resources"].as_array().expect("resources");
            assert!(resources.iter().all(|r| r.as_str().is_some_and(|r| r.starts_with("websocketclasses"))), "{rule}");
        }
    }
    let mut secrets = BTreeMap::new();
    for role in of_kind("Role", &values) {
        let reads = |rule: &Value| rule["resources"].as_array().is_some_and(|r| r.contains(&"secrets".into()));
        let namespace = role["metadata"]["namespace"].as_str().expect("a namespace").to_owned();
        *secrets.entry(namespace).or_insert(false) |= role["rules"].as_array().expect("rules").iter().any(reads);
    }
    let reads: Vec<_> = secrets.iter().map(|(namespace, reads)| (namespace.as_str(), *reads)).collect();
    assert_eq!(reads, [("chat", true), ("default", false), ("sheave-system", false), ("shop", true)]);
}

/// Every pod of the documents: what runs it, and its spec.
fn pods(documents: Vec<(String, String, Value)>) -> Vec<(String, Value)> {
    let pod = |value: &Value| match value["kind"].as_str() {
        Some("Pod") => Some(value["spec"].clone()),
        Some("Deployment" | "DaemonSet" | "Job") => Some(value["spec"]["template"]["spec"].clone()),
        _ => None,
    };
    let kind = |value: &Value| value["kind"].as_str().unwrap_or_default().to_owned();
    documents.into_iter().filter_map(|(.., value)| Some((kind(&value), pod(&value)?))).collect()
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn every_pod_is_restricted() {
    let found = pods(rendered(&[]));
    assert_eq!(found.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().len(), 3, "Sheave, the Job, the test");
    for (kind, pod) in found {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
        let lists = [&pod["containers"], &pod["initContainers"]];
        for container in lists.into_iter().filter_map(Value::as_array).flatten() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{kind}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{kind}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{kind}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{kind}");
        }
    }
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn only_pods_of_sheave_are_behind_its_services() {
    let documents = rendered(&[]);
    let labels = |value: &Value| match value["kind"].as_str() {
        Some("Pod") => Some(value["metadata"]["labels"].clone()),
        Some("Deployment" | "Job") => Some(value["spec"]["template"]["metadata"]["labels"].clone()),
        _ => None,
    };
    for (.., service) in documents.iter().filter(|(.., value)| value["kind"] == "Service") {
        let selector = service["spec"]["selector"].as_object().expect("a selector");
        let behind = documents.iter().filter(|(.., value)| {
            labels(value).is_some_and(|labels| selector.iter().all(|(key, wanted)| labels[key] == *wanted))
        });
        assert_eq!(behind.count(), 1, "{}", service["metadata"]["name"]);
    }
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn a_new_chart_alone_rolls_no_pod() {
    let pod = of_kind("Deployment", &[])[0]["spec"]["template"].to_string();
    assert!(!pod.contains("helm.sh/chart") && !pod.contains("app.kubernetes.io/version"), "{pod}");
    let class = ["--set", "class.spec.ceilings.maxMessageBytes=1"];
    assert_eq!(of_kind("Deployment", &class)[0]["spec"]["template"].to_string(), pod, "nor does an edit of the class");
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn the_job_writes_the_class_that_the_values_say() {
    let words = ["--set", "class.spec.ceilings.maxMessageBytes=1048576", "--set", "class.default=false"];
    let job = of_kind("Job", &words).remove(0);
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"][0], "apply-class");
    let words = ["sheave", "apply-class", container["args"][1].as_str().expect("a text")];
    let settings = sheave::settings::Settings::parse(words);
    let Ok(sheave::settings::Settings::ApplyClass(class)) = settings else { panic!("not taken: {words:?}") };
    assert_eq!(class["spec"]["ceilings"]["maxMessageBytes"], 1_048_576);
    assert_eq!(class["metadata"]["annotations"]["sheave.dev/is-default-class"], "false");
    assert_eq!(of_kind("WebSocketClass", &[]).len(), 0, "Helm does not know the kind yet");
    assert_eq!(of_kind("WebSocketClass", &["--set", "class.hook=false"]).len(), 1);
    assert_eq!(of_kind("Job", &["--set", "class.create=false"]).len(), 0);
}

/// Whether two documents say the same; 1 is 1.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        (one, other) => one == other,
    }
}

#[test]
#[ignore = "needs helm: make check-chart"]
fn crds_outlive_the_release_unless_told_otherwise() {
    let keep = |crd: &Value| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
    assert!(of_kind("CustomResourceDefinition", &[]).iter().all(keep));
    assert!(!of_kind("CustomResourceDefinition", &["--set", "crds.keep=false"]).iter().any(keep));
    assert_eq!(of_kind("CustomResourceDefinition", &["--set", "crds.enabled=false"]).len(), 0);
    for (file, crd) in sheave::api::crds() {
        let found = of_kind("CustomResourceDefinition", &[]);
        let ours = serde_json::to_value(&crd).expect("JSON");
        let theirs = found.iter().find(|found| found["metadata"]["name"] == ours["metadata"]["name"]).expect(file);
        assert_eq!(theirs["spec"]["names"], ours["spec"]["names"]);
        assert!(same(&theirs["spec"]["versions"], &ours["spec"]["versions"]), "{file} has lost something on its way");
    }
}

#[test]
#[ignore = "needs promtool: make check-chart"]
fn prometheus_takes_the_alerts_and_they_fire_when_they_should() {
    said(promtool(&["check", "rules", "charts/sheave/files/alerts.yaml"]));
    said(promtool(&["test", "rules", "tests/chart/alerts_test.yaml"]));
    let alerts: Value =
        serde_saphyr::from_str(&fs::read_to_string("charts/sheave/files/alerts.yaml").expect("a file")).expect("YAML");
    let tests = fs::read_to_string("tests/chart/alerts_test.yaml").expect("a file");
    for alert in alerts["groups"][0]["rules"].as_array().expect("rules") {
        let name = alert["alert"].as_str().expect("a name");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
        assert!(alert["annotations"]["description"].is_string(), "{name} does not say what to do");
    }
}

/// `manifests/`: the chart without Helm. One file for each template, one folder for the CRDs.
fn manifests() -> BTreeMap<String, String> {
    let words = ["--set", "crds.keep=false,class.hook=false,tests.enabled=false"];
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let head = "# Generated from charts/sheave by `make generate`; do not edit.\n";
    for (source, document, value) in rendered(&words) {
        let helms = |line: &&str| !["# Source:", "managed-by: Helm", "helm.sh/"].iter().any(|mark| line.contains(mark));
        let lines: Vec<&str> = document.lines().filter(helms).collect();
        let crd = value["kind"] == "CustomResourceDefinition";
        let name = value["metadata"]["name"].as_str().expect("a name");
        let file = if crd { format!("crds/{}.yaml", name.split('.').next().unwrap_or(name)) } else { source };
        let file = files.entry(file).or_insert_with(|| head.to_owned());
        file.extend(["---\n", &lines.join("\n"), "\n"]);
    }
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: sheave-system\n  labels:\n    \
                     app.kubernetes.io/name: sheave\n    pod-security.kubernetes.io/enforce: restricted\n";
    files.insert("namespace.yaml".to_owned(), format!("{head}{namespace}"));
    for folder in ["crds/", ""] {
        let here = files.keys().filter(|file| match file.strip_prefix("crds/") {
            Some(_) => folder == "crds/",
            None => folder.is_empty(),
        });
        let mut resources: Vec<String> = here.map(|file| file.trim_start_matches("crds/").to_owned()).collect();
        if folder.is_empty() {
            resources.insert(0, "crds".to_owned());
        }
        let list = resources.iter().fold(String::new(), |all, resource| all + "- " + resource + "\n");
        let kind = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n";
        files.insert(format!("{folder}kustomization.yaml"), format!("{head}{kind}{list}"));
    }
    files
}

#[test]
#[ignore = "needs helm and kubectl: make check-chart"]
fn manifests_are_the_chart_and_kustomize_takes_them() {
    let mut wrong = Vec::new();
    let files = manifests();
    for (file, now) in &files {
        golden(&Path::new("manifests").join(file), now, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for folder in ["manifests", "manifests/crds"] {
        for entry in fs::read_dir(folder).expect("a folder").flatten().filter(|entry| entry.path().is_file()) {
            let file = entry.path().strip_prefix("manifests").expect("below").to_string_lossy().into_owned();
            assert!(files.contains_key(&file), "manifests/{file} is not of the chart: delete it");
        }
    }
    let built = said(run("kubectl", "install kubectl", &["kustomize", "manifests"]));
    for kind in ["CustomResourceDefinition", "Deployment", "Service", "WebSocketClass", "ClusterRole", "Namespace"] {
        assert!(built.contains(&format!("\nkind: {kind}\n")), "{kind} is missing");
    }
    assert!(!built.contains("helm"), "traces of Helm");
}
