//! Old and odd phones, who speak RFC 2543, in short names, or not quite.

use std::time::Duration;

use bytes::Bytes;
use holdline::flow::{NetEvent, SocketId, Transport};
use holdline::proxy::contact::Mode;
use holdline::proxy::phones::Query;
use holdline::proxy::{Event, Settings};

use super::server::Manner;
use super::world::{BOUND, LISTEN, Setup, World, address, header, headers, registered, what};

const SECOND: Duration = Duration::from_secs(1);

/// What reached a phone with this status.
fn answers(world: &World, status: &str) -> usize {
    world.ladder.iter().filter(|rung| rung.contains("holdline→phone") && rung.ends_with(status)).count()
}

/// A phone of RFC 2543: no magic cookie, the same branch (or none) for everything.
fn old(method: &str, cseq: u32, branch: &str, to_tag: &str) -> Bytes {
    format!(
        "{method} sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.1:5060{branch}\r\n\
         From: <sip:200@pbx.example.com>;tag=old\r\nTo: <sip:201@pbx.example.com>{to_tag}\r\nCall-ID: old-call\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:200@10.1.0.1:5060>\r\nContent-Length: 0\r\n\r\n"
    )
    .into()
}

#[test]
fn a_phone_of_rfc_2543_calls_retransmits_cancels_and_hangs_up() {
    for branch in ["", ";branch=1", ";branch=z9hG4bK"] {
        let (mut world, phone) = registered(Setup::default());
        let pbx = world.ua_of_target("a");
        world.uas[pbx].manner.answers = None;
        for _ in 0..3 {
            world.phone_sends(phone, old("INVITE", 1, branch, ""));
            world.run_for(SECOND);
        }
        assert_eq!(world.uas[pbx].count("INVITE"), 1, "{branch}: retransmissions end here");
        world.phone_sends(phone, old("CANCEL", 1, branch, ""));
        world.run_for(SECOND);
        assert_eq!(world.uas[pbx].count("CANCEL"), 1, "{branch}\n{}", world.ladder.join("\n"));
        assert_eq!((answers(&world, " 487"), answers(&world, " 481")), (2, 0), "once, and once more before its ACK");
        let to = world.uas[pbx].got[0].ack.as_ref().and_then(|ack| header(ack, "To")).expect("an ACK");
        let tag = format!(";tag={}", to.split(";tag=").nth(1).expect("a tag"));
        world.phone_sends(phone, old("ACK", 1, branch, &tag));
        world.run_for(10 * SECOND);
        assert_eq!(answers(&world, " 487"), 2, "{branch}: the ACK was recognised\n{}", world.ladder.join("\n"));

        world.uas[pbx].manner.answers = Some((SECOND, 200));
        world.phone_sends(phone, old("INVITE", 2, branch, ""));
        world.run_for(2 * SECOND);
        world.phone_sends(phone, old("ACK", 2, branch, ";tag=x"));
        world.run_for(SECOND);
        assert!(world.uas[pbx].got.last().expect("the INVITE").ack.is_some(), "{branch}\n{}", world.ladder.join("\n"));
        world.phone_sends(phone, old("BYE", 3, branch, ";tag=x"));
        world.run_for(SECOND);
        assert_eq!(world.uas[pbx].count("BYE"), 1, "{branch}");
        world.run_for(400 * SECOND);
        world.assert_nothing_in_flight();
    }
}

#[test]
fn short_names_pass_as_they_are_and_folds_become_spaces() {
    let (mut world, phone) = registered(Setup::default());
    let pbx = world.ua_of_target("a");
    let compact = "INVITE sip:201@pbx.example.com SIP/2.0\r\nv: SIP/2.0/UDP 10.1.0.1:5060;branch=z9hG4bKc\r\n\
                   f: <sip:200@pbx.example.com>;tag=c\r\nt: <sip:201@pbx.example.com>\r\ni: compact\r\nCSeq: 1 INVITE\r\n\
                   m: <sip:200@10.1.0.1:5060>\r\nk: timer,\r\n 100rel\r\nl: 3\r\n\r\nv=0";
    world.phone_sends(phone, Bytes::from(compact));
    world.run_for(SECOND / 2);
    let arrived = world.servers[&address("a")].received.last().expect("it came").1.clone();
    assert!(arrived.ends_with(b"k: timer, 100rel\r\nl: 3\r\n\r\nv=0"), "{}", String::from_utf8_lossy(&arrived));
    assert_eq!(headers(&arrived, "v").len() + headers(&arrived, "Via").len(), 2);
    assert_eq!(header(&arrived, "Max-Forwards").as_deref(), Some("70"), "absent means 70");
    assert_eq!(world.uas[pbx].count("INVITE"), 1);
}

/// It asks what is registered, and changes nothing.
#[test]
fn a_register_without_contact_passes_and_changes_nothing() {
    let (mut world, phone) = registered(Setup::default());
    let bytes = "REGISTER sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.1:5060;branch=z9hG4bKq;rport\r\n\
                 From: <sip:200@pbx.example.com>;tag=q\r\nTo: <sip:200@pbx.example.com>\r\nCall-ID: query\r\n\
                 CSeq: 1 REGISTER\r\nAuthorization: nonce-of-a\r\nContent-Length: 0\r\n\r\n";
    world.phone_sends(phone, Bytes::from(bytes));
    world.run_for(SECOND);
    assert_eq!(what(world.server("a").last()), "REGISTER");
    assert!(headers(world.server("a").last(), "Contact").is_empty());
    assert!(world.ladder.last().expect("an answer").ends_with("holdline→phone 0 200"), "{}", world.ladder.join("\n"));
    assert_eq!(world.core.levels().bindings, 1);
}

/// 404 for an ID that was never ours or is over; 480 for a phone whose connection is gone, 430 where Path named the flow.
#[test]
fn a_lost_flow_is_480_or_430_and_an_unknown_id_404() {
    for (mode, lost) in [(Mode::Rewrite, 480), (Mode::Path, 430)] {
        let proxy = Settings { contact: mode, ..Settings::default() };
        let mut world = World::new(Setup { proxy, ..Setup::default() });
        let phone = world.phone(Transport::Tcp);
        world.register(phone);
        world.run_for(SECOND);
        let (pbx, uri) = (world.ua_of_target("a"), world.contact_at("a", phone));
        let ask = |world: &mut World, uri: &str| {
            world.act(pbx, |ua, now| ua.outside("INVITE", uri, "", "", now));
            world.run_for(10 * SECOND);
            world.uas[pbx].status(world.uas[pbx].asked.len() - 1)
        };
        let phone_ua = world.ua_of_phone(phone);
        assert_eq!(ask(&mut world, &uri), 200);
        world.reconnect(phone);
        assert_eq!(ask(&mut world, &uri), lost, "{mode:?}: nobody is dialled");
        world.register(phone);
        world.run_for(SECOND);
        assert_eq!(ask(&mut world, &uri), 200, "{mode:?}: the same ID, over the new connection");
        assert_eq!(world.uas[phone_ua].count("INVITE"), 2);
        assert_eq!(ask(&mut world, "sip:haaaaaaaaaaaaaaaaaaaaaaaaaa@192.0.2.1:5080"), 404);
        assert_eq!(ask(&mut world, "sip:200@192.0.2.1:5080"), 404);
        world.run_for(3_700 * SECOND);
        assert_eq!(ask(&mut world, &uri), 404, "{mode:?}: the registration is over");
    }
}

/// A dialog whose route set was made strict on the way: our own mark decides, and the Request-URI is put right.
#[test]
fn a_route_set_that_a_strict_router_rewrote_is_put_right_from_either_side() {
    let (mut world, phone) = registered(Setup::default());
    let (caller, callee) = (world.ua_of_phone(phone), world.ua_of_target("a"));
    world.act(caller, |ua, now| ua.outside("INVITE", "sip:201@pbx.example.com", "", "v=0", now));
    world.run_for(5 * SECOND);
    let dialog = world.uas[caller].dialogs[0].clone();
    assert_eq!(dialog.routes.len(), 2);
    world.roll();

    // The phone's software is a strict router: the first Route in the Request-URI, the target at the end.
    let strip = |route: &str| route.trim_matches(['<', '>']).to_owned();
    let mut strict = dialog.clone();
    strict.target = strip(&dialog.routes[0]);
    strict.routes = vec![dialog.routes[1].clone(), format!("<{}>", dialog.target)];
    world.uas[caller].dialogs[0] = strict;
    world.act(caller, |ua, now| ua.inside(0, "INFO", "", "", now));
    world.run_for(SECOND);
    let arrived = world.uas[callee].got.last().expect("it came").request.clone();
    assert!(
        arrived.starts_with(format!("INFO {} ", dialog.target).as_bytes()),
        "{}",
        String::from_utf8_lossy(&arrived)
    );
    assert!(headers(&arrived, "Route").is_empty());

    // Behind us stands one: its Route has no lr.
    let mut before = dialog.clone();
    before.routes.push("<sip:strict.example.com>".into());
    before.cseq += 10;
    world.uas[caller].dialogs[0] = before;
    world.act(caller, |ua, now| ua.inside(0, "INFO", "", "", now));
    world.run_for(SECOND);
    let arrived = world.uas[callee].got.last().expect("it came").request.clone();
    assert!(arrived.starts_with(b"INFO sip:strict.example.com "), "{}", String::from_utf8_lossy(&arrived));
    assert_eq!(headers(&arrived, "Route"), [format!("<{}>", dialog.target)], "RFC 3261 §16.6 item 6");

    // And the PBX as a strict router.
    let dialog = world.uas[callee].dialogs[0].clone();
    let mut strict = dialog.clone();
    strict.target = strip(&dialog.routes[0]);
    strict.routes = vec![dialog.routes[1].clone(), format!("<{}>", dialog.target)];
    world.uas[callee].dialogs[0] = strict;
    world.act(callee, |ua, now| ua.inside(0, "BYE", "", "", now));
    world.run_for(SECOND);
    let arrived = world.uas[caller].got.last().expect("it came").request.clone();
    assert!(arrived.starts_with(format!("BYE {} ", dialog.target).as_bytes()), "{}", String::from_utf8_lossy(&arrived));
    assert!(headers(&arrived, "Route").is_empty());
}

#[test]
fn a_forged_mark_gets_403_from_either_side_and_a_preloaded_route_passes() {
    let (mut world, phone) = registered(Setup::default());
    let (caller, callee) = (world.ua_of_phone(phone), world.ua_of_target("a"));
    let forged = format!("Route: <sip:r{}@{BOUND};lr>\r\n", "a".repeat(36));
    let uri = world.contact_at("a", phone);
    world.act(caller, |ua, now| ua.outside("INVITE", "sip:201@pbx.example.com", &forged, "", now));
    world.act(callee, |ua, now| ua.outside("INVITE", &uri, &forged, "", now));
    world.run_for(SECOND);
    assert_eq!((world.uas[caller].status(0), world.uas[callee].status(0)), (403, 403), "{}", world.ladder.join("\n"));
    let host = LISTEN.split(':').next().expect("a host");
    for route in [format!("<sip:{LISTEN};lr>"), format!("<sip:{host};lr>"), format!("<sip:{host}>")] {
        world.act(caller, |ua, now| {
            ua.outside("MESSAGE", "sip:201@pbx.example.com", &format!("Route: {route}\r\n"), "", now)
        });
        world.run_for(SECOND);
        let arrived = world.uas[callee].got.last().expect("it came");
        assert_eq!((&*arrived.method, headers(&arrived.request, "Route").len()), ("MESSAGE", 0), "{route}");
    }
}

/// Only the PBX's addresses may speak on the upstream side.
#[test]
fn an_untrusted_peer_on_the_upstream_side_calls_nobody_and_the_pbx_with_the_same_bytes_does() {
    let (mut world, phone) = registered(Setup::default());
    let uri = world.contact_at("a", phone);
    let phone_ua = world.ua_of_phone(phone);
    let invite = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKs\r\nMax-Forwards: 70\r\nFrom: <sip:x@y>;tag=1\r\n\
         To: <{uri}>\r\nCall-ID: s\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
    let flow = holdline::flow::Flow::Udp {
        socket: SocketId(2),
        local: BOUND.parse().expect("literal"),
        remote: "203.0.113.9:5060".parse().expect("literal"),
    };
    let invite = Bytes::from(invite);
    world.core.handle(Event::Net(NetEvent::Received { flow, bytes: invite.clone() }), world.now);
    world.run_for(SECOND);
    assert_eq!(world.uas[phone_ua].count("INVITE"), 0);
    // The same bytes from the PBX.
    world.target_sends(address("a"), invite);
    world.run_for(SECOND);
    assert_eq!(world.uas[phone_ua].count("INVITE"), 1, "{}", world.ladder.join("\n"));
}

/// On a datagram the end of the body is the end of the datagram; on a stream somebody has to say it (RFC 3261 §16.6 item 9).
#[test]
fn what_comes_by_datagram_without_content_length_gets_one_on_a_stream() {
    let message = |body: &str| -> Bytes {
        format!(
            "MESSAGE sip:201@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.1:5060;branch=z9hG4bKm{}\r\n\
             From: <sip:200@pbx.example.com>;tag=m\r\nTo: <sip:201@pbx.example.com>\r\nCall-ID: m{}\r\nCSeq: 1 MESSAGE\r\n\r\n{body}",
            body.len(),
            body.len()
        )
        .into()
    };
    for (transport, length) in [(Transport::Tcp, Some("0")), (Transport::Tls, Some("0")), (Transport::Udp, None)] {
        let (mut world, phone) = registered(Setup { transport, ..Setup::default() });
        world.server("a").manner = Manner::Silent;
        world.phone_sends(phone, message(""));
        world.run_for(SECOND / 10);
        assert_eq!(header(world.server("a").last(), "Content-Length").as_deref(), length, "{transport}");
        world.phone_sends(phone, message("hello"));
        world.run_for(SECOND / 10);
        let got = world.server("a").last();
        assert_eq!(header(got, "Content-Length").as_deref(), length.map(|_| "5"), "{transport}");
        assert!(got.ends_with(b"\r\n\r\nhello"), "{transport}: it comes last, and the body stays");
    }

    // The answer from a UDP upstream to a TCP phone.
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Tcp);
    world.register(phone);
    world.run_for(SECOND);
    assert!(world.phones[phone].registered());
    world.server("a").manner = Manner::Silent;
    let request = String::from_utf8(message("hello").to_vec())
        .expect("text")
        .replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n");
    world.phone_sends(phone, request.replace("SIP/2.0/UDP", "SIP/2.0/TCP").into());
    world.run_for(SECOND / 10);
    let up = world.server("a").last().clone();
    let vias: Vec<String> = headers(&up, "Via").iter().map(|via| format!("Via: {via}\r\n")).collect();
    let rest =
        ["From", "To", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(&up, name).expect("a header")));
    world.server_sends("a", format!("SIP/2.0 200 OK\r\n{}{}\r\n", vias.concat(), rest.concat()).into());
    world.run_for(SECOND / 10);
    let answer = world.phones[phone].answered.as_ref().expect("an answer");
    assert_eq!((what(answer).as_str(), header(answer, "Content-Length").as_deref()), ("200", Some("0")));
}

/// RFC 3261 §16.4: without `lr` in the outbound proxy that was typed in, a phone takes us for a strict router. What is dialled is in
/// the last Route.
#[test]
fn a_strictly_preloaded_outbound_proxy_loses_no_number() {
    for (method, request_uri, routes, goes_to) in [
        ("INVITE", "sip:10.0.0.1:5060", "<sip:201@pbx.example.com>", "sip:201@pbx.example.com"),
        (
            "INVITE",
            "sip:10.0.0.1",
            "<sip:10.0.0.1;lr>, <sip:201@pbx.example.com;user=phone>",
            "sip:201@pbx.example.com;user=phone",
        ),
        ("INVITE", "sip:10.0.0.1:5060;transport=udp", "<sip:201@10.0.0.1:5060>", "sip:201@example.net"),
        ("MESSAGE", "sip:10.0.0.1", "<sip:+4930123@other.example>", "sip:+4930123@other.example"),
        ("OPTIONS", "sip:10.0.0.1", "<sip:201@pbx.example.com>", "sip:201@pbx.example.com"),
        ("REGISTER", "sip:10.0.0.1", "<sip:pbx.example.com>", "sip:pbx.example.com"),
        // A loose proxy of somebody else, or our own name once more, is nobody who is called.
        ("REGISTER", "sip:10.0.0.1", "<sip:other.example;lr>", "sip:example.net"),
        ("REGISTER", "sip:10.0.0.1", "<sip:10.0.0.1>", "sip:example.net"),
        ("INVITE", "sip:201@10.0.0.1", "<sip:10.0.0.1>", "sip:201@example.net"),
    ] {
        let proxy = Settings { domain: Some("example.net".into()), ..Settings::default() };
        let mut world = World::new(Setup { proxy, ..Setup::default() });
        world.server("a").manner = Manner::Silent;
        let phone = world.phone(Transport::Udp);
        let request = String::from_utf8_lossy(&old(method, 1, ";branch=z9hG4bK1", ""))
            .replace("sip:201@pbx.example.com SIP/2.0", &format!("{request_uri} SIP/2.0"))
            .replace("From:", &format!("Route: {routes}\r\nFrom:"));
        world.phone_sends(phone, request.into());
        world.run_for(SECOND / 10);
        let up = world.server("a").last().clone();
        assert!(up.starts_with(format!("{method} {goes_to} SIP/2.0").as_bytes()), "{}", String::from_utf8_lossy(&up));
        assert_eq!(headers(&up, "Route"), [""; 0], "{routes}");
    }
}

/// RFC 3608: a handset puts what the PBX gave it into its Routes, and nothing else.
#[test]
fn a_service_route_survives_when_it_is_preloaded_alone_and_so_do_the_domain_and_the_active_target() {
    let proxy = Settings { domain: Some("example.net".into()), ..Settings::default() };
    let mut world = World::new(Setup { proxy, ..Setup::default() });
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND / 10);
    let request = world.server("a").last().clone();
    let given = "Service-Route: <sip:edge7.other.example:5070;lr;x=1>\r\n";
    let answer = world.server("a").answer(&request, 200, given);
    world.server_sends("a", answer);
    world.run_for(SECOND);
    world.server("a").manner = Manner::Status(200);
    for (n, route, stays) in [
        (1, "<sip:edge7.other.example:5070;lr;x=1>", true),
        (2, "<sip:edge8.other.example:5070;lr;x=1>", false),
        (3, "<sip:Example.Net;lr>", true),
        (4, "<sip:10.0.0.1;lr>, <sip:edge7.other.example:5070;lr;x=1>", true),
        (5, "<sip:A.pbx.example.com:5060;lr>", true),
        // Not active: it would be asked in the active one's place.
        (6, "<sip:b.pbx.example.com;lr>", false),
    ] {
        let request = String::from_utf8_lossy(&old("MESSAGE", n, &format!(";branch=z9hG4bK{n}"), ""))
            .replace("From:", &format!("Route: {route}\r\nFrom:"));
        world.phone_sends(phone, request.into());
        world.run_for(SECOND / 10);
        let up = world.server("a").last().clone();
        assert_eq!(headers(&up, "CSeq"), [format!("{n} MESSAGE")]);
        let kept = route.rsplit(", ").next().expect("one").to_owned();
        assert_eq!(headers(&up, "Route"), if stays { vec![kept] } else { vec![] }, "{route}");
    }
}

/// Some registrars compare the digest's `uri` with the Request-URI (RFC 3261 §22.4): `holdline phones` says why nobody gets in.
#[test]
fn a_digest_for_another_uri_than_the_pbx_gets_is_named() {
    for (uri, detail) in [
        ("sip:10.0.0.1:5060", Some("digest is for sip:10.0.0.1:5060, the PBX gets sip:example.net")),
        ("sip:example.net", None),
    ] {
        let proxy = Settings { domain: Some("example.net".into()), ..Settings::default() };
        let mut world = World::new(Setup { proxy, ..Setup::default() });
        world.server("a").manner = Manner::Status(401);
        let phone = world.phone(Transport::Udp);
        let credentials =
            format!("Authorization: Digest username=\"200\", realm=\"r\", nonce=\"n\", uri=\"{uri}\", response=\"0\"");
        let request = String::from_utf8_lossy(&old("REGISTER", 1, ";branch=z9hG4bK1", ""))
            .replace("sip:201@pbx.example.com SIP/2.0", "sip:10.0.0.1:5060 SIP/2.0")
            .replace("From:", &format!("{credentials}\r\nFrom:"));
        world.phone_sends(phone, request.into());
        world.run_for(SECOND);
        let shown = world.core.phones(&Query::new("201"), 10, world.now);
        let said: Vec<Option<&str>> = shown.phones.iter().map(|phone| phone.detail.as_deref()).collect();
        assert_eq!(said, [detail], "{}", world.ladder.join("\n"));
    }
}
