//! A REGISTER on its way: the plain ladder, and what a single handset sees.

use std::time::Duration;

use holdline::flow::Transport;

use super::ladder::assert_ladder;
use super::server::Manner;
use super::world::{Setup, World, header, headers, records};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_phone_registers_through_a_challenge() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    assert_ladder(
        &world,
        "
            0.010 phone 0→holdline REGISTER
            0.012 holdline→a REGISTER
            0.013 a→holdline 401
            0.014 holdline→phone 0 401
            0.015 phone 0→holdline REGISTER
            0.016 holdline→a REGISTER
            0.017 a→holdline 200
            0.018 holdline→phone 0 200
        ",
    );
    assert_eq!(world.phones[phone].codes(), [401, 200]);
    assert!(world.phones[phone].surprises.is_empty(), "{:?}", world.phones[phone].surprises);
    assert_eq!(world.phones[phone].granted, Some(300), "register_interval caps what the PBX granted");
}

#[test]
fn what_goes_up_differs_only_where_it_must() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    let up = world.server("a").last().clone();
    assert_eq!(headers(&up, "Via").len(), 2);
    assert!(
        headers(&up, "Via")[0].starts_with("SIP/2.0/UDP 192.0.2.1:5080;branch=z9hG4bK"),
        "{:?}",
        headers(&up, "Via")
    );
    assert!(headers(&up, "Via")[1].contains("received=10.1.0.1"), "rport was asked for: {:?}", headers(&up, "Via"));
    assert_eq!(header(&up, "Max-Forwards").as_deref(), Some("69"));
    let contact = header(&up, "Contact").expect("a Contact");
    let user = contact.trim_start_matches("<sip:").split('@').next().expect("a user part");
    assert!(user.len() == 27 && user.starts_with('h'), "{contact}");
    assert!(contact.contains("@192.0.2.1:5080;transport=udp>;expires=3600"), "{contact}");
    assert_eq!(header(&up, "Call-ID").as_deref(), Some("call0@10.1.0.1"));
}

#[test]
fn retransmissions_of_the_phone_are_absorbed_and_no_attempts() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Late(Duration::from_millis(2_600));
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(3 * SECOND);
    assert_eq!(world.server("a").registers(), 2, "one attempt without and one with credentials");
    world.run_for(5 * SECOND);
    assert_eq!(world.phones[phone].codes(), [401, 200]);
    assert_eq!(world.count(), 0);
}

#[test]
fn a_hundred_at_three_and_a_half_seconds_and_not_before() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    world.server("b").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(20 * SECOND);
    let provisionals = &world.phones[phone].provisionals;
    assert!(!provisionals.is_empty());
    assert!(
        provisionals.iter().all(|(code, after)| *code == 100 && *after >= Duration::from_millis(3_500)),
        "{provisionals:?}"
    );
    assert!(provisionals[0].1 < Duration::from_secs(4), "{provisionals:?}");
    assert!(world.phones[phone].finals.is_empty(), "silence stays silence (RFC 4320 §4.2)");
}

#[test]
fn registers_before_the_first_dns_answer_are_held_and_served_late() {
    let mut world = World::without_dns(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(8 * SECOND);
    assert!(world.phones[phone].finals.is_empty());
    assert!(!world.core.ready());
    world.dns = vec![Ok(records(&["a", "b"]))];
    world.run_to(5 * SECOND, "ready after DNS is back", |world| world.core.ready());
    world.run_for(SECOND);
    assert_eq!(world.phones[phone].codes(), [401, 200]);
    assert_eq!(world.count(), 0, "waiting for DNS is no strike");
}

#[test]
fn a_newer_register_of_the_same_call_ends_the_older_ones_tries() {
    let mut world = World::new(Setup::default());
    world.server("a").manner = Manner::Silent;
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    let older = sent_of(&mut world, "1 REGISTER").pop().expect("the older one's first try");
    world.register(phone);
    world.run_for(6 * SECOND);
    assert_eq!(
        sent_of(&mut world, "1 REGISTER"),
        [older.as_str(); 4],
        "the older one's only try runs to its end, 4 s\n{}",
        world.ladder.join("\n")
    );
    let newer = sent_of(&mut world, "2 REGISTER");
    let (first, second) = (newer[0].as_str(), newer[6].as_str());
    assert_eq!(newer, [first, first, first, first, second, second, second], "and the newer one's second try follows");
    assert_ne!(first, second);
}

#[test]
fn nothing_is_left_when_the_timers_have_run() {
    let mut world = World::new(Setup::default());
    world.loss = 0.2;
    world.duplication = 0.1;
    let phones: Vec<usize> = (0..30).map(|_| world.phone(Transport::Udp)).collect();
    for phone in &phones {
        world.register(*phone);
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(120 * SECOND);
    assert_eq!(world.core.contexts(), 0);
    assert_eq!(world.core.transactions(), 0);
    for phone in phones {
        assert!(world.phones[phone].registered(), "phone {phone}: {:?}", world.phones[phone].finals);
        assert!(world.phones[phone].surprises.is_empty(), "{:?}", world.phones[phone].surprises);
    }
}

#[test]
fn a_request_of_the_pbx_reaches_the_phone_at_its_own_contact_and_is_answered() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    let contact = header(world.server("a").last(), "Contact").expect("a Contact");
    let uri = contact.split(['<', '>']).nth(1).expect("in brackets").to_owned();
    let options = format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKping\r\nMax-Forwards: 70\r\n\
         From: <sip:ping@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", options.into());
    world.run_for(SECOND);
    let arrived = world.phones[phone].received.first().expect("it arrived").clone();
    assert!(arrived.starts_with(format!("OPTIONS {} SIP/2.0\r\n", world.phones[phone].contact()).as_bytes()));
    assert!(
        headers(&arrived, "Via")[0].starts_with("SIP/2.0/UDP 10.0.0.1:5060;branch="),
        "{:?}",
        headers(&arrived, "Via")
    );
    let answer = world.server("a").last().clone();
    assert!(answer.starts_with(b"SIP/2.0 200"), "{}", world.ladder.join("\n"));
    assert_eq!(headers(&answer, "Via"), ["SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKping"]);
}

#[test]
fn a_request_for_an_id_that_is_not_ours_gets_404() {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Udp);
    world.register(phone);
    world.run_for(SECOND);
    let uri = "sip:haaaaaaaaaaaaaaaaaaaaaaaaaa@192.0.2.1:5080";
    let options = format!(
        "MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKm\r\nMax-Forwards: 70\r\n\
         From: <sip:x@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: m\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", options.into());
    world.run_for(SECOND);
    assert!(world.server("a").last().starts_with(b"SIP/2.0 404"), "{}", world.ladder.join("\n"));
    assert!(world.phones[phone].received.is_empty());
}

/// The REGISTERs with this CSeq that reached a, repetitions included: the branch of each.
fn sent_of(world: &mut World, cseq: &str) -> Vec<String> {
    let received = world.server("a").received.iter();
    let of_it = received.filter(|(_, bytes)| header(bytes, "CSeq").as_deref() == Some(cseq));
    of_it.map(|(_, bytes)| branch(&headers(bytes, "Via")[0])).collect()
}

/// The branch parameter of a Via.
fn branch(via: &str) -> String {
    via.split(";branch=").nth(1).and_then(|rest| rest.split(';').next()).expect("a branch").to_owned()
}
