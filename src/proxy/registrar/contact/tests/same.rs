//! Who is the same phone, and what its Contact and address of record are.

use super::*;

#[test]
fn a_contact_of_ours_that_a_phone_takes_off_is_left_alone() {
    let (upward, _) = go_up(&register("Contact: <sip:1001@192.168.1.10>\r\n"));
    let phone = register(&format!("Contact: <sip:{}@192.0.2.1:5080>;expires=0\r\n", only_id(&upward)));
    let (upward, sent) = go_up(&phone);
    assert!(upward.bound.is_empty());
    assert_eq!(sent.bytes(), phone.bytes());
}

#[test]
fn a_phone_that_reconnects_from_a_new_port_is_the_same_binding() {
    let id = |contact: &str, source: &str, transport: Transport| {
        let msg = register(&format!("Contact: {contact}\r\n"));
        only_id(&up_as(&msg, Mode::Rewrite, &from(source, transport)).expect("good").0)
    };
    let tcp = |contact: &str, source: &str| id(contact, source, Transport::Tcp);
    // Names the port it happens to connect from.
    assert_eq!(
        tcp("<sip:1001@192.168.1.10:11780;transport=tcp>", "192.168.1.10:11780"),
        tcp("<sip:1001@192.168.1.10:11802;transport=tcp>", "192.168.1.10:11802"),
    );
    // The same behind NAT: the port is none that anybody types.
    assert_eq!(
        id("<sip:1001@10.0.0.5:49153;transport=tls>", "192.0.2.9:2001", Transport::Tls),
        id("<sip:1001@10.0.0.5:52000;transport=tls>", "192.0.2.9:2099", Transport::Tls),
    );
    // An instance says who it is, whatever the port.
    assert_eq!(
        tcp("<sip:1001@10.0.0.5:11780>;+sip.instance=\"<urn:uuid:1>\"", "192.0.2.9:2001"),
        tcp("<sip:1001@10.0.0.5:11802>;+sip.instance=\"<urn:uuid:1>\"", "192.0.2.9:2099"),
    );
    // A phone that connects from its listening port when it can.
    assert_eq!(
        tcp("<sip:1001@192.168.1.10:5060;transport=tcp>", "192.168.1.10:5060"),
        tcp("<sip:1001@192.168.1.10:5060;transport=tcp>", "192.168.1.10:49160"),
    );
    // Two that listen on ports of their own choice are two.
    assert_ne!(
        tcp("<sip:1001@192.168.1.10:5060;transport=tcp>", "192.168.1.10:49160"),
        tcp("<sip:1001@192.168.1.10:5070;transport=tcp>", "192.168.1.10:49161"),
    );
    assert_ne!(
        tcp("<sip:1001@10.0.0.5:11780>;+sip.instance=\"<urn:uuid:1>\"", "192.0.2.9:2001"),
        tcp("<sip:1001@10.0.0.5:11780>;+sip.instance=\"<urn:uuid:2>\"", "192.0.2.9:2001"),
    );
    // Over UDP the port is where the phone listens, and a new source port is a new NAT mapping of the same phone.
    let udp = |contact: &str, source: &str| id(contact, source, Transport::Udp);
    assert_ne!(udp("<sip:1001@10.0.0.5:49153>", "192.0.2.9:2001"), udp("<sip:1001@10.0.0.5:49154>", "192.0.2.9:2001"));
    assert_eq!(udp("<sip:1001@10.0.0.5:49153>", "192.0.2.9:2001"), udp("<sip:1001@10.0.0.5:49153>", "192.0.2.9:2099"));
    // Two sites with the same private addresses are two.
    assert_ne!(udp("<sip:1001@10.0.0.5:5060>", "192.0.2.9:2001"), udp("<sip:1001@10.0.0.5:5060>", "192.0.2.8:2001"));
}

#[test]
fn expires_0_at_boot_takes_the_old_binding_off() {
    let arrival =
        |port: u16| Source { aor: "", source: SocketAddr::from(([192, 168, 1, 10], port)), transport: Transport::Tls };
    let contact =
        |port: u16, more: &str| register(&format!("Contact: <sip:1001@192.168.1.10:{port};transport=tls>{more}\r\n"));
    let (before, _) = up_as(&contact(50_001, ";expires=3600"), Mode::Rewrite, &arrival(50_001)).expect("good");
    let (boot, _) = up_as(&contact(50_007, ";expires=0"), Mode::Rewrite, &arrival(50_007)).expect("good");
    assert_eq!(boot.bound[0].id, before.bound[0].id);
    assert_eq!(boot.bound[0].expires, Some(0));
}

#[test]
fn regescrt_of_rfc_4475_keeps_its_uri_headers_for_the_registrar_but_not_for_a_request_uri() {
    let (upward, _) = go_up(&register("Contact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\r\n"));
    let own = &*upward.bound[0].contact;
    assert_eq!(own, b"sip:user@example.com?Route=%3Csip:sip.example.com%3E");
    assert_eq!(without_headers(own), b"sip:user@example.com");
    assert_eq!(without_headers(b"sip:user@example.com;x"), b"sip:user@example.com;x");
    assert_eq!(without_headers(b"nonsense"), b"nonsense");
}

#[test]
fn an_address_of_record_is_user_and_host() {
    let of = |to: &str| {
        let text = format!("REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nTo: {to}\r\n\r\n");
        aor(&message(text)).map(String::from)
    };
    assert_eq!(of("<sip:1001@PBX.Example.com>").as_deref(), Some("1001@pbx.example.com"));
    assert_eq!(
        of("\"A, B\" <sips:1001:secret@pbx.example.com:5061;user=phone>;tag=1").as_deref(),
        Some("1001@pbx.example.com")
    );
    assert_eq!(of("sip:Al%69ce@pbx.example.com").as_deref(), Some("Al%69ce@pbx.example.com"));
    assert_eq!(of("<sip:pbx.example.com>").as_deref(), Some("pbx.example.com"));
    assert_eq!(of("<tel:+4930123;phone-context=x>").as_deref(), Some("+4930123"));
    assert_eq!(of("<mailto:a@b>"), None);
    assert_eq!(of("\"unclosed"), None);
    assert_eq!(of(&format!("<sip:{}@h>", "1".repeat(600))), None);
}
