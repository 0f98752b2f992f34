//! A handset that lost its connection renews its Contact, as pjsip's applications do: the new one is registered, the old one
//! taken off. Both are one at the PBX, and the handset stays there.

use std::time::Duration;

use holdline::flow::Transport;

use super::world::{Setup, World, header, headers, what};

const SECOND: Duration = Duration::from_secs(1);

/// A REGISTER with the credentials that target a asks for, and these Contacts.
fn register(world: &mut World, phone: usize, n: u32, contacts: &[String]) {
    let ip = world.phones[phone].addr.ip();
    let contacts: Vec<String> = contacts.iter().map(|contact| format!("Contact: {contact}\r\n")).collect();
    let text = format!(
        "REGISTER sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/TCP {ip}:5060;branch=z9hG4bKr{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:200@pbx.example.com>;tag=r\r\nTo: <sip:200@pbx.example.com>\r\nCall-ID: renewal\r\nCSeq: {n} REGISTER\r\n\
         {}Authorization: Digest nonce=\"nonce-of-a\"\r\nContent-Length: 0\r\n\r\n",
        contacts.concat()
    );
    world.phone_sends(phone, text.into());
    world.run_for(SECOND);
    let answer = world.phones[phone].answered.clone().expect("an answer");
    assert_eq!((what(&answer), header(&answer, "CSeq")), ("200".into(), Some(format!("{n} REGISTER"))));
}

fn contact(world: &World, phone: usize, port: u16, expires: u32) -> String {
    format!("<sip:200@{}:{port};transport=tcp;ob>;expires={expires}", world.phones[phone].addr.ip())
}

/// A TCP handset that registered from port 50001, and has a new connection since.
fn reconnected() -> (World, usize) {
    let mut world = World::new(Setup::default());
    let phone = world.phone(Transport::Tcp);
    let first = contact(&world, phone, 50_001, 300);
    register(&mut world, phone, 1, &[first]);
    world.reconnect(phone);
    (world, phone)
}

/// The Contacts of the last REGISTER that went up.
fn went_up(world: &mut World) -> Vec<String> {
    let received = &world.server("a").received;
    let last = received.iter().rev().find(|(_, bytes)| what(bytes) == "REGISTER").expect("it went up");
    headers(&last.1, "Contact")
}

/// Whether the PBX still reaches the handset by the Contact that it was given first.
fn is_reached(world: &mut World, phone: usize) -> bool {
    let uri = world.contact_at("a", phone);
    let count = world.phones[phone].received.len();
    let options = format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKo{count}\r\nMax-Forwards: 70\r\n\
         From: <sip:ping@pbx.example.com>;tag=1\r\nTo: <{uri}>\r\nCall-ID: o{count}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    world.server_sends("a", options.into());
    world.run_for(SECOND);
    world.phones[phone].received.len() == count + 1
}

#[test]
fn a_handset_that_renews_its_contact_in_one_register_stays_registered() {
    let (mut world, phone) = reconnected();
    let (new, old) = (contact(&world, phone, 50_007, 300), contact(&world, phone, 50_001, 0));
    register(&mut world, phone, 2, &[new.clone(), old]);
    let up = went_up(&mut world);
    assert!(up.len() == 1 && up[0].ends_with(";expires=300"), "bound, and not unbound at once: {up:?}");
    let answer = world.phones[phone].answered.clone().expect("an answer");
    let back = headers(&answer, "Contact");
    let own = new.strip_suffix(";expires=300").expect("a URI in brackets");
    assert!(back.len() == 1 && back[0].starts_with(own), "its own new one comes back: {back:?}");
    assert!(is_reached(&mut world, phone), "{}", world.ladder.join("\n"));
}

#[test]
fn a_handset_that_takes_its_old_contact_off_later_stays_registered() {
    let (mut world, phone) = reconnected();
    let (new, old) = (contact(&world, phone, 50_007, 300), contact(&world, phone, 50_001, 0));
    register(&mut world, phone, 2, &[new]);
    register(&mut world, phone, 3, &[old]);
    assert_eq!(went_up(&mut world), [""; 0], "nothing is taken off, the PBX is asked what it has");
    let own = contact(&world, phone, 50_007, 300);
    register(&mut world, phone, 4, std::slice::from_ref(&own));
    assert!(is_reached(&mut world, phone), "{}", world.ladder.join("\n"));
    // And its own goodbye is one.
    let goodbye = own.replace("expires=300", "expires=0");
    register(&mut world, phone, 5, &[goodbye]);
    assert!(went_up(&mut world)[0].ends_with(";expires=0"));
    assert_eq!(world.core.levels().bindings, 0);
}

#[test]
fn a_handset_that_boots_takes_off_what_it_left_behind() {
    let (mut world, phone) = reconnected();
    let boot = contact(&world, phone, 50_007, 0);
    register(&mut world, phone, 2, &[boot]);
    let up = went_up(&mut world);
    assert!(up.len() == 1 && up[0].ends_with(";expires=0"), "{up:?}");
}
