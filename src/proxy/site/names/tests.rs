//! By name, by address, with and without port.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Names, Popped};
use crate::flow::{HostPort, Side};
use crate::message::{Edit, Message};
use crate::proxy::marks::{IdParts, Key};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn named(host: &str, port: Option<u16>) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

fn key() -> Key {
    Key::new([9; 32])
}

/// Listens on every address at 5060 and, as `sip.site.example:5070`, at 192.168.1.5:5065; upstream at 5080.
fn names() -> Names {
    let mut names = Names::new();
    names.add_socket(Side::Phone, address("0.0.0.0:5060"), None);
    names.add_socket(Side::Phone, address("192.168.1.5:5065"), Some(&named("Sip.Site.example", Some(5070))));
    names.add_socket(Side::Phone, address("[2001:db8::5]:5060"), None);
    names.add_socket(Side::Upstream, address("0.0.0.0:5080"), Some(&named("203.0.113.5", None)));
    names.add_alias("holdline.local.");
    names.set_domain("pbx.example.com", true);
    names
}

const LOCAL: &str = "192.168.1.5:5060";

#[test]
fn every_spelling_of_us_and_none_of_others() {
    let names = names();
    let local = Some(address(LOCAL));
    let ours = |host: &str, port| names.is_ours(Side::Phone, host.as_bytes(), port, local);
    for (host, port) in [
        ("holdline.local", None),
        ("HoldLine.Local.", Some(5060)),
        ("holdline.local", Some(5065)),
        ("sip.site.example", None),
        ("sip.site.example", Some(5070)),
        ("192.168.1.5", None),
        ("192.168.1.5", Some(5060)),
        ("192.168.1.5", Some(5065)),
        ("[2001:DB8:0::5]", Some(5060)),
        ("::ffff:192.168.1.5", None),
    ] {
        assert!(ours(host, port), "{host} {port:?}");
    }
    for (host, port) in [
        ("pbx.example.com", None),
        ("holdline.local", Some(5080)),
        ("sip.site.example", Some(5060)),
        ("192.168.1.5", Some(5080)),
        ("192.168.1.6", None),
        ("203.0.113.5", None),
        ("", None),
    ] {
        assert!(!ours(host, port), "{host} {port:?}");
    }
    assert!(names.is_ours(Side::Upstream, b"203.0.113.5", Some(5080), None));
    assert!(names.is_ours(Side::Upstream, b"192.0.2.77", None, Some(address("192.0.2.77:5080"))));
    assert!(!names.is_ours(Side::Phone, b"192.168.1.9", Some(5060), None), "a wildcard alone says nothing");
}

fn request(uri: &str, headers: &str) -> Message {
    let text = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n{headers}\
         From: \"A\" <sip:1001@192.168.1.5>;tag=1\r\nTo: sip:1002@192.168.1.5:5060\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
    );
    Message::scan(Bytes::from(text)).expect("a message")
}

fn popped(headers: &str) -> (Popped, String) {
    let msg = request("sip:1002@pbx.example.com", headers);
    let mut edit = Edit::new(&msg);
    let popped =
        names().pop_routes(&msg, &mut edit, &key(), Some(address(LOCAL)), |uri| *uri == *b"sip:edge.example.com;lr");
    let out = String::from_utf8(edit.finish().to_vec()).expect("UTF-8");
    let routes = out.lines().filter(|line| line.starts_with("Route")).collect::<Vec<_>>().join("|");
    (popped, routes)
}

#[test]
fn preloaded_routes_to_us_are_popped_by_name_by_address_with_and_without_port() {
    for route in [
        "<sip:holdline.local;lr>",
        "<sip:HOLDLINE.local:5060;lr>",
        "<sip:192.168.1.5;lr>",
        "<sip:192.168.1.5:5060;lr>",
        "<sip:192.168.1.5:5060;transport=udp;lr>",
        "<sips:sip.site.example:5070;lr>",
        "\"proxy\" <sip:1001@192.168.1.5:5060;lr>",
        "sip:192.168.1.5;lr",
    ] {
        let (popped, routes) = popped(&format!("Route: {route}\r\n"));
        assert_eq!((popped.ours, popped.foreign, popped.forged), (1, false, false), "{route}");
        assert_eq!(routes, "");
    }
}

#[test]
fn routes_below_ours_stay() {
    let both = "Route: <sip:holdline.local;lr>,<sip:192.168.1.5;lr>, <sip:edge.pbx.example.com;lr>\r\nRoute: <sip:192.168.1.5;lr>\r\n";
    let (popped, routes) = popped(both);
    assert_eq!(popped, Popped { ours: 2, ..Popped::default() });
    assert_eq!(routes, "Route: <sip:edge.pbx.example.com;lr>|Route: <sip:192.168.1.5;lr>");
}

#[test]
fn a_lone_foreign_route_goes_only_outside_a_dialog() {
    assert_eq!(
        popped("Route: <sip:old-proxy.example;lr>\r\n"),
        (Popped { foreign: true, ..Popped::default() }, String::new())
    );
    let (kept, routes) = popped("Route: <sip:a.example;lr>, <sip:b.example;lr>\r\n");
    assert_eq!((kept, routes.as_str()), (Popped::default(), "Route: <sip:a.example;lr>, <sip:b.example;lr>"));
    let bye =
        "BYE sip:x@h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nRoute: <sip:edge.example;lr>\r\nTo: <sip:a@h>;tag=9\r\n\r\n";
    let msg = Message::scan(Bytes::from(bye)).expect("a message");
    let mut edit = Edit::new(&msg);
    assert_eq!(names().pop_routes(&msg, &mut edit, &key(), None, |_| false), Popped::default());
    assert_eq!(edit.finish(), msg.bytes());
    assert_eq!(popped(""), (Popped::default(), String::new()));
}

#[test]
fn a_lone_route_that_the_pbx_handed_out_or_that_names_its_domain_stays() {
    for route in
        ["Route: <sip:edge.example.com;lr>", "Route: <sip:PBX.example.com:5061;lr>", "Route: sip:pbx.example.com"]
    {
        assert_eq!(popped(&format!("{route}\r\n")), (Popped::default(), route.to_owned()));
    }
    let (gone, _) = popped("Route: <sip:edge.example.com:5070;lr>\r\n");
    assert!(gone.foreign, "another URI");
}

#[test]
fn our_marks_are_popped_under_any_name_and_forged_ones_are_reported() {
    let key = key();
    let parts = IdParts { aor: b"a", contact: (b"b", b""), instance: None, source: [192, 0, 2, 1].into() };
    let id = key.binding_id(&parts);
    let mark = key.route_mark(&id, 7);
    let (whole, routes) =
        popped(&format!("Route: <sip:{id}@h;lr;ob>, <sip:{mark}@nat.example:1;lr>, <sip:edge;lr>\r\n"));
    assert_eq!((whole.ours, routes.as_str()), (2, "Route: <sip:edge;lr>"));
    // The other handset's, where upstream records no route between them.
    let (first, back) = popped(&format!(
        "Route: <sip:192.168.1.5;lr>,<sip:{mark}@203.0.113.5;lr>,<sip:{mark}@203.0.113.5;lr>,<sip:192.168.1.5;lr>\r\n"
    ));
    assert_eq!(
        (first.ours, back),
        (2, format!("Route: <sip:{mark}@203.0.113.5;lr>,<sip:192.168.1.5;lr>")),
        "they lead back to it"
    );
    let forged = mark.as_str().replace('a', "b");
    let forged = if forged == mark.as_str() { format!("r{}", "a".repeat(36)) } else { forged };
    assert!(popped(&format!("Route: <sip:{forged}@192.168.1.5;lr>\r\n")).0.forged);
    assert!(popped(&format!("Route: <sip:{forged}@203.0.113.5:5080;lr>\r\n")).0.forged, "of the upstream side");
    assert!(!popped(&format!("Route: <sip:{forged}@elsewhere.example;lr>\r\n")).0.forged, "another Holdline's");
}

fn mapped(uri: &str, headers: &str) -> String {
    let msg = request(uri, headers);
    let mut edit = Edit::new(&msg);
    names().map_request_uri(&msg, &mut edit, Some(address(LOCAL)));
    names().map_aor(&msg, &mut edit, Some(address(LOCAL)));
    String::from_utf8(edit.finish().to_vec()).expect("UTF-8")
}

#[test]
fn a_phone_that_knows_only_us_gets_the_domain() {
    let out = mapped("sip:192.168.1.5:5060;transport=udp", "");
    assert!(out.starts_with("INVITE sip:pbx.example.com;transport=udp SIP/2.0\r\n"), "{out}");
    assert!(out.contains("From: \"A\" <sip:1001@pbx.example.com>;tag=1\r\nTo: sip:1002@pbx.example.com\r\n"), "{out}");
    assert!(mapped("sips:1002@holdline.local", "").starts_with("INVITE sips:1002@pbx.example.com SIP/2.0\r\n"));
    assert!(mapped("sip:1002@other.example", "").starts_with("INVITE sip:1002@other.example SIP/2.0\r\n"));
    assert!(mapped("tel:+4930123", "").starts_with("INVITE tel:+4930123 SIP/2.0\r\n"));
}

#[test]
fn from_and_to_come_back_as_the_phone_sent_them() {
    let sent = request("sip:192.168.1.5", "");
    let answer = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: \"A\" <sip:1001@pbx.example.com>;tag=1\r\n\
                  To: sip:1002@PBX.example.com;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";
    let answer = Message::scan(Bytes::from(answer)).expect("a message");
    let mut edit = Edit::new(&answer);
    names().map_aor_back(&answer, &mut edit, &sent, Some(address(LOCAL)));
    let out = String::from_utf8(edit.finish().to_vec()).expect("UTF-8");
    assert!(
        out.contains("From: \"A\" <sip:1001@192.168.1.5>;tag=1\r\nTo: sip:1002@192.168.1.5:5060;tag=2\r\n"),
        "{out}"
    );
}

#[test]
fn without_domain_in_aor_from_and_to_stay() {
    let mut names = names();
    names.set_domain("pbx.example.com", false);
    let msg = request("sip:1002@other.example", "");
    let mut edit = Edit::new(&msg);
    names.map_aor(&msg, &mut edit, Some(address(LOCAL)));
    names.map_aor_back(&msg, &mut edit, &msg, Some(address(LOCAL)));
    assert!(!names.map_request_uri(&msg, &mut edit, Some(address(LOCAL))));
    assert_eq!(edit.finish(), msg.bytes());
    assert!(!Names::new().map_request_uri(&request("sip:192.168.1.5", ""), &mut Edit::new(&msg), None));
}
