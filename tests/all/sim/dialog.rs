//! Calls and subscriptions in virtual time: Record-Route, the dialog's target, and what a rollover does to them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use holdline::flow::Transport;

use super::ladder::assert_rungs;
use super::server::Manner;
use super::world::{Setup, World, header, headers, records, registered, what};

const SECOND: Duration = Duration::from_secs(1);

/// A header line for each value.
fn lines(name: &str, values: &[String]) -> String {
    values.iter().fold(String::new(), |lines, value| lines + name + ": " + value + "\r\n")
}

/// A request of the phone outside or inside a dialog.
fn request(world: &World, phone: usize, method: &str, cseq: u32, to_tag: &str, routes: &[String]) -> Bytes {
    let addr = world.phones[phone].addr;
    let routes = lines("Route", routes);
    format!(
        "{method} sip:201@198.51.100.10:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bK{method}{cseq};rport\r\n\
         Max-Forwards: 70\r\n{routes}From: <sip:200@pbx.example.com>;tag=x\r\nTo: <sip:201@pbx.example.com>{to_tag}\r\n\
         Call-ID: a-call\r\nCSeq: {cseq} {method}\r\nContact: <sip:200@{addr}>\r\nContent-Length: 0\r\n\r\n"
    )
    .into()
}

/// Each element of every Record-Route, top first.
fn record_routes(message: &[u8]) -> Vec<String> {
    headers(message, "Record-Route").iter().flat_map(|line| line.split(',').map(str::to_owned)).collect()
}

/// Sets a call up from the phone to the target that is active; gives the phone's route set.
fn call(world: &mut World, phone: usize, name: &str) -> Vec<String> {
    world.server(name).manner = Manner::Silent;
    let invite = request(world, phone, "INVITE", 1, "", &[]);
    world.phone_sends(phone, invite);
    world.run_for(SECOND / 10);
    let up = world.server(name).last().clone();
    assert_eq!(what(&up), "INVITE");
    let routes = record_routes(&up);
    assert_eq!(routes.len(), 2, "{routes:?}");
    let recorded = lines("Record-Route", &headers(&up, "Record-Route"));
    let answer = world.server(name).answer(&up, 200, &format!("{recorded}Contact: <sip:201@198.51.100.10:5060>\r\n"));
    world.server_sends(name, answer);
    world.run_for(SECOND / 10);
    let mut routes = routes;
    routes.reverse();
    let ack = request(world, phone, "ACK", 1, &format!(";tag=s{name}"), &routes);
    world.phone_sends(phone, ack);
    world.run_for(SECOND / 10);
    assert_eq!(what(world.server(name).last()), "ACK", "{}", world.ladder.join("\n"));
    routes
}

#[test]
fn an_invite_gets_100_at_once_and_two_record_routes_the_upstream_facing_one_on_top() {
    let (mut world, phone) = registered(Setup::default());
    let routes = call(&mut world, phone, "a");
    assert!(routes[1].contains("@192.0.2.1:5080;lr"), "{routes:?}");
    assert_eq!(routes[0], "<sip:10.0.0.1:5060;lr>");
    let first = world.ladder.iter().position(|rung| rung.contains("holdline→phone 0 100")).expect("a 100");
    let forwarded = world.ladder.iter().position(|rung| rung.contains("holdline→a INVITE")).expect("an INVITE");
    assert!(first < forwarded, "{}", world.ladder.join("\n"));
}

#[test]
fn what_is_added_to_an_invite_is_at_most_250_bytes() {
    let (mut world, phone) = registered(Setup::default());
    world.server("a").manner = Manner::Silent;
    let invite = request(&world, phone, "INVITE", 1, "", &[]);
    let before = invite.len();
    world.phone_sends(phone, invite);
    world.run_for(SECOND / 10);
    let grown = world.server("a").last().len() - before;
    assert!(grown <= 250, "{grown}\n{}", String::from_utf8_lossy(world.server("a").last()));
}

#[test]
fn bye_after_a_rollover_goes_to_the_dialogs_target_from_either_side() {
    let (mut world, phone) = registered(Setup::default());
    let routes = call(&mut world, phone, "a");
    let invite = world.server("a").received.iter().map(|(_, bytes)| bytes).find(|b| what(b) == "INVITE").cloned();
    let invite = invite.expect("the INVITE");
    world.roll();
    assert_eq!(world.active(), "b");

    let bye = request(&world, phone, "BYE", 2, ";tag=sa", &routes);
    world.phone_sends(phone, bye);
    world.run_for(SECOND / 10);
    let arrived = world.server("a").last().clone();
    assert_eq!(what(&arrived), "BYE", "{}", world.ladder.join("\n"));
    assert!(headers(&arrived, "Route").is_empty(), "both of ours are popped");
    assert!(world.server("b").received.is_empty());

    // And one of the PBX: to the phone's own Contact, along our Record-Routes.
    let contact = header(&invite, "Contact").expect("a Contact");
    let uri = contact.trim_matches(['<', '>']).to_owned();
    let route = lines("Route", &record_routes(&invite));
    let bye = format!(
        "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n{route}\
         From: <sip:201@pbx.example.com>;tag=sa\r\nTo: <sip:200@pbx.example.com>;tag=x\r\nCall-ID: a-call\r\nCSeq: 9 BYE\r\n\
         Content-Length: 0\r\n\r\n"
    );
    world.server_sends("a", bye.into());
    world.run_for(SECOND / 10);
    let arrived = world.phones[phone].received.last().expect("it arrived").clone();
    assert_eq!(what(&arrived), "BYE", "{}", world.ladder.join("\n"));
    assert!(headers(&arrived, "Route").is_empty());
    assert!(world.server("a").last().starts_with(b"SIP/2.0 200"));
}

#[test]
fn a_call_of_the_pbx_carries_our_record_routes_and_its_answers_come_back() {
    let (mut world, phone) = registered(Setup::default());
    let contact = header(world.server("a").last(), "Contact").expect("a Contact");
    let uri = contact.split(['<', '>']).nth(1).expect("in brackets").to_owned();
    let invite = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKcall\r\nMax-Forwards: 70\r\n\
         From: <sip:201@pbx.example.com>;tag=1\r\nTo: <sip:200@pbx.example.com>\r\nCall-ID: inbound\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:201@198.51.100.10:5060>\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", invite.into());
    world.run_for(SECOND);
    let arrived = world.phones[phone].received.first().expect("it arrived").clone();
    let routes = record_routes(&arrived);
    assert_eq!(routes[0], "<sip:10.0.0.1:5060;lr>", "phone-facing on top");
    assert!(routes[1].contains("@192.0.2.1:5080;lr"), "{routes:?}");
    let codes: Vec<String> =
        world.ladder.iter().filter(|rung| rung.contains("holdline→a ")).map(|r| r[r.len() - 3..].to_owned()).collect();
    assert!(codes.ends_with(&["100".to_owned(), "200".to_owned()]), "{codes:?}");
}

/// Kamailio records its route above the Vias. The order of the lines is the way all the same (RFC 3261 §16.6 item 4): with ours
/// below, requests of the PBX inside the dialog would pass us by.
#[test]
fn our_record_routes_are_on_top_of_one_that_stands_above_the_vias() {
    let (mut world, phone) = registered(Setup::default());
    let contact = header(world.server("a").last(), "Contact").expect("a Contact");
    let uri = contact.split(['<', '>']).nth(1).expect("in brackets").to_owned();
    let invite = format!(
        "INVITE {uri} SIP/2.0\r\nRecord-Route: <sip:198.51.100.10;lr>\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKcall\r\nMax-Forwards: 70\r\n\
         From: <sip:201@pbx.example.com>;tag=1\r\nTo: <sip:200@pbx.example.com>\r\nCall-ID: inbound\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:201@203.0.113.99>\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", invite.into());
    world.run_for(SECOND);
    let arrived = world.phones[phone].received.first().expect("it arrived").clone();
    let routes = record_routes(&arrived);
    assert_eq!((routes.len(), routes[0].as_str()), (3, "<sip:10.0.0.1:5060;lr>"), "{routes:?}");
    assert_eq!(routes[2], "<sip:198.51.100.10;lr>");
}

/// Two handsets with one AOR behind one address: what belongs to the dialog of one must not ring at the other.
#[test]
fn a_dialog_belongs_to_the_handset_that_began_it_among_several_at_one_address() {
    let (mut world, registered) = registered(Setup::default());
    let other = world.phone(Transport::Udp);
    world.phones[other].addr = SocketAddr::new(world.phones[registered].addr.ip(), 5070);
    let invite = request(&world, other, "INVITE", 1, "", &[]);
    world.server("a").manner = Manner::Status(180);
    world.phone_sends(other, invite);
    world.run_for(SECOND / 10);
    let up = world.server("a").last().clone();
    let contact = header(&up, "Contact").expect("a Contact");
    let route = lines("Route", &record_routes(&up));
    let bye = format!(
        "BYE {} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n{route}\
         From: <sip:201@pbx.example.com>;tag=sa\r\nTo: <sip:200@pbx.example.com>;tag=x\r\nCall-ID: a-call\r\nCSeq: 9 BYE\r\n\
         Content-Length: 0\r\n\r\n",
        contact.trim_matches(['<', '>'])
    );
    world.server_sends("a", bye.into());
    world.run_for(SECOND / 10);
    let arrived = world.phones[other].received.last().map(|bytes| what(bytes));
    assert_eq!(arrived.as_deref(), Some("BYE"), "{}", world.ladder.join("\n"));
    assert!(world.phones[registered].received.is_empty());
}

#[test]
fn a_forged_route_is_refused_and_a_preloaded_one_is_not() {
    let (mut world, phone) = registered(Setup::default());
    let forged = format!("<sip:r{}@192.0.2.1:5080;lr>", "a".repeat(36));
    let before = world.server("a").received.len();
    let bye = request(&world, phone, "BYE", 2, ";tag=sa", &[forged]);
    world.phone_sends(phone, bye);
    world.run_for(SECOND);
    assert_eq!(world.server("a").received.len(), before);
    assert!(world.ladder.last().expect("an answer").ends_with("holdline→phone 0 403"), "{}", world.ladder.join("\n"));
    for (n, preloaded) in ["<sip:10.0.0.1:5060;lr>", "<sip:10.0.0.1;lr>"].into_iter().enumerate() {
        let message = request(&world, phone, "MESSAGE", 10 + n as u32, "", &[preloaded.to_owned()]);
        world.phone_sends(phone, message);
        world.run_for(SECOND);
        assert_eq!(what(world.server("a").last()), "MESSAGE", "{preloaded}");
        assert!(headers(world.server("a").last(), "Route").is_empty(), "{preloaded}");
    }
}

#[test]
fn a_dialogs_dead_target_ends_a_subscription_with_481_and_a_re_invite_with_408() {
    for (method, code) in [("SUBSCRIBE", "481"), ("INVITE", "408"), ("INFO", "504"), ("UPDATE", "504")] {
        let (mut world, phone) = registered(Setup::default());
        let routes = call(&mut world, phone, "a");
        world.roll();
        let refresh = request(&world, phone, method, 2, ";tag=sa", &routes);
        world.phone_sends(phone, refresh);
        world.run_for(5 * SECOND);
        let answered = world.ladder.iter().rfind(|rung| rung.contains("holdline→phone 0")).expect("an answer");
        assert!(answered.ends_with(code), "{method}: {answered}\n{}", world.ladder.join("\n"));
        assert!(world.server("b").received.is_empty(), "{method} stays with the dialog's target");
    }
}

#[test]
fn an_invite_without_any_answer_is_tried_once_on_the_next_target_and_moves_nobody() {
    let (mut world, phone) = registered(Setup::default());
    world.server("a").manner = Manner::Silent;
    let invite = request(&world, phone, "INVITE", 1, "", &[]);
    world.phone_sends(phone, invite);
    world.run_for(5 * SECOND);
    let to_b = world.server("b").received.iter().filter(|(_, bytes)| what(bytes) == "INVITE").count();
    assert_eq!(to_b, 1, "{}", world.ladder.join("\n"));
    assert_eq!((world.active().as_str(), world.count()), ("a", 0));
}

#[test]
fn a_cancel_gets_its_own_200_and_follows_the_invite_after_a_provisional() {
    let (mut world, phone) = registered(Setup::default());
    let begun = world.ladder.len();
    world.server("a").manner = Manner::Silent;
    let invite = request(&world, phone, "INVITE", 1, "", &[]);
    world.phone_sends(phone, invite);
    world.run_for(SECOND / 10);
    let up = world.server("a").last().clone();
    let addr = world.phones[phone].addr;
    let cancel = format!(
        "CANCEL sip:201@198.51.100.10:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bKINVITE1;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:200@pbx.example.com>;tag=x\r\nTo: <sip:201@pbx.example.com>\r\nCall-ID: a-call\r\nCSeq: 1 CANCEL\r\n\
         Content-Length: 0\r\n\r\n"
    );
    world.phone_sends(phone, cancel.into());
    world.run_for(SECOND / 10);
    let ringing = world.server("a").answer(&up, 180, "");
    world.server_sends("a", ringing);
    world.run_for(SECOND / 10);
    let cancelled = world.server("a").last().clone();
    assert_eq!(what(&cancelled), "CANCEL", "{}", world.ladder.join("\n"));
    assert_eq!(headers(&cancelled, "Via")[0], headers(&up, "Via")[0], "the INVITE's own branch");
    let terminated = world.server("a").answer(&up, 487, "");
    world.server_sends("a", terminated);
    world.run_for(SECOND / 10);
    assert_rungs(
        &world.ladder[begun..],
        "
            1.010 phone 0→holdline INVITE
            1.011 holdline→phone 0 100
            1.011 holdline→a INVITE
            1.110 phone 0→holdline CANCEL
            1.111 holdline→phone 0 200
            1.210 a→holdline 180
            1.211 holdline→a CANCEL
            1.310 a→holdline 487
            1.311 holdline→a ACK
            1.311 holdline→phone 0 487
        ",
    );
}

#[test]
fn nothing_is_left_after_calls() {
    let (mut world, phone) = registered(Setup::default());
    let routes = call(&mut world, phone, "a");
    world.server("a").manner = Manner::Normal;
    let bye = request(&world, phone, "BYE", 2, ";tag=sa", &routes);
    world.phone_sends(phone, bye);
    world.run_for(240 * SECOND);
    assert_eq!((world.core.contexts(), world.core.transactions()), (0, 0));
}

#[test]
fn a_call_from_a_target_that_dns_no_longer_names_is_ended_there() {
    let (mut world, phone) = registered(Setup::default());
    let contact = header(world.server("a").last(), "Contact").expect("a Contact");
    let uri = contact.split(['<', '>']).nth(1).expect("in brackets").to_owned();
    world.dns = vec![Ok(records(&["b"]))];
    world.run_to(700 * SECOND, "a is gone", |world| world.active() == "b");
    let invite = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKlate\r\nMax-Forwards: 70\r\n\
         From: <sip:201@pbx.example.com>;tag=sa\r\nTo: <sip:200@pbx.example.com>\r\nCall-ID: a-call\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:201@198.51.100.10:5060>\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", invite.into());
    world.run_for(SECOND / 10);
    let arrived = world.phones[phone].received.last().expect("it arrived").clone();
    assert_eq!(what(&arrived), "INVITE", "{}", world.ladder.join("\n"));
    let before = world.server("b").received.len();
    let bye = request(&world, phone, "BYE", 2, ";tag=sa", &record_routes(&arrived));
    world.phone_sends(phone, bye);
    world.run_for(SECOND / 10);
    assert_eq!(what(world.server("a").last()), "BYE", "{}", world.ladder.join("\n"));
    assert_eq!(world.server("b").received.len(), before);
}

/// A handset that leaves the To tag out has our mark from a dialog all the same: it decides.
#[test]
fn a_route_mark_decides_also_without_a_to_tag() {
    for method in ["BYE", "INFO", "SUBSCRIBE", "REFER", "INVITE"] {
        let (mut world, phone) = registered(Setup::default());
        let routes = call(&mut world, phone, "a");
        world.roll();
        assert_eq!(world.active(), "b");
        let again = request(&world, phone, method, 2, "", &routes);
        world.phone_sends(phone, again);
        world.run_for(SECOND / 10);
        assert_eq!(what(world.server("a").last()), method, "{}", world.ladder.join("\n"));
        let elsewhere = &world.server("b").received;
        assert!(elsewhere.iter().all(|(_, bytes)| what(bytes) != method), "{method}");
    }
}
