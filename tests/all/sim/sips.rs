//! Handsets that want `sips:`, before an upstream that has TLS and one that has not.

use std::time::Duration;

use bytes::Bytes;
use holdline::flow::Transport;
use holdline::proxy::{Settings, Sips};

use super::server::Manner;
use super::world::{Setup, World, header, headers, what};

const SECOND: Duration = Duration::from_secs(1);

/// A request of a TLS handset; what is not the same in all of them is an argument.
fn request(world: &World, phone: usize, (method, uri, cseq): (&str, &str, u32), lines: &str) -> Bytes {
    let addr = world.phones[phone].addr;
    let to = if method == "BYE" { ";tag=sa" } else { "" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TLS {addr};branch=z9hG4bK{method}{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sips:200@pbx.example.com>;tag=x\r\nTo: <sips:201@pbx.example.com>{to}\r\nCall-ID: sips\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sips:200@{addr}>\r\n{lines}Content-Length: 0\r\n\r\n"
    )
    .into()
}

fn world(transport: Transport, sips: Sips) -> (World, usize) {
    let proxy = Settings { sips, ..Settings::default() };
    let mut world = World::new(Setup { proxy, transport, ..Setup::default() });
    let phone = world.phone(Transport::Tls);
    (world, phone)
}

/// Each element of every line of this name.
fn elements(message: &[u8], name: &str) -> Vec<String> {
    headers(message, name).iter().flat_map(|line| line.split(',').map(str::to_owned)).collect()
}

/// Its REGISTER's Contact as the PBX has it.
fn registered(world: &mut World, phone: usize) -> String {
    let lines = "Authorization: Digest nonce=\"nonce-of-a\"\r\n";
    let register = request(world, phone, ("REGISTER", "sips:pbx.example.com", 1), lines);
    world.phone_sends(phone, register);
    world.run_for(SECOND);
    let up = world.server("a").last().clone();
    let answer = world.phones[phone].answered.clone().expect("an answer");
    assert_eq!(what(&answer), "200");
    let own = format!("<sips:200@{}>", world.phones[phone].addr);
    assert!(header(&answer, "Contact").expect("a Contact").starts_with(&own), "its own comes back");
    header(&up, "Contact").expect("a Contact")
}

#[test]
fn a_sips_contact_is_sips_at_the_pbx_over_tls_alone() {
    for (transport, begins, ends) in [
        (Transport::Tls, "<sips:h", "@192.0.2.1:5080>"),
        (Transport::Tcp, "<sip:h", "@192.0.2.1:5080;transport=tcp>"),
        (Transport::Udp, "<sip:h", "@192.0.2.1:5080;transport=udp>"),
    ] {
        let (mut world, phone) = world(transport, Sips::Downgrade);
        let contact = registered(&mut world, phone);
        assert!(contact.starts_with(begins) && contact.ends_with(ends), "{transport}: {contact}");
    }
}

/// RFC 3261 §16.6 item 4, on each side that has TLS; what is recorded leads back.
#[test]
fn record_route_is_sips_where_the_request_uri_is() {
    for (transport, upstream) in [
        (Transport::Tls, ("<sips:r", "@192.0.2.1:5080;lr>")),
        (Transport::Tcp, ("<sip:r", "@192.0.2.1:5080;transport=tcp;lr>")),
        (Transport::Udp, ("<sip:r", "@192.0.2.1:5080;lr>")),
    ] {
        for (scheme, handset) in [("sips", "<sips:10.0.0.1:5060;lr>"), ("sip", "<sip:10.0.0.1:5060;transport=tls;lr>")]
        {
            let (mut world, phone) = world(transport, Sips::Downgrade);
            world.server("a").manner = Manner::Silent;
            let invite = request(&world, phone, ("INVITE", &format!("{scheme}:201@pbx.example.com"), 1), "");
            world.phone_sends(phone, invite);
            world.run_for(SECOND);
            let recorded = elements(world.server("a").last(), "Record-Route");
            assert_eq!(recorded[1], handset);
            let begins = if scheme == "sip" { "<sip:r" } else { upstream.0 };
            assert!(recorded[0].starts_with(begins), "{recorded:?}");
            assert!(scheme == "sip" || recorded[0].ends_with(upstream.1), "{recorded:?}");

            let routes = format!("Route: {}\r\nRoute: {}\r\n", recorded[1], recorded[0]);
            let bye = request(&world, phone, ("BYE", &format!("{scheme}:201@198.51.100.10"), 2), &routes);
            world.phone_sends(phone, bye);
            world.run_for(SECOND / 10);
            let up = world.server("a").last();
            assert_eq!((what(up), headers(up, "Route").len()), ("BYE".into(), 0), "{}", world.ladder.join("\n"));
        }
    }
}

#[test]
fn a_call_to_a_sips_handset_is_recorded_as_sips_on_its_side() {
    for (transport, begins) in [(Transport::Tls, "<sips:r"), (Transport::Tcp, "<sip:r")] {
        let (mut world, phone) = world(transport, Sips::Downgrade);
        let contact = registered(&mut world, phone);
        let uri = contact.trim_matches(['<', '>']);
        let invite = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.10:5060;branch=z9hG4bKi\r\nMax-Forwards: 70\r\n\
             From: <sip:201@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:201@198.51.100.10>\r\nContent-Length: 0\r\n\r\n"
        );
        world.server_sends("a", invite.into());
        world.run_for(SECOND);
        let arrived = world.phones[phone].received.last().expect("it came").clone();
        assert!(arrived.starts_with(format!("INVITE sips:200@{} ", world.phones[phone].addr).as_bytes()));
        let recorded = elements(&arrived, "Record-Route");
        assert_eq!(recorded[0], "<sips:10.0.0.1:5060;lr>");
        assert!(recorded[1].starts_with(begins), "{recorded:?}");
    }
}

#[test]
fn sips_is_refused_where_the_upstream_cannot_keep_it_if_so_set() {
    for (method, uri) in [("REGISTER", "sip:pbx.example.com"), ("INVITE", "sips:201@pbx.example.com")] {
        let (mut world, phone) = world(Transport::Udp, Sips::Refuse);
        let refused = request(&world, phone, (method, uri, 1), "");
        world.phone_sends(phone, refused);
        world.run_for(SECOND);
        assert!(world.ladder.last().expect("an answer").ends_with("holdline→phone 0 416"), "{method}");
        assert!(world.server("a").received.is_empty());
    }
    let (mut kept, phone) = world(Transport::Tls, Sips::Refuse);
    registered(&mut kept, phone);
}
