//! What has bitten others in Kubernetes (`docs/pitfalls.md`). Where a cluster would be needed to see it bite, the manifests are read
//! ([`semantics`](super::semantics) says what is wrong with them); what the program does about it is seen on it.

use std::time::{Duration, Instant};

use holdline::agents::dns::{self, Srv};
use holdline::agents::phone::{Options, Phone};
use holdline::agents::registrar::{self, Registrar};
use holdline::flow::Transport;
use serde_json::Value;

use super::manifests::{Rendered, rendered};
use super::rules::list;
use super::tools::{installed, read};
use crate::loopback::process::Holdline;
use crate::loopback::stage::{Setup, registered};

/// What the manifests render to, where they can be rendered.
fn manifests(test: &str) -> &'static [Rendered] {
    if installed(&format!("deploy::pitfalls::{test}"), &["kubectl", "yamllint"]) { rendered() } else { &[] }
}

/// Every value of a field, however deep.
fn all<'a>(value: &'a Value, field: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| {
            if name == field {
                found.push(inner);
            }
            all(inner, field, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| all(item, field, found)),
        _ => {}
    }
}

fn values<'a>(one: &'a Rendered, field: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    one.resources.iter().for_each(|resource| all(resource, field, &mut found));
    found
}

/// Readiness tied to the PBX would take the phones' only proxy away.
#[tokio::test]
async fn a_dead_pbx_leaves_holdline_ready() {
    let mut stage = Setup::new().with(&["--retry=false", "--exhausted=503"]).start().await;
    for server in &mut stage.servers {
        server.kill().await;
    }
    let phone = stage.phone("100");
    for _ in 0..6 {
        assert!(!phone.register().await.is_registered());
    }
    stage.holdline.until("all_targets_failed", 1).await;
    assert_eq!(stage.holdline.get("/readyz").await.0, 200);
    assert_eq!(stage.holdline.get("/livez").await.0, 200);
    for one in manifests("a_dead_pbx_leaves_holdline_ready") {
        let probes = values(one, "readinessProbe");
        assert!(!probes.is_empty() && probes.iter().all(|probe| probe["httpGet"]["path"] == "/readyz"), "{}", one.name);
    }
}

/// A Service cannot use a sidecar's named port before Kubernetes 1.32.
#[test]
fn ports_are_numbers() {
    for one in manifests("ports_are_numbers") {
        let named = |port: &&&Value| port.is_string();
        for field in ["targetPort", "port", "portNumber", "containerPort"] {
            let names: Vec<_> = values(one, field).into_iter().filter(|port| named(&port)).collect();
            assert!(names.is_empty(), "{}: {field} {names:?}", one.name);
        }
        let container_ports =
            values(one, "ports").into_iter().flat_map(list).filter(|port| !port["containerPort"].is_null());
        assert!(container_ports.into_iter().all(|port| port["name"].is_null()), "{}", one.name);
    }
}

/// kube-proxy hides the phones' addresses, unless told otherwise or not passed at all.
#[test]
fn phones_keep_their_addresses() {
    for one in manifests("phones_keep_their_addresses") {
        match one.name.as_str() {
            "overlays/loadbalancer" => assert_eq!(values(one, "externalTrafficPolicy"), ["Local"]),
            "overlays/hostnetwork-daemonset" => {
                assert_eq!(values(one, "hostNetwork"), [true]);
                assert!(one.resources.iter().all(|resource| resource["kind"] != "Service"));
            }
            _ => assert!(!values(one, "type").contains(&&"LoadBalancer".into()), "{}", one.name),
        }
    }
}

/// A sidecar gets SIGTERM last: with what its configuration says it is gone in seconds, whatever is in flight.
#[tokio::test]
async fn a_sidecar_leaves_from_what_is_left_of_the_grace_period() {
    let config: toml::Table = read("deploy/kustomize/components/sidecar/holdline.toml").parse().unwrap();
    let drain = config["drain_timeout"].as_str().unwrap();
    assert_eq!(drain, "5s");
    let mut stage = Setup::new().with(&[&format!("--drain-timeout={drain}")]).start().await;
    stage.servers[0].behave("silent").await;
    let phone = stage.phone("100");
    tokio::spawn(async move { phone.register().await });
    stage.servers[0].wait_for("REGISTER", 1).await;
    let told = Instant::now();
    stage.holdline.signal("TERM").await;
    assert_eq!(stage.holdline.ended().await.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    for one in manifests("a_sidecar_leaves_from_what_is_left_of_the_grace_period") {
        for grace in values(one, "terminationGracePeriodSeconds") {
            assert!(grace.as_u64() >= Some(30), "{}: {grace}", one.name);
        }
    }
}

/// A file mounted by subPath is never renewed. `rotation` shows that what is mounted here is.
#[test]
fn nothing_is_mounted_by_sub_path() {
    for one in manifests("nothing_is_mounted_by_sub_path") {
        assert!(values(one, "subPath").is_empty() && values(one, "subPathExpr").is_empty(), "{}", one.name);
        assert!(!values(one, "volumeMounts").is_empty(), "{}", one.name);
    }
}

/// No DNS, no pod: what a startup probe on readiness would do to a native sidecar's neighbours.
#[tokio::test]
async fn a_start_without_dns_passes_the_startup_probe() {
    // Nobody answers there.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let nameserver = format!("--nameserver={}", silent.local_addr().unwrap());
    let holdline = Holdline::start(&["--srv=_sip._udp.pbx.example".to_owned(), nameserver]).await;
    holdline.until_page("/livez", 200).await;
    assert_eq!(holdline.get("/readyz").await.0, 503);
    for one in manifests("a_start_without_dns_passes_the_startup_probe") {
        let probes = values(one, "startupProbe");
        assert!(!probes.is_empty() && probes.iter().all(|probe| probe["httpGet"]["path"] == "/livez"), "{}", one.name);
    }
}

/// A pod's address in the phone-facing Record-Route loses ACK and BYE after 32 s.
#[tokio::test]
async fn the_load_balancers_name_is_in_the_record_route_not_the_pods() {
    for one in manifests("the_load_balancers_name_is_in_the_record_route_not_the_pods") {
        if one.name == "overlays/loadbalancer" {
            let text = values(one, "holdline.toml")[0].as_str().unwrap();
            let config: toml::Table = text.parse().unwrap();
            let listen = config["listen"].as_array().unwrap();
            assert!(listen.iter().all(|one| one.as_str().unwrap().contains(",advertise=")), "{listen:?}");
            // And the PBX calls handsets at an address and a port that lead here.
            assert!(config["upstream_bind"].as_str().unwrap().contains(",advertise="), "{config:?}");
            let service = one.resources.iter().find(|resource| resource["kind"] == "Service").unwrap();
            let open = |protocol: &str| {
                let mut ports = list(&service["spec"]["ports"]).iter();
                ports.any(|port| port["port"] == 5080 && port["protocol"] == protocol)
            };
            assert!(open("UDP") && open("TCP"), "{service:#}");
        }
    }
    let registrar = Registrar::start(registrar::Options::named("a")).unwrap();
    let dns = dns::Server::start().await.unwrap();
    dns.set_loopback("a.pbx.example", 3600);
    let port = registrar.addr(Transport::Udp).port();
    dns.set_srv("_sip._udp.pbx.example", 3600, &[Srv::new(10, 0, port, "a.pbx.example")]);
    let arguments = [
        "--srv=_sip._udp.pbx.example".to_owned(),
        format!("--nameserver={}", dns.addr()),
        "--listen=udp:127.0.0.1:0,advertise=phones.example.com".to_owned(),
    ];
    let holdline = Holdline::start(&arguments).await;
    holdline.until_page("/readyz", 200).await;
    let pod = holdline.socket("phone", Transport::Udp);
    let phone = Phone::start(Options::new("100", pod)).unwrap();
    registered(phone.register().await);
    phone.request("INVITE", "sip:101@pbx.example", &[], b"").await;
    let routes: Vec<String> = registrar.read(|record| {
        let invite = record.requests("INVITE").next().expect("the INVITE arrived");
        invite.message.list("Record-Route").into_iter().map(str::to_owned).collect()
    });
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(routes.iter().any(|route| route.starts_with("<sip:phones.example.com:")), "{routes:?}");
    assert!(!routes.iter().any(|route| route.contains(&pod.to_string())), "{routes:?}");
}

/// Nothing runs as root, not even to prepare a directory.
#[test]
fn no_container_runs_as_root_or_gains_a_capability() {
    for one in manifests("no_container_runs_as_root_or_gains_a_capability") {
        let users = values(one, "runAsUser");
        assert!(!users.is_empty() && users.iter().all(|user| user.as_u64() > Some(0)), "{}: {users:?}", one.name);
        assert!(values(one, "runAsNonRoot").iter().all(|must| **must == true), "{}", one.name);
        assert!(values(one, "add").is_empty(), "{}", one.name);
    }
}

/// Host network is privileged, and the namespace says so, with the reason; everything else is restricted.
#[test]
fn only_host_network_has_a_privileged_namespace() {
    for one in manifests("only_host_network_has_a_privileged_namespace") {
        let level = values(one, "pod-security.kubernetes.io/enforce");
        let expected: &[&str] = match one.name.as_str() {
            "overlays/hostnetwork-daemonset" | "examples/monitoring" => &["privileged"],
            "examples/sidecar" => &[],
            _ => &["restricted"],
        };
        assert_eq!(level, expected, "{}", one.name);
    }
    let source = read("deploy/kustomize/overlays/hostnetwork-daemonset/namespace.yaml");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let label = lines.iter().position(|line| line.ends_with("enforce: privileged")).unwrap();
    assert!(lines[label - 1].starts_with('#') && source.contains("hostPath"), "the reason stands before it");
}
