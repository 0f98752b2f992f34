//! What schemas do not say: values that are one of a few, ports that are the configuration's, paths that exist, selectors that
//! meet something, a configuration that Holdline accepts. Each complaint is shown to be possible.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use toml::Table;

use super::manifests::{Rendered, rendered};
use super::rules::list;
use super::tools::{installed, output, read, said};
use crate::support::binary;
use crate::transport::certificates::Authority;

/// (the field's parent, the field, what it may be). Kubernetes' schemas take any string in most of them.
const ENUMS: &[(&str, &str, &[&str])] = &[
    ("", "imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("", "restartPolicy", &["Always"]),
    ("", "protocol", &["UDP", "TCP"]),
    ("", "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default"]),
    ("", "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]),
    ("", "fsGroupChangePolicy", &["OnRootMismatch", "Always"]),
    ("", "externalTrafficPolicy", &["Local", "Cluster"]),
    ("", "sessionAffinity", &["None", "ClientIP"]),
    ("", "unhealthyPodEvictionPolicy", &["IfHealthyBudget", "AlwaysAllow"]),
    ("", "policyTypes", &["Ingress", "Egress"]),
    ("", "accessModes", &["ReadWriteOnce", "ReadWriteOncePod"]),
    ("", "drop", &["ALL"]),
    ("", "add", &[]),
    ("seccompProfile", "type", &["RuntimeDefault"]),
    ("updateStrategy", "type", &["RollingUpdate", "OnDelete"]),
    ("strategy", "type", &["RollingUpdate", "Recreate"]),
    ("hostPath", "type", &["Directory"]),
    ("spec", "type", &["ClusterIP", "LoadBalancer", "NodePort"]),
];

type Port = (String, u64);

/// Everything that is wrong with what a kustomization renders to.
pub(super) fn complaints(resources: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for resource in resources {
        enums("", resource, &mut found);
    }
    let pods: Vec<&Value> = resources.iter().map(|one| &one["spec"]["template"]).filter(|pod| !pod.is_null()).collect();
    for resource in resources {
        let spec = &resource["spec"];
        let own = matches!(resource["kind"].as_str(), Some("StatefulSet" | "DaemonSet" | "Deployment"));
        let candidates = if own { vec![&spec["template"]] } else { pods.clone() };
        let selector = match resource["kind"].as_str() {
            Some("Service") => &spec["selector"],
            Some("NetworkPolicy") => &spec["podSelector"]["matchLabels"],
            Some("PodDisruptionBudget" | "PodMonitor" | "StatefulSet" | "DaemonSet" | "Deployment") => {
                &spec["selector"]["matchLabels"]
            }
            _ => continue,
        };
        let meets = |pod: &&&Value| {
            let labels = &pod["metadata"]["labels"];
            selector.as_object().is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(k, v)| labels[k] == *v))
        };
        let Some(pod) = candidates.iter().find(meets) else {
            found.push(format!("{}: its selector {selector} meets no pod", resource["kind"]));
            continue;
        };
        let ports: BTreeSet<Port> = containers(pod).flat_map(declared).collect();
        match resource["kind"].as_str() {
            Some("Service") => service(resource, &ports, &mut found),
            Some("NetworkPolicy") => network_policy(resource, &ports, &mut found),
            Some("PodMonitor") => {
                for endpoint in list(&spec["podMetricsEndpoints"]) {
                    let port = ("TCP".to_owned(), endpoint["portNumber"].as_u64().unwrap_or(0));
                    if !ports.contains(&port) || endpoint["path"] != "/metrics" {
                        found.push(format!("PodMonitor: nothing to scrape at {endpoint}"));
                    }
                }
            }
            _ => {}
        }
    }
    for resource in resources.iter().filter(|one| !one["spec"]["template"].is_null()) {
        pod(resource, resources, &mut found);
    }
    found
}

fn enums(parent: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let rule =
                    ENUMS.iter().find(|(above, field, _)| field == name && (above.is_empty() || *above == parent));
                let texts = inner.as_str().into_iter().chain(list(inner).iter().filter_map(Value::as_str));
                if let Some((_, _, allowed)) = rule {
                    found.extend(texts.filter(|text| !allowed.contains(text)).map(|text| format!("{name}: {text}")));
                }
                if name == "subPath" || name == "subPathExpr" {
                    found.push(format!("{name}: a file mounted so never changes again"));
                }
                enums(name, inner, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| enums(parent, item, found)),
        _ => {}
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"]["initContainers"]).iter().chain(list(&pod["spec"]["containers"]))
}

fn declared(container: &Value) -> Vec<Port> {
    let port = |port: &Value| {
        (port["protocol"].as_str().unwrap_or("TCP").to_owned(), port["containerPort"].as_u64().unwrap_or_default())
    };
    list(&container["ports"]).iter().map(port).collect()
}

fn service(service: &Value, ports: &BTreeSet<Port>, found: &mut Vec<String>) {
    let spec = &service["spec"];
    for port in list(&spec["ports"]) {
        let target = (port["protocol"].as_str().unwrap_or("TCP").to_owned(), port["targetPort"].as_u64().unwrap_or(0));
        if !ports.contains(&target) {
            found.push(format!("Service: {} leads to no container port (numbers, please)", port["targetPort"]));
        }
    }
    if spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] != "Local" {
        found.push("Service: without externalTrafficPolicy: Local phones lose their addresses".to_owned());
    }
}

fn network_policy(policy: &Value, ports: &BTreeSet<Port>, found: &mut Vec<String>) {
    let opened: BTreeSet<Port> = list(&policy["spec"]["ingress"])
        .iter()
        .flat_map(|rule| list(&rule["ports"]))
        .map(|port| (port["protocol"].as_str().unwrap_or("TCP").to_owned(), port["port"].as_u64().unwrap_or(0)))
        .collect();
    if opened != *ports {
        found.push(format!("NetworkPolicy: lets in to {opened:?}, the pod listens on {ports:?}"));
    }
}

/// A Holdline container and what surrounds it.
fn pod(workload: &Value, resources: &[Value], found: &mut Vec<String>) {
    let spec = &workload["spec"]["template"]["spec"];
    let claims = list(&workload["spec"]["volumeClaimTemplates"]).iter().map(|claim| &claim["metadata"]["name"]);
    let volumes: Vec<&Value> = list(&spec["volumes"]).iter().map(|volume| &volume["name"]).chain(claims).collect();
    for container in containers(&workload["spec"]["template"]) {
        let mounts = list(&container["volumeMounts"]);
        for mount in mounts {
            if !volumes.contains(&&mount["name"]) {
                found.push(format!("{}: no volume {}", container["name"], mount["name"]));
            }
            let path = |mount: &Value| format!("{}/", mount["mountPath"].as_str().unwrap_or_default());
            if mounts.iter().any(|other| other != mount && path(mount).starts_with(&path(other))) {
                found.push(format!("{}: {} lies in another mount", container["name"], mount["mountPath"]));
            }
        }
    }
    if spec["hostNetwork"] == true {
        if spec["dnsPolicy"] != "ClusterFirstWithHostNet" {
            found.push("host network without dnsPolicy: ClusterFirstWithHostNet".to_owned());
        }
        let enforced = |one: &&Value| one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged";
        if !resources.iter().filter(|one| one["kind"] == "Namespace").any(|one| enforced(&one)) {
            found.push("host network in a namespace that forbids it".to_owned());
        }
    }
    let Some(holdline) = containers(&workload["spec"]["template"]).find(|container| container["name"] == "holdline")
    else {
        return found.push("no Holdline in it".to_owned());
    };
    let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
    if holdline["restartPolicy"] == "Always" && list(&spec["initContainers"]).first() != Some(holdline) {
        found.push("the sidecar is not the first of the init containers".to_owned());
    }
    if list(&spec["initContainers"]).contains(holdline) && holdline["restartPolicy"] != "Always" {
        found.push("an init container that never ends".to_owned());
    }
    let Some(config) = Config::of(holdline, spec, resources) else {
        return found.push("no configuration".to_owned());
    };
    config.compare(holdline, spec, grace, found);
}

/// What the container will run with.
struct Config {
    table: Table,
    env: BTreeMap<String, String>,
}

impl Config {
    fn of(container: &Value, spec: &Value, resources: &[Value]) -> Option<Config> {
        let (_, text) = config_file(container, spec, resources)?;
        let env = list(&container["env"]).iter().filter_map(|one| {
            Some((one["name"].as_str()?.to_owned(), one["value"].as_str().unwrap_or("127.0.0.1").to_owned()))
        });
        Some(Config { table: text.parse().ok()?, env: env.collect() })
    }

    /// A setting's values: variables are stronger than the file.
    fn get(&self, key: &str) -> Vec<String> {
        if let Some(value) = self.env.get(&format!("HOLDLINE_{}", key.to_uppercase())) {
            // No value here has a comma of its own but those of `advertise`, which this comparison does not need.
            return value.split(',').map(str::to_owned).collect();
        }
        match self.table.get(key) {
            Some(toml::Value::Array(values)) => {
                values.iter().filter_map(|value| value.as_str()).map(str::to_owned).collect()
            }
            Some(value) => vec![value.as_str().map_or_else(|| value.to_string(), str::to_owned)],
            None => Vec::new(),
        }
    }

    fn compare(&self, container: &Value, spec: &Value, grace: u64, found: &mut Vec<String>) {
        let port = |address: &str| -> u64 {
            let address = address.split(',').next().unwrap_or_default();
            address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
        };
        let mut expected = BTreeSet::new();
        for listen in self.get("listen").iter().filter(|listen| !listen.starts_with("advertise=")) {
            let protocol = if listen.starts_with("udp:") { "UDP" } else { "TCP" };
            let inside = listen.split(':').nth(1) == Some("127.0.0.1");
            if !inside {
                expected.insert((protocol.to_owned(), port(listen)));
            }
            if inside && (5000..6000).contains(&port(listen)) {
                found.push(format!("{listen}: an application's own port"));
            }
        }
        for address in self.get("upstream_bind") {
            let transports = if self.get("srv").concat().contains("tls") { &["TCP"][..] } else { &["UDP", "TCP"] };
            expected.extend(transports.iter().map(|protocol| ((*protocol).to_owned(), port(&address))));
        }
        let admin = self.get("admin").first().map_or(0, |admin| port(admin));
        expected.insert(("TCP".to_owned(), admin));
        let declared: BTreeSet<Port> = declared(container).into_iter().collect();
        if declared != expected {
            found.push(format!("the container declares {declared:?}, the configuration binds {expected:?}"));
        }
        if list(&container["ports"]).iter().any(|port| !port["name"].is_null()) {
            found.push("named ports: a Service cannot use a sidecar's before Kubernetes 1.32".to_owned());
        }
        for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let get = &container[probe]["httpGet"];
            if get["path"] != path || get["port"].as_u64() != Some(admin) {
                found.push(format!("{probe}: {get} is not {path} on the admin port {admin}"));
            }
        }
        let drain = self.get("drain_timeout").concat().trim_end_matches('s').parse::<u64>().unwrap_or(25);
        // A sidecar is told last: what the application takes for itself comes first.
        let before = if container["restartPolicy"] == "Always" { 20 } else { 5 };
        if grace < drain + before {
            found.push(format!("terminationGracePeriodSeconds {grace} is too short for drain_timeout {drain}"));
        }
        let most = self.get("limit_connections").concat().parse().unwrap_or(16_384);
        let limit =
            container["resources"]["limits"]["memory"].as_str().and_then(|text| text.strip_suffix("Mi")?.parse().ok());
        if limit.unwrap_or(0) << 20 < memory(most) {
            found.push(format!("{most} TLS connections need more memory than {limit:?} Mi: limit_connections"));
        }
        let user = |field: &str| {
            let own = &container["securityContext"][field];
            if own.is_null() { spec["securityContext"][field].clone() } else { own.clone() }
        };
        if user("runAsUser") != 65532 || user("runAsNonRoot") != true {
            found.push("it does not run as the image's user".to_owned());
        }
    }
}

/// Bytes that a full instance takes: 10,000 UDP handsets, and so many TLS connections; figures of `docs/performance.md`.
fn memory(connections: u64) -> u64 {
    let page = read("docs/performance.md");
    let figure = |name: &str| -> u64 {
        let row = page.lines().find(|line| line.contains(&format!(" MB | `{name}` |"))).expect("a figure");
        row.trim_start_matches("| ").split(' ').next().unwrap().parse().unwrap()
    };
    // What is measured for a thousand, by the thousand: megabytes become kilobytes.
    figure("memory-udp") * 1_000_000 + figure("memory-tls") * 1_000 * connections
}

/// The file that `--config` names: its mount path and text.
fn config_file(container: &Value, spec: &Value, resources: &[Value]) -> Option<(String, String)> {
    let argument = list(&container["args"]).iter().find_map(|one| one.as_str()?.strip_prefix("--config="))?;
    let (folder, file) = argument.rsplit_once('/')?;
    let mount = list(&container["volumeMounts"]).iter().find(|mount| mount["mountPath"] == folder)?;
    let volume = list(&spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"])?;
    let name = &volume["configMap"]["name"];
    let map = resources.iter().find(|one| one["kind"] == "ConfigMap" && one["metadata"]["name"] == *name)?;
    Some((folder.to_owned(), map["data"][file].as_str()?.to_owned()))
}

fn holdlines(one: &Rendered) -> impl Iterator<Item = (&Value, &Value)> {
    let pods = one.resources.iter().map(|resource| &resource["spec"]["template"]).filter(|pod| !pod.is_null());
    pods.flat_map(|pod| containers(pod).filter(|c| c["name"] == "holdline").map(move |c| (c, &pod["spec"])))
}

#[test]
fn nothing_is_wrong_that_schemas_miss() {
    if installed("deploy::semantics::nothing_is_wrong_that_schemas_miss", &["kubectl", "yamllint"]) {
        for one in rendered() {
            assert_eq!(complaints(&one.resources), Vec::<String>::new(), "{}", one.name);
            assert_eq!(holdlines(one).count(), 1, "{}", one.name);
        }
    }
}

/// (kustomization, what is replaced in its JSON, by what, a part of the complaint)
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("examples/sidecar", r#""restartPolicy":"Always""#, r#""restartPolicy":"always""#, "restartPolicy: always"),
    ("examples/sidecar", r#""restartPolicy":"Always","#, "", "never ends"),
    ("examples/sidecar", "udp:127.0.0.1:15060", "udp:127.0.0.1:5060", "an application's own port"),
    ("examples/sidecar", r#"drain_timeout = \"5s\""#, r#"drain_timeout = \"25s\""#, "too short"),
    ("base", r#""containerPort":5060"#, r#""containerPort":5061"#, "the configuration binds"),
    ("base", r#""containerPort":9460"#, r#""containerPort":9460,"name":"admin""#, "named ports"),
    ("base", r#""targetPort":5060"#, r#""targetPort":"sip""#, "leads to no container port"),
    ("base", r#""path":"/readyz""#, r#""path":"/healthz""#, "readinessProbe"),
    (
        "base",
        r#""startupProbe":{"failureThreshold":60,"httpGet":{"path":"/livez""#,
        r#""startupProbe":{"failureThreshold":60,"httpGet":{"path":"/readyz""#,
        "startupProbe",
    ),
    ("base", r#""terminationGracePeriodSeconds":40"#, r#""terminationGracePeriodSeconds":25"#, "too short"),
    ("base", r#""readOnly":true"#, r#""readOnly":true,"subPath":"key""#, "subPath"),
    (
        "base",
        r#""mountPath":"/etc/holdline/contact""#,
        r#""mountPath":"/etc/holdline/config/contact""#,
        "another mount",
    ),
    ("base", r#""runAsUser":65532"#, r#""runAsUser":0"#, "the image's user"),
    (
        "base",
        r#""podSelector":{"matchLabels":{"app.kubernetes.io/name":"holdline""#,
        r#""podSelector":{"matchLabels":{"app.kubernetes.io/name":"holdlin""#,
        "meets no pod",
    ),
    ("base", r#""protocol":"UDP""#, r#""protocol":"udp""#, "protocol: udp"),
    ("base", r#""name":"state"}]"#, r#""name":"stat"}]"#, "no volume"),
    (
        "overlays/loadbalancer",
        r#""externalTrafficPolicy":"Local""#,
        r#""externalTrafficPolicy":"Cluster""#,
        "lose their addresses",
    ),
    ("base", "limit_connections = 4096", "limit_connections = 8192", "TLS connections need more memory"),
    (
        "overlays/hostnetwork-daemonset",
        r#""type":"Directory""#,
        r#""type":"DirectoryOrCreate""#,
        "type: DirectoryOrCreate",
    ),
    ("overlays/hostnetwork-daemonset", "ClusterFirstWithHostNet", "ClusterFirst", "dnsPolicy"),
    ("overlays/hostnetwork-daemonset", r#"enforce":"privileged""#, r#"enforce":"restricted""#, "forbids it"),
    ("examples/monitoring", r#""portNumber":9460"#, r#""portNumber":9090"#, "nothing to scrape"),
];

#[test]
fn each_mistake_is_found() {
    if !installed("deploy::semantics::each_mistake_is_found", &["kubectl", "yamllint"]) {
        return;
    }
    for (name, right, wrong, complaint) in MISTAKES {
        let one = rendered().iter().find(|one| one.name == *name).unwrap();
        let text = serde_json::to_string(&one.resources).unwrap();
        assert!(text.contains(right), "{name} has no {right}: {text}");
        let resources: Vec<Value> = serde_json::from_str(&text.replace(right, wrong)).unwrap();
        let found = complaints(&resources);
        assert!(found.iter().any(|one| one.contains(complaint)), "{name}, {wrong}: {found:#?}");
    }
}

#[test]
fn the_probes_paths_and_the_port_exist_in_the_admin_listener() {
    let routes = read("src/admin/routes.rs");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert!(routes.contains(&format!(".route(\"{path}\"")), "{path}");
    }
}

/// The real file, with its mounts somewhere else, shown to the real program.
#[test]
fn holdline_accepts_every_configuration() {
    if !installed("deploy::semantics::holdline_accepts_every_configuration", &["kubectl", "yamllint"]) {
        return;
    }
    for one in rendered() {
        for (container, spec) in holdlines(one) {
            let said = check(container, spec, &one.resources, |text| text)
                .unwrap_or_else(|said| panic!("{}: {said}", one.name));
            assert!(said.contains("_sip._udp.pbx.example.com") && !said.contains("WARN"), "{}: {said}", one.name);
            let typo = check(container, spec, &one.resources, |text| text.replace("upstream_bind", "upstream_bnd"));
            assert!(typo.unwrap_err().contains("upstream_bnd"), "{}", one.name);
        }
    }
}

fn check(
    container: &Value,
    spec: &Value,
    resources: &[Value],
    change: impl Fn(String) -> String,
) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("phones' authority");
    let pair = authority.sign("phones", &["phones.example.com"]);
    let moved = |text: &str| {
        let mut text = text.to_owned();
        for mount in list(&container["volumeMounts"]).iter().filter_map(|mount| mount["mountPath"].as_str()) {
            text = text.replace(mount, &format!("{}{mount}", folder.path().display()));
        }
        text
    };
    for mount in list(&container["volumeMounts"]) {
        let place = folder.path().join(mount["mountPath"].as_str().unwrap().trim_start_matches('/'));
        std::fs::create_dir_all(&place).unwrap();
        let volume = list(&spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
        let secret = volume.and_then(|volume| volume["secret"]["secretName"].as_str());
        match secret {
            Some("holdline-contact-key") => write(&place.join("key"), &"0123456789abcdef".repeat(4)),
            Some("holdline-tls") => {
                std::fs::copy(&pair.cert, place.join("tls.crt")).unwrap();
                std::fs::copy(&pair.key, place.join("tls.key")).unwrap();
            }
            Some(other) => panic!("what is in {other}?"),
            None => {}
        }
    }
    let (at, text) = config_file(container, spec, resources).unwrap();
    write(&Path::new(&moved(&at)).join("holdline.toml"), &change(moved(&text)));
    let mut command = binary::holdline(list(&container["args"]).iter().map(|one| moved(one.as_str().unwrap())));
    command.arg("--check");
    for one in list(&container["env"]).iter().filter(|one| one["value"].is_string()) {
        command.env(
            one["name"].as_str().unwrap(),
            moved(one["value"].as_str().unwrap()).replace("$(NODE_ADDRESS)", "127.0.0.1"),
        );
    }
    let ran = output(&mut command);
    if ran.status.success() { Ok(said(&ran)) } else { Err(said(&ran)) }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
